//! Run: the wrapper becomes the command. Nothing that the command could see of the process has been changed.

use core::ffi::CStr;

use rustix::fs::{Access, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::arguments::Command;
use crate::failure::{CANNOT_EXECUTE, Message, NOT_FOUND};
use crate::sys;

const SHELL: &CStr = c"/bin/sh";

/// The longest path that the kernel takes, its NUL included.
const PATH_MAX: usize = 4096;

/// Executes the command in this process. Returns only if that failed, with the status to exit with.
pub fn run(command: Command) -> i32 {
    let file = command.file();
    let environment = command.environment();
    let error = match sys::execve(file, command.argv(), environment) {
        Errno::NOEXEC if is_text(file) => run_by_shell(command),
        error => error,
    };
    report(file, error)
}

/// Whether a shell may look for commands in the file: it isn't ELF, and has no NUL in its first line (`wrapper.run.binary`).
/// bash and zsh look at the same.
#[cold]
#[inline(never)]
fn is_text(file: &CStr) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let mut start = [0; 80];
    // A shell that can't read it finds no commands, either.
    let length =
        rustix::fs::open(file, flags, Mode::empty()).and_then(|opened| rustix::io::read(&opened, &mut start));
    let start = &start[..length.unwrap_or(0)];
    let mut first_line = start.iter().take_while(|&&byte| byte != b'\n');
    !start.starts_with(b"\x7fELF") && first_line.all(|&byte| byte != 0)
}

/// Executes a text without `#!`: a shell runs it, as execvp(3) says (`wrapper.run.script-bare`).
// Never inlined: the larger stack would cost every run a page.
#[cold]
#[inline(never)]
fn run_by_shell(command: Command) -> Errno {
    let environment = command.environment();
    let mut space = [0; PATH_MAX + 2];
    let script = operand(command.file(), &mut space);
    // SAFETY: `space` outlives the call of execve, and nothing reads the arguments after that has failed.
    let script: &'static CStr = unsafe { &*core::ptr::from_ref(script) };
    sys::execve(SHELL, command.into_script_arguments(SHELL, script), environment)
}

/// The path in a form that a shell does not take for an option.
fn operand<'a>(file: &'a CStr, space: &'a mut [u8; PATH_MAX + 2]) -> &'a CStr {
    let bytes = file.to_bytes_with_nul();
    if !matches!(bytes[0], b'-' | b'+') || bytes.len() > PATH_MAX {
        return file;
    }
    space[..2].copy_from_slice(b"./");
    space[2..2 + bytes.len()].copy_from_slice(bytes);
    CStr::from_bytes_until_nul(space).unwrap_or(file)
}

/// Writes why the file could not be executed, in a shell's words; the status to exit with.
#[cold]
#[inline(never)]
fn report(file: &CStr, error: Errno) -> i32 {
    let missing = matches!(error, Errno::NOENT | Errno::NOTDIR);
    let status = if missing { NOT_FOUND } else { CANNOT_EXECUTE };
    let mut message = Message::new();
    message.add_name(file.to_bytes());
    message.add(b": ");
    if error == Errno::ACCESS && is_directory(file) {
        message.add_error(Errno::ISDIR);
    } else if error == Errno::NOENT && exists(file) {
        message.add(b"cannot execute: required file not found");
    } else {
        message.add_error(error);
    }
    message.add(b"\n");
    message.send();
    status
}

fn is_directory(file: &CStr) -> bool {
    rustix::fs::stat(file).is_ok_and(|status| FileType::from_raw_mode(status.st_mode).is_dir())
}

/// Whether the file exists: then what is missing is its interpreter.
fn exists(file: &CStr) -> bool {
    rustix::fs::accessat(CWD, file, Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_whose_name_looks_like_an_option_is_given_a_folder() {
        let mut space = [0; PATH_MAX + 2];
        assert_eq!(operand(c"-x", &mut space), c"./-x");
        assert_eq!(operand(c"+x", &mut space), c"./+x");
        assert_eq!(operand(c"/bin/-x", &mut space), c"/bin/-x");
        assert_eq!(operand(c"", &mut space), c"");
    }
}
