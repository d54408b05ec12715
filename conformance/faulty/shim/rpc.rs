//! JSON-RPC over standard input and output, in both directions.

use std::io::{self, BufRead, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};

use crate::faults::{Variant, chat, unusual};

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

/// Reads until the end of standard input, or until `serve`, which gets the calls, returns false. Answers to
/// questions go to `take_answer`.
pub fn read_all(mut serve: impl FnMut(Call) -> bool, take_answer: impl Fn(&Value)) -> io::Result<()> {
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
            None => take_answer(&message),
        }
    }
    Ok(())
}

/// Answers a call.
pub fn reply(id: &Value, outcome: Outcome) {
    reply_in_text(id, outcome.map(|result| result.to_string()));
}

/// Answers a call by a result that is JSON text.
pub fn reply_in_text(id: &Value, outcome: Result<String, (i64, String)>) {
    let message = match outcome {
        Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}).to_string()
        }
    };
    chat(format_args!("answering {message}"));
    if unusual(Variant::OutOfOrder) {
        // A later answer may overtake this one.
        let pause = id.as_u64().unwrap_or_default() * 7 % 4 * 10;
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(pause));
            let _ = write_line(&message);
        });
        return;
    }
    // If the suite is gone, the reader of standard input will notice.
    let _ = write_line(&message);
}

/// Writes a message.
pub fn write(message: &Value) {
    // If the suite is gone, the reader of standard input will notice.
    let _ = write_line(&message.to_string());
}

/// Writes a line, on a thread of its own: the suite may read none while it waits for us to read its own.
pub fn write_line(text: &str) -> io::Result<()> {
    send(format!("{text}\n").into_bytes()).map(drop)
}

/// Waits until all lines are written.
pub fn flush() {
    if let Ok(written) = send(Vec::new()) {
        // An error means that the suite is gone.
        let _ = written.recv();
    }
}

/// Bytes to write, and what is told when that is done.
type Line = (Vec<u8>, Sender<()>);

fn send(bytes: Vec<u8>) -> io::Result<Receiver<()>> {
    static LINES: OnceLock<Sender<Line>> = OnceLock::new();
    let lines = LINES.get_or_init(|| {
        let (sender, lines) = channel();
        std::thread::spawn(move || write_all(&lines));
        sender
    });
    let (done, written) = channel();
    let sent = lines.send((bytes, done));
    sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
    Ok(written)
}

fn write_all(lines: &Receiver<Line>) {
    let mut output = io::stdout().lock();
    for (bytes, done) in lines {
        if output.write_all(&bytes).and_then(|()| output.flush()).is_err() {
            return;
        }
        // Who does not wait for it has dropped the other end.
        let _ = done.send(());
    }
}

/// Params that can't be served.
pub fn invalid(what: impl std::fmt::Display) -> (i64, String) {
    (-32602, what.to_string())
}

/// What could not be done.
pub fn failed(error: impl std::fmt::Display) -> (i64, String) {
    (-32000, error.to_string())
}

/// A member that must be a string.
pub fn text<'a>(params: &'a Value, name: &str) -> Result<&'a str, (i64, String)> {
    params[name]
        .as_str()
        .ok_or_else(|| invalid(format_args!("no {name}, a string")))
}
