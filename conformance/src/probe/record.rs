//! The recording wrapper for shells: reports every call, then runs the command as if there were no wrapper.

use std::ffi::CString;
use std::io;

use serde::{Deserialize, Serialize};

use super::report::Report;

/// What the recording wrapper does with commands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The first rule whose file name is the command's decides; a command without a rule runs.
    pub rules: Vec<Rule>,
}

/// What becomes of one command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// The last part of FILE.
    pub file_name: String,
    /// What the wrapper does instead of running it.
    pub end: End,
}

/// How the wrapper ends without running the command.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum End {
    /// With this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// Acts as the wrapper of the call that `report` shows: `[WRAPPER, FILE, ARGV0, …]`.
///
/// # Errors
/// Where the call has no FILE or holds what execve(2) cannot take.
pub fn act(record: &Record, report: &Report) -> io::Result<i32> {
    let Some(file) = report.arguments.get(1) else {
        eprintln!("recording wrapper: called without FILE");
        return Ok(2);
    };
    let name = file.rsplit(|byte| *byte == b'/').next().unwrap_or(file);
    if let Some(rule) = record.rules.iter().find(|rule| rule.file_name.as_bytes() == name) {
        match rule.end {
            End::Exit(status) => return Ok(status),
            End::Signal(signal) => super::own::die_by(signal),
        }
    }
    let program = CString::new(file.clone())?;
    let arguments = report.arguments[2..]
        .iter()
        .map(|argument| CString::new(argument.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(execute(&program, &arguments))
}

/// execv(3) with the environment of this process, a bare text by /bin/sh as execvp(3) does it; returns the
/// status that a shell gives to what could not be executed.
fn execute(program: &CString, arguments: &[CString]) -> i32 {
    let error = match nix::unistd::execv(program, arguments) {
        Ok(never) => match never {},
        Err(nix::errno::Errno::ENOEXEC) => {
            let shell = c"/bin/sh";
            let mut vector = vec![shell.to_owned(), program.clone()];
            vector.extend(arguments.iter().skip(1).cloned());
            match nix::unistd::execv(shell, &vector) {
                Ok(never) => match never {},
                Err(error) => error,
            }
        }
        Err(error) => error,
    };
    eprintln!(
        "recording wrapper: {}: {}",
        program.to_string_lossy(),
        error.desc()
    );
    if error == nix::errno::Errno::ENOENT {
        127
    } else {
        126
    }
}
