//! A shim's first breath: `initialize`, once before all cases, for its name and capabilities.

use std::time::Duration;

use crate::commands::HarnessFailure;
use crate::implementations::Implementations;
use crate::outcome::CaseError;
use crate::peer::launch::Launch;
use crate::peer::shim::{PROTOCOL, Shim, initialize_params};
use crate::transcript::Transcript;

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
