//! The process in which a case or a trial runs: forked by the supervisor, reports by lines of JSON on a pipe.

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Assignment;
use super::channel::Secret;
use crate::case::context::{Context, Inodes};
use crate::spec::requirements::Role;
use crate::suite;
use crate::system::clock;
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict, harness};

/// What this process tells its supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event<T> {
    /// A line of the wire.
    Wire(String),
    /// How long this process was held up, before it says that the work is over.
    HeldUp(Duration),
    /// The work is over.
    Over(Result<T, CaseError>),
}

/// Does `work` for `assignment` in this process and reports to `pipe`.
pub fn run<T: Serialize>(
    assignment: Assignment,
    work: impl FnOnce(Assignment, Transcript) -> Result<T, CaseError>,
    pipe: File,
) {
    let pipe = Arc::new(Mutex::new(pipe));
    let secret = assignment.secret.clone();
    let transcript = Transcript::new({
        let (pipe, secret) = (pipe.clone(), secret.clone());
        move |line| send(&pipe, &secret, &Event::<T>::Wire(line.to_owned()))
    });
    let message = Arc::new(Mutex::new(String::new()));
    std::panic::set_hook(Box::new({
        let message = message.clone();
        move |panic| {
            if let Ok(mut message) = message.lock() {
                *message = panic.to_string();
            }
        }
    }));
    let held_up_before = clock::held_up();
    let outcome = catch_unwind(AssertUnwindSafe(|| work(assignment, transcript))).unwrap_or_else(|_| {
        let message = message.lock().map(|message| message.clone()).unwrap_or_default();
        Err(harness(format_args!(
            "the suite panicked, which is a bug in it: {message}"
        )))
    });
    let held_up = clock::held_up().saturating_sub(held_up_before);
    send(&pipe, &secret, &Event::<T>::HeldUp(held_up));
    send(&pipe, &secret, &Event::Over(outcome));
}

/// The case `id`.
pub fn judge(id: &str, assignment: Assignment, transcript: Transcript) -> Verdict {
    let case = suite::find(id).ok_or_else(|| harness(format_args!("no case {id}")))?;
    let inodes = match case.role {
        Role::Server | Role::E2e => Inodes::OfEachProgram,
        Role::Wrapper | Role::Shell => Inodes::OfTheCase,
    };
    let mut context = Context::new(
        assignment.settings,
        assignment.probe_executable,
        inodes,
        &assignment.directory,
        transcript,
    )?;
    std::env::set_current_dir(context.directory())?;
    (case.run)(&mut context)
}

fn send<T: Serialize>(pipe: &Mutex<File>, secret: &Secret, event: &Event<T>) {
    let Ok(line) = secret.line(event) else {
        return;
    };
    let mut pipe = pipe.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // The supervisor reads until we end; where it is gone, this process is about to be killed.
    let _ = pipe.write_all(&line);
}
