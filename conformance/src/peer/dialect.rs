//! The shell language in which cases write their scripts. It chooses syntax and never a rule.

use crate::case::context::Context;
use crate::verdict::{CaseError, Verdict};

/// What `--version` says that a shell is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// Anything else: scripts keep to POSIX.
    Other,
}

impl Dialect {
    /// The dialect of the shell under test.
    pub fn of(context: &Context) -> Dialect {
        let version = context.settings.implementations.shell_version.as_deref();
        Dialect::of_version(version.unwrap_or_default())
    }

    fn of_version(first_line: &str) -> Dialect {
        if first_line.contains("bash") {
            Dialect::Bash
        } else if first_line.starts_with("zsh") {
            Dialect::Zsh
        } else {
            Dialect::Other
        }
    }

    /// The options of a shell that reads no start-up file of the machine.
    pub fn plain_options(self) -> &'static [&'static str] {
        match self {
            Dialect::Zsh => &["-f"],
            Dialect::Bash | Dialect::Other => &[],
        }
    }

    /// The options of an interactive shell that reads no start-up file.
    pub fn interactive_options(self) -> &'static [&'static str] {
        match self {
            Dialect::Bash => &["--noprofile", "--norc", "-i"],
            // Without its line editor, which paints where others print.
            Dialect::Zsh => &["-f", "-i", "-o", "nozle", "-o", "nopromptcr", "-o", "nopromptsp"],
            Dialect::Other => &["-i"],
        }
    }

    /// The expansion that gives the statuses of the last pipeline's elements, divided by blanks.
    ///
    /// # Errors
    /// The case does not apply to a shell that has none.
    pub fn pipeline_statuses(self) -> Result<&'static str, CaseError> {
        match self {
            Dialect::Bash => Ok("${PIPESTATUS[*]}"),
            Dialect::Zsh => Ok("${pipestatus[*]}"),
            Dialect::Other => Err(no_such_syntax("statuses of a pipeline's elements")),
        }
    }

    /// Demands bash or zsh, for what POSIX has no syntax for.
    ///
    /// # Errors
    /// The case does not apply to another shell.
    pub fn needs_extensions(self, what: &str) -> Verdict {
        match self {
            Dialect::Bash | Dialect::Zsh => Ok(()),
            Dialect::Other => Err(no_such_syntax(what)),
        }
    }
}

/// The case is about something that the shell's language cannot say.
pub fn no_such_syntax(what: &str) -> CaseError {
    CaseError::NotApplicable(format!(
        "this shell has no syntax, known to the suite, for {what}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialect_is_told_by_the_first_line_of_version() {
        assert_eq!(
            Dialect::of_version("GNU bash, version 5.3.0(1)-release (x86_64-pc-linux-gnu)"),
            Dialect::Bash
        );
        assert_eq!(Dialect::of_version("zsh 5.9 (x86_64-pc-linux-gnu)"), Dialect::Zsh);
        assert_eq!(Dialect::of_version("dash: 0: Illegal option --"), Dialect::Other);
    }
}
