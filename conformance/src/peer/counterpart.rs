//! The process at the other end of a stream, so that an end of file can be told together with the end of the process.

use std::time::Duration;

use crate::system::clock::Moment;
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
            readable_until(&self.process, Moment::now() + EXIT_TIME).ok()?;
        }
        self.process.ended().ok()?
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::system::launch::Launch;

    /// The end that is told at the end of file of a stream whose other end a shell with this script has as descriptor 9.
    fn told(script: &str) -> Option<Ended> {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        let process = Launch::new("/bin/sh", "/")
            .arguments(["sh", "-c", script])
            .descriptor(9, theirs)
            .start()
            .expect("a process");
        let counterpart = Counterpart::new("the shell", process.handle()).expect("a handle");
        assert_eq!(ours.read(&mut [0]).expect("an end of file"), 0);
        counterpart.ended()
    }

    #[test]
    fn the_end_that_closed_a_stream_is_there_as_soon_as_its_end_of_file() {
        for _ in 0..50 {
            assert_eq!(told("kill -SEGV $$"), Some(Ended::Killed(libc::SIGSEGV)));
            assert_eq!(told("exit 7"), Some(Ended::Exited(7)));
        }
    }

    #[test]
    fn a_process_that_only_closed_its_stream_has_not_ended() {
        assert_eq!(told("exec 9>&-; exec sleep 60"), None);
    }
}
