//! The policy of a session: what it is asked, and how the suite answers.

use std::fmt;
use std::fs::File;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::line::write_line;
use crate::shown::Shown;
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict, harness, violation};

/// A policy that answers by itself, on the thread that reads from the shim.
pub(super) type Policy = Box<dyn FnMut(&Question) -> Answer + Send>;

/// What a policy answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Run here.
    Run,
    /// Run outside.
    Escalate,
    /// Do not run, with a reason.
    Deny(Option<String>),
    /// Let the approver decide, with a reason.
    Ask(Option<String>),
    /// The policy itself fails (a JSON-RPC error).
    Fail,
    /// Not now: the question waits in the queue, for [`Shim::next_decision`] or for ever.
    Later,
}

impl Shown for Answer {
    fn show(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, reason) = match self {
            Answer::Run => ("Run", &None),
            Answer::Escalate => ("Escalate", &None),
            Answer::Deny(reason) => ("Deny", reason),
            Answer::Ask(reason) => ("the approver is asked", reason),
            Answer::Fail => ("the policy fails", &None),
            Answer::Later => ("the policy waits", &None),
        };
        formatter.write_str(word)?;
        match reason {
            None => Ok(()),
            Some(reason) => write!(formatter, " ({reason:?})"),
        }
    }
}

/// What the server asked its policy.
#[derive(Clone, Debug)]
pub struct Question {
    /// The session.
    pub session: String,
    /// The program as the policy sees it.
    pub program: String,
    /// The argument vector.
    pub arguments: Vec<String>,
    /// The working directory.
    pub directory: String,
    /// All params, `env` included where the shim passes it.
    pub params: Value,
}

/// A pending decision.
pub struct Decision {
    /// What was asked.
    pub question: Question,
    /// The request's JSON-RPC id.
    pub id: Value,
    pub(super) writer: Arc<Mutex<File>>,
    pub(super) transcript: Transcript,
}

impl Decision {
    /// Answers it.
    pub fn answer(self, answer: &Answer) -> Verdict {
        let message = answer_message(&self.id, answer).ok_or_else(|| harness("`Later` is not an answer"))?;
        self.answer_by(&message)
    }

    /// Answers it with any result at all, even one that is not a decision.
    pub fn answer_with(self, result: &Value) -> Verdict {
        let message = json!({"jsonrpc": "2.0", "id": self.id, "result": result});
        self.answer_by(&message)
    }

    fn answer_by(self, message: &Value) -> Verdict {
        write_line(&self.writer, &self.transcript, message).map_err(|error| {
            violation(
                "the shim reads its standard input",
                format_args!("answering policy/decide failed: {error}"),
            )
        })
    }
}

/// The question of a `policy/decide` request.
///
/// # Errors
/// A violation where a member is missing or has another type.
pub(super) fn question(params: &Value) -> Result<Question, CaseError> {
    let text = |name: &str| {
        params[name]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| violation(format_args!("policy/decide with {name}, a string"), params))
    };
    let arguments = params["argv"]
        .as_array()
        .and_then(|list| {
            list.iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        })
        .ok_or_else(|| violation("policy/decide with argv, a list of strings", params))?;
    Ok(Question {
        session: text("session")?,
        program: text("program")?,
        arguments,
        directory: text("workdir")?,
        params: params.clone(),
    })
}

/// The message that answers a question; none where it isn't answered now.
pub(super) fn answer_message(id: &Value, answer: &Answer) -> Option<Value> {
    let result = match answer {
        Answer::Run => json!({"action": "run"}),
        Answer::Escalate => json!({"action": "escalate"}),
        Answer::Deny(reason) => json!({"action": "deny", "reason": reason}),
        Answer::Ask(reason) => json!({"action": "ask", "reason": reason}),
        Answer::Fail => {
            let error = json!({"code": -32000, "message": "the policy failed"});
            return Some(json!({"jsonrpc": "2.0", "id": id, "error": error}));
        }
        Answer::Later => return None,
    };
    Some(json!({"jsonrpc": "2.0", "id": id, "result": result}))
}
