//! JSON-RPC over standard input and output, in both directions.

use std::io::{self, BufRead, Write};

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
    let message = match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err((code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    };
    chat(format_args!("answering {message}"));
    if unusual(Variant::OutOfOrder) {
        // A later answer may overtake this one.
        let pause = id.as_u64().unwrap_or_default() * 7 % 4 * 10;
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(pause));
            let _ = write_line(&message.to_string());
        });
        return;
    }
    write(&message);
}

/// Writes a message now.
pub fn write(message: &Value) {
    // If the suite is gone, the reader of standard input will notice.
    let _ = write_line(&message.to_string());
}

/// Writes a line now.
pub fn write_line(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.write_all(b"\n")?;
    output.flush()
}
