//! e2e.scripts: every decision at every position gives the documented output and status.
//!
//! A fixture of `fixtures/scripts/` names its commands and has one expected transcript for each set of denied
//! ones. Run and Escalate must not differ, so each transcript is tried with every way to divide the others
//! among the two.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Answer;
use crate::spec::requirements::Role;
use crate::stage::e2e::{EndToEnd, commands, denial, expect_transcript, file_name, run_once};
use crate::verdict::{Verdict, harness};

macro_rules! fixture {
    ($name:literal) => {
        |context: &mut Context| {
            tried_in_every_way(
                context,
                include_str!(concat!("../../../../../fixtures/scripts/", $name, ".toml")),
            )
        }
    };
}

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.scripts/list", fixture!("list")).within_seconds(60),
    case("e2e.scripts/condition", fixture!("condition")).within_seconds(60),
    case("e2e.scripts/loop", fixture!("loop")).within_seconds(60),
    case("e2e.scripts/pipeline", fixture!("pipeline")).within_seconds(60),
    case("e2e.scripts/substitution", fixture!("substitution")).within_seconds(60),
    case("e2e.scripts/function", fixture!("function")).within_seconds(60),
    case("e2e.scripts/redirection", fixture!("redirection")).within_seconds(60),
    case("e2e.scripts/errexit", fixture!("errexit")).within_seconds(60),
    case("e2e.scripts/background", fixture!("background")).within_seconds(60),
    case("e2e.scripts/trap", fixture!("trap")).within_seconds(60),
    case("e2e.scripts/every-decision-at-every-position", every_decision_at_every_position).within_seconds(60),
    case("e2e.scripts/redirections-under-escalate", redirections_under_escalate),
    case("e2e.scripts/one-line-two-decisions", one_line_two_decisions),
]);

/// A fixture file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    /// What the script is about.
    sentence: String,
    /// Its commands, which do what their arguments say.
    commands: Vec<String>,
    /// The script, in POSIX syntax.
    script: String,
    /// One transcript for each set of denied commands.
    expected: Vec<Expected>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// The commands that are denied.
    denied: BTreeSet<String>,
    /// Standard output.
    output: String,
    /// The denied commands in the order of their messages on standard error; as often as they were tried.
    #[serde(default)]
    refused: Vec<String>,
    /// What else is on standard error, before the messages.
    #[serde(default)]
    error: String,
    /// The shell's exit status.
    #[serde(default)]
    status: i32,
}

fn tried_in_every_way(context: &Context, text: &str) -> Verdict {
    let fixture: Fixture =
        toml::from_str(text).map_err(|error| harness(format_args!("a script fixture: {error}")))?;
    complete(&fixture)?;
    context.transcript.note(&fixture.sentence);
    let names: Vec<&str> = fixture.commands.iter().map(String::as_str).collect();
    commands(context, names.iter().copied())?;
    let mut all = EndToEnd::new(context)?;
    for expected in &fixture.expected {
        let permitted: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| !expected.denied.contains(*name))
            .collect();
        for name in &expected.denied {
            all.decide(name, Answer::Deny(Some(format!("no {name}"))));
        }
        for division in 0..1_u32 << permitted.len() {
            let mut decisions: Vec<String> = expected
                .denied
                .iter()
                .map(|name| format!("{name} denied"))
                .collect();
            for (index, name) in permitted.iter().enumerate() {
                let escalated = division & (1 << index) != 0;
                decisions.push(format!("{name} {}", if escalated { "escalated" } else { "run" }));
                all.decide(name, if escalated { Answer::Escalate } else { Answer::Run });
            }
            context.transcript.note(decisions.join(", "));
            let result = all.run(&fixture.script)?;
            let refusals: String = expected.refused.iter().map(|name| denial(name)).collect();
            let error = format!("{}{refusals}", expected.error);
            let title = format!("{} ({})", fixture.script, decisions.join(", "));
            expect_transcript(&title, &result, &expected.output, &error, expected.status)?;
        }
    }
    all.shutdown()
}

/// A fixture must have each set of denied commands once: what is left out would never be tried.
fn complete(fixture: &Fixture) -> Verdict {
    let sets: BTreeSet<_> = fixture.expected.iter().map(|expected| &expected.denied).collect();
    let wanted = 1 << fixture.commands.len();
    if sets.len() == wanted && fixture.expected.len() == wanted {
        return Ok(());
    }
    Err(harness(format_args!(
        "a fixture of {} commands needs {wanted} different sets of denied ones and has {} in {}",
        fixture.commands.len(),
        sets.len(),
        fixture.expected.len()
    )))
}

/// Three commands in a row under all 27 combinations of decisions, in one session.
fn every_decision_at_every_position(context: &mut Context) -> Verdict {
    let names = ["run-it", "escalate-it", "deny-it"];
    commands(context, names)?;
    let mut all = EndToEnd::new(context)?;
    all.be_patient(5);
    let (mut script, mut output, mut error) = (String::new(), String::new(), String::new());
    let mut wanted = Vec::new();
    for number in 0..27_usize {
        let positions = [number / 9, number / 3 % 3, number % 3];
        for (position, decision) in positions.into_iter().enumerate() {
            let name = names[decision];
            script.push_str(&format!(
                "{name} out:{number}.{position} exit:{position}; echo $?\n"
            ));
            if name == "deny-it" {
                error.push_str(&denial(name));
                output.push_str("1\n");
            } else {
                output.push_str(&format!("{number}.{position}\n{position}\n"));
            }
            wanted.push(name);
        }
    }
    let result = all.run(&script)?;
    expect_transcript("all 27 combinations", &result, &output, &error, 0)?;
    let asked = all.take_asked();
    let asked: Vec<&str> = asked
        .iter()
        .map(|question| file_name(&question.program))
        .collect();
    expect::equal("commands that the policy was asked about", wanted, asked)?;
    all.shutdown()
}

/// Files, appending, here-documents and duplicated descriptors reach the escalated command.
fn redirections_under_escalate(context: &mut Context) -> Verdict {
    commands(context, ["escalate-it"])?;
    let script = "echo input >in; escalate-it copy out:1 err:2 <in >out 2>&1; escalate-it out:more >>out\n\
        escalate-it copy <<E\ntext $(escalate-it out:inner)\nE\n\
        { escalate-it out:a; escalate-it out:b; } >group; cat out group; escalate-it err:x 2>&1 >/dev/null";
    let result = run_once(context, script)?;
    let output = "text inner\ninput\n1\n2\nmore\na\nb\nx\n";
    expect_transcript(script, &result, output, "", 0)
}

/// Of one line the first command is escalated and the second is denied: the decision is the command's.
fn one_line_two_decisions(context: &mut Context) -> Verdict {
    let programs = commands(context, ["push", "fetch"])?;
    let mut all = EndToEnd::new(context)?;
    all.decide("push", Answer::Escalate);
    all.decide("fetch", Answer::Deny(Some("not today".to_owned())));
    let script = "push out:pushed && fetch out:fetched; echo $?";
    let result = all.run(script)?;
    let server = all.shim.process.pid.as_raw();
    expect_transcript(script, &result, "pushed\n1\n", "Execution denied: not today\n", 0)?;
    let asked: Vec<Vec<String>> = all
        .take_asked()
        .into_iter()
        .map(|question| question.arguments)
        .collect();
    expect::equal(
        "arguments that the policy was asked about",
        vec![vec!["push", "out:pushed"], vec!["fetch", "out:fetched"]],
        asked,
    )?;
    programs[1].expect_not_started()?;
    let start = programs[0].only_start()?;
    expect::that(
        start.variable("EXEC_WRAPPER").is_none(),
        "the escalated command was executed outside, without the wrapper variables",
        format_args!(
            "it has EXEC_WRAPPER; its parent is {}, the server {server}",
            start.parent
        ),
    )?;
    all.shutdown()
}
