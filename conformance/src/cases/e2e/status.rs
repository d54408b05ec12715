//! e2e.status: any status of any command arrives in `$?`, as in the stock shell.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::harness::{Answer, marked};
use crate::shown::shown;
use crate::spec::requirements::{Level, Role};
use crate::stage::e2e::{EndToEnd, commands, expect_transcript, same_under_both};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.status/run", run).within_seconds(90),
    case("e2e.status/escalate", escalate).within_seconds(90),
    case("e2e.status/killed-under-run", killed_under_run),
    case("e2e.status/killed-under-escalate", killed_under_escalate).at(Level::Faithful),
    case("e2e.status/of-the-shell", of_the_shell),
    case("e2e.status/yes-head", yes_head).at(Level::Faithful).within_seconds(60),
    case("e2e.status/closed-input", closed_input).at(Level::Faithful),
    case("e2e.status/bare-script", bare_script).at(Level::Faithful),
    case("e2e.status/foreign-binaries", foreign_binaries).at(Level::Faithful),
    case("e2e.status/exec-a", exec_a).at(Level::Faithful),
    case("e2e.status/file-name-of-bytes", file_name_of_bytes).at(Level::Faithful).needs("bytes"),
    case("e2e.status/kill-escalated", kill_escalated).at(Level::Faithful),
    case("e2e.status/missing-and-not-executable", missing_and_not_executable).at(Level::Faithful),
]);

/// 0 to 255 under Run.
fn run(context: &mut Context) -> Verdict {
    every_status(context, "run-it")
}

/// 0 to 255 under Escalate.
fn escalate(context: &mut Context) -> Verdict {
    every_status(context, "escalate-it")
}

fn every_status(context: &Context, name: &str) -> Verdict {
    const AT_A_TIME: usize = 32;
    commands(context, [name])?;
    let mut all = EndToEnd::new(context)?;
    all.be_patient(2);
    for first in (0..256).step_by(AT_A_TIME) {
        let end = first + AT_A_TIME;
        let script =
            format!("n={first}; while [ $n -lt {end} ]; do {name} exit:$n; echo $?; n=$((n+1)); done");
        let mut output = String::new();
        for status in first..end {
            let _ = writeln!(output, "{status}");
        }
        let result = all.run(&script)?;
        expect_transcript(&script, &result, &output, "", 0)?;
        expect::equal("questions to the policy", AT_A_TIME, all.take_asked().len())?;
    }
    all.shutdown()
}

const SIGNALS: [i32; 7] = [
    libc::SIGTERM,
    libc::SIGKILL,
    libc::SIGSEGV,
    libc::SIGPIPE,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGABRT,
];

/// Death by a signal is 128+N under Run.
fn killed_under_run(context: &mut Context) -> Verdict {
    killed(context, "run-it")
}

/// And under Escalate.
fn killed_under_escalate(context: &mut Context) -> Verdict {
    killed(context, "escalate-it")
}

fn killed(context: &Context, name: &str) -> Verdict {
    commands(context, [name])?;
    let mut all = EndToEnd::new(context)?;
    let mut script = String::new();
    let mut output = String::new();
    for signal in SIGNALS {
        let _ = writeln!(
            script,
            "{name} die:{signal}; echo $?; : | {name} die:{signal}; echo $?"
        );
        let _ = write!(output, "{0}\n{0}\n", 128 + signal);
    }
    let result = all.run(&script)?;
    expect::equal(
        &format!("standard output of {script:?}"),
        output,
        result.output_text(),
    )?;
    all.shutdown()
}

/// The last command's status is the shell's, under each decision, with and without a fork before it.
fn of_the_shell(context: &mut Context) -> Verdict {
    commands(context, ["run-it", "escalate-it"])?;
    let mut all = EndToEnd::new(context)?;
    for name in ["run-it", "escalate-it"] {
        for status in [0, 1, 2, 42, 126, 127, 128, 129, 255] {
            for script in [
                format!("{name} exit:{status}"),
                format!("{name} exit:{status}; exit"),
                format!("exec {name} exit:{status}"),
            ] {
                let result = all.run(&script)?;
                expect_transcript(&script, &result, "", "", status)?;
            }
        }
    }
    all.shutdown()
}

/// `yes | head -1` ends, with the statuses that SIGPIPE makes.
fn yes_head(context: &mut Context) -> Verdict {
    let statuses = Dialect::of(context).pipeline_statuses().unwrap_or("$?");
    let script =
        format!("yes | head -1; echo {statuses}; yes | head -1 | cat; yes 2>&1 | sed -n 1q; echo {statuses}");
    same_under_both(context, &script, &["yes", "head", "sed"])?;
    same_under_both(context, &script, &["yes"])?;
    same_under_both(context, &script, &["head", "sed"])
}

/// A closed standard input, output or error is closed for the command.
fn closed_input(context: &mut Context) -> Verdict {
    let script = "cat <&-; echo $?; cat <&- 2>&1; cat /dev/null >&-; echo $?; cat missing 2>&-; echo $?\n\
                  cat <&- >&- 2>&-; echo $?; sh -c 'test -e /proc/$$/fd/0; echo $?' <&-; sh -c 'test -e /proc/$$/fd/1 || echo closed >&2' >&-";
    same_under_both(context, script, &["cat", "sh"])
}

/// An executable text without `#!` runs as a shell script.
fn bare_script(context: &mut Context) -> Verdict {
    context.write_file("bin/bare", b"echo \"bare $1 $#\"\nexit 5\n", 0o755)?;
    context.write_file(
        "bin/with-line",
        b"#!/bin/sh\necho \"line $1 $#\"\nexit 6\n",
        0o755,
    )?;
    let script = "bare 'a b' c; echo $?; x=$(bare); echo $x; bare | cat; ( exec bare x ); echo $?\n\
                  ./../bin/with-line y; echo $?";
    same_under_both(context, script, &["bare", "with-line"])
}

/// What is neither text nor a program of this machine is refused with 126, and nothing in it is executed.
fn foreign_binaries(context: &mut Context) -> Verdict {
    const COMMAND: &[u8] = b"\n/usr/bin/touch executed\n";
    for (name, magic) in [("archive", &b"PK\x03\x04\0"[..]), ("elf", b"\x7fELF")] {
        context.write_file(&format!("bin/{name}"), &[magic, COMMAND].concat(), 0o755)?;
    }
    let mut all = EndToEnd::new(context)?;
    for answer in [Answer::Run, Answer::Escalate] {
        for name in ["archive", "elf"] {
            all.decide(name, answer.clone());
        }
        let result = all.run("archive; echo $?; elf; echo $?; [ -e executed ] && echo executed")?;
        let title = format!("standard output, with {}", shown(&answer));
        expect::equal(&title, "126\n126\n", result.output_text().as_str())?;
        expect::equal("lines on standard error", 2, result.error_text().lines().count())?;
    }
    all.shutdown()
}

/// argv[0] that begins with a dash, is empty, or is another name.
fn exec_a(context: &mut Context) -> Verdict {
    Dialect::of(context).needs_extensions("exec -a")?;
    let script = "( exec -a -x sh -c 'echo \"$0\"; cat /proc/$$/cmdline | tr \"\\0\" \"|\"; echo' )\n\
        ( exec -a '' sh -c 'cat /proc/$$/cmdline | tr \"\\0\" \"|\"; echo' )\n\
        ( exec -a 'two words' sh -c 'cat /proc/$$/cmdline | tr \"\\0\" \"|\"; echo' ); ( exec -l sh -c 'cat /proc/$$/cmdline | tr \"\\0\" \"|\"' )\n\
        ( exec -a --help cat /dev/null ); echo $?";
    same_under_both(context, script, &["sh", "cat"])
}

/// A file name and arguments with bytes that are not UTF-8.
fn file_name_of_bytes(context: &mut Context) -> Verdict {
    let name = OsStr::from_bytes(b"name-\xff-\x80");
    fs::write(context.work_directory().join(name), "contents\n")?;
    fs::write(
        context.path("bin").join(OsStr::from_bytes(b"command-\xfe")),
        "#!/bin/sh\nprintf '%s' \"$1\" | od -An -tx1\necho \"$X\" | od -An -tx1\n",
    )?;
    let command = context.path("bin").join(OsStr::from_bytes(b"command-\xfe"));
    fs::set_permissions(&command, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let script = "file=$(printf 'name-\\377-\\200'); cat \"$file\"; cat name-*; ls | od -An -tx1; X=$(printf '\\351'); export X\n\
        printf '%s' \"$X\" | od -An -tx1; env | grep '^X=' | od -An -tx1; tool=$(printf 'command-\\376'); \"$tool\" \"$tool\"; echo $?";
    let command = marked(b"command-\xfe");
    same_under_both(context, script, &["cat", "ls", "od", "env", &command])
}

/// `kill -TERM` of an escalated `sleep`: by `$!`, with the shell's message and status.
fn kill_escalated(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    // The command has said that it runs before it is killed: a named pipe carries the word.
    let script = "mkfifo started; tool out:started pause >started & read word <started; echo $word; kill -TERM $!; wait $!; echo $?\n\
        tool out:started pause >started & read word <started; kill -HUP $!; wait $!; echo $?\n\
        tool ignore:15 out:started pause >started & read word <started; kill -TERM $!; kill -KILL $!; wait $!; echo $?\n\
        tool pause & kill -TERM $!; wait $!; echo $?";
    let script = script.replace("mkfifo started;", "rm -f started; mkfifo started;");
    same_under_both(context, &script, &["tool"])
}

/// A program that goes away, or loses its permission, between the shell's look at it and its execution.
fn missing_and_not_executable(context: &mut Context) -> Verdict {
    for answer in [Answer::Run, Answer::Escalate] {
        let mut all = EndToEnd::new(context)?;
        let path = context.path("bin/vanishing");
        for (status, change) in [(127, "removed"), (126, "made unexecutable")] {
            context.write_file("bin/vanishing", b"#!/bin/sh\necho never\n", 0o755)?;
            // The policy is asked between: its answer comes after the change.
            all.shim.decide_by({
                let (answer, path) = (answer.clone(), path.clone());
                move |_| {
                    let changed = if status == 127 {
                        fs::remove_file(&path)
                    } else {
                        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
                    };
                    match changed {
                        Ok(()) => answer.clone(),
                        Err(_) => Answer::Fail,
                    }
                }
            });
            let result = all.run("vanishing; echo $?")?;
            // Under Escalate a server may also refuse a program that is another than the one decided on.
            let statuses: &[i32] = if answer == Answer::Run {
                &[status]
            } else {
                &[status, 126]
            };
            let output = result.output_text();
            expect::that(
                statuses.iter().any(|status| output == format!("{status}\n")),
                format_args!(
                    "status {statuses:?} for a program that was {change} while {} was decided",
                    shown(&answer)
                ),
                format_args!(
                    "standard output {output:?}, standard error {:?}",
                    result.error_text()
                ),
            )?;
            expect::equal("lines on standard error", 1, result.error_text().lines().count())?;
        }
        all.shutdown()?;
    }
    Ok(())
}
