//! Drives a server under test by the harness protocol: newline-delimited JSON-RPC 2.0 over a shim's pipes.

mod approvals;
mod line;
mod policy;
mod rpc;
mod session;
mod terminals;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

pub use self::approvals::{Approval, ApprovalAnswer};
pub use self::line::marked;
pub use self::policy::{Answer, Decision, Question};
pub use self::rpc::RpcError;
pub use self::session::{Overlay, ProbeSession};
pub use self::terminals::{LOOK, Opening, Reading};

use self::line::{lock, write_line};
use self::policy::{Policy, question};
use self::rpc::{Inbox, Shared, read_messages};
use crate::case::context::Context;
use crate::case::expect;
use crate::peer::counterpart::Counterpart;
use crate::peer::fake_wrapper::EscalationSocket;
use crate::peer::program::ConnectedProgram;
use crate::system::clock::Moment;
use crate::system::launch::{Launch, Launched, pipe};
use crate::system::process::Ended;
use crate::system::quiescence::wait_for_rest;
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict, harness, violation};

/// Version of the harness protocol.
pub const PROTOCOL: u64 = 1;

/// Bytes of a shim's standard error that are looked at.
const ERROR_TAIL_BYTES: u64 = 64 << 10;

/// A running shim.
pub struct Shim {
    /// The shim's process.
    pub process: Launched,
    counterpart: Arc<Counterpart>,
    /// What `initialize` gave.
    pub initialized: Value,
    writer: Option<Arc<Mutex<File>>>,
    shared: Arc<Shared>,
    policy: Arc<Mutex<Option<Policy>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    next_id: u64,
    transcript: Transcript,
    patience: Duration,
    error_log: PathBuf,
}

impl Shim {
    /// Starts the server under test and initializes it.
    pub fn start(context: &Context) -> Result<Shim, CaseError> {
        Shim::start_with(context, |launch| launch)
    }

    /// The same with a changed launch: limits, variables, descriptors.
    pub fn start_with(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Result<Shim, CaseError> {
        let words = context.server()?.to_vec();
        let (error_file, error_log) = context.error_log("server")?;
        let launch = Launch::new(&words[0], context.directory())
            .arguments(&words)
            .variable("PATH", "/usr/bin:/bin")
            .variable("HOME", context.directory())
            .variable("TMPDIR", context.temporary_directory())
            .descriptor(2, error_file);
        let mut shim = Shim::over(
            change(launch),
            error_log,
            context.transcript.clone(),
            context.patience(),
        )?;
        let result = shim.call("initialize", initialize_params())?;
        expect::equal(
            "protocol of initialize",
            Some(PROTOCOL),
            result["protocol"].as_u64(),
        )?;
        shim.initialized = result;
        Ok(shim)
    }

    /// Starts a shim by `launch`, without `initialize`.
    pub fn over(
        launch: Launch,
        error_log: PathBuf,
        transcript: Transcript,
        patience: Duration,
    ) -> Result<Shim, CaseError> {
        let (their_input, our_output) = pipe()?;
        let (our_input, their_output) = pipe()?;
        let process = launch
            .descriptor(0, their_input)
            .descriptor(1, their_output)
            .start()?;
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            arrived: Condvar::new(),
        });
        let writer = Arc::new(Mutex::new(our_output));
        let policy: Arc<Mutex<Option<Policy>>> = Arc::default();
        let reader = std::thread::spawn({
            let (shared, writer, policy, transcript) = (
                shared.clone(),
                Arc::downgrade(&writer),
                policy.clone(),
                transcript.clone(),
            );
            move || read_messages(our_input, &shared, &writer, &policy, &transcript)
        });
        Ok(Shim {
            counterpart: Arc::new(Counterpart::new("the shim", process.handle())?),
            process,
            initialized: Value::Null,
            writer: Some(writer),
            shared,
            policy,
            reader: Some(reader),
            next_id: 0,
            transcript,
            patience,
            error_log,
        })
    }

    /// Its process, for the streams that it serves.
    pub fn counterpart(&self) -> &Arc<Counterpart> {
        &self.counterpart
    }

    /// From now on decisions are answered by `policy`, at once; those already pending stay in the queue.
    pub fn decide_by(&self, policy: impl FnMut(&Question) -> Answer + Send + 'static) {
        *lock(&self.policy) = Some(Box::new(policy));
    }

    /// From now on decisions wait in the queue for [`Self::next_decision`].
    pub fn decide_by_hand(&self) {
        *lock(&self.policy) = None;
    }

    /// Whether decisions wait in the queue.
    pub fn is_decided_by_hand(&self) -> bool {
        lock(&self.policy).is_none()
    }

    /// Sends a request and returns its id, for [`Self::answer_to`].
    pub fn send(&mut self, method: &str, params: Value) -> Result<u64, CaseError> {
        self.next_id += 1;
        let message = json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params});
        let writer = self
            .writer
            .as_ref()
            .ok_or_else(|| harness("the shim's standard input has been closed"))?;
        if let Err(error) = write_line(writer, &self.transcript, &message) {
            // Where the shim broke the protocol, nothing is read from it any more, and it may have ended by that.
            let why = self.wait(self.patience, |_| None::<()>);
            return Err(violation(
                "the shim reads its standard input",
                format_args!(
                    "writing {method} failed: {error}; {}",
                    why.err().unwrap_or_default()
                ),
            ));
        }
        Ok(self.next_id)
    }

    /// Waits for the answer to a request.
    pub fn answer_to(&self, id: u64, method: &str) -> Result<Result<Value, RpcError>, CaseError> {
        self.answer_within(id, method, self.patience)
    }

    /// The same with another patience.
    pub fn answer_within(
        &self,
        id: u64,
        method: &str,
        patience: Duration,
    ) -> Result<Result<Value, RpcError>, CaseError> {
        self.wait(patience, |inbox| inbox.answers.remove(&id))
            .map_err(|seen| violation(format_args!("an answer to {method}"), seen + &self.shown_end()))
    }

    /// How the shim has ended, where its output is closed and it ends with that.
    fn shown_end(&self) -> String {
        let ended = if lock(&self.shared.inbox).ended {
            self.counterpart.ended()
        } else {
            None
        };
        ended.map_or(String::new(), |ended| format!("; the shim: {ended}"))
    }

    /// Calls a method that must succeed.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, CaseError> {
        let patience = self.patience;
        self.call_within(method, params, patience)
    }

    /// The same with another patience.
    pub fn call_within(
        &mut self,
        method: &str,
        params: Value,
        patience: Duration,
    ) -> Result<Value, CaseError> {
        let id = self.send(method, params)?;
        self.answer_within(id, method, patience)?.map_err(|error| {
            violation(
                format_args!("{method} succeeds"),
                format_args!("error {}: {}", error.code, error.message),
            )
        })
    }

    /// Starts a session; returns the overlay.
    pub fn start_session(&mut self, session: &str, shell: &str, wrapper: &str) -> Result<Overlay, CaseError> {
        let result = self.call(
            "session/start",
            json!({"session": session, "shell": shell, "wrapper": wrapper}),
        )?;
        let members = result["env"]
            .as_object()
            .ok_or_else(|| violation("an overlay, an object", &result))?;
        let variables = members
            .iter()
            .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| violation("an overlay of strings", &result))?;
        Ok(Overlay { variables })
    }

    /// Spawns a program in a session, with a base environment of PATH alone.
    pub fn spawn(&mut self, session: &str, arguments: &[&str], directory: &str) -> Result<i64, CaseError> {
        let result = self.call(
            "session/spawn",
            json!({"session": session, "argv": arguments, "cwd": directory, "env": {"PATH": "/usr/bin:/bin"}}),
        )?;
        result["pid"]
            .as_i64()
            .ok_or_else(|| violation("a pid, a number", &result))
    }

    /// A session whose shell is a probe that has handed its escalation socket to the case.
    pub fn probe_session(&mut self, context: &Context, session: &str) -> Result<ProbeSession, CaseError> {
        let shell = ConnectedProgram::new(context, &format!("shell-{session}"))?;
        let overlay = self.start_session(session, shell.text(), "/nonexistent/wrapper")?;
        let directory = context.work_directory();
        self.spawn(session, &[shell.text()], &directory.to_string_lossy())?;
        let mut probe = shell.accept("the spawned shell")?;
        let number = overlay.socket_number()?;
        let socket = probe.take_descriptor(number)?;
        Ok(ProbeSession {
            name: session.to_owned(),
            overlay,
            socket: EscalationSocket::new(socket, self.transcript.clone(), self.patience)
                .with(&self.counterpart),
            probe,
            _shell: shell,
        })
    }

    /// Closes a session; its teardown may go on after the answer.
    pub fn close_session(&mut self, session: &str) -> Verdict {
        self.call("session/close", json!({"session": session})).map(drop)
    }

    /// Cancels the parent token of a session.
    pub fn cancel_session(&mut self, session: &str) -> Verdict {
        self.call("session/cancel", json!({"session": session})).map(drop)
    }

    /// The next decision that is asked for.
    ///
    /// # Errors
    /// A violation where none comes.
    pub fn next_decision(&self) -> Result<Decision, CaseError> {
        self.decision_within(self.patience)?.ok_or_else(|| {
            violation(
                "the policy is asked",
                format_args!("no policy/decide within {:?}", self.patience),
            )
        })
    }

    /// The next decision that is asked for, or none within `patience`.
    pub fn decision_within(&self, patience: Duration) -> Result<Option<Decision>, CaseError> {
        let writer = self
            .writer
            .clone()
            .ok_or_else(|| harness("the shim's standard input has been closed"))?;
        match self.wait(patience, |inbox| inbox.decisions.pop_front()) {
            Ok(message) => Ok(Some(Decision {
                question: question(&message.params)?,
                id: message.id,
                writer,
                transcript: self.transcript.clone(),
            })),
            Err(seen) if seen.starts_with("nothing") => Ok(None),
            Err(seen) => Err(violation("the shim runs", seen)),
        }
    }

    /// Demands that no decision is waiting when all that the case has started is at rest.
    pub fn expect_no_decision(&self) -> Verdict {
        wait_for_rest();
        match self.decision_within(Duration::ZERO)? {
            None => Ok(()),
            Some(decision) => Err(violation("the policy is not asked", &decision.question.params)),
        }
    }

    /// Closes the shim's standard input, which means `shutdown`.
    pub fn close_input(&mut self) {
        self.writer = None;
    }

    /// Shuts the shim down and demands that it ends with status 0.
    pub fn shutdown(&mut self) -> Verdict {
        self.call("shutdown", json!({}))?;
        let ended = self.process.wait("the shim after shutdown", self.patience)?;
        expect::equal("the shim's end after shutdown", Ended::Exited(0), ended)?;
        if let Some(reader) = self.reader.take() {
            reader
                .join()
                .map_err(|_| harness("the thread that reads from the shim panicked"))?;
        }
        Ok(())
    }

    /// The end of what the shim wrote to standard error so far.
    pub fn error_text(&self) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.error_log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(ERROR_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(ERROR_TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }

    fn wait<T>(
        &self,
        patience: Duration,
        mut take: impl FnMut(&mut Inbox) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Moment::now() + patience;
        let mut inbox = lock(&self.shared.inbox);
        loop {
            if let Some(found) = take(&mut inbox) {
                return Ok(found);
            }
            if let Some(broken) = &inbox.broken {
                return Err(broken.clone());
            }
            if inbox.ended {
                return Err("the shim closed its standard output".to_owned());
            }
            if deadline.is_over() {
                return Err(format!("nothing within {patience:?}"));
            }
            inbox = self
                .shared
                .arrived
                .wait_timeout(inbox, deadline.next_wait())
                .map(|(inbox, _)| inbox)
                .unwrap_or_else(|poisoned| poisoned.into_inner().0);
        }
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // A case that ended early leaves a living shim: its process must end before its reader can.
        let _ = self.process.signal(libc::SIGKILL);
    }
}

/// The params of `initialize`.
pub fn initialize_params() -> Value {
    json!({
        "protocol": PROTOCOL,
        "suite": {"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")},
    })
}
