//! Measures what a parser takes for an input.

use std::time::Duration;

use crate::allocations::peak_of;

/// How much a parser may take for an input of so many bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of memory at its peak.
    pub memory: fn(usize) -> usize,
    /// Time of the processor, in a build without optimisation.
    pub time: fn(usize) -> Duration,
}

impl Bounds {
    /// A tenth of a second and ten microseconds per byte.
    #[must_use]
    pub fn linear_time(length: usize) -> Duration {
        Duration::from_millis(100) + Duration::from_micros(10) * u32::try_from(length).unwrap_or(u32::MAX)
    }
}

/// Holds a parser to its bounds for one input.
#[derive(Debug)]
pub struct Probe {
    bounds: Bounds,
    length: usize,
    exceeded: Option<String>,
}

impl Probe {
    pub(crate) fn new(bounds: Bounds, length: usize) -> Self {
        Self {
            bounds,
            length,
            exceeded: None,
        }
    }

    /// Does what is to be measured.
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = processor_time();
        let (memory, output) = peak_of(work);
        let time = processor_time().saturating_sub(before);
        let (most, longest) = ((self.bounds.memory)(self.length), (self.bounds.time)(self.length));
        if memory > most {
            self.exceeded = Some(format!(
                "{memory} bytes of memory are needed for {} bytes, at most {most} were allowed",
                self.length
            ));
        } else if time > longest {
            self.exceeded = Some(format!(
                "{time:?} are needed for {} bytes, at most {longest:?} were allowed",
                self.length
            ));
        }
        output
    }

    pub(crate) fn verdict(self) -> Result<(), String> {
        self.exceeded.map_or(Ok(()), Err)
    }
}

/// The time that this thread has used: what other processes do does not count.
fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call only writes to `time`.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0, "every Linux has this clock");
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
