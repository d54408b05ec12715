//! shell.pid: the process that executes the wrapper is the one that the shell knows.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::ConnectedProgram;
use crate::peer::recording_wrapper::RecordedShell;
use crate::spec::requirements::Role;
use crate::stage::shell::{command, obedient};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.pid/background", background),
    case("shell.pid/exec", exec),
    case("shell.pid/no-process-between", no_process_between),
    case("shell.pid/kill-and-wait", kill_and_wait),
]);

fn number(text: &str) -> Result<i32, CaseError> {
    text.trim()
        .parse()
        .map_err(|_| violation("a process id on standard output", format_args!("{text:?}")))
}

/// `$!` is the wrapper's process id, of a command, of the last element of a pipeline, and in a subshell.
fn background(context: &mut Context) -> Verdict {
    command(context, "first")?;
    command(context, "second")?;
    command(context, "third")?;
    let shell = RecordedShell::new(context)?;
    let result =
        shell.run("first & echo $!; wait $!; ( second & echo $!; wait ); : | third & echo $!; wait")?;
    shell.some_calls()?;
    let seen = result
        .output_text()
        .lines()
        .map(number)
        .collect::<Result<Vec<_>, _>>()?;
    let wanted = ["first", "second", "third"]
        .iter()
        .map(|name| Ok(shell.only_call(name)?.report.pid))
        .collect::<Result<Vec<_>, CaseError>>()?;
    expect::equal("`$!` of each, the wrapper's process id", wanted, seen)
}

/// What `exec` executes has the shell's own process id, by name, by path, and in a subshell.
fn exec(context: &mut Context) -> Verdict {
    let program = command(context, "tool")?;
    for script in [
        "echo $$; exec tool".to_owned(),
        format!("echo $$; X=1 exec {} >/dev/null", program.text()),
    ] {
        let shell = RecordedShell::new(context)?;
        let result = shell.run(&script)?;
        let call = shell.only_call("tool")?;
        expect::equal(
            "`$$`, the wrapper's process id",
            call.report.pid,
            number(&result.output_text())?,
        )?;
        result.expect_status(0)?;
    }
    Ok(())
}

/// The wrapper is a child of the shell: nothing stands between.
fn no_process_between(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    let shell = RecordedShell::new(context)?;
    let result = shell.run("echo $$; tool; f() { tool; }; f; tool | :; tool & wait; x=$(tool; :)\n:")?;
    let owner = number(&result.output_text())?;
    let calls = shell.some_calls()?;
    expect::equal("calls", 5, calls.len())?;
    for call in &calls[..4] {
        expect::equal("the wrapper's parent: the shell", owner, call.report.parent)?;
    }
    Ok(())
}

/// `kill $!` reaches what became of the wrapper, and `wait $!` tells its end.
fn kill_and_wait(context: &mut Context) -> Verdict {
    let program = ConnectedProgram::new(context, "lasting")?;
    obedient(context, "tool")?;
    let shell = RecordedShell::new(context)?;
    // The script continues once the case has seen the program: the case writes a line into the pipe.
    let (reader, mut writer) = crate::system::launch::pipe()?;
    let launch = shell
        .launch(shell.command_arguments("lasting & read go <&9; kill -TERM $!; wait $!; echo $?"))?
        .descriptor(9, reader);
    let mut running = shell.start(launch)?;
    let mut probe = match program.accept("the background command") {
        Ok(probe) => probe,
        Err(error) => {
            shell.some_calls()?;
            return Err(error);
        }
    };
    std::io::Write::write_all(&mut writer, b"go\n")?;
    probe.expect_gone("the background command, after kill -TERM")?;
    let result = running.finish()?;
    expect::equal("output: `$?` of wait", "143\n", result.output_text().as_str())?;
    expect::equal(
        "process id of the wrapper and of the command that it became",
        shell.only_call("lasting")?.report.pid,
        probe.report.pid,
    )
}
