//! Asks for approval through the client, by elicitation.
//!
//! The answer is the client's, and thereby its user's: a model can't give it, and neither can the sandbox. One question is put
//! at a time, as a person answers them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use rmcp::model::{
    CancelledNotificationParam, ClientCapabilities, ClientResult, ElicitRequest, ElicitRequestParams,
    ElicitResult, ElicitationAction, ElicitationSchema, RequestId, ServerRequest,
};
use rmcp::service::{PeerRequestOptions, ServiceError};
use rmcp::{Peer, RoleServer};
use serde_json::json;
use shell_escalation::{Approval, Approver, PolicyError, Question};
use tokio::sync::Mutex;

use super::super::question::question;
use super::link::Link;

/// Puts questions to the client's user.
pub(super) struct ElicitingApprover {
    /// The environment that shells are given: differences from it are shown.
    environment: BTreeMap<OsString, OsString>,
    link: Arc<Link>,
    turn: Mutex<()>,
}

impl ElicitingApprover {
    pub(super) fn new(environment: impl IntoIterator<Item = (OsString, OsString)>, link: Arc<Link>) -> Self {
        Self {
            environment: environment.into_iter().collect(),
            link,
            turn: Mutex::new(()),
        }
    }
}

impl Approver for ElicitingApprover {
    async fn approve(&self, asked: Question<'_>) -> Result<Approval, PolicyError> {
        let Some(client) = self.link.client() else {
            return Ok(no("needs approval, but no MCP client is connected"));
        };
        let info = client.peer_info();
        if !info.is_some_and(|info| shows_forms(&info.capabilities)) {
            return Ok(no(
                "needs approval, but this MCP client can't ask for it (it does not support elicitation)",
            ));
        }
        let text = match question(&asked, &self.environment) {
            Ok(text) => text,
            Err(too_long) => return Ok(no(too_long.to_string())),
        };
        let _waiting = self.link.questions.wait();
        let _turn = self.turn.lock().await;
        match put(client, asked.id, &text).await {
            Ok(answer) => Ok(approval(&answer)),
            Err(ServiceError::McpError(error)) => {
                let message: String = error.message.escape_debug().take(200).collect();
                Ok(no(format!(
                    "needs approval, but the MCP client could not ask for it: {message}"
                )))
            }
            Err(ServiceError::UnexpectedResponse) => Ok(no(
                "not approved: the MCP client's answer is not one to a question",
            )),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a client declares that it can show forms; an empty declaration is one of forms.
fn shows_forms(capabilities: &ClientCapabilities) -> bool {
    let elicitation = capabilities.elicitation.as_ref();
    elicitation.is_some_and(|elicitation| elicitation.form.is_some() || elicitation.url.is_none())
}

/// Puts one question. When this is dropped before the answer, the client is told that it is no longer needed.
async fn put(client: &Peer<RoleServer>, id: u64, text: &str) -> Result<ElicitResult, ServiceError> {
    let params = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: format!("Question {id}.{text}"),
        requested_schema: decisions(),
    };
    let request = ServerRequest::ElicitRequest(ElicitRequest::new(params));
    let handle = client
        .send_cancellable_request(request, PeerRequestOptions::no_options())
        .await?;
    let mut withdrawal = Withdrawal {
        client: client.clone(),
        request: Some(handle.id.clone()),
    };
    let answer = handle.await_response().await;
    withdrawal.request = None;
    match answer? {
        ClientResult::ElicitResult(answer) => Ok(answer),
        _ => Err(ServiceError::UnexpectedResponse),
    }
}

const APPROVE: &str = "approve";
const APPROVE_FOR_SESSION: &str = "approve_for_session";
const DENY: &str = "deny";
const DENY_ALL: &str = "deny_all";

/// What can be decided. There is no default: an accepted form that nobody filled in approves nothing.
fn decisions() -> ElicitationSchema {
    let schema = json!({
        "type": "object",
        "properties": {
            "decision": {
                "type": "string",
                "title": "Decision",
                "enum": [APPROVE, APPROVE_FOR_SESSION, DENY, DENY_ALL],
                "enumNames": [
                    "Run it",
                    "Run it, and don't ask again about this very command in this shell session",
                    "Don't run it",
                    "Don't run it, nor anything else in this shell session that needs approval",
                ],
            },
        },
        "required": ["decision"],
    });
    serde_json::from_value(schema).expect("the schema of a form is one")
}

/// What an answer means. Whatever is not clearly a yes is a no.
fn approval(answer: &ElicitResult) -> Approval {
    match answer.action {
        ElicitationAction::Accept => {}
        ElicitationAction::Decline => return no("not approved"),
        _ => return no("not approved: the question was dismissed"),
    }
    let decision = answer
        .content
        .as_ref()
        .and_then(|content| content["decision"].as_str());
    match decision {
        Some(APPROVE) => Approval::Yes,
        Some(APPROVE_FOR_SESSION) => Approval::Always,
        Some(DENY) => no("not approved"),
        Some(DENY_ALL) => Approval::NoToAll {
            reason: Some("nothing is approved any more in this session".to_owned()),
        },
        _ => no("not approved: the MCP client's answer has no decision"),
    }
}

fn no(reason: impl Into<String>) -> Approval {
    Approval::No {
        reason: Some(reason.into()),
    }
}

/// Tells the client that a question is no longer needed, unless it was answered.
struct Withdrawal {
    client: Peer<RoleServer>,
    request: Option<RequestId>,
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        let Some(request) = self.request.take() else {
            return;
        };
        let client = self.client.clone();
        let param = CancelledNotificationParam::new(
            Some(request),
            Some("the command no longer waits for approval".to_owned()),
        );
        tokio::spawn(async move {
            // A client that is gone needs not be told.
            if let Err(error) = client.notify_cancelled(param).await {
                tracing::debug!(%error, "a question was not withdrawn");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_approves() {
        let answer = |action, content: Option<serde_json::Value>| {
            let answer = ElicitResult::new(action);
            approval(&match content {
                Some(content) => answer.with_content(content),
                None => answer,
            })
        };
        let accepted = |content| answer(ElicitationAction::Accept, Some(content));
        assert_eq!(accepted(json!({"decision": "approve"})), Approval::Yes);
        assert_eq!(
            accepted(json!({"decision": "approve_for_session"})),
            Approval::Always
        );
        assert!(matches!(
            accepted(json!({"decision": "deny_all"})),
            Approval::NoToAll { .. }
        ));
        let refusals = [
            accepted(json!({"decision": "deny"})),
            accepted(json!({"decision": "Approve"})),
            accepted(json!({"decision": true})),
            accepted(json!({})),
            accepted(json!("approve")),
            answer(ElicitationAction::Accept, None),
            answer(ElicitationAction::Decline, Some(json!({"decision": "approve"}))),
            answer(ElicitationAction::Cancel, Some(json!({"decision": "approve"}))),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, Approval::No { .. }), "{refusal:?}");
        }
    }

    #[test]
    fn a_client_shows_forms_if_it_says_so() {
        let shows =
            |capabilities: serde_json::Value| shows_forms(&serde_json::from_value(capabilities).unwrap());
        assert!(shows(json!({"elicitation": {}})));
        assert!(shows(json!({"elicitation": {"form": {}, "url": {}}})));
        assert!(!shows(json!({"elicitation": {"url": {}}})));
        assert!(!shows(json!({})));
    }

    #[test]
    fn the_form_offers_each_decision_by_name() {
        let form = serde_json::to_value(decisions()).unwrap();
        let decision = &form["properties"]["decision"];
        let count = |key: &str| decision[key].as_array().unwrap().len();
        assert_eq!((count("enum"), count("enumNames")), (4, 4));
        assert_eq!(form["required"], json!(["decision"]));
        assert!(decision.get("default").is_none());
    }
}
