//! Reaping, signalling and killing the child and all its descendants.

use nix::errno::Errno;

use super::outbox::Outbox;
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
    pub(super) outbox: Outbox,
}

impl Descendants {
    pub(super) fn new(child: i32, own_group: bool, channel: SupervisorEnd) -> Self {
        Self {
            child: Some(child),
            own_group,
            stops: 0,
            stop: None,
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
            self.stops = self.stops.wrapping_add(1);
            let stop = Stop {
                signal: libc::WSTOPSIG(status),
                number: self.stops,
            };
            self.stop = Some(stop);
            self.outbox.stopped(stop);
        } else if libc::WIFCONTINUED(status) {
            self.stop = None;
        } else {
            self.child = None;
            self.outbox.ended(Ending::from_wait_status(status));
        }
    }

    /// Sends a signal to the child's process group, or to the child alone where that has joined another's group. A child that
    /// has ended is left alone.
    pub(super) fn signal_child(&self, signal: i32) {
        let Some(child) = self.child else { return };
        // The child isn't reaped, so neither its pid nor its group's number can have been recycled.
        if !self.own_group || raw::kill(child.wrapping_neg(), signal).is_err() {
            let _ = raw::kill(child, signal);
        }
    }

    /// Continues the child, unless that has been done since the stop of that number.
    pub(super) fn continue_after(&mut self, stop: i32) {
        if self.still_in(stop).is_some() {
            self.signal_child(libc::SIGCONT);
        }
    }

    /// Reports the stop of that number again, unless the child has been continued since.
    pub(super) fn tell_again(&mut self, stop: i32) {
        if let Some(stop) = self.still_in(stop) {
            self.outbox.stopped(stop);
        }
    }

    fn still_in(&mut self, number: i32) -> Option<Stop> {
        // What has happened meanwhile.
        self.reap();
        self.stop.filter(|stop| stop.number == number)
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
