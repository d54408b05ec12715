//! The shim's policy: the suite decides.

use std::fmt::Write;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use shell_escalation::{Decision, EscalationPolicy, PolicyError, PolicyRequest, encode_json_text};

use super::rpc::Peer;

/// Asks the suite about every request of one session.
pub(super) struct SuitePolicy {
    session: String,
    peer: Arc<Peer>,
}

impl SuitePolicy {
    pub(super) fn new(session: &str, peer: Arc<Peer>) -> Self {
        Self {
            session: session.to_owned(),
            peer,
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
        let _withdrawn = Withdraw { policy: self, id };
        let answer: Answer = serde_json::from_value(answer.await??)?;
        match answer.action.as_str() {
            "run" => Ok(Decision::run()),
            "escalate" => Ok(Decision::escalate()),
            "deny" => Ok(Decision::deny(answer.reason)),
            other => Err(format!("unknown action `{other}`").into()),
        }
    }
}

/// When dropped, notifies the suite that its answer is no longer needed, unless it has arrived.
struct Withdraw<'a> {
    policy: &'a SuitePolicy,
    id: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let SuitePolicy { session, peer } = self.policy;
        if peer.forget(self.id) {
            peer.notify("policy/cancelled", &json!({"session": session, "id": self.id}));
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
