//! Which tools a model is offered, and by which backend they are served.

use serde_json::{Value, json};

use crate::faults::{Fault, Variant, broken, unusual};
use crate::rpc::{Outcome, invalid};

/// The method `tools/select`.
pub fn select(params: &Value) -> Outcome {
    let switch = |name: &str| {
        let value = params[name].as_bool();
        value.ok_or_else(|| invalid(format_args!("no {name}, a truth value")))
    };
    let (shell, wrapped, unified, mut composition) = (
        switch("shell_tool")?,
        switch("wrapped_shell")?,
        switch("unified_exec")?,
        switch("composition")?,
    );
    let is_local = match params["environment"].as_str() {
        Some("local") => true,
        Some("unconfigured") => broken(Fault::UnconfiguredIsWrapped),
        Some("remote") => broken(Fault::RemoteIsWrapped),
        _ => return Err(invalid("environment is neither local, unconfigured nor remote")),
    };
    composition |= broken(Fault::UnifiedExecWins);
    let is_enabled = unified || broken(Fault::CompositionEnables) && composition;
    let by_shell_command = !is_enabled || wrapped && !composition;
    let mut tools = match by_shell_command {
        true => vec!["shell_command"],
        false => vec!["exec_command", "write_stdin"],
    };
    if broken(Fault::BothWaysOffered) && unified {
        tools = vec!["shell_command", "exec_command", "write_stdin"];
    }
    if unusual(Variant::MoreTools) && !by_shell_command {
        tools.push("close_terminal");
    }
    let mut backend = if wrapped && is_local { "wrapped" } else { "direct" };
    if broken(Fault::UnifiedExecIsDirect) && !by_shell_command {
        backend = "direct";
    }
    if !shell && !broken(Fault::ToolsWithoutTheShell) {
        (tools, backend) = (Vec::new(), "direct");
    }
    Ok(json!({"tools": tools, "backend": backend}))
}
