//! The launcher: a process that confines itself, and then executes what it was told.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString, c_char};
use std::fs::File;
use std::io::Read;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::ptr;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};

use super::failure::Failure;
use super::gap::Gap;
use super::plan::{Plan, VERSION};
use super::{filter, namespace, privileges, ruleset};
use crate::execution::{
    Launch, Opened, SWAPPED, Scripts, Stage, StartFailure, TEXT_SAMPLE, Target, describe, is_text,
};

/// The status when no sandbox could be made, as of this program's other failures.
const NO_SANDBOX: i32 = 125;

/// Becomes the launcher if that is what this process was started for (see
/// [`SandboxedExecutor`](crate::SandboxedExecutor)); otherwise returns at once. Call it first in `main`: before a thread is
/// started, since only the thread that calls it would be confined.
///
/// A launcher ends by executing its program, or with status 125 if it can't confine itself, and 126 or 127 if the program can't
/// be executed; standard error says why.
pub fn launch_if_asked() {
    let Some(launch) = Launch::parse(std::env::args_os()) else {
        return;
    };
    let launched = launch.map_err(Failure).and_then(run);
    let Failure(message) = match launched {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    eprintln!("shell-escalation: sandbox: {message}");
    std::process::exit(NO_SANDBOX);
}

fn run(launch: Launch) -> Result<Infallible, Failure> {
    let plan: Plan = serde_json::from_str(&launch.plan).map_err(|error| Failure::new("plan", error))?;
    if plan.version != VERSION {
        return Err(Failure(format!(
            "this launcher is of version {VERSION}, and was executed by version {}: install both from one build",
            plan.version
        )));
    }
    let Launch {
        target, env, argv, ..
    } = launch;
    let strings = Strings::new(&target, env, argv)?;
    close_others(&target)?;
    confine(&plan)?;
    let failure = execute(&target, &strings);
    eprintln!(
        "shell-escalation: {}: {}",
        target.file.display().to_string().escape_debug(),
        describe(failure)
    );
    let missing = matches!(failure.errno, Errno::ENOENT | Errno::ENOTDIR);
    std::process::exit(if missing { 127 } else { 126 })
}

/// Each step takes away what a later one doesn't need any more.
fn confine(plan: &Plan) -> Result<(), Failure> {
    let mut gaps = Vec::new();
    privileges::refuse_new_ones()?;
    let namespace = namespace::enter(plan, &mut gaps)?;
    privileges::limit_processes(&namespace, &mut gaps)?;
    privileges::drop_capabilities()?;
    ruleset::restrict(plan, &namespace, &mut gaps)?;
    if !gaps.is_empty() {
        report(plan, &gaps)?;
    }
    filter::apply(plan.network)
}

fn report(plan: &Plan, gaps: &[Gap]) -> Result<(), Failure> {
    let gaps: Vec<String> = gaps.iter().map(ToString::to_string).collect();
    let gaps = gaps.join("; ");
    if plan.strict {
        return Err(Failure(format!(
            "{} can't be held on this system: {gaps}. --sandbox-strict demands all of it",
            plan.name
        )));
    }
    if plan.says {
        eprintln!("shell-escalation: sandbox {}, except that {gaps}", plan.name);
    }
    Ok(())
}

/// Closes every descriptor that the program doesn't get.
fn close_others(target: &Target) -> Result<(), Failure> {
    let opened = target.opened.iter();
    let opened = opened
        .flat_map(|opened| [Some(opened.program), opened.lease])
        .flatten();
    let mut keep: Vec<RawFd> = target.keep.iter().copied().chain(opened).collect();
    keep.sort_unstable();
    let mut first = 0;
    let close = |from: libc::c_uint, to: libc::c_uint| {
        if from > to {
            return Ok(());
        }
        // SAFETY: nothing in this process owns a descriptor: it has only just started.
        match unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) } {
            0 => Ok(()),
            _ => Err(Failure::new("close_range", Errno::last())),
        }
    };
    for number in keep {
        let number = number.unsigned_abs();
        if number > first {
            close(first, number - 1)?;
        }
        first = number + 1;
    }
    close(first, libc::c_uint::MAX)?;
    // They are inherited by this process, and the program is to see nothing of them.
    for number in target
        .opened
        .iter()
        .flat_map(|opened| [Some(opened.program), opened.lease])
        .flatten()
    {
        // SAFETY: only a flag of a descriptor.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(Failure::new("fcntl", Errno::last()));
        }
    }
    Ok(())
}

/// What execve(2) takes.
struct Strings {
    file: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Strings {
    fn new(target: &Target, env: Vec<OsString>, argv: Vec<OsString>) -> Result<Self, Failure> {
        let string =
            |text: OsString| CString::new(text.into_vec()).map_err(|error| Failure(error.to_string()));
        Ok(Self {
            file: string(target.file.clone())?,
            argv: argv.into_iter().map(string).collect::<Result<_, _>>()?,
            env: env.into_iter().map(string).collect::<Result<_, _>>()?,
        })
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    let strings = strings.iter().map(|string| string.as_ptr());
    strings.chain([ptr::null()]).collect()
}

/// Executes the program as the supervisor's child would have. Returns only on failure.
fn execute(target: &Target, strings: &Strings) -> StartFailure {
    let at_execution = |errno| StartFailure {
        stage: Stage::Execute,
        errno,
    };
    // The Rust runtime ignores it.
    // SAFETY: the default action is no handler.
    if let Err(errno) = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) } {
        return at_execution(errno);
    }
    let Some(opened) = &target.opened else {
        let errno = by_name(strings);
        return at_execution(if errno == Errno::ENOEXEC {
            as_text(strings, target.file.as_os_str())
        } else {
            errno
        });
    };
    // Only root could make the name mean another file, or what the user trusts with a script in place: no reason to execute it.
    let has_its_name = opened.scripts == Scripts::ByName && opened.is_called(&strings.file);
    let mut errno = if has_its_name {
        by_name(strings)
    } else {
        by_descriptor(opened, strings)
    };
    let text = match opened.scripts {
        Scripts::Never => return at_execution(errno),
        Scripts::ByName if !matches!(errno, Errno::ENOENT | Errno::ENOEXEC) => return at_execution(errno),
        // By descriptor it has no interpreter that could open it.
        Scripts::ByName if !has_its_name || !opened.is_called(&strings.file) => return SWAPPED,
        Scripts::ByName => target.file.clone(),
        Scripts::ByDescriptor => {
            if matches!(errno, Errno::ENOENT | Errno::ENOEXEC) {
                // SAFETY: only a flag of a descriptor.
                if unsafe { libc::fcntl(opened.program, libc::F_SETFD, 0) } != 0 {
                    return at_execution(Errno::last());
                }
            }
            if errno == Errno::ENOENT {
                errno = by_descriptor(opened, strings);
            }
            format!("/dev/fd/{}", opened.program).into()
        }
    };
    if errno == Errno::ENOEXEC && holds_text(opened.program) {
        return at_execution(as_text(strings, &text));
    }
    at_execution(errno)
}

/// Whether a shell may look for commands in the program (`server.escalate.binary`); it gets an error for what can't be read.
fn holds_text(program: RawFd) -> bool {
    let mut start = Vec::new();
    let Ok(content) = File::open(format!("/proc/self/fd/{program}")) else {
        return true;
    };
    let read = content.take(TEXT_SAMPLE as u64).read_to_end(&mut start);
    read.is_err() || is_text(&start)
}

fn by_name(strings: &Strings) -> Errno {
    let (argv, env) = (pointers(&strings.argv), pointers(&strings.env));
    // SAFETY: both lists are of C strings that outlive the call, and end with a null pointer.
    unsafe { libc::execve(strings.file.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Errno::last()
}

fn by_descriptor(opened: &Opened, strings: &Strings) -> Errno {
    let (argv, env) = (pointers(&strings.argv), pointers(&strings.env));
    // SAFETY: as for `by_name`.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            opened.program,
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// Lets the shell execute a text without an interpreter, as execvp(3) does it.
fn as_text(strings: &Strings, text: &OsStr) -> Errno {
    let mut argv = vec![c"/bin/sh".to_owned()];
    let bytes = text.as_bytes();
    // What begins like an option would be taken for one.
    if bytes.starts_with(b"-") || bytes.starts_with(b"+") {
        argv.push(c"--".to_owned());
    }
    let Ok(text) = CString::new(bytes) else {
        return Errno::EINVAL;
    };
    argv.push(text);
    argv.extend(strings.argv.iter().skip(1).cloned());
    let (argv, env) = (pointers(&argv), pointers(&strings.env));
    // SAFETY: as for `by_name`.
    unsafe { libc::execve(c"/bin/sh".as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Errno::last()
}
