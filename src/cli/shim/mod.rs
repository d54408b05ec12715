//! The harness protocol: a conformance suite controls the server by JSON-RPC on standard input and output.

mod policy;
mod process;
mod rpc;
mod sandbox;
mod terminals;

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use shell_escalation::terminal::ShellBackend;
use shell_escalation::{
    EscalateServer, EscalationSession, ExecParams, Limits, LocalExecutor, StandardStreams, encode_json_text,
};
use tokio_util::sync::CancellationToken;

use policy::SuitePolicy;
use process::{Processes, SpawnParams, environment};
use rpc::{Peer, RpcError};
use sandbox::{Confined, Sandbox, SandboxOptions};
use terminals::{OpenParams, ShimTerminals};

const CAPABILITIES: [&str; 13] = [
    "session",
    "cancel",
    "exec",
    "unrelated",
    "signals",
    "bytes",
    "umask",
    "stopped",
    "group",
    "inherited",
    "terminals",
    "approvals",
    "tools",
];

/// Serves a conformance suite.
#[derive(Args)]
pub(super) struct Shim {
    #[command(flatten)]
    sandbox: SandboxOptions,
}

impl Shim {
    /// Serves until `shutdown` or the end of standard input.
    pub(super) async fn serve(self, inherited_open_files: Option<(u64, u64)>) -> anyhow::Result<ExitCode> {
        serve(self.sandbox.sandbox()?, inherited_open_files).await
    }
}

async fn serve(sandbox: Sandbox, inherited_open_files: Option<(u64, u64)>) -> anyhow::Result<ExitCode> {
    let (peer, mut requests) = Peer::start();
    let shim = Arc::new(State {
        peer: Arc::clone(&peer),
        sessions: Mutex::default(),
        closed: Mutex::default(),
        unrelated: Processes::default(),
        terminals: ShimTerminals::new(inherited_open_files),
        inherited_open_files,
        sandbox,
    });
    let mut shutdown = None;
    while let Some(request) = requests.recv().await {
        if request.method == "shutdown" {
            shutdown = Some(request.id);
            break;
        }
        let shim = Arc::clone(&shim);
        tokio::spawn(async move {
            let answer = shim.answer(&request.method, request.params).await;
            if let Some(id) = request.id {
                shim.peer.answer(&id, answer);
            }
        });
    }
    shim.end().await;
    if let Some(Some(id)) = shutdown {
        peer.answer(&id, Ok(json!({}).to_string()));
    }
    peer.flush().await;
    Ok(ExitCode::SUCCESS)
}

/// How many closed sessions are remembered, since the suite may still ask about their processes.
const CLOSED_SESSIONS: usize = 64;

/// The state that all requests share.
struct State {
    peer: Arc<Peer>,
    sessions: Mutex<HashMap<String, Session>>,
    /// The closed ones among them, oldest first.
    closed: Mutex<VecDeque<String>>,
    unrelated: Processes,
    terminals: ShimTerminals,
    inherited_open_files: Option<(u64, u64)>,
    sandbox: Sandbox,
}

/// A session under the name that the suite gave it. Its processes can still be waited for after it is closed.
struct Session {
    cancel: CancellationToken,
    /// `None` once closed, and for one-shot commands, whose session belongs to the library.
    open: Option<Arc<EscalationSession>>,
    processes: Arc<Processes>,
    /// Of the processes that were started below a sandbox.
    confined: Vec<Confined>,
}

#[derive(Deserialize)]
struct Named {
    session: String,
}

#[derive(Deserialize)]
struct StartParams {
    session: String,
    shell: PathBuf,
    wrapper: PathBuf,
}

#[derive(Deserialize)]
struct WaitParams {
    session: String,
    pid: u32,
}

#[derive(Deserialize)]
struct UnrelatedWaitParams {
    pid: u32,
}

#[derive(Deserialize)]
struct ShellParams {
    session: String,
    shell: PathBuf,
    wrapper: PathBuf,
    command: String,
    workdir: PathBuf,
    env: HashMap<String, String>,
    #[serde(default = "by_default")]
    login: bool,
    timeout_ms: Option<u64>,
    output_limit: Option<usize>,
}

fn by_default() -> bool {
    true
}

impl State {
    /// The result of a request, as JSON text.
    async fn answer(&self, method: &str, params: Value) -> Result<String, RpcError> {
        match method {
            "exec" => self.exec(rpc::params(params)?).await,
            _ => Ok(self.handle(method, params).await?.to_string()),
        }
    }

    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        match method {
            "initialize" => Ok(json!({
                "protocol": 1,
                "implementation": {"name": "shell-escalation", "version": env!("CARGO_PKG_VERSION")},
                "capabilities": CAPABILITIES,
            })),
            "session/start" => self.start(rpc::params(params)?),
            "session/spawn" => self.spawn(params).await,
            "session/wait" => {
                let WaitParams { session, pid } = rpc::params(params)?;
                let processes = self.with_session(&session, |session| Arc::clone(&session.processes))?;
                processes.wait(pid).await
            }
            "session/cancel" => {
                let Named { session } = rpc::params(params)?;
                self.with_session(&session, |session| session.cancel.cancel())?;
                Ok(json!({}))
            }
            "session/close" => {
                let Named { session } = rpc::params(params)?;
                let open = self.with_session(&session, |session| session.open.take())?;
                drop(open.ok_or_else(|| RpcError::invalid(format!("session `{session}` is not open")))?);
                self.closed(session);
                Ok(json!({}))
            }
            "process/spawn" => {
                let params: SpawnParams = rpc::params(params)?;
                let mut command = params.command()?;
                process::limit_open_files(&mut command, self.inherited_open_files);
                self.unrelated.spawn(command).await
            }
            "process/wait" => {
                let UnrelatedWaitParams { pid } = rpc::params(params)?;
                self.unrelated.wait(pid).await
            }
            "terminal/open" => self.open_terminal(rpc::params(params)?).await,
            "tools/select" => terminals::select(params),
            other => {
                let answer = self.terminals.handle(other, params).await;
                self.forget_terminals();
                answer
            }
        }
    }

    /// Opens a terminal, whose session is another each time and asks under the suite's name for it.
    async fn open_terminal(&self, params: OpenParams) -> Result<Value, RpcError> {
        let backend = match (params.shell.clone(), params.wrapper.clone()) {
            (Some(shell), Some(wrapper)) => {
                let server =
                    self.sandboxed_server(&params.session, shell, wrapper, None, params.workdir())?;
                ShellBackend::Wrapped(Arc::new(server))
            }
            _ => ShellBackend::Direct,
        };
        let parent = CancellationToken::new();
        let session = Session {
            cancel: parent.clone(),
            open: None,
            processes: Arc::default(),
            confined: Vec::new(),
        };
        let id = params.session.clone();
        self.register(&id, session)?;
        let opened = self.terminals.open(params, backend, &parent).await;
        self.forget_terminals();
        if opened.is_err() {
            self.closed(id);
        }
        opened
    }

    /// Marks the sessions of terminals that are no longer there as closed.
    fn forget_terminals(&self) {
        for session in self.terminals.forget_ended() {
            self.closed(session);
        }
    }

    fn with_session<T>(&self, id: &str, act: impl FnOnce(&mut Session) -> T) -> Result<T, RpcError> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(id);
        session
            .map(act)
            .ok_or_else(|| RpcError::invalid(format!("unknown session `{id}`")))
    }

    fn server(
        &self,
        session: &str,
        shell: PathBuf,
        wrapper: PathBuf,
        output_limit: Option<usize>,
    ) -> EscalateServer {
        let policy = SuitePolicy::new(session, Arc::clone(&self.peer));
        let mut limits = Limits::default();
        limits.child_open_files = self.inherited_open_files;
        EscalateServer::new(shell, wrapper, policy)
            .with_limits(limits)
            .with_executor(self.executor(output_limit))
    }

    fn executor(&self, output_limit: Option<usize>) -> LocalExecutor {
        LocalExecutor::new(StandardStreams::Captured)
            .open_files(self.inherited_open_files)
            .output_limit(output_limit)
    }

    /// A server that starts its shells itself, and confines them.
    fn sandboxed_server(
        &self,
        session: &str,
        shell: PathBuf,
        wrapper: PathBuf,
        output_limit: Option<usize>,
        workspace: &Path,
    ) -> Result<EscalateServer, RpcError> {
        let server = self.server(session, shell, wrapper, output_limit);
        if !self.sandbox.confines() {
            return Ok(server);
        }
        let executor = self.sandbox.around(self.executor(output_limit), workspace);
        Ok(server.with_executor(executor.map_err(RpcError::failed)?))
    }

    fn register(&self, id: &str, session: Session) -> Result<(), RpcError> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.get(id).is_some_and(|session| session.open.is_some()) {
            return Err(RpcError::invalid(format!("session `{id}` already exists")));
        }
        sessions.insert(id.to_owned(), session);
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.retain(|other| other != id);
        Ok(())
    }

    /// Marks a session as closed, and forgets the oldest closed ones, except those with a process that still runs.
    fn closed(&self, id: String) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.push_back(id);
        for _ in CLOSED_SESSIONS..closed.len() {
            let Some(oldest) = closed.pop_front() else { return };
            if sessions
                .get(&oldest)
                .is_some_and(|session| session.processes.run())
            {
                closed.push_back(oldest);
            } else {
                sessions.remove(&oldest);
            }
        }
    }

    fn start(&self, params: StartParams) -> Result<Value, RpcError> {
        let cancel = CancellationToken::new();
        let server = self.server(&params.session, params.shell, params.wrapper, None);
        let session = server.start_session(&cancel).map_err(RpcError::failed)?;
        let env = session.env().clone();
        let session = Session {
            cancel,
            open: Some(Arc::new(session)),
            processes: Arc::default(),
            confined: Vec::new(),
        };
        self.register(&params.session, session)?;
        Ok(json!({ "env": env }))
    }

    async fn spawn(&self, params: Value) -> Result<Value, RpcError> {
        let Named { session: id } = rpc::params(params.clone())?;
        let params: SpawnParams = rpc::params(params)?;
        let (session, processes) = self.with_session(&id, |session| {
            (session.open.clone(), Arc::clone(&session.processes))
        })?;
        let session = session.ok_or_else(|| RpcError::invalid(format!("session `{id}` is not open")))?;
        let mut command = if self.sandbox.confines() {
            let (command, confined) = params.confined_command(&session, &self.sandbox)?;
            self.with_session(&id, |session| session.confined.push(confined))?;
            command
        } else {
            params.command()?
        };
        session.attach(&mut command).map_err(RpcError::failed)?;
        process::limit_open_files(&mut command, self.inherited_open_files);
        let spawned = processes.spawn(command).await;
        session.close_client_socket();
        spawned
    }

    /// The result is written by hand: bytes of the output that are not UTF-8 appear as lone surrogates.
    async fn exec(&self, params: ShellParams) -> Result<String, RpcError> {
        let cancel = CancellationToken::new();
        let server = self.sandboxed_server(
            &params.session,
            params.shell,
            params.wrapper,
            params.output_limit,
            &params.workdir,
        )?;
        let session = Session {
            cancel: cancel.clone(),
            open: None,
            processes: Arc::default(),
            confined: Vec::new(),
        };
        let id = params.session;
        self.register(&id, session)?;
        let mut exec = ExecParams::new(params.command, params.workdir);
        exec.env = environment(params.env).collect();
        exec.login = params.login;
        exec.timeout = params.timeout_ms.map(Duration::from_millis);
        let result = server.exec(exec, &cancel).await;
        self.closed(id);
        let result = result.map_err(RpcError::failed)?;
        Ok(format!(
            r#"{{"exit_code":{},"stdout":{},"stderr":{},"timed_out":{}}}"#,
            json!(result.exit_code),
            encode_json_text(OsStr::from_bytes(&result.stdout)),
            encode_json_text(OsStr::from_bytes(&result.stderr)),
            result.timed_out,
        ))
    }

    /// Ends all sessions and all processes that were started for the suite.
    async fn end(&self) {
        let sessions = std::mem::take(&mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner));
        for session in sessions.values() {
            session.cancel.cancel();
        }
        for session in sessions.into_values() {
            session.processes.end().await;
            if let Some(Ok(open)) = session.open.map(Arc::try_unwrap) {
                open.close().await;
            }
        }
        self.terminals.end().await;
        self.unrelated.end().await;
    }
}
