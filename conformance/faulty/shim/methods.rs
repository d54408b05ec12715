//! The methods of the harness protocol.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::faults::{Variant, unusual};
use crate::keeper::Nursery;
use crate::oneshot;
use crate::rpc::{Call, Outcome, Rpc};
use crate::session::{Session, lock};
use crate::spawn::{self, Process};

/// The server with everything that it knows.
pub struct Server {
    /// The harness.
    pub rpc: Rpc,
    /// Where escalated trees come from.
    pub nursery: Nursery,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    processes: Mutex<HashMap<(String, i64), Arc<Process>>>,
}

/// The key of processes that belong to no session.
const UNRELATED: &str = "";

/// Serves until `shutdown` or the end of standard input.
pub fn serve(nursery: Nursery) -> io::Result<()> {
    let server = Arc::new(Server {
        rpc: Rpc::default(),
        nursery,
        sessions: Mutex::default(),
        processes: Mutex::default(),
    });
    let mut shutdown = None;
    server.rpc.read_all(|call| {
        if call.method == "shutdown" {
            shutdown = Some(call.id);
            return false;
        }
        // What waits has a thread of its own; the rest is quick, and in order.
        if matches!(call.method.as_str(), "session/wait" | "process/wait" | "exec") {
            let server = server.clone();
            std::thread::spawn(move || server.rpc.reply(&call.id, server.call(&call)));
        } else {
            server.rpc.reply(&call.id, server.call(&call));
        }
        true
    })?;
    for (_, session) in lock(&server.sessions).drain() {
        session.close();
    }
    if let Some(id) = shutdown {
        // Not `reply`, which may leave it to another thread.
        server
            .rpc
            .write(&json!({"jsonrpc": "2.0", "id": id, "result": {}}));
    }
    Ok(())
}

fn invalid(what: impl std::fmt::Display) -> (i64, String) {
    (-32602, what.to_string())
}

fn failed(error: impl std::fmt::Display) -> (i64, String) {
    (-32000, error.to_string())
}

impl Server {
    fn call(self: &Arc<Server>, call: &Call) -> Outcome {
        let params = &call.params;
        match call.method.as_str() {
            "initialize" => Ok(initialize()),
            "session/start" => self.start(params),
            "session/spawn" => self.spawn(params),
            "session/wait" => self.wait(text(params, "session")?, params),
            "session/cancel" => {
                self.session(params)?.close();
                Ok(json!({}))
            }
            "session/close" => self.close(params),
            "exec" => {
                let wanted = oneshot::Wanted::read(params).map_err(invalid)?;
                oneshot::run(self, &wanted).map_err(failed)
            }
            "process/spawn" => self.spawn_unrelated(params),
            "process/wait" => self.wait(UNRELATED, params),
            method => Err((-32601, format!("no method {method}"))),
        }
    }

    fn session(&self, params: &Value) -> Result<Arc<Session>, (i64, String)> {
        let name = text(params, "session")?;
        let sessions = lock(&self.sessions);
        sessions
            .get(name)
            .cloned()
            .ok_or_else(|| invalid(format_args!("no session {name}")))
    }

    fn start(self: &Arc<Server>, params: &Value) -> Outcome {
        let name = text(params, "session")?;
        let wrapper = text(params, "wrapper")?;
        let session = Session::start(self, name, wrapper).map_err(failed)?;
        let overlay: serde_json::Map<String, Value> = session
            .overlay()
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        lock(&self.sessions).insert(name.to_owned(), session);
        Ok(json!({ "env": overlay }))
    }

    fn spawn(&self, params: &Value) -> Outcome {
        let session = self.session(params)?;
        let client = session
            .take_client()
            .ok_or_else(|| failed("this session's socket has been given away already"))?;
        let command = spawn::Command::read(params).map_err(invalid)?;
        let process = command.with_variables(session.overlay()).spawn(Some(client));
        self.remember(&session.name, process)
    }

    fn spawn_unrelated(&self, params: &Value) -> Outcome {
        let command = spawn::Command::read(params).map_err(invalid)?;
        self.remember(UNRELATED, command.spawn(None))
    }

    fn remember(&self, session: &str, process: io::Result<Process>) -> Outcome {
        let process = process.map_err(failed)?;
        let pid = process.pid;
        lock(&self.processes).insert((session.to_owned(), pid), Arc::new(process));
        Ok(json!({ "pid": pid }))
    }

    fn wait(&self, session: &str, params: &Value) -> Outcome {
        let pid = params["pid"].as_i64().ok_or_else(|| invalid("no pid"))?;
        let process = lock(&self.processes).get(&(session.to_owned(), pid)).cloned();
        let process = process.ok_or_else(|| invalid(format_args!("no process {pid}")))?;
        let (exit_code, signal) = process.wait();
        Ok(json!({ "exit_code": exit_code, "signal": signal }))
    }

    fn close(&self, params: &Value) -> Outcome {
        let session = self.session(params)?;
        lock(&self.sessions).remove(&session.name);
        session.close();
        Ok(json!({}))
    }
}

fn initialize() -> Value {
    let mut capabilities = vec!["session", "cancel", "exec", "unrelated"];
    if !unusual(Variant::Plain) {
        capabilities.extend(["signals", "bytes", "umask", "stopped"]);
    }
    json!({
        "protocol": 1,
        "implementation": {"name": "faulty-shim", "version": env!("CARGO_PKG_VERSION")},
        "capabilities": capabilities,
    })
}

/// A member that must be a text.
pub fn text<'a>(params: &'a Value, name: &str) -> Result<&'a str, (i64, String)> {
    params[name]
        .as_str()
        .ok_or_else(|| invalid(format_args!("no {name}, a text")))
}
