//! wrapper.run.script-bare: an executable text without `#!` runs as execvp(3) runs it.

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::run_file;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.run.script-bare/runs", bare_script),
    case("wrapper.run.script-bare/arguments", bare_script_arguments),
    case("wrapper.run.script-bare/dash-name", bare_script_dash),
    case("wrapper.run.script-bare/same-process-same-environment", bare_same_process),
    case("wrapper.run.script-bare/empty-file", bare_empty_file),
    case("wrapper.run.script-bare/nul-after-the-first-line", nul_after_the_first_line),
    case("wrapper.run.script-bare/dash-file", bare_dash_file),
    case("wrapper.run.script-bare/without-slash", bare_without_slash),
]);

/// An executable text without `#!` runs as a shell script, as execvp(3) runs it.
fn bare_script(context: &mut Context) -> Verdict {
    let script = context.write_file("work/script", b"echo bare; exit 4\n", 0o755)?;
    let finished = run_file(context, &script.to_string_lossy(), &["script"])?;
    expect::equal("standard output", "bare\n", &*finished.output_text())?;
    finished.expect_status(4)
}

/// The script has its arguments, and its own path as `$0`.
fn bare_script_arguments(context: &mut Context) -> Verdict {
    let script = context.write_file("work/script", b"printf '[%s]' \"$0\" \"$@\"\n", 0o755)?;
    let path = script.to_string_lossy().into_owned();
    let finished = run_file(context, &path, &["another name", "", "a b", "*"])?;
    expect::equal(
        "standard output",
        format!("[{path}][][a b][*]"),
        finished.output_text(),
    )?;
    finished.expect_status(0)
}

/// A script whose name begins with a dash, behind `./`, is a file and not an option.
fn bare_script_dash(context: &mut Context) -> Verdict {
    context.write_file("work/-c", b"echo dash\n", 0o755)?;
    let finished = run_file(context, "./-c", &["-c"])?;
    expect::equal("standard output", "dash\n", &*finished.output_text())?;
    finished.expect_status(0)
}

/// A bare script is the wrapper's process, with its environment and arguments.
fn bare_same_process(context: &mut Context) -> Verdict {
    let text = b"echo \"$$ $GREETING $# $1\"\nkill -TERM $$\n";
    let script = context.write_file("script", text, 0o755)?;
    let mut wrapper = WrapperCall::new(context, &script, ["name", "a b", ""])?
        .variable("GREETING", "hello")
        .start()?;
    let pid = wrapper.process.pid;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let finished = wrapper.finish()?;
    expect::equal(
        "pid, variable, number of arguments, first argument",
        format!("{pid} hello 2 a b\n"),
        finished.output_text(),
    )?;
    expect::equal("the script's end", Ended::Killed(libc::SIGTERM), finished.ended)
}

/// An empty file is a script of no commands.
fn bare_empty_file(context: &mut Context) -> Verdict {
    let script = context.write_file("empty", b"", 0o755)?;
    let finished = run_file(context, &script.to_string_lossy(), &["empty"])?;
    finished.expect_status(0)?;
    finished.expect_no_output()?;
    expect::equal("standard error", "", &*finished.error_text())
}

/// What makes a file a text is its first line; scripts may carry an archive behind their last one.
fn nul_after_the_first_line(context: &mut Context) -> Verdict {
    let script = context.write_file("work/script", b"echo text\nexit 5\n\0\x7fELF\0\n", 0o755)?;
    let finished = run_file(context, &script.to_string_lossy(), &["script"])?;
    expect::equal("standard output", "text\n", &*finished.output_text())?;
    finished.expect_status(5)
}

/// A bare script in the working directory, called by its name alone.
fn bare_without_slash(context: &mut Context) -> Verdict {
    context.write_file("work/script", b"echo \"$0 ran\"\n", 0o755)?;
    let finished = run_file(context, "script", &["zero"])?;
    finished.expect_status(0)?;
    expect::contains("standard output", &finished.output_text(), "script ran\n")
}

/// A FILE that looks like a shell option is still a file.
fn bare_dash_file(context: &mut Context) -> Verdict {
    for name in ["-c", "--", "-", "--help", "-x"] {
        context.write_file(&format!("work/{name}"), b"echo \"ran with $1\"\n", 0o755)?;
        let finished = run_file(context, name, &["zero", "echo wrong"])?;
        finished.expect_status(0)?;
        expect::equal(
            &format!("standard output of {name}"),
            "ran with echo wrong\n",
            &*finished.output_text(),
        )?;
        expect::equal("standard error", "", &*finished.error_text())?;
    }
    Ok(())
}
