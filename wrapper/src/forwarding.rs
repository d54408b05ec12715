//! Signals on their way from their senders to the child (`wrapper.escalate.signal`), and the child's stops.

use core::mem::size_of;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::failure::{Detail, Failure};
use crate::frame;
use crate::reply::Stop;
use crate::request;
use crate::signals::{self, Arrival, Set};
use crate::stream::Stream;
use crate::sys;

/// Room for a signal frame.
const ROOM: usize = 96;

/// Takes signals that are sent to this process, and sends them to the server.
pub struct Forwarding {
    /// Readable when a signal has arrived; all are blocked, so they arrive in no other way.
    arrivals: OwnedFd,
    /// The signals that the process blocks now.
    mask: Set,
    /// The one that has been taken and is not yet sent. The others wait in the kernel, which keeps their number.
    unsent: Option<Arrival>,
    /// Whether a SIGCONT came together with what the server has sent last.
    continued: bool,
    /// How many SIGCONT have been taken, all of which the server is told of.
    continuations: i64,
    /// How many stopped messages have been read.
    stops: i64,
    /// Whether a stop signal of a terminal has come since this process was last stopped or sent SIGCONT.
    stop_came: bool,
}

impl Forwarding {
    /// Blocks all signals, from now to the process's end. `None` if that's impossible: then signals act on the wrapper
    /// itself, whose death ends the child.
    ///
    /// A signal that is ignored arrives all the same once it is blocked: whether it is ignored is the program's affair. One
    /// that the kernel raises for a fault of this process ends it, blocked or not.
    pub fn start() -> Option<Self> {
        let before = sys::block(Set::CATCHABLE).ok()?;
        match sys::signal_descriptor(Set::CATCHABLE).and_then(sys::above_standard) {
            Ok(arrivals) => Some(Self {
                arrivals,
                mask: before.with(Set::CATCHABLE),
                unsent: None,
                continued: false,
                continuations: 0,
                stops: 0,
                stop_came: false,
            }),
            Err(_) => {
                // If even that fails, the signals stay blocked, and the server's result still ends the wrapper.
                let _ = sys::set_mask(before);
                None
            }
        }
    }

    /// Waits for the server or for signals, and forwards the signals; whether the server has sent something.
    pub fn wait(&mut self, stream: &Stream) -> Result<bool, Failure> {
        let (from_server, more) = match self.unsent {
            Some(_) => (PollFlags::IN | PollFlags::OUT, PollFlags::empty()),
            None => (PollFlags::IN, PollFlags::IN),
        };
        let socket = stream.as_fd();
        let mut polled = [
            PollFd::from_borrowed_fd(socket, from_server),
            PollFd::new(&self.arrivals, more),
        ];
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(error) => {
                return Err(Failure {
                    what: "cannot wait for the server",
                    detail: Detail::System(error),
                });
            }
        }
        let [server, _] = polled.map(|polled| polled.revents());
        self.continued = false;
        self.forward(stream);
        // The next read reports errors, too.
        Ok(server.intersects(!PollFlags::OUT))
    }

    /// Sends the signals that have arrived, as far as the stream has room.
    fn forward(&mut self, stream: &Stream) {
        while let Some(arrival) = self.unsent.take().or_else(|| self.next()) {
            let mut space = [0; ROOM];
            // It always fits.
            let Ok(frame) = frame::compose(&mut space, |output| request::write_signal(output, arrival))
            else {
                return;
            };
            match stream.try_send(frame) {
                Ok(true) => {}
                // Full: poll(2) reports when there is room.
                Ok(false) => {
                    self.unsent = Some(arrival);
                    return;
                }
                // The server reads no more. What it has sent may still be readable; if not, the next read fails.
                Err(_) => {}
            }
        }
    }

    /// Takes the next signal that has arrived.
    fn next(&mut self) -> Option<Arrival> {
        self.take(None)
    }

    /// Takes a SIGCONT that waits, and nothing else, so that it is the next to be sent. A stop signal that comes later discards
    /// one that is only known to wait.
    fn take_continuation(&mut self) -> bool {
        if self.unsent.is_some() {
            return has_arrived(Signal::CONT);
        }
        let Ok(continuations) = sys::signal_descriptor(Set::only(Signal::CONT.as_raw())) else {
            return has_arrived(Signal::CONT);
        };
        self.unsent = self.take(Some(&continuations));
        self.unsent.is_some()
    }

    /// Takes the next signal that arrives there, or else at all.
    fn take(&mut self, there: Option<&OwnedFd>) -> Option<Arrival> {
        /// signalfd_siginfo of signalfd(2): it begins with the signal's number, an errno, the code of its origin, and a pid.
        const RECORD: usize = 128;
        const NUMBER: usize = size_of::<i32>();
        loop {
            let mut record = [0_u8; RECORD];
            match rustix::io::read(there.unwrap_or(&self.arrivals), &mut record) {
                Ok(RECORD) => {
                    let number = |index: usize| record[index * NUMBER..].first_chunk().copied();
                    let signal = i32::from_ne_bytes(number(0)?);
                    let arrival = Arrival::new(
                        signal,
                        i32::from_ne_bytes(number(2)?),
                        i32::from_ne_bytes(number(3)?),
                    );
                    let Some(mut arrival) = arrival else { continue };
                    if signal == Signal::CONT.as_raw() {
                        self.continued = true;
                        self.continuations += 1;
                        self.stop_came = false;
                        arrival.stops = Some(self.stops);
                    }
                    self.stop_came |= signals::is_stop_of_terminal(signal);
                    return Some(arrival);
                }
                Err(Errno::INTR) => {}
                // EAGAIN: there are no more.
                Ok(_) | Err(_) => return None,
            }
        }
    }

    /// Stops the process as the child was stopped (`wrapper.escalate.stopped`). When it is continued SIGCONT arrives
    /// like any other signal, and is sent to the child.
    pub fn stop(&mut self, stop: Stop, stream: &Stream) {
        self.stops += 1;
        // A SIGCONT that waits keeps this process from stopping, but a stop signal would discard it before the server is told.
        self.forward(stream);
        let continued = match stop.continued {
            // The server has not read the last one: it tells of the stop again if that came later.
            Some(read) => read < self.continuations,
            // It came later than the stop, or else the child is continued once more than it was stopped: better than a job
            // that shows as stopped and runs, which nothing continues.
            None => self.continued,
        };
        if continued || self.take_continuation() {
            return;
        }
        let signal = signals::stopping(stop.signal);
        // A program that stops its process group stops its whole job. What comes of a terminal has reached the group already.
        let alone = stop.alone || self.stop_came || !signals::is_stop_of_terminal(signal);
        // After a failure the wrapper keeps running, which is harmless: the child can be continued all the same.
        let _ = sys::reset_disposition(signal);
        let _ = if alone {
            sys::kill_self(signal)
        } else {
            sys::kill_group(signal)
        };
        let _ = sys::set_mask(self.mask.without(Set::only(signal)));
        let _ = sys::set_mask(self.mask);
        self.stop_came = false;
        if !self.take_continuation() {
            // A terminal's stop signal stops no process whose process group is orphaned.
            let stopped = sys::kill_self(Signal::STOP.as_raw());
            // Only a SIGCONT lets this process go on. If none waits, a stop signal that came after it has discarded it.
            if stopped.is_ok() && !self.take_continuation() && self.unsent.is_none() {
                self.continuations += 1;
                self.unsent = Some(Arrival {
                    signal: Signal::CONT.as_raw(),
                    of_terminal: false,
                    sender: None,
                    stops: Some(self.stops),
                });
            }
        }
        self.forward(stream);
    }
}

/// Whether that signal waits to be taken.
fn has_arrived(signal: Signal) -> bool {
    sys::pending().is_ok_and(|pending| pending.contains(Set::only(signal.as_raw())))
}
