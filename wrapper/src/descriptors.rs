//! The descriptors that an escalated command would have inherited.

use core::mem::MaybeUninit;

use rustix::fd::{BorrowedFd, RawFd};
use rustix::fs::{CWD, Mode, OFlags, RawDir};
use rustix::io::FdFlags;
use rustix::process::{Resource, getrlimit};

use crate::failure::{Detail, Failure};
use crate::sys;

/// How many descriptors one message may carry.
pub const MAX_DESCRIPTORS: usize = 16;

/// How many numbers are tried one by one when /proc can't list the descriptors: the kernel's default limit.
const LAST_PROBED: RawFd = 1 << 20;

/// The numbers of the descriptors that go to the server, ascending.
pub struct Inherited {
    numbers: [RawFd; MAX_DESCRIPTORS],
    count: usize,
    escalation: RawFd,
    /// Device and inode of the escalation socket, by which its duplicates are known.
    escalation_identity: Option<(u64, u64)>,
}

impl Inherited {
    /// Every open descriptor that isn't close-on-exec, except the escalation socket and its duplicates: with them a
    /// command outside the sandbox could speak for the shell.
    pub fn collect(escalation: RawFd) -> Result<Self, Failure> {
        let mut inherited = Self {
            numbers: [0; MAX_DESCRIPTORS],
            count: 0,
            escalation,
            escalation_identity: identity(escalation),
        };
        if !inherited.listed()? {
            inherited.probed()?;
        }
        inherited.numbers[..inherited.count.min(MAX_DESCRIPTORS)].sort_unstable();
        if inherited.count > MAX_DESCRIPTORS {
            return Err(Failure {
                what: "the command would inherit more descriptors than the 16 that can be handed to the server (close some of them)",
                detail: Detail::Number(inherited.count as i64),
            });
        }
        Ok(inherited)
    }

    /// The numbers, ascending.
    pub fn numbers(&self) -> &[RawFd] {
        &self.numbers[..self.count]
    }

    /// The descriptors in the order of their numbers; only the first `numbers().len()` of them count.
    pub fn borrowed(&self) -> [BorrowedFd<'static>; MAX_DESCRIPTORS] {
        // Places beyond the count hold number 0, which is borrowed like any other but not sent.
        self.numbers.map(sys::inherited)
    }

    /// Closes the wrapper's copies, so that the child alone decides when its files end (`wrapper.escalate.eof`). Standard
    /// error stays open for the wrapper's own messages.
    pub fn close_all_but_stderr(self) {
        for &number in self.numbers().iter().filter(|&&number| number != 2) {
            sys::close_inherited(number);
        }
    }

    /// Lists the descriptors from /proc; false if /proc isn't there.
    fn listed(&mut self) -> Result<bool, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(directory) = rustix::fs::openat(CWD, c"/proc/self/fd", flags, Mode::empty()) else {
            return Ok(false);
        };
        let mut space = [MaybeUninit::uninit(); 2048];
        let mut entries = RawDir::new(&directory, &mut space);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(Failure::system("cannot list the open descriptors"))?;
            // "." and ".." are not numbers.
            let name = entry.file_name().to_str().ok();
            if let Some(number) = name.and_then(|name| name.parse().ok()) {
                self.consider(number);
            }
        }
        Ok(true)
    }

    fn probed(&mut self) -> Result<(), Failure> {
        let limit = getrlimit(Resource::Nofile)
            .current
            .and_then(|limit| RawFd::try_from(limit).ok());
        for number in 0..limit.unwrap_or(LAST_PROBED).min(LAST_PROBED) {
            self.consider(number);
        }
        Ok(())
    }

    fn consider(&mut self, number: RawFd) {
        if number == self.escalation || !is_inheritable(number) {
            return;
        }
        if self.escalation_identity.is_some() && identity(number) == self.escalation_identity {
            return;
        }
        if let Some(place) = self.numbers.get_mut(self.count) {
            *place = number;
        }
        self.count += 1;
    }
}

/// Whether the descriptor is open and would survive an execve. Those that the wrapper opened itself would not.
fn is_inheritable(number: RawFd) -> bool {
    rustix::io::fcntl_getfd(sys::inherited(number)).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
}

fn identity(number: RawFd) -> Option<(u64, u64)> {
    let status = rustix::fs::fstat(sys::inherited(number)).ok()?;
    Some((status.st_dev, status.st_ino))
}
