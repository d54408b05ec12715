//! What tools take, under the original's names. Descriptions are for the model that calls them.

use std::num::{NonZeroU16, NonZeroU64};

use rmcp::model::JsonObject;
use rmcp::schemars::{self, JsonSchema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How long a one-shot command may run if the call doesn't say.
pub(super) const DEFAULT_TIMEOUT_MS: u64 = 10_000;

/// How long `exec_command` waits if the call doesn't say.
pub(super) const DEFAULT_EXEC_YIELD_MS: u64 = 10_000;

/// How long `write_stdin` waits if the call doesn't say.
pub(super) const DEFAULT_WRITE_YIELD_MS: u64 = 250;

/// How long they wait at most.
pub(super) const MOST_YIELD_MS: u64 = 300_000;

/// Arguments of `shell_command`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShellCommand {
    /// The script to run.
    pub(super) command: String,
    /// Directory to run it in; relative paths are relative to the workspace. Default: the workspace.
    pub(super) workdir: Option<String>,
    /// Kill everything after this many milliseconds. Default: 10000. Waiting for the user's approval does not count.
    pub(super) timeout_ms: Option<NonZeroU64>,
    /// Whether to run a login shell, which reads the user's profile. Default: true, unless the server was started with
    /// --no-login.
    pub(super) login: Option<bool>,
}

/// Arguments of `exec_command`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecCommand {
    /// The script to run.
    pub(super) cmd: String,
    /// Directory to run it in; relative paths are relative to the workspace. Default: the workspace.
    pub(super) workdir: Option<String>,
    /// The shell to run it in. There is only one, the default; naming another one is an error.
    pub(super) shell: Option<String>,
    /// Whether to run a login shell, which reads the user's profile. Default: true, unless the server was started with
    /// --no-login.
    pub(super) login: Option<bool>,
    /// Whether to run it on a terminal of 80 columns and 24 rows, which interactive programs need. Default: false, on pipes.
    #[serde(default)]
    pub(super) tty: bool,
    /// How many milliseconds to wait for the command to end. On a terminal, the call already returns when output pauses.
    /// Default: 10000.
    #[schemars(range(max = 300_000))]
    pub(super) yield_time_ms: Option<u64>,
    /// About how many tokens of output to return at most; of more, the first and the last part. Default: 10000.
    pub(super) max_output_tokens: Option<u32>,
}

/// Arguments of `write_stdin`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteStdin {
    /// The session, as exec_command returned it.
    pub(super) session_id: u64,
    /// What to type. End a line with \n. Control characters are keys: \u0003 is Ctrl-C, \u0004 is Ctrl-D. Default: nothing,
    /// to wait for output only.
    pub(super) chars: Option<String>,
    /// How many milliseconds to wait for output. On a terminal, the call already returns when output pauses. Default: 250.
    #[schemars(range(max = 300_000))]
    pub(super) yield_time_ms: Option<u64>,
    /// About how many tokens of output to return at most; of more, the first and the last part. Default: 10000.
    pub(super) max_output_tokens: Option<u32>,
}

/// Arguments of `control_session`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ControlSession {
    /// The session, as exec_command returned it.
    pub(super) session_id: u64,
    /// interrupt: send SIGINT to what runs in the foreground, like Ctrl-C. resize: change the size of the terminal. close:
    /// kill everything in the session, and forget it.
    pub(super) action: Action,
    /// For resize: the new height of the terminal, in lines.
    pub(super) rows: Option<NonZeroU16>,
    /// For resize: the new width of the terminal, in characters.
    pub(super) columns: Option<NonZeroU16>,
}

/// What `control_session` can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum Action {
    Interrupt,
    Resize,
    Close,
}

/// Arguments of `list_sessions`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListSessions {}

/// Reads the arguments of a call.
///
/// # Errors
/// What is wrong with them, for the model.
pub(super) fn read<T: DeserializeOwned>(tool: &str, arguments: Option<JsonObject>) -> Result<T, String> {
    serde_json::from_value(arguments.unwrap_or_default().into()).map_err(|error| {
        format!(
            "{tool}: {error}. Nothing was done. No parameter selects the sandbox, the policy or an approval: the user's \
             policy decides about each program that a command executes."
        )
    })
}
