//! The ways in which a terminal of a host goes.

use serde_json::{Value, json};

use crate::peer::harness::{Opening, Shim};
use crate::verdict::{CaseError, Verdict};

/// So many terminals a host has room for.
const ROOM: usize = 64;

/// How a terminal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is closed.
    Closed,
    /// Its parent token is cancelled.
    Cancelled,
    /// It gives way to others.
    Pruned,
    /// The host is shut down.
    HostShutDown,
    /// The host is killed by SIGKILL.
    HostKilled,
}

impl Way {
    /// Whether the host is there afterwards.
    pub fn host_lives(self) -> bool {
        !matches!(self, Way::HostShutDown | Way::HostKilled)
    }

    /// Does what takes its time before so many terminals can go this way. The next step takes them at once.
    ///
    /// # Errors
    /// Where the host opens no more terminals.
    pub fn begin(self, shim: &mut Shim, terminals: usize) -> Result<Begun, CaseError> {
        let mut others = Vec::new();
        if self == Way::Pruned {
            open_others(shim, &mut others, ROOM.saturating_sub(terminals))?;
        }
        Ok(Begun { way: self, others })
    }

    /// Lets these terminals go this way, each by id and session; their teardown may go on afterwards.
    ///
    /// # Errors
    /// Where the host refuses it.
    pub fn take(self, shim: &mut Shim, terminals: &[(Value, String)]) -> Verdict {
        self.begin(shim, terminals.len())?.take(shim, terminals)
    }

    /// Closes what is gone, where a host may still know it: whether it knows terminals that were cancelled is left open.
    pub fn let_go(self, shim: &mut Shim, terminals: &[(Value, String)]) -> Verdict {
        const METHOD: &str = "terminal/close";
        if self == Way::Cancelled {
            for (terminal, _) in terminals {
                let id = shim.send(METHOD, json!({"terminal": terminal}))?;
                let _ = shim.answer_to(id, METHOD)?;
            }
        }
        Ok(())
    }
}

/// A way on which nothing but the last step is left.
pub struct Begun {
    way: Way,
    others: Vec<Value>,
}

impl Begun {
    /// Lets these terminals go, each by id and session; their teardown may go on afterwards.
    ///
    /// # Errors
    /// Where the host refuses it.
    pub fn take(mut self, shim: &mut Shim, terminals: &[(Value, String)]) -> Verdict {
        let mut each = terminals.iter();
        match self.way {
            Way::Closed => each.try_for_each(|(terminal, _)| shim.close_terminal(terminal)),
            Way::Cancelled => each.try_for_each(|(_, session)| shim.cancel_session(session)),
            Way::Pruned => {
                open_others(shim, &mut self.others, ROOM)?;
                self.others
                    .iter()
                    .try_for_each(|other| shim.close_terminal(other))
            }
            Way::HostShutDown => shim.shutdown(),
            Way::HostKilled => Ok(shim.process.signal(libc::SIGKILL)?),
        }
    }
}

/// Opens terminals until there are so many.
fn open_others(shim: &mut Shim, others: &mut Vec<Value>, wanted: usize) -> Verdict {
    for number in others.len()..wanted {
        let opening = Opening::new(&format!("another one {number}"), &["/bin/cat"], "/");
        others.push(shim.open_terminal(&opening)?.id);
    }
    Ok(())
}
