//! What the tools about sessions return, as data and as text.

use rmcp::schemars::{self, JsonSchema};
use serde::Serialize;

use super::arguments::Action;

/// What came of a command so far.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SessionResult {
    /// Names the session if the command is still running, for write_stdin and control_session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_id: Option<u64>,
    /// The shell's exit code, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exit_code: Option<i32>,
    /// Number of the signal that killed the shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signal: Option<i32>,
    /// What the sandbox allows, if the command failed: that it refused more may be why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sandbox: Option<String>,
    /// What was written since the last call, standard output and standard error together; of too much, the first and the last
    /// part.
    pub(super) output: String,
    /// How many bytes are not shown.
    pub(super) bytes_left_out: u64,
    /// Whether bytes that are not UTF-8 are shown as U+FFFD.
    pub(super) bytes_replaced: bool,
    /// Whether all of the input was taken: the program may have ended, or not read it in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input_taken: Option<bool>,
    /// Whether a command on this server waits for the user's approval.
    pub(super) waits_for_approval: bool,
    /// Seconds that the call took.
    pub(super) wall_time_seconds: f64,
    /// Processes of the command that could not be killed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) survivors: Vec<String>,
}

/// What control_session did.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ControlResult {
    pub(super) session_id: u64,
    /// What was done.
    pub(super) action: Action,
    /// Processes that could not be killed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) survivors: Vec<String>,
}

/// The sessions that there are.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SessionList {
    /// Those used last first.
    pub(super) sessions: Vec<ListedSession>,
}

/// One of them.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ListedSession {
    pub(super) session_id: u64,
    /// What it was started with.
    pub(super) command: String,
    /// Whether it has a terminal, or pipes.
    pub(super) tty: bool,
    /// Whether the shell is still running.
    pub(super) running: bool,
}

impl SessionResult {
    /// The same as a text.
    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        match (self.session_id, self.exit_code, self.signal) {
            (Some(id), ..) => lines.push(format!("Still running, session_id: {id}")),
            (_, _, Some(signal)) => lines.push(format!("Killed by signal {signal}")),
            (_, code, _) => lines.push(format!("Exit code: {}", code.unwrap_or_default())),
        }
        lines.push(format!("Wall time: {:.1} s", self.wall_time_seconds));
        if let Some(can) = &self.sandbox {
            lines.push(format!("If the sandbox refused it something: it {can}."));
        }
        if self.input_taken == Some(false) {
            lines.push(
                "Not all of the input was taken: the program has ended, or did not read it in time."
                    .to_owned(),
            );
        }
        if self.waits_for_approval {
            lines.push("A command waits for the user's approval.".to_owned());
        }
        if self.bytes_replaced {
            lines.push("Bytes that are not UTF-8 are shown as U+FFFD.".to_owned());
        }
        for process in &self.survivors {
            lines.push(format!("Could not be killed: {process}"));
        }
        lines.push(if self.output.is_empty() {
            "No output.".to_owned()
        } else {
            format!("Output:\n{}", self.output)
        });
        lines.join("\n")
    }
}

impl ControlResult {
    /// The same as a text.
    pub(super) fn text(&self) -> String {
        let id = self.session_id;
        let mut text = match self.action {
            Action::Interrupt => {
                format!("Interrupted session {id}. Call write_stdin without chars to see what became of it.")
            }
            Action::Resize => format!("Resized the terminal of session {id}."),
            Action::Close => format!("Closed session {id}, and ended everything in it."),
        };
        for process in &self.survivors {
            text.push_str(&format!("\nCould not be killed: {process}"));
        }
        text
    }
}

impl SessionList {
    /// The same as a text.
    pub(super) fn text(&self) -> String {
        let lines = self.sessions.iter().map(|session| {
            let state = if session.running { "running" } else { "ended" };
            let kind = if session.tty { "terminal" } else { "pipes" };
            format!("{} ({state}, {kind}): {}", session.session_id, session.command)
        });
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() {
            "There are no sessions.".to_owned()
        } else {
            lines.join("\n")
        }
    }
}
