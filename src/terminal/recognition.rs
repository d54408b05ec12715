//! Which requests are scripts for the patched shell.

use std::ffi::OsStr;
use std::path::Path;

use super::request::ExecRequest;

/// Why a request is executed without an escalation session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unrecognised {
    /// The configured shell is not what the last three words begin with.
    #[error("it does not end with the configured shell's path, `-c` or `-lc`, and a script")]
    OtherProgram,
    /// The shell gets other arguments.
    #[error("the configured shell gets other arguments than `-c SCRIPT` or `-lc SCRIPT`")]
    OtherArguments,
}

/// Whether a request executes `SHELL -c SCRIPT` or `SHELL -lc SCRIPT`, by itself or behind a launcher and its arguments: these are
/// its last three words, and SHELL is the path itself. Another path of the same file may be another program by tomorrow.
pub(super) fn recognise(shell: &Path, request: &ExecRequest) -> Result<(), Unrecognised> {
    let program = std::iter::once(request.program.as_os_str());
    let words: Vec<&OsStr> = program
        .chain(request.argv.iter().skip(1).map(AsRef::as_ref))
        .collect();
    match words[..] {
        [.., word, option, _script] if word == shell.as_os_str() && (option == "-c" || option == "-lc") => {
            Ok(())
        }
        _ if words.contains(&shell.as_os_str()) => Err(Unrecognised::OtherArguments),
        _ => Err(Unrecognised::OtherProgram),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: &str = "/opt/patched/bash";

    fn recognised(words: &[&str]) -> Result<(), Unrecognised> {
        let request = ExecRequest::new(words[0], words.iter().copied(), "/");
        recognise(Path::new(SHELL), &request)
    }

    #[test]
    fn a_script_of_the_shell_is_recognised_also_behind_a_launcher() {
        for words in [
            &[SHELL, "-c", "ls"][..],
            &[SHELL, "-lc", "ls; rm x"],
            &[SHELL, "-c", ""],
            &[SHELL, "-c", "-c"],
            &["/usr/bin/env", SHELL, "-c", "ls"],
            &["/usr/bin/bwrap", "--ro-bind", "/", "/", "--", SHELL, "-lc", "ls"],
            // A launcher may mention the shell in arguments of its own.
            &["/usr/bin/bwrap", "--ro-bind", SHELL, SHELL, SHELL, "-c", "ls"],
        ] {
            assert_eq!(recognised(words), Ok(()), "{words:?}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        use Unrecognised::{OtherArguments, OtherProgram};
        for (words, why) in [
            (&[SHELL][..], OtherArguments),
            (&[SHELL, "-c"], OtherArguments),
            (&[SHELL, "script"], OtherArguments),
            (&[SHELL, "-i"], OtherArguments),
            (&[SHELL, "-ic", "ls"], OtherArguments),
            (&[SHELL, "-cl", "ls"], OtherArguments),
            (&[SHELL, "-x", "ls"], OtherArguments),
            (&[SHELL, "-x", "-c", "ls"], OtherArguments),
            (&[SHELL, "-c", "ls", "name"], OtherArguments),
            (&["/usr/bin/env", SHELL, "-c"], OtherArguments),
            (&["/bin/bash", "-c", "ls"], OtherProgram),
            (&["bash", "-c", "ls"], OtherProgram),
            (&["/opt/patched/../patched/bash", "-c", "ls"], OtherProgram),
            (&["/opt/./patched/bash", "-c", "ls"], OtherProgram),
            (&["/opt//patched/bash", "-c", "ls"], OtherProgram),
            (&["/opt/patched/bash ", "-c", "ls"], OtherProgram),
            (&["/bin/sh", "-c", "/opt/patched/bash -c ls"], OtherProgram),
            (&["/bin/ls"], OtherProgram),
        ] {
            assert_eq!(recognised(words), Err(why), "{words:?}");
        }
    }

    #[test]
    fn what_is_executed_counts_and_not_what_it_is_called() {
        let shell = Path::new(SHELL);
        let called = |program: &str, name: &str| {
            let request = ExecRequest::new(program, [name, "-c", "ls"], "/");
            recognise(shell, &request).is_ok()
        };
        assert!(called(SHELL, "-bash"));
        assert!(!called("/bin/sh", SHELL));
    }
}
