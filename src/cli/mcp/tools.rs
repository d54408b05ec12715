//! What a model reads about the tools.

use rmcp::model::{Tool, ToolAnnotations};

use super::arguments;
use super::one_shot::CommandResult;

/// The names that this server knows.
pub(super) const SHELL_COMMAND: &str = "shell_command";

const DECIDED: &str = "The user's policy decides about every program that the shell executes: it runs in the sandbox, runs \
outside of it, is denied, or waits for the user's approval. A denial is a line `Execution denied: REASON` on standard error; \
don't work around it, but tell the user what you needed the command for.";

/// The tools of one-shot commands.
pub(super) fn one_shot() -> Vec<Tool> {
    let description = format!(
        "Runs a script in a shell, waits until it ends, and returns its exit code and output. Standard input is empty. What it \
         leaves running in the background is killed when it ends. {DECIDED}"
    );
    let tool = Tool::new(SHELL_COMMAND, description, rmcp::model::JsonObject::new())
        .with_title("Run a shell command")
        .with_input_schema::<arguments::ShellCommand>()
        .with_output_schema::<CommandResult>()
        .annotate(executes());
    vec![tool]
}

/// Of what executes commands: they may do anything that the sandbox and the policy allow.
fn executes() -> ToolAnnotations {
    ToolAnnotations::new()
        .read_only(false)
        .destructive(true)
        .idempotent(false)
        .open_world(true)
}
