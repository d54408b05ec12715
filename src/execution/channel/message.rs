//! What host and supervisor say to each other, and how it looks as bytes.

use nix::unistd::Pid;

use crate::execution::failure::StartFailure;

/// What a supervisor says about its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The child runs its program.
    Started(Pid),
    /// The child couldn't be started.
    Failed(StartFailure),
    /// The child has been stopped by that signal.
    Stopped(i32),
    /// The child has ended by itself or was killed.
    Ended(Ending),
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
    /// What the status that wait4(2) gives for a process that has ended means.
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

impl Report {
    /// Bytes of a report.
    pub(crate) const SIZE: usize = 12;

    fn to_parts(self) -> [i32; 3] {
        match self {
            Self::Started(pid) => [STARTED, pid.as_raw(), 0],
            Self::Failed(failure) => {
                let [stage, errno] = failure.to_parts();
                [FAILED, stage, errno]
            }
            Self::Stopped(signal) => [STOPPED, signal, 0],
            Self::Ended(Ending::Exited(status)) => [EXITED, status, 0],
            Self::Ended(Ending::Killed(signal)) => [KILLED, signal, 0],
        }
    }

    fn from_parts(parts: [i32; 3]) -> Option<Self> {
        match parts {
            [STARTED, pid, 0] => Some(Self::Started(Pid::from_raw(pid))),
            [FAILED, stage, errno] => StartFailure::from_parts([stage, errno]).map(Self::Failed),
            [STOPPED, signal, 0] => Some(Self::Stopped(signal)),
            [EXITED, status, 0] => Some(Self::Ended(Ending::Exited(status))),
            [KILLED, signal, 0] => Some(Self::Ended(Ending::Killed(signal))),
            _ => None,
        }
    }

    /// The message, in native byte order.
    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l]] = self.to_parts().map(i32::to_ne_bytes);
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// `None` for what [`Self::to_bytes`] never makes.
    pub(crate) fn from_bytes(message: &[u8]) -> Option<Self> {
        let &[a, b, c, d, e, f, g, h, i, j, k, l] = message else {
            return None;
        };
        Self::from_parts([[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(i32::from_ne_bytes))
    }
}

/// What a host wants of its supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Send that signal to the child.
    Signal(i32),
    /// End every process of the tree. The host closes its side to say so, hence its death says so, too.
    End,
}

impl Order {
    /// Bytes of [`Self::Signal`].
    pub(crate) const SIZE: usize = 4;

    /// The message that is [`Self::Signal`].
    pub(crate) fn signal_to_bytes(signal: i32) -> [u8; Self::SIZE] {
        signal.to_ne_bytes()
    }

    /// What a message means; nothing received, or anything else, is the end.
    pub(crate) fn from_bytes(message: &[u8]) -> Self {
        match message.try_into() {
            Ok(signal) => Self::Signal(i32::from_ne_bytes(signal)),
            Err(_) => Self::End,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::execution::failure::tests::failures;
    use proptest::prelude::*;

    pub(in crate::execution::channel) fn reports() -> impl Strategy<Value = Report> {
        prop_oneof![
            any::<i32>().prop_map(|pid| Report::Started(Pid::from_raw(pid))),
            failures().prop_map(Report::Failed),
            any::<i32>().prop_map(Report::Stopped),
            any::<i32>().prop_map(|status| Report::Ended(Ending::Exited(status))),
            any::<i32>().prop_map(|signal| Report::Ended(Ending::Killed(signal))),
        ]
    }

    /// Bytes that nearly are a report: small numbers, in about the right number.
    fn near_misses() -> impl Strategy<Value = Vec<u8>> {
        let numbers = proptest::collection::vec(prop_oneof![-1..8, any::<i32>()], 0..5);
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
        fn nothing_but_what_is_sent_is_taken_for_a_report(
            bytes in prop_oneof![near_misses(), proptest::collection::vec(any::<u8>(), 0..16)],
        ) {
            if let Some(report) = Report::from_bytes(&bytes) {
                prop_assert_eq!(&report.to_bytes()[..], &bytes);
            }
        }

        #[test]
        fn every_signal_survives_the_trip(signal: i32) {
            prop_assert_eq!(Order::from_bytes(&Order::signal_to_bytes(signal)), Order::Signal(signal));
        }

        #[test]
        fn what_is_no_signal_is_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..9)) {
            prop_assume!(bytes.len() != Order::SIZE);
            prop_assert_eq!(Order::from_bytes(&bytes), Order::End);
        }
    }

    #[test]
    fn kinds_stages_and_lengths_that_do_not_exist_are_no_reports() {
        let garbage: [&[i32]; 9] = [
            &[],
            &[STARTED, 1],
            &[STARTED, 1, 1],
            &[STARTED, 1, 0, 0],
            &[0, 0, 0],
            &[6, 0, 0],
            &[FAILED, 0, libc::ENOENT],
            &[FAILED, 6, libc::ENOENT],
            &[FAILED, 1, 100_000],
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
