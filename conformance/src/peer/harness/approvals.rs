//! The approver of a shim: what it is asked, how the suite answers, and what is withdrawn.

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::Shim;
use super::line::write_line;
use super::policy::{Question, question};
use crate::system::quiescence::wait_for_rest;
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict, harness, violation};

/// What an approver answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApprovalAnswer {
    /// Execute it.
    Approve,
    /// Don't, with a reason.
    Deny(Option<String>),
    /// Don't, nor anything else of the session that would need an approval.
    Abort(Option<String>),
    /// The approver fails (a JSON-RPC error).
    Fail,
}

/// A question to the approver that hasn't been answered.
pub struct Approval {
    /// The approval's id.
    pub id: Value,
    /// What was asked; its params have all members.
    pub question: Question,
    /// The id of the JSON-RPC request.
    request: Value,
    writer: Arc<Mutex<File>>,
    transcript: Transcript,
}

impl Approval {
    /// Answers it.
    pub fn answer(self, answer: &ApprovalAnswer) -> Verdict {
        let result = match answer {
            ApprovalAnswer::Approve => json!({"answer": "approve"}),
            ApprovalAnswer::Deny(reason) => json!({"answer": "deny", "reason": reason}),
            ApprovalAnswer::Abort(reason) => json!({"answer": "abort", "reason": reason}),
            ApprovalAnswer::Fail => {
                let error = json!({"code": -32000, "message": "the approver failed"});
                return self.send(&json!({"jsonrpc": "2.0", "id": self.request, "error": error}));
            }
        };
        self.send(&json!({"jsonrpc": "2.0", "id": self.request, "result": result}))
    }

    fn send(&self, message: &Value) -> Verdict {
        write_line(&self.writer, &self.transcript, message).map_err(|error| {
            violation(
                "the shim reads its standard input",
                format_args!("answering approval/ask failed: {error}"),
            )
        })
    }
}

impl Shim {
    /// The next question to the approver.
    ///
    /// # Errors
    /// A violation where none comes.
    pub fn next_approval(&self) -> Result<Approval, CaseError> {
        self.approval_within(self.patience)?.ok_or_else(|| {
            violation(
                "the approver is asked",
                format_args!("no approval/ask within {:?}", self.patience),
            )
        })
    }

    /// The next question to the approver, or none within `patience`.
    pub fn approval_within(&self, patience: Duration) -> Result<Option<Approval>, CaseError> {
        let writer = self
            .writer
            .clone()
            .ok_or_else(|| harness("the shim's standard input has been closed"))?;
        let message = match self.wait(patience, |inbox| inbox.approvals.pop_front()) {
            Ok(message) => message,
            Err(seen) if seen.starts_with("nothing") => return Ok(None),
            Err(seen) => return Err(violation("the shim runs", seen)),
        };
        let id = &message.params["approval"];
        if !(id.is_string() || id.is_i64() || id.is_u64()) {
            return Err(violation("approval/ask with approval, an id", &message.params));
        }
        Ok(Some(Approval {
            id: id.clone(),
            question: question(&message.params)?,
            request: message.id,
            writer,
            transcript: self.transcript.clone(),
        }))
    }

    /// The next id that `approval/withdrawn` says.
    ///
    /// # Errors
    /// A violation where none comes.
    pub fn next_withdrawn(&self) -> Result<Value, CaseError> {
        let params = self
            .wait(self.patience, |inbox| inbox.withdrawn.pop_front())
            .map_err(|seen| violation("approval/withdrawn", seen))?;
        Ok(params["approval"].clone())
    }

    /// Demands that nothing more has been withdrawn when all that the case has started is at rest.
    pub fn expect_none_withdrawn(&self) -> Verdict {
        wait_for_rest();
        match self.wait(Duration::ZERO, |inbox| inbox.withdrawn.pop_front()) {
            Ok(params) => Err(violation("no approval/withdrawn", &params)),
            Err(_) => Ok(()),
        }
    }
}
