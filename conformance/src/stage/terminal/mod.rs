//! A host of terminals: a shim, and terminals whose process is a probe.

pub mod scene;
mod way;
mod whole;

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::peer::fake_wrapper::{EscalationSocket, RequestMessage, Requester};
use crate::peer::harness::{Answer, Decision, LOOK, Opening, Shim};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::shown::shown;
use crate::stage::descriptors::{Placements, null};
use crate::stage::server::Escalated;
use crate::system::clock::Moment;
use crate::verdict::{CaseError, Verdict, violation};

pub use way::Way;
pub use whole::{Whole, numbered};

/// The wrapper that terminals are configured with.
pub const WRAPPER: &str = "/opt/wrapper";

/// More output, in bytes, than hosts have to keep for a reader.
pub const MORE_THAN_IS_KEPT: usize = 3 << 19;

/// What a terminal is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Pipes.
    Pipes,
    /// A pseudo-terminal.
    Tty,
}

impl On {
    /// Both.
    pub const BOTH: [On; 2] = [On::Pipes, On::Tty];

    /// The opening, on this.
    pub fn apply(self, opening: Opening) -> Opening {
        match self {
            On::Pipes => opening,
            On::Tty => opening.on_tty(24, 80),
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            On::Pipes => "a terminal on pipes",
            On::Tty => "a terminal on a pseudo-terminal",
        })
    }
}

/// Does the same for both kinds of terminals.
pub fn on_both(mut check: impl FnMut(On) -> Verdict) -> Verdict {
    On::BOTH
        .into_iter()
        .try_for_each(|on| expect::with_input(on, check(on)))
}

/// A shim with terminals, on which every question waits for the case.
pub struct Host {
    /// The shim.
    pub shim: Shim,
    /// The working directory of terminals.
    pub directory: String,
    /// How long one event may take.
    pub patience: Duration,
    /// The configured shell, a probe.
    pub shell: ConnectedProgram,
    opened: u32,
}

impl Host {
    /// A host without terminals.
    pub fn new(context: &Context) -> Result<Host, CaseError> {
        Host::around(context, Shim::start(context)?)
    }

    /// The same with this shim.
    pub fn around(context: &Context, shim: Shim) -> Result<Host, CaseError> {
        let number = context.next_number();
        Ok(Host {
            shim,
            directory: context.work_directory().to_string_lossy().into_owned(),
            patience: context.patience(),
            shell: ConnectedProgram::new(context, &format!("shell-{number}"))?,
            opened: 0,
        })
    }

    /// A name for the session of one more terminal.
    pub fn next_session(&mut self) -> String {
        self.opened += 1;
        format!("terminal session {}", self.opened)
    }

    /// An opening with these arguments, by the direct backend.
    pub fn direct(&mut self, on: On, arguments: &[&str]) -> Opening {
        let session = self.next_session();
        on.apply(Opening::new(&session, arguments, &self.directory))
    }

    /// An opening with these arguments, by the wrapped backend.
    pub fn wrapped(&mut self, on: On, arguments: &[&str]) -> Opening {
        let opening = self.direct(on, arguments);
        opening.wrapped_by(self.shell.text(), WRAPPER)
    }

    /// Opens a direct terminal.
    pub fn open_direct(&mut self, on: On, arguments: &[&str]) -> Result<Value, CaseError> {
        let opening = self.direct(on, arguments);
        Ok(self.shim.open_terminal(&opening)?.id)
    }

    /// Opens a wrapped terminal whose shell is a probe that has handed its escalation socket to the case.
    pub fn open_shell(&mut self, context: &Context, on: On) -> Result<ProbeTerminal, CaseError> {
        let shell = self.shell.text().to_owned();
        let opening = self.wrapped(on, &[&shell, "-c", "script"]);
        let opened = self.shim.open_terminal(&opening)?;
        expect::equal("wrapped", true, opened.wrapped)?;
        let mut probe = self.shell.accept("the shell of a terminal")?;
        let number = socket_number(&probe)?;
        let socket = probe.take_descriptor(number)?;
        Ok(ProbeTerminal {
            id: opened.id,
            session: opening.params()["session"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            probe,
            socket: EscalationSocket::new(socket, context.transcript.clone(), self.patience)
                .with(self.shim.counterpart()),
        })
    }

    /// Opens a direct terminal whose process is a probe.
    pub fn open_probe(&mut self, on: On) -> Result<(Value, Probe), CaseError> {
        let program = self.shell.text().to_owned();
        let id = self.open_direct(on, &[&program])?;
        Ok((id, self.shell.accept("the process of a terminal")?))
    }

    /// Reads a terminal until its end is told. Each read that gives something renews the deadline: how much time many
    /// reads take is the machine's and the pauses' that they may wait for.
    pub fn read_to_end(&mut self, terminal: &Value) -> Result<Whole, CaseError> {
        self.read_to_end_by(terminal, None)
    }

    /// The same by reads of no more than `limit` bytes.
    pub fn read_to_end_by(&mut self, terminal: &Value, limit: Option<usize>) -> Result<Whole, CaseError> {
        let mut whole = Whole::default();
        let mut deadline = Moment::now() + self.patience;
        loop {
            let reading = self.shim.read_terminal(terminal, LOOK, limit)?;
            if !reading.data.is_empty() {
                deadline = Moment::now() + self.patience;
            }
            if let Some(limit) = limit {
                expect::that(
                    reading.data.len() <= limit,
                    format_args!("a read gives no more than its {limit} bytes"),
                    format_args!("{} bytes", reading.data.len()),
                )?;
            }
            let has_ended = reading.ended;
            whole.add(reading);
            if let Some(ended) = has_ended {
                whole.ended = Some(ended);
                return Ok(whole);
            }
            if deadline.is_over() {
                return Err(violation(
                    "the end of the terminal's process is told",
                    format_args!("not within {:?} after the last output; {whole}", self.patience),
                ));
            }
        }
    }

    /// Reads a terminal until it has given `wanted`, and returns all that it gave.
    pub fn read_until(&mut self, terminal: &Value, wanted: &str) -> Result<Vec<u8>, CaseError> {
        self.shim.read_terminal_until(terminal, wanted)
    }

    /// Demands that every method refuses this id as unknown.
    pub fn expect_unknown(&mut self, terminal: &Value) -> Verdict {
        const UNKNOWN: i64 = -32602;
        for (method, params) in [
            ("terminal/read", json!({"terminal": terminal, "wait_ms": 0})),
            ("terminal/write", json!({"terminal": terminal, "data": "eA=="})),
            ("terminal/signal", json!({"terminal": terminal, "signal": 15})),
            ("terminal/close", json!({"terminal": terminal})),
        ] {
            let id = self.shim.send(method, params)?;
            let answer = self.shim.answer_to(id, method)?;
            expect::that(
                matches!(&answer, Err(error) if error.code == UNKNOWN),
                format_args!("{method} refuses the terminal {terminal} with the error {UNKNOWN}"),
                shown(&answer),
            )?;
        }
        Ok(())
    }

    /// Demands that exactly these terminals are listed.
    pub fn expect_listed(&mut self, expected: &[Value]) -> Verdict {
        let sorted = |list: &[Value]| {
            let mut texts: Vec<String> = list.iter().map(Value::to_string).collect();
            texts.sort();
            texts
        };
        let listed = self.shim.list_terminals()?;
        expect::equal("ids of terminal/list, sorted", sorted(expected), sorted(&listed))
    }

    /// Shuts the shim down.
    pub fn finish(mut self) -> Verdict {
        self.shim.shutdown()
    }
}

/// The number in a shell's CODEX_ESCALATE_SOCKET.
pub fn socket_number(probe: &Probe) -> Result<i32, CaseError> {
    let value = probe.report.variable("CODEX_ESCALATE_SOCKET");
    value
        .as_ref()
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok())
        .ok_or_else(|| {
            violation(
                "CODEX_ESCALATE_SOCKET, a number, in the process of a wrapped terminal",
                format_args!(
                    "{:?}",
                    value.map(|value| String::from_utf8_lossy(&value).into_owned())
                ),
            )
        })
}

/// A wrapped terminal whose shell is a probe.
pub struct ProbeTerminal {
    /// The terminal.
    pub id: Value,
    /// Its session.
    pub session: String,
    /// The shell.
    pub probe: Probe,
    /// The escalation socket.
    pub socket: EscalationSocket,
}

impl ProbeTerminal {
    /// Its id and its session.
    pub fn names(&self) -> (Value, String) {
        (self.id.clone(), self.session.clone())
    }

    /// Sends a request and takes the question about it.
    pub fn ask(&mut self, shim: &Shim, request: &RequestMessage) -> Result<(Requester, Decision), CaseError> {
        let mut requester = self.socket.open()?;
        requester.request(request)?;
        let decision = shim.next_decision()?;
        expect::equal(
            "session of the question",
            &*self.session,
            &*decision.question.session,
        )?;
        expect::equal(
            "argv of the question",
            &request.value()["argv"],
            &json!(decision.question.arguments),
        )?;
        Ok((requester, decision))
    }

    /// Lets `program` be escalated with /dev/null as 0, 1 and 2, and waits for its start.
    pub fn escalate(&mut self, shim: &Shim, program: &ConnectedProgram) -> Result<Escalated, CaseError> {
        let null = null()?;
        self.escalate_with(shim, program, &[(0, &null), (1, &null), (2, &null)])
    }

    /// The same with these descriptors.
    pub fn escalate_with(
        &mut self,
        shim: &Shim,
        program: &ConnectedProgram,
        placements: &Placements<'_>,
    ) -> Result<Escalated, CaseError> {
        let request = RequestMessage::new(program.text(), &["escalated"], "/");
        let (mut requester, decision) = self.ask(shim, &request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        requester.send_descriptors(placements)?;
        let child = program.accept("the escalated child")?;
        Ok(Escalated { requester, child })
    }
}

/// Rows and columns of the terminal behind a descriptor.
pub fn window(terminal: &OwnedFd) -> Result<(u16, u16), CaseError> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the ioctl writes to the structure, on a descriptor that is open.
    let status = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    nix::errno::Errno::result(status)
        .map_err(|error| violation("the size of a pseudo-terminal", format_args!("ioctl: {error}")))?;
    Ok((size.ws_row, size.ws_col))
}
