//! What tools take, under the original's names. Descriptions are for the model that calls them.

use rmcp::model::JsonObject;
use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long a one-shot command may run if the call doesn't say.
pub(super) const DEFAULT_TIMEOUT_MS: u64 = 10_000;

/// Arguments of `shell_command`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShellCommand {
    /// The script to run.
    pub(super) command: String,
    /// Directory to run it in; relative paths are relative to the workspace. Default: the workspace.
    pub(super) workdir: Option<String>,
    /// Kill everything after this many milliseconds. Default: 10000. Waiting for the user's approval does not count.
    #[schemars(range(min = 1))]
    pub(super) timeout_ms: Option<u64>,
    /// Whether to run a login shell, which reads the user's profile. Default: true, unless the server was started with
    /// --no-login.
    pub(super) login: Option<bool>,
}

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
