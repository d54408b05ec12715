//! An escalated child as its wrapper sees it: which signals are for it, of which stops the wrapper hears, and how it ends.

use nix::errno::Errno;
use nix::unistd::{Pid, getpgid};

use super::stops::{Continuation, Stops};
use crate::execution::{Ending, Placement, Stage, StartFailure, Stop, Tree, descends_from, is_stopped};
use crate::protocol::{ResultMessage, SignalMessage, StoppedMessage};

/// An escalated child, and how its wrapper stands to it.
pub(super) struct Child {
    pub(super) tree: Tree,
    /// Known once it runs.
    pub(super) pid: Option<Pid>,
    /// The wrapper sends signal frames and understands `stopped`.
    pub(super) signals: bool,
    pub(super) stops: Stops,
    /// The wrapper compares how many of its continuations have been read.
    pub(super) counts: bool,
    /// It was started in the wrapper's process group.
    pub(super) joined: bool,
    /// Where it was started.
    pub(super) group: Placement,
    /// Stops of the child are not to stop the wrapper's whole group: what was sent to the child's group has reached it already,
    /// or this process is in it.
    pub(super) alone: bool,
}

impl Child {
    /// Sends the child what has come to its wrapper. What continues the wrapper is most often for the group, and has continued a
    /// child in that group already: a second one could undo its next stop, of which the wrapper may not even have been told.
    /// Whatever stop a child is in after a SIGCONT is reported once more.
    pub(super) fn forward(&mut self, message: SignalMessage) {
        let continuation = if message.signal == libc::SIGCONT {
            self.stops.continued(message.stops)
        } else {
            Continuation::AnyHow
        };
        match continuation {
            Continuation::After(stop) if self.joined => self.tree.continue_after(Some(stop)),
            Continuation::BeforeIt if self.joined => self.tree.continue_after(None),
            // The terminal's signals have reached what is in the wrapper's group.
            _ if message.terminal && !self.has_left_group() => {}
            // The program has sent it to its group, to the wrapper as well as to itself.
            _ if self.has_sent_to_group(message.sender) => {}
            _ if self.joined && message.signal == libc::SIGCONT => self.tree.resume(),
            _ => self.tree.signal(message.signal),
        }
    }

    /// Whether that process is the child, or descends from it, and the child is in the wrapper's group: it has no other reason to
    /// send the wrapper signals.
    fn has_sent_to_group(&self, sender: Option<i64>) -> bool {
        let sender = sender.and_then(|sender| i32::try_from(sender).ok());
        let (Some(child), Some(sender)) = (self.pid.filter(|_| self.joined), sender) else {
            return false;
        };
        descends_from(Pid::from_raw(sender), child)
    }

    /// Whether the child isn't in the wrapper's group, or no longer: timeout(1) makes a group of its own unless it leads one.
    fn has_left_group(&self) -> bool {
        let group = self.pid.and_then(|child| getpgid(Some(child)).ok());
        !self.joined || group.is_some_and(|group| self.group != Placement::Group(group))
    }

    pub(super) fn stopped_message(&self, stop: Stop) -> StoppedMessage {
        StoppedMessage {
            stopped: stop.signal,
            alone: self.alone,
            continued: self.counts.then(|| self.stops.continuations()),
        }
    }

    /// Whether a wrapper has to hear of a stop. In the wrapper's group a SIGCONT may have continued both since, without this
    /// process, which may have been stopped with them.
    pub(super) fn is_to_stop_wrapper(&self) -> bool {
        self.signals && (!self.joined || self.pid.is_some_and(is_stopped))
    }
}

/// The message about the end of a child.
pub(super) fn result_of(ending: Ending) -> ResultMessage {
    match ending {
        Ending::Exited(code) => ResultMessage {
            exit_code: code,
            signal: None,
        },
        Ending::Killed(signal) => ResultMessage {
            exit_code: 128 + signal,
            signal: Some(signal),
        },
    }
}

/// The message about a child that could not be started. As in shells: 127 for a program that does not exist, 126 for one that cannot be executed.
pub(super) fn failure_result(failure: StartFailure) -> ResultMessage {
    let missing = matches!(failure.errno, Errno::ENOENT | Errno::ENOTDIR) && failure.stage == Stage::Execute;
    ResultMessage {
        exit_code: if missing { 127 } else { 126 },
        signal: None,
    }
}
