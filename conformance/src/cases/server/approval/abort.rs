//! An abort denies all that waits for an approval in its session, and all that would.

use std::time::Duration;

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::{Answer, ApprovalAnswer};
use crate::spec::requirements::Role;
use crate::stage::approval::{RULE, needing};
use crate::stage::server::Stage;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("approval.abort/pending-ones", pending_ones),
    case("approval.abort/later-ones", later_ones),
    case("approval.abort/decided-ones-go-on", decided_ones_go_on),
    case("approval.abort/other-sessions", other_sessions),
]);

const REASON: &str = "enough";

fn denied() -> serde_json::Value {
    json!({"Deny": {"reason": REASON}})
}

/// Each pending request is denied with the reason, and each other approval is withdrawn.
fn pending_ones(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let mut pending = Vec::new();
    for number in 0..4 {
        let request = stage.request("/bin/sh", &["pending", &number.to_string()]);
        pending.push(needing(&mut stage, &request)?);
    }
    let (mut aborted, approval) = pending.remove(1);
    approval.answer(&ApprovalAnswer::Abort(Some(REASON.to_owned())))?;
    aborted.expect_action(&denied())?;
    let mut expected = Vec::new();
    let mut withdrawn = Vec::new();
    for (requester, approval) in &mut pending {
        requester.expect_action(&denied())?;
        expected.push(approval.id.to_string());
        withdrawn.push(stage.shim.next_withdrawn()?.to_string());
    }
    expected.sort();
    withdrawn.sort();
    expect::equal("ids of the withdrawn approvals, sorted", expected, withdrawn)?;
    stage.sentinel()?;
    stage.shim.expect_none_withdrawn()?;
    stage.finish()
}

/// What would need an approval later is denied without one.
fn later_ones(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["first"]);
    let (mut requester, approval) = needing(&mut stage, &request)?;
    approval.answer(&ApprovalAnswer::Abort(Some(REASON.to_owned())))?;
    requester.expect_action(&denied())?;
    for number in 0..3 {
        let request = stage.request("/bin/sh", &["later", &number.to_string()]);
        let (mut requester, decision) = stage.ask(&request)?;
        decision.answer(&Answer::Ask(Some(RULE.to_owned())))?;
        requester.expect_action(&denied())?;
    }
    let asked = stage.shim.approval_within(Duration::ZERO)?.is_some();
    expect::that(!asked, "the approver isn't asked after an abort", "it is")?;
    stage.finish()
}

/// Requests that the policy decides are decided as before.
fn decided_ones_go_on(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["undecided before"]);
    let (mut waiting, decision) = stage.ask(&request)?;
    let request = stage.request("/bin/sh", &["aborted"]);
    let (mut requester, approval) = needing(&mut stage, &request)?;
    approval.answer(&ApprovalAnswer::Abort(None))?;
    requester.expect_action(&json!({"Deny": {"reason": null}}))?;
    decision.answer(&Answer::Run)?;
    waiting.expect_action(&json!("Run"))?;
    let request = stage.request("/bin/sh", &["later"]);
    let (mut requester, decision) = stage.ask(&request)?;
    decision.answer(&Answer::Deny(Some("by rule".to_owned())))?;
    requester.expect_action(&json!({"Deny": {"reason": "by rule"}}))?;
    stage.sentinel()?;
    stage.finish()
}

/// Approvals of another session are asked for, stay pending, and are answered.
fn other_sessions(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let other = stage.shim.probe_session(context, "other")?;
    let main = std::mem::replace(&mut stage.session, other);
    let request = stage.request("/bin/sh", &["pending elsewhere"]);
    let (mut pending, pending_approval) = needing(&mut stage, &request)?;
    let other = std::mem::replace(&mut stage.session, main);
    let request = stage.request("/bin/sh", &["aborted"]);
    let (mut requester, approval) = needing(&mut stage, &request)?;
    approval.answer(&ApprovalAnswer::Abort(None))?;
    requester.expect_action(&json!({"Deny": {"reason": null}}))?;
    stage.session = other;
    stage.sentinel()?;
    stage.expect_nothing_yet(&pending, "its approval is pending in another session")?;
    pending_approval.answer(&ApprovalAnswer::Approve)?;
    pending.expect_action(&json!("Escalate"))?;
    let request = stage.request("/bin/sh", &["later elsewhere"]);
    let (mut requester, approval) = needing(&mut stage, &request)?;
    approval.answer(&ApprovalAnswer::Deny(Some("asked".to_owned())))?;
    requester.expect_action(&json!({"Deny": {"reason": "asked"}}))?;
    stage.finish()
}
