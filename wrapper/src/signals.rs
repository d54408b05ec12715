//! Which signals come from where, which stop, and which can kill. Numbers are those of the target system.

use rustix::process::Signal;

/// The largest signal number of Linux.
pub const LAST: i32 = 64;

/// A signal that has arrived for the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its number.
    pub signal: i32,
    /// Whether the kernel has sent it to the whole process group, on behalf of the group's terminal.
    pub of_terminal: bool,
    /// The process that has sent it, if one has and it has a pid here.
    pub sender: Option<i32>,
    /// With SIGCONT: how many stopped messages had been read when it came.
    pub stops: Option<i64>,
}

/// Signals that the kernel sends to a terminal's foreground group, or to what reads or writes in the background.
const OF_TERMINALS: [Signal; 8] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::CONT,
    Signal::TSTP,
    Signal::TTIN,
    Signal::TTOU,
    Signal::WINCH,
];

/// Signals that the kernel sends to a process over its own limits.
const OF_LIMITS: [Signal; 2] = [Signal::XCPU, Signal::XFSZ];

impl Arrival {
    /// That signal, with the code that tells its origin (sigaction(2), `si_code`), and the pid that stands there if a process is
    /// it. `None` for what is about this process alone.
    pub fn new(signal: i32, code: i32, pid: i32) -> Option<Self> {
        let is_among = |signals: &[Signal]| signals.iter().any(|one| one.as_raw() == signal);
        // Zero is kill(2), and other processes' codes are negative.
        let from_kernel = code > 0;
        let about_us = from_kernel && is_among(&OF_LIMITS);
        (!about_us).then(|| Self {
            signal,
            of_terminal: from_kernel && is_among(&OF_TERMINALS),
            sender: (!from_kernel && pid > 0).then_some(pid),
            stops: None,
        })
    }
}

/// Signals whose default action stops the process.
const STOPPING: [Signal; 4] = [Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU];

/// Signals whose default action is nothing at all.
const HARMLESS: [Signal; 4] = [Signal::CHILD, Signal::CONT, Signal::URG, Signal::WINCH];

/// A set of signals, bit N-1 for signal N, as the Linux kernel counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set(pub u64);

impl Set {
    /// All signals but the two that can't be caught.
    pub const CATCHABLE: Self = Self(!(1 << (Signal::KILL.as_raw() - 1) | 1 << (Signal::STOP.as_raw() - 1)));

    /// The set that has only that signal; empty if it is not a signal's number.
    pub fn only(signal: i32) -> Self {
        if is_signal(signal) {
            Self(1 << (signal - 1))
        } else {
            Self(0)
        }
    }

    /// Both sets' signals.
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The signals that aren't in `other`.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all signals of `other` are in this set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The signals, lowest first.
    pub fn iter(self) -> impl Iterator<Item = i32> {
        (1..=LAST).filter(move |&signal| self.contains(Self::only(signal)))
    }
}

/// Whether this is a signal's number.
pub fn is_signal(number: i32) -> bool {
    (1..=LAST).contains(&number)
}

/// Whether a process can be killed by that signal, so that raising it ends this process too.
pub fn is_deadly(signal: i32) -> bool {
    is_signal(signal)
        && !STOPPING
            .iter()
            .chain(&HARMLESS)
            .any(|harmless| harmless.as_raw() == signal)
}

/// Whether that signal stops by default, and can be caught.
pub fn is_stop_of_terminal(signal: i32) -> bool {
    signal != Signal::STOP.as_raw() && STOPPING.iter().any(|stopping| stopping.as_raw() == signal)
}

/// The signal by which the wrapper stops when its child was stopped by `signal`: the same one, so that the shell reports
/// the same, or SIGSTOP if that one stops no process by default.
pub fn stopping(signal: i32) -> i32 {
    if STOPPING.iter().any(|stopping| stopping.as_raw() == signal) {
        signal
    } else {
        Signal::STOP.as_raw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_the_first_and_the_last_signal() {
        let set = Set::only(1).with(Set::only(64));
        assert_eq!(set, Set(1 | 1 << 63));
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 64]);
        assert_eq!(set.without(Set::only(64)), Set::only(1));
        assert!(set.contains(Set::only(64)) && !set.contains(Set::only(15)));
        assert_eq!(set.with(Set::only(64)), set);
    }

    #[test]
    fn numbers_that_are_no_signals_make_an_empty_set() {
        for number in [i32::MIN, -1, 0, 65, i32::MAX] {
            assert!(Set::only(number).is_empty());
            assert!(!is_deadly(number));
        }
    }

    #[test]
    fn stops_and_ignored_signals_do_not_kill() {
        let harmless: Vec<i32> = (1..=LAST).filter(|&signal| !is_deadly(signal)).collect();
        assert_eq!(harmless, [17, 18, 19, 20, 21, 22, 23, 28]);
    }

    #[test]
    fn all_signals_but_two_can_be_caught() {
        let others: Vec<i32> = (1..=LAST)
            .filter(|&signal| !Set::CATCHABLE.contains(Set::only(signal)))
            .collect();
        assert_eq!(others, [9, 19]);
    }

    #[test]
    fn the_kernel_s_signals_are_told_from_those_of_processes() {
        const SI_USER: i32 = 0;
        const SI_TKILL: i32 = -6;
        const SI_KERNEL: i32 = 128;
        let of_terminal = |signal, code| Arrival::new(signal, code, 7).map(|arrival| arrival.of_terminal);
        assert_eq!(
            Arrival::new(2, SI_USER, 7).and_then(|arrival| arrival.sender),
            Some(7)
        );
        assert_eq!(
            Arrival::new(2, SI_USER, 0).and_then(|arrival| arrival.sender),
            None
        );
        assert_eq!(
            Arrival::new(2, SI_KERNEL, 7).and_then(|arrival| arrival.sender),
            None
        );
        for code in [SI_USER, SI_TKILL] {
            for signal in 1..=LAST {
                assert_eq!(of_terminal(signal, code), Some(false));
            }
        }
        // Ctrl-C; an alarm; too much time on the processor.
        assert_eq!(of_terminal(2, SI_KERNEL), Some(true));
        assert_eq!(of_terminal(14, SI_KERNEL), Some(false));
        assert_eq!(of_terminal(24, SI_KERNEL), None);
    }

    #[test]
    fn the_wrapper_stops_by_the_same_signal_where_it_can() {
        assert_eq!([19, 20, 21, 22, 9, 0].map(stopping), [19, 20, 21, 22, 19, 19]);
    }
}
