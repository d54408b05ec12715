//! The policy, which the suite decides: questions to it and its answers.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::events::lock;
use crate::faults::{Fault, broken, chat};
use crate::messages::{Request, json_text};
use crate::rpc;
use crate::ticket::{Answer, Ticket};

/// The policy as the server sees it.
#[derive(Default)]
pub struct Policy {
    /// The session that was started last.
    pub latest: Mutex<String>,
    /// Earlier decisions by arguments and program, for a fault that reuses them.
    pub remembered: Mutex<HashMap<Vec<Vec<u8>>, Answer>>,
    next: AtomicU64,
    pending: Mutex<HashMap<u64, Arc<Ticket>>>,
}

impl Policy {
    /// Asks the policy, and returns the question's id. The answer rings the ticket's bell.
    pub fn ask(&self, ticket: &Arc<Ticket>, request: &Request, program: &[u8]) -> io::Result<u64> {
        let id = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        lock(&self.pending).insert(id, ticket.clone());
        let list = |texts: &[Vec<u8>]| {
            let texts: Vec<String> = texts
                .iter()
                .filter(|text| !(broken(Fault::EmptyArgumentsDropped) && text.is_empty()))
                .map(|text| {
                    if broken(Fault::ArgumentsTrimmed) {
                        text.trim_ascii()
                    } else {
                        text
                    }
                })
                .map(json_text)
                .collect();
            format!("[{}]", texts.join(","))
        };
        let environment: Vec<String> = request
            .environment
            .iter()
            .map(|(name, value)| format!("{}:{}", json_text(name), json_text(value)))
            .collect();
        let mut name = ticket.session.clone();
        if broken(Fault::LastSessionAnswers) {
            name = lock(&self.latest).clone();
        }
        let mut directory = request.directory.clone();
        if broken(Fault::DirectoryResolved)
            && let Ok(resolved) = std::fs::canonicalize(std::ffi::OsStr::from_bytes(&directory))
        {
            directory = resolved.into_os_string().into_vec();
        }
        if broken(Fault::ParentsCutOffInWorkdir) {
            directory = without_parents(&directory);
        }
        let params = format!(
            r#"{{"session":{},"program":{},"argv":{},"workdir":{},"env":{{{}}}}}"#,
            Value::from(name),
            json_text(program),
            list(&request.arguments),
            json_text(&directory),
            environment.join(",")
        );
        rpc::write_line(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"policy/decide","params":{params}}}"#
        ))?;
        Ok(id)
    }

    /// Whether a question of that session is pending.
    pub fn is_asking(&self, session: &str) -> bool {
        let pending = lock(&self.pending);
        pending.values().any(|ticket| ticket.session == session)
    }

    /// Tells the suite that the answer is not wanted any more.
    pub fn withdraw(&self, session: &str, question: u64) {
        if lock(&self.pending).remove(&question).is_none() {
            return;
        }
        let params = json!({"session": session, "id": question});
        rpc::write(&json!({"jsonrpc": "2.0", "method": "policy/cancelled", "params": params}));
    }

    /// Gives an answer to the request that asked for it.
    pub fn take_answer(&self, message: &Value) {
        let mut id = message["id"].as_u64();
        if broken(Fault::AnswersInOrder) {
            id = lock(&self.pending).keys().min().copied();
        }
        let Some(ticket) = id.and_then(|id| lock(&self.pending).remove(&id)) else {
            chat(format_args!("a late answer: {message}"));
            return;
        };
        *lock(&ticket.answer) = Some(decision(message));
        ticket.bell.ring();
    }
}

fn decision(message: &Value) -> Answer {
    static HAS_FAILED: AtomicBool = AtomicBool::new(false);
    let result = &message["result"];
    if broken(Fault::PolicyErrorRemembered) && HAS_FAILED.load(Ordering::SeqCst) {
        return Answer::Failed("it has failed before".to_owned());
    }
    match (result["action"].as_str(), &result["reason"]) {
        (Some("run"), _) => Answer::Run,
        (Some("escalate"), _) => Answer::Escalate,
        (Some("deny"), Value::Null) => Answer::Deny(None),
        (Some("deny"), Value::String(_)) if broken(Fault::ReasonDropped) => Answer::Deny(None),
        (Some("deny"), Value::String(reason)) if broken(Fault::ReasonTrimmed) => {
            Answer::Deny(Some(reason.trim().to_owned()))
        }
        (Some("deny"), Value::String(reason)) if broken(Fault::ReasonCut) => {
            Answer::Deny(Some(reason.chars().take(1_000).collect()))
        }
        (Some("deny"), Value::String(reason)) => Answer::Deny(Some(reason.clone())),
        _ => {
            HAS_FAILED.store(true, Ordering::SeqCst);
            failed(message)
        }
    }
}

/// What an answer counts as that is not a decision.
fn failed(message: &Value) -> Answer {
    let is_error = message.get("error").is_some();
    if broken(Fault::PolicyErrorRuns) && is_error || broken(Fault::UnknownAnswerRuns) && !is_error {
        return Answer::Run;
    }
    if broken(Fault::PolicyErrorEscalates) && is_error || broken(Fault::UnknownAnswerEscalates) && !is_error {
        return Answer::Escalate;
    }
    Answer::Failed(message.to_string())
}

/// An absolute path without `..`, and without the components that stood before them.
fn without_parents(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        if component == b".." {
            kept.pop();
        } else {
            kept.push(component);
        }
    }
    kept.join(&b'/')
}
