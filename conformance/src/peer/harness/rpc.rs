//! Newline-delimited JSON-RPC 2.0 over a shim's pipes: the thread that reads, and what has come.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::{Condvar, Mutex, Weak};

use serde_json::{Value, json};

use super::line::{lock, with_byte_marks, write_line};
use super::policy::{Policy, answer_message, question};
use crate::transcript::{self, Direction, Transcript};

/// What has come from the shim and has not been taken yet.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) answers: HashMap<u64, Result<Value, RpcError>>,
    pub(super) decisions: VecDeque<DecisionMessage>,
    pub(super) cancelled: Vec<(String, Value)>,
    pub(super) broken: Option<String>,
    pub(super) ended: bool,
}

pub(super) struct DecisionMessage {
    pub(super) id: Value,
    pub(super) params: Value,
}

/// A JSON-RPC error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// The code, such as -32602.
    pub code: i64,
    /// The message.
    pub message: String,
}

pub(super) struct Shared {
    pub(super) inbox: Mutex<Inbox>,
    pub(super) arrived: Condvar,
}

pub(super) fn read_messages(
    input: File,
    shared: &Shared,
    writer: &Weak<Mutex<File>>,
    policy: &Mutex<Option<Policy>>,
    transcript: &Transcript,
) {
    for line in BufReader::new(input).split(b'\n') {
        let handled = line
            .map_err(|error| format!("reading the shim's standard output: {error}"))
            .and_then(|line| {
                transcript.message(Direction::FromImplementation, "shim", &line, 0);
                let message: Value = serde_json::from_slice(&with_byte_marks(&line)).map_err(|error| {
                    format!(
                        "a line of the shim that is no JSON: {error}: {}",
                        transcript::shown(&line)
                    )
                })?;
                take_message(message, shared, writer, policy, transcript)
            });
        if let Err(broken) = handled {
            lock(&shared.inbox).broken = Some(broken);
            shared.arrived.notify_all();
            return;
        }
    }
    lock(&shared.inbox).ended = true;
    shared.arrived.notify_all();
}

fn take_message(
    message: Value,
    shared: &Shared,
    writer: &Weak<Mutex<File>>,
    policy: &Mutex<Option<Policy>>,
    transcript: &Transcript,
) -> Result<(), String> {
    match message["method"].as_str() {
        Some("policy/decide") => {
            let mut policy = lock(policy);
            if let Some(policy) = policy.as_mut()
                && let Ok(question) = question(&message["params"])
                && let Some(message) = answer_message(&message["id"], &policy(&question))
            {
                if let Some(writer) = writer.upgrade() {
                    // A shim that has gone meanwhile is seen by whoever waits for it.
                    let _ = write_line(&writer, transcript, &message);
                }
                return Ok(());
            }
            let decision = DecisionMessage {
                id: message["id"].clone(),
                params: message["params"].clone(),
            };
            lock(&shared.inbox).decisions.push_back(decision);
        }
        Some("policy/cancelled") => {
            let params = &message["params"];
            let session = params["session"].as_str().unwrap_or_default().to_owned();
            lock(&shared.inbox)
                .cancelled
                .push((session, params["id"].clone()));
        }
        Some(method) => {
            if let (Some(writer), Some(_)) = (writer.upgrade(), message.get("id")) {
                let error = json!({"code": -32601, "message": format!("unknown method {method}")});
                let refusal = json!({"jsonrpc": "2.0", "id": message["id"], "error": error});
                let _ = write_line(&writer, transcript, &refusal);
            }
        }
        None => {
            let id = message["id"]
                .as_u64()
                .ok_or_else(|| format!("an answer without a known id: {message}"))?;
            let answer = match message.get("error") {
                Some(error) if !error.is_null() => Err(RpcError {
                    code: error["code"].as_i64().unwrap_or_default(),
                    message: error["message"].as_str().unwrap_or_default().to_owned(),
                }),
                _ => Ok(message["result"].clone()),
            };
            lock(&shared.inbox).answers.insert(id, answer);
        }
    }
    shared.arrived.notify_all();
    Ok(())
}
