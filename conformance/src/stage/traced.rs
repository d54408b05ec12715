//! A process that its server can kill but not reap, since another process traces it: until that lets it go, it is there.

use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::peer::program::Probe;
use crate::system::process::ProcessHandle;
use crate::verdict::{CaseError, Verdict};

/// How long such a process may hold up the end of what it belongs to.
pub const HELD_UP: Duration = Duration::from_secs(10);

/// A process that this thread traces.
pub struct Traced {
    pid: Pid,
    handle: ProcessHandle,
}

impl Traced {
    /// Traces that process.
    pub fn new(probe: &Probe) -> Result<Traced, CaseError> {
        let pid = Pid::from_raw(probe.report.pid);
        let handle = probe.process()?;
        if let Err(errno) = ptrace::seize(pid, ptrace::Options::empty()) {
            return Err(CaseError::NotApplicable(format!(
                "a process of the tree cannot be traced: {}",
                errno.desc()
            )));
        }
        Ok(Traced { pid, handle })
    }

    /// Demands that it is ended, and lets its parent reap it.
    pub fn expect_end(self, patience: Duration) -> Verdict {
        self.handle.expect_end("the traced process", patience)?;
        waitpid(self.pid, None)?;
        Ok(())
    }
}
