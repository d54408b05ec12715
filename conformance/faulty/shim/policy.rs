//! The policy, which the suite decides: questions to it and its answers.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::events::lock;
use crate::faults::{Fault, Variant, broken, chat, unusual};
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
    /// The pending questions that are for the approver.
    approvals: Mutex<HashMap<u64, Arc<Ticket>>>,
    /// The sessions in which nothing is approved any more, with the reason.
    aborted: Mutex<HashMap<String, Option<String>>>,
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

    /// Asks the approver, and returns the approval's number.
    pub fn ask_approver(
        &self,
        ticket: &Arc<Ticket>,
        request: &Request,
        program: &[u8],
        environment: &[Vec<u8>],
        reason: Option<&str>,
    ) -> io::Result<u64> {
        let id = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        lock(&self.approvals).insert(id, ticket.clone());
        let arguments: Vec<String> = request.arguments.iter().map(|text| json_text(text)).collect();
        let environment: Vec<String> = environment
            .iter()
            .filter_map(|entry| {
                let equals = entry.iter().position(|byte| *byte == b'=')?;
                Some(format!(
                    "{}:{}",
                    json_text(&entry[..equals]),
                    json_text(&entry[equals + 1..])
                ))
            })
            .collect();
        let how = if broken(Fault::ApprovalWithoutExecution) {
            ""
        } else {
            "unsandboxed"
        };
        let params = format!(
            r#"{{"approval":{},"session":{},"program":{},"argv":[{}],"workdir":{},"env":{{{}}},"execution":"{how}","reason":{}}}"#,
            approval_id(id),
            Value::from(ticket.session.clone()),
            json_text(program),
            arguments.join(","),
            json_text(&request.directory),
            environment.join(","),
            Value::from(reason),
        );
        rpc::write_line(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"approval/ask","params":{params}}}"#
        ))?;
        Ok(id)
    }

    /// The reason why nothing is approved in a session any more; none if it may be.
    pub fn aborted(&self, session: &str) -> Option<Option<String>> {
        lock(&self.aborted).get(session).cloned()
    }

    /// Tells the approver that its answer is not wanted any more.
    pub fn withdraw_approval(&self, session: &str, id: u64) {
        let is_pending = lock(&self.approvals).remove(&id).is_some();
        if broken(Fault::ApprovalsNotWithdrawn) || !is_pending && !broken(Fault::AnsweredAreWithdrawn) {
            return;
        }
        let params = json!({"session": session, "approval": approval_id(id)});
        rpc::write(&json!({"jsonrpc": "2.0", "method": "approval/withdrawn", "params": params}));
    }

    /// Gives an approver's answer to the request that it is about.
    fn take_approval(&self, ticket: &Arc<Ticket>, message: &Value) {
        let result = &message["result"];
        let reason = result["reason"].as_str().map(str::to_owned);
        let reason = reason.filter(|_| !broken(Fault::ApproverReasonDropped));
        let answer = match result["answer"].as_str() {
            Some("approve") if broken(Fault::ApprovedIsRun) => Answer::Run,
            Some("approve") => Answer::Escalate,
            Some("deny") => Answer::Deny(reason),
            Some("abort") => {
                self.abort(ticket, &reason);
                Answer::Deny(reason)
            }
            _ if broken(Fault::ApproverErrorEscalates) => Answer::Escalate,
            _ => Answer::Failed(message.to_string()),
        };
        *lock(&ticket.answer) = Some(answer);
        ticket.bell.ring();
    }

    /// Denies all that waits for an approval in the session of `ticket`, and all that would.
    fn abort(&self, ticket: &Arc<Ticket>, reason: &Option<String>) {
        if broken(Fault::AbortIsADenial) {
            return;
        }
        if !broken(Fault::AbortForgotten) {
            lock(&self.aborted).insert(ticket.session.clone(), reason.clone());
        }
        let others: Vec<(u64, Arc<Ticket>)> = lock(&self.approvals)
            .iter()
            .filter(|(_, other)| other.session == ticket.session || broken(Fault::AbortEndsOtherSessions))
            .map(|(id, other)| (*id, other.clone()))
            .collect();
        for (id, other) in others {
            if broken(Fault::AbortSparesPending) {
                continue;
            }
            if broken(Fault::AbortedNotWithdrawn) {
                lock(&self.approvals).remove(&id);
            } else {
                self.withdraw_approval(&other.session, id);
            }
            *lock(&other.answer) = Some(Answer::Deny(reason.clone()));
            other.bell.ring();
        }
    }

    /// Gives an answer to the request that asked for it.
    pub fn take_answer(&self, message: &Value) {
        let mut id = message["id"].as_u64();
        let mut approval = id;
        if broken(Fault::ApprovalsInOrder) && lock(&self.approvals).contains_key(&id.unwrap_or_default()) {
            approval = lock(&self.approvals).keys().min().copied();
        }
        let found = approval.and_then(|id| lock(&self.approvals).remove(&id));
        if let Some(ticket) = found {
            return self.take_approval(&ticket, message);
        }
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

/// The id of an approval, as JSON.
fn approval_id(number: u64) -> Value {
    if broken(Fault::ApprovalIdsRepeat) {
        return Value::from("approval");
    }
    if unusual(Variant::NumberedApprovals) {
        return Value::from(number);
    }
    Value::from(format!("approval-{number}"))
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
        (Some("ask"), _) if broken(Fault::AskTakenForEscalate) => Answer::Escalate,
        (Some("ask"), _) if broken(Fault::AskTakenForDeny) => Answer::Deny(None),
        (Some("ask"), reason) => Answer::Ask(reason.as_str().map(str::to_owned)),
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
