//! Reports of a running child, kept back while the host has too much to read.

use crate::execution::channel::{Ending, Report, Sent, Stop, SupervisorEnd};

/// Reports still to be sent. Of several stops only the last matters, and none once the child has ended.
#[derive(Debug)]
pub(super) struct Outbox {
    channel: SupervisorEnd,
    stop: Option<Report>,
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

    pub(super) fn stopped(&mut self, stop: Stop, obeyed: i32) {
        self.stop = Some(Report::Stopped(stop, obeyed));
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
            && self.channel.report(stop) == Sent::Done
        {
            self.stop = None;
        }
        if let Some(ending) = self.end
            && self.channel.report(Report::Ended(ending)) == Sent::Done
        {
            self.end = None;
        }
    }

    /// Waits until the end is sent: there is nothing else left to watch.
    pub(super) fn flush_in_any_case(&mut self) {
        if let Some(ending) = self.end.take() {
            self.channel.report_in_any_case(Report::Ended(ending));
        }
    }
}
