//! What an approver is asked.

use std::time::Duration;

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::{Answer, ApprovalAnswer};
use crate::spec::requirements::Role;
use crate::stage::approval::{asked, needing};
use crate::stage::server::Stage;
use crate::stage::terminal::{Host, On};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("approval.ask/what-the-policy-was-asked", what_the_policy_was_asked),
    case("approval.ask/environment-of-the-child", environment_of_the_child),
    case("approval.ask/how-it-would-be-executed", how_it_would_be_executed),
    case("approval.ask/ids", ids),
    case("approval.ask/others-are-served-meanwhile", others_are_served_meanwhile),
    case("approval.ask/only-where-the-policy-asks", only_where_the_policy_asks),
    case("approval.ask/in-a-terminal", in_a_terminal).needs("terminals"),
]);

/// Program, arguments and directory are those of the policy's question.
fn what_the_policy_was_asked(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let arguments = ["name", "", " a b ", "ü", "--\n"];
    let request = stage.request("./tool", &arguments);
    let (_requester, decision) = stage.ask(&request)?;
    let expected = decision.question.params.clone();
    let approval = asked(&stage.shim, decision)?;
    for name in ["session", "program", "argv", "workdir"] {
        let told = &approval.question.params[name];
        expect::equal(&format!("{name} of the approval"), &expected[name], told)?;
    }
    stage.finish()
}

/// Variables that the child doesn't get aren't shown as if it did; the others are.
fn environment_of_the_child(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage
        .request_for("/bin/sh")
        .variable("KEPT", "1")
        .variable("LD_PRELOAD", "/tmp/x.so")
        .variable("BASH_ENV", "/tmp/x")
        .variable("EMPTY", "");
    let (_requester, approval) = needing(&mut stage, &request)?;
    expect::equal(
        "env of the approval",
        &json!({"EMPTY": "", "KEPT": "1"}),
        &sorted(&approval.question.params["env"]),
    )?;
    stage.finish()
}

/// The object with its members in the order of their names.
fn sorted(object: &Value) -> Value {
    let mut members: Vec<(String, Value)> = object
        .as_object()
        .cloned()
        .unwrap_or_default()
        .into_iter()
        .collect();
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    Value::Object(members.into_iter().collect())
}

/// A text says how.
fn how_it_would_be_executed(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request_for("/bin/sh");
    let (_requester, approval) = needing(&mut stage, &request)?;
    let told = &approval.question.params["execution"];
    expect::that(
        told.as_str().is_some_and(|text| !text.trim().is_empty()),
        "execution of the approval, a text",
        told,
    )?;
    stage.finish()
}

/// Each approval has its own id, pending or answered, of one session or of two.
fn ids(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let other = stage.shim.probe_session(context, "other")?;
    let mut ids: Vec<Value> = Vec::new();
    let mut pending = Vec::new();
    let mut sessions = [Some(other), None];
    for number in 0..12 {
        if let Some(next) = sessions[number % 2].take() {
            sessions[(number + 1) % 2] = Some(std::mem::replace(&mut stage.session, next));
        }
        let request = stage.request("/bin/sh", &["asked", &number.to_string()]);
        let (requester, approval) = needing(&mut stage, &request)?;
        expect::that(
            !ids.contains(&approval.id),
            "an id that no other approval has had",
            format_args!("{} after {ids:?}", approval.id),
        )?;
        ids.push(approval.id.clone());
        if number % 3 == 0 {
            approval.answer(&ApprovalAnswer::Deny(None))?;
        } else {
            pending.push((requester, approval));
        }
    }
    stage.finish()
}

/// While an approver decides, the wrapper gets no answer, and other requests are asked about and answered.
fn others_are_served_meanwhile(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let request = stage.request("/bin/sh", &["waiting"]);
    let (waiting, _approval) = needing(&mut stage, &request)?;
    let request = stage.request("/bin/sh", &["decided"]);
    let (mut decided, decision) = stage.ask(&request)?;
    decision.answer(&Answer::Run)?;
    decided.expect_action(&json!("Run"))?;
    let request = stage.request("/bin/sh", &["approved meanwhile"]);
    let (mut approved, approval) = needing(&mut stage, &request)?;
    approval.answer(&ApprovalAnswer::Approve)?;
    approved.expect_action(&json!("Escalate"))?;
    stage.sentinel()?;
    stage.expect_nothing_yet(&waiting, "its approval is pending")?;
    stage.finish()
}

/// A policy that decides by itself has no approver asked.
fn only_where_the_policy_asks(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    for answer in [Answer::Run, Answer::Deny(None), Answer::Escalate] {
        let request = stage.request("/bin/sh", &["decided"]);
        let (_requester, decision) = stage.ask(&request)?;
        decision.answer(&answer)?;
    }
    stage.sentinel()?;
    let asked = stage.shim.approval_within(Duration::ZERO)?.is_some();
    expect::that(!asked, "the approver isn't asked", "it is")?;
    stage.finish()
}

/// In a terminal an approver is asked as in any session.
fn in_a_terminal(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let mut terminal = host.open_shell(context, On::Tty)?;
    let request = crate::peer::fake_wrapper::RequestMessage::new("/bin/sh", &["asked"], "/");
    let (mut requester, decision) = terminal.ask(&host.shim, &request)?;
    asked(&host.shim, decision)?.answer(&ApprovalAnswer::Approve)?;
    requester.expect_action(&json!("Escalate"))?;
    host.finish()
}
