//! What an approver's answer decides.

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::harness::ApprovalAnswer;
use crate::peer::program::ConnectedProgram;
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::approval::needing;
use crate::stage::descriptors::null;
use crate::stage::server::{Escalated, Stage};
use crate::system::clock::Moment;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("approval.answer/approve-escalates", approve_escalates),
    case("approval.answer/deny-with-and-without-reason", deny_with_and_without_reason),
    case("approval.answer/each-its-own", each_its_own),
    case("approval.answer/equal-requests", equal_requests),
    case("approval.answer/the-next-is-asked-about-again", the_next_is_asked_about_again),
    case("approval.answer/failing-approver", failing_approver),
]);

/// What is approved is executed by the server.
fn approve_escalates(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = ConnectedProgram::new(context, "approved")?;
    let request = stage.request_for(program.text());
    let (mut requester, approval) = needing(&mut stage, &request)?;
    program.expect_no_start()?;
    approval.answer(&ApprovalAnswer::Approve)?;
    requester.expect_action(&json!("Escalate"))?;
    let null = null()?;
    requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
    let child = program.accept("the escalated child")?;
    Escalated { requester, child }.exit(5)?;
    stage.finish()
}

/// The wrapper gets the approver's reason, whole, or `null`.
fn deny_with_and_without_reason(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    for reason in [Some("not on a Friday, ü\n"), None] {
        let request = stage.request("/bin/sh", &["denied"]);
        let (mut requester, approval) = needing(&mut stage, &request)?;
        approval.answer(&ApprovalAnswer::Deny(reason.map(str::to_owned)))?;
        requester.expect_action(&json!({"Deny": {"reason": reason}}))?;
        requester.frames.expect_end("it was denied")?;
    }
    stage.finish()
}

/// Several approvals are answered in another order than they were asked for.
fn each_its_own(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut pending = Vec::new();
    for number in 0..6 {
        let request = stage.request("/bin/sh", &["pending", &number.to_string()]);
        pending.push(Some((number, needing(&mut stage, &request)?)));
    }
    for index in [3, 0, 5, 1, 4, 2] {
        let Some((number, (mut requester, approval))) = pending[index].take() else {
            continue;
        };
        if number % 2 == 0 {
            approval.answer(&ApprovalAnswer::Approve)?;
            requester.expect_action(&json!("Escalate"))?;
        } else {
            let reason = format!("no {number}");
            approval.answer(&ApprovalAnswer::Deny(Some(reason.clone())))?;
            requester.expect_action(&json!({"Deny": {"reason": reason}}))?;
        }
    }
    stage.finish()
}

/// Two requests that are equal in everything wait; the approval of one isn't the other's.
fn equal_requests(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["the same"]).variable("A", "1");
    let (first, decision) = stage.ask(&request)?;
    let first_approval = crate::stage::approval::asked(&stage.shim, decision)?;
    let (second, decision) = stage.ask(&request)?;
    decision.answer(&crate::peer::harness::Answer::Ask(None))?;
    first_approval.answer(&ApprovalAnswer::Approve)?;
    // The second question comes now, or had come before.
    let second_approval = stage.shim.next_approval()?;
    let mut requesters = [first, second];
    // Which of the two the first question was about isn't told where they are equal: one is escalated, and one waits.
    let escalated = crate::system::process::eventually(stage.patience(), || requesters.iter().any(readable));
    if !escalated {
        return Err(violation("one of the two is escalated", "neither is"));
    }
    let index = usize::from(!readable(&requesters[0]));
    requesters[index].expect_action(&json!("Escalate"))?;
    stage.sentinel()?;
    stage.expect_nothing_yet(&requesters[1 - index], "its approval is pending")?;
    second_approval.answer(&ApprovalAnswer::Deny(Some("not twice".to_owned())))?;
    requesters[1 - index].expect_action(&json!({"Deny": {"reason": "not twice"}}))?;
    stage.finish()
}

fn readable(requester: &crate::peer::fake_wrapper::Requester) -> bool {
    crate::system::poll::readable_until(requester.frames.socket(), Moment::now()).unwrap_or(false)
}

/// What was approved once is asked about again when it comes again.
fn the_next_is_asked_about_again(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["again"]);
    for answer in [
        ApprovalAnswer::Approve,
        ApprovalAnswer::Approve,
        ApprovalAnswer::Deny(None),
    ] {
        let (mut requester, approval) = needing(&mut stage, &request)?;
        approval.answer(&answer)?;
        requester.expect_action(&match answer {
            ApprovalAnswer::Approve => json!("Escalate"),
            _ => json!({"Deny": {"reason": null}}),
        })?;
    }
    stage.finish()
}

/// An approver that fails: nothing runs, and the next request is served.
fn failing_approver(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["undecided"]);
    let (mut requester, approval) = needing(&mut stage, &request)?;
    approval.answer(&ApprovalAnswer::Fail)?;
    match requester.frames.receive()? {
        crate::peer::wire::Received::End { bytes: 0 } => {}
        crate::peer::wire::Received::Frame(frame) => {
            let message = frame.json()?;
            if !message["action"]["Deny"].is_object() {
                return Err(violation("a denial, or the end of the stream", message));
            }
        }
        other => {
            return Err(violation("a denial, or the end of the stream", shown(&other)));
        }
    }
    stage.sentinel()?;
    stage.finish()
}
