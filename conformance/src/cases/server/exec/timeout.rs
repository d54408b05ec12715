//! The timeout of a one-shot ends everything that it started, and returns the output so far.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::spec::requirements::{Level, Role};
use crate::stage::ending::expect_ended_child_stream;
use crate::stage::one_shot::{LONG_TIMEOUT_MS, OneShots, expect_result, ignoring_signals};
use crate::stage::server::Escalated;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("exec.timeout/shell-and-children", shell_and_children).by_the_clock(),
    case("exec.timeout/descendants-of-the-shell", descendants_of_the_shell).by_the_clock().at(Level::Hardened),
    case("exec.timeout/output-so-far", output_so_far).by_the_clock(),
    case("exec.timeout/pending-decision", pending_decision).by_the_clock(),
    case("exec.timeout/in-time", in_time).by_the_clock(),
    case("exec.timeout/parts-of-a-second", parts_of_a_second).by_the_clock(),
    case("exec.timeout/none-given", none_given).by_the_clock().within_seconds(60),
]).needs("exec");

/// At the timeout the shell and its escalated child are killed, with a child of each, though all ignore SIGTERM.
fn shell_and_children(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let timeout = one_shots.short_timeout_ms;
    let mut begun = one_shots.begin(context, Some(timeout))?;
    let child = ConnectedProgram::new(context, "child")?;
    let Escalated {
        mut requester,
        child: mut probe,
    } = begun.escalate(&one_shots.shim, &child)?;
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
    one_shots.timed_out(begun.id)?;
    for (name, process) in &processes {
        process.expect_end(name, one_shots.patience)?;
    }
    expect_ended_child_stream(&mut requester)?;
    one_shots.shim.shutdown()
}

/// At the timeout descendants of the shell in a group or a session of their own, or orphaned, are killed.
fn descendants_of_the_shell(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let timeout = one_shots.short_timeout_ms;
    let mut begun = one_shots.begin(context, Some(timeout))?;
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
    one_shots.timed_out(begun.id)?;
    for (name, process, _) in &processes {
        process.expect_end(name, one_shots.patience)?;
    }
    one_shots.shim.shutdown()
}

/// What was written before the timeout is returned.
fn output_so_far(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let timeout = one_shots.short_timeout_ms;
    let mut begun = one_shots.begin(context, Some(timeout))?;
    begun.shell.must(&Order::Write(1, b"written before\n".to_vec()))?;
    begun.shell.must(&Order::Write(2, b"and told\n".to_vec()))?;
    let result = one_shots.timed_out(begun.id)?;
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
    one_shots.shim.shutdown()
}

/// A decision that never comes doesn't hold the timeout up.
fn pending_decision(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let timeout = one_shots.short_timeout_ms;
    let mut begun = one_shots.begin(context, Some(timeout))?;
    let mut requester = begun.ask(&one_shots.shim, "/bin/sh", None)?;
    let process = begun.shell.process()?;
    one_shots.timed_out(begun.id)?;
    requester.frames.expect_end("its session has ended")?;
    process.expect_end("the shell", one_shots.patience)?;
    one_shots.shim.shutdown()
}

/// A one-shot that ends before its timeout says so, and doesn't wait for it.
fn in_time(context: &mut Context) -> Verdict {
    let mut one_shots = OneShots::new(context)?;
    let mut params = one_shots.params("/bin/sh", "echo quick; exit 4");
    params["timeout_ms"] = json!(LONG_TIMEOUT_MS);
    expect_result(&one_shots.run(params)?, 4, "quick\n", "")?;
    // The output of a shell that closes its streams early isn't the end of the shell.
    let mut params = one_shots.params("/bin/sh", "exec >&- 2>&-; exit 5");
    params["timeout_ms"] = json!(LONG_TIMEOUT_MS);
    expect_result(&one_shots.run(params)?, 5, "", "")?;
    one_shots.shim.shutdown()
}

/// A timeout isn't cut to whole seconds.
fn parts_of_a_second(context: &mut Context) -> Verdict {
    const TIMEOUT: Duration = Duration::from_millis(1900);
    let mut one_shots = OneShots::new(context)?;
    let began = Instant::now();
    let begun = one_shots.begin(context, u64::try_from(TIMEOUT.as_millis()).ok())?;
    one_shots.timed_out(begun.id)?;
    let lasted = began.elapsed();
    expect::that(
        lasted >= TIMEOUT,
        format_args!("a one-shot with a timeout of {TIMEOUT:?} isn't ended before"),
        format_args!("it was ended after {lasted:?}"),
    )?;
    one_shots.shim.shutdown()
}

/// Without a timeout the shell and its escalated child live for as long as they like: past ten seconds, at which servers
/// that have a time of their own like to stop.
fn none_given(context: &mut Context) -> Verdict {
    const IDLE: Duration = Duration::from_secs(12);
    let mut one_shots = OneShots::new(context)?;
    let mut begun = one_shots.begin(context, None)?;
    let child = ConnectedProgram::new(context, "child")?;
    let Escalated {
        mut requester,
        child: mut probe,
    } = begun.escalate(&one_shots.shim, &child)?;
    let (shell, child) = (begun.shell.process()?, probe.process()?);
    let ended = shell.ended_within(IDLE)?;
    expect::that(!ended, "the shell lives until it ends by itself", "it has ended")?;
    let ended = child.ended_within(Duration::ZERO)?;
    expect::that(
        !ended,
        "the escalated child lives until it ends by itself",
        "it has ended",
    )?;
    probe.send(&Order::Exit(35))?;
    requester.expect_exit_code(35)?;
    begun.shell.send(&Order::Exit(36))?;
    expect_result(&one_shots.result(begun.id)?, 36, "", "")?;
    one_shots.shim.shutdown()
}
