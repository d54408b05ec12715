//! The methods of the harness protocol.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::events::lock;
use crate::faults::{Fault, Variant, broken, unusual};
use crate::keeper::Nursery;
use crate::oneshot;
use crate::rpc::{self, Call, Outcome, failed, invalid, text};
use crate::server::Server;
use crate::session::Session;
use crate::spawn::{self, Process};
use crate::terminal_methods;
use crate::tools;
use crate::worker;

/// The key of processes that belong to no session.
const UNRELATED: &str = "";

/// How long a thread of a fault puts off what it has to do: longer than any shutdown that was asked for at once.
const UNDONE: std::time::Duration = std::time::Duration::from_secs(60);

/// Serves until `shutdown` or the end of standard input.
pub fn serve(nursery: Nursery) -> io::Result<()> {
    let server = Arc::new(Server::new(nursery));
    let mut shutdown = None;
    let serve = |call: Call| {
        if call.method == "shutdown" {
            shutdown = Some(call.id);
            return false;
        }
        let waits = waits(&call.method);
        let begun = begin(&server, call);
        if waits {
            std::thread::spawn(begun);
        } else {
            begun();
        }
        true
    };
    rpc::read_all(serve, |answer| server.policy.take_answer(answer))?;
    if broken(Fault::TreesSurviveShutdown) || broken(Fault::ClosingLeftUndone) {
        worker::release_trees();
    }
    for (_, session) in lock(&server.sessions).drain() {
        session.close();
        session.wait_with(Fault::ShutdownWaitsForTheTraced);
    }
    if broken(Fault::CancellingLeftUndone) {
        worker::release_trees();
    }
    server.terminals.close();
    if let Some(id) = shutdown {
        // Not `reply`, which may leave the writing to another thread.
        rpc::write(&json!({"jsonrpc": "2.0", "id": id, "result": {}}));
        rpc::flush();
    }
    Ok(())
}

/// What is left of a call once it has its terminal, which a later call may close.
fn begin(server: &Arc<Server>, call: Call) -> Box<dyn FnOnce() + Send> {
    let server = server.clone();
    let act = match call.method.as_str() {
        "terminal/read" => terminal_methods::read,
        "terminal/write" => terminal_methods::write,
        "exec" => return Box::new(move || rpc::reply_in_text(&call.id, server.one_shot(&call.params))),
        _ => return Box::new(move || rpc::reply(&call.id, server.call(&call))),
    };
    let terminal = server.used_terminal(&call.params);
    Box::new(move || {
        let outcome = terminal.and_then(|terminal| act(&terminal, &call.params));
        rpc::reply(&call.id, outcome);
    })
}

/// Whether a method waits or has nothing to do with sessions, and so gets a thread of its own; the others are quick and run
/// in order.
fn waits(method: &str) -> bool {
    match method {
        "session/wait" | "process/spawn" | "process/wait" | "exec" => true,
        "terminal/read" => !broken(Fault::ReadsBlockOthers),
        "terminal/write" => !broken(Fault::UnreadInputBlocks),
        _ => false,
    }
}

impl Server {
    /// The result is JSON text, since a `Value` has no place for bytes that are not UTF-8.
    fn one_shot(&self, params: &Value) -> Result<String, (i64, String)> {
        let wanted = oneshot::Wanted::read(params).map_err(invalid)?;
        oneshot::run(self, &wanted).map_err(failed)
    }

    fn call(&self, call: &Call) -> Outcome {
        let params = &call.params;
        match call.method.as_str() {
            "initialize" => Ok(initialize()),
            "session/start" => self.start(params),
            "session/spawn" => self.spawn(params),
            "session/wait" => self.wait(text(params, "session")?, params),
            "session/cancel" => {
                if !self.terminals.cancel(text(params, "session")?) {
                    self.cancel(params)?;
                }
                Ok(json!({}))
            }
            "session/close" => self.close(params),
            "tools/select" => tools::select(params),
            "process/spawn" => self.spawn_unrelated(params),
            "process/wait" => self.wait(UNRELATED, params),
            method => match method.strip_prefix("terminal/") {
                Some(method) => self.call_terminal(method, params),
                None => Err((-32601, format!("no method {method}"))),
            },
        }
    }

    fn cancel(&self, params: &Value) -> Result<(), (i64, String)> {
        let session = self.session(params)?;
        if broken(Fault::CancellingLeftUndone) {
            lock(&self.sessions).retain(|_, other| !Arc::ptr_eq(other, &session));
            // The process ends before the thread gets to it.
            std::thread::spawn(move || {
                std::thread::sleep(UNDONE);
                session.cancel();
            });
        } else {
            session.cancel();
        }
        Ok(())
    }

    fn session(&self, params: &Value) -> Result<Arc<Session>, (i64, String)> {
        let name = text(params, "session")?;
        let sessions = lock(&self.sessions);
        sessions
            .get(name)
            .cloned()
            .ok_or_else(|| invalid(format_args!("no session {name}")))
    }

    fn start(&self, params: &Value) -> Outcome {
        let name = text(params, "session")?;
        let wrapper = text(params, "wrapper")?;
        let shell = text(params, "shell")?;
        look_at_paths(shell, wrapper).map_err(failed)?;
        *lock(&self.policy.latest) = name.to_owned();
        let session = self.open(name, wrapper, false).map_err(failed)?;
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
        let inherited = self.inherited_too(&session);
        let client = session
            .take_client()
            .ok_or_else(|| failed("this session's socket has been given away already"))?;
        let command = spawn::Command::read(params).map_err(invalid)?;
        let process = command
            .with_variables(session.overlay())
            .inheriting(inherited)
            .spawn(Some(client));
        self.remember(&session.name, process)
    }

    /// Descriptors that faults let the session's shell inherit.
    fn inherited_too(&self, session: &Session) -> Vec<RawFd> {
        let sessions = lock(&self.sessions);
        let mut numbers = Vec::new();
        if broken(Fault::ServerEndInherited) {
            numbers.push(session.server_end());
        }
        if broken(Fault::AllClientsInherited) {
            numbers.extend(sessions.values().filter_map(|other| other.client_number()));
        }
        if broken(Fault::StreamsInherited) {
            numbers.extend(sessions.values().flat_map(|other| other.stream_numbers()));
        }
        numbers
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
        if broken(Fault::ClosingClosesAll) {
            lock(&self.sessions).values().for_each(|other| other.close());
        }
        while broken(Fault::CloseWaitsForPolicy) && self.policy.is_asking(&session.name) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        if broken(Fault::ClosingLeftUndone) {
            // The process ends before the thread gets to it, and the keepers of its trees are then told to go.
            std::thread::spawn(move || {
                std::thread::sleep(UNDONE);
                session.close();
            });
            return Ok(json!({}));
        }
        session.close();
        session.wait_with(Fault::ClosingWaitsForTheTraced);
        Ok(json!({}))
    }
}

/// What faults do with the paths of a session: a right start looks at neither.
fn look_at_paths(shell: &str, wrapper: &str) -> io::Result<()> {
    if broken(Fault::ShellMustExist) {
        std::fs::metadata(shell)?;
    }
    if broken(Fault::WrapperMustExist) {
        std::fs::metadata(wrapper)?;
    }
    if broken(Fault::ShellOpened) {
        use std::os::unix::fs::OpenOptionsExt;
        // Non-blocking, because opening a fifo could take forever.
        let _ = std::fs::File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(shell);
    }
    if broken(Fault::WrapperTried) {
        let _ = std::process::Command::new(wrapper).arg("--version").output();
    }
    Ok(())
}

fn initialize() -> Value {
    let mut capabilities = vec!["session", "cancel", "exec", "unrelated"];
    if !unusual(Variant::Plain) {
        capabilities.extend([
            "signals",
            "bytes",
            "umask",
            "stopped",
            "group",
            "inherited",
            "terminals",
            "approvals",
            "tools",
        ]);
    }
    json!({
        "protocol": 1,
        "implementation": {"name": "faulty-shim", "version": env!("CARGO_PKG_VERSION")},
        "capabilities": capabilities,
    })
}
