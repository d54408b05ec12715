//! What is tried of the implementations under test before the first case: each trial runs in a process of its own, as a
//! case does, since it executes what is judged.

mod answer;
mod server;
pub mod shell;
mod wrapper;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::shell::Calls;
use crate::case::context::Settings;
use crate::verdict::{CaseError, harness};

/// How long the suite waits for one step of what is tried, before `--timeout-scale`.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a trial may take in all, before `--timeout-scale`.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// One trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trial {
    /// Asks the shell for its version.
    ShellVersion,
    /// Runs six commands in the shell.
    ShellCallsWrapper,
    /// Calls the wrapper and denies its command.
    WrapperDenied,
    /// Calls the wrapper and sees which extensions it uses.
    WrapperExtensions,
    /// Asks the shim to `initialize`.
    ServerInitialize,
    /// Asks the server for each decision once, and for a result.
    ServerServes,
}

/// What a trial found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// First line of the shell's `--version`, if it gave one.
    Version(Option<String>),
    /// Which of the shell's commands went to the wrapper.
    Calls(Calls),
    /// The wrapper asked, and ended as it should.
    Denied,
    /// The extensions that the wrapper was seen to have.
    Extensions {
        /// Their names.
        seen: Vec<String>,
        /// Whether the suite waited in vain for what every wrapper does.
        in_vain: bool,
    },
    /// The result of `initialize`.
    Initialized(serde_json::Value),
    /// The server gave each decision and a result.
    Served,
}

impl Trial {
    /// Tries it in this process, in `directory`.
    ///
    /// # Errors
    /// What was tried did something else than it should, or the suite could not do its part.
    pub fn attempt(self, settings: &Settings, directory: &Path) -> Result<Found, CaseError> {
        let implementations = &settings.implementations;
        let patience = PATIENCE.mul_f64(settings.timeout_scale);
        let shell = || implementations.shell.as_deref().ok_or_else(|| missing("shell"));
        let wrapper = || {
            implementations
                .wrapper
                .as_deref()
                .ok_or_else(|| missing("wrapper"))
        };
        match self {
            Trial::ShellVersion => shell::version(shell()?, directory, patience).map(Found::Version),
            Trial::ShellCallsWrapper => {
                let variable = implementations.wrapper_variable.as_deref();
                shell::calls_wrapper(shell()?, variable, directory, patience).map(Found::Calls)
            }
            Trial::WrapperDenied => wrapper::denied(wrapper()?, directory, patience).map(|()| Found::Denied),
            Trial::WrapperExtensions => {
                let (seen, in_vain) = wrapper::extensions(wrapper()?, directory, patience)?;
                Ok(Found::Extensions { seen, in_vain })
            }
            Trial::ServerInitialize => {
                let words = implementations
                    .server
                    .as_deref()
                    .ok_or_else(|| missing("server"))?;
                server::initialize(words, directory, patience).map(Found::Initialized)
            }
            Trial::ServerServes => server::serves(settings, directory).map(|()| Found::Served),
        }
    }
}

fn missing(what: &str) -> CaseError {
    harness(format_args!("no {what} is named"))
}
