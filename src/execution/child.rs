//! The child between clone and exec: descriptors, working directory, limits, signals, program.
//!
//! It borrows the supervisor's memory (CLONE_VM) while the supervisor sleeps (CLONE_VFORK) or waits for it (see [`trial`]). So it
//! must not allocate, lock, panic, or call into libc: only [`raw`].

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::attributes::Attributes;
use super::descriptor_map::Step;
use super::exec_strings::{ExecStrings, SHELL};
use super::executable::{Scripts, TEXT_SAMPLE, is_text};
use super::failure::{FailureSlot, SWAPPED, Stage, StartFailure};
use super::parcel::{Reader, Writer};
use super::raw;
use super::stacks::StackTop;
use super::trial::{self, Outcome};
use crate::files::{Identity, STATX_IDENTITY};

/// What the child needs until it executes its program.
#[derive(Debug)]
pub(super) struct ChildSetup<'a> {
    /// How the child's descriptors get their numbers.
    steps: &'a [u64],
    /// The program, opened with O_PATH, at its number after the steps.
    program: RawFd,
    scripts: Scripts,
    /// What the host saw when it opened the program.
    identity: Identity,
    /// The program's name, for what can't be executed by descriptor, with arguments and environment.
    strings: ExecStrings<'a>,
    /// Whether to execute it by name and look afterwards what has been executed, see [`super::trial`].
    on_trial: AtomicBool,
    /// The working directory, opened with O_PATH, at its number after the steps.
    workdir: RawFd,
    umask: Option<u32>,
    /// Resource, soft limit and hard limit, for each that differs from the host's.
    limits: &'a [u64],
    /// The signals that the child ignores, bit N-1 for signal N.
    ignored: u64,
    /// The child's niceness, unless the host's is higher.
    nice: Option<i32>,
    /// The process group that the child joins; 0 is a new one.
    group: i32,
    /// Whether that group becomes the foreground of the terminal that is the child's standard input.
    foreground: bool,
    pub(super) stack: StackTop,
    /// Why the start failed, written by the child; if the host has set it beforehand, no child is made.
    failure: FailureSlot,
}

/// The same as the host knows it.
#[derive(Debug)]
pub(super) struct ChildPlan<'a> {
    pub(super) steps: &'a [Step],
    pub(super) program: RawFd,
    pub(super) scripts: Scripts,
    pub(super) on_trial: bool,
    pub(super) identity: Identity,
    pub(super) workdir: RawFd,
    pub(super) umask: Option<u32>,
    pub(super) attributes: &'a Attributes,
    pub(super) group: i32,
    pub(super) foreground: bool,
    pub(super) failure: Option<StartFailure>,
}

/// Kinds of steps.
const MOVE: i32 = 1;
const PLACE: i32 = 2;
const KEEP: i32 = 3;
/// Words of a step.
const STEP: usize = 3;
/// Words of a limit.
const LIMIT: usize = 3;

impl ChildPlan<'_> {
    /// Packs everything but the strings, which come behind.
    pub(super) fn pack(&self, writer: &mut Writer) {
        writer.word(self.steps.len() as u64);
        for &step in self.steps {
            let parts = match step {
                Step::Move { from, to } => [MOVE, from, to],
                Step::Place { from, to } => [PLACE, from, to],
                Step::Keep { number } => [KEEP, number, number],
            };
            parts.into_iter().for_each(|part| writer.number(part));
        }
        writer.number(self.program);
        writer.number(self.scripts as i32);
        writer.number(i32::from(self.on_trial));
        self.identity
            .to_words()
            .into_iter()
            .for_each(|word| writer.word(word));
        writer.number(self.workdir);
        writer.number(i32::from(self.umask.is_some()));
        writer.word(self.umask.unwrap_or_default().into());
        let Attributes {
            limits,
            ignored,
            nice,
        } = self.attributes;
        writer.word(limits.len() as u64);
        for limit in limits {
            [limit.resource.into(), limit.soft, limit.hard]
                .into_iter()
                .for_each(|word| writer.word(word));
        }
        writer.word(*ignored);
        writer.number(i32::from(nice.is_some()));
        writer.number(nice.unwrap_or_default());
        writer.number(self.group);
        writer.number(i32::from(self.foreground));
        let failure = self.failure.map_or([0, 0], StartFailure::to_parts);
        failure.into_iter().for_each(|part| writer.number(part));
    }
}

impl<'a> ChildSetup<'a> {
    /// What [`ChildPlan::pack`] and [`ExecStrings::pack`] have packed.
    pub(super) fn unpack(reader: &mut Reader<'a>, stack: StackTop) -> Option<Self> {
        let steps = usize::try_from(reader.word()?).ok()?;
        let steps = reader.words(steps.checked_mul(STEP)?)?;
        let program = reader.number()?;
        let scripts = Scripts::from_number(reader.number()?)?;
        let on_trial = AtomicBool::new(reader.number()? != 0);
        let identity = Identity::from_words(reader.words(Identity::WORDS)?.try_into().ok()?);
        let workdir = reader.number()?;
        let (has_umask, umask) = (reader.number()? != 0, reader.word()?);
        let limits = usize::try_from(reader.word()?).ok()?;
        let limits = reader.words(limits.checked_mul(LIMIT)?)?;
        let ignored = reader.word()?;
        let (has_nice, nice) = (reader.number()? != 0, reader.number()?);
        let group = reader.number()?;
        let foreground = reader.number()? != 0;
        let failure = [reader.number()?, reader.number()?];
        Some(Self {
            steps,
            program,
            scripts,
            on_trial,
            identity,
            strings: ExecStrings::unpack(reader)?,
            workdir,
            umask: u32::try_from(umask).ok().filter(|_| has_umask),
            limits,
            ignored,
            nice: has_nice.then_some(nice),
            group,
            foreground,
            stack,
            failure: FailureSlot::new(StartFailure::from_parts(failure)),
        })
    }
}

/// Starts the child. Returns its pid as soon as it executes its program, or why it could not.
pub(super) fn start(setup: &ChildSetup<'_>) -> Result<i32, StartFailure> {
    if let Some(known) = setup.failure.get() {
        return Err(known);
    }
    if setup.on_trial.load(Ordering::Relaxed) {
        let child = make(setup, 0)?;
        match trial::judge(child, setup.identity) {
            Outcome::Accepted => return Ok(child),
            Outcome::Rejected => {}
            Outcome::NotExecuted => {
                if let Some(failure) = setup.failure.get() {
                    return Err(failure);
                }
            }
        }
        // It can't be traced, or something else has that name, or is what executes such files. The file itself is what was
        // decided on.
        setup.on_trial.store(false, Ordering::Relaxed);
    }
    // Until the child executes its program or ends, the supervisor sleeps.
    let child = make(setup, libc::CLONE_VFORK)?;
    match setup.failure.get() {
        None => Ok(child),
        Some(failure) => {
            let _ = raw::wait4(child, 0);
            Err(failure)
        }
    }
}

fn make(setup: &ChildSetup<'_>, sleep: c_int) -> Result<i32, StartFailure> {
    let argument = ptr::from_ref(setup).cast_mut().cast();
    let flags = libc::CLONE_VM | sleep | libc::SIGCHLD;
    // SAFETY: the stack is the setup's own and nothing else runs on it; the setup stays until the child ends or executes.
    unsafe { raw::clone_process(flags, setup.stack.as_ptr(), become_child, argument) }
        .map_err(at(Stage::Supervisor))
}

/// Entry of the child; `setup` is a [`ChildSetup`].
extern "C" fn become_child(setup: *mut c_void) -> c_int {
    // SAFETY: see `start`.
    let setup = unsafe { &*setup.cast::<ChildSetup<'_>>() };
    match enter_program(setup) {
        Ok(Untried) => {}
        Err(failure) => setup.failure.set(failure),
    }
    127
}

/// What should have been traced can't be.
struct Untried;

/// Returns only if it has failed, or must be tried in another way.
fn enter_program(setup: &ChildSetup<'_>) -> Result<Untried, StartFailure> {
    // If the supervisor is killed, the child at least dies with it.
    raw::follow_parent_into_death().map_err(at(Stage::Supervisor))?;
    raw::setpgid(setup.group).map_err(at(Stage::Supervisor))?;
    for step in setup.steps.chunks_exact(STEP) {
        carry_out(step).map_err(at(Stage::Descriptors))?;
    }
    if setup.foreground {
        raw::set_foreground(0, raw::getpid()).map_err(at(Stage::Supervisor))?;
    }
    raw::fchdir(setup.workdir).map_err(at(Stage::Workdir))?;
    if let Some(mask) = setup.umask {
        raw::umask(mask);
    }
    take_attributes(setup).map_err(at(Stage::Supervisor))?;
    if !setup.on_trial.load(Ordering::Relaxed) {
        raw::unblock_all().map_err(at(Stage::Supervisor))?;
    } else if trial::stand().is_err() {
        return Ok(Untried);
    }
    Err(execute(setup))
}

fn take_attributes(setup: &ChildSetup<'_>) -> raw::Result<()> {
    raw::ignore(setup.ignored)?;
    if let Some(nice) = setup.nice {
        raw::be_at_least_as_nice(nice)?;
    }
    for limit in setup.limits.chunks_exact(LIMIT) {
        let &[resource, soft, hard] = limit else {
            return Err(Errno::EBADMSG);
        };
        let limit = libc::rlimit64 {
            rlim_cur: soft,
            rlim_max: hard,
        };
        raw::set_limit(resource as u32, &limit)?;
    }
    Ok(())
}

fn carry_out(step: &[u64]) -> raw::Result<()> {
    let &[kind, from, to] = step else {
        return Err(Errno::EBADMSG);
    };
    let [kind, from, to] = [kind, from, to].map(|part| part as i32);
    match kind {
        MOVE => raw::dup3(from, to, libc::O_CLOEXEC),
        PLACE => raw::dup3(from, to, 0),
        KEEP => raw::clear_close_on_exec(to),
        _ => Err(Errno::EBADMSG),
    }
}

/// Executes the file that was opened, not whatever has its name now. Returns only on failure.
///
/// By its name where that is possible: the program can see how it was executed (AT_EXECFN, and its name in ps(1) before
/// Linux 6.14), and some are one file with many names.
fn execute(setup: &ChildSetup<'_>) -> StartFailure {
    let strings = &setup.strings;
    let by_name = || raw::execve(strings.path, strings.argv, strings.environment);
    let by_descriptor = || raw::execveat(setup.program, strings.argv, strings.environment);
    if setup.on_trial.load(Ordering::Relaxed) {
        // If that fails, what follows is on trial as well.
        by_name();
    }
    // Only root could make the name mean another file, or what the user trusts with a script in place: no reason to execute it.
    let has_its_name = setup.scripts == Scripts::ByName && is_same_file(setup);
    let mut errno = if has_its_name { by_name() } else { by_descriptor() };
    if !matches!(errno, Errno::ENOENT | Errno::ENOEXEC) {
        return at(Stage::Execute)(errno);
    }
    // A text: ENOENT says that it has an interpreter, which couldn't open a close-on-exec descriptor.
    match setup.scripts {
        Scripts::ByName => {
            if !has_its_name || !is_same_file(setup) {
                return SWAPPED;
            }
        }
        Scripts::ByDescriptor => {
            if let Err(errno) = raw::clear_close_on_exec(setup.program) {
                return at(Stage::Descriptors)(errno);
            }
            if errno == Errno::ENOENT {
                errno = by_descriptor();
            }
        }
        Scripts::Never => {}
    }
    if errno == Errno::ENOEXEC && setup.scripts != Scripts::Never && holds_text(setup.program) {
        // As execvp(3) does it.
        errno = raw::execve(SHELL, strings.shell_argv, strings.environment);
    }
    at(Stage::Execute)(errno)
}

/// Whether a shell may look for commands in the program (`server.escalate.binary`); it gets an error for what can't be read.
fn holds_text(program: RawFd) -> bool {
    let mut start = [0; TEXT_SAMPLE];
    let content = match raw::reopen(program) {
        Ok(content) => content,
        // The limit of open files is the child's own by now. No shell could read it, either.
        Err(errno) => return errno != Errno::EMFILE,
    };
    let length = raw::read(content, &mut start).unwrap_or(0);
    let _ = raw::close(content);
    is_text(start.get(..length).unwrap_or_default())
}

fn is_same_file(setup: &ChildSetup<'_>) -> bool {
    raw::statx(setup.strings.path, STATX_IDENTITY).is_ok_and(|found| Identity::of(&found) == setup.identity)
}

fn at(stage: Stage) -> impl Fn(Errno) -> StartFailure {
    move |errno| StartFailure { stage, errno }
}
