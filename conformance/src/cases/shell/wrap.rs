//! shell.wrap: the wrapper in place of the command, with `EXEC_WRAPPER FILE ARGV0 ARGV1 …`.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::recording_wrapper::RecordedShell;
use crate::probe::record::End;
use crate::spec::requirements::Role;
use crate::stage::shell::{command, commands};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.wrap/argv-of-the-wrapper", argv_of_the_wrapper),
    case("shell.wrap/wrapper-path-with-blanks", wrapper_path_with_blanks),
    case("shell.wrap/once-for-each", once_for_each),
    case("shell.wrap/not-run-beside", not_run_beside),
]);

/// The wrapper's arguments are its own path, FILE, and the command's whole vector.
fn argv_of_the_wrapper(context: &mut Context) -> Verdict {
    let program = command(context, "tool")?;
    let shell = RecordedShell::new(context)?;
    let result = shell.run(&format!("{} hello", program.text()))?;
    let call = shell.only_call("tool")?;
    expect::equal(
        "the wrapper's argument vector",
        vec![shell.wrapper.text(), program.text(), program.text(), "hello"],
        call.report.argument_text(),
    )?;
    expect::equal("calls of the wrapper", 1, shell.calls()?.len())?;
    program.only_start()?;
    result.expect_output("")?;
    result.expect_status(0)
}

/// EXEC_WRAPPER is one path: blanks don't split it, `$` and `*` expand to nothing else.
fn wrapper_path_with_blanks(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    let folder = context.path("a folder");
    std::fs::create_dir(&folder)?;
    let shell = RecordedShell::at(context, &folder.join("the $HOME * wrapper"), [])?;
    let result = shell.run("tool hello\ntool again")?;
    result.expect_output("")?;
    shell.expect_calls(&["tool", "tool"])?;
    for call in shell.calls()? {
        expect::equal(
            "the wrapper's argv[0]",
            shell.wrapper.text(),
            call.report.argument_text()[0].as_str(),
        )?;
    }
    Ok(())
}

/// Five commands make five calls, in their order, the last command of the script included.
fn once_for_each(context: &mut Context) -> Verdict {
    let names = ["one", "two", "three", "four", "five"];
    let programs = commands(context, &names)?;
    let shell = RecordedShell::new(context)?;
    let result = shell.run("one\ntwo; three\nfour\nfive")?;
    result.expect_output("")?;
    shell.expect_calls(&names)?;
    for program in programs {
        program.only_start()?;
    }
    Ok(())
}

/// The wrapper is called in place of the command and not beside it: when it ends without executing the
/// command, the command has not run.
fn not_run_beside(context: &mut Context) -> Verdict {
    let program = command(context, "tool")?;
    let shell = RecordedShell::with_rules(context, [("tool", End::Exit(0))])?;
    let result = shell.run("tool\n( tool )\ntool | tool\nexec tool")?;
    shell.expect_calls(&["tool"; 5])?;
    program.expect_not_started()?;
    result.expect_output("")?;
    result.expect_status(0)
}
