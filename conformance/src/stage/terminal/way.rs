//! The ways in which a terminal of a host goes.

use serde_json::{Value, json};

use crate::peer::harness::{Opening, Shim};
use crate::verdict::Verdict;

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

    /// Lets these terminals go this way, each by id and session; their teardown may go on afterwards.
    pub fn take(self, shim: &mut Shim, terminals: &[(Value, String)]) -> Verdict {
        let mut each = terminals.iter();
        match self {
            Way::Closed => each.try_for_each(|(terminal, _)| shim.close_terminal(terminal)),
            Way::Cancelled => each.try_for_each(|(_, session)| shim.cancel_session(session)),
            Way::Pruned => make_others(shim),
            Way::HostShutDown => shim.shutdown(),
            Way::HostKilled => Ok(shim.process.signal(libc::SIGKILL)?),
        }
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

/// Opens as many terminals as a host has room for, and closes them.
fn make_others(shim: &mut Shim) -> Verdict {
    const ROOM: usize = 64;
    let mut others = Vec::new();
    for number in 0..ROOM {
        let opening = Opening::new(&format!("another one {number}"), &["/bin/cat"], "/");
        others.push(shim.open_terminal(&opening)?.id);
    }
    others.iter().try_for_each(|other| shim.close_terminal(other))
}
