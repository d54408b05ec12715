//! JSON-RPC over standard input and output, in both directions.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::faults::{Fault, Variant, broken, chat, unusual};
use crate::messages::{Request, json_text};
use crate::session::{Answer, Session, Ticket, lock};

/// Our side of the harness protocol.
#[derive(Default)]
pub struct Rpc {
    next: AtomicU64,
    pending: Mutex<HashMap<u64, Arc<Ticket>>>,
}

/// What a method gives.
pub type Outcome = Result<Value, (i64, String)>;

/// A request of the suite.
pub struct Call {
    /// Its id.
    pub id: Value,
    /// Its method.
    pub method: String,
    /// Its params.
    pub params: Value,
}

impl Rpc {
    /// Reads until the end of standard input; answers go to their questions, calls to `serve`, which says whether
    /// to go on.
    pub fn read_all(&self, mut serve: impl FnMut(Call) -> bool) -> io::Result<()> {
        for line in io::stdin().lock().split(b'\n') {
            let message: Value = serde_json::from_slice(&line?)?;
            match message["method"].as_str() {
                Some(method) => {
                    let call = Call {
                        id: message["id"].clone(),
                        method: method.to_owned(),
                        params: message["params"].clone(),
                    };
                    if !serve(call) {
                        return Ok(());
                    }
                }
                None => self.take_answer(&message),
            }
        }
        Ok(())
    }

    /// Asks the policy; the answer will ring the ticket's bell.
    pub fn ask(
        &self,
        session: &Session,
        ticket: &Arc<Ticket>,
        request: &Request,
        program: &[u8],
    ) -> io::Result<u64> {
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
        let mut name = session.name.clone();
        if broken(Fault::LastSessionAnswers) {
            name = lock(&session.server.latest).clone();
        }
        let mut directory = request.directory.clone();
        if broken(Fault::DirectoryResolved)
            && let Ok(resolved) = std::fs::canonicalize(std::ffi::OsStr::from_bytes(&directory))
        {
            directory = resolved.into_os_string().into_vec();
        }
        let params = format!(
            r#"{{"session":{},"program":{},"argv":{},"workdir":{},"env":{{{}}}}}"#,
            Value::from(name),
            json_text(program),
            list(&request.arguments),
            json_text(&directory),
            environment.join(",")
        );
        write_line(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"policy/decide","params":{params}}}"#
        ))?;
        Ok(id)
    }

    /// Whether a question of that session is with the policy.
    pub fn is_asking(&self, session: &str) -> bool {
        let pending = lock(&self.pending);
        pending.values().any(|ticket| ticket.session == session)
    }

    /// The answer to a question is not wanted any more.
    pub fn withdraw(&self, session: &str, question: u64) {
        if lock(&self.pending).remove(&question).is_none() {
            return;
        }
        let params = json!({"session": session, "id": question});
        // A suite that has gone is seen by the reader.
        let _ = write_line(
            &json!({"jsonrpc": "2.0", "method": "policy/cancelled", "params": params}).to_string(),
        );
    }

    /// Answers a call.
    pub fn reply(&self, id: &Value, outcome: Outcome) {
        let message = match outcome {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err((code, message)) => {
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
            }
        };
        chat(format_args!("answering {message}"));
        if unusual(Variant::OutOfOrder) {
            // One that comes later may overtake.
            let pause = id.as_u64().unwrap_or_default() * 7 % 4 * 10;
            std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(pause));
                let _ = write_line(&message.to_string());
            });
            return;
        }
        self.write(&message);
    }

    /// Writes a message now.
    pub fn write(&self, message: &Value) {
        // A suite that has gone is seen by the reader.
        let _ = write_line(&message.to_string());
    }

    fn take_answer(&self, message: &Value) {
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

/// What is made of an answer that is no decision.
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

fn write_line(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.write_all(b"\n")?;
    output.flush()
}
