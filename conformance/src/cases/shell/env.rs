//! shell.env: the command's exported environment, and nothing else.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::{Dialect, no_such_syntax};
use crate::peer::recording_wrapper::{Call, RecordedShell, is_wrapper_variable};
use crate::spec::requirements::Role;
use crate::stage::shell::command;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.env/exported", exported),
    case("shell.env/prefix-assignment", prefix_assignment),
    case("shell.env/wrapper-variables-there", wrapper_variables_there),
    case("shell.env/equals-the-stock", equals_the_stock),
    case("shell.env/exported-functions", exported_functions),
    case("shell.env/values-as-bytes", values_as_bytes),
]);

/// Exported variables are there, the empty one too; unexported and unset ones are not.
fn exported(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    let mut shell = RecordedShell::new(context)?;
    shell.set_variable("INHERITED", Some("from outside".as_ref()));
    shell.set_variable("TAKEN_AWAY", Some("x".as_ref()));
    shell
        .run("export A=1; B=2; export C=; D=4; export D; unset D; unset TAKEN_AWAY; INHERITED='changed inside'; tool")?
        .expect_output("")?;
    let call = shell.only_call("tool")?;
    expect_variables(
        &call,
        &[
            ("A", Some("1")),
            ("B", None),
            ("C", Some("")),
            ("D", None),
            ("TAKEN_AWAY", None),
            ("INHERITED", Some("changed inside")),
        ],
    )
}

/// A prefix assignment is in the environment of its command and of no other.
fn prefix_assignment(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    command(context, "next")?;
    command(context, "last")?;
    let shell = RecordedShell::new(context)?;
    shell
        .run("export Y=old\nX=1 Y=new EMPTY= tool\nnext\n( X=2 exec last )")?
        .expect_output("")?;
    expect_variables(
        &shell.only_call("tool")?,
        &[("X", Some("1")), ("Y", Some("new")), ("EMPTY", Some(""))],
    )?;
    expect_variables(
        &shell.only_call("next")?,
        &[("X", None), ("Y", Some("old")), ("EMPTY", None)],
    )?;
    expect_variables(&shell.only_call("last")?, &[("X", Some("2"))])
}

/// The wrapper finds EXEC_WRAPPER and CODEX_ESCALATE_SOCKET as the shell was given them; the alias
/// BASH_EXEC_WRAPPER too, where the shell was given it, and not where it wasn't.
fn wrapper_variables_there(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    command(context, "again")?;
    let mut shell = RecordedShell::new(context)?;
    shell.run("tool")?.expect_output("")?;
    let wrapper = shell.wrapper.text().to_owned();
    let given = [
        ("EXEC_WRAPPER", Some(wrapper.as_str())),
        ("CODEX_ESCALATE_SOCKET", Some("20")),
    ];
    expect_variables(&shell.only_call("tool")?, &given)?;
    if context.settings.implementations.wrapper_variable.is_none() {
        expect_variables(&shell.only_call("tool")?, &[("BASH_EXEC_WRAPPER", None)])?;
    }
    shell.set_variable("BASH_EXEC_WRAPPER", Some(wrapper.as_ref()));
    shell.run("again")?.expect_output("")?;
    let call = shell.only_call("again")?;
    expect_variables(&call, &given)?;
    expect_variables(&call, &[("BASH_EXEC_WRAPPER", Some(&wrapper))])
}

/// Entry for entry, the environment is the stock shell's, what the shell itself maintains (`_`, SHLVL, PWD,
/// OLDPWD) included.
fn equals_the_stock(context: &mut Context) -> Verdict {
    let program = command(context, "tool")?;
    let mut shell = RecordedShell::new(context)?;
    shell.set_variable("SHLVL", Some("7".as_ref()));
    shell.set_variable("ODD", Some("a=b\n=c".as_ref()));
    let script = "export A=1; B=2; cd /; cd /usr; set -a; AUTOMATIC=3; set +a; X=4 tool; ( cd /; tool ); tool | tool; exec tool";
    let stock = shell.run_stock(script)?;
    let wanted: Vec<Vec<String>> = program
        .starts()?
        .iter()
        .map(|report| sorted_environment(&report.environment))
        .collect();
    let result = shell.run(script)?;
    result.expect_as_stock(script, &stock)?;
    let calls = shell.calls()?;
    shell.expect_calls(&["tool"; 5])?;
    for (wanted, call) in wanted.iter().zip(calls) {
        expect::equal(
            "environment of the call, wrapper variables aside, as in the stock shell",
            wanted,
            &sorted_environment(&call.report.environment),
        )?;
    }
    Ok(())
}

/// bash's exported functions travel to the command.
fn exported_functions(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    let shell = RecordedShell::new(context)?;
    if shell.dialect != Dialect::Bash {
        return Err(no_such_syntax("exported functions"));
    }
    shell
        .run("f() { echo hi; }; export -f f; g() { :; }; tool")?
        .expect_output("")?;
    let call = shell.only_call("tool")?;
    expect::that(
        call.report.variable("BASH_FUNC_f%%").is_some(),
        "BASH_FUNC_f%% is in the command's environment",
        format_args!("environment: {:?}", sorted_environment(&call.report.environment)),
    )?;
    expect_variables(&call, &[("BASH_FUNC_g%%", None)])
}

/// Values with newlines and with bytes that are not UTF-8 arrive as they are, and a long one whole.
fn values_as_bytes(context: &mut Context) -> Verdict {
    use std::os::unix::ffi::OsStrExt;
    command(context, "tool")?;
    let mut shell = RecordedShell::new(context)?;
    let value = std::ffi::OsStr::from_bytes(b"a\xff\x80\nb ");
    shell.set_variable("BYTES", Some(value));
    let long = "0123456789".repeat(10_000);
    shell.set_variable("LONG", Some(long.as_ref()));
    shell.run("tool; :")?.expect_output("")?;
    let call = shell.only_call("tool")?;
    expect::equal(
        "BYTES of the call",
        Some(value.as_bytes().to_vec()),
        call.report.variable("BYTES"),
    )?;
    expect::equal(
        "length of LONG",
        Some(long.len()),
        call.report.variable("LONG").map(|value| value.len()),
    )
}

/// Demands these values of variables; none stands for "not there".
fn expect_variables(call: &Call, wanted: &[(&str, Option<&str>)]) -> Result<(), CaseError> {
    for (name, value) in wanted {
        let seen = call
            .report
            .variable(name)
            .map(|value| String::from_utf8_lossy(&value).into_owned());
        expect::equal(
            &format!("{name} in the environment of {}", call.file_name()),
            value.map(str::to_owned),
            seen,
        )?;
    }
    Ok(())
}

fn sorted_environment(entries: &[Vec<u8>]) -> Vec<String> {
    let mut entries: Vec<String> = entries
        .iter()
        .filter(|entry| !is_wrapper_variable(entry))
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .collect();
    entries.sort();
    entries
}
