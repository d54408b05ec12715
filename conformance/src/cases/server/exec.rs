//! One-shots: the shell's command line, its output and status, the end of the session, the timeout.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{AsFdObject, EscalationSocket, RequestMessage, Requester};
use crate::peer::harness::{Answer, Shim};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("exec.shell/login-and-not", login_and_not).needs("exec"),
    case("exec.shell/command-verbatim", command_verbatim).needs("exec"),
    case("exec.shell/environment-and-workdir", environment_and_workdir).needs("exec"),
    case("exec.shell/output-and-status", output_and_status).needs("exec"),
    case("exec.shell/every-status", every_status).needs("exec"),
    case("exec.shell/much-output", much_output).needs("exec"),
    case("exec.shell/one-stream-at-a-time", one_stream_at_a_time).needs("exec"),
    case("exec.shell/two-at-once", two_at_once).needs("exec"),
    case("exec.shell/requests-are-served", requests_are_served).needs("exec"),
    case("exec.teardown/escalated-background-child", escalated_background_child).needs("exec"),
    case("exec.teardown/pending-request", pending_request).needs("exec"),
    case("exec.teardown/socket-dead-afterwards", socket_dead_afterwards).needs("exec"),
    case("exec.timeout/shell-and-children", shell_and_children).needs("exec"),
    case("exec.timeout/descendants-of-the-shell", descendants_of_the_shell).needs("exec"),
    case("exec.timeout/output-so-far", output_so_far).needs("exec"),
    case("exec.timeout/pending-decision", pending_decision).needs("exec"),
    case("exec.timeout/in-time", in_time).needs("exec"),
]);

/// A timeout that is to come: long enough for what a case does before, short enough to wait for.
const SHORT_TIMEOUT: Duration = Duration::from_secs(3);

/// A timeout that isn't to come.
const LONG_TIMEOUT_MS: u64 = 600_000;

/// A shim, and what cases about one-shots do with it.
struct Stage {
    shim: Shim,
    directory: String,
    patience: Duration,
    short_timeout_ms: u64,
}

impl Stage {
    fn new(context: &Context) -> Result<Stage, CaseError> {
        Ok(Stage {
            shim: Shim::start(context)?,
            directory: context.work_directory().to_string_lossy().into_owned(),
            patience: context.patience(),
            short_timeout_ms: u64::try_from(context.scaled(SHORT_TIMEOUT).as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Params of a one-shot of `command`, with PATH as its environment.
    fn params(&self, shell: &str, command: &str) -> Value {
        json!({
            "session": "one-shot", "shell": shell, "wrapper": "/opt/wrapper", "command": command,
            "workdir": self.directory, "env": {"PATH": "/usr/bin:/bin"}, "login": false,
        })
    }

    /// Runs a one-shot to its end.
    fn run(&mut self, params: Value) -> Result<Value, CaseError> {
        let id = self.shim.send("exec", params)?;
        self.result(id)
    }

    /// The result of a one-shot that was begun.
    fn result(&self, id: u64) -> Result<Value, CaseError> {
        self.result_within(id, self.patience)
    }

    fn result_within(&self, id: u64, patience: Duration) -> Result<Value, CaseError> {
        self.shim
            .answer_within(id, "exec", patience)?
            .map_err(|error| violation("exec succeeds", format_args!("{error:?}")))
    }

    /// Waits for the result of a one-shot whose short timeout is to come.
    fn timed_out(&self, id: u64) -> Result<Value, CaseError> {
        let result = self.result_within(id, Duration::from_millis(self.short_timeout_ms) + self.patience)?;
        expect::equal("timed_out", &json!(true), &result["timed_out"])?;
        Ok(result)
    }

    /// Begins a one-shot whose shell is a probe.
    fn begin(&mut self, context: &Context, timeout_ms: u64) -> Result<Begun, CaseError> {
        let program = ConnectedProgram::new(context, "shell")?;
        let mut params = self.params(program.text(), "command");
        params["timeout_ms"] = json!(timeout_ms);
        let id = self.shim.send("exec", params)?;
        let mut shell = program.accept("the shell of the one-shot")?;
        let number = shell
            .report
            .variable("CODEX_ESCALATE_SOCKET")
            .and_then(|value| String::from_utf8(value).ok()?.parse().ok())
            .ok_or_else(|| violation("CODEX_ESCALATE_SOCKET, a number, in the shell", "none"))?;
        let socket = shell.take_descriptor(number)?;
        let socket = EscalationSocket::new(socket, context.transcript.clone(), context.patience());
        Ok(Begun {
            id,
            program,
            shell,
            socket,
        })
    }
}

/// A one-shot that runs.
struct Begun {
    id: u64,
    program: ConnectedProgram,
    shell: Probe,
    socket: EscalationSocket,
}

impl Begun {
    fn ask(&mut self, shim: &Shim, file: &str, answer: Option<&Answer>) -> Result<Requester, CaseError> {
        let mut requester = self.socket.open()?;
        requester.request(&RequestMessage::new(file, &["requested"], "/"))?;
        let decision = shim.next_decision()?;
        expect::equal("session of the question", "one-shot", &*decision.question.session)?;
        if let Some(answer) = answer {
            decision.answer(answer)?;
        }
        Ok(requester)
    }

    fn escalate(
        &mut self,
        shim: &Shim,
        program: &ConnectedProgram,
        output: &dyn AsFdObject,
    ) -> Result<(Requester, Probe), CaseError> {
        let mut requester = self.ask(shim, program.text(), Some(&Answer::Escalate))?;
        requester.expect_action(&json!("Escalate"))?;
        let null = null()?;
        requester.send_descriptors(&[(0, &null), (1, output), (2, output)])?;
        Ok((requester, program.accept("the escalated child")?))
    }
}

fn ignoring_signals(probe: &mut Probe) -> Verdict {
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        probe.must(&Order::Ignore(signal))?;
    }
    Ok(())
}

/// `-lc` by default and where login is true, `-c` where it is false.
fn login_and_not(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    for (login, option) in [(None, "-lc"), (Some(true), "-lc"), (Some(false), "-c")] {
        let program = ConnectedProgram::new(context, &format!("shell-{}", context.next_number()))?;
        let mut params = stage.params(program.text(), "the command");
        match login {
            Some(login) => params["login"] = json!(login),
            None => drop(
                params
                    .as_object_mut()
                    .and_then(|members| members.shift_remove("login")),
            ),
        }
        let id = stage.shim.send("exec", params)?;
        let mut shell = program.accept("the shell of the one-shot")?;
        expect::equal(
            "argv of the shell after its name",
            vec![option.to_owned(), "the command".to_owned()],
            shell.report.argument_text().split_off(1),
        )?;
        shell.send(&Order::Exit(0))?;
        expect::equal("exit_code", &json!(0), &stage.result(id)?["exit_code"])?;
    }
    stage.shim.shutdown()
}

/// The command is one argument, whatever is in it.
fn command_verbatim(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let commands = [
        "echo 'a b' \"$HOME\" `x` \\ ",
        "  one\ntwo\n\n",
        "",
        "-c",
        "ü–😀; exit 1 # *",
    ];
    for command in commands {
        let program = ConnectedProgram::new(context, &format!("shell-{}", context.next_number()))?;
        let params = stage.params(program.text(), command);
        let id = stage.shim.send("exec", params)?;
        let mut shell = program.accept("the shell of the one-shot")?;
        expect::equal(
            "argv of the shell after its name",
            vec!["-c".to_owned(), command.to_owned()],
            shell.report.argument_text().split_off(1),
        )?;
        shell.send(&Order::Exit(0))?;
        stage.result(id)?;
    }
    stage.shim.shutdown()
}

/// The shell has the given environment with the overlay merged, and the given directory.
fn environment_and_workdir(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = ConnectedProgram::new(context, "shell")?;
    let mut params = stage.params(program.text(), "x");
    params["env"] = json!({"ONE": "1", "EXEC_WRAPPER": "/of/the/caller", "EMPTY": ""});
    let id = stage.shim.send("exec", params)?;
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
    let metadata = std::fs::metadata(&stage.directory)?;
    expect::equal(
        "device and inode of the shell's working directory",
        (metadata.dev(), metadata.ino()),
        shell.report.directory_identity,
    )?;
    shell.send(&Order::Exit(0))?;
    stage.result(id)?;
    stage.shim.shutdown()
}

fn expect_result(result: &Value, exit_code: i64, stdout: &str, stderr: &str) -> Verdict {
    expect::equal("stdout", stdout, result["stdout"].as_str().unwrap_or_default())?;
    expect::equal("stderr", stderr, result["stderr"].as_str().unwrap_or_default())?;
    expect::equal("exit_code", &json!(exit_code), &result["exit_code"])?;
    expect::equal("timed_out", &json!(false), &result["timed_out"])
}

/// Output and error come separately, with the status.
fn output_and_status(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let params = stage.params(
        "/bin/sh",
        "echo out; echo err >&2; printf 'ü, no newline'; exit 9",
    );
    let result = stage.run(params)?;
    expect_result(&result, 9, "out\nü, no newline", "err\n")?;
    let params = stage.params("/bin/sh", ":");
    expect_result(&stage.run(params)?, 0, "", "")?;
    stage.shim.shutdown()
}

/// Statuses from 0 to 255 are returned as they are.
fn every_status(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    for status in [0, 1, 2, 42, 126, 127, 128, 129, 143, 200, 254, 255] {
        let params = stage.params("/bin/sh", &format!("exit {status}"));
        expect_result(&stage.run(params)?, status, "", "")?;
    }
    stage.shim.shutdown()
}

/// A megabyte on each stream, both at once, arrives complete.
fn much_output(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let command =
        "i=0; while [ $i -lt 256 ]; do printf '%4096d' $i; printf '%4096d' $i >&2; i=$((i+1)); done; exit 3";
    let result = stage.run(stage.params("/bin/sh", command))?;
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
    stage.shim.shutdown()
}

/// A megabyte on one stream before anything on the other: no pipe waits for the other one's reader.
fn one_stream_at_a_time(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    for (first, second) in [("1", "2"), ("2", "1")] {
        let command = format!(
            "i=0; while [ $i -lt 256 ]; do printf '%4096d' $i >&{first}; i=$((i+1)); done; echo end >&{second}"
        );
        let result = stage.run(stage.params("/bin/sh", &command))?;
        let lengths = ["stdout", "stderr"].map(|name| result[name].as_str().unwrap_or_default().len());
        let expected = if first == "1" { [1 << 20, 4] } else { [4, 1 << 20] };
        expect::equal("bytes of stdout and stderr", expected, lengths)?;
    }
    stage.shim.shutdown()
}

/// Two one-shots at once: each has its own output and status.
fn two_at_once(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let programs = ["one", "two"].map(|name| ConnectedProgram::new(context, name));
    let mut running = Vec::new();
    for (index, program) in programs.into_iter().enumerate() {
        let program = program?;
        let mut params = stage.params(program.text(), "x");
        params["session"] = json!(format!("session {index}"));
        let id = stage.shim.send("exec", params)?;
        running.push((id, program.accept("the shell of a one-shot")?));
    }
    for (index, (_, shell)) in running.iter_mut().enumerate() {
        shell.must(&Order::Write(1, format!("output {index}").into_bytes()))?;
        shell.must(&Order::Write(2, format!("error {index}").into_bytes()))?;
    }
    for (index, (id, mut shell)) in running.into_iter().enumerate().rev() {
        shell.send(&Order::Exit(50 + index as i32))?;
        let result = stage.result(id)?;
        expect_result(
            &result,
            50 + index as i64,
            &format!("output {index}"),
            &format!("error {index}"),
        )?;
    }
    stage.shim.shutdown()
}

/// While the shell of a one-shot runs, its requests are asked about under its session's name.
fn requests_are_served(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let mut begun = stage.begin(context, LONG_TIMEOUT_MS)?;
    let mut requester = begun.ask(&stage.shim, "/bin/sh", Some(&Answer::Run))?;
    requester.expect_action(&json!("Run"))?;
    let child = ConnectedProgram::new(context, "child")?;
    let null = null()?;
    let (mut requester, mut probe) = begun.escalate(&stage.shim, &child, &null)?;
    probe.send(&Order::Exit(12))?;
    requester.expect_exit_code(12)?;
    begun.shell.send(&Order::Exit(1))?;
    expect::equal("exit_code", &json!(1), &stage.result(begun.id)?["exit_code"])?;
    stage.shim.shutdown()
}

/// An escalated child that the shell left in the background, with the output in its hands, neither delays the
/// result nor outlives it.
fn escalated_background_child(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let mut begun = stage.begin(context, LONG_TIMEOUT_MS)?;
    let output = begun.shell.take_descriptor(1)?;
    let child = ConnectedProgram::new(context, "child")?;
    let (mut requester, mut probe) = begun.escalate(&stage.shim, &child, &output)?;
    drop(output);
    ignoring_signals(&mut probe)?;
    let process = probe.process()?;
    begun.shell.send(&Order::Exit(5))?;
    let result = stage.result(begun.id)?;
    expect::equal("exit_code", &json!(5), &result["exit_code"])?;
    expect::equal("timed_out", &json!(false), &result["timed_out"])?;
    process.expect_end(
        "the escalated child that was left in the background",
        stage.patience,
    )?;
    requester.frames.expect_end("its session has ended")?;
    stage.shim.shutdown()
}

/// A request that is pending when the shell ends is ended with it, and a late answer starts nothing.
fn pending_request(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let mut begun = stage.begin(context, LONG_TIMEOUT_MS)?;
    let mut requester = begun.ask(&stage.shim, "/bin/sh", None)?;
    begun.shell.send(&Order::Exit(6))?;
    expect::equal("exit_code", &json!(6), &stage.result(begun.id)?["exit_code"])?;
    requester.frames.expect_end("its session has ended")?;
    stage.shim.shutdown()
}

/// Who kept the escalation socket is not served after the end.
fn socket_dead_afterwards(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let mut begun = stage.begin(context, LONG_TIMEOUT_MS)?;
    begun.shell.send(&Order::Exit(0))?;
    stage.result(begun.id)?;
    expect_dead(&mut begun.socket, stage.patience)?;
    stage.shim.expect_no_decision()?;
    stage.shim.shutdown()
}

/// Demands that a handshake fails, or that its stream ends. As the listener may end a moment after the answer, a
/// stream that stays silent is given the time for it.
fn expect_dead(socket: &mut EscalationSocket, patience: Duration) -> Verdict {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    if socket.try_datagram(&[0], &[&theirs]).is_err() {
        return Ok(());
    }
    drop(theirs);
    let ended = crate::peer::wire::read_to_end(ours, Instant::now() + patience)?;
    expect::equal("bytes before the end of the stream", Some(Vec::new()), ended)
}

/// At the timeout the shell and its escalated child are killed, with a child of each, though all ignore SIGTERM.
fn shell_and_children(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let timeout = stage.short_timeout_ms;
    let mut begun = stage.begin(context, timeout)?;
    let child = ConnectedProgram::new(context, "child")?;
    let null = null()?;
    let (mut requester, mut probe) = begun.escalate(&stage.shim, &child, &null)?;
    let mut processes = Vec::new();
    for (name, family, program) in [
        ("the shell", &mut begun.shell, &begun.program),
        ("the escalated child", &mut probe, &child),
    ] {
        ignoring_signals(family)?;
        family.must(&Order::Fork {
            new_session: false,
            new_group: false,
            orphan: false,
        })?;
        let forked = program.accept("a forked process")?;
        processes.push((name.to_owned(), family.process()?));
        processes.push((format!("a child of {name}"), forked.process()?));
    }
    stage.timed_out(begun.id)?;
    for (name, process) in &processes {
        process.expect_end(name, stage.patience)?;
    }
    requester.frames.expect_end("its session has ended")?;
    stage.shim.shutdown()
}

/// At the timeout descendants of the shell in a group or a session of their own, or without parents, are killed.
fn descendants_of_the_shell(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let timeout = stage.short_timeout_ms;
    let mut begun = stage.begin(context, timeout)?;
    let mut processes = Vec::new();
    for (new_session, new_group, orphan) in [(false, true, false), (true, false, false), (true, false, true)]
    {
        begun.shell.must(&Order::Fork {
            new_session,
            new_group,
            orphan,
        })?;
        let mut forked = begun.program.accept("a forked process")?;
        ignoring_signals(&mut forked)?;
        let name =
            format!("a descendant (own session {new_session}, own group {new_group}, orphan {orphan})");
        processes.push((name, forked.process()?, forked));
    }
    stage.timed_out(begun.id)?;
    for (name, process, _) in &processes {
        process.expect_end(name, stage.patience)?;
    }
    stage.shim.shutdown()
}

/// What was written before the timeout is returned.
fn output_so_far(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let timeout = stage.short_timeout_ms;
    let mut begun = stage.begin(context, timeout)?;
    begun.shell.must(&Order::Write(1, b"written before\n".to_vec()))?;
    begun.shell.must(&Order::Write(2, b"and told\n".to_vec()))?;
    let result = stage.timed_out(begun.id)?;
    expect::equal(
        "stdout",
        "written before\n",
        result["stdout"].as_str().unwrap_or_default(),
    )?;
    expect::equal(
        "stderr",
        "and told\n",
        result["stderr"].as_str().unwrap_or_default(),
    )?;
    stage.shim.shutdown()
}

/// A decision that never comes doesn't hold the timeout up.
fn pending_decision(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let timeout = stage.short_timeout_ms;
    let mut begun = stage.begin(context, timeout)?;
    let mut requester = begun.ask(&stage.shim, "/bin/sh", None)?;
    let process = begun.shell.process()?;
    stage.timed_out(begun.id)?;
    requester.frames.expect_end("its session has ended")?;
    process.expect_end("the shell", stage.patience)?;
    stage.shim.shutdown()
}

/// A one-shot that ends before its timeout says so, and doesn't wait for it.
fn in_time(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let mut params = stage.params("/bin/sh", "echo quick; exit 4");
    params["timeout_ms"] = json!(LONG_TIMEOUT_MS);
    expect_result(&stage.run(params)?, 4, "quick\n", "")?;
    // The output of a shell that closes its streams early isn't the end of the shell.
    let mut params = stage.params("/bin/sh", "exec >&- 2>&-; exit 5");
    params["timeout_ms"] = json!(LONG_TIMEOUT_MS);
    expect_result(&stage.run(params)?, 5, "", "")?;
    stage.shim.shutdown()
}
