//! The whole of one run, from what the process was started with to its end.

use rustix::fd::RawFd;
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::arguments::{Command, Strings};
use crate::failure::{CANNOT_EXECUTE, Detail, Failure, Message};
use crate::reply::{self, Decision, Ending};
use crate::request::{Request, SOCKET_VARIABLE};
use crate::stream::Stream;
use crate::{deny, escalate, run, sys};

/// The status after a usage error.
const USAGE: i32 = 2;

/// The longest path of a working directory that is sent, its NUL included.
const PATH_MAX: usize = 4096;

/// The memory that one run needs: the request is sent from it, and the reply received into it.
pub const BUFFER_SIZE: usize = 64 << 10;

/// What is left to do once the server has no more part in it.
enum Verdict {
    Run,
    Denied,
    Ended(Ending),
}

/// Asks the server what to do with the command, and does it. `buffer` has [`BUFFER_SIZE`] bytes or more.
pub fn main(arguments: Strings, environment: Strings, buffer: &'static mut [u8]) -> ! {
    let Some(command) = Command::new(arguments, environment) else {
        report_usage();
        sys::exit(USAGE);
    };
    let file = command.file().to_bytes();
    match decide(&command, buffer) {
        Ok(Verdict::Run) => sys::exit(run::run(command)),
        Ok(Verdict::Denied) => sys::exit(deny::STATUS),
        Ok(Verdict::Ended(ending)) => escalate::end_like_the_child(ending, file),
        Err(failure) => {
            failure.report(file);
            sys::exit(CANNOT_EXECUTE)
        }
    }
}

#[cold]
#[inline(never)]
fn report_usage() {
    let mut message = Message::new();
    message.add(b"usage: execve-wrapper FILE ARGV0 [ARGUMENT...] (called by a shell, in place of execve)\n");
    message.send();
}

fn decide(command: &Command, buffer: &'static mut [u8]) -> Result<Verdict, Failure> {
    let escalation = escalation_socket(command.environment())?;
    // The path stands at the buffer's start, where a request of common size shares its page.
    let length = working_directory(&mut buffer[..PATH_MAX])?;
    let (workdir, buffer) = buffer.split_at_mut(length);
    let request = Request {
        file: command.file().to_bytes(),
        argv: command.argv().iter(),
        workdir,
        environment: command.environment().iter(),
        umask: umask(),
    };
    let mut stream = Stream::ask(escalation, buffer, &request)?;
    let payload = stream.receive("its decision")?;
    match reply::decision(payload).map_err(Failure::malformed("the server's decision is malformed"))? {
        Decision::Run => Ok(Verdict::Run),
        Decision::Escalate => Ok(Verdict::Ended(escalate::escalate(&mut stream, escalation)?)),
        Decision::Deny { reason } => {
            deny::report(reason);
            Ok(Verdict::Denied)
        }
    }
}

/// The number of the escalation socket. Whether it's open, and a socket, turns out when it's used.
fn escalation_socket(environment: Strings) -> Result<RawFd, Failure> {
    let Some(value) = environment.variable(SOCKET_VARIABLE) else {
        return Err(Failure::new(
            "CODEX_ESCALATE_SOCKET is not set, so there is no server to ask",
        ));
    };
    let digits = value.iter().all(u8::is_ascii_digit);
    let number = core::str::from_utf8(value)
        .ok()
        .filter(|_| digits)
        .and_then(|value| value.parse().ok());
    number.ok_or(Failure {
        what: "CODEX_ESCALATE_SOCKET is not a descriptor number",
        detail: Detail::Bytes(value),
    })
}

/// Puts the working directory's path into `buffer`; its length in bytes.
fn working_directory(buffer: &mut [u8]) -> Result<usize, Failure> {
    let length = sys::current_directory(buffer).map_err(|error| match error {
        Errno::NOENT => Failure::new("the working directory has been deleted; cd to another one first"),
        error => Failure::system("cannot determine the working directory")(error),
    })?;
    // The kernel puts "(unreachable)" before a path outside the process's root.
    if buffer[..length].first() != Some(&b'/') {
        return Err(Failure::new(
            "the working directory cannot be reached from the root",
        ));
    }
    Ok(length)
}

/// The file mode creation mask, which can only be read by setting it. Nothing is created meanwhile.
fn umask() -> u32 {
    let mask = rustix::process::umask(Mode::empty());
    rustix::process::umask(mask);
    mask.bits()
}
