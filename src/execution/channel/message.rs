//! The messages between host and supervisor, and their bytes.

use nix::unistd::Pid;

use crate::execution::failure::StartFailure;

/// What a supervisor reports about its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The keeper is there, under this pid; always the first report, unless the guardian could not make one.
    Kept(Pid),
    /// The child runs its program.
    Started(Pid),
    /// The child couldn't be started.
    Failed(StartFailure),
    /// The child has been stopped, or it still is; the supervisor had obeyed so many orders that can continue it.
    Stopped(Stop, i32),
    /// The child has ended by itself or was killed.
    Ended(Ending),
    /// Nothing of the tree is left, and keeper and supervisor wait for another job; always the last report of a job.
    Emptied,
}

/// A stop of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// The signal that stopped it.
    pub(crate) signal: i32,
    /// Which of the child's stops this is, from 1 on; after so many that it doesn't fit, from there on again.
    pub(crate) number: i32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It exited with that status, 0 to 255.
    Exited(i32),
    /// That signal killed it.
    Killed(i32),
}

impl Ending {
    /// Decodes the wait status of a process that has ended.
    pub(crate) fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Killed(libc::WTERMSIG(status))
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }
}

/// Kinds of reports.
const STARTED: i32 = 1;
const FAILED: i32 = 2;
const STOPPED: i32 = 3;
const EXITED: i32 = 4;
const KILLED: i32 = 5;
const KEPT: i32 = 6;
const EMPTIED: i32 = 7;

impl Report {
    /// Size of a report in bytes.
    pub(crate) const SIZE: usize = 16;

    fn to_parts(self) -> [i32; 4] {
        match self {
            Self::Kept(pid) => [KEPT, pid.as_raw(), 0, 0],
            Self::Started(pid) => [STARTED, pid.as_raw(), 0, 0],
            Self::Failed(failure) => {
                let [stage, errno] = failure.to_parts();
                [FAILED, stage, errno, 0]
            }
            Self::Stopped(Stop { signal, number }, obeyed) => [STOPPED, signal, number, obeyed],
            Self::Ended(Ending::Exited(status)) => [EXITED, status, 0, 0],
            Self::Ended(Ending::Killed(signal)) => [KILLED, signal, 0, 0],
            Self::Emptied => [EMPTIED, 0, 0, 0],
        }
    }

    fn from_parts(parts: [i32; 4]) -> Option<Self> {
        match parts {
            [KEPT, pid, 0, 0] => Some(Self::Kept(Pid::from_raw(pid))),
            [STARTED, pid, 0, 0] => Some(Self::Started(Pid::from_raw(pid))),
            [FAILED, stage, errno, 0] => StartFailure::from_parts([stage, errno]).map(Self::Failed),
            [STOPPED, signal, number, obeyed] => Some(Self::Stopped(Stop { signal, number }, obeyed)),
            [EXITED, status, 0, 0] => Some(Self::Ended(Ending::Exited(status))),
            [KILLED, signal, 0, 0] => Some(Self::Ended(Ending::Killed(signal))),
            [EMPTIED, 0, 0, 0] => Some(Self::Emptied),
            _ => None,
        }
    }

    /// The message, in native byte order.
    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        for (place, part) in bytes.as_chunks_mut().0.iter_mut().zip(self.to_parts()) {
            *place = part.to_ne_bytes();
        }
        bytes
    }

    /// `None` for what [`Self::to_bytes`] never makes.
    pub(crate) fn from_bytes(message: &[u8]) -> Option<Self> {
        let (&[a, b, c, d], []) = message.as_chunks() else {
            return None;
        };
        Self::from_parts([a, b, c, d].map(i32::from_ne_bytes))
    }
}

/// What a host wants of its supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Send that signal to the child.
    Signal(i32),
    /// Continue the child if it is still in the stop of that number, or in one that a signal has caused that was ordered.
    Continue(i32),
    /// Send the child SIGCONT, unless it is in a stop that no signal has caused that was ordered.
    Resume,
    /// End every process of the tree. It is the end of the host's stream, so the host's death implies it.
    End,
}

impl Order {
    /// Size of the longest message in bytes.
    pub(crate) const SIZE: usize = 8;

    /// The message that is [`Self::Signal`].
    pub(crate) fn signal_to_bytes(signal: i32) -> [u8; 4] {
        signal.to_ne_bytes()
    }

    /// The message that is [`Self::Continue`].
    pub(crate) fn continue_to_bytes(stop: i32) -> [u8; 8] {
        about_stop(CONTINUE, stop)
    }

    /// The message that is [`Self::Resume`].
    pub(crate) fn resume_to_bytes() -> [u8; 8] {
        about_stop(RESUME, 0)
    }

    /// The order in a message; an empty message (end of stream) or one that is no other order is [`Self::End`].
    pub(crate) fn from_bytes(message: &[u8]) -> Self {
        let (numbers, _) = message.as_chunks();
        let number = |index: usize| numbers.get(index).copied().map(i32::from_ne_bytes);
        match (number(0), number(1), message.len()) {
            (Some(signal), None, 4) => Self::Signal(signal),
            (Some(CONTINUE), Some(stop), Self::SIZE) => Self::Continue(stop),
            (Some(RESUME), Some(0), Self::SIZE) => Self::Resume,
            _ => Self::End,
        }
    }
}

/// Kinds of orders about stops.
const CONTINUE: i32 = 1;
const RESUME: i32 = 2;

fn about_stop(kind: i32, stop: i32) -> [u8; 8] {
    let [[a, b, c, d], [e, f, g, h]] = [kind, stop].map(i32::to_ne_bytes);
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::execution::failure::tests::failures;
    use proptest::prelude::*;

    pub(in crate::execution::channel) fn reports() -> impl Strategy<Value = Report> {
        prop_oneof![
            any::<i32>().prop_map(|pid| Report::Kept(Pid::from_raw(pid))),
            any::<i32>().prop_map(|pid| Report::Started(Pid::from_raw(pid))),
            failures().prop_map(Report::Failed),
            any::<[i32; 3]>()
                .prop_map(|[signal, number, obeyed]| Report::Stopped(Stop { signal, number }, obeyed)),
            any::<i32>().prop_map(|status| Report::Ended(Ending::Exited(status))),
            Just(Report::Emptied),
            any::<i32>().prop_map(|signal| Report::Ended(Ending::Killed(signal))),
        ]
    }

    /// Bytes that are almost a report: about four numbers, often small ones.
    fn near_misses() -> impl Strategy<Value = Vec<u8>> {
        let numbers = proptest::collection::vec(prop_oneof![-1..8, any::<i32>()], 0..6);
        (numbers, 0..4_usize).prop_map(|(numbers, missing)| {
            let mut bytes: Vec<u8> = numbers.into_iter().flat_map(i32::to_ne_bytes).collect();
            bytes.truncate(bytes.len().saturating_sub(missing));
            bytes
        })
    }

    proptest! {
        #[test]
        fn every_report_survives_the_trip(report in reports()) {
            prop_assert_eq!(Report::from_bytes(&report.to_bytes()), Some(report));
        }

        #[test]
        fn only_bytes_of_reports_are_accepted(
            bytes in prop_oneof![near_misses(), proptest::collection::vec(any::<u8>(), 0..20)],
        ) {
            if let Some(report) = Report::from_bytes(&bytes) {
                prop_assert_eq!(&report.to_bytes()[..], &bytes);
            }
        }

        #[test]
        fn every_order_survives_the_trip(number: i32) {
            prop_assert_eq!(Order::from_bytes(&Order::signal_to_bytes(number)), Order::Signal(number));
            prop_assert_eq!(Order::from_bytes(&Order::continue_to_bytes(number)), Order::Continue(number));
            prop_assert_eq!(Order::from_bytes(&Order::resume_to_bytes()), Order::Resume);
        }

        #[test]
        fn any_other_message_is_an_order_to_end(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            prop_assume!(![4, 8].contains(&bytes.len()));
            prop_assert_eq!(Order::from_bytes(&bytes), Order::End);
        }
    }

    #[test]
    fn unknown_kinds_stages_and_lengths_are_rejected() {
        let garbage: [&[i32]; 10] = [
            &[],
            &[STARTED, 1, 0],
            &[STARTED, 1, 1, 0],
            &[STARTED, 1, 0, 0, 0],
            &[0, 0, 0, 0],
            &[8, 0, 0, 0],
            &[EMPTIED, 1, 0, 0],
            &[FAILED, 0, libc::ENOENT, 0],
            &[FAILED, 6, libc::ENOENT, 0],
            &[FAILED, 1, 100_000, 0],
        ];
        for numbers in garbage {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
            assert_eq!(Report::from_bytes(&bytes), None, "{numbers:?}");
        }
    }

    #[test]
    fn wait_statuses_are_read_as_the_c_library_reads_them() {
        assert_eq!(Ending::from_wait_status(7 << 8), Ending::Exited(7));
        assert_eq!(
            Ending::from_wait_status(libc::SIGKILL),
            Ending::Killed(libc::SIGKILL)
        );
        let dumped = 0x80 | libc::SIGSEGV;
        assert_eq!(Ending::from_wait_status(dumped), Ending::Killed(libc::SIGSEGV));
    }
}
