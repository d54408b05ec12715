//! Run and Deny.

use std::ffi::CString;
use std::io;
use std::path::Path;

use crate::faults::{Fault, Variant, broken, unusual};
use crate::process::{environment, escalation_number, exit, pointers, write_error, write_to};
use crate::request::Call;

/// Becomes FILE, or reports why that failed and exits.
pub fn execute(file: &CString, arguments: &[CString]) -> ! {
    let error = become_file(file, arguments);
    say_why(file, &error);
    exit(status_of_failure(file, &error))
}

/// [`execute`] in a wrapper that takes FILE for present because it was before the decision.
pub fn execute_what_existed(file: &CString, arguments: &[CString]) -> ! {
    let error = become_file(file, arguments);
    say_why(file, &error);
    exit(126)
}

fn become_file(file: &CString, arguments: &[CString]) -> io::Error {
    let mut arguments = arguments.to_vec();
    if broken(Fault::RunReplacesArgv0) && !arguments.is_empty() {
        arguments[0] = file.clone();
    }
    if broken(Fault::RunChangesDirectory) {
        // SAFETY: chdir reads a C string.
        unsafe { libc::chdir(c"/".as_ptr()) };
    }
    let mut entries: Vec<CString> = environment()
        .into_iter()
        .filter_map(|entry| CString::new(entry).ok())
        .collect();
    if unusual(Variant::SortedEnvironment) {
        entries.sort();
    }
    if broken(Fault::RunCleansTheEnvironment) {
        entries.retain(|entry| {
            !entry.as_bytes().starts_with(b"EXEC_WRAPPER=") && !entry.as_bytes().starts_with(b"CODEX_")
        });
    }
    if broken(Fault::RunAddsAVariable) {
        entries.push(c"WRAPPED=1".to_owned());
    }
    if broken(Fault::RunClosesTheSocket) {
        // SAFETY: close takes an integer.
        unsafe { libc::close(escalation_number()) };
    }
    if broken(Fault::RunClosesOthers) {
        for number in (3..100).filter(|number| *number != escalation_number()) {
            // SAFETY: close takes an integer.
            unsafe { libc::close(number) };
        }
    }
    let mut path = file.clone();
    if broken(Fault::RunSearchesPath) && !file.as_bytes().contains(&b'/') {
        path = CString::new([b"/usr/bin/", file.as_bytes()].concat()).unwrap_or(path);
    }
    if broken(Fault::RunSearchesPathFirst) {
        // SAFETY: execvp reads C strings; it looks into PATH for a name without a slash.
        unsafe { libc::execvp(path.as_ptr(), pointers(&arguments).as_ptr()) };
    }
    // SAFETY: execve reads C strings and null-terminated vectors that live until it succeeds.
    unsafe {
        libc::execve(
            path.as_ptr(),
            pointers(&arguments).as_ptr(),
            pointers(&entries).as_ptr(),
        )
    };
    let mut error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOEXEC) && is_binary(file) && !broken(Fault::BinariesByShell) {
        if broken(Fault::BinariesWithoutMessage) {
            exit(126);
        }
        return error;
    }
    if error.raw_os_error() == Some(libc::ENOEXEC) && !broken(Fault::BareScriptsRefused) {
        if broken(Fault::EmptyScriptsRefused)
            && std::fs::metadata(&*file.to_string_lossy()).is_ok_and(|found| found.len() == 0)
        {
            write_error(b"faulty-wrapper: an empty file\n");
            exit(126);
        }
        if broken(Fault::BareScriptsSpawned) {
            // SAFETY: fork in a process of one thread; waitpid writes one integer.
            unsafe {
                let child = libc::fork();
                if child > 0 {
                    let mut status = 0;
                    libc::waitpid(child, &raw mut status, 0);
                    exit(libc::WEXITSTATUS(status));
                }
            }
        }
        let mut vector = vec![c"/bin/sh".to_owned()];
        // A name that begins with a dash must not be taken for an option.
        if path.as_bytes().starts_with(b"-") && !broken(Fault::BareScriptsAsOptions) {
            path = CString::new([b"./", path.as_bytes()].concat()).unwrap_or(path);
        }
        vector.push(path);
        if !broken(Fault::BareScriptsLoseArguments) {
            vector.extend(arguments.into_iter().skip(1));
        }
        // SAFETY: as above.
        unsafe {
            libc::execve(
                c"/bin/sh".as_ptr(),
                pointers(&vector).as_ptr(),
                pointers(&entries).as_ptr(),
            )
        };
        error = io::Error::last_os_error();
    }
    error
}

/// ELF, or a NUL in the first line.
fn is_binary(file: &CString) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let content = std::fs::read(std::ffi::OsStr::from_bytes(file.as_bytes())).unwrap_or_default();
    let mut first_line = content
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default()
        .iter();
    content.starts_with(b"\x7fELF") || (first_line.any(|&byte| byte == 0) && !broken(Fault::OnlyElfIsBinary))
}

fn say_why(file: &CString, error: &io::Error) {
    if !broken(Fault::MissingWithoutMessage) {
        let shown = if broken(Fault::MissingFileNotNamed) {
            "the file".into()
        } else {
            file.to_string_lossy()
        };
        write_error(format!("faulty-wrapper: {shown}: {error}\n").as_bytes());
        if broken(Fault::MissingInTwoLines) {
            write_error(b"nothing was executed\n");
        }
    }
}

fn status_of_failure(file: &CString, error: &io::Error) -> i32 {
    let missing = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR));
    match () {
        () if broken(Fault::MissingWithStatus1) => 1,
        () if broken(Fault::MissingAlways127) => 127,
        () if broken(Fault::MissingAlways126) => 126,
        () if missing
            && unusual(Variant::InterpreterMissing126)
            && Path::new(&*file.to_string_lossy()).exists() =>
        {
            126
        }
        () if unusual(Variant::BelowAFile126) && error.raw_os_error() == Some(libc::ENOTDIR) => 126,
        () if missing => 127,
        () if broken(Fault::OnlyForbiddenGives126) && error.raw_os_error() != Some(libc::EACCES) => 127,
        () => 126,
    }
}

/// Runs FILE as a child, as wrappers in languages without exec do.
pub fn spawn_and_wait(call: &Call) -> ! {
    // SAFETY: fork in a process of one thread; waitpid writes one integer.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            execute(&call.file, &call.arguments);
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        exit(if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        })
    }
}

/// Reports the denial and exits with 1.
pub fn deny(reason: Option<&str>) -> ! {
    let mut text = match reason {
        None if broken(Fault::NoReasonSaidAsNull) => "Execution denied: null".to_owned(),
        None => "Execution denied".to_owned(),
        Some(_) if broken(Fault::ReasonLeftOut) => "Execution denied".to_owned(),
        Some(reason) => {
            let mut reason = reason.to_owned();
            if broken(Fault::ReasonCutAtTheFirstNewline) {
                reason = reason.lines().next().unwrap_or_default().to_owned();
            }
            for (fault, most) in [
                (Fault::ReasonCutAt1Kib, 1024),
                (Fault::ReasonCutAt64Kib, 65_000),
                (Fault::ReasonCutAt1Mib, 1 << 20),
            ] {
                if broken(fault) {
                    reason = reason.chars().take(most).collect();
                }
            }
            if broken(Fault::ReasonAsAscii) {
                reason = reason
                    .chars()
                    .map(|character| if character.is_ascii() { character } else { '?' })
                    .collect();
            }
            if broken(Fault::ReasonAsFormat) {
                reason = reason.replace("%s", "(null)");
            }
            format!("Execution denied: {reason}")
        }
    };
    if !broken(Fault::ControlCharactersRaw) && text.chars().any(char::is_control)
        || broken(Fault::BackslashesDoubled)
    {
        let mut shown = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                '\n' if broken(Fault::NewlinesEscaped) => shown.push_str("\\n"),
                '\n' | '\t' => shown.push(character),
                '\u{80}'..='\u{9f}' if broken(Fault::C1ControlCharactersRaw) => shown.push(character),
                '\u{7f}' if broken(Fault::DeleteRaw) => shown.push(character),
                '\r' if broken(Fault::CarriageReturnRaw) => shown.push(character),
                '\\' if broken(Fault::BackslashesDoubled) => shown.push_str("\\\\"),
                character if character.is_control() && broken(Fault::ControlCharactersDropped) => {}
                character if character.is_control() && unusual(Variant::ControlAsPictures) => {
                    shown.push('\u{fffd}');
                }
                character if character.is_control() => shown.extend(character.escape_default()),
                character => shown.push(character),
            }
        }
        text = shown;
    }
    if !broken(Fault::DenialWithoutNewline) {
        text.push('\n');
    }
    if broken(Fault::DenialOnStandardOutput) {
        write_to(1, text.as_bytes());
    } else if !broken(Fault::DenialWithoutMessage) {
        write_error(text.as_bytes());
    }
    if broken(Fault::DenialTwice) {
        write_to(1, b"denied\n");
    }
    if broken(Fault::DeniedRunsAnyway) {
        let words: Vec<CString> = std::env::args()
            .skip(1)
            .filter_map(|word| CString::new(word).ok())
            .collect();
        execute(&words[0], &words[1..]);
    }
    exit(match () {
        () if broken(Fault::DenialWithStatus0) => 0,
        () if broken(Fault::DenialWithStatus126) => 126,
        () => 1,
    })
}
