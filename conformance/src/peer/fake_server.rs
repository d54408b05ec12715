//! The server against a wrapper under test: reads its request, decides, takes its descriptors, reports the end.

use std::os::fd::OwnedFd;

use serde_json::{Value, json};

use crate::case::expect;
use crate::peer::wire::{Frame, FrameStream};
use crate::verdict::{CaseError, Verdict, violation};

/// A request as the wrapper sent it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The whole message.
    pub message: Value,
}

impl Request {
    /// `file`.
    pub fn file(&self) -> Result<&str, CaseError> {
        self.text("file")
    }

    /// `workdir`.
    pub fn directory(&self) -> Result<&str, CaseError> {
        self.text("workdir")
    }

    /// `argv`.
    pub fn arguments(&self) -> Result<Vec<&str>, CaseError> {
        let list = self.message["argv"].as_array();
        list.and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>())
            .ok_or_else(|| violation("a request with argv, a list of strings", &self.message))
    }

    /// `env`.
    pub fn environment(&self) -> Result<Vec<(&str, &str)>, CaseError> {
        let members = self.message["env"].as_object();
        members
            .and_then(|members| {
                members
                    .iter()
                    .map(|(name, value)| Some((name.as_str(), value.as_str()?)))
                    .collect::<Option<Vec<_>>>()
            })
            .ok_or_else(|| violation("a request with env, an object of strings", &self.message))
    }

    /// One variable of `env`.
    pub fn variable(&self, name: &str) -> Result<Option<&str>, CaseError> {
        Ok(self
            .environment()?
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value))
    }

    fn text(&self, member: &str) -> Result<&str, CaseError> {
        self.message[member]
            .as_str()
            .ok_or_else(|| violation(format_args!("a request with {member}, a string"), &self.message))
    }
}

/// The server's side of a wrapper's request stream.
pub struct RequestStream {
    /// Frames, for what no method here says.
    pub frames: FrameStream,
}

impl RequestStream {
    /// Reads the request.
    pub fn request(&mut self) -> Result<Request, CaseError> {
        let frame = self.frames.expect_frame("a request")?;
        expect::equal("descriptors with the request", 0, frame.descriptors.len())?;
        Ok(Request {
            message: frame.json()?,
        })
    }

    /// Decides Run.
    pub fn run(&mut self) -> Verdict {
        self.frames.send_json(&json!({"action": "Run"}))
    }

    /// Decides Deny.
    pub fn deny(&mut self, reason: Option<&str>) -> Verdict {
        self.frames
            .send_json(&json!({"action": {"Deny": {"reason": reason}}}))
    }

    /// Decides Escalate and reads the message with the descriptors.
    pub fn escalate(&mut self) -> Result<Escalation, CaseError> {
        self.frames.send_json(&json!({"action": "Escalate"}))?;
        self.descriptors()
    }

    /// Reads the message with the descriptors.
    pub fn descriptors(&mut self) -> Result<Escalation, CaseError> {
        let frame = self
            .frames
            .expect_frame("the descriptors of the escalated child")?;
        Escalation::of(frame)
    }

    /// Reports the end of the escalated child.
    pub fn result(&mut self, exit_code: i64) -> Verdict {
        self.frames.send_json(&json!({"exit_code": exit_code}))
    }
}

/// What a wrapper handed over for the escalated child.
pub struct Escalation {
    /// The whole message.
    pub message: Value,
    /// The number that each descriptor must have in the child.
    pub numbers: Vec<i64>,
    /// The descriptors, in the same order.
    pub descriptors: Vec<OwnedFd>,
}

impl Escalation {
    /// Reads a descriptor message.
    ///
    /// # Errors
    /// A violation where it has no numbers, or not as many descriptors as numbers.
    pub fn of(frame: Frame) -> Result<Escalation, CaseError> {
        let message = frame.json()?;
        let numbers = message["fds"]
            .as_array()
            .and_then(|list| list.iter().map(Value::as_i64).collect::<Option<Vec<_>>>())
            .ok_or_else(|| violation("a message with fds, a list of numbers", &message))?;
        expect::equal(
            "descriptors with the message, as many as numbers",
            numbers.len(),
            frame.descriptors.len(),
        )?;
        Ok(Escalation {
            message,
            numbers,
            descriptors: frame.descriptors,
        })
    }

    /// The numbers, sorted.
    pub fn sorted_numbers(&self) -> Vec<i64> {
        let mut numbers = self.numbers.clone();
        numbers.sort_unstable();
        numbers
    }

    /// The descriptor for `number`.
    pub fn descriptor(&self, number: i64) -> Result<&OwnedFd, CaseError> {
        self.numbers
            .iter()
            .position(|known| *known == number)
            .map(|index| &self.descriptors[index])
            .ok_or_else(|| {
                violation(
                    format_args!("descriptor {number} is sent"),
                    format_args!("{:?}", self.numbers),
                )
            })
    }

    /// Whether the wrapper announced the *signals* extension.
    pub fn announces_signals(&self) -> bool {
        self.message["signals"] == Value::Bool(true)
    }
}
