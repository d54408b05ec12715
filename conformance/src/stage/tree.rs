//! An escalated tree that is hard to find and to end.

use std::time::Duration;

use crate::case::context::Context;
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::stage::processes::{Kin, expect_alive, expect_all_end, fork};
use crate::stage::server::Escalated;
use crate::stage::signals::stop;
use crate::system::process::ProcessHandle;
use crate::verdict::{CaseError, Verdict};

/// An escalated child with everything beneath it that is hard to find or to end.
pub struct Tree {
    /// The child and its request.
    pub escalated: Escalated,
    /// Its descendants, which end when they are dropped.
    pub descendants: Vec<Probe>,
    /// All of its processes.
    pub handles: Vec<ProcessHandle>,
}

/// Grows such a tree: each kin, children of them, some deaf to polite signals, one stopped.
pub fn grow(
    context: &Context,
    mut escalated: Escalated,
    program: &ConnectedProgram,
) -> Result<Tree, CaseError> {
    let mut descendants = Vec::new();
    for kin in Kin::ALL {
        let mut first = fork(&mut escalated.child, program, kin)?;
        let mut second = fork(&mut first, program, Kin::Daemon)?;
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            second.must(&Order::Ignore(signal))?;
        }
        let third = fork(&mut second, program, Kin::OwnGroup)?;
        descendants.extend([first, second, third]);
    }
    let stopped = fork(&mut escalated.child, program, Kin::OwnSession)?;
    stop(&stopped.process()?, context.patience())?;
    descendants.push(stopped);
    let handles = std::iter::once(&escalated.child)
        .chain(&descendants)
        .map(Probe::process)
        .collect::<Result<_, _>>()?;
    Ok(Tree {
        escalated,
        descendants,
        handles,
    })
}

impl Tree {
    /// Demands that each of its processes lives.
    pub fn expect_alive(&self) -> Verdict {
        self.handles
            .iter()
            .try_for_each(|handle| expect_alive(handle, "a process of the tree before its end"))
    }

    /// Demands that each of its processes ends.
    pub fn expect_end(&self, patience: Duration) -> Verdict {
        expect_all_end(&self.handles, "a process of the escalated tree", patience)
    }
}
