//! e2e.status: any status of any command arrives in `$?`.

use std::fmt::Write as _;

use super::support::{EndToEnd, commands, expect_transcript};
use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::spec::requirements::{Level, Role};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
#[rustfmt::skip]
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.status/run", run).within_seconds(90),
    case("e2e.status/escalate", escalate).within_seconds(90),
    case("e2e.status/killed-under-run", killed_under_run),
    case("e2e.status/killed-under-escalate", killed_under_escalate).at(Level::Faithful),
    case("e2e.status/of-the-shell", of_the_shell),
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
    commands(context, [name])?;
    let mut all = EndToEnd::new(context)?;
    all.be_patient(12);
    let script = format!("n=0; while [ $n -le 255 ]; do {name} exit:$n; echo $?; n=$((n+1)); done");
    let mut output = String::new();
    for status in 0..=255 {
        let _ = writeln!(output, "{status}");
    }
    let result = all.run(&script)?;
    expect_transcript(&script, &result, &output, "", 0)?;
    expect::equal("questions to the policy", 256, all.take_asked().len())?;
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
