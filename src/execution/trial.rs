//! A program that is executed by its name, and looked at before its first instruction: whether it is what was decided on.
//!
//! The name may lead to another file at any moment, so it can't be compared before the execve. A traced process stops right
//! after it, and what has been executed is seen then. A process that is executed by descriptor needs none of this, but shows
//! it: AT_EXECFN is `/dev/fd/N`, from which programs that are one file with many names take the name.
//!
//! Other ways: a mount namespace in which the name can't be changed needs privilege, and the child would be left in it; the
//! string of AT_EXECFN could be overwritten in a traced process, which is this and more. A traced execve gives a setuid program
//! no privilege (unless the tracer has it anyway), so such a program is executed by descriptor.
//!
//! # Signals
//!
//! A traced process stops for every signal, and while it borrows the supervisor's memory nothing but the supervisor can let it
//! go on. So that doesn't sleep meanwhile, unlike for a process that isn't traced. The child blocks all signals until it executes
//! its program: they stay pending, as they were sent, until the program has been looked at. Three can't be blocked or are not:
//! SIGSTOP, which is held back; SIGCONT, which takes that back, as it would; and SIGTRAP, by which the child stops once before it
//! executes anything, so that the supervisor can set its options.
//!
//! Runs in the supervisor, and [`stand`] in the child: only [`raw`] calls here.

use super::raw::{self, Change};
use crate::files::{Identity, STATX_IDENTITY};

/// How the trial of a child has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It executes the program, or was ended by somebody else; it is reaped like any other.
    Accepted,
    /// It has executed something else, and is reaped.
    Rejected,
    /// It has ended by itself, before it executed anything, and is reaped.
    NotExecuted,
}

/// Has this child traced by the supervisor, which is in [`judge`].
///
/// # Errors
/// If something forbids that, or another process traces it.
pub(super) fn stand() -> raw::Result<()> {
    raw::block_all_but(&[libc::SIGCONT, libc::SIGTRAP])?;
    raw::be_traced()?;
    // Unlike SIGSTOP, no other signal can take this back.
    raw::kill(raw::getpid(), libc::SIGTRAP)
}

/// Lets a child go on that has executed a program while it was traced, if that is the program; else the child is ended, and
/// reaped.
pub(super) fn judge(child: i32, program: Identity) -> Outcome {
    // The first SIGTRAP is the child's own.
    let (mut stands, mut held_back) = (false, 0_u64);
    loop {
        match raw::next_change(child) {
            Ok(Change::Executed) if is_executing(child, program) => {
                let _ = raw::unblock_all_of(child);
                let _ = raw::let_go(child);
                for signal in [libc::SIGTRAP, libc::SIGSTOP] {
                    if held_back & bit(signal) != 0 {
                        let _ = raw::kill(child, signal);
                    }
                }
                return Outcome::Accepted;
            }
            Ok(Change::Executed) => return reject(child),
            Ok(Change::Stopped(libc::SIGTRAP)) if !stands => {
                if raw::end_with_this(child).is_err() {
                    return reject(child);
                }
                stands = true;
                let _ = raw::continue_traced(child);
            }
            // A child that is not traced yet stays stopped until it is continued.
            Ok(Change::Stopped(signal)) if raw::continue_traced(child).is_ok() => {
                held_back = match signal {
                    libc::SIGSTOP | libc::SIGTRAP => held_back | bit(signal),
                    _ => held_back & !bit(libc::SIGSTOP),
                };
            }
            Ok(Change::Stopped(_)) => {}
            Ok(Change::Exited) => {
                let _ = raw::wait4(child, 0);
                return Outcome::NotExecuted;
            }
            Ok(Change::Killed) | Err(_) => return Outcome::Accepted,
        }
    }
}

fn reject(child: i32) -> Outcome {
    let _ = raw::kill(child, libc::SIGKILL);
    let _ = raw::wait4(child, 0);
    Outcome::Rejected
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Whether that program is what the process executes.
fn is_executing(process: i32, program: Identity) -> bool {
    raw::statx_executable(process, STATX_IDENTITY).is_ok_and(|found| Identity::of(&found) == program)
}
