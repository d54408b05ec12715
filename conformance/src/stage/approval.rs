//! Requests about which an approver is asked.

use serde_json::json;

use crate::case::expect;
use crate::peer::fake_wrapper::{RequestMessage, Requester};
use crate::peer::harness::{Answer, Approval, Decision, Shim};
use crate::stage::server::Stage;
use crate::verdict::CaseError;

/// The reason with which the suite's policy asks.
pub const RULE: &str = "the rule says so";

/// Answers a question of the policy by *ask*, and takes the approver's question, which must be about the same request.
pub fn asked(shim: &Shim, decision: Decision) -> Result<Approval, CaseError> {
    let question = decision.question.clone();
    decision.answer(&Answer::Ask(Some(RULE.to_owned())))?;
    let approval = shim.next_approval()?;
    expect::equal(
        "session of the approval",
        question.session,
        approval.question.session.clone(),
    )?;
    expect::equal(
        "argv of the approval",
        json!(question.arguments),
        json!(approval.question.arguments),
    )?;
    Ok(approval)
}

/// Sends a request, about which the policy asks the approver.
pub fn needing(stage: &mut Stage, request: &RequestMessage) -> Result<(Requester, Approval), CaseError> {
    let (requester, decision) = stage.ask(request)?;
    let approval = asked(&stage.shim, decision)?;
    Ok((requester, approval))
}
