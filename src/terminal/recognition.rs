//! Which requests are scripts for the patched shell.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::request::ExecRequest;

/// Why a request is executed without an escalation session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unrecognised {
    /// Neither the program nor an argument is the shell.
    #[error("it does not execute the configured shell")]
    OtherProgram,
    /// The shell gets other arguments.
    #[error("it does not execute the configured shell with `-c SCRIPT` or `-lc SCRIPT`")]
    NoScript,
}

/// Whether a request executes `SHELL -c SCRIPT` or `SHELL -lc SCRIPT`, by itself or behind a launcher's own arguments.
pub(super) fn recognise(shell: &Path, request: &ExecRequest) -> Result<(), Unrecognised> {
    let words: Vec<&OsStr> = std::iter::once(request.program.as_os_str())
        .chain(request.argv.iter().skip(1).map(AsRef::as_ref))
        .collect();
    let is_shell = |word: &OsStr| is_same_program(shell, &request.workdir.join(word));
    let has_script =
        |words: &[&OsStr]| matches!(words, [_, flag, _script, ..] if *flag == "-c" || *flag == "-lc");
    if is_shell(words[0]) {
        // What follows are the shell's own arguments, and not a launcher's.
        return has_script(&words).then_some(()).ok_or(Unrecognised::NoScript);
    }
    let mut shells = (1..words.len())
        .filter(|&place| is_shell(words[place]))
        .peekable();
    if shells.peek().is_none() {
        return Err(Unrecognised::OtherProgram);
    }
    let found = shells.any(|place| has_script(&words[place..]));
    found.then_some(()).ok_or(Unrecognised::NoScript)
}

fn is_same_program(shell: &Path, word: &Path) -> bool {
    if shell == word {
        return true;
    }
    // By another name.
    shell.file_name() == word.file_name()
        && fs::canonicalize(word).is_ok_and(|word| fs::canonicalize(shell).is_ok_and(|shell| shell == word))
}
