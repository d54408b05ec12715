//! Terminals of a shim's host: the methods `terminal/…`.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::Shim;
use crate::shown::shown;
use crate::system::clock::Moment;
use crate::system::process::Ended;
use crate::verdict::{CaseError, Verdict, violation};

/// How long a read waits for output that is to come.
pub const LOOK: Duration = Duration::from_millis(500);

/// What a terminal is opened with.
#[derive(Clone, Debug)]
pub struct Opening {
    params: Value,
}

impl Opening {
    /// A terminal on pipes, with a base environment of PATH alone and the direct backend.
    pub fn new(session: &str, arguments: &[&str], directory: &str) -> Opening {
        let params = json!({
            "session": session, "argv": arguments, "cwd": directory, "env": {"PATH": "/usr/bin:/bin"},
        });
        Opening { params }
    }

    /// On a pseudo-terminal of that size.
    pub fn on_tty(self, rows: u16, columns: u16) -> Opening {
        self.member("tty", json!({"rows": rows, "columns": columns}))
    }

    /// By the wrapped backend.
    pub fn wrapped_by(self, shell: &str, wrapper: &str) -> Opening {
        self.member("shell", json!(shell))
            .member("wrapper", json!(wrapper))
    }

    /// With that base environment.
    pub fn environment(self, environment: Value) -> Opening {
        self.member("env", environment)
    }

    fn member(mut self, name: &str, value: Value) -> Opening {
        self.params[name] = value;
        self
    }

    /// The params of `terminal/open`.
    pub fn params(&self) -> Value {
        self.params.clone()
    }
}

/// An answer to `terminal/open`.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The terminal's id.
    pub id: Value,
    /// Whether its arguments were recognised.
    pub wrapped: bool,
}

/// What one read gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Output.
    pub data: Vec<u8>,
    /// Bytes that were left out.
    pub omitted: u64,
    /// How many bytes of `data` come before them.
    pub head: usize,
    /// How the process has ended, if that is told.
    pub ended: Option<Ended>,
}

impl Reading {
    /// From the result of `terminal/read`.
    ///
    /// # Errors
    /// A violation where it isn't one.
    fn from_result(result: &Value) -> Result<Reading, CaseError> {
        let wrong = |what: &str| violation(format_args!("terminal/read gives {what}"), result);
        let data = result["data"]
            .as_str()
            .and_then(|text| BASE64_STANDARD.decode(text).ok())
            .ok_or_else(|| wrong("data, base64"))?;
        let number = |name: &str| match &result[name] {
            Value::Null => Ok(0),
            value => value.as_u64().ok_or_else(|| wrong("numbers as omitted and head")),
        };
        let (omitted, head) = (number("omitted")?, number("head")?);
        let head = usize::try_from(head).unwrap_or(usize::MAX);
        if omitted > 0 && head > data.len() {
            return Err(wrong("a head within data"));
        }
        let ended = match &result["ended"] {
            Value::Null => None,
            ended => match (ended["exit_code"].as_i64(), ended["signal"].as_i64()) {
                (Some(code), None) => Some(Ended::Exited(code as i32)),
                (None, Some(signal)) => Some(Ended::Killed(signal as i32)),
                _ => return Err(wrong("ended with exit_code or signal")),
            },
        };
        Ok(Reading {
            data,
            omitted,
            head,
            ended,
        })
    }
}

impl Shim {
    /// Opens a terminal.
    pub fn open_terminal(&mut self, opening: &Opening) -> Result<Opened, CaseError> {
        let result = self.call("terminal/open", opening.params())?;
        let wrong = || {
            violation(
                "terminal/open gives terminal, an id, and wrapped, a truth value",
                &result,
            )
        };
        let id = &result["terminal"];
        if !(id.is_string() || id.is_i64() || id.is_u64()) {
            return Err(wrong());
        }
        Ok(Opened {
            id: id.clone(),
            wrapped: result["wrapped"].as_bool().ok_or_else(wrong)?,
        })
    }

    /// Begins a write; returns the id of the call.
    pub fn send_write(&mut self, terminal: &Value, bytes: &[u8]) -> Result<u64, CaseError> {
        let data = BASE64_STANDARD.encode(bytes);
        self.send("terminal/write", json!({"terminal": terminal, "data": data}))
    }

    /// Writes, and waits until that is done.
    pub fn write_terminal(&mut self, terminal: &Value, bytes: &[u8]) -> Verdict {
        let id = self.send_write(terminal, bytes)?;
        self.answer_to(id, "terminal/write")?
            .map(drop)
            .map_err(|error| violation("terminal/write succeeds", shown(&error)))
    }

    /// Begins a read; returns the id of the call.
    pub fn send_read(
        &mut self,
        terminal: &Value,
        wait: Duration,
        limit: Option<usize>,
    ) -> Result<u64, CaseError> {
        let mut params =
            json!({"terminal": terminal, "wait_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)});
        if let Some(limit) = limit {
            params["limit"] = json!(limit);
        }
        self.send("terminal/read", params)
    }

    /// The result of a read that was begun.
    pub fn reading(&self, id: u64, patience: Duration) -> Result<Reading, CaseError> {
        let result = self
            .answer_within(id, "terminal/read", patience)?
            .map_err(|error| violation("terminal/read succeeds", shown(&error)))?;
        Reading::from_result(&result)
    }

    /// Reads, waiting no longer than `wait` for output.
    pub fn read_terminal(
        &mut self,
        terminal: &Value,
        wait: Duration,
        limit: Option<usize>,
    ) -> Result<Reading, CaseError> {
        let id = self.send_read(terminal, wait, limit)?;
        self.reading(id, wait + self.patience)
    }

    /// Reads a terminal until it has given `wanted`, and returns all that it gave.
    pub fn read_terminal_until(&mut self, terminal: &Value, wanted: &str) -> Result<Vec<u8>, CaseError> {
        let mut seen = Vec::new();
        let deadline = Moment::now() + self.patience;
        loop {
            let reading = self.read_terminal(terminal, LOOK, None)?;
            seen.extend_from_slice(&reading.data);
            let text = String::from_utf8_lossy(&seen);
            if text.contains(wanted) {
                return Ok(seen);
            }
            if deadline.is_over() || reading.ended.is_some() {
                return Err(violation(
                    format_args!("{wanted:?} in the output"),
                    format_args!(
                        "{text:?} after {:?}, ended: {}",
                        self.patience,
                        shown(&reading.ended)
                    ),
                ));
            }
        }
    }

    /// Closes a terminal; its teardown may go on after the answer.
    pub fn close_terminal(&mut self, terminal: &Value) -> Verdict {
        self.call("terminal/close", json!({"terminal": terminal}))
            .map(drop)
    }

    /// The ids of the terminals that are there.
    pub fn list_terminals(&mut self) -> Result<Vec<Value>, CaseError> {
        let result = self.call("terminal/list", json!({}))?;
        let list = result["terminals"].as_array().cloned();
        list.ok_or_else(|| violation("terminal/list gives terminals, a list", &result))
    }
}
