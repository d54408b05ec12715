//! A child that executes a program by its name, under its keeper's eyes: it goes on only if that was the program that was decided
//! on. The name may lead elsewhere at the moment of the execve.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::stat;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::faults::{Fault, broken};
use crate::parcel::Parcel;
use crate::program::identity_of;

/// Whether a child is to be started like this: not a script, since the kernel executes its interpreter, nor a setuid program,
/// which would get no rights.
pub fn suits(parcel: &Parcel) -> bool {
    if parcel.identities.len() != 2
        || broken(Fault::ExecutedByDescriptor)
        || broken(Fault::ComparedThenByName)
        || parcel.doomed.is_some()
    {
        return false;
    }
    let name = Path::new(std::ffi::OsStr::from_bytes(&parcel.directory))
        .join(std::ffi::OsStr::from_bytes(&parcel.file));
    let Ok(mut file) = std::fs::File::open(name) else {
        return false;
    };
    let mut magic = [0; 4];
    let changes_user = file.metadata().is_ok_and(|found| found.mode() & 0o6000 != 0);
    !changes_user && file.read_exact(&mut magic).is_ok() && magic == *b"\x7fELF"
}

/// In the child: the next execve stops it.
pub fn begin() -> nix::Result<()> {
    ptrace::traceme()
}

/// In the keeper: lets the child go on if it executes what was decided on, else ends it.
pub fn ends_well(child: Pid, parcel: &Parcel) -> bool {
    let mut held_back = Vec::new();
    loop {
        match next_stop(child) {
            // It is reaped like any other.
            None => return true,
            Some(libc::SIGTRAP) => break,
            Some(signal) => {
                let _ = waitpid(child, None);
                held_back.push(signal);
                let _ = ptrace::cont(child, None);
            }
        }
    }
    let _ = waitpid(child, None);
    let executed = stat(format!("/proc/{child}/exe").as_str());
    if executed.is_ok_and(|found| identity_of(&found) == parcel.identities[1]) {
        let _ = ptrace::detach(child, None);
        for signal in held_back {
            // SAFETY: kill(2) takes integers; the child isn't reaped.
            unsafe { libc::kill(child.as_raw(), signal) };
        }
        return true;
    }
    let _ = kill(child, Signal::SIGKILL);
    let _ = waitpid(child, None);
    false
}

/// The signal of a traced child's next stop, which stays to be waited for; none if it has ended.
fn next_stop(child: Pid) -> Option<i32> {
    // SAFETY: waitid(2) writes into a local structure; its members are read as WEXITED fills them in.
    unsafe {
        let mut found: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOWAIT;
        while libc::waitid(libc::P_PID, child.as_raw() as u32, &raw mut found, options) != 0 {
            if nix::errno::Errno::last() != nix::errno::Errno::EINTR {
                return None;
            }
        }
        (found.si_code == libc::CLD_TRAPPED).then(|| found.si_status() & 0xff)
    }
}
