//! What the shim says of itself.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::peer::harness::{Shim, initialize_params};
use crate::system::launch::Launch;
use crate::transcript::Transcript;
use crate::verdict::{CaseError, violation};

/// The result of `initialize`, from a shim that then ends as soon as its input does. What it did instead is told with
/// its standard error.
pub fn initialize(words: &[String], directory: &Path, patience: Duration) -> Result<Value, CaseError> {
    let error_log = directory.join("stderr");
    let launch = Launch::new(&words[0], directory)
        .arguments(words)
        .variable("PATH", "/usr/bin:/bin")
        .variable("HOME", directory)
        .variable("TMPDIR", directory)
        .descriptor(2, File::create(&error_log)?);
    let mut shim = Shim::over(launch, error_log, Transcript::new(|_| {}), patience)?;
    let answer = shim.call("initialize", initialize_params());
    let tail = shim.error_text();
    match answer {
        Ok(result) => {
            shim.close_input();
            shim.process
                .wait("the shim after the end of its input", patience)?;
            Ok(result)
        }
        Err(CaseError::Violation { expected, observed }) => Err(violation(
            expected,
            match tail.trim_end() {
                "" => observed,
                tail => format!("{observed}; its standard error: {tail}"),
            },
        )),
        Err(error) => Err(error),
    }
}
