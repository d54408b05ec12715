//! Becomes an escalated child: descriptors, signals, directory, program. Runs in a process with one thread.

use std::ffi::{CString, OsStr};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{ForkResult, Pid, fork};

use crate::faults::{Fault, Variant, broken, unusual};
use crate::own_state;
use crate::parcel::{Kind, Parcel};
use crate::relay;
use crate::trial;

/// Starts the child; the descriptors are closed here afterwards.
pub fn start(parcel: &Parcel, descriptors: Vec<OwnedFd>) -> io::Result<Pid> {
    if !trial::suits(parcel) {
        return make(parcel, descriptors, false);
    }
    let copies = descriptors
        .iter()
        .map(OwnedFd::try_clone)
        .collect::<io::Result<_>>()?;
    let child = make(parcel, copies, true)?;
    if trial::ends_well(child, parcel) {
        return Ok(child);
    }
    // The name leads to another file by now. That which was decided on has only its descriptor.
    make(parcel, descriptors, false)
}

/// Forks the child.
fn make(parcel: &Parcel, descriptors: Vec<OwnedFd>, on_trial: bool) -> io::Result<Pid> {
    // SAFETY: a keeper has one thread, so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            // Here too: a signal for the group may come before the child has run.
            if !broken(Fault::GroupOfTheServer) && !broken(Fault::SessionOfItsOwn) {
                let group = parcel.group.map_or(child, Pid::from_raw);
                let _ = nix::unistd::setpgid(child, group);
            }
            if broken(Fault::KeeperKeepsDescriptors) {
                std::mem::forget(descriptors);
            }
            Ok(child)
        }
        ForkResult::Child => {
            let errno = become_the_program(parcel, descriptors, on_trial);
            refuse(parcel, errno)
        }
    }
}

/// Reports on the requester's standard error why the program cannot be started, and gives the status for it.
fn refuse(parcel: &Parcel, errno: Errno) -> ! {
    let status = match errno {
        Errno::ELOOP if broken(Fault::LinkLoopGivesTheOther) => 127,
        Errno::ENOENT | Errno::ENOTDIR if !broken(Fault::MissingGivesTheOther) => 127,
        _ if broken(Fault::ForbiddenGivesTheOther) => 127,
        _ => 126,
    };
    if broken(Fault::SpawnErrorOnStandardOutput) && parcel.numbers.contains(&1) {
        let name = String::from_utf8_lossy(&parcel.shown);
        let _ = writeln!(io::stdout(), "cannot execute {name}: {}", errno.desc());
    } else if parcel.numbers.contains(&2) && !broken(Fault::SpawnErrorSilent) {
        let name = String::from_utf8_lossy(&parcel.shown);
        // A failed write must not change the status, and a broken pipe must not kill.
        if !broken(Fault::BrokenStandardErrorKills) {
            // SAFETY: SIG_IGN is no handler.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        }
        let line = format!("cannot execute {name}: {}", errno.desc());
        let room = libc::pollfd {
            fd: 2,
            events: libc::POLLOUT,
            revents: 0,
        };
        if broken(Fault::SpawnErrorAfterPoll) {
            // SAFETY: poll(2) gets one entry.
            if unsafe { libc::poll(&mut { room }, 1, 0) } == 1 {
                let _ = writeln!(io::stderr(), "{line}");
            }
        } else if broken(Fault::SpawnErrorAwaitsReader) || broken(Fault::BrokenStandardErrorKills) {
            let _ = writeln!(io::stderr(), "{line}");
        } else {
            say_within_a_second(&line);
        }
    }
    // SAFETY: _exit(2) takes an integer.
    unsafe { libc::_exit(status) }
}

/// Writes a line to standard error, unless that takes longer because nobody reads.
fn say_within_a_second(line: &str) {
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            // SAFETY: signal(2), sigprocmask(2), alarm(2) and _exit(2) on integers and a local set.
            unsafe {
                libc::signal(libc::SIGALRM, libc::SIG_DFL);
                let mut none = std::mem::zeroed();
                libc::sigemptyset(&raw mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
                libc::alarm(1);
                let _ = writeln!(io::stderr(), "{line}");
                libc::_exit(0)
            }
        }
        Ok(ForkResult::Parent { child }) => {
            let _ = nix::sys::wait::waitpid(child, None);
        }
        Err(_) => {}
    }
}

/// Returns only on failure.
fn become_the_program(parcel: &Parcel, descriptors: Vec<OwnedFd>, on_trial: bool) -> Errno {
    match prepare(parcel, descriptors) {
        Err(errno) => errno,
        Ok(()) => execute(parcel, on_trial),
    }
}

fn prepare(parcel: &Parcel, mut descriptors: Vec<OwnedFd>) -> nix::Result<()> {
    if broken(Fault::OutputRelayedInPart) {
        relay::take_output(&mut descriptors, &parcel.numbers)?;
    }
    // Its own group, and nothing of the server's signals.
    // SAFETY: signal(2), sigprocmask(2) and setpgid(2) on integers and a local set.
    unsafe {
        if broken(Fault::SessionOfItsOwn) {
            libc::setsid();
        } else if !broken(Fault::GroupOfTheServer) {
            libc::setpgid(0, parcel.group.unwrap_or(0));
        }
        if parcel.kind == Kind::OnPseudoTerminal && !broken(Fault::TerminalInTheBackground) {
            // A process in the background may do so only while it ignores the signal that stops it.
            libc::signal(libc::SIGTTOU, libc::SIG_IGN);
            libc::tcsetpgrp(descriptors[0].as_raw_fd(), libc::getpid());
        }
        let highest = if broken(Fault::RealTimeLeftIgnored) {
            31
        } else {
            64
        };
        for signal in 1..=highest {
            libc::signal(signal, libc::SIG_DFL);
        }
        if broken(Fault::SigpipeIgnored) {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        if broken(Fault::RealTimeLeftBlocked) {
            let mut before = std::mem::zeroed();
            libc::sigprocmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut before);
            for signal in (libc::SIGRTMIN()..=64).filter(|n| libc::sigismember(&raw const before, *n) == 1) {
                libc::sigaddset(&raw mut none, signal);
            }
        }
        if broken(Fault::ChildEndsBlocked) {
            libc::sigaddset(&raw mut none, libc::SIGCHLD);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    place(descriptors, &parcel.numbers)?;
    own_state::leak();
    inherit(parcel);
    if let Some(umask) = parcel.umask.filter(|_| !broken(Fault::UmaskIgnored)) {
        // SAFETY: umask(2) takes an integer.
        unsafe { libc::umask(umask) };
    }
    if let Some(errno) = parcel.doomed {
        return Err(Errno::from_raw(errno));
    }
    nix::unistd::chdir(&*parcel.directory)?;
    if let [directory, _] = parcel.identities[..] {
        let found = std::fs::metadata(".").map_err(errno_of)?;
        if (found.dev(), found.ino()) != directory {
            return Err(Errno::ESTALE);
        }
    }
    Ok(())
}

/// Takes the wrapper's ignored signals and niceness, unless this process is nicer.
fn inherit(parcel: &Parcel) {
    for &signal in parcel
        .ignored
        .iter()
        .filter(|_| !broken(Fault::IgnoredSignalsReset))
    {
        // SAFETY: SIG_IGN runs no code; two signals can't be ignored, which is no error of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: getpriority and setpriority take integers.
    unsafe {
        let own = libc::getpriority(libc::PRIO_PROCESS, 0);
        let nice = parcel
            .nice
            .filter(|nice| *nice > own || broken(Fault::NicenessLowered))
            .filter(|nice| *nice >= 0 || !broken(Fault::NicenessBelow0Ignored));
        if let Some(nice) = nice.filter(|_| !broken(Fault::NicenessIgnored)) {
            libc::setpriority(libc::PRIO_PROCESS, 0, nice);
        }
    }
}

/// Takes the wrapper's limits, as far as they are not above this process's. Afterwards few descriptors may be left.
fn be_limited(parcel: &Parcel) -> nix::Result<()> {
    const USUAL: [u32; 4] = [
        libc::RLIMIT_CPU,
        libc::RLIMIT_CORE,
        libc::RLIMIT_NOFILE,
        libc::RLIMIT_MSGQUEUE,
    ];
    for &(resource, soft, hard) in parcel.limits.iter().filter(|_| !broken(Fault::LimitsIgnored)) {
        if broken(Fault::OnlyUsualLimitsSet) && !USUAL.contains(&resource) {
            continue;
        }
        // SAFETY: getrlimit and setrlimit with a local limit.
        unsafe {
            let mut own: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(resource, &raw mut own);
            let most = if broken(Fault::LimitsRaised) {
                libc::RLIM_INFINITY
            } else {
                own.rlim_max
            };
            let grace = resource == libc::RLIMIT_CPU && broken(Fault::ProcessorTimeWithGrace);
            let hard = if grace { hard.saturating_add(5) } else { hard }.min(most);
            let limit = libc::rlimit {
                rlim_cur: soft.min(hard),
                rlim_max: hard,
            };
            Errno::result(libc::setrlimit(resource, &raw const limit))?;
        }
    }
    Ok(())
}

/// Gives each descriptor its number, in two phases, and lets nothing else cross the execve.
fn place(descriptors: Vec<OwnedFd>, numbers: &[i32]) -> nix::Result<()> {
    let sources: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    if broken(Fault::OneAfterTheOther) {
        return place_one_after_the_other(descriptors, numbers);
    }
    let mut parked = Vec::new();
    for descriptor in descriptors {
        parked.push(park(descriptor.as_raw_fd(), numbers)?);
        drop(descriptor);
    }
    // Standard streams that are not mapped are closed; all else that is open goes with the execve.
    let mut wanted = numbers.to_vec();
    wanted.sort_unstable();
    let mut start = 0;
    for number in wanted.iter().copied().chain([-1]) {
        let end = if number < 0 {
            u32::MAX
        } else {
            (number as u32).wrapping_sub(1)
        };
        if number != start as i32 {
            // SAFETY: close_range(2) takes integers; what it marks is closed by execve.
            unsafe { libc::syscall(libc::SYS_close_range, start, end, libc::CLOSE_RANGE_CLOEXEC) };
        }
        start = (number + 1) as u32;
    }
    if broken(Fault::CopiesInherited)
        && let Some(first) = parked.first()
    {
        // SAFETY: fcntl(2) takes integers.
        unsafe { libc::fcntl(*first, libc::F_DUPFD, 200) };
    }
    if broken(Fault::NullInherited) {
        // SAFETY: open(2) reads a C string.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) };
    }
    for (source, number) in parked.into_iter().zip(numbers) {
        if broken(Fault::HighNumbersLeftOut) && *number > 200 {
            continue;
        }
        // SAFETY: dup2(2) takes integers; the number may be replaced, as the process only goes on to execve.
        Errno::result(unsafe { libc::dup2(source, *number) })?;
        if broken(Fault::SameNumberClosesOnExec) && sources.contains(number) {
            // SAFETY: fcntl(2) takes integers.
            unsafe { libc::fcntl(*number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// In one phase, which overwrites a number before it has been copied to a later one.
fn place_one_after_the_other(descriptors: Vec<OwnedFd>, numbers: &[i32]) -> nix::Result<()> {
    for (descriptor, number) in descriptors.iter().zip(numbers) {
        // SAFETY: dup2(2) and fcntl(2) take integers.
        Errno::result(unsafe { libc::dup2(descriptor.as_raw_fd(), *number) })?;
        // SAFETY: as above.
        unsafe { libc::fcntl(*number, libc::F_SETFD, 0) };
    }
    for descriptor in descriptors {
        let number = std::os::fd::IntoRawFd::into_raw_fd(descriptor);
        if !numbers.contains(&number) {
            // SAFETY: the number was ours.
            unsafe { libc::close(number) };
        }
    }
    Ok(())
}

/// A copy at a number that is not wanted.
fn park(descriptor: RawFd, numbers: &[i32]) -> nix::Result<RawFd> {
    let mut from = 3;
    loop {
        // SAFETY: fcntl(2) takes integers.
        let copy = Errno::result(unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, from) })?;
        if !numbers.contains(&copy) {
            return Ok(copy);
        }
        // It stays open so that its number is not reused; dup2 replaces it.
        from = copy + 1;
    }
}

fn errno_of(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// The file that was decided on, opened again; none if no file was looked at.
fn found(parcel: &Parcel) -> nix::Result<Option<OwnedFd>> {
    let [_, identity] = parcel.identities[..] else {
        return Ok(None);
    };
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
    let path = Path::new(std::ffi::OsStr::from_bytes(&parcel.file));
    let opened = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())?;
    // Above the numbers that programs use, since a script keeps it.
    let number = nix::fcntl::fcntl(&opened, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(100))?;
    // SAFETY: the number is new and has no other owner.
    let opened = unsafe { OwnedFd::from_raw_fd(number) };
    let stat = nix::sys::stat::fstat(&opened)?;
    if broken(Fault::ScriptsNotCompared) && std::fs::read(path).is_ok_and(|text| text.starts_with(b"#!")) {
        return Ok(None);
    }
    if crate::program::identity_of(&stat) == identity {
        if broken(Fault::ComparedThenByName) {
            // The name may lead to another file by now.
            std::thread::sleep(std::time::Duration::from_millis(1));
            return Ok(None);
        }
        Ok(Some(opened))
    } else {
        Err(Errno::ESTALE)
    }
}

/// The name without symbolic links.
fn resolved(parcel: &Parcel) -> CString {
    let path = std::fs::canonicalize(std::ffi::OsStr::from_bytes(&parcel.file)).unwrap_or_default();
    CString::new(path.into_os_string().into_encoded_bytes()).unwrap_or_default()
}

fn execute_named(file: &CString, arguments: &[CString], environment: &[CString]) -> Errno {
    let Err(errno) = nix::unistd::execve(file, arguments, environment);
    errno
}

/// ELF, or a NUL in the first line.
fn is_binary(parcel: &Parcel) -> bool {
    let content = std::fs::read(std::ffi::OsStr::from_bytes(&parcel.file)).unwrap_or_default();
    let mut first_line = content
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default()
        .iter();
    let has_nul = first_line.any(|&byte| byte == 0);
    content.starts_with(b"\x7fELF") || (has_nul && !broken(Fault::OnlyElfIsBinary))
}

/// By its descriptor, which a script's interpreter inherits: the name may lead to another file by then.
fn execute_opened(opened: &OwnedFd, file: &CString, arguments: &[CString], environment: &[CString]) -> Errno {
    let flags = nix::fcntl::AtFlags::AT_EMPTY_PATH;
    let Err(errno) = nix::unistd::execveat(opened, c"", arguments, environment, flags);
    if errno != Errno::ENOENT {
        return errno;
    }
    // That is a script, whose descriptor would be closed before the interpreter opens it.
    if broken(Fault::ScriptsByName) {
        return execute_named(file, arguments, environment);
    }
    execute_named(&inherited_name(opened), arguments, environment)
}

/// The name of a descriptor for the process that this one becomes, which gets it.
fn inherited_name(opened: &OwnedFd) -> CString {
    let number = opened.as_raw_fd();
    // SAFETY: fcntl(2) takes integers.
    unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
    let folder = if unusual(Variant::ScriptsBelowProc) {
        "/proc/self/fd"
    } else {
        "/dev/fd"
    };
    CString::new(format!("{folder}/{number}")).unwrap_or_default()
}

/// Executes as execvp(3) does: a script without `#!` by the shell. Returns only on failure.
fn execute(parcel: &Parcel, on_trial: bool) -> Errno {
    let strings = |list: &[Vec<u8>]| -> Vec<CString> {
        list.iter()
            .map(|item| CString::new(item.as_slice()).unwrap_or_default())
            .collect()
    };
    let file = CString::new(parcel.file.as_slice()).unwrap_or_default();
    let arguments = strings(&parcel.arguments);
    let environment = strings(&parcel.environment);
    // The file must be the one that was decided on: it is executed by the descriptor that was looked at.
    let opened = match found(parcel) {
        Err(errno) => return errno,
        Ok(opened) => opened,
    };
    if let Err(errno) = be_limited(parcel) {
        return errno;
    }
    let named = if broken(Fault::ExecutedByItsResolvedName) {
        resolved(parcel)
    } else {
        file.clone()
    };
    if on_trial && trial::begin().is_ok() {
        // What follows a failure is on trial as well.
        execute_named(&named, &arguments, &environment);
    }
    let errno = match &opened {
        None => execute_named(&file, &arguments, &environment),
        Some(opened) => execute_opened(opened, &file, &arguments, &environment),
    };
    if errno != Errno::ENOEXEC || broken(Fault::BareScriptsRefused) {
        return errno;
    }
    let is_empty = std::fs::metadata(OsStr::from_bytes(&parcel.file)).is_ok_and(|file| file.len() == 0);
    if is_empty && broken(Fault::EmptyScriptsRefused) {
        return errno;
    }
    if is_binary(parcel) && !broken(Fault::BinariesByShell) {
        return errno;
    }
    if broken(Fault::UmaskLostByBareScripts) {
        // SAFETY: umask(2) takes an integer.
        unsafe { libc::umask(0o022) };
    }
    let mut words = vec![c"/bin/sh".to_owned()];
    let like_an_option = matches!(parcel.file.first(), Some(b'-' | b'+'));
    if like_an_option && !broken(Fault::NameTakenForAnOption) {
        words.push(c"--".to_owned());
    }
    words.push(match &opened {
        Some(opened) if !broken(Fault::ScriptsByName) && !broken(Fault::NameTakenForAnOption) => {
            inherited_name(opened)
        }
        _ => file,
    });
    words.extend(arguments.into_iter().skip(1));
    let Err(errno) = nix::unistd::execve(c"/bin/sh", &words, &environment);
    errno
}
