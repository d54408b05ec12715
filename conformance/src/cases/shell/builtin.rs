//! shell.builtin: builtins, functions and keywords are not wrapped.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::{Dialect, no_such_syntax};
use crate::peer::recording_wrapper::RecordedShell;
use crate::spec::requirements::Role;
use crate::stage::shell::{commands, obedient};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.builtin/no-call", no_call),
    case("shell.builtin/functions", functions),
    case("shell.builtin/disabled-builtin", disabled_builtin),
]);

/// Programs of the builtins' names are in PATH, and none is called; the sentinel at the end is.
fn no_call(context: &mut Context) -> Verdict {
    let programs = commands(
        context,
        &[
            "echo", "test", "[", "printf", "cd", "true", "false", "pwd", "kill", "read", "export", "eval",
            "wait", "sentinel",
        ],
    )?;
    let shell = RecordedShell::new(context)?;
    let mut script = "echo a >/dev/null; printf b >/dev/null; test x; [ x ]; cd /; pwd >/dev/null; true; false\n\
        ( echo a; true ) >/dev/null\n\
        x=$(echo a; pwd); echo a | while read y; do :; done; kill -0 $$; export Z=1; eval 'echo a' >/dev/null\n\
        if true; then :; fi; while false; do :; done; echo a >/dev/null & wait; : $((1 + 2)); ! true\n\
        trap 'echo a >/dev/null' EXIT; { true; }; ( true ); set -- a; shift; umask >/dev/null\n"
        .to_owned();
    if shell.dialect != Dialect::Zsh {
        // In zsh `command` asks for a program.
        script.push_str("command echo >/dev/null; command printf ''; command true; command command true\n");
    }
    match shell.dialect {
        Dialect::Bash => script.push_str(
            "builtin echo >/dev/null; [[ -n x ]]; (( 1 )); let y=1; time true 2>/dev/null; declare q=1; echo a | read r\n\
             mapfile l <<<text; local_test() { local v=1; }; local_test; type echo >/dev/null; coproc true; wait\n",
        ),
        Dialect::Zsh => script.push_str(
            "builtin echo >/dev/null; [[ -n x ]]; (( 1 )); let y=1; typeset q=1; echo a | read r; print -n ''\n\
             local_test() { local v=1; }; local_test; whence echo >/dev/null\n",
        ),
        Dialect::Other => {}
    }
    script.push_str("sentinel");
    shell.run(&script)?;
    shell.expect_calls(&["sentinel"])?;
    for program in &programs[..programs.len() - 1] {
        program.expect_not_started()?;
    }
    Ok(())
}

/// A function hides the program of its name, `command` uncovers it.
fn functions(context: &mut Context) -> Verdict {
    obedient(context, "tool")?;
    let shell = RecordedShell::new(context)?;
    let script = "tool() { echo \"function $1\"; }; tool a; ( tool b ); tool c | cat; x=$(tool d); echo \"$x\"\n\
                  command tool out:program";
    let result = shell.run(script)?;
    shell.expect_calls_in_any_order(&["cat", "tool"])?;
    result.expect_output("function a\nfunction b\nfunction c\nfunction d\nprogram\n")
}

/// A disabled builtin is not used: the program of the same name is called.
fn disabled_builtin(context: &mut Context) -> Verdict {
    let program = obedient(context, "echo")?;
    let shell = RecordedShell::new(context)?;
    let disable = match shell.dialect {
        Dialect::Bash => "enable -n echo",
        Dialect::Zsh => "disable echo",
        Dialect::Other => return Err(no_such_syntax("disabled builtins")),
    };
    let result = shell.run(&format!("{disable}; echo out:x; enable echo; echo y"))?;
    shell.expect_calls(&["echo"])?;
    let call = shell.only_call("echo")?;
    expect::equal("FILE", program.text(), call.file().as_str())?;
    result.expect_output("x\ny\n")
}
