//! The wrapper's side against a server under test: handshakes and requests, right ones and wrong ones.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::peer::counterpart::Counterpart;
use crate::peer::wire::{FrameStream, Received, send_datagram};
use crate::shown::shown;
use crate::transcript::{Direction, Transcript};
use crate::verdict::{CaseError, Verdict, violation};

/// The client's end of a session's escalation socket, in the hands of the suite.
pub struct EscalationSocket {
    socket: OwnedFd,
    transcript: Transcript,
    patience: Duration,
    opened: u32,
    counterpart: Option<Arc<Counterpart>>,
}

impl EscalationSocket {
    /// Over a descriptor that a probe passed to the case.
    pub fn new(socket: OwnedFd, transcript: Transcript, patience: Duration) -> EscalationSocket {
        EscalationSocket {
            socket,
            transcript,
            patience,
            opened: 0,
            counterpart: None,
        }
    }

    /// The same socket, whose streams this process serves: its end is told with theirs.
    pub fn with(mut self, counterpart: &Arc<Counterpart>) -> EscalationSocket {
        self.counterpart = Some(counterpart.clone());
        self
    }

    /// The descriptor.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.socket
    }

    /// Opens a request stream: a pair, and a handshake with the server's end.
    pub fn open(&mut self) -> Result<Requester, CaseError> {
        let (ours, theirs) = UnixStream::pair()?;
        self.open_on(ours, &theirs)
    }

    /// Opens a request stream on a pair that the case has made.
    pub fn open_on(&mut self, ours: UnixStream, theirs: &UnixStream) -> Result<Requester, CaseError> {
        self.datagram(&[0], &[theirs])?;
        self.opened += 1;
        let channel = format!("request stream {}", self.opened);
        Ok(Requester {
            frames: FrameStream::new(ours, &channel, self.transcript.clone(), self.patience)
                .with(self.counterpart.clone()),
        })
    }

    /// Sends any datagram with any descriptors.
    pub fn datagram(&mut self, bytes: &[u8], descriptors: &[&dyn AsFdObject]) -> Verdict {
        self.try_datagram(bytes, descriptors).map_err(|error| {
            violation(
                "the escalation socket takes a datagram",
                format_args!("sendmsg failed: {error}"),
            )
        })
    }

    /// Like [`Self::datagram`], for cases in which the server may rightly be gone.
    pub fn try_datagram(&mut self, bytes: &[u8], descriptors: &[&dyn AsFdObject]) -> std::io::Result<()> {
        let numbers: Vec<i32> = descriptors.iter().map(|descriptor| descriptor.number()).collect();
        self.transcript.message(
            Direction::ToImplementation,
            "escalation socket",
            bytes,
            numbers.len(),
        );
        send_datagram(&self.socket, bytes, &numbers, self.patience)
    }
}

/// Anything with a descriptor, as an object.
pub trait AsFdObject {
    /// The descriptor's number.
    fn number(&self) -> i32;
}

impl<T: AsFd> AsFdObject for T {
    fn number(&self) -> i32 {
        self.as_fd().as_raw_fd()
    }
}

/// A request to send.
#[derive(Clone, Debug)]
pub struct RequestMessage {
    members: Map<String, Value>,
}

impl RequestMessage {
    /// A request with an empty environment.
    pub fn new(file: &str, arguments: &[&str], directory: &str) -> RequestMessage {
        let message = json!({"file": file, "argv": arguments, "workdir": directory, "env": {}});
        RequestMessage {
            members: message.as_object().cloned().unwrap_or_default(),
        }
    }

    /// Sets any member.
    pub fn member(mut self, name: &str, value: Value) -> RequestMessage {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// Takes a member away.
    pub fn without_member(mut self, name: &str) -> RequestMessage {
        self.members.shift_remove(name);
        self
    }

    /// Sets a variable of `env`.
    pub fn variable(mut self, name: &str, value: &str) -> RequestMessage {
        if let Some(environment) = self.members.get_mut("env").and_then(Value::as_object_mut) {
            environment.insert(name.to_owned(), value.into());
        }
        self
    }

    /// The message as JSON.
    pub fn value(&self) -> Value {
        Value::Object(self.members.clone())
    }
}

/// The wrapper's side of a request stream.
pub struct Requester {
    /// Frames, for what no method here says.
    pub frames: FrameStream,
}

impl Requester {
    /// Sends a request.
    pub fn request(&mut self, request: &RequestMessage) -> Verdict {
        self.frames.send_json(&request.value())
    }

    /// Demands this action as the next message: `"Run"`, `"Escalate"` or `{"Deny":{"reason":…}}`.
    pub fn expect_action(&mut self, action: &Value) -> Verdict {
        let frame = self.frames.expect_frame("a decision")?;
        crate::case::expect::equal("descriptors with the decision", 0, frame.descriptors.len())?;
        let message = frame.json()?;
        crate::case::expect::equal("the decision", action, &message["action"])
    }

    /// Sends the descriptors of the escalated child.
    pub fn send_descriptors(&mut self, placements: &[(i64, &dyn AsFdObject)]) -> Verdict {
        self.send_descriptors_with(placements, &[])
    }

    /// The same with more members, such as `signals`.
    pub fn send_descriptors_with(
        &mut self,
        placements: &[(i64, &dyn AsFdObject)],
        members: &[(&str, Value)],
    ) -> Verdict {
        let numbers: Vec<i64> = placements.iter().map(|(number, _)| *number).collect();
        let descriptors: Vec<i32> = placements
            .iter()
            .map(|(_, descriptor)| descriptor.number())
            .collect();
        let mut message = Map::new();
        message.insert("fds".to_owned(), json!(numbers));
        for (name, value) in members {
            message.insert((*name).to_owned(), value.clone());
        }
        self.frames
            .send(Value::Object(message).to_string().as_bytes(), &descriptors)
    }

    /// The next message, which must be the result.
    pub fn result(&mut self) -> Result<Value, CaseError> {
        let frame = self.frames.expect_frame("the result of the escalated child")?;
        let message = frame.json()?;
        if message["exit_code"].as_i64().is_none() {
            return Err(violation("a result with exit_code, a number", &message));
        }
        Ok(message)
    }

    /// Demands this exit code as the result.
    pub fn expect_exit_code(&mut self, exit_code: i64) -> Verdict {
        let message = self.result()?;
        crate::case::expect::equal("exit_code", Some(exit_code), message["exit_code"].as_i64())
    }

    /// Demands the end of the stream, before which one result that is no success may tell of it.
    pub fn expect_no_success(&mut self, why: &str) -> Verdict {
        let expected = format!("the end of the stream, or a result that is no success, for {why}");
        match self.frames.receive()? {
            Received::End { bytes: 0 } => Ok(()),
            Received::Frame(frame) => {
                let result = frame.json()?;
                let has_failed = result["exit_code"].as_i64().is_some_and(|code| code != 0);
                if !has_failed {
                    return Err(violation(expected, shown(&result)));
                }
                self.frames.expect_end(why)
            }
            other => Err(violation(expected, shown(&other))),
        }
    }

    /// Sends a signal frame (*signals* extension).
    pub fn signal(&mut self, signal: i32) -> Verdict {
        self.frames.send_json(&json!({"signal": signal}))
    }
}
