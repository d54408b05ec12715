//! One-shots: the command line and environment of the shell, its output, and its status.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::{Answer, marked};
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::one_shot::{LONG_TIMEOUT_MS, OneShots, expect_result};
use crate::stage::server::Escalated;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("exec.shell/login-and-not", login_and_not),
    case("exec.shell/command-verbatim", command_verbatim),
    case("exec.shell/environment-and-workdir", environment_and_workdir),
    case("exec.shell/output-and-status", output_and_status),
    case("exec.shell/output-verbatim", output_verbatim),
    case("exec.shell/output-that-is-not-utf-8", output_that_is_not_utf_8).needs("bytes"),
    case("exec.shell/input-of-its-own", input_of_its_own),
    case("exec.shell/every-status", every_status),
    case("exec.shell/much-output", much_output),
    case("exec.shell/one-stream-at-a-time", one_stream_at_a_time),
    case("exec.shell/more-output-than-allowed", more_output_than_allowed),
    case("exec.shell/two-at-once", two_at_once),
    case("exec.shell/requests-are-served", requests_are_served),
]).needs("exec");

/// `-lc` by default and where login is true, `-c` where it is false.
fn login_and_not(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    for (login, option) in [(None, "-lc"), (Some(true), "-lc"), (Some(false), "-c")] {
        let program = ConnectedProgram::new(context, &format!("shell-{}", context.next_number()))?;
        let mut params = one_shots.params(program.text(), "the command");
        match login {
            Some(login) => params["login"] = json!(login),
            None => drop(
                params
                    .as_object_mut()
                    .and_then(|members| members.shift_remove("login")),
            ),
        }
        let id = one_shots.shim.send("exec", params)?;
        let mut shell = program.accept("the shell of the one-shot")?;
        expect::equal(
            "argv of the shell after its name",
            vec![option.to_owned(), "the command".to_owned()],
            shell.report.argument_text().split_off(1),
        )?;
        shell.send(&Order::Exit(0))?;
        expect::equal("exit_code", &json!(0), &one_shots.result(id)?["exit_code"])?;
    }
    one_shots.shim.shutdown()
}

/// The command is one argument, whatever it contains.
fn command_verbatim(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let commands = [
        "echo 'a b' \"$HOME\" `x` \\ ",
        "  one\ntwo\n\n",
        "",
        "-c",
        "ü–😀; exit 1 # *",
    ];
    for command in commands {
        let program = ConnectedProgram::new(context, &format!("shell-{}", context.next_number()))?;
        let params = one_shots.params(program.text(), command);
        let id = one_shots.shim.send("exec", params)?;
        let mut shell = program.accept("the shell of the one-shot")?;
        expect::equal(
            "argv of the shell after its name",
            vec!["-c".to_owned(), command.to_owned()],
            shell.report.argument_text().split_off(1),
        )?;
        shell.send(&Order::Exit(0))?;
        one_shots.result(id)?;
    }
    one_shots.shim.shutdown()
}

/// The shell has the given environment with the overlay merged, and the given directory.
fn environment_and_workdir(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let program = ConnectedProgram::new(context, "shell")?;
    let mut params = one_shots.params(program.text(), "x");
    params["env"] = json!({"ONE": "1", "EXEC_WRAPPER": "/of/the/caller", "EMPTY": ""});
    let id = one_shots.shim.send("exec", params)?;
    let mut shell = program.accept("the shell of the one-shot")?;
    let mut entries: Vec<String> = shell
        .report
        .environment
        .iter()
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
        .filter(|entry| entry != "BASH_EXEC_WRAPPER=/opt/wrapper")
        .map(|entry| match entry.strip_prefix("CODEX_ESCALATE_SOCKET=") {
            Some(_) => "CODEX_ESCALATE_SOCKET=…".to_owned(),
            None => entry,
        })
        .collect();
    entries.sort();
    let expected = [
        "CODEX_ESCALATE_SOCKET=…",
        "EMPTY=",
        "EXEC_WRAPPER=/opt/wrapper",
        "ONE=1",
    ];
    expect::equal("environment of the shell, sorted", &expected[..], &*entries)?;
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(&one_shots.directory)?;
    expect::equal(
        "device and inode of the shell's working directory",
        (metadata.dev(), metadata.ino()),
        shell.report.directory_identity,
    )?;
    shell.send(&Order::Exit(0))?;
    one_shots.result(id)?;
    one_shots.shim.shutdown()
}

/// Output and error come separately, with the status.
fn output_and_status(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let params = one_shots.params(
        "/bin/sh",
        "echo out; echo err >&2; printf 'ü, no newline'; exit 9",
    );
    let result = one_shots.run(params)?;
    expect_result(&result, 9, "out\nü, no newline", "err\n")?;
    let params = one_shots.params("/bin/sh", ":");
    expect_result(&one_shots.run(params)?, 0, "", "")?;
    one_shots.shim.shutdown()
}

/// Ends of lines, blanks and control characters of the output stay as they are.
fn output_verbatim(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let params = one_shots.params(
        "/bin/sh",
        r"printf ' one\r\ntwo\rthree\t\n\n \n'; printf '\000\001\033[1m\177\r\n' >&2",
    );
    let result = one_shots.run(params)?;
    expect_result(
        &result,
        0,
        " one\r\ntwo\rthree\t\n\n \n",
        "\0\u{1}\u{1b}[1m\u{7f}\r\n",
    )?;
    one_shots.shim.shutdown()
}

/// Bytes of the output that are not UTF-8 stay as they are, each as a lone surrogate: a Latin-1 letter, the beginning of a
/// character without its end, encoded surrogates, and what no text has.
fn output_that_is_not_utf_8(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let outputs: [[&[u8]; 2]; 3] = [
        [b"caf\xe9\n", b"\xff\xfe\x80 and \xc3\xbc\n"],
        [b"\xed\xb2\x80\xc0\xaf", b""],
        [b"", b"cut off: \xf0\x9f\x98"],
    ];
    for [output, error] in outputs {
        let mut begun = one_shots.begin(context, None)?;
        for (number, bytes) in [(1, output), (2, error)] {
            begun.shell.must(&Order::Write(number, bytes.to_vec()))?;
        }
        begun.shell.send(&Order::Exit(0))?;
        let result = one_shots.result(begun.id)?;
        expect_result(&result, 0, &marked(output), &marked(error))?;
    }
    one_shots.shim.shutdown()
}

/// What is standard input of the shell is left open, but it isn't the server's: a shell that reads would take the messages of
/// the server's caller.
fn input_of_its_own(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let mut begun = one_shots.begin(context, None)?;
    let input = |pid: i32| std::fs::read_link(format!("/proc/{pid}/fd/0")).ok();
    let servers = input(one_shots.shim.process.pid.as_raw());
    let shells = input(begun.shell.report.pid);
    expect::that(
        shells.is_none() || shells != servers,
        "standard input of the shell isn't the server's",
        format_args!("both are {}", shown(&shells)),
    )?;
    begun.shell.send(&Order::Exit(0))?;
    one_shots.result(begun.id)?;
    one_shots.shim.shutdown()
}

/// Statuses from 0 to 255 are returned as they are.
fn every_status(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    for status in [0, 1, 2, 42, 126, 127, 128, 129, 143, 200, 254, 255] {
        let params = one_shots.params("/bin/sh", &format!("exit {status}"));
        expect_result(&one_shots.run(params)?, status, "", "")?;
    }
    one_shots.shim.shutdown()
}

/// A megabyte on each stream, both at once, arrives complete.
fn much_output(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let command =
        "i=0; while [ $i -lt 256 ]; do printf '%4096d' $i; printf '%4096d' $i >&2; i=$((i+1)); done; exit 3";
    let result = one_shots.run(one_shots.params("/bin/sh", command))?;
    let expected: String = (0..256).map(|index| format!("{index:>4096}")).collect();
    for name in ["stdout", "stderr"] {
        let text = result[name].as_str().unwrap_or_default();
        expect::that(
            text == expected,
            format_args!("{} bytes of {name}, as they were written", expected.len()),
            format_args!("{} bytes", text.len()),
        )?;
    }
    expect::equal("exit_code", &json!(3), &result["exit_code"])?;
    one_shots.shim.shutdown()
}

/// A megabyte on one stream before anything on the other: no pipe waits for the other one's reader.
fn one_stream_at_a_time(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    for (first, second) in [("1", "2"), ("2", "1")] {
        let command = format!(
            "i=0; while [ $i -lt 256 ]; do printf '%4096d' $i >&{first}; i=$((i+1)); done; echo end >&{second}"
        );
        let result = one_shots.run(one_shots.params("/bin/sh", &command))?;
        let lengths = ["stdout", "stderr"].map(|name| result[name].as_str().unwrap_or_default().len());
        let expected = if first == "1" { [1 << 20, 4] } else { [4, 1 << 20] };
        expect::equal("bytes of stdout and stderr", expected, lengths)?;
    }
    one_shots.shim.shutdown()
}

/// More than the limit that its user chose: a server that bounds the output fails with an error that says so, and ends the shell. No
/// server returns a part of it as if it were all.
fn more_output_than_allowed(context: &mut Context) -> Verdict {
    const LIMIT: usize = 64 << 10;
    const WRITTEN: usize = 4 * LIMIT;
    let mut one_shots = OneShots::new(context)?;
    for stream in [1, 2] {
        for stays in [false, true] {
            let program = ConnectedProgram::new(context, &format!("shell-{}", context.next_number()))?;
            let mut params = one_shots.params(program.text(), "x");
            params["output_limit"] = json!(LIMIT);
            let id = one_shots.shim.send("exec", params)?;
            let mut shell = program.accept("the shell of the one-shot")?;
            shell.send(&Order::Write(stream, vec![b'x'; WRITTEN]))?;
            if !stays {
                // It may have been killed for its output by now, which the answer tells.
                let _ = shell.send(&Order::Exit(0));
            }
            match one_shots.shim.answer_to(id, "exec")? {
                Err(error) => {
                    let words = error.message.to_lowercase();
                    let says_so = words.contains("output") || words.contains(&LIMIT.to_string());
                    expect::that(
                        says_so,
                        format_args!("an error about output of more than {LIMIT} bytes"),
                        &error.message,
                    )?;
                    shell.expect_gone("the shell of a one-shot that has written too much")?;
                }
                Ok(result) => {
                    let name = if stream == 1 { "stdout" } else { "stderr" };
                    let length = result[name].as_str().unwrap_or_default().len();
                    expect::that(
                        length == WRITTEN,
                        format_args!(
                            "all {WRITTEN} bytes of {name}, or an error, where {LIMIT} were allowed"
                        ),
                        format_args!("{length} bytes, and no error"),
                    )?;
                    // It has no bound: the shell would stay.
                    return one_shots.shim.shutdown();
                }
            }
        }
    }
    one_shots.shim.shutdown()
}

/// Two one-shots at once: each has its own output and status.
fn two_at_once(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let programs = ["one", "two"].map(|name| ConnectedProgram::new(context, name));
    let mut running = Vec::new();
    for (index, program) in programs.into_iter().enumerate() {
        let program = program?;
        let mut params = one_shots.params(program.text(), "x");
        params["session"] = json!(format!("session {index}"));
        let id = one_shots.shim.send("exec", params)?;
        running.push((id, program.accept("the shell of a one-shot")?));
    }
    for (index, (_, shell)) in running.iter_mut().enumerate() {
        shell.must(&Order::Write(1, format!("output {index}").into_bytes()))?;
        shell.must(&Order::Write(2, format!("error {index}").into_bytes()))?;
    }
    for (index, (id, mut shell)) in running.into_iter().enumerate().rev() {
        shell.send(&Order::Exit(50 + index as i32))?;
        let result = one_shots.result(id)?;
        expect_result(
            &result,
            50 + index as i64,
            &format!("output {index}"),
            &format!("error {index}"),
        )?;
    }
    one_shots.shim.shutdown()
}

/// While the shell of a one-shot runs, its requests are asked about under its session's name.
fn requests_are_served(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let mut begun = one_shots.begin(context, Some(LONG_TIMEOUT_MS))?;
    let mut requester = begun.ask(&one_shots.shim, "/bin/sh", Some(&Answer::Run))?;
    requester.expect_action(&json!("Run"))?;
    let child = ConnectedProgram::new(context, "child")?;
    let Escalated {
        mut requester,
        child: mut probe,
    } = begun.escalate(&one_shots.shim, &child)?;
    probe.send(&Order::Exit(12))?;
    requester.expect_exit_code(12)?;
    begun.shell.send(&Order::Exit(1))?;
    expect::equal("exit_code", &json!(1), &one_shots.result(begun.id)?["exit_code"])?;
    one_shots.shim.shutdown()
}
