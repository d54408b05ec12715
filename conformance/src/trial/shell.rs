//! Whether the shell calls wrappers at all, and its version.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::answer::beginning_of;
use crate::printable::printable;
use crate::system::launch::Launch;
use crate::system::process::Ended;
use crate::verdict::CaseError;

/// A shell that calls wrappers in any of these places is a patched one, good or bad.
const ANY_COMMAND: &str =
    "/bin/true; (/bin/true); /bin/true | /bin/cat; /bin/true & wait; uname >/dev/null; /bin/true";

/// Which commands of a shell went to its wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calls {
    /// None.
    None,
    /// `uname`, which PATH leads to, and no command that is named by a path.
    OnlyByName,
    /// A command that is named by a path; or the shell broke down before it could, which is for the cases to judge.
    ByPath,
}

/// The first line of `--version`. A shell that does not tell has none.
pub fn version(shell: &Path, directory: &Path, patience: Duration) -> Result<Option<String>, CaseError> {
    let answer = directory.join("version");
    let mut process = Launch::new(shell, directory)
        .arguments([shell.as_os_str(), "--version".as_ref()])
        .variable("PATH", "/usr/bin:/bin")
        .variable("LC_ALL", "C")
        .descriptor(1, File::create(&answer)?)
        .start()?;
    match process.wait("the shell after --version", patience) {
        Ok(_) => Ok(beginning_of(&answer)?.lines().next().map(printable)),
        // It goes on and on; what else it can do is for the cases to see.
        Err(CaseError::Violation { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which commands of a shell that ran some of them to their end went to its wrapper.
pub fn calls_wrapper(
    shell: &Path,
    variable: Option<&str>,
    directory: &Path,
    patience: Duration,
) -> Result<Calls, CaseError> {
    let wrapper = directory.join("wrapper");
    // Called as `wrapper FILE ARGV…`.
    let text = "#!/bin/sh\ncase $1 in */uname | uname) : >\"$0-by-name\" ;; *) : >\"$0-by-path\" ;; esac\n";
    std::fs::write(&wrapper, text)?;
    std::fs::set_permissions(&wrapper, Permissions::from_mode(0o755))?;
    let launch = match variable {
        Some(name) => Launch::new(shell, directory).variable(name, &wrapper),
        None => Launch::new(shell, directory),
    };
    let mut process = launch
        .arguments([shell.as_os_str(), "-c".as_ref(), ANY_COMMAND.as_ref()])
        .variable("PATH", "/usr/bin:/bin")
        .variable("HOME", directory)
        .variable("EXEC_WRAPPER", &wrapper)
        .start()?;
    let ended = process.wait("the shell after a script of six commands", patience)?;
    let was_called = |way: &str| directory.join(format!("wrapper-by-{way}")).exists();
    Ok(if ended != Ended::Exited(0) || was_called("path") {
        Calls::ByPath
    } else if was_called("name") {
        Calls::OnlyByName
    } else {
        Calls::None
    })
}
