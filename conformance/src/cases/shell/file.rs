//! shell.file: FILE is the path that the stock shell would have executed.

use std::fs;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::peer::recording_wrapper::RecordedShell;
use crate::spec::requirements::Role;
use crate::stage::shell::command;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.file/from-path", from_path),
    case("shell.file/with-slash", with_slash),
    case("shell.file/relative-path-entry", relative_path_entry),
    case("shell.file/hashed-and-command-p", hashed_and_command_p),
    case("shell.file/path-changed", path_changed),
]);

/// A command in the second directory of PATH: FILE is its path there, ARGV0 the name that was typed.
fn from_path(context: &mut Context) -> Verdict {
    let empty = context.path("empty");
    fs::create_dir(&empty)?;
    let program = command(context, "tool")?;
    let mut shell = RecordedShell::new(context)?;
    let path = format!("{}:{}", empty.display(), context.path("bin").display());
    shell.set_variable("PATH", Some(path.as_ref()));
    shell.run("tool x")?.expect_output("")?;
    let call = shell.only_call("tool")?;
    expect::equal("FILE", program.text(), call.file().as_str())?;
    expect::equal("ARGV", vec!["tool", "x"], call.argument_text())
}

/// A name with a slash is FILE as it was typed, however crooked.
fn with_slash(context: &mut Context) -> Verdict {
    let folder = context.work_directory().join("d");
    fs::create_dir(&folder)?;
    let program = Program::at(context, &folder.join("tool"), [])?;
    std::os::unix::fs::symlink("tool", folder.join("link"))?;
    let names = [
        "d/tool".to_owned(),
        "./d/../d/tool".to_owned(),
        "d//./tool".to_owned(),
        "./d/link".to_owned(),
        program.text().to_owned(),
        format!("{}/../d/tool", folder.display()),
    ];
    let shell = RecordedShell::new(context)?;
    shell.run(&names.join("\n"))?.expect_output("")?;
    let seen: Vec<(String, Vec<String>)> = shell
        .some_calls()?
        .iter()
        .map(|call| (call.file(), call.argument_text()))
        .collect();
    let expected: Vec<(String, Vec<String>)> =
        names.into_iter().map(|name| (name.clone(), vec![name])).collect();
    expect::equal("FILE and ARGV of each", expected, seen)
}

/// What a relative entry of PATH gives is as relative as in the stock shell.
fn relative_path_entry(context: &mut Context) -> Verdict {
    let work = context.work_directory();
    fs::create_dir(work.join("bin"))?;
    let programs = [
        Program::at(context, &work.join("bin/in-bin"), [])?,
        Program::at(context, &work.join("here"), [])?,
    ];
    let script = "PATH=bin:.\nin-bin\nhere\nPATH=\nhere";
    as_the_stock_shell_executes(context, script, &programs)
}

/// Hashed paths and `command -p` have their usual effect.
fn hashed_and_command_p(context: &mut Context) -> Verdict {
    let other = context.path("other");
    fs::create_dir(&other)?;
    let programs = [
        command(context, "tool")?,
        Program::at(context, &other.join("tool"), [])?,
        // A name that the standard PATH has too: `command -p` must pass over ours.
        command(context, "ls")?,
    ];
    let script = format!(
        "tool first\ntool second\nhash tool\ntool third\nhash -r\ntool fourth\ncommand -p ls / >/dev/null\n\
         PATH={}:$PATH\nhash -r\ntool fifth",
        other.display()
    );
    as_the_stock_shell_executes(context, &script, &programs)?;
    let shell = RecordedShell::new(context)?;
    shell.run("command -p ls / >/dev/null; :")?.expect_output("")?;
    let call = shell.only_call("ls")?;
    expect::that(
        call.file() == "/bin/ls" || call.file() == "/usr/bin/ls",
        "FILE of `command -p ls` is that of the standard PATH",
        format_args!("FILE: {}", call.file()),
    )
}

/// An assignment to PATH counts from the next command on, a prefix assignment for its own command.
fn path_changed(context: &mut Context) -> Verdict {
    let mut programs = Vec::new();
    for folder in ["first", "second", "third"] {
        let folder = context.path(folder);
        fs::create_dir(&folder)?;
        programs.push(Program::at(context, &folder.join("tool"), [])?);
    }
    let base = context.directory().display();
    let script = format!(
        "PATH={base}/first:{base}/second\ntool a\nPATH={base}/second\ntool b\nPATH={base}/third tool c\ntool d\n\
         ( PATH={base}/first; tool e )\ntool f"
    );
    as_the_stock_shell_executes(context, &script, &programs)
}

/// FILE and ARGV of the script's calls are what the stock shell gives execve(2) in the same script: what the
/// programs see as the name that they were executed by (AT_EXECFN), and as their arguments.
fn as_the_stock_shell_executes(context: &Context, script: &str, programs: &[Program]) -> Verdict {
    let mut shell = RecordedShell::new(context)?;
    let bin = format!("{}:/usr/bin:/bin", context.path("bin").display());
    shell.set_variable("PATH", Some(bin.as_ref()));
    let stock = shell.run_stock(script)?;
    let wanted = executions(programs)?;
    let result = shell.run(script)?;
    result.expect_as_stock(script, &stock)?;
    let own: Vec<(String, Vec<String>)> = shell
        .some_calls()?
        .iter()
        .filter(|call| !call.file().starts_with("/usr/") && !call.file().starts_with("/bin/"))
        .map(|call| (call.file(), call.argument_text()))
        .collect();
    expect::equal(
        &format!("FILE and ARGV of the commands of {script:?}, as in the stock shell"),
        wanted,
        own,
    )
}

fn executions(programs: &[Program]) -> Result<Vec<(String, Vec<String>)>, CaseError> {
    let mut starts = Vec::new();
    for program in programs {
        starts.extend(program.starts()?);
    }
    starts.sort_by_key(|report| report.time);
    Ok(starts
        .into_iter()
        .map(|report| {
            let name = String::from_utf8_lossy(&report.executed_name).into_owned();
            (name, report.argument_text())
        })
        .collect())
}
