//! Programs that a case lets an implementation start: probes with a plan, and the case's side of connected ones.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};

use crate::case::context::Context;
use crate::peer::wire::receive_some;
use crate::probe::plan::{Act, Plan, path_for};
use crate::probe::remote::{Answer, Order};
use crate::probe::report::Report;
use crate::system::clock::Moment;
use crate::system::launch::Launched;
use crate::system::poll::readable_until;
use crate::system::process::ProcessHandle;
use crate::system::quiescence::wait_for_rest;
use crate::verdict::{CaseError, Verdict, harness, violation};

/// A program of the case that writes a report at every start and then acts by itself.
pub struct Program {
    /// Where it lies.
    pub path: PathBuf,
    reports: PathBuf,
}

impl Program {
    /// A program `bin/NAME` that does `acts` and exits (with 0 unless an act says otherwise).
    pub fn new(
        context: &Context,
        name: &str,
        acts: impl IntoIterator<Item = Act>,
    ) -> Result<Program, CaseError> {
        let path = context.directory().join("bin").join(name);
        Program::at(context, &path, acts)
    }

    /// The same at any path.
    pub fn at(
        context: &Context,
        path: &Path,
        acts: impl IntoIterator<Item = Act>,
    ) -> Result<Program, CaseError> {
        Program::with_plan(
            context,
            path,
            Plan {
                acts: acts.into_iter().collect(),
                ..Plan::default()
            },
        )
    }

    /// A program with any plan; its reports go to a directory of their own.
    pub fn with_plan(context: &Context, path: &Path, plan: Plan) -> Result<Program, CaseError> {
        let reports = context.path(&format!("reports-{}", context.next_number()));
        fs::create_dir(&reports)?;
        let plan = Plan {
            reports: Some(reports.clone()),
            ..plan
        };
        fs::write(path_for(path), serde_json::to_vec(&plan)?)?;
        context.link_probe_at(path)?;
        Ok(Program {
            path: path.to_owned(),
            reports,
        })
    }

    /// The path as text. The case's directory has none but ASCII characters.
    pub fn text(&self) -> &str {
        self.path.to_str().unwrap_or_default()
    }

    /// The reports of all starts so far, in the order of the starts.
    pub fn starts(&self) -> Result<Vec<Report>, CaseError> {
        let mut names = fs::read_dir(&self.reports)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()?;
        names.retain(|path| {
            !path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .starts_with('.')
        });
        names.sort();
        names
            .into_iter()
            .map(|path| Ok(serde_json::from_slice(&fs::read(path)?)?))
            .collect()
    }

    /// Throws the reports of all starts so far away: thousands of them would fill the disk.
    pub fn forget_starts(&self) -> Result<(), CaseError> {
        fs::remove_dir_all(&self.reports)?;
        fs::create_dir(&self.reports)?;
        Ok(())
    }

    /// The report of the only start.
    pub fn only_start(&self) -> Result<Report, CaseError> {
        let mut starts = self.starts()?;
        match (starts.pop(), starts.len()) {
            (Some(report), 0) => Ok(report),
            (last, more) => Err(violation(
                format_args!("{} is executed once", self.path.display()),
                format_args!("it was executed {} times", more + usize::from(last.is_some())),
            )),
        }
    }

    /// Demands that the program was never executed, once all that the case has started is at rest.
    pub fn expect_not_started(&self) -> Verdict {
        wait_for_rest();
        match self.starts()?.len() {
            0 => Ok(()),
            count => Err(violation(
                format_args!("{} is not executed", self.path.display()),
                format_args!("it was executed {count} times"),
            )),
        }
    }
}

/// A program that connects to the case and obeys.
pub struct ConnectedProgram {
    program: Program,
    listener: UnixListener,
    patience: Duration,
}

impl ConnectedProgram {
    /// A program `bin/NAME` that connects at each start.
    pub fn new(context: &Context, name: &str) -> Result<ConnectedProgram, CaseError> {
        let path = context.directory().join("bin").join(name);
        ConnectedProgram::at(context, &path)
    }

    /// The same at any path.
    pub fn at(context: &Context, path: &Path) -> Result<ConnectedProgram, CaseError> {
        let socket = context.path(&format!("probe-{}", context.next_number()));
        let listener = UnixListener::bind(&socket)
            .map_err(|error| harness(format_args!("binding {}: {error}", socket.display())))?;
        let plan = Plan {
            connect: Some(socket),
            ..Plan::default()
        };
        let program = Program::with_plan(context, path, plan)?;
        Ok(ConnectedProgram {
            program,
            listener,
            patience: context.patience(),
        })
    }

    /// The path as text.
    pub fn text(&self) -> &str {
        self.program.text()
    }

    /// The next start of the program; `what` names it.
    ///
    /// # Errors
    /// A violation where none comes within the patience.
    pub fn accept(&self, what: &str) -> Result<Probe, CaseError> {
        self.accept_within(self.patience)?.ok_or_else(|| {
            violation(
                format_args!("{what} starts ({})", self.program.path.display()),
                format_args!("it did not start within {:?}", self.patience),
            )
        })
    }

    /// The next start of the program, or none within `patience`.
    pub fn accept_within(&self, patience: Duration) -> Result<Option<Probe>, CaseError> {
        if !readable_until(&self.listener, Moment::now() + patience)? {
            return Ok(None);
        }
        let (stream, _) = self.listener.accept()?;
        Probe::new(stream, self.patience).map(Some)
    }

    /// The next start of the program, or none where `process`, which should have become it, ends before.
    ///
    /// # Errors
    /// A violation where neither happens within the patience.
    pub fn accept_or_end(&self, process: &Launched) -> Result<Option<Probe>, CaseError> {
        if !process.readable_or_ended(&self.listener, self.patience)? {
            return Err(violation(
                format_args!("{} is executed, or refused", self.program.path.display()),
                format_args!("neither within {:?}", self.patience),
            ));
        }
        self.accept_within(Duration::ZERO)
    }

    /// Demands that no start is waiting to be accepted, once all that the case has started is at rest. What a timer or another
    /// process may bring is to be bound by a sentinel before.
    pub fn expect_no_start(&self) -> Verdict {
        self.expect_no_other_start()?;
        self.program.expect_not_started()
    }

    /// Fails if the program runs once more than it was accepted, when all that the case has started is at rest.
    pub fn expect_no_other_start(&self) -> Verdict {
        wait_for_rest();
        match self.accept_within(Duration::ZERO)? {
            None => Ok(()),
            Some(probe) => Err(violation(
                format_args!("{} is not executed", self.program.path.display()),
                format_args!("it runs as process {}", probe.report.pid),
            )),
        }
    }
}

/// A running probe that obeys the case.
pub struct Probe {
    /// What it was started with.
    pub report: Report,
    stream: UnixStream,
    bytes: VecDeque<u8>,
    descriptors: Vec<OwnedFd>,
    signals: VecDeque<i32>,
    patience: Duration,
}

impl Probe {
    fn new(stream: UnixStream, patience: Duration) -> Result<Probe, CaseError> {
        let mut probe = Probe {
            report: Report::default(),
            stream,
            bytes: VecDeque::new(),
            descriptors: Vec::new(),
            signals: VecDeque::new(),
            patience,
        };
        match probe.answer()? {
            Answer::Report(report) => probe.report = *report,
            other => return Err(harness(format_args!("a probe began with {other:?}"))),
        }
        Ok(probe)
    }

    /// A handle of its process.
    pub fn process(&self) -> Result<ProcessHandle, CaseError> {
        ProcessHandle::open(nix::unistd::Pid::from_raw(self.report.pid))?
            .ok_or_else(|| violation(format_args!("process {} runs", self.report.pid), "it is gone"))
    }

    /// Orders something and returns the answer.
    pub fn order(&mut self, order: &Order) -> Result<Answer, CaseError> {
        self.send(order)?;
        self.answer()
    }

    /// Orders something that must succeed.
    pub fn must(&mut self, order: &Order) -> Verdict {
        match self.order(order)? {
            Answer::Failed(errno) => Err(violation(
                format_args!("{order:?} succeeds in the program"),
                nix::errno::Errno::from_raw(errno),
            )),
            _ => Ok(()),
        }
    }

    /// Waits for the answer to an order that was [sent](Self::send) before.
    ///
    /// # Errors
    /// A violation where it failed or where no answer comes.
    pub fn answer_to_earlier_order(&mut self) -> Verdict {
        match self.answer()? {
            Answer::Failed(errno) => Err(violation(
                "the order succeeds in the program",
                nix::errno::Errno::from_raw(errno),
            )),
            _ => Ok(()),
        }
    }

    /// The connection, to wait for it together with something else.
    pub fn connection(&self) -> &UnixStream {
        &self.stream
    }

    /// Orders something without waiting: exits and deaths have no answer.
    pub fn send(&mut self, order: &Order) -> Verdict {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.stream.write_all(&line).map_err(|error| {
            violation(
                format_args!("the program (process {}) runs and obeys", self.report.pid),
                format_args!("its connection is gone: {error}"),
            )
        })
    }

    /// A new report.
    pub fn report_again(&mut self) -> Result<Report, CaseError> {
        match self.order(&Order::Report)? {
            Answer::Report(report) => Ok(*report),
            other => Err(harness(format_args!("a probe answered {other:?} to Report"))),
        }
    }

    /// A copy of its descriptor `number`.
    pub fn take_descriptor(&mut self, number: i32) -> Result<OwnedFd, CaseError> {
        match self.order(&Order::SendDescriptor(number))? {
            Answer::Failed(errno) => Err(violation(
                format_args!("the program has descriptor {number}"),
                nix::errno::Errno::from_raw(errno).desc(),
            )),
            _ => self
                .descriptors
                .pop()
                .ok_or_else(|| harness("a probe sent no descriptor")),
        }
    }

    /// The next watched signal that reached it.
    ///
    /// # Errors
    /// A violation where none comes; `what` names it.
    pub fn next_signal(&mut self, what: &str) -> Result<i32, CaseError> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        let expected = format!("{what} reaches process {}", self.report.pid);
        match self.line(self.patience)? {
            None => Err(violation(
                expected,
                format_args!("no signal within {:?}", self.patience),
            )),
            Some(line) => match serde_json::from_slice(&line)? {
                Answer::Signal(signal) => Ok(signal),
                other => Err(harness(format_args!("a probe said {other:?} unasked"))),
            },
        }
    }

    /// Waits until the connection ends, as it does when every process of this probe is gone.
    ///
    /// # Errors
    /// A violation if it is still running; `what` names the program.
    pub fn expect_gone(&mut self, what: &str) -> Verdict {
        let deadline = Moment::now() + self.patience;
        loop {
            match self.line(deadline.left()) {
                Err(CaseError::Violation { .. }) => return Ok(()),
                Err(error) => return Err(error),
                // What it said before its end.
                Ok(Some(_)) => {}
                Ok(None) => {
                    // Its number here, if it is in another pid namespace.
                    let peer = getsockopt(&self.stream, sockopt::PeerCredentials)?;
                    let process = nix::unistd::Pid::from_raw(peer.pid());
                    return Err(violation(
                        format_args!("{what} (process {process}) ends"),
                        format_args!(
                            "after {:?}: {}",
                            self.patience,
                            crate::system::process::describe(process)
                        ),
                    ));
                }
            }
        }
    }

    fn answer(&mut self) -> Result<Answer, CaseError> {
        loop {
            let line = self.line(self.patience)?.ok_or_else(|| {
                violation(
                    "the program runs and answers",
                    format_args!("no answer within {:?}", self.patience),
                )
            })?;
            match serde_json::from_slice(&line)? {
                Answer::Signal(signal) => self.signals.push_back(signal),
                answer => return Ok(answer),
            }
        }
    }

    /// One line; none at the deadline; a violation where the connection has ended.
    fn line(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, CaseError> {
        let deadline = Moment::now() + patience;
        loop {
            // Bytes that carried descriptors are NUL, which no line of JSON holds.
            while self.bytes.front() == Some(&0) {
                self.bytes.pop_front();
            }
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.bytes.drain(..=end).collect()));
            }
            if !readable_until(&self.stream, deadline)? {
                return Ok(None);
            }
            match receive_some(&self.stream, &mut self.descriptors) {
                Ok(bytes) if !bytes.is_empty() => self.bytes.extend(bytes),
                Ok(_) | Err(nix::errno::Errno::ECONNRESET) => {
                    return Err(violation(
                        "the program runs",
                        "its connection to the case has ended",
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
