//! Reports of a running child, kept back while the host has too much to read.

use crate::execution::channel::{Ending, Report, Sent, Stop, SupervisorEnd};
use crate::execution::raw;

/// Reports still to be sent. Of several stops only the last matters, and none once the child has ended.
#[derive(Debug)]
pub(super) struct Outbox {
    channel: SupervisorEnd,
    stop: Option<Stop>,
    end: Option<Ending>,
}

impl Outbox {
    pub(super) fn new(channel: SupervisorEnd) -> Self {
        Self {
            channel,
            stop: None,
            end: None,
        }
    }

    pub(super) fn channel(&self) -> SupervisorEnd {
        self.channel
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stop.is_none() && self.end.is_none()
    }

    pub(super) fn stopped(&mut self, stop: Stop) {
        self.stop = Some(stop);
        self.flush();
    }

    pub(super) fn ended(&mut self, ending: Ending) {
        self.stop = None;
        self.end = Some(ending);
        self.flush();
    }

    /// Sends as much as the channel has room for.
    pub(super) fn flush(&mut self) {
        if let Some(stop) = self.stop
            && self.channel.report(Report::Stopped(stop)) == Sent::Done
        {
            self.stop = None;
        }
        if let Some(ending) = self.end
            && self.channel.report(Report::Ended(ending)) == Sent::Done
        {
            self.end = None;
        }
    }

    /// Waits until the end is sent, however slowly the host reads: there is nothing else left to watch.
    pub(super) fn flush_blocking(&mut self) {
        self.flush();
        while self.end.is_some() {
            let mut watched = [raw::pollfd(self.channel.descriptor(), libc::POLLOUT)];
            if raw::ppoll(&mut watched).is_err() || watched[0].revents & (libc::POLLHUP | libc::POLLERR) != 0
            {
                return;
            }
            self.flush();
        }
    }
}
