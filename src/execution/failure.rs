//! Why a child could not be started.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

/// At which step a start failed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StartFailure {
    pub(crate) stage: Stage,
    pub(crate) errno: Errno,
}

/// The steps of a start. The channel carries their numbers; 0 is not a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Stage {
    /// Making the process, or detaching it from the host.
    Supervisor = 1,
    /// Putting the descriptors in place.
    Descriptors,
    /// Entering the working directory.
    Workdir,
    /// Making sure that the program is still the file that the decision was about.
    Swapped,
    /// Executing the program.
    Execute,
}

impl Stage {
    pub(crate) const ALL: [Self; 5] = [
        Self::Supervisor,
        Self::Descriptors,
        Self::Workdir,
        Self::Swapped,
        Self::Execute,
    ];

    fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|&stage| stage as i32 == number)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Supervisor => "creating the process",
            Self::Descriptors => "placing the descriptors",
            Self::Workdir => "entering the working directory",
            Self::Swapped => "checking the program",
            Self::Execute => "executing the program",
        })
    }
}

impl StartFailure {
    pub(crate) fn to_parts(self) -> [i32; 2] {
        [self.stage as i32, self.errno as i32]
    }

    /// `None` for what [`Self::to_parts`] never makes.
    pub(crate) fn from_parts([stage, errno]: [i32; 2]) -> Option<Self> {
        let failure = Self {
            stage: Stage::from_number(stage)?,
            errno: Errno::from_raw(errno),
        };
        (failure.to_parts() == [stage, errno]).then_some(failure)
    }
}

/// Where a child leaves its failure for the supervisor, whose memory it shares.
#[derive(Debug)]
pub(crate) struct FailureSlot(AtomicU64);

impl FailureSlot {
    pub(crate) fn new(failure: Option<StartFailure>) -> Self {
        Self(AtomicU64::new(failure.map_or(0, pack)))
    }

    pub(crate) fn set(&self, failure: StartFailure) {
        self.0.store(pack(failure), Ordering::Release);
    }

    pub(crate) fn get(&self) -> Option<StartFailure> {
        let packed = self.0.load(Ordering::Acquire);
        StartFailure::from_parts([(packed >> 32) as i32, packed as i32])
    }
}

fn pack(failure: StartFailure) -> u64 {
    let [stage, errno] = failure.to_parts();
    u64::from(stage.cast_unsigned()) << 32 | u64::from(errno.cast_unsigned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any failure with an errno that Linux has.
    pub(crate) fn failures() -> impl Strategy<Value = StartFailure> {
        let stages = proptest::sample::select(&Stage::ALL[..]);
        (stages, 0..=133).prop_map(|(stage, errno)| StartFailure {
            stage,
            errno: Errno::from_raw(errno),
        })
    }

    proptest! {
        #[test]
        fn a_slot_returns_what_was_put_in_and_overwrites_what_was_there(
            first in proptest::option::of(failures()), then in failures(),
        ) {
            let slot = FailureSlot::new(first);
            prop_assert_eq!(slot.get(), first);
            slot.set(then);
            prop_assert_eq!(slot.get(), Some(then));
        }
    }
}
