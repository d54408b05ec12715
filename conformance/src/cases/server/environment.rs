//! The environment of an escalated child: the request's, nothing of the server's, and nothing that loads code.

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::program::Program;
use crate::peer::wire::Received;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::server::{Stage, probe_session_with};
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.env/exactly-the-requests", exactly_the_requests),
    case("server.escalate.env/empty", empty),
    case("server.escalate.env/unset-does-not-come-back", unset_does_not_come_back),
    case("server.escalate.env/odd-values", odd_values),
    case("server.escalate.env/names-like-loader-variables", names_like_loader_variables),
    case("server.escalate.env/two-thousand", two_thousand),
    case("server.escalate.env/one-after-the-other", one_after_the_other),
    case("server.env.loader/dynamic-loader", dynamic_loader),
    case("server.env.loader/shell-start", shell_start),
    case("server.env.loader/exported-functions", exported_functions),
    case("server.env.loader/bare-script", bare_script),
]);

/// Escalates a program with this environment and demands that it gets just that.
fn expect_environment(
    context: &Context,
    stage: &mut Stage,
    name: &str,
    variables: &[(&str, &str)],
) -> Verdict {
    let program = Program::new(context, name, [])?;
    let request = with_variables(stage.request_for(program.text()), variables);
    let null = null()?;
    let result = stage.result_of(&request, &[(0, &null), (1, &null), (2, &null)])?;
    expect::equal("exit_code", Some(0), result["exit_code"].as_i64())?;
    let mut wanted: Vec<String> = variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut seen: Vec<String> = program
        .only_start()?
        .environment
        .into_iter()
        .map(|entry| String::from_utf8_lossy(&entry).into_owned())
        .collect();
    wanted.sort();
    seen.sort();
    expect::equal("the child's environment, sorted", wanted, seen)
}

fn with_variables(request: RequestMessage, variables: &[(&str, &str)]) -> RequestMessage {
    variables
        .iter()
        .fold(request, |request, (name, value)| request.variable(name, value))
}

/// The child gets the request's variables and none of those that the server was started with.
fn exactly_the_requests(context: &mut Context) -> Verdict {
    let mut stage = Stage::on(context, |launch| {
        launch
            .variable("SERVER_SECRET", "of the server")
            .variable("LANG", "C.UTF-8")
            .variable("SHARED", "the server's value")
    })?;
    let variables = [
        ("SHARED", "the request's value"),
        ("PATH", "/opt/bin"),
        ("HOME", "/home/somebody"),
    ];
    expect_environment(context, &mut stage, "program", &variables)?;
    stage.finish()
}

/// An empty `env` is an empty environment.
fn empty(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    expect_environment(context, &mut stage, "program", &[])?;
    stage.finish()
}

/// A variable of the session's base environment that the request doesn't have is not there.
fn unset_does_not_come_back(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let another = probe_session_with(
        context,
        &mut stage.shim,
        "another",
        &json!({"UNSET_IN_THE_SHELL": "1", "KEPT": "1"}),
    )?;
    expect::equal(
        "the variable at the shell's start",
        Some(b"1".to_vec()),
        another.probe.report.variable("UNSET_IN_THE_SHELL"),
    )?;
    stage.session = another;
    expect_environment(context, &mut stage, "program", &[("KEPT", "1")])?;
    stage.finish()
}

/// Values arrive as they are: empty, with newlines, `=`, blanks at the ends, any Unicode, and long.
fn odd_values(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let long = "x".repeat(100_000);
    let variables = [
        ("EMPTY", ""),
        ("LINES", "one\ntwo\n"),
        ("EQUATION", "a=b=c"),
        ("BLANKS", "  \t both ends \r\n"),
        ("QUOTES", "'\"\\$(id)`id`${HOME}"),
        ("CONTROL", "\u{1}\u{7f}\u{9b}"),
        ("UNICODE", "é ß 漢字 🎉 \u{fffd} \u{feff}"),
        ("LONG", &long),
        ("lower", "case"),
        ("Lower", "another case"),
        ("1+1", "no identifier"),
        ("NÄME", "not ASCII"),
    ];
    expect_environment(context, &mut stage, "program", &variables)?;
    stage.finish()
}

/// Names that only resemble those of loaders and shells are ordinary variables.
fn names_like_loader_variables(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let variables = [
        ("LDFLAGS", "-s"),
        ("LD", "ld.gold"),
        ("XLD_PRELOAD", "/x.so"),
        ("OLD_PRELOAD", "/x.so"),
        ("PS1", "$ "),
        ("PS2", "> "),
        ("PS40", "40"),
        ("BASH", "/bin/bash"),
        ("BASH_VERSION", "5"),
        ("ENVIRONMENT", "production"),
        ("MY_ENV", "1"),
        ("ZDOT", "1"),
    ];
    expect_environment(context, &mut stage, "program", &variables)?;
    stage.finish()
}

/// Two thousand variables all arrive.
fn two_thousand(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let names: Vec<String> = (0..2_000).map(|number| format!("VARIABLE_{number}")).collect();
    let variables: Vec<(&str, &str)> = names
        .iter()
        .map(|name| (name.as_str(), "some value of a usual length"))
        .collect();
    expect_environment(context, &mut stage, "program", &variables)?;
    stage.finish()
}

/// What one request had isn't there in the next.
fn one_after_the_other(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    for round in 0..5 {
        let first = format!("first-{round}");
        expect_environment(
            context,
            &mut stage,
            &first,
            &[("ONLY_FIRST", &first), ("BOTH", "1")],
        )?;
        let second = format!("second-{round}");
        expect_environment(context, &mut stage, &second, &[("BOTH", "2")])?;
    }
    stage.finish()
}

/// Sends a request with `dangerous` variables and demands that none reaches the program, or a refusal.
fn expect_left_out(stage: &mut Stage, program: &Program, dangerous: &[(&str, &str)]) -> Verdict {
    let request = with_variables(
        stage.request_for(program.text()).variable("ORDINARY", "kept"),
        dangerous,
    );
    let mut requester = stage.session.socket.open()?;
    requester.request(&request)?;
    match requester.frames.receive()? {
        Received::Frame(frame) if frame.json()?["action"] == json!("Escalate") => {
            let null = null()?;
            requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
            requester.expect_exit_code(0)?;
            let environment = program.only_start()?.environment;
            expect::that(
                environment.contains(&b"ORDINARY=kept".to_vec()),
                "the request's other variables reach the program",
                format_args!("its environment: {}", in_words(&environment)),
            )?;
            for (name, _) in dangerous {
                let prefix = format!("{name}=");
                expect::that(
                    !environment
                        .iter()
                        .any(|entry| entry.starts_with(prefix.as_bytes())),
                    format_args!("{name} is left out of the child's environment, or the request is denied"),
                    format_args!("its environment: {}", in_words(&environment)),
                )?;
            }
            Ok(())
        }
        Received::Frame(frame) => {
            expect_denial(&frame.json()?)?;
            denied(stage, program)
        }
        Received::End { bytes: 0 } => denied(stage, program),
        other => Err(violation(
            "Escalate without the variables, or a refusal",
            format_args!("{other:?}"),
        )),
    }
}

fn expect_denial(message: &Value) -> Verdict {
    expect::that(
        message["action"]["Deny"].is_object(),
        "Escalate without the variables, or a denial",
        message,
    )
}

/// The program didn't run, and a harmless request is served.
fn denied(stage: &mut Stage, program: &Program) -> Verdict {
    stage.sentinel()?;
    program.expect_not_started()
}

fn in_words(environment: &[Vec<u8>]) -> String {
    environment
        .iter()
        .map(|entry| String::from_utf8_lossy(entry))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Demands for each of these variables by itself, and for all together, that it doesn't reach the child.
fn each_left_out(context: &Context, dangerous: &[(&str, &str)]) -> Verdict {
    let mut stage = Stage::new(context)?;
    for (index, variable) in dangerous.iter().enumerate() {
        let program = Program::new(context, &format!("program-{index}"), [])?;
        expect_left_out(&mut stage, &program, &[*variable])?;
    }
    let program = Program::new(context, "program-all", [])?;
    expect_left_out(&mut stage, &program, dangerous)?;
    stage.finish()
}

/// LD_PRELOAD, LD_AUDIT, LD_LIBRARY_PATH, whatever else begins with `LD_`, and GLIBC_TUNABLES.
fn dynamic_loader(context: &mut Context) -> Verdict {
    each_left_out(
        context,
        &[
            ("LD_PRELOAD", "/nonexistent/preload.so"),
            ("LD_AUDIT", "/nonexistent/audit.so"),
            ("LD_LIBRARY_PATH", "/nonexistent"),
            ("LD_BIND_NOT", "1"),
            ("LD_PROFILE", "libc.so.6"),
            ("LD_OF_THE_FUTURE", "1"),
            ("LD_", "1"),
            ("GLIBC_TUNABLES", "glibc.malloc.check=3"),
        ],
    )
}

/// What shells read or execute at their start.
fn shell_start(context: &mut Context) -> Verdict {
    each_left_out(
        context,
        &[
            ("BASH_ENV", "/nonexistent/startup"),
            ("ENV", "/nonexistent/startup"),
            ("SHELLOPTS", "xtrace"),
            ("BASHOPTS", "extdebug"),
            ("PS4", "$(touch /nonexistent/file)"),
            ("ZDOTDIR", "/nonexistent"),
        ],
    )
}

/// Functions that a bash has exported, in the spellings of its versions.
fn exported_functions(context: &mut Context) -> Verdict {
    each_left_out(
        context,
        &[
            ("BASH_FUNC_ls%%", "() { :; }"),
            ("BASH_FUNC_ls()", "() { :; }"),
            ("BASH_FUNC_[%%", "() { :; }"),
            ("BASH_FUNC_", "() { :; }"),
        ],
    )
}

/// A script without `#!`, for which an interpreter is put in, is no way round.
fn bare_script(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    let script = context.write_file(
        "bin/script",
        format!("exec '{}'\n", program.text()).as_bytes(),
        0o755,
    )?;
    let script = script.to_string_lossy().into_owned();
    let null = null()?;
    let harmless = stage.request_for(&script).variable("ORDINARY", "kept");
    let placements: [(i64, &dyn crate::peer::fake_wrapper::AsFdObject); 3] =
        [(0, &null), (1, &null), (2, &null)];
    let result = stage.result_of(&harmless, &placements)?;
    expect::equal("exit_code of the script", Some(0), result["exit_code"].as_i64())?;
    let request = with_variables(
        harmless,
        &[
            ("LD_PRELOAD", "/nonexistent/preload.so"),
            ("ENV", "/nonexistent/startup"),
        ],
    );
    let mut requester = stage.session.socket.open()?;
    requester.request(&request)?;
    let message = requester.frames.expect_frame("a decision")?.json()?;
    if message["action"] == json!("Escalate") {
        requester.send_descriptors(&placements)?;
        requester.expect_exit_code(0)?;
    } else {
        expect_denial(&message)?;
    }
    for report in program.starts()? {
        for name in ["LD_PRELOAD", "ENV"] {
            expect::that(
                report.variable(name).is_none(),
                format_args!("{name} is left out of the script's environment"),
                in_words(&report.environment),
            )?;
        }
    }
    stage.sentinel()?;
    stage.finish()
}
