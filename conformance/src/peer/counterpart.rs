//! The process at the other end of a stream, so that an end of file can be told together with the end of the process.

use std::time::{Duration, Instant};

use crate::system::poll::readable_until;
use crate::system::process::{Ended, ProcessHandle};
use crate::system::stat::is_exiting;
use crate::verdict::CaseError;

/// How long a process that is exiting may take to be reapable: the kernel closes its descriptors first.
const EXIT_TIME: Duration = Duration::from_secs(5);

/// A process that the suite has started, and what it is called in reports.
pub struct Counterpart {
    /// "the wrapper", "the shim".
    pub what: &'static str,
    process: ProcessHandle,
}

impl Counterpart {
    /// The process of this handle.
    pub fn new(what: &'static str, process: &ProcessHandle) -> Result<Counterpart, CaseError> {
        Ok(Counterpart {
            what,
            process: process.try_clone()?,
        })
    }

    /// How it has ended, or ends at this moment; none where it lives on, or has been reaped.
    pub fn ended(&self) -> Option<Ended> {
        if is_exiting(self.process.pid.as_raw()) {
            readable_until(&self.process, Instant::now() + EXIT_TIME).ok()?;
        }
        self.process.ended().ok()?
    }
}
