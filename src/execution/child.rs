//! The child between clone and exec: descriptors, working directory, limits, signals, program.
//!
//! It borrows the supervisor's memory, which is the host's (CLONE_VM), while the supervisor sleeps (CLONE_VFORK). So it must
//! not allocate, lock, panic, or call into libc: only [`raw`].

use std::convert::Infallible;
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;

use nix::errno::Errno;

use super::descriptor_map::Step;
use super::exec_strings::ExecStrings;
use super::failure::{FailureSlot, Stage, StartFailure};
use super::identity::{Identity, STATX_IDENTITY};
use super::raw;
use super::stacks::StackTop;

/// What the child needs until it executes its program, made by the host.
#[derive(Debug)]
pub(crate) struct ChildSetup {
    /// How the child's descriptors get their numbers.
    pub(crate) steps: Vec<Step>,
    /// The program, opened with O_PATH, at its number after the steps.
    pub(crate) program: RawFd,
    /// What the host saw when it opened the program.
    pub(crate) identity: Identity,
    /// The program's name, for what can't be executed by descriptor, with arguments and environment.
    pub(crate) strings: ExecStrings,
    /// The working directory, opened with O_PATH, at its number after the steps.
    pub(crate) workdir: RawFd,
    pub(crate) umask: Option<u32>,
    /// Limit of open files that the child gets instead of the host's.
    pub(crate) open_files: Option<libc::rlimit64>,
    /// The process group that the child joins; 0 is a new one.
    pub(crate) group: i32,
    pub(crate) stack: StackTop,
    /// Why the start failed, written by the child; if the host has set it beforehand, no child is made.
    pub(crate) failure: FailureSlot,
}

/// Starts the child. Returns its pid as soon as it executes its program, or why it could not.
pub(crate) fn start(setup: &ChildSetup) -> Result<i32, StartFailure> {
    if let Some(known) = setup.failure.get() {
        return Err(known);
    }
    let argument = ptr::from_ref(setup).cast_mut().cast();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is the setup's own and nothing else runs on it; the child ends or executes before this returns.
    let child = unsafe { raw::clone_process(flags, setup.stack.as_ptr(), become_child, argument) }
        .map_err(at(Stage::Supervisor))?;
    match setup.failure.get() {
        None => Ok(child),
        Some(failure) => {
            let _ = raw::wait4(child, 0);
            Err(failure)
        }
    }
}

/// Entry of the child; `setup` is a [`ChildSetup`].
extern "C" fn become_child(setup: *mut c_void) -> c_int {
    // SAFETY: see `start`.
    let setup = unsafe { &*setup.cast::<ChildSetup>() };
    let Err(failure) = enter_program(setup);
    setup.failure.set(failure);
    127
}

/// Returns only on failure.
fn enter_program(setup: &ChildSetup) -> Result<Infallible, StartFailure> {
    // If the supervisor is killed, the child at least dies with it.
    raw::follow_parent_into_death().map_err(at(Stage::Supervisor))?;
    raw::setpgid(setup.group).map_err(at(Stage::Supervisor))?;
    for &step in &setup.steps {
        carry_out(step).map_err(at(Stage::Descriptors))?;
    }
    raw::fchdir(setup.workdir).map_err(at(Stage::Workdir))?;
    if let Some(mask) = setup.umask {
        raw::umask(mask);
    }
    if let Some(limit) = &setup.open_files {
        raw::set_open_file_limit(limit).map_err(at(Stage::Supervisor))?;
    }
    raw::unblock_all().map_err(at(Stage::Supervisor))?;
    Err(execute(setup))
}

fn carry_out(step: Step) -> raw::Result<()> {
    match step {
        Step::Move { from, to } => raw::dup3(from, to, libc::O_CLOEXEC),
        Step::Place { from, to } => raw::dup3(from, to, 0),
        Step::Keep { number } => raw::clear_close_on_exec(number),
    }
}

/// Executes the file that was opened, not whatever has its name now. Returns only on failure.
fn execute(setup: &ChildSetup) -> StartFailure {
    const SWAPPED: StartFailure = StartFailure {
        stage: Stage::Swapped,
        errno: Errno::ESTALE,
    };
    let strings = &setup.strings;
    let mut errno = raw::execveat(setup.program, strings.argv(), strings.environment());
    if errno == Errno::ENOENT {
        // A `#!` script behind a close-on-exec descriptor: its interpreter has to open it by name. So make sure, as late
        // as possible, that the name still means the same file.
        if !is_same_file(setup) {
            return SWAPPED;
        }
        errno = raw::execve(strings.path(), strings.argv(), strings.environment());
    }
    if errno == Errno::ENOEXEC {
        // As execvp(3) does it.
        if !is_same_file(setup) {
            return SWAPPED;
        }
        errno = raw::execve(strings.shell(), strings.shell_argv(), strings.environment());
    }
    at(Stage::Execute)(errno)
}

fn is_same_file(setup: &ChildSetup) -> bool {
    raw::statx(setup.strings.path(), STATX_IDENTITY).is_ok_and(|found| Identity::of(&found) == setup.identity)
}

fn at(stage: Stage) -> impl Fn(Errno) -> StartFailure {
    move |errno| StartFailure { stage, errno }
}
