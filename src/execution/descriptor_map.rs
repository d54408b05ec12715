//! Plans how a child's descriptors get their numbers: any permutation, overlap or identity, in two phases.
//!
//! The plan is made by the host, which may allocate memory; the child only carries it out. Phase one moves descriptors away
//! from numbers that others are to get; phase two puts each descriptor on its number.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::RawFd;

use nix::sys::resource::{Resource, getrlimit};

/// Why descriptor numbers are refused; no child is started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MapError {
    /// There must be as many numbers as descriptors.
    #[error("{numbers} descriptor numbers for {descriptors} descriptors")]
    CountMismatch {
        /// Numbers in the message.
        numbers: usize,
        /// Descriptors that came with it.
        descriptors: usize,
    },
    /// More than the protocol allows.
    #[error("{0} descriptors, more than the protocol allows")]
    TooMany(usize),
    /// Negative, or not below the limit of open files.
    #[error("descriptor number {0} is out of range (the limit of open files is {1})")]
    Impossible(i64, u64),
    /// Two descriptors can't have the same number.
    #[error("descriptor number {0} is given twice")]
    Duplicate(RawFd),
    /// No number is left to move a descriptor to.
    #[error("no free descriptor number below the limit of open files")]
    NoRoom,
}

/// One system call of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// dup3(from, to, O_CLOEXEC): out of the way.
    Move {
        /// A descriptor that is open.
        from: RawFd,
        /// A number that is free.
        to: RawFd,
    },
    /// dup2(from, to): to its place, inheritable.
    Place {
        /// A descriptor that is open.
        from: RawFd,
        /// Its number in the child.
        to: RawFd,
    },
    /// Already in place; clear close-on-exec only (`dup2(n, n)` would leave it set).
    Keep {
        /// The number.
        number: RawFd,
    },
}

/// The steps, and where they leave the descriptors that the child itself needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// Where each of the `needed` descriptors is to be found after the steps.
    pub(crate) needed: Vec<RawFd>,
}

/// The soft limit of open files (RLIMIT_NOFILE) of this process: it can open numbers below that only.
pub(crate) fn open_file_limit() -> io::Result<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(soft)
}

/// Checks the numbers of a message: as many as descriptors, each in range, none twice.
///
/// # Errors
/// The first number that is out of range or duplicate, or a wrong count.
pub(crate) fn check_numbers(
    numbers: &[i64],
    descriptors: usize,
    open_files: u64,
) -> Result<Vec<RawFd>, MapError> {
    if numbers.len() != descriptors {
        return Err(MapError::CountMismatch {
            numbers: numbers.len(),
            descriptors,
        });
    }
    let mut seen = BTreeSet::new();
    let mut checked = Vec::with_capacity(numbers.len());
    for &number in numbers {
        let possible = RawFd::try_from(number)
            .ok()
            .filter(|&number| number >= 0 && u64::try_from(number).is_ok_and(|number| number < open_files));
        let number = possible.ok_or(MapError::Impossible(number, open_files))?;
        if !seen.insert(number) {
            return Err(MapError::Duplicate(number));
        }
        checked.push(number);
    }
    Ok(checked)
}

/// Plans for `map` (source, destination); `needed` are descriptors that the child uses until it executes, and that must
/// stay close-on-exec; `others` are numbers in use that don't matter to the child but are open.
///
/// Destinations must differ from each other. Sources, `needed` and `others` are what is open, and all of it.
pub(crate) fn plan(
    map: &[(RawFd, RawFd)],
    needed: &[RawFd],
    others: &[RawFd],
    open_files: u64,
) -> Result<Plan, MapError> {
    let destinations: BTreeSet<RawFd> = map.iter().map(|&(_, to)| to).collect();
    let mut taken: BTreeSet<RawFd> = destinations.clone();
    taken.extend(map.iter().map(|&(from, _)| from));
    taken.extend(needed.iter().chain(others));
    let mut next = 0;
    let mut free_number = || {
        while taken.contains(&next) {
            next += 1;
        }
        taken.insert(next);
        if u64::try_from(next).is_ok_and(|next| next < open_files) {
            Ok(next)
        } else {
            Err(MapError::NoRoom)
        }
    };
    let mut steps = Vec::new();
    let mut moved: Vec<(RawFd, RawFd)> = Vec::new();
    let mut out_of_the_way = |from: RawFd, steps: &mut Vec<Step>| {
        // A source may come twice: two numbers may get the same file.
        if let Some(&(_, to)) = moved.iter().find(|&&(source, _)| source == from) {
            return Ok(to);
        }
        let to = free_number()?;
        steps.push(Step::Move { from, to });
        moved.push((from, to));
        Ok(to)
    };

    let mut needed_at = Vec::with_capacity(needed.len());
    for &descriptor in needed {
        needed_at.push(if destinations.contains(&descriptor) {
            out_of_the_way(descriptor, &mut steps)?
        } else {
            descriptor
        });
    }
    let mut sources = Vec::with_capacity(map.len());
    for &(from, to) in map {
        sources.push(if from != to && destinations.contains(&from) {
            out_of_the_way(from, &mut steps)?
        } else {
            from
        });
    }
    // Identities first: from then on every other destination may be overwritten.
    for (&(_, to), &from) in map.iter().zip(&sources) {
        steps.push(if from == to {
            Step::Keep { number: to }
        } else {
            Step::Place { from, to }
        });
    }
    Ok(Plan {
        steps,
        needed: needed_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A descriptor table in memory: number → (file, close-on-exec).
    type Table = BTreeMap<RawFd, (RawFd, bool)>;

    fn carry_out(table: &mut Table, steps: &[Step]) {
        for &step in steps {
            match step {
                Step::Move { from, to } => {
                    assert!(!table.contains_key(&to), "{to} was not free");
                    let (file, _) = table[&from];
                    table.insert(to, (file, true));
                }
                Step::Place { from, to } => {
                    assert_ne!(from, to, "dup2 of a number to itself changes nothing");
                    let (file, _) = table[&from];
                    table.insert(to, (file, false));
                }
                Step::Keep { number } => table.get_mut(&number).unwrap().1 = false,
            }
        }
    }

    /// Distinct sources, distinct destinations, distinct needed ones: small numbers, so that they overlap a lot.
    fn maps() -> impl Strategy<Value = (Vec<(RawFd, RawFd)>, Vec<RawFd>)> {
        let numbers = proptest::sample::subsequence((0..24).collect::<Vec<RawFd>>(), 0..=18).prop_shuffle();
        let destinations = proptest::sample::subsequence((0..24).collect::<Vec<RawFd>>(), 16).prop_shuffle();
        (numbers, destinations).prop_map(|(mut open, destinations)| {
            let needed = open.split_off(open.len().saturating_sub(2));
            (open.into_iter().zip(destinations).collect(), needed)
        })
    }

    proptest! {
        #[test]
        fn every_descriptor_gets_its_number((map, needed) in maps()) {
            let mut table: Table = map.iter().map(|&(from, _)| from).chain(needed.iter().copied())
                .map(|number| (number, (number, true))).collect();
            let plan = plan(&map, &needed, &[], 64).unwrap();
            carry_out(&mut table, &plan.steps);
            for (&descriptor, at) in needed.iter().zip(&plan.needed) {
                prop_assert_eq!(table[at], (descriptor, true));
            }
            let inherited: BTreeMap<RawFd, RawFd> =
                table.iter().filter(|(_, entry)| !entry.1).map(|(&number, entry)| (number, entry.0)).collect();
            let expected: BTreeMap<RawFd, RawFd> = map.iter().map(|&(from, to)| (to, from)).collect();
            prop_assert_eq!(inherited, expected);
        }
    }

    #[test]
    fn identities_only_lose_close_on_exec() {
        let plan = plan(&[(5, 5)], &[7], &[], 64).unwrap();
        assert_eq!(
            plan,
            Plan {
                steps: vec![Step::Keep { number: 5 }],
                needed: vec![7]
            }
        );
    }

    #[test]
    fn one_file_may_have_two_numbers() {
        let plan = plan(&[(5, 6), (5, 7)], &[], &[], 64).unwrap();
        assert_eq!(
            plan.steps,
            [Step::Place { from: 5, to: 6 }, Step::Place { from: 5, to: 7 }]
        );
    }

    #[test]
    fn without_a_free_number_a_swap_is_refused() {
        // Both sources must get out of the way first.
        for limit in [2, 3] {
            assert_eq!(plan(&[(0, 1), (1, 0)], &[], &[], limit), Err(MapError::NoRoom));
        }
        assert!(plan(&[(0, 1), (1, 0)], &[], &[], 4).is_ok());
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert_eq!(check_numbers(&[0, 63], 2, 64), Ok(vec![0, 63]));
        assert_eq!(
            check_numbers(&[0], 2, 64),
            Err(MapError::CountMismatch {
                numbers: 1,
                descriptors: 2
            })
        );
        assert_eq!(check_numbers(&[-1], 1, 64), Err(MapError::Impossible(-1, 64)));
        assert_eq!(check_numbers(&[64], 1, 64), Err(MapError::Impossible(64, 64)));
        assert_eq!(
            check_numbers(&[1 << 32], 1, 64),
            Err(MapError::Impossible(1 << 32, 64))
        );
        assert_eq!(check_numbers(&[3, 3], 2, 64), Err(MapError::Duplicate(3)));
    }
}
