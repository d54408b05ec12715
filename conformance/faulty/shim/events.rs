//! Waiting for several things at once: descriptors, and calls of other threads.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// A bell that any thread can ring and that stays rung until it is silenced.
pub struct Bell(EventFd);

impl Bell {
    /// A silent bell.
    pub fn new() -> io::Result<Bell> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Bell(EventFd::from_value_and_flags(0, flags)?))
    }

    /// Rings it. A full counter means that it rings already.
    pub fn ring(&self) {
        let _ = self.0.write(1);
    }

    /// Silences it.
    pub fn silence(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The flags of a stream whose peer has closed or hung up. nix does not know POLLRDHUP.
pub const GONE: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR);

/// Waits for events on `wanted` and returns the flags that came, all empty at the deadline.
pub fn wait<const N: usize>(
    wanted: [(BorrowedFd<'_>, PollFlags); N],
    deadline: Option<Instant>,
) -> io::Result<[PollFlags; N]> {
    let mut set = wanted.map(|(descriptor, flags)| libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: flags.bits(),
        revents: 0,
    });
    loop {
        let timeout = deadline.map_or(-1, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the deadline has passed when nothing came.
            let milliseconds = (left + Duration::from_micros(999)).as_millis();
            i32::try_from(milliseconds).unwrap_or(i32::MAX)
        });
        // SAFETY: poll(2) reads and writes N entries of ours.
        let count = unsafe { libc::poll(set.as_mut_ptr(), N as libc::nfds_t, timeout) };
        match Errno::result(count) {
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(0) if deadline.is_some_and(|deadline| Instant::now() < deadline) => {}
            Ok(_) => return Ok(set.map(|entry| PollFlags::from_bits_retain(entry.revents))),
        }
    }
}

/// Locks, even after a panic of another holder.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
