//! One-shots: a shim that is asked to `exec`, and the shell that it starts, a probe.

use std::time::Duration;

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::peer::fake_wrapper::{AsFdObject, EscalationSocket, RequestMessage, Requester};
use crate::peer::harness::{Answer, Shim};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::shown::shown;
use crate::stage::descriptors::{Placements, null};
use crate::stage::server::Escalated;
use crate::verdict::{CaseError, Verdict, violation};

/// A timeout that is to come: long enough for what a case does before, short enough to wait for.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(3);

/// A timeout that isn't to come.
pub const LONG_TIMEOUT_MS: u64 = 600_000;

/// A shim, and what cases about one-shots do with it.
pub struct OneShots {
    /// The shim.
    pub shim: Shim,
    /// The working directory of the shells.
    pub directory: String,
    /// How long one event may take.
    pub patience: Duration,
    /// A timeout that is to come, in milliseconds.
    pub short_timeout_ms: u64,
}

impl OneShots {
    /// A shim on which every question waits for the case.
    pub fn new(context: &Context) -> Result<OneShots, CaseError> {
        Ok(OneShots::around(context, Shim::start(context)?))
    }

    /// The same with this shim.
    pub fn around(context: &Context, shim: Shim) -> OneShots {
        OneShots {
            shim,
            directory: context.work_directory().to_string_lossy().into_owned(),
            patience: context.patience(),
            short_timeout_ms: u64::try_from(context.scaled(SHORT_TIMEOUT).as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Params of a one-shot of `command`, with PATH as its environment.
    pub fn params(&self, shell: &str, command: &str) -> Value {
        json!({
            "session": "one-shot", "shell": shell, "wrapper": "/opt/wrapper", "command": command,
            "workdir": self.directory, "env": {"PATH": "/usr/bin:/bin"}, "login": false,
        })
    }

    /// Runs a one-shot to its end.
    pub fn run(&mut self, params: Value) -> Result<Value, CaseError> {
        let id = self.shim.send("exec", params)?;
        self.result(id)
    }

    /// The result of a one-shot that was begun.
    pub fn result(&self, id: u64) -> Result<Value, CaseError> {
        self.result_within(id, self.patience)
    }

    /// The same with another patience.
    pub fn result_within(&self, id: u64, patience: Duration) -> Result<Value, CaseError> {
        self.shim
            .answer_within(id, "exec", patience)?
            .map_err(|error| violation("exec succeeds", shown(&error)))
    }

    /// Waits for the result of a one-shot whose short timeout is to come.
    pub fn timed_out(&self, id: u64) -> Result<Value, CaseError> {
        let result = self.result_within(id, Duration::from_millis(self.short_timeout_ms) + self.patience)?;
        expect::equal("timed_out", &json!(true), &result["timed_out"])?;
        Ok(result)
    }

    /// Begins a one-shot whose shell is a probe.
    pub fn begin(&mut self, context: &Context, timeout_ms: Option<u64>) -> Result<Begun, CaseError> {
        let program = ConnectedProgram::new(context, "shell")?;
        let mut params = self.params(program.text(), "command");
        if let Some(timeout_ms) = timeout_ms {
            params["timeout_ms"] = json!(timeout_ms);
        }
        let id = self.shim.send("exec", params)?;
        let mut shell = program.accept("the shell of the one-shot")?;
        let number = shell
            .report
            .variable("CODEX_ESCALATE_SOCKET")
            .and_then(|value| String::from_utf8(value).ok()?.parse().ok())
            .ok_or_else(|| violation("CODEX_ESCALATE_SOCKET, a number, in the shell", "none"))?;
        let socket = shell.take_descriptor(number)?;
        let socket = EscalationSocket::new(socket, context.transcript.clone(), context.patience())
            .with(self.shim.counterpart());
        Ok(Begun {
            id,
            program,
            shell,
            socket,
        })
    }
}

/// A one-shot that runs.
pub struct Begun {
    /// The id of the `exec` request.
    pub id: u64,
    /// The program that the shell is.
    pub program: ConnectedProgram,
    /// The shell.
    pub shell: Probe,
    /// Its escalation socket.
    pub socket: EscalationSocket,
}

impl Begun {
    /// Sends a request for `file`, takes its question, and answers it if there is an answer.
    pub fn ask(&mut self, shim: &Shim, file: &str, answer: Option<&Answer>) -> Result<Requester, CaseError> {
        let mut requester = self.socket.open()?;
        requester.request(&RequestMessage::new(file, &["requested"], "/"))?;
        let decision = shim.next_decision()?;
        expect::equal("session of the question", "one-shot", &*decision.question.session)?;
        if let Some(answer) = answer {
            decision.answer(answer)?;
        }
        Ok(requester)
    }

    /// Lets `program` be escalated with `output` as 1 and 2, and waits for its start.
    pub fn escalate(
        &mut self,
        shim: &Shim,
        program: &ConnectedProgram,
        output: &dyn AsFdObject,
    ) -> Result<Escalated, CaseError> {
        let null = null()?;
        self.escalate_with(shim, program, &[(0, &null), (1, output), (2, output)])
    }

    /// The same with these descriptors.
    pub fn escalate_with(
        &mut self,
        shim: &Shim,
        program: &ConnectedProgram,
        placements: &Placements<'_>,
    ) -> Result<Escalated, CaseError> {
        let mut requester = self.ask(shim, program.text(), Some(&Answer::Escalate))?;
        requester.expect_action(&json!("Escalate"))?;
        requester.send_descriptors(placements)?;
        let child = program.accept("the escalated child")?;
        Ok(Escalated { requester, child })
    }
}

/// Has a process ignore the signals that politely ask it to end.
pub fn ignoring_signals(probe: &mut Probe) -> Verdict {
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        probe.must(&Order::Ignore(signal))?;
    }
    Ok(())
}

/// Demands the result of a one-shot that was in time.
pub fn expect_result(result: &Value, exit_code: i64, stdout: &str, stderr: &str) -> Verdict {
    expect::equal("stdout", stdout, result["stdout"].as_str().unwrap_or_default())?;
    expect::equal("stderr", stderr, result["stderr"].as_str().unwrap_or_default())?;
    expect::equal("exit_code", &json!(exit_code), &result["exit_code"])?;
    expect::equal("timed_out", &json!(false), &result["timed_out"])
}
