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
//! Runs in the supervisor: only [`raw`] calls here.

use super::raw::{self, Change};
use crate::files::{Identity, STATX_IDENTITY};

/// Lets a child go on that has executed a program while it was traced, if that is the program; else the child is ended, and
/// reaped.
pub(super) fn ends_well(child: i32, program: Identity) -> bool {
    let mut held_back = 0_u64;
    loop {
        match raw::next_change(child) {
            Ok(Change::Stopped(libc::SIGTRAP)) => {
                if !is_executing(child, program) {
                    let _ = raw::kill(child, libc::SIGKILL);
                    let _ = raw::wait4(child, 0);
                    return false;
                }
                let _ = raw::let_go(child);
                for signal in (1..=64).filter(|signal| held_back & (1 << (signal - 1)) != 0) {
                    let _ = raw::kill(child, signal);
                }
                return true;
            }
            // It was sent to the child before that has come so far.
            Ok(Change::Stopped(signal)) => {
                if (1..=64).contains(&signal) {
                    held_back |= 1 << (signal - 1);
                }
                let _ = raw::continue_traced(child);
            }
            // It is reaped like any other.
            Ok(Change::Ended) | Err(_) => return true,
        }
    }
}

/// Whether that program is what the process executes.
fn is_executing(process: i32, program: Identity) -> bool {
    raw::statx_executable(process, STATX_IDENTITY).is_ok_and(|found| Identity::of(&found) == program)
}
