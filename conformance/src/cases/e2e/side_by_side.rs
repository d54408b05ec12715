//! Commands that are easily changed by what stands between: the same script in the stock shell, and with wrapper
//! and server under each decision.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use super::support::{EndToEnd, commands, run_stock};
use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::harness::Answer;
use crate::spec::requirements::{Level, Role};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
#[rustfmt::skip]
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.status/yes-head", yes_head).at(Level::Faithful).within_seconds(60),
    case("e2e.status/closed-input", closed_input).at(Level::Faithful),
    case("e2e.status/bare-script", bare_script).at(Level::Faithful),
    case("e2e.status/exec-a", exec_a).at(Level::Faithful),
    case("e2e.status/file-name-of-bytes", file_name_of_bytes).at(Level::Faithful).needs("bytes"),
    case("e2e.status/kill-escalated", kill_escalated).at(Level::Faithful),
    case("e2e.status/missing-and-not-executable", missing_and_not_executable).at(Level::Faithful),
    case("e2e.scripts/process-substitution", process_substitution).at(Level::Faithful),
    case("e2e.scripts/many-descriptors", many_descriptors).at(Level::Faithful),
    case("e2e.scripts/ordinary", ordinary).at(Level::Faithful),
    case("e2e.scripts/umask", umask).at(Level::Faithful).needs("umask"),
]);

/// Demands that the script does under each decision for `names` what it does in the stock shell. What else it
/// starts is Run.
fn same_under_both(context: &Context, script: &str, names: &[&str]) -> Verdict {
    let stock = run_stock(context, script)?;
    let mut all = EndToEnd::new(context)?;
    all.be_patient(3);
    for answer in [Answer::Run, Answer::Escalate] {
        for name in names {
            all.decide(name, answer.clone());
        }
        context.transcript.note(format_args!("{names:?}: {answer:?}"));
        let result = all.run(script)?;
        expect::that(!all.take_asked().is_empty(), "the policy is asked", "it was not")?;
        result.expect_as_stock(&format!("{script} ({names:?}: {answer:?})"), &stock)?;
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
    context.write_file("bin/with-line", b"#!/bin/sh\necho \"$0 $1 $#\"\nexit 6\n", 0o755)?;
    let script = "bare 'a b' c; echo $?; x=$(bare); echo $x; bare | cat; ( exec bare x ); echo $?\n\
                  ./../bin/with-line y; echo $?";
    same_under_both(context, script, &["bare", "with-line"])
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

/// A file name and arguments with bytes that are no UTF-8.
fn file_name_of_bytes(context: &mut Context) -> Verdict {
    let name = std::ffi::OsStr::from_bytes(b"name-\xff-\x80");
    fs::write(context.work_directory().join(name), "contents\n")?;
    fs::write(
        context
            .path("bin")
            .join(std::ffi::OsStr::from_bytes(b"command-\xfe")),
        "#!/bin/sh\nprintf '%s' \"$0\" | od -An -tx1 | tail -n 1\necho \"$X\" | od -An -tx1\n",
    )?;
    let command = context
        .path("bin")
        .join(std::ffi::OsStr::from_bytes(b"command-\xfe"));
    fs::set_permissions(&command, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let script = "file=$(printf 'name-\\377-\\200'); cat \"$file\"; cat name-*; ls | od -An -tx1; X=$(printf '\\351'); export X\n\
        printf '%s' \"$X\" | od -An -tx1; env | grep '^X=' | od -An -tx1; tool=$(printf 'command-\\376'); \"$tool\"; echo $?";
    let command = String::from_utf8_lossy(b"command-\xfe").into_owned();
    same_under_both(context, script, &["cat", "ls", "od", "env", &command])
}

/// `kill -TERM` of an escalated `sleep`: by `$!`, with the shell's message and status.
fn kill_escalated(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    // The command has said that it runs before it is killed: a named pipe carries the word.
    let script = "mkfifo started; tool out:started pause >started & read word <started; echo $word; kill -TERM $!; wait $!; echo $?\n\
        tool out:started pause >started & read word <started; kill -HUP $!; wait $!; echo $?\n\
        tool ignore:15 out:started pause >started & read word <started; kill -TERM $!; kill -KILL $!; wait $!; echo $?\n\
        sleep 100 & kill -TERM $!; wait $!; echo $?";
    let script = script.replace("mkfifo started;", "rm -f started; mkfifo started;");
    same_under_both(context, &script, &["tool", "sleep"])
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
                    "status {statuses:?} for a program that was {change} while {answer:?} was decided"
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

/// `<(…)` and a descriptor above 2 reach the escalated command by their numbers.
fn process_substitution(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let mut script =
        "echo third >three; cat /dev/fd/3 3<three; cat /proc/self/fd/5 5<three; sh -c 'cat <&4' 4<three; echo $?\n".to_owned();
    if Dialect::of(context) != Dialect::Other {
        script.push_str("cat <(echo a) <(tool out:b | cat); cat < <(tool out:c); tool out:d > >(cat >consumed); paste <(echo x) <(echo y)\n");
    }
    same_under_both(context, &script, &["cat", "sh", "tool", "paste"])
}

/// Ten descriptors beside 0, 1 and 2.
fn many_descriptors(context: &mut Context) -> Verdict {
    let script = "for n in 3 4 5 6 7 8 9; do echo $n >file$n; done\n\
        sh -c 'cat <&3; cat <&4; cat <&5; cat <&6; cat <&7; cat <&8; cat <&9' 3<file3 4<file4 5<file5 6<file6 7<file7 8<file8 9<file9\n\
        sh -c 'echo out >&8; echo more >&9' 8>out8 9>>file9; cat out8 file9; sh -c 'echo x >&3' 3>&1; sh -c 'cat <&7' 7<&- 2>/dev/null; echo $?";
    same_under_both(context, script, &["sh"])
}

/// The ordinary script, with its commands under each decision.
fn ordinary(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    context.write_file("bin/script", b"#!/bin/sh\necho \"$0: $*\"\n", 0o755)?;
    context.write_file("bin/bare", b"echo bare: \"$*\"\nexit 4\n", 0o755)?;
    context.write_file("bin/unexecutable", b"", 0o644)?;
    let script = include_str!("../../../../fixtures/scripts/ordinary.sh");
    same_under_both(context, script, &["tool", "script", "bare"])
}

/// The umask of the script is the escalated command's.
fn umask(context: &mut Context) -> Verdict {
    let script = "umask 027; rm -f one two; touch one; sh -c umask; ( umask 0; sh -c umask; touch two ); ls -l one two | cut -c1-10";
    same_under_both(context, script, &["touch", "sh"])
}
