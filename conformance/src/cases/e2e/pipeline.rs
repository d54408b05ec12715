//! e2e.pipeline: pipelines of escalated stages end, with the right output and statuses.

use std::fmt::Write as _;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::probe::instructions::checksum_of_pattern;
use crate::spec::requirements::Role;
use crate::stage::e2e::{EndToEnd, commands, denial, expect_transcript};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.pipeline/escalated-stages", escalated_stages).within_seconds(120),
    case("e2e.pipeline/ends-early", ends_early).within_seconds(120),
    case("e2e.pipeline/mixed", mixed).within_seconds(60),
    case("e2e.pipeline/concurrent-pipelines", concurrent_pipelines).within_seconds(60),
    case("e2e.pipeline/megabytes", megabytes).within_seconds(60),
]);

/// How often each pipeline runs.
const ROUNDS: usize = 20;

/// 2 to 8 escalated stages, 20 times each: the data arrives, every status is 0.
fn escalated_stages(context: &mut Context) -> Verdict {
    commands(context, ["escalate-it"])?;
    let mut all = EndToEnd::new(context)?;
    all.be_patient(5);
    let statuses = all.dialect.pipeline_statuses().unwrap_or("$?");
    for stages in 2..=8 {
        let pipeline = format!("escalate-it out:data{}", " | escalate-it copy".repeat(stages - 1));
        let script =
            format!("n=0; while [ $n -lt {ROUNDS} ]; do {pipeline}; echo {statuses}; n=$((n+1)); done");
        let count = if statuses == "$?" { 1 } else { stages };
        let output = format!("data\n{}\n", vec!["0"; count].join(" ")).repeat(ROUNDS);
        let result = all.run(&script)?;
        expect_transcript(&script, &result, &output, "", 0)?;
    }
    all.shutdown()
}

/// A stage that would write for ever ends when the last stage has what it wants, 20 times, with and without a
/// stage between, also where some of them are Run.
fn ends_early(context: &mut Context) -> Verdict {
    commands(context, ["escalate-it", "run-it"])?;
    let mut all = EndToEnd::new(context)?;
    all.be_patient(5);
    for pipeline in [
        "escalate-it flood | escalate-it line",
        "escalate-it flood | escalate-it copy | escalate-it line",
        "run-it flood | escalate-it line",
        "escalate-it flood | run-it line",
        "escalate-it flood | run-it copy | escalate-it line",
    ] {
        let script = format!("n=0; while [ $n -lt {ROUNDS} ]; do {pipeline}; echo $?; n=$((n+1)); done");
        let result = all.run(&script)?;
        expect_transcript(&script, &result, &"y\n0\n".repeat(ROUNDS), "", 0)?;
    }
    all.shutdown()
}

/// Run, Escalate and Deny in all arrangements of three stages.
fn mixed(context: &mut Context) -> Verdict {
    let names = ["run-it", "escalate-it", "deny-it"];
    commands(context, names)?;
    let mut all = EndToEnd::new(context)?;
    all.be_patient(5);
    let mut script = String::new();
    let (mut output, mut error) = (String::new(), String::new());
    for first in names {
        for second in names {
            for third in names {
                let _ = writeln!(
                    script,
                    "{first} err:1 out:data | {second} err:2 copy | {third} err:3 copy exit:7; echo $?"
                );
                let stages = [first, second, third];
                for (number, stage) in stages.iter().enumerate() {
                    if *stage == "deny-it" {
                        error.push_str(&denial("deny-it"));
                    } else {
                        let _ = writeln!(error, "{}", number + 1);
                    }
                }
                if !stages.contains(&"deny-it") {
                    output.push_str("data\n");
                }
                output.push_str(if third == "deny-it" { "1\n" } else { "7\n" });
            }
        }
    }
    let result = all.run(&script)?;
    expect_transcript(&script, &result, &output, &error, 0)?;
    all.shutdown()
}

/// Eight pipelines at the same time: none holds another's pipe.
fn concurrent_pipelines(context: &mut Context) -> Verdict {
    commands(context, ["escalate-it"])?;
    let mut all = EndToEnd::new(context)?;
    all.be_patient(2);
    let mut script = String::new();
    for number in 0..8 {
        let _ = writeln!(
            script,
            "escalate-it out:{number} | escalate-it copy | escalate-it copy >out{number} &"
        );
    }
    script.push_str("wait\nn=0; while [ $n -lt 8 ]; do read x <out$n; echo $x; n=$((n+1)); done");
    let result = all.run(&script)?;
    expect_transcript(&script, &result, "0\n1\n2\n3\n4\n5\n6\n7\n", "", 0)?;
    all.shutdown()
}

/// 32 MiB go through four escalated stages, whole and in order.
fn megabytes(context: &mut Context) -> Verdict {
    const LENGTH: usize = 32 << 20;
    commands(context, ["escalate-it"])?;
    let mut all = EndToEnd::new(context)?;
    all.be_patient(6);
    let script = format!(
        "escalate-it pattern:{LENGTH} | escalate-it copy | escalate-it copy | escalate-it sum; echo $?"
    );
    let output = format!("{}\n0\n", checksum_of_pattern(LENGTH));
    let result = all.run(&script)?;
    expect_transcript(&script, &result, &output, "", 0)?;
    all.shutdown()
}
