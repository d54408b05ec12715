//! The selection of tools and of their backend, for each setting of the switches.

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Shim;
use crate::spec::requirements::Role;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("tools.select/here", here),
    case("tools.select/unconfigured", unconfigured),
    case("tools.select/remote", remote),
]);

/// Switches in the order of the table in SPEC.md, where `None` is any; the tools, and whether the backend is the wrapped one.
type Row = ([Option<bool>; 4], &'static [&'static str], bool);

const ON: Option<bool> = Some(true);
const OFF: Option<bool> = Some(false);
const SHELL_COMMAND: &[&str] = &["shell_command"];
const UNIFIED_EXEC: &[&str] = &["exec_command", "write_stdin"];

const TABLE: [Row; 6] = [
    ([OFF, None, None, None], &[], false),
    ([ON, OFF, OFF, None], SHELL_COMMAND, false),
    ([ON, OFF, ON, None], UNIFIED_EXEC, false),
    ([ON, ON, OFF, None], SHELL_COMMAND, true),
    ([ON, ON, ON, OFF], SHELL_COMMAND, true),
    ([ON, ON, ON, ON], UNIFIED_EXEC, true),
];

fn selected(
    shim: &mut Shim,
    switches: [bool; 4],
    environment: &str,
) -> Result<(Vec<String>, Value), CaseError> {
    let [shell_tool, wrapped_shell, unified_exec, composition] = switches;
    let result = shim.call(
        "tools/select",
        json!({
            "shell_tool": shell_tool, "wrapped_shell": wrapped_shell, "unified_exec": unified_exec,
            "composition": composition, "environment": environment,
        }),
    )?;
    let tools = result["tools"]
        .as_array()
        .and_then(|tools| tools.iter().map(|tool| Some(tool.as_str()?.to_owned())).collect())
        .ok_or_else(|| violation("tools/select gives tools, a list of names", &result))?;
    Ok((tools, result["backend"].clone()))
}

/// Demands the table's tools and backend of all sixteen settings.
fn expect_table(context: &mut Context, environment: &str, may_wrap: bool) -> Verdict {
    let mut shim = Shim::start(context)?;
    for number in 0..16 {
        let switches = [8, 4, 2, 1].map(|bit| number & bit != 0);
        let matches = |row: &&Row| {
            row.0
                .iter()
                .zip(switches)
                .all(|(wanted, is)| wanted.is_none_or(|wanted| wanted == is))
        };
        let (_, tools, wrapped) = TABLE
            .iter()
            .find(matches)
            .ok_or_else(|| crate::verdict::harness("the table has no row for these switches"))?;
        let backend = if *wrapped && may_wrap { "wrapped" } else { "direct" };
        let (mut selected, by) = selected(&mut shim, switches, environment)?;
        if *tools == UNIFIED_EXEC {
            // A server may offer more beside these.
            selected.retain(|name| UNIFIED_EXEC.contains(&&**name) || SHELL_COMMAND.contains(&&**name));
        }
        selected.sort();
        expect::with_input(
            format_args!("shell tool, wrapped shell, unified exec and composition: {switches:?}"),
            expect::equal("tools, sorted", tools.to_vec(), selected)
                .and_then(|()| expect::equal("backend", &json!(backend), &by)),
        )?;
    }
    shim.shutdown()
}

/// Where shell and wrapper are configured.
fn here(context: &mut Context) -> Verdict {
    expect_table(context, "local", true)
}

/// Where they are not, the backend is direct, and the tools are the same.
fn unconfigured(context: &mut Context) -> Verdict {
    expect_table(context, "unconfigured", false)
}

/// Nor elsewhere.
fn remote(context: &mut Context) -> Verdict {
    expect_table(context, "remote", false)
}
