//! shell.not-found: what can't be executed, with the stock shell's status and message, or with the wrapper's.

use std::fs;
use std::os::unix::fs::symlink;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::{Dialect, no_such_syntax};
use crate::peer::recording_wrapper::{Call, RecordedShell};
use crate::probe::record::End;
use crate::spec::requirements::Role;
use crate::stage::shell::{as_stock, as_stock_without_calls, command, obedient};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.not-found/no-call", no_call),
    case("shell.not-found/missing-path", missing_path),
    case("shell.not-found/directory-and-not-executable", directory_and_not_executable),
    case("shell.not-found/bad-interpreter", bad_interpreter),
    case("shell.not-found/handler", handler),
    case("shell.not-found/odd-path", odd_path),
    case("shell.not-found/contexts", contexts),
]);

/// A missing command, with a PATH of ten directories: no call, status 127, the stock shell's message.
fn no_call(context: &mut Context) -> Verdict {
    command(context, "sentinel")?;
    for number in 0..10 {
        fs::create_dir(context.path(&format!("path-{number}")))?;
    }
    let base = context.directory().display();
    let folders: Vec<String> = (0..10).map(|number| format!("{base}/path-{number}")).collect();
    let script = format!(
        "PATH={}:$PATH\nno-such-command; echo $?\nno-such-command an argument 2>&1; echo $?\n( no-such-command ); echo $?\n\
         PATH= no-such-command; PATH=/nonexistent; no-such-command\nhash no-such-command\n{base}/bin/sentinel",
        folders.join(":")
    );
    let shell = as_stock(context, &script)?;
    shell.expect_calls(&["sentinel"])
}

/// A path that names nothing: no call, and the stock shell's status and message; or one call, and the wrapper's status.
fn missing_path(context: &mut Context) -> Verdict {
    command(context, "sentinel")?;
    context.write_file("work/file", b"", 0o755)?;
    symlink("nowhere", context.work_directory().join("dangling"))?;
    symlink("loop", context.work_directory().join("loop"))?;
    let long = format!("./{}", "n".repeat(300));
    let paths = [
        "./no-such",
        "/no/such",
        "./file/x",
        "no/such",
        "../bin/no",
        "./dangling",
        "./loop",
        "./loop/x",
        &long,
    ];
    if asks_about(context, &paths)? {
        return Ok(());
    }
    let script = "./no-such; echo $?\n/no/such; echo $?\n./file/x; echo $?\nno/such; echo $?\n''; echo $?\n../bin/no; echo $?\n\
        ./no-such 2>&1 | cat; ( ./no-such ); ( exec ./no-such ); echo $?; x=$(./no-such); echo $?; ./no-such & wait $!; echo $?\n\
        ./no-such; sentinel";
    let shell = as_stock(context, script)?;
    shell.expect_calls_in_any_order(&["cat", "sentinel"])?;
    let script = format!("./dangling; echo $?; ./loop; echo $?; ./loop/x; echo $?; {long}; echo $?");
    as_stock_without_calls(context, &script).map(drop)
}

/// Directories and files that aren't executable, by path and by PATH.
fn directory_and_not_executable(context: &mut Context) -> Verdict {
    context.write_file("work/plain", b"echo never\n", 0o644)?;
    context.write_file("work/script", b"#!/bin/sh\necho never\n", 0o644)?;
    context.write_file("bin/unexecutable", b"#!/bin/sh\necho never\n", 0o644)?;
    fs::create_dir(context.path("bin/folder"))?;
    fs::create_dir(context.work_directory().join("folder"))?;
    if asks_about(
        context,
        &["./folder", "./plain", "./script", "/", "./folder/", "/dev/null"],
    )? {
        return Ok(());
    }
    let script = "./folder; echo $?\n./plain; echo $?\n./script a; echo $?\n/; echo $?\n.; echo $?\nfolder; echo $?\nunexecutable; echo $?\n\
        /dev/null; echo $?\n./folder/; echo $?\n( exec ./folder ); echo $?\n( exec ./plain ); echo $?\n\
        ./plain | cat; ./plain & wait $!; echo $?; x=$(./folder); echo $?; command ./plain; echo $?\n./script";
    as_stock_without_calls(context, script).map(drop)
}

/// Interpreters that are missing, relative, a directory, not executable, or end in a carriage return.
fn bad_interpreter(context: &mut Context) -> Verdict {
    for (name, text) in [
        ("missing", "#!/nonexistent/interpreter\necho never\n"),
        ("with-option", "#!/nonexistent/interpreter -x\necho never\n"),
        ("relative", "#!./interpreter\necho never\n"),
        ("by-name", "#!sh\necho never\n"),
        ("carriage-return", "#!/bin/sh\r\necho never\n"),
        ("folder", "#!/usr\necho never\n"),
        ("unexecutable", "#!/etc/passwd\necho never\n"),
        ("blanks", "#!  \t /nonexistent\necho never\n"),
        ("no-newline", "#!/nonexistent"),
        ("chain", "#!./missing\n"),
    ] {
        context.write_file(&format!("work/{name}"), text.as_bytes(), 0o755)?;
        if asks_about(context, &[&format!("./{name}")])? {
            continue;
        }
        let script = format!(
            "./{name}; echo $?\n./{name} an argument 2>&1; echo $?\n( exec ./{name} ); echo $?\n./{name}"
        );
        as_stock_without_calls(context, &script)?;
    }
    Ok(())
}

/// bash's command_not_found_handle and zsh's command_not_found_handler are called, with the name.
fn handler(context: &mut Context) -> Verdict {
    obedient(context, "tool")?;
    let name = match Dialect::of(context) {
        Dialect::Bash => "command_not_found_handle",
        Dialect::Zsh => "command_not_found_handler",
        Dialect::Other => return Err(no_such_syntax("a handler of missing commands")),
    };
    let script = format!(
        "{name}() {{ echo \"handler: $*\"; tool out:from-the-handler; return 9; }}\nno-such-command a 'b c'; echo $?\n\
         no-such-command | cat; ( no-such-command ); echo $?; X=1 no-such-command; no-such-command >out; cat out\n\
         x=$(no-such-command x); echo \"$x\"; no-such-command || echo or"
    );
    let shell = as_stock(context, &script)?;
    let mut names = vec!["tool"; 7];
    names.extend(["cat", "cat"]);
    shell.expect_calls_in_any_order(&names)
}

/// PATH entries that are missing, empty, relative, files, or hold a directory, a dangling link or a file that
/// isn't executable of the command's name before the right one.
fn odd_path(context: &mut Context) -> Verdict {
    obedient(context, "tool")?;
    context.write_file("file", b"", 0o644)?;
    context.write_file("unexecutable/tool", b"#!/bin/sh\necho never\n", 0o644)?;
    fs::create_dir_all(context.path("folder/tool"))?;
    fs::create_dir_all(context.path("dangling"))?;
    symlink("nowhere", context.path("dangling/tool"))?;
    context.write_file("work/relative/other", b"#!/bin/sh\necho other\n", 0o755)?;
    context.write_file("work/here", b"#!/bin/sh\necho here\n", 0o755)?;
    let base = context.directory().display();
    let script = format!(
        "good=$PATH\nPATH={base}/missing:{base}/file:{base}/unexecutable:{base}/folder:{base}/dangling::relative:$good\n\
         tool out:found; other; here; no-such-command; echo $?\n\
         PATH={base}/unexecutable:{base}/bin; tool out:later; PATH=; here; tool; echo $?"
    );
    as_stock(context, &script)?.expect_calls(&["tool", "other", "here", "tool", "here"])?;
    // Only what can't be executed is found: whether the wrapper is asked about it, and so says it, is left open.
    let script = format!(
        "exec 2>/dev/null; PATH={base}/unexecutable:{base}/missing; tool; echo $?\nPATH={base}/folder; tool; echo $?\n\
         PATH={base}/dangling; tool; echo $?\nPATH={base}/folder:{base}/unexecutable; tool; echo $?\n\
         PATH={base}/unexecutable:{base}/folder; tool; echo $?\nunset PATH; tool; echo $?"
    );
    as_stock_without_calls(context, &script).map(drop)
}

/// Missing commands in each context, by PATH and, unless the shell asks about such, by path: no call anywhere.
fn contexts(context: &mut Context) -> Verdict {
    command(context, "sentinel")?;
    let mut script = String::new();
    let asks = asks_about(context, &["./no/such"])?;
    for missing in ["no-such-command", "./no/such"]
        .iter()
        .take(if asks { 1 } else { 2 })
    {
        script.push_str(&format!(
            "{missing} || echo or; {missing} && echo never; ! {missing}; echo $?; {missing} | : ; : | {missing}; echo $?\n\
             {{ {missing}; }} 2>/dev/null; echo $?; x=$({missing}); echo $?; {missing} & wait $!; echo $?; f() {{ {missing}; }}; f\n\
             if {missing}; then :; else echo else; fi; eval {missing}; X=1 {missing}; {missing} <<E\nE\ncommand {missing}; echo $?\n\
             ( set -e; {missing}; echo never ); echo $?; ( exec {missing} ); echo $?; trap {missing} USR1; kill -USR1 $$; trap - USR1\n"
        ));
    }
    script.push_str("sentinel");
    let shell = as_stock(context, &script)?;
    shell.expect_calls(&["sentinel"])
}

/// What the wrapper ends with where it is asked: no shell gives this status to what it can't execute.
const TOLD: i32 = 77;

/// Whether the shell asks its wrapper about one of these paths, which can't be executed here: what a sandbox hides may be there for
/// the server. Demands of each path that the shell asks about it once, as it is written, and takes the wrapper's status; or
/// not at all, with the status and the message of the stock shell.
fn asks_about(context: &Context, paths: &[&str]) -> Result<bool, CaseError> {
    let mut asks = false;
    for path in paths {
        let name = path.rsplit('/').next().unwrap_or_default();
        let mut shell = RecordedShell::with_rules(context, [(name, End::Exit(TOLD))])?;
        shell.be_patient(2);
        let script = format!("{path}; echo $?");
        let stock = shell.run_stock(&script)?;
        // zsh looks for an interpreter in PATH, and so does execute what the kernel wouldn't.
        if !["126\n", "127\n"].contains(&stock.output_text().as_str()) {
            continue;
        }
        let finished = shell.run(&script)?;
        let files: Vec<String> = shell.calls()?.iter().map(Call::file).collect();
        if files.is_empty() {
            finished.expect_as_stock(&script, &stock)?;
            continue;
        }
        asks = true;
        expect::equal("what the wrapper was asked about", &[*path][..], files.as_slice())?;
        finished.expect_output(&format!("{TOLD}\n"))?;
    }
    Ok(asks)
}
