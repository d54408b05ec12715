//! Processes that a server is responsible for: how they are started, and whether they live.

use std::time::Duration;

use crate::case::expect;
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::system::clock::Moment;
use crate::system::process::{self, ProcessHandle};
use crate::system::quiescence::wait_for_rest;
use crate::verdict::{CaseError, Verdict, violation};

/// How a new process of a tree stands to the one that forks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// A child in the same process group.
    Child,
    /// A child with a process group of its own.
    OwnGroup,
    /// A child with a session of its own.
    OwnSession,
    /// A daemon: a session of its own, and the parent has ended.
    Daemon,
}

impl Kin {
    /// All of them.
    pub const ALL: [Kin; 4] = [Kin::Child, Kin::OwnGroup, Kin::OwnSession, Kin::Daemon];
}

/// Lets `parent` fork; returns the new process, which obeys too.
pub fn fork(parent: &mut Probe, program: &ConnectedProgram, kin: Kin) -> Result<Probe, CaseError> {
    parent.must(&Order::Fork {
        new_session: matches!(kin, Kin::OwnSession | Kin::Daemon),
        new_group: kin == Kin::OwnGroup,
        orphan: kin == Kin::Daemon,
    })?;
    program.accept("the forked process")
}

/// Demands that each of these processes ends; `what` names them.
pub fn expect_all_end<'a>(
    handles: impl IntoIterator<Item = &'a ProcessHandle>,
    what: &str,
    patience: Duration,
) -> Verdict {
    let deadline = Moment::now() + patience;
    for handle in handles {
        handle.expect_end(what, deadline.left())?;
    }
    Ok(())
}

/// Demands of every start of `program` that has not been accepted yet that it ends; `what` names it.
pub fn expect_none_lives(program: &ConnectedProgram, what: &str) -> Verdict {
    wait_for_rest();
    loop {
        match program.accept_within(Duration::ZERO) {
            Ok(None) => return Ok(()),
            Ok(Some(mut probe)) => probe.expect_gone(what)?,
            // It ended before it could say what it was started with.
            Err(CaseError::Violation { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Demands that the process lives.
pub fn expect_alive(handle: &ProcessHandle, what: &str) -> Verdict {
    expect::that(
        !handle.ended_within(Duration::ZERO)?,
        format_args!("{what} (process {}) is left alone and lives", handle.pid),
        "it has ended",
    )
}

/// Demands that no descendant of `root` stays a zombie.
pub fn expect_no_zombies(root: i32, patience: Duration) -> Verdict {
    let mut zombies = Vec::new();
    let reaped = process::eventually(patience, || {
        zombies = process::descendants(root)
            .into_iter()
            .filter(|process| process.state == 'Z')
            .collect();
        zombies.is_empty()
    });
    if reaped {
        return Ok(());
    }
    Err(violation(
        "the server reaps its children",
        format_args!("zombies after {patience:?}: {zombies:?}"),
    ))
}
