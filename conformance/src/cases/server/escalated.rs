//! What cases about escalated children begin with: a shim, a session, and requests that are escalated.

use std::fs::File;
use std::time::Duration;

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::peer::fake_wrapper::{AsFdObject, EscalationSocket, RequestMessage, Requester};
use crate::peer::harness::{Answer, ProbeSession, Shim};
use crate::peer::program::{ConnectedProgram, Probe, Program};
use crate::probe::plan::Act;
use crate::probe::remote::Order;
use crate::system::launch::Launch;
use crate::system::process::{self, ProcessHandle};
use crate::verdict::{CaseError, Verdict, violation};

/// The status with which the sentinel of a stage exits.
const SENTINEL_STATUS: i64 = 77;

/// Descriptors of a request: the number in the child, and what it is.
pub type Placements<'a> = [(i64, &'a dyn AsFdObject)];

/// A shim with one session, whose policy escalates everything until it is told otherwise.
pub struct Stage {
    /// The shim.
    pub shim: Shim,
    /// The session.
    pub session: ProbeSession,
    /// The working directory of requests.
    pub directory: String,
    /// A program that proves that the server serves.
    sentinel: Program,
    patience: Duration,
}

impl Stage {
    /// A stage on an ordinary shim.
    pub fn new(context: &Context) -> Result<Stage, CaseError> {
        Stage::on(context, |launch| launch)
    }

    /// A stage on a shim that is started in another way: variables, limits, signal state.
    pub fn on(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Result<Stage, CaseError> {
        let mut shim = Shim::start_with(context, change)?;
        shim.decide_by(|_| Answer::Escalate);
        let number = context.next_number();
        let session = shim.probe_session(context, &format!("main-{number}"))?;
        Ok(Stage {
            shim,
            session,
            directory: context.work_directory().to_string_lossy().into_owned(),
            sentinel: Program::new(
                context,
                &format!("sentinel-{number}"),
                [Act::Exit(i32::try_from(SENTINEL_STATUS).unwrap_or_default())],
            )?,
            patience: context.patience(),
        })
    }

    /// A request for the program at `file`, with that path as its only argument and an empty environment.
    pub fn request_for(&self, file: &str) -> RequestMessage {
        RequestMessage::new(file, &[file], &self.directory)
    }

    /// Sends a request and waits for Escalate.
    pub fn ask(&mut self, request: &RequestMessage) -> Result<Requester, CaseError> {
        let mut requester = self.session.socket.open()?;
        requester.request(request)?;
        requester.expect_action(&json!("Escalate"))?;
        Ok(requester)
    }

    /// Lets a request be escalated with these descriptors.
    pub fn escalate_request(
        &mut self,
        request: &RequestMessage,
        placements: &Placements<'_>,
    ) -> Result<Requester, CaseError> {
        let mut requester = self.ask(request)?;
        requester.send_descriptors(placements)?;
        Ok(requester)
    }

    /// Lets `program` be escalated and waits for its start.
    pub fn escalate(
        &mut self,
        program: &ConnectedProgram,
        placements: &Placements<'_>,
    ) -> Result<Escalated, CaseError> {
        self.escalate_with(program, placements, &[])
    }

    /// The same with more members in the descriptor message, such as `signals`.
    pub fn escalate_with(
        &mut self,
        program: &ConnectedProgram,
        placements: &Placements<'_>,
        members: &[(&str, Value)],
    ) -> Result<Escalated, CaseError> {
        let mut requester = self.ask(&self.request_for(program.text()))?;
        requester.send_descriptors_with(placements, members)?;
        let child = program.accept("the escalated child")?;
        Ok(Escalated { requester, child })
    }

    /// Runs `request` to its result.
    pub fn result_of(
        &mut self,
        request: &RequestMessage,
        placements: &Placements<'_>,
    ) -> Result<Value, CaseError> {
        self.escalate_request(request, placements)?.result()
    }

    /// A whole escalation: when it is over, the moment has passed in which an earlier event could still be
    /// without an effect.
    pub fn sentinel(&mut self) -> Verdict {
        let request = self.request_for(self.sentinel.text());
        self.escalate_request(&request, &[])?
            .expect_exit_code(SENTINEL_STATUS)
    }

    /// Closes the session.
    pub fn close_session(&mut self) -> Verdict {
        self.shim.close_session(&self.session.name)
    }

    /// Demands that no descendant of the server stays a zombie.
    pub fn expect_no_zombies(&self) -> Verdict {
        expect_no_zombies(self.shim.process.pid.as_raw(), self.patience)
    }

    /// Shuts the shim down.
    pub fn finish(mut self) -> Verdict {
        self.shim.shutdown()
    }
}

/// A session whose shell is a probe with this base environment.
pub fn probe_session_with(
    context: &Context,
    shim: &mut Shim,
    session: &str,
    environment: &Value,
) -> Result<ProbeSession, CaseError> {
    let shell = ConnectedProgram::new(context, &format!("shell-{session}"))?;
    let overlay = shim.start_session(session, shell.text(), "/nonexistent/wrapper")?;
    let params = json!({
        "session": session, "argv": [shell.text()], "cwd": context.work_directory(), "env": environment,
    });
    let result = shim.call("session/spawn", params)?;
    let mut probe = shell.accept("the spawned shell")?;
    let socket = probe.take_descriptor(overlay.socket_number()?)?;
    Ok(ProbeSession {
        name: session.to_owned(),
        overlay,
        pid: result["pid"]
            .as_i64()
            .ok_or_else(|| violation("a pid, a number", &result))?,
        socket: EscalationSocket::new(socket, context.transcript.clone(), context.patience()),
        probe,
        shell,
    })
}

/// An escalated child that obeys, and the request that it belongs to.
pub struct Escalated {
    /// The wrapper's side.
    pub requester: Requester,
    /// The child.
    pub child: Probe,
}

impl Escalated {
    /// Lets the child exit and demands that status as the result.
    pub fn exit(mut self, status: i32) -> Verdict {
        self.child.send(&Order::Exit(status))?;
        self.requester.expect_exit_code(status.into())
    }
}

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

/// `/dev/null`, for descriptors that do not matter.
pub fn null() -> Result<File, CaseError> {
    Ok(File::options().read(true).write(true).open("/dev/null")?)
}

/// Demands that each of these processes ends; `what` names them.
pub fn expect_all_end<'a>(
    handles: impl IntoIterator<Item = &'a ProcessHandle>,
    what: &str,
    patience: Duration,
) -> Verdict {
    let deadline = std::time::Instant::now() + patience;
    for handle in handles {
        handle.expect_end(
            what,
            deadline.saturating_duration_since(std::time::Instant::now()),
        )?;
    }
    Ok(())
}

/// Demands of every start of `program` that has not been accepted yet that it ends; `what` names it.
pub fn expect_none_lives(program: &ConnectedProgram, what: &str) -> Verdict {
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
