//! The shim's policy: the suite decides.

use std::fmt::Write;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use shell_escalation::{
    Approval, Approvals, Approver, Decision, EscalationPolicy, PolicyError, PolicyRequest, Question,
    encode_json_text,
};

use super::rpc::Peer;
use crate::cli::question::place;

/// Asks the suite about every request of one session.
pub(super) struct SuitePolicy {
    session: String,
    peer: Arc<Peer>,
    approvals: Approvals,
}

impl SuitePolicy {
    pub(super) fn new(session: &str, peer: Arc<Peer>) -> Self {
        let approver = SuiteApprover {
            session: session.to_owned(),
            peer: Arc::clone(&peer),
        };
        Self {
            session: session.to_owned(),
            peer,
            approvals: Approvals::new(approver),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    action: String,
    #[serde(default)]
    reason: Option<String>,
}

impl EscalationPolicy for SuitePolicy {
    async fn decide(&self, request: &PolicyRequest) -> Result<Decision, PolicyError> {
        let (id, answer) = self.peer.ask("policy/decide", &question(&self.session, request));
        let withdrawn = Withdraw {
            peer: &self.peer,
            id,
            notification: "policy/cancelled",
            about: json!({"session": self.session, "id": id}),
        };
        let answer: Answer = serde_json::from_value(answer.await??)?;
        drop(withdrawn);
        match answer.action.as_str() {
            "run" => Ok(Decision::run()),
            "escalate" => Ok(Decision::escalate()),
            "deny" => Ok(Decision::deny(answer.reason)),
            "ask" => {
                let escalation = Decision::escalate();
                let asking = self
                    .approvals
                    .decide(request, escalation, answer.reason.as_deref());
                asking.await
            }
            other => Err(format!("unknown action `{other}`").into()),
        }
    }
}

/// Has the suite approve requests of one session.
struct SuiteApprover {
    session: String,
    peer: Arc<Peer>,
}

#[derive(Deserialize)]
struct ApprovalAnswer {
    answer: String,
    #[serde(default)]
    reason: Option<String>,
}

impl Approver for SuiteApprover {
    async fn approve(&self, asked: Question<'_>) -> Result<Approval, PolicyError> {
        let mut params = question(&self.session, asked.request);
        params.pop();
        let _ = write!(
            params,
            r#","approval":{},"execution":{},"reason":{}}}"#,
            asked.id,
            json!(place(&asked.request.execution)),
            json!(asked.reason),
        );
        let (id, answer) = self.peer.ask("approval/ask", &params);
        let _withdrawn = Withdraw {
            peer: &self.peer,
            id,
            notification: "approval/withdrawn",
            about: json!({"session": self.session, "approval": asked.id}),
        };
        let ApprovalAnswer { answer, reason } = serde_json::from_value(answer.await??)?;
        match answer.as_str() {
            "approve" => Ok(Approval::Yes),
            "deny" => Ok(Approval::No { reason }),
            "abort" => Ok(Approval::NoToAll { reason }),
            other => Err(format!("unknown answer `{other}`").into()),
        }
    }
}

/// When dropped, notifies the suite that its answer is no longer needed, unless it has arrived.
struct Withdraw<'a> {
    peer: &'a Peer,
    id: u64,
    notification: &'static str,
    about: Value,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if self.peer.forget(self.id) {
            self.peer.notify(self.notification, &self.about);
        }
    }
}

/// The question's parameters. Written by hand, since bytes outside UTF-8 appear as lone surrogates, as on the wire.
fn question(session: &str, request: &PolicyRequest) -> String {
    let mut json = format!(
        r#"{{"session":{},"program":{},"argv":["#,
        json!(session),
        encode_json_text(request.program.as_os_str())
    );
    for (index, argument) in request.argv.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(json, "{comma}{}", encode_json_text(argument));
    }
    let _ = write!(
        json,
        r#"],"workdir":{},"env":{{"#,
        encode_json_text(request.workdir.as_os_str())
    );
    for (index, (name, value)) in request.env.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(
            json,
            "{comma}{}:{}",
            encode_json_text(name),
            encode_json_text(value)
        );
    }
    json.push_str("}}");
    json
}
