//! Keepers: one small process for each escalated tree, so that the tree can be ended whole, whatever it does and
//! however the server ends.
//!
//! A keeper is a subreaper: processes of the tree that lose their parent become its children. It ends the tree when
//! its line to the server ends. Keepers are forked from the nursery, a process that was forked when the server had
//! one thread and no session, so nothing of the server is in them.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, Pid, fork};
use serde_json::{Value, json};

use crate::child;
use crate::events;
use crate::faults::{Fault, Variant, broken, unusual};
use crate::parcel::{Kind, Parcel};
use crate::processes::{self, children, descendants, descendants_of, is_stopped, wait_until_outdated};
use crate::stream::{self, FrameReader, Progress};

/// The server's line to the process that forks keepers.
pub struct Nursery(UnixStream);

/// Forks the nursery. The calling process must have one thread.
pub fn start_nursery() -> io::Result<Nursery> {
    let (ours, theirs) = UnixStream::pair()?;
    SERVER.store(std::process::id() as i32, Ordering::SeqCst);
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(Nursery(ours)),
        ForkResult::Child => {
            drop(ours);
            let status = i32::from(nursery(theirs).is_err());
            std::process::exit(status);
        }
    }
}

impl Nursery {
    /// Starts a keeper for `parcel` with `descriptors`, and returns the line to it.
    pub fn keep(&self, parcel: &Parcel, descriptors: Vec<OwnedFd>) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let rights = [theirs.as_raw_fd()];
        nix::sys::socket::sendmsg::<()>(
            self.0.as_raw_fd(),
            &[io::IoSlice::new(&[0])],
            &[nix::sys::socket::ControlMessage::ScmRights(&rights)],
            nix::sys::socket::MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        drop(theirs);
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        stream::send(&ours, &stream::frame(&parcel.encode()), &borrowed)?;
        Ok(ours)
    }
}

/// What a keeper reports.
#[derive(Debug)]
pub enum News {
    /// The child has ended.
    Ended {
        /// What a shell would show.
        exit_code: i32,
        /// The signal that killed it.
        signal: Option<i32>,
    },
    /// The child was stopped.
    Stopped {
        /// The signal that did it.
        signal: i32,
        /// Which of its stops it is.
        stop: u64,
        /// How many orders that can end it were obeyed before.
        obeyed: u64,
    },
}

/// Reads a keeper's message.
pub fn news(payload: &[u8]) -> io::Result<News> {
    let message: Value = serde_json::from_slice(payload)?;
    let integer = |name: &str| message[name].as_i64().map(|value| value as i32);
    if let Some(signal) = integer("stopped") {
        let number = |name: &str| message[name].as_u64().ok_or(io::ErrorKind::InvalidData);
        let (stop, obeyed) = (number("stop")?, number("obeyed")?);
        return Ok(News::Stopped { signal, stop, obeyed });
    }
    let exit_code = integer("exit_code").ok_or(io::ErrorKind::InvalidData)?;
    Ok(News::Ended {
        exit_code,
        signal: integer("signal"),
    })
}

/// What a keeper is told.
pub fn order(line: &UnixStream, order: &Value) -> io::Result<()> {
    stream::send(line, &stream::frame(order.to_string().as_bytes()), &[])
}

/// The number of the server, in all that descends from it.
static SERVER: AtomicI32 = AtomicI32::new(0);

/// The number of the nursery, in itself and in its keepers.
static NURSERY: AtomicI32 = AtomicI32::new(0);

/// Receives lines and forks a keeper for each, until the server is gone.
fn nursery(requests: UnixStream) -> io::Result<()> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    drop(null);
    // What a keeper leaves behind that its tree has killed becomes this process's child.
    nix::sys::prctl::set_child_subreaper(true)?;
    let children = watch_children()?;
    let mut keepers = Keepers::default();
    // A group of its own: a signal for the server's must not reach it.
    if !broken(Fault::KeepersInServerGroup) {
        nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    }
    NURSERY.store(std::process::id() as i32, Ordering::SeqCst);
    loop {
        let flags = PollFlags::POLLIN;
        let [request, changed] = events::wait([(requests.as_fd(), flags), (children.as_fd(), flags)], None)?;
        if !changed.is_empty() {
            while children.read_signal()?.is_some() {}
            keepers.look_after();
        }
        if request.is_empty() {
            continue;
        }
        let mut held = Vec::new();
        let mut byte = [0];
        match stream::receive(&requests, &mut byte, &mut held) {
            Err(nix::errno::Errno::EAGAIN) => continue,
            // The server is gone.
            Err(nix::errno::Errno::ECONNRESET) => return Ok(()),
            Ok(received) if received.length == 0 => return Ok(()),
            other => _ = other?,
        }
        let Some(line) = held.pop() else { continue };
        // SAFETY: this process has one thread, so the child may do anything.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => _ = keepers.living.insert(child.as_raw()),
            ForkResult::Child => {
                drop((requests, children));
                let status = i32::from(
                    Keeper::new(UnixStream::from(line))
                        .and_then(Keeper::keep)
                        .is_err(),
                );
                std::process::exit(status);
            }
        }
    }
}

/// Blocks SIGCHLD in favour of a descriptor.
fn watch_children() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&set, flags)?)
}

/// The keepers of this nursery.
#[derive(Default)]
struct Keepers {
    living: HashSet<i32>,
    /// Whether one was killed, and what it left may not all be dead.
    orphans: bool,
}

impl Keepers {
    /// Reaps keepers, continues those that were stopped, and kills what killed ones have left.
    fn look_after(&mut self) {
        if broken(Fault::KeepersNotReaped) {
            return;
        }
        loop {
            let mut status = 0;
            // SAFETY: waitpid(2) writes one int through the pointer.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED) };
            if pid <= 0 {
                break;
            }
            if !libc::WIFSTOPPED(status) {
                let was_keeper = self.living.remove(&pid);
                self.orphans |= was_keeper && libc::WIFSIGNALED(status);
                continue;
            }
            let signal = if unusual(Variant::StoppedKeepersKilled) {
                libc::SIGKILL
            } else if broken(Fault::StoppedKeepersStay) {
                continue;
            } else {
                libc::SIGCONT
            };
            // SAFETY: kill(2) takes integers; the process has not been reaped.
            unsafe { libc::kill(pid, signal) };
        }
        if !self.orphans || broken(Fault::KilledKeepersForgotten) {
            return;
        }
        let own = std::process::id() as i32;
        let left: Vec<i32> = children(own)
            .into_iter()
            .filter(|pid| !self.living.contains(pid))
            .collect();
        // Their children become this process's own, and each of these ends announces itself.
        for pid in &left {
            // SAFETY: as above.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        self.orphans = !left.is_empty();
    }
}

/// In place of a child that has ended.
const ENDED: Pid = Pid::from_raw(-1);

/// Signals that stop and that a wrapper forwards.
const STOPPING: [i64; 3] = [libc::SIGTSTP as i64, libc::SIGTTIN as i64, libc::SIGTTOU as i64];

/// Whether processes of the tree are left.
#[derive(PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
}

/// The process that keeps one tree.
struct Keeper {
    line: Arc<UnixStream>,
    reader: FrameReader,
    children: SignalFd,
    child: Option<Pid>,
    /// The child is in its wrapper's process group.
    joined: bool,
    /// Whose group that was.
    group: Option<i32>,
    /// How often the child has stopped, and whether it is stopped.
    stops: u64,
    /// The number of the stop that a signal of the server causes, if it causes one.
    ordered_stop: Option<u64>,
    /// Signals that stop, bit N-1 for signal N, which the server has sent since it wanted the child to be continued last.
    ordered_signals: u64,
    /// How many orders to continue the child were obeyed.
    obeyed: u64,
    is_stopped: bool,
    /// What was said about its last stop.
    last_stop: Option<Value>,
    /// Whether it stays when no process of the tree is left.
    stays: bool,
    /// The terminal whose session it leads.
    terminal: Option<OwnedFd>,
}

impl Keeper {
    fn new(line: UnixStream) -> io::Result<Keeper> {
        nix::sys::prctl::set_child_subreaper(!broken(Fault::DaemonsMissed))?;
        let line = Arc::new(line);
        Ok(Keeper {
            reader: FrameReader::new(line.clone()),
            line,
            children: watch_children()?,
            child: None,
            joined: false,
            group: None,
            stops: 0,
            ordered_stop: None,
            ordered_signals: 0,
            obeyed: 0,
            is_stopped: false,
            last_stop: None,
            stays: false,
            terminal: None,
        })
    }

    fn keep(mut self) -> io::Result<()> {
        let retires = broken(Fault::ChildAgesOut).then(|| Instant::now() + Duration::from_secs(10));
        loop {
            let [line, _] = events::wait(
                [
                    (self.line.as_fd(), PollFlags::POLLIN),
                    (self.children.as_fd(), PollFlags::POLLIN),
                ],
                retires,
            )?;
            if retires.is_some_and(|retires| Instant::now() >= retires) {
                return self.end_the_tree();
            }
            while self.children.read_signal()?.is_some() {}
            if self.look_at_children()? == Left::Nothing && !self.stays {
                return Ok(());
            }
            if line.is_empty() {
                continue;
            }
            loop {
                match self.reader.advance()? {
                    Progress::Pending => break,
                    Progress::End if outlives_the_server() && server_has_ended() => {
                        return self.end_with_the_server();
                    }
                    Progress::End | Progress::TooLong(_) => return self.end_the_tree(),
                    Progress::Frame(frame) if self.child.is_none() => {
                        let parcel = Parcel::decode(&frame.payload)?;
                        self.joined = parcel.group.is_some();
                        self.group = parcel.group;
                        self.stays = parcel.kind != Kind::Command;
                        if parcel.kind == Kind::OnPseudoTerminal {
                            self.terminal = Some(lead_session(&frame.descriptors[0])?);
                        }
                        // Forked with the descriptors, which are then closed here.
                        self.child = Some(child::start(&parcel, frame.descriptors)?);
                    }
                    Progress::Frame(frame) => {
                        let order: Value = serde_json::from_slice(&frame.payload)?;
                        if order["release"] == json!(true) {
                            return Ok(());
                        }
                        if order["child only"] == json!(true) {
                            self.signal_child_only(libc::SIGKILL);
                            continue;
                        }
                        if let Some(stop) = order["continue after"].as_u64() {
                            self.look_at_children()?;
                            if self.is_stopped && (self.stops == stop || self.is_stopped_by_order()) {
                                self.signal_child_only(libc::SIGCONT);
                            }
                            self.tell_again(!broken(Fault::UnreadStopNotTold))?;
                            continue;
                        }
                        let continues = self.joined && order["signal"] == json!(libc::SIGCONT);
                        // A child that has left that group, as timeout(1) does, has not got it.
                        let is_there = || self.is_in_its_group() || broken(Fault::LeavingAGroupUnseen);
                        let came_to_group = order["to its group"] == json!(true) && is_there();
                        // It has sent the signal to its whole group.
                        let is_its_own = || {
                            order["sender"]
                                .as_i64()
                                .is_some_and(|sender| self.is_of_child(sender))
                        };
                        if came_to_group || is_its_own() {
                            if continues {
                                self.tell_again(true)?;
                            }
                            continue;
                        }
                        let number = order["signal"].as_i64().unwrap_or_default();
                        if self.joined && STOPPING.contains(&number) {
                            self.look_at_children()?;
                            self.ordered_signals |= 1 << (number - 1);
                            self.ordered_stop = (!self.is_stopped).then_some(self.stops + 1);
                        }
                        if continues {
                            let is_stopping = self.is_about_to_stop();
                            self.look_at_children()?;
                            let undoes = broken(Fault::UntoldStopUndone) || broken(Fault::ContinuedTwice);
                            let runs = !self.is_stopped && !is_stopping;
                            if runs || self.is_stopped_by_order() || undoes {
                                self.signal_child_only(libc::SIGCONT);
                            }
                            self.tell_again(true)?;
                            continue;
                        }
                        if broken(Fault::SignalsToChildOnly) {
                            self.signal_child_only(number as i32);
                        } else if !broken(Fault::OnlyPoliteSignals) || [2, 15].contains(&number) {
                            self.signal(number)?;
                        }
                    }
                }
            }
        }
    }

    /// Whether a signal is on its way to the child that will stop it, and isn't the server's: SIGCONT would discard it.
    fn is_about_to_stop(&self) -> bool {
        let child = self.child.map_or(ENDED, |child| child).as_raw();
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        let pending = status.lines().filter_map(|line| {
            line.strip_prefix("SigPnd:")
                .or_else(|| line.strip_prefix("ShdPnd:"))
        });
        let mut signals = pending.filter_map(|signals| u64::from_str_radix(signals.trim(), 16).ok());
        let stops = libc::SIGSTOP..=libc::SIGTTOU;
        signals.any(|signals| {
            stops
                .clone()
                .any(|signal| signals & !self.ordered_signals & 1 << (signal - 1) != 0)
        })
    }

    /// Whether the server has stopped the child: what is to continue it came after that.
    fn is_stopped_by_order(&self) -> bool {
        self.is_stopped && self.ordered_stop == Some(self.stops) && !broken(Fault::FrameStopToldAgain)
    }

    /// An order to continue the child has been obeyed: the stop that it is in all the same is said again.
    fn tell_again(&mut self, says_so: bool) -> io::Result<()> {
        // First, so that each stop is said once with the new number.
        self.look_at_children()?;
        self.obeyed += 1;
        self.ordered_stop = None;
        self.ordered_signals = 0;
        // waitpid(2) never tells that a child was continued which has begun to exit.
        let is_stopped = self.is_stopped && self.child.is_some_and(|child| is_stopped(child.as_raw()));
        if let Some(message) = self.last_stop.as_mut().filter(|_| is_stopped && says_so) {
            message["obeyed"] = json!(self.obeyed);
            // If the server is gone, the end of the line will tell.
            let _ = self::order(&self.line, message);
        }
        Ok(())
    }

    /// Whether that process is the child or descends from it.
    fn is_of_child(&self, mut process: i64) -> bool {
        let child = self.child.map_or(-1, |child| i64::from(child.as_raw()));
        if broken(Fault::Sender0TakenForItsOwn) && process == 0 {
            return true;
        }
        while process > 1 && process != child {
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            process = parent.and_then(|parent| parent.trim().parse().ok()).unwrap_or(0);
        }
        process > 1
    }

    /// Sends a signal to the child's group. Numbers that are not a signal's have no effect.
    fn signal(&mut self, number: i64) -> io::Result<()> {
        let group = match self.child {
            Some(child) if child.as_raw() > 0 => child.as_raw(),
            _ => return Ok(()),
        };
        if self.joined {
            if (1..=64).contains(&number) {
                self.signal_child_only(number as i32);
            }
        } else if (1..=64).contains(&number) {
            // SAFETY: kill(2) takes integers. A group that is gone is no error of ours.
            unsafe { libc::kill(-group, number as i32) };
        }
        Ok(())
    }

    fn signal_child_only(&self, number: i32) {
        if let Some(child) = self.child.filter(|child| *child != ENDED) {
            // SAFETY: kill(2) takes integers; the child is ours and has not been reaped.
            unsafe { libc::kill(child.as_raw(), number) };
        }
    }

    /// Reaps children that have ended, and reports to the server what the escalated child did.
    fn look_at_children(&mut self) -> io::Result<Left> {
        loop {
            let mut status = 0;
            let flags = libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED;
            // SAFETY: waitpid(2) writes one int through the pointer.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
            if pid <= 0 {
                let nothing = pid < 0 && self.child == Some(ENDED);
                return Ok(if nothing { Left::Nothing } else { Left::Something });
            }
            if self.child != Some(Pid::from_raw(pid)) {
                continue;
            }
            if libc::WIFCONTINUED(status) {
                self.is_stopped = false;
                continue;
            }
            let message = if libc::WIFSTOPPED(status) {
                self.is_stopped = true;
                self.stops += 1;
                if broken(Fault::StopsNotReported) {
                    continue;
                }
                let signal = if broken(Fault::StopsAlwaysByStop) {
                    libc::SIGSTOP
                } else {
                    libc::WSTOPSIG(status)
                };
                let message = json!({"stopped": signal, "stop": self.stops, "obeyed": self.obeyed});
                self.last_stop = Some(message.clone());
                message
            } else if libc::WIFSIGNALED(status) {
                let mut signal = libc::WTERMSIG(status);
                if broken(Fault::CoreFlagCounted) {
                    signal = status & 0xff;
                }
                let exit_code = if broken(Fault::SignalAsExitCode) {
                    signal
                } else {
                    128 + signal
                };
                let silent = broken(Fault::RealTimeDeathNotTold) && signal > 31;
                if broken(Fault::SignalNotTold) || silent {
                    json!({"exit_code": exit_code})
                } else {
                    json!({"exit_code": exit_code, "signal": signal})
                }
            } else if broken(Fault::HighExitCodeIsASignal) && libc::WEXITSTATUS(status) > 128 {
                let code = libc::WEXITSTATUS(status);
                json!({"exit_code": code, "signal": code - 128})
            } else {
                json!({"exit_code": libc::WEXITSTATUS(status)})
            };
            if !libc::WIFSTOPPED(status) {
                // Its process id may be reused from now on.
                self.child = Some(ENDED);
            }
            // If the server is gone, the end of the line will tell.
            let _ = order(&self.line, &message);
        }
    }

    /// Whether the child is still in the group that it joined.
    fn is_in_its_group(&self) -> bool {
        let group = self
            .child
            .filter(|child| *child != ENDED)
            .map(|child| nix::unistd::getpgid(Some(child)));
        group.is_none_or(|group| group.ok().map(Pid::as_raw) == self.group) || broken(Fault::SessionOfItsOwn)
    }

    /// Called when the server has ended without having ended its trees.
    fn end_with_the_server(&mut self) -> io::Result<()> {
        if broken(Fault::ServerDeathKillsGroupOnly) {
            return self.signal(libc::SIGKILL.into());
        }
        if broken(Fault::ServerDeathPolite) {
            return self.signal(libc::SIGTERM.into());
        }
        if broken(Fault::LeftoversSurviveServer) && self.child != Some(ENDED) {
            return self.end_the_tree();
        }
        Ok(())
    }

    /// Kills every descendant until there is none.
    fn end_the_tree(&mut self) -> io::Result<()> {
        if broken(Fault::EndIsPolite) {
            return self.signal(libc::SIGTERM.into());
        }
        if broken(Fault::GroupOnlyKilled) {
            return self.signal(libc::SIGKILL.into());
        }
        if broken(Fault::SiblingsKilledToo) {
            // Not getppid(2): after the end of the nursery that is another process.
            let own = std::process::id() as i32;
            let siblings = children(NURSERY.load(Ordering::SeqCst));
            for sibling in siblings.into_iter().filter(|pid| *pid != own) {
                for pid in descendants_of(sibling) {
                    // SAFETY: kill(2) takes integers.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
            }
        }
        loop {
            let found = descendants();
            if broken(Fault::ListReadOnce) {
                wait_until_outdated(&found);
            }
            if broken(Fault::StoppedSpared) && !found.is_empty() && found.iter().all(|pid| is_stopped(*pid)) {
                return Ok(());
            }
            for pid in found {
                if broken(Fault::StoppedSpared) && is_stopped(pid) {
                    continue;
                }
                if broken(Fault::SessionLeadersSpared)
                    && nix::unistd::getsid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(pid))
                {
                    return Ok(());
                }
                // SAFETY: kill(2) takes integers; only this process reaps them, or their parent does, and then they
                // are gone.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            if broken(Fault::ListReadOnce) {
                return Ok(());
            }
            if broken(Fault::ZombiesLeft) {
                // They stay zombies until the nursery ends with the server.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                loop {
                    nix::unistd::pause();
                }
            }
            loop {
                // SAFETY: waitpid(2) with a null status writes nothing.
                let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
                match pid {
                    0 => break,
                    -1 if nix::errno::Errno::last() == nix::errno::Errno::ECHILD => return Ok(()),
                    _ => {}
                }
            }
            // Wait for the next end of a child, or a moment: a process forked while the list was read is not on it.
            let moment = Instant::now() + Duration::from_millis(5);
            events::wait([(self.children.as_fd(), PollFlags::POLLIN)], Some(moment))?;
            while self.children.read_signal()?.is_some() {}
        }
    }
}

/// Makes `terminal` the controlling one of a new session of this process, and returns a copy that keeps it open.
fn lead_session(terminal: &OwnedFd) -> io::Result<OwnedFd> {
    nix::unistd::setsid()?;
    if !broken(Fault::TerminalControlsNothing) {
        // SAFETY: the ioctl takes an integer.
        nix::errno::Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
    }
    // When the server lets go of the other end, the end of the line follows.
    // SAFETY: SIG_IGN is no handler; the child resets it.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    terminal.try_clone()
}

/// Whether anything goes wrong at the death of the server.
fn outlives_the_server() -> bool {
    [
        Fault::TreesSurviveServer,
        Fault::ServerDeathKillsGroupOnly,
        Fault::ServerDeathPolite,
        Fault::LeftoversSurviveServer,
    ]
    .into_iter()
    .any(broken)
}

/// Whether the server is what has ended a line.
fn server_has_ended() -> bool {
    processes::is_exiting(SERVER.load(Ordering::SeqCst))
}
