//! Reaping, signalling and killing the child and all its descendants.

use nix::errno::Errno;

use super::outbox::Outbox;
use super::pending::{STOPPING, about_to_stop, bit};
use crate::execution::channel::{Ending, Stop, SupervisorEnd};
use crate::execution::raw;

const EVERY_CHILD: i32 = -1;

/// The child, all descendants, and what is to be reported about the child.
#[derive(Debug)]
pub(super) struct Descendants {
    /// The child's pid while it is not reaped.
    child: Option<i32>,
    /// Whether the child leads a process group.
    own_group: bool,
    /// How often the child has stopped.
    stops: i32,
    /// The stop that it is in, as far as it is known.
    stop: Option<Stop>,
    /// The stop that a signal of the host causes, if it causes one.
    expected: Option<Stop>,
    /// Signals that stop, bit N-1 for signal N, which the host has sent since it wanted the child to be continued last.
    forwarded: u64,
    /// How many orders were obeyed that can continue the child.
    obeyed: i32,
    pub(super) outbox: Outbox,
}

impl Descendants {
    pub(super) fn new(child: i32, own_group: bool, channel: SupervisorEnd) -> Self {
        Self {
            child: Some(child),
            own_group,
            stops: 0,
            stop: None,
            expected: None,
            forwarded: 0,
            obeyed: 0,
            outbox: Outbox::new(channel),
        }
    }

    /// Collects every child that has ended, stopped or gone on; false when there is none left.
    pub(super) fn reap(&mut self) -> bool {
        loop {
            match raw::wait4(EVERY_CHILD, libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED) {
                Ok((0, _)) => return true,
                Ok((pid, status)) => self.note(pid, status),
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn note(&mut self, pid: i32, status: i32) {
        if self.child != Some(pid) {
            return;
        }
        if libc::WIFSTOPPED(status) {
            let stop = self.next_stop(libc::WSTOPSIG(status));
            self.stops = stop.number;
            self.stop = Some(stop);
            self.outbox.stopped(stop, self.obeyed);
        } else if libc::WIFCONTINUED(status) {
            self.stop = None;
        } else {
            self.child = None;
            self.outbox.ended(Ending::from_wait_status(status));
        }
    }

    fn next_stop(&self, signal: i32) -> Stop {
        let number = self.stops.wrapping_add(1);
        Stop { signal, number }
    }

    /// Sends the child a signal of the host.
    pub(super) fn forward(&mut self, signal: i32) {
        if signal == libc::SIGCONT {
            self.signal_child(signal);
            self.obeyed_continuation();
            return;
        }
        if STOPPING & bit(signal) != 0 {
            self.reap();
            // What is stopped already is not stopped by it.
            if self.stop.is_none() {
                self.expected = Some(self.next_stop(signal));
            }
            self.forwarded |= bit(signal);
        }
        self.signal_child(signal);
    }

    /// Sends a signal to the child's process group, or to the child alone where that has joined another's group. A child that
    /// has ended is left alone.
    fn signal_child(&self, signal: i32) {
        let Some(child) = self.child else { return };
        // The child isn't reaped, so neither its pid nor its group's number can have been recycled.
        if !self.own_group || raw::kill(child.wrapping_neg(), signal).is_err() {
            let _ = raw::kill(child, signal);
        }
    }

    /// Continues the child if it is still in the stop of that number, or in one that the host has caused.
    pub(super) fn continue_after(&mut self, stop: i32) {
        let is_about_to_stop = self.is_about_to_stop();
        self.reap();
        let is_still_in_it = self.stop.is_some_and(|current| current.number == stop);
        if is_still_in_it || self.is_stopped_by_host() && !is_about_to_stop {
            self.signal_child(libc::SIGCONT);
        }
        self.obeyed_continuation();
    }

    /// Sends SIGCONT, unless the child is in a stop that the host hasn't caused.
    pub(super) fn resume(&mut self) {
        let is_about_to_stop = self.is_about_to_stop();
        self.reap();
        if (self.stop.is_none() || self.is_stopped_by_host()) && !is_about_to_stop {
            self.signal_child(libc::SIGCONT);
        }
        self.obeyed_continuation();
    }

    /// Whether the host has stopped the child: what continues the host's side has come after what stopped that.
    fn is_stopped_by_host(&self) -> bool {
        self.stop.is_some() && self.stop == self.expected
    }

    /// Whether a signal is on its way to the child that will stop it, and of which the host doesn't know. SIGCONT would discard it.
    /// To be asked before the child is looked at, or else it could stop between the two.
    fn is_about_to_stop(&self) -> bool {
        self.child
            .is_some_and(|child| about_to_stop(child) & !self.forwarded != 0)
    }

    /// Reports the stop that the child is in all the same, if it is in one.
    fn obeyed_continuation(&mut self) {
        // First, so that each stop is reported once with the new number.
        self.reap();
        self.obeyed = self.obeyed.wrapping_add(1);
        self.expected = None;
        self.forwarded = 0;
        if let Some(stop) = self.stop {
            self.outbox.stopped(stop, self.obeyed);
        }
    }

    /// Kills generation after generation: when a parent is dead, its children are ours.
    pub(super) fn kill_all(&mut self) {
        // Outrun fork bombs; best effort.
        let _ = raw::raise_priority();
        self.signal_child(libc::SIGKILL);
        loop {
            kill_children();
            match raw::wait4(EVERY_CHILD, 0) {
                Ok((pid, status)) => self.note(pid, status),
                Err(Errno::EINTR) => continue,
                Err(_) => break,
            }
            if !self.reap() {
                break;
            }
        }
        self.outbox.flush();
    }
}

/// Sends SIGKILL to every child of this process.
pub(super) fn kill_children() {
    each_child(|pid| {
        let _ = raw::kill(pid, libc::SIGKILL);
    });
}

/// Calls `act` with the pid of every child of this process, which must have one thread; false if they can't be listed.
pub(in crate::execution) fn each_child(mut act: impl FnMut(i32)) -> bool {
    let Ok(list) = raw::open(c"/proc/thread-self/children", libc::O_RDONLY | libc::O_CLOEXEC) else {
        return false;
    };
    let mut buffer = [0_u8; 1024];
    let mut pid = 0_i32;
    while let Ok(bytes @ 1..) = raw::read(list, &mut buffer) {
        for &byte in buffer.iter().take(bytes) {
            if byte.is_ascii_digit() {
                pid = pid.wrapping_mul(10).wrapping_add(i32::from(byte & 0x0f));
            } else if pid > 0 {
                act(pid);
                pid = 0;
            }
        }
    }
    let _ = raw::close(list);
    true
}
