//! The first breath of what is judged, once before all cases: whether the shell calls wrappers at all, and the
//! shim's `initialize`, for its name and capabilities.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::bail;

use crate::commands::HarnessFailure;
use crate::implementations::Implementations;
use crate::outcome::CaseError;
use crate::peer::launch::Launch;
use crate::peer::process::Ended;
use crate::peer::shim::{PROTOCOL, Shim, initialize_params};
use crate::transcript::Transcript;

/// A shell that calls wrappers in any of these places is a patched one, good or bad.
const ANY_COMMAND: &str = "/bin/true; (/bin/true); /bin/true | /bin/cat; /bin/true & wait; /bin/true";

/// Demands that a shell that runs some commands calls its wrapper for at least one of them.
///
/// # Errors
/// A usage error where it does not: cases of a stock shell would fail one by one, and say less.
pub fn try_shell(implementations: &Implementations, patience: Duration) -> anyhow::Result<()> {
    let Some(shell) = &implementations.shell else {
        return Ok(());
    };
    let directory = tempfile::Builder::new().prefix("conformance-").tempdir()?;
    let wrapper = directory.path().join("wrapper");
    std::fs::write(&wrapper, "#!/bin/sh\n: >\"$0-was-called\"\n")?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    let launch = Launch::new(shell, directory.path())
        .arguments([shell.as_os_str(), "-c".as_ref(), ANY_COMMAND.as_ref()])
        .variable("PATH", "/usr/bin:/bin")
        .variable("HOME", directory.path())
        .variable("EXEC_WRAPPER", &wrapper);
    let shown = shell.display();
    let ended = launch
        .start()
        .and_then(|mut process| process.wait("the shell after a script of five commands", patience))
        .map_err(|error| HarnessFailure(format!("--shell {shown}: no script runs in it: {error:?}")))?;
    // A shell that breaks down before it has called a wrapper is for the cases to judge.
    if ended == Ended::Exited(0) && !directory.path().join("wrapper-was-called").exists() {
        bail!(
            "--shell {shown}: this shell is not patched: with EXEC_WRAPPER set, none of its commands went to the wrapper"
        );
    }
    Ok(())
}

/// Asks the server for its name, version and capabilities.
///
/// # Errors
/// A harness failure (exit status 3) where the shim does not answer as the harness protocol says.
pub fn initialize_server(implementations: &mut Implementations, patience: Duration) -> anyhow::Result<()> {
    let Some(words) = implementations.server.clone() else {
        return Ok(());
    };
    let directory = tempfile::Builder::new().prefix("conformance-").tempdir()?;
    let error_log = directory.path().join("stderr");
    let error_file = std::fs::File::create(&error_log)?;
    let launch = Launch::new(&words[0], directory.path())
        .arguments(&words)
        .variable("PATH", "/usr/bin:/bin")
        .variable("HOME", directory.path())
        .variable("TMPDIR", directory.path())
        .descriptor(2, error_file);
    let command = implementations.server_command.clone().unwrap_or_default();
    let answer = Shim::over(launch, error_log, Transcript::new(|_| {}), patience).and_then(|mut shim| {
        let result = shim.call("initialize", initialize_params());
        let tail = shim.error_text();
        let result = result.map_err(|error| (error, tail));
        match result {
            Ok(result) => {
                shim.close_input();
                shim.process
                    .wait("the shim after the end of its input", patience)?;
                Ok(result)
            }
            Err((CaseError::Violation { expected, observed }, tail)) => Err(CaseError::Violation {
                expected,
                observed: format!("{observed}; its standard error: {}", tail.trim_end()),
            }),
            Err((error, _)) => Err(error),
        }
    });
    let result = answer.map_err(|error| {
        let reason = match error {
            CaseError::Violation { expected, observed } => {
                format!("expected {expected}, observed: {observed}")
            }
            CaseError::Harness(what) | CaseError::NotApplicable(what) => what,
        };
        HarnessFailure(format!(
            "--server {command:?}: the shim does not answer `initialize`: {reason}"
        ))
    })?;
    if result["protocol"].as_u64() != Some(PROTOCOL) {
        let protocol = &result["protocol"];
        let text = format!(
            "--server {command:?}: the shim speaks protocol {protocol}; this suite speaks {PROTOCOL}"
        );
        return Err(HarnessFailure(text).into());
    }
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    implementations.server_name = text(&result["implementation"]["name"]);
    implementations.server_version = text(&result["implementation"]["version"]);
    implementations.capabilities = result["capabilities"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(text)
        .collect();
    Ok(())
}
