//! Newline-delimited JSON-RPC 2.0 over a shim's pipes: the thread that reads, and what has come.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Condvar, Mutex, Weak};

use serde_json::{Value, json};

use super::line::{lock, with_byte_marks, write_line};
use super::policy::{Policy, answer_message, question};
use crate::shown::Shown;
use crate::transcript::{self, Direction, Transcript};

/// Bytes of the longest line that a shim may write; what the cases let it say has a third of that.
const LINE_LIMIT: u64 = 48 << 20;

/// Messages that a shim may have sent which nothing has asked for yet.
const UNTAKEN_LIMIT: usize = 10_000;

/// What has come from the shim and has not been taken yet.
#[derive(Default)]
pub(super) struct Inbox {
    /// Answers to the suite's requests, by id.
    pub(super) answers: HashMap<u64, Result<Value, RpcError>>,
    /// Questions that no policy has answered at once.
    pub(super) decisions: VecDeque<DecisionMessage>,
    /// Questions to the approver.
    pub(super) approvals: VecDeque<DecisionMessage>,
    /// What `approval/withdrawn` has said.
    pub(super) withdrawn: VecDeque<Value>,
    /// Why reading has stopped, if the shim broke the protocol.
    pub(super) broken: Option<String>,
    /// Whether the shim has closed its standard output.
    pub(super) ended: bool,
}

/// A `policy/decide` or `approval/ask` request as it came.
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

impl Shown for RpcError {
    fn show(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "error {}: {:?}", self.code, self.message)
    }
}

/// The inbox, and the event that something has arrived in it.
pub(super) struct Shared {
    pub(super) inbox: Mutex<Inbox>,
    pub(super) arrived: Condvar,
}

/// Reads what the shim says until its end, and answers the questions for which there is a policy.
pub(super) fn read_messages(
    input: File,
    shared: &Shared,
    writer: &Weak<Mutex<File>>,
    policy: &Mutex<Option<Policy>>,
    transcript: &Transcript,
) {
    let mut input = BufReader::new(input);
    while let Some(line) = next_line(&mut input).transpose() {
        let handled = line
            .map_err(|error| format!("reading the shim's standard output: {error}"))
            .and_then(|line| {
                transcript.message(Direction::FromImplementation, "shim", &line, 0);
                let message: Value = serde_json::from_slice(&with_byte_marks(&line)).map_err(|error| {
                    format!(
                        "a line of the shim that is not JSON: {error}: {}",
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

/// The next line, without its end; none at the end of file.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if input.take(LINE_LIMIT).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.pop_if(|byte| *byte == b'\n').is_none() && line.len() as u64 == LINE_LIMIT {
        return Err(io::Error::other(format!(
            "a line of {LINE_LIMIT} bytes has no end"
        )));
    }
    Ok(Some(line))
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
                    // If the shim has gone meanwhile, the case that waits for it reports so.
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
        Some("approval/ask") => {
            let approval = DecisionMessage {
                id: message["id"].clone(),
                params: message["params"].clone(),
            };
            lock(&shared.inbox).approvals.push_back(approval);
        }
        Some("approval/withdrawn") => {
            lock(&shared.inbox).withdrawn.push_back(message["params"].clone());
        }
        // A hint for policies that work on a question; the suite's do not.
        Some("policy/cancelled") => {}
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
    let inbox = lock(&shared.inbox);
    let untaken = inbox.decisions.len() + inbox.answers.len() + inbox.approvals.len() + inbox.withdrawn.len();
    if untaken > UNTAKEN_LIMIT {
        return Err(format!(
            "the shim sent {untaken} messages that nothing has asked for"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    mod fuzz;

    use super::{LINE_LIMIT, next_line};
    use std::io::{BufReader, Read, repeat};

    #[test]
    fn lines_end_with_a_newline_or_the_file_and_empty_ones_count() {
        let mut input = &b"{}\n\nlast"[..];
        for expected in [Some(&b"{}"[..]), Some(b""), Some(b"last"), None] {
            let line = next_line(&mut input).expect("a read");
            assert_eq!(line.as_deref(), expected);
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut input = BufReader::new(repeat(b'x').take(2 * LINE_LIMIT));
        let error = next_line(&mut input).expect_err("too long");
        assert!(error.to_string().contains("has no end"), "{error}");
    }
}
