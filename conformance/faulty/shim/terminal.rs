//! One terminal: its process under a keeper, its input, and the thread that takes its output.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nix::poll::PollFlags;
use serde_json::{Value, json};

use crate::ends::{Ends, Size, set_size};
use crate::events::{self, Bell, GONE, lock};
use crate::faults::{Fault, Variant, broken, unusual};
use crate::keeper::{self, News, Nursery};
use crate::output::{Output, Taken};
use crate::parcel::{Kind, Parcel};
use crate::session::Session;
use crate::stream::{FrameReader, Progress};

/// So long without output is a pause.
const PAUSE: Duration = Duration::from_millis(10);

/// No pause may be longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// So long a fault leaves output lie, for the end of its process to come first.
const END_OVERTAKES: Duration = Duration::from_millis(100);

/// One terminal.
pub struct Terminal {
    /// Its id.
    pub id: String,
    /// What the suite calls its session.
    pub name: String,
    /// Its session, if it is wrapped.
    pub session: Option<Arc<Session>>,
    line: Arc<UnixStream>,
    /// The other end of the pseudo-terminal.
    master: Option<File>,
    /// What is written to.
    input: Mutex<File>,
    output: Mutex<Output>,
    changed: Condvar,
    /// Rung when it is closed.
    bell: Bell,
    closed: AtomicBool,
}

/// What a terminal starts.
pub struct Started {
    /// The process, with the numbers of `descriptors` behind its standard streams.
    pub parcel: Parcel,
    /// What it gets beside its standard streams.
    pub descriptors: Vec<OwnedFd>,
    /// The size of its pseudo-terminal; none on pipes.
    pub size: Option<Size>,
}

impl Terminal {
    /// Starts the process.
    pub fn start(
        nursery: &Nursery,
        id: String,
        name: &str,
        session: Option<Arc<Session>>,
        started: Started,
    ) -> io::Result<Arc<Terminal>> {
        let Started {
            mut parcel,
            descriptors,
            size,
        } = started;
        let size = size.filter(|_| !broken(Fault::AlwaysPipes));
        let ends = match size {
            Some(size) => Ends::of_pseudo_terminal(size)?,
            None => Ends::of_pipes()?,
        };
        parcel.kind = match size {
            Some(_) => Kind::OnPseudoTerminal,
            None => Kind::OnPipes,
        };
        let mut theirs = ends.theirs;
        theirs.extend(descriptors);
        if broken(Fault::TerminalHoldsItsOtherEnd) {
            parcel.numbers.push(45);
            theirs.push(ends.input.try_clone()?.into());
        }
        let line = Arc::new(nursery.keep(&parcel, theirs)?);
        let terminal = Arc::new(Terminal {
            id,
            name: name.to_owned(),
            session,
            line,
            master: ends.master,
            input: Mutex::new(ends.input),
            output: Mutex::new(Output::new()),
            changed: Condvar::new(),
            bell: Bell::new()?,
            closed: AtomicBool::new(false),
        });
        std::thread::Builder::new().spawn({
            let terminal = terminal.clone();
            move || {
                // Its readers learn of an error by the end.
                let _ = terminal.attend(ends.outputs);
            }
        })?;
        Ok(terminal)
    }

    /// Takes output and the process's end until the terminal is closed.
    fn attend(&self, outputs: Vec<File>) -> io::Result<()> {
        let mut keeper = FrameReader::new(self.line.clone());
        let mut outputs: Vec<Option<File>> = outputs.into_iter().map(Some).collect();
        outputs.resize_with(2, || None);
        let mut keeper_is_there = true;
        while !self.is_closed() {
            let quiet = (self.bell.as_fd(), PollFlags::empty());
            let waits = broken(Fault::FullOutputBlocks) && lock(&self.output).is_full();
            let ready = |output: &'_ Option<File>| output.is_some() && !waits;
            let wanted = [
                (self.bell.as_fd(), PollFlags::POLLIN),
                if keeper_is_there {
                    (self.line.as_fd(), PollFlags::POLLIN)
                } else {
                    quiet
                },
                if ready(&outputs[0]) {
                    (outputs[0].as_ref().unwrap().as_fd(), PollFlags::POLLIN)
                } else {
                    quiet
                },
                if ready(&outputs[1]) {
                    (outputs[1].as_ref().unwrap().as_fd(), PollFlags::POLLIN)
                } else {
                    quiet
                },
            ];
            let deadline = waits.then(|| Instant::now() + PAUSE);
            let [_, mut news, first, second] = events::wait(wanted, deadline)?;
            if broken(Fault::LastOutputLost)
                && news.is_empty()
                && keeper_is_there
                && !(first | second).is_empty()
            {
                // The end of a process that ends behind its output overtakes it.
                let soon = Instant::now() + END_OVERTAKES;
                [news] = events::wait([(self.line.as_fd(), PollFlags::POLLIN)], Some(soon))?;
            }
            let mut ended = None;
            while keeper_is_there && !news.is_empty() && ended.is_none() {
                match keeper.advance()? {
                    Progress::Frame(frame) => {
                        if let News::Ended { exit_code, signal } = keeper::news(&frame.payload)? {
                            ended = Some(match signal {
                                Some(signal) if !broken(Fault::DeathsAsExits) => (None, Some(signal)),
                                _ => (Some(exit_code), None),
                            });
                        }
                    }
                    Progress::Pending => break,
                    Progress::End | Progress::TooLong(_) => {
                        keeper_is_there = false;
                        // The keeper was killed, and all that it kept with it.
                        if lock(&self.output).ended.is_none() {
                            ended = Some((None, Some(libc::SIGKILL)));
                        }
                    }
                }
            }
            for (output, flags) in outputs.iter_mut().zip([first, second]) {
                let last_look = ended.is_some() && !broken(Fault::LastOutputLost);
                if !flags.is_empty() || last_look {
                    self.drain(output, last_look)?;
                }
            }
            if ended.is_some() && broken(Fault::EndAwaitsAllHolders) {
                while outputs.iter().any(Option::is_some) && !self.is_closed() {
                    std::thread::sleep(PAUSE);
                    outputs
                        .iter_mut()
                        .try_for_each(|output| self.drain(output, true))?;
                }
            }
            if let Some(ended) = ended.filter(|_| !broken(Fault::EndNotTold)) {
                lock(&self.output).ended = Some(ended);
                self.changed.notify_all();
                if let Some(session) = &self.session
                    && broken(Fault::SessionEndsWithItsShell)
                {
                    session.close();
                }
            }
        }
        Ok(())
    }

    /// Reads what is there, a piece or all of it; none when the output has ended.
    fn drain(&self, output: &mut Option<File>, all: bool) -> io::Result<()> {
        let Some(file) = output else { return Ok(()) };
        let mut bytes = [0; 16 << 10];
        loop {
            match file.read(&mut bytes) {
                Ok(0) => *output = None,
                Ok(length) => {
                    lock(&self.output).push(&bytes[..length]);
                    self.changed.notify_all();
                    if all {
                        continue;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // No process has the pseudo-terminal open any more.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => *output = None,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }

    /// Whether it has been closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether its process has ended.
    pub fn has_ended(&self) -> bool {
        lock(&self.output).ended.is_some()
    }

    /// Waits for output, and takes it.
    pub fn read(&self, wait: Duration, limit: usize) -> io::Result<Value> {
        let begun = Instant::now();
        let deadline = begun + wait;
        let mut output = lock(&self.output);
        loop {
            if self.is_closed() && !broken(Fault::CallsOutliveTheirTerminal) {
                return Err(io::Error::other("the terminal has been closed"));
            }
            let now = Instant::now();
            let pauses_at = if unusual(Variant::LongPauses) {
                output.latest.max(begun) + LONGEST_PAUSE
            } else {
                output.latest + PAUSE
            };
            let has_some = !output.is_empty();
            let pauses = has_some && now >= pauses_at && !broken(Fault::ReadsWaitTheirTime);
            let is_over = output.ended.is_some() && !broken(Fault::ReadsOutwaitTheEnd);
            if is_over || pauses || now >= deadline || broken(Fault::ReadsNeverWait) {
                break;
            }
            let until = if has_some && pauses_at > now {
                pauses_at.min(deadline)
            } else {
                deadline
            };
            let waited = self.changed.wait_timeout(output, until - now);
            output = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        let Taken { bytes, omitted, head } = output.take(limit);
        let is_told = output.is_empty() || broken(Fault::EndBeforeTheRest);
        let ended = output
            .ended
            .filter(|_| is_told)
            .map(|(exit_code, signal)| json!({"exit_code": exit_code, "signal": signal}));
        if broken(Fault::EndToldOnce) && ended.is_some() {
            output.ended = None;
        }
        if broken(Fault::OutputGivenTwice) {
            output.push(&bytes);
        }
        Ok(json!({"data": BASE64_STANDARD.encode(&bytes), "omitted": omitted, "head": head, "ended": ended}))
    }

    /// Writes all of it to the process's input, however long that takes.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut input = lock(&self.input);
        let mut rest = bytes;
        if broken(Fault::LongInputCut) {
            rest = &rest[..rest.len().min(4096)];
        }
        let text: Vec<u8>;
        if broken(Fault::NewlineAdded) {
            text = [rest, b"\n"].concat();
            rest = &text;
        }
        while !rest.is_empty() {
            match input.write(rest) {
                Ok(length) => rest = &rest[length..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let flags = PollFlags::POLLOUT | GONE;
                    events::wait(
                        [(input.as_fd(), flags), (self.bell.as_fd(), PollFlags::POLLIN)],
                        None,
                    )?;
                    if self.is_closed() {
                        return Err(io::Error::other("the terminal has been closed"));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Changes the size of the pseudo-terminal.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        match &self.master {
            Some(_) if broken(Fault::SizeNeverChanges) => Ok(()),
            Some(master) => set_size(master, size),
            None if broken(Fault::PipesTakeASize) => Ok(()),
            None => Err(io::Error::other("a terminal on pipes has no size")),
        }
    }

    /// Sends a signal to the foreground process group, or on pipes to the group of the process.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        if self.has_ended() || broken(Fault::TerminalSignalsIgnored) {
            return Ok(());
        }
        let number = if broken(Fault::EverySignalInterrupts) {
            libc::SIGINT
        } else {
            number
        };
        match &self.master {
            Some(master) if !broken(Fault::SignalsToTheFirstGroup) => {
                let group = nix::unistd::tcgetpgrp(master)?.as_raw();
                // SAFETY: kill(2) takes integers. A group that is gone is no error of ours.
                unsafe { libc::kill(-group, number) };
                Ok(())
            }
            _ => keeper::order(&self.line, &json!({"signal": number})),
        }
    }

    /// Leaves its processes to themselves.
    pub fn release(&self) {
        let _ = keeper::order(&self.line, &json!({"release": true}));
    }

    /// Ends everything that was started in it.
    pub fn close(&self) {
        if let Some(session) = &self.session
            && !broken(Fault::SessionSurvivesItsTerminal)
        {
            session.close();
        }
        if broken(Fault::TerminalHungUpOnly) {
            let _ = keeper::order(&self.line, &json!({"signal": libc::SIGHUP}));
            let _ = keeper::order(&self.line, &json!({"release": true}));
        } else if broken(Fault::TerminalsProcessOnlyKilled) {
            let _ = keeper::order(&self.line, &json!({"child only": true}));
            let _ = keeper::order(&self.line, &json!({"release": true}));
        } else if broken(Fault::ClosedTerminalLives) {
            std::mem::forget(self.line.clone());
        } else {
            // The keeper ends the tree when its line ends. It may be gone already.
            let _ = self.line.shutdown(std::net::Shutdown::Write);
        }
        if broken(Fault::DescriptorPerTerminal) {
            std::mem::forget(self.line.as_fd().try_clone_to_owned());
        }
        self.closed.store(true, Ordering::SeqCst);
        self.bell.ring();
        // With the lock, so that no reader is between its look and its wait.
        let _output = lock(&self.output);
        self.changed.notify_all();
    }
}
