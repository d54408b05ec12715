//! shell.sticky: interception stays on, whatever a script does to the variables.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::program::Program;
use crate::peer::recording_wrapper::{RecordedShell, is_wrapper_variable};
use crate::spec::requirements::Role;
use crate::stage::shell::command;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.sticky/unset-and-assign", unset_and_assign),
    case("shell.sticky/prefix-assignment", prefix_assignment),
    case("shell.sticky/exec-c", exec_c),
    case("shell.sticky/nested-shell", nested_shell),
    case("shell.sticky/socket-variable", socket_variable),
    case("shell.sticky/other-programs-are-free", other_programs_are_free),
]);

/// The ways of a script to change or lose a variable, as commands that come before.
fn changes(dialect: Dialect, name: &str, other: &str) -> Vec<String> {
    let mut changes = vec![
        format!("unset {name}"),
        format!("{name}="),
        format!("{name}={other}"),
        format!("{name}=' {other}'"),
        format!("export {name}={other}"),
        format!("export {name}="),
        format!("unset {name}; {name}=/nonexistent; export {name}"),
        format!("readonly {name}={other}"),
        format!("read {name} <<E\n{other}\nE\n"),
        format!("for {name} in {other}; do :; done"),
        format!(": ${{{name}:+}}; eval 'unset {name}'"),
    ];
    match dialect {
        Dialect::Bash => changes.extend([
            format!("export -n {name}"),
            format!("declare +x {name}"),
            format!("declare +x {name}={other}"),
            format!("printf -v {name} %s {other}"),
            format!("declare -n reference={name}; reference={other}; unset reference"),
            format!("declare -A {name} 2>/dev/null; set -a; {name}={other}"),
            format!("export -n {name}={other}"),
        ]),
        Dialect::Zsh => changes.extend([
            format!("typeset +x {name}"),
            format!("typeset +x {name}={other}"),
            format!("setopt all_export; {name}={other}"),
            format!("unsetopt all_export global_export; {name}={other}"),
        ]),
        Dialect::Other => {}
    }
    changes
}

/// A recorder, another wrapper that must never be called, and a command.
struct Scene<'a> {
    shell: RecordedShell<'a>,
    other: Program,
}

impl<'a> Scene<'a> {
    fn new(context: &'a Context) -> Result<Scene<'a>, CaseError> {
        command(context, "tool")?;
        let mut shell = RecordedShell::new(context)?;
        shell.be_patient(2);
        let other = command(context, "other-wrapper")?;
        Ok(Scene { shell, other })
    }

    /// Runs a script and demands calls of `tool` (and whatever else) that all have the variables of the start.
    fn run(&self, seen: &mut usize, script: &str, names: &[&str]) -> Verdict {
        let result = self.shell.run(script)?;
        let calls = self.shell.some_calls()?;
        let new = &calls[(*seen).min(calls.len())..];
        *seen = calls.len();
        let called: Vec<String> = new.iter().map(|call| call.file_name()).collect();
        expect::equal(
            &format!("commands of {script:?} that went to the wrapper"),
            names,
            called,
        )?;
        for call in new {
            let variable = |name: &str| {
                let value = call.report.variable(name)?;
                Some(String::from_utf8_lossy(&value).into_owned())
            };
            let entries = call
                .report
                .environment
                .iter()
                .filter(|entry| is_wrapper_variable(entry))
                .count();
            expect::equal(
                &format!(
                    "EXEC_WRAPPER, CODEX_ESCALATE_SOCKET and number of wrapper variables, in {script:?}"
                ),
                (Some(self.shell.wrapper.text()), Some("20"), 2),
                (
                    variable("EXEC_WRAPPER").as_deref(),
                    variable("CODEX_ESCALATE_SOCKET").as_deref(),
                    entries,
                ),
            )?;
        }
        self.other.expect_not_started()?;
        expect::equal(
            &format!("standard error of {script:?}"),
            "",
            result.error_text().as_str(),
        )
    }
}

/// After each change, commands go to the wrapper of the start, with the variables of the start.
fn unset_and_assign(context: &mut Context) -> Verdict {
    let scene = Scene::new(context)?;
    let mut seen = 0;
    for change in changes(scene.shell.dialect, "EXEC_WRAPPER", scene.other.text()) {
        scene.run(
            &mut seen,
            &format!("{change}\ntool; ( tool ); exec tool"),
            &["tool"; 3],
        )?;
    }
    let other = scene.other.text();
    let mut scripts = vec![
        format!("f() {{ EXEC_WRAPPER={other}; tool; }}; f"),
        format!("( unset EXEC_WRAPPER; tool ); tool"),
        format!("x=$(EXEC_WRAPPER={other}; tool); tool"),
    ];
    if scene.shell.dialect != Dialect::Other {
        scripts.push(format!("f() {{ local EXEC_WRAPPER={other}; tool; }}; f; tool"));
        scripts.push("f() { local EXEC_WRAPPER; unset EXEC_WRAPPER; tool; }; f; tool".to_owned());
    }
    for script in scripts {
        let count = script.matches("tool").count();
        scene.run(&mut seen, &script, &vec!["tool"; count])?;
    }
    Ok(())
}

/// A prefix assignment changes nothing for its command.
fn prefix_assignment(context: &mut Context) -> Verdict {
    let scene = Scene::new(context)?;
    let other = scene.other.text().to_owned();
    let mut seen = 0;
    for prefix in [
        "EXEC_WRAPPER=".to_owned(),
        format!("EXEC_WRAPPER={other}"),
        format!("EXEC_WRAPPER=' {other}'"),
        "EXEC_WRAPPER=/nonexistent CODEX_ESCALATE_SOCKET=".to_owned(),
        format!("CODEX_ESCALATE_SOCKET=99 EXEC_WRAPPER={other}"),
    ] {
        let script = format!(
            "{prefix} tool; tool; ( {prefix} exec tool ); f() {{ tool; }}; {prefix} f; {prefix} eval tool"
        );
        scene.run(&mut seen, &script, &["tool"; 5])?;
    }
    Ok(())
}

/// `exec -c` gives the stock shell's cleared environment and the wrapper variables.
fn exec_c(context: &mut Context) -> Verdict {
    let program = command(context, "tool")?;
    let shell = RecordedShell::new(context)?;
    shell.dialect.needs_extensions("exec -c")?;
    let script = format!(
        "X=1; export X; ( exec -c {} a ); exec -c {}",
        program.text(),
        program.text()
    );
    shell.run_stock(&script)?.expect_output("")?;
    let stock = program.starts()?;
    shell.run(&script)?.expect_output("")?;
    let calls = shell.some_calls()?;
    expect::equal("calls", 2, calls.len())?;
    for (stock, call) in stock.iter().zip(&calls) {
        let environment = |entries: &[Vec<u8>], extra: Vec<String>| {
            let mut entries: Vec<String> = entries
                .iter()
                .map(|entry| String::from_utf8_lossy(entry).into_owned())
                .chain(extra)
                .collect();
            entries.sort();
            entries
        };
        let variables = vec![
            format!("EXEC_WRAPPER={}", shell.wrapper.text()),
            "CODEX_ESCALATE_SOCKET=20".to_owned(),
        ];
        expect::equal(
            "environment under exec -c: the stock shell's and the wrapper variables",
            environment(&stock.environment, variables),
            environment(&call.report.environment, Vec::new()),
        )?;
    }
    Ok(())
}

/// After each change a shell that the shell starts is intercepted, and what it starts.
fn nested_shell(context: &mut Context) -> Verdict {
    let scene = Scene::new(context)?;
    let path = scene.shell.shell_path()?;
    let name = path.rsplit('/').next().unwrap_or_default();
    let options = scene.shell.dialect.plain_options().join(" ");
    let nested = format!("{path} {options} -c 'tool; :'");
    let other = scene.other.text().to_owned();
    let mut seen = 0;
    for change in changes(scene.shell.dialect, "EXEC_WRAPPER", &other) {
        scene.run(
            &mut seen,
            &format!("{change}\n{nested}\ntool"),
            &[name, "tool", "tool"],
        )?;
    }
    for script in [
        format!("EXEC_WRAPPER= {nested}; :"),
        format!("EXEC_WRAPPER={other} {nested}; :"),
        format!("( unset EXEC_WRAPPER; exec {nested} )"),
        format!("x=$(unset EXEC_WRAPPER CODEX_ESCALATE_SOCKET; {nested})"),
    ] {
        scene.run(&mut seen, &script, &[name, "tool"])?;
    }
    if scene.shell.dialect != Dialect::Other {
        let script = format!(
            "PATH={}; export PATH; exec -c {path} {options} -c '{}/tool; :'",
            context.path("bin").display(),
            context.path("bin").display()
        );
        scene.run(&mut seen, &script, &[name, "tool"])?;
    }
    Ok(())
}

/// CODEX_ESCALATE_SOCKET is kept in the same way.
fn socket_variable(context: &mut Context) -> Verdict {
    let scene = Scene::new(context)?;
    let mut seen = 0;
    for change in changes(scene.shell.dialect, "CODEX_ESCALATE_SOCKET", "99") {
        scene.run(
            &mut seen,
            &format!("{change}\ntool; ( tool ); exec tool"),
            &["tool"; 3],
        )?;
    }
    for prefix in ["CODEX_ESCALATE_SOCKET=99", "CODEX_ESCALATE_SOCKET="] {
        scene.run(&mut seen, &format!("{prefix} tool; tool"), &["tool"; 2])?;
    }
    Ok(())
}

/// `env -i` is a program: its call is recorded, and what it starts is its own affair.
fn other_programs_are_free(context: &mut Context) -> Verdict {
    let program = command(context, "tool")?;
    let shell = RecordedShell::new(context)?;
    let path = shell.shell_path()?;
    let options = shell.dialect.plain_options().join(" ");
    shell.run(&format!("env -i {path} {options} -c {}; :", program.text()))?;
    let calls = shell.some_calls()?;
    expect::equal(
        "the first command that went to the wrapper",
        "env",
        calls[0].file_name().as_str(),
    )?;
    program.only_start().map(drop)
}
