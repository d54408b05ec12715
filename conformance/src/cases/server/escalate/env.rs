//! The environment of an escalated child: the request's variables, and none of the server's.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::program::Program;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::server::{Stage, probe_session_with};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.env/exactly-the-requests", exactly_the_requests),
    case("server.escalate.env/empty", empty),
    case("server.escalate.env/unset-does-not-come-back", unset_does_not_come_back),
    case("server.escalate.env/odd-values", odd_values),
    case("server.escalate.env/names-like-loader-variables", names_like_loader_variables),
    case("server.escalate.env/of-the-working-directory", of_the_working_directory),
    case("server.escalate.env/two-thousand", two_thousand),
    case("server.escalate.env/one-after-the-other", one_after_the_other),
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

/// PWD is a variable like any other: a shell says by it how it came to its working directory.
fn of_the_working_directory(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let variables = [("PWD", "/by/way/of/a/link"), ("OLDPWD", "/before")];
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
