//! e2e.deny: a denied command is a command that has failed with status 1.

use std::fs;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Answer;
use crate::spec::requirements::{Level, Role};
use crate::stage::e2e::{EndToEnd, commands, denial, expect_transcript, run_once};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.deny/list-and-condition", list_and_condition),
    case("e2e.deny/errexit-and-pipefail", errexit_and_pipefail),
    case("e2e.deny/pipeline-neighbours", pipeline_neighbours),
    case("e2e.deny/pipeline-neighbour-that-writes-on", pipeline_neighbour_that_writes_on).at(Level::Faithful),
    case("e2e.deny/message-goes-to-stderr", message_goes_to_stderr),
    case("e2e.deny/without-a-reason", without_a_reason),
    case("e2e.deny/exec-and-background", exec_and_background),
]);

/// `;`, `&&`, `||`, `!`, `if`, `while` and `$?` see a status of 1, and the command has not run.
fn list_and_condition(context: &mut Context) -> Verdict {
    let denied = commands(context, ["deny-it"])?;
    commands(context, ["run-it", "escalate-it"])?;
    let script = "deny-it out:never; echo $?\ndeny-it || echo or\ndeny-it && echo never\n! deny-it; echo $?\n\
        if deny-it; then echo never; else escalate-it out:else; fi\nwhile deny-it; do echo never; done; echo $?\n\
        until ! deny-it; do echo never; done\nrun-it out:run; deny-it || escalate-it out:escalated\n\
        x=$(deny-it out:never); echo \"<$x> $?\"\n( deny-it ); echo $?\nf() { deny-it; }; f; echo $?\ndeny-it";
    let result = run_once(context, script)?;
    let output = "1\nor\n0\nelse\n0\nrun\nescalated\n<> 1\n1\n1\n";
    expect_transcript(script, &result, output, &denial("deny-it").repeat(12), 1)?;
    denied[0].expect_not_started()
}

/// `set -e` ends the script with status 1; with `pipefail` a denied element is the pipeline's status.
fn errexit_and_pipefail(context: &mut Context) -> Verdict {
    let denied = commands(context, ["deny-it"])?;
    commands(context, ["run-it", "escalate-it"])?;
    let mut all = EndToEnd::new(context)?;
    let script = "set -e; run-it out:before; deny-it; echo never";
    expect_transcript(script, &all.run(script)?, "before\n", &denial("deny-it"), 1)?;
    let script = "set -e; deny-it || echo caught; if deny-it; then :; fi; escalate-it out:on";
    let result = all.run(script)?;
    expect_transcript(script, &result, "caught\non\n", &denial("deny-it").repeat(2), 0)?;
    if all.dialect.needs_extensions("pipefail").is_ok() {
        let script = "deny-it | run-it copy; echo $?; set -o pipefail; deny-it | run-it copy; echo $?\n\
            deny-it | escalate-it copy exit:3; echo $?; run-it exit:4 | deny-it; echo $?; set -e; deny-it | run-it copy; echo never";
        let result = all.run(script)?;
        let errors = denial("deny-it").repeat(5);
        expect_transcript(script, &result, "0\n1\n3\n1\n", &errors, 1)?;
    }
    all.shutdown()?;
    denied[0].expect_not_started()
}

/// A neighbour that writes without end is ended by SIGPIPE, which has its default disposition after Run.
fn pipeline_neighbour_that_writes_on(context: &mut Context) -> Verdict {
    let denied = commands(context, ["deny-it"])?;
    commands(context, ["run-it", "escalate-it"])?;
    let mut all = EndToEnd::new(context)?;
    for (script, output, status) in [
        ("run-it flood | deny-it", "", 1),
        ("escalate-it flood | deny-it", "", 1),
        ("echo a | run-it copy | deny-it | cat; echo $?", "0\n", 0),
    ] {
        let result = all.run(script)?;
        expect_transcript(script, &result, output, &denial("deny-it"), status)?;
    }
    all.shutdown()?;
    denied[0].expect_not_started()
}

/// The other elements of a pipeline run and end, whichever place the denied one has.
fn pipeline_neighbours(context: &mut Context) -> Verdict {
    let denied = commands(context, ["deny-it"])?;
    commands(context, ["run-it", "escalate-it"])?;
    let mut all = EndToEnd::new(context)?;
    for (script, output, status, count) in [
        ("deny-it | run-it copy out:end", "end\n", 0, 1),
        ("deny-it | escalate-it copy out:end", "end\n", 0, 1),
        ("run-it err:first | deny-it | run-it copy out:end", "end\n", 0, 1),
        (
            "escalate-it err:first | deny-it | escalate-it copy out:end",
            "end\n",
            0,
            1,
        ),
        ("run-it err:first | deny-it", "", 1, 1),
        ("deny-it | deny-it | deny-it; echo $?", "1\n", 0, 3),
        // Its output is not the pipe: whether SIGPIPE ends a neighbour is no matter of a denial.
        (
            "echo a | run-it copy >/dev/null | deny-it | cat; echo $?",
            "0\n",
            0,
            1,
        ),
    ] {
        let result = all.run(script)?;
        let mut error = denial("deny-it").repeat(count);
        if script.contains("err:first") {
            error.push_str("first\n");
        }
        expect_transcript(script, &result, output, &error, status)?;
    }
    all.shutdown()?;
    denied[0].expect_not_started()
}

/// The message goes to the command's standard error, wherever that goes, and nothing to its standard output.
fn message_goes_to_stderr(context: &mut Context) -> Verdict {
    commands(context, ["deny-it"])?;
    let script = "deny-it >out 2>err; echo $?; x=$(deny-it 2>&1); echo \"<$x>\"; deny-it 2>/dev/null";
    let result = run_once(context, script)?;
    expect_transcript(script, &result, "1\n<Execution denied: no deny-it>\n", "", 1)?;
    let work = context.work_directory();
    let read = |name| fs::read_to_string(work.join(name));
    expect::equal("the redirected standard error", denial("deny-it"), read("err")?)?;
    expect::equal("the redirected standard output", "", read("out")?.as_str())
}

/// A denial without a reason has a message without one, for each decision its own.
fn without_a_reason(context: &mut Context) -> Verdict {
    commands(context, ["first", "second"])?;
    let mut all = EndToEnd::new(context)?;
    all.decide("first", Answer::Deny(None));
    all.decide(
        "second",
        Answer::Deny(Some("é, \"quoted\" \\ and more".to_owned())),
    );
    let script = "first; echo $?; second; echo $?; first";
    let error = "Execution denied\nExecution denied: é, \"quoted\" \\ and more\nExecution denied\n";
    let result = all.run(script)?;
    expect_transcript(script, &result, "1\n1\n", error, 1)?;
    expect::equal("standard error, in order", error, result.error_text().as_str())?;
    all.shutdown()
}

/// A denied `exec` ends the shell with status 1 (in a subshell here, too), a denied background command is
/// waited for with 1.
fn exec_and_background(context: &mut Context) -> Verdict {
    let denied = commands(context, ["deny-it"])?;
    let script =
        "( exec deny-it; echo never ); echo $?\ndeny-it & wait $!; echo $?\nexec deny-it; echo never";
    let result = run_once(context, script)?;
    expect_transcript(script, &result, "1\n1\n", &denial("deny-it").repeat(3), 1)?;
    denied[0].expect_not_started()
}
