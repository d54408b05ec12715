//! JSON-RPC 2.0: one message per line, requests in both directions.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as lines};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

/// A request from the other side; without an id it is a notification.
pub(super) struct Incoming {
    pub id: Option<Value>,
    pub method: String,
    pub params: Value,
}

/// An error response.
#[derive(Debug)]
pub(super) struct RpcError {
    code: i32,
    message: String,
}

impl RpcError {
    pub(super) fn unknown_method(method: &str) -> Self {
        Self {
            code: -32601,
            message: format!("unknown method `{method}`"),
        }
    }

    pub(super) fn invalid(message: impl fmt::Display) -> Self {
        Self {
            code: -32602,
            message: message.to_string(),
        }
    }

    /// The request was valid, but could not be carried out.
    pub(super) fn failed(message: impl fmt::Display) -> Self {
        Self {
            code: -32000,
            message: message.to_string(),
        }
    }
}

/// Reads the parameters of a method; unknown members are ignored.
pub(super) fn params<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    serde_json::from_value(params).map_err(RpcError::invalid)
}

/// The other side: requests to it, and answers for it.
pub(super) struct Peer {
    output: lines::Sender<Output>,
    next_id: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>,
}

enum Output {
    Line(String),
    /// Everything before it has been written.
    Flushed(oneshot::Sender<()>),
}

impl Peer {
    /// Starts reading standard input and writing standard output, each on a thread of its own, so that neither blocks a
    /// session. The channel closes at the end of input.
    pub(super) fn start() -> (Arc<Self>, mpsc::UnboundedReceiver<Incoming>) {
        let (output, lines) = lines::channel();
        let peer = Arc::new(Self {
            output,
            next_id: AtomicU64::new(1),
            waiting: Mutex::default(),
        });
        let (requests, incoming) = mpsc::unbounded_channel();
        std::thread::spawn(move || write_lines(&lines));
        let reader = Arc::clone(&peer);
        std::thread::spawn(move || reader.read_lines(&requests));
        (peer, incoming)
    }

    /// Answers a request from the other side. A result is JSON text.
    pub(super) fn answer(&self, id: &Value, answer: Result<String, RpcError>) {
        self.write(match answer {
            Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
            Err(RpcError { code, message }) => {
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}).to_string()
            }
        });
    }

    /// Asks the other side. `params` is JSON text. To abandon the question, call [`Self::forget`].
    pub(super) fn ask(&self, method: &str, params: &str) -> (u64, oneshot::Receiver<Result<Value, String>>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(id, sender);
        self.write(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#
        ));
        (id, receiver)
    }

    /// Abandons a question; false if its answer has already arrived.
    pub(super) fn forget(&self, id: u64) -> bool {
        self.waiting().remove(&id).is_some()
    }

    /// Sends a notification to the other side.
    pub(super) fn notify(&self, method: &str, params: &Value) {
        self.write(json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
    }

    /// Waits until every message so far has been written.
    pub(super) async fn flush(&self) {
        let (sender, flushed) = oneshot::channel();
        if self.output.send(Output::Flushed(sender)).is_ok() {
            // If the writer has ended, the other side no longer reads.
            let _ = flushed.await;
        }
    }

    fn write(&self, line: String) {
        // An error means the same as in `flush`; the end of input follows, and ends everything.
        let _ = self.output.send(Output::Line(line));
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Value, String>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_lines(&self, requests: &mpsc::UnboundedSender<Incoming>) {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if line.trim().is_empty() {
                continue;
            }
            match serde_json::from_str::<Value>(&line) {
                Ok(message) => {
                    if let Some(request) = self.sort(message)
                        && requests.send(request).is_err()
                    {
                        return;
                    }
                }
                Err(error) => {
                    let error = RpcError {
                        code: -32700,
                        message: format!("not JSON: {error}"),
                    };
                    self.answer(&Value::Null, Err(error));
                }
            }
        }
    }

    /// Returns requests, and delivers answers to their questions.
    fn sort(&self, mut message: Value) -> Option<Incoming> {
        let id = message.get("id").cloned();
        if let Some(method) = message.get("method").and_then(Value::as_str) {
            let method = method.to_owned();
            let params = message
                .get_mut("params")
                .map(Value::take)
                .unwrap_or_else(|| json!({}));
            return Some(Incoming { id, method, params });
        }
        let sender = id
            .as_ref()
            .and_then(Value::as_u64)
            .and_then(|id| self.waiting().remove(&id));
        let Some(sender) = sender else {
            tracing::debug!(
                ?id,
                "an answer to an unknown question, which may have been abandoned"
            );
            return None;
        };
        let answer = match message.get("error") {
            Some(error) => Err(error.to_string()),
            None => message
                .get_mut("result")
                .map(Value::take)
                .ok_or_else(|| "the answer has neither `result` nor `error`".into()),
        };
        // The task that asked may have ended.
        let _ = sender.send(answer);
        None
    }
}

fn write_lines(lines: &lines::Receiver<Output>) {
    let mut stdout = std::io::stdout().lock();
    for output in lines {
        match output {
            Output::Line(mut line) => {
                line.push('\n');
                if stdout
                    .write_all(line.as_bytes())
                    .and_then(|()| stdout.flush())
                    .is_err()
                {
                    return;
                }
            }
            Output::Flushed(sender) => drop(sender.send(())),
        }
    }
}
