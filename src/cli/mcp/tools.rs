//! What a model reads about the tools.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::Value;

use super::arguments;
use super::one_shot::CommandResult;
use super::session_results::{ControlResult, SessionList, SessionResult};

pub(super) const SHELL_COMMAND: &str = "shell_command";
pub(super) const EXEC_COMMAND: &str = "exec_command";
pub(super) const WRITE_STDIN: &str = "write_stdin";
pub(super) const CONTROL_SESSION: &str = "control_session";
pub(super) const LIST_SESSIONS: &str = "list_sessions";

const DECIDED: &str = "The user's policy decides about every program that the shell executes: it runs in the sandbox, runs \
outside of it, is denied, or waits for the user's approval. A denial is a line `Execution denied: REASON` on standard error; \
don't work around it, but tell the user what you needed the command for.";

/// The tools of these names, and what it takes to use them.
pub(super) fn selected(names: &[&str]) -> Vec<Tool> {
    let mut tools = Vec::new();
    for name in names {
        match *name {
            SHELL_COMMAND => tools.push(shell_command()),
            EXEC_COMMAND => tools.push(exec_command()),
            WRITE_STDIN => tools.extend([write_stdin(), control_session(), list_sessions()]),
            other => unreachable!("no tool is called {other}"),
        }
    }
    for tool in &mut tools {
        portable(Arc::make_mut(&mut tool.input_schema));
        if let Some(schema) = &mut tool.output_schema {
            portable(Arc::make_mut(schema));
        }
    }
    tools
}

/// Leaves in a schema what all clients understand: one type per value, which may be absent instead of null, no formats of
/// numbers, and texts without line breaks.
fn portable(schema: &mut JsonObject) {
    schema.remove("format");
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [single] = &types[..] {
            let single = single.clone();
            schema.insert("type".to_owned(), single);
        }
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    for (_, value) in schema {
        match value {
            Value::Object(inner) => portable(inner),
            Value::Array(list) => list
                .iter_mut()
                .filter_map(Value::as_object_mut)
                .for_each(portable),
            _ => {}
        }
    }
}

fn tool(name: &'static str, description: String) -> Tool {
    Tool::new(name, description, JsonObject::new())
}

fn shell_command() -> Tool {
    let description = format!(
        "Runs a script in a shell, waits until it ends, and returns its exit code and output. Standard input is empty. What it \
         leaves running in the background is killed when it ends. {DECIDED}"
    );
    tool(SHELL_COMMAND, description)
        .with_title("Run a shell command")
        .with_input_schema::<arguments::ShellCommand>()
        .with_output_schema::<CommandResult>()
        .annotate(executes())
}

fn exec_command() -> Tool {
    let description = format!(
        "Runs a script in a shell, in a new session, and returns its output and exit code. If it is still running after \
         yield_time_ms, the result has a session_id instead of an exit code, and it goes on running: use write_stdin to wait \
         for more output or to type, control_session to interrupt, resize or close it. Pass tty for programs that need a \
         terminal, such as python3 without a script. Colors and pagers are switched off (TERM=dumb, PAGER=cat). What a script \
         leaves running in the background is killed once its shell has ended. {DECIDED}"
    );
    tool(EXEC_COMMAND, description)
        .with_title("Run a command in a session")
        .with_input_schema::<arguments::ExecCommand>()
        .with_output_schema::<SessionResult>()
        .annotate(executes())
}

fn write_stdin() -> Tool {
    let description = "Types into a running session, if chars is not empty, then waits for output and returns what was written \
                       since the last call. Without chars it only waits: use that to follow a long command. When the command \
                       has ended, the result has its exit code, and the session is gone.";
    tool(WRITE_STDIN, description.to_owned())
        .with_title("Type into a session")
        .with_input_schema::<arguments::WriteStdin>()
        .with_output_schema::<SessionResult>()
        .annotate(executes())
}

fn control_session() -> Tool {
    let description = "Interrupts what runs in the foreground of a session, changes the size of its terminal, or closes it with \
                       everything that runs in it. Close sessions that you no longer need.";
    tool(CONTROL_SESSION, description.to_owned())
        .with_title("Control a session")
        .with_input_schema::<arguments::ControlSession>()
        .with_output_schema::<ControlResult>()
        .annotate(
            ToolAnnotations::new()
                .read_only(false)
                .destructive(true)
                .idempotent(false)
                .open_world(false),
        )
}

fn list_sessions() -> Tool {
    let description = "Lists the sessions that exec_command has started and that have not been closed, with the command of \
                       each: for when you have lost track of a session_id.";
    tool(LIST_SESSIONS, description.to_owned())
        .with_title("List the sessions")
        .with_input_schema::<arguments::ListSessions>()
        .with_output_schema::<SessionList>()
        .annotate(
            ToolAnnotations::new()
                .read_only(true)
                .destructive(false)
                .idempotent(true)
                .open_world(false),
        )
}

/// Of what executes commands: they may do anything that the sandbox and the policy allow.
fn executes() -> ToolAnnotations {
    ToolAnnotations::new()
        .read_only(false)
        .destructive(true)
        .idempotent(false)
        .open_world(true)
}
