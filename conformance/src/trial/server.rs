//! What the shim says of itself, and whether its server does the simplest thing.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::case::context::{Context, Inodes, Settings};
use crate::case::programs;
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::{Answer, Question, Shim, initialize_params};
use crate::system::launch::Launch;
use crate::system::tiny::{self, Kind};
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict, violation};

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

fn decide(question: &Question) -> Answer {
    match question.arguments.first().map(String::as_str) {
        Some("deny") => Answer::Deny(None),
        Some("escalate") => Answer::Escalate,
        _ => Answer::Run,
    }
}

/// Demands of a server each decision once, and the result of a program that ends at once.
pub fn serves(settings: &Settings, directory: &Path) -> Verdict {
    let context = Context::new(
        settings.clone(),
        programs::source()?,
        Inodes::OfEachProgram,
        directory,
        Transcript::new(|_| {}),
    )?;
    let program = context.path("bin/program");
    tiny::write(&program, Kind::Binary, b'p', 0)?;
    let program = program.to_string_lossy();
    let null = File::options().write(true).open("/dev/null")?;
    let mut shim = Shim::start(&context)?;
    shim.decide_by(decide);
    let mut session = shim.probe_session(&context, "tried")?;
    for (decision, action) in [
        ("run", json!("Run")),
        ("deny", json!({"Deny": {"reason": null}})),
        ("escalate", json!("Escalate")),
    ] {
        let mut requester = session.socket.open()?;
        requester.request(&RequestMessage::new(&program, &[decision], "/"))?;
        requester.expect_action(&action)?;
        if decision == "escalate" {
            requester.send_descriptors(&[(1, &null)])?;
            requester.expect_exit_code(0)?;
        }
    }
    Ok(())
}
