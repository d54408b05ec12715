//! Moments in the future.

use std::time::Duration;

use super::arch::{Result, syscall};

/// A moment on the clock that counts from the system's start. What waits for several events at most until then must ask
/// whether it is over: the events may come faster than they are waited for, and no single wait takes any time then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Duration);

impl Deadline {
    /// The moment after that time.
    pub(crate) fn after(time: Duration) -> Self {
        Self(now().unwrap_or_default().saturating_add(time))
    }

    /// What is left until then. Without a clock it is over.
    pub(super) fn left(self) -> Duration {
        now().map_or(Duration::ZERO, |now| self.0.saturating_sub(now))
    }

    /// Whether it has passed.
    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }
}

/// clock_gettime(2) of CLOCK_MONOTONIC.
fn now() -> Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let address = (&raw mut time) as usize;
    // SAFETY: the kernel writes one timespec.
    unsafe { syscall(libc::SYS_clock_gettime, [libc::CLOCK_MONOTONIC as usize, address]) }?;
    let (seconds, nanoseconds) = (time.tv_sec.cast_unsigned(), time.tv_nsec as u32);
    Ok(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanoseconds.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_over_when_its_time_has_passed() {
        let (past, future) = (
            Deadline::after(Duration::ZERO),
            Deadline::after(Duration::from_secs(60)),
        );
        assert!(past.is_over() && !future.is_over());
        let left = future.left();
        assert!(
            Duration::from_secs(50) < left && left <= Duration::from_secs(60),
            "{left:?}"
        );
    }
}
