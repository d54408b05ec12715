//! Terminals, and the selection of tools.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use shell_escalation::terminal::{
    Backend, Config, End, Environment, Error, ExecRequest, ShellBackend, Size, Streams, TerminalId,
    Terminals, ToolsConfig,
};
use tokio_util::sync::CancellationToken;

use super::process::environment;
use super::rpc::{self, RpcError};

/// What the suite wants to have in a terminal.
#[derive(Deserialize)]
pub(super) struct OpenParams {
    pub(super) session: String,
    argv: Vec<String>,
    cwd: PathBuf,
    env: HashMap<String, String>,
    tty: Option<TtyParams>,
    pub(super) shell: Option<PathBuf>,
    pub(super) wrapper: Option<PathBuf>,
}

#[derive(Deserialize)]
struct TtyParams {
    rows: u16,
    columns: u16,
}

#[derive(Deserialize)]
struct Named {
    terminal: u64,
}

#[derive(Deserialize)]
struct WriteParams {
    terminal: u64,
    data: String,
}

#[derive(Deserialize)]
struct ReadParams {
    terminal: u64,
    wait_ms: u64,
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct ResizeParams {
    terminal: u64,
    rows: u16,
    columns: u16,
}

#[derive(Deserialize)]
struct SignalParams {
    terminal: u64,
    signal: i32,
}

#[derive(Deserialize)]
struct SelectParams {
    shell_tool: bool,
    wrapped_shell: bool,
    unified_exec: bool,
    composition: bool,
    environment: String,
}

impl OpenParams {
    pub(super) fn workdir(&self) -> &Path {
        &self.cwd
    }
}

/// The shim's terminals.
pub(super) struct ShimTerminals {
    terminals: Terminals,
    /// What the suite calls the session of each.
    sessions: Mutex<HashMap<TerminalId, String>>,
}

impl ShimTerminals {
    pub(super) fn new(open_files: Option<(u64, u64)>) -> Self {
        let mut config = Config::new(ShellBackend::Direct);
        config.open_files = open_files;
        Self {
            terminals: Terminals::new(config),
            sessions: Mutex::default(),
        }
    }

    /// Opens one that `parent` ends.
    pub(super) async fn open(
        &self,
        params: OpenParams,
        backend: ShellBackend,
        parent: &CancellationToken,
    ) -> Result<Value, RpcError> {
        let program = params
            .argv
            .first()
            .ok_or_else(|| RpcError::invalid("argv is empty"))?;
        let streams = params.tty.map_or(Streams::Pipes, |TtyParams { rows, columns }| {
            Streams::Terminal(Size { rows, columns })
        });
        let request = ExecRequest::new(program.clone(), params.argv, params.cwd)
            .with_env(environment(params.env).collect())
            .on(streams);
        let opened = self.terminals.open_with(request, &backend, parent).await;
        let id = opened.map_err(rpc_error)?;
        self.sessions().insert(id, params.session);
        let listed = self.terminals.list();
        let wrapped = listed
            .iter()
            .any(|listed| listed.id == id && listed.backend == Backend::Wrapped);
        Ok(json!({"terminal": id.number(), "wrapped": wrapped}))
    }

    pub(super) async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        match method {
            "terminal/write" => {
                let WriteParams { terminal, data } = rpc::params(params)?;
                let data = BASE64_STANDARD.decode(data).map_err(RpcError::invalid)?;
                let written = self.terminals.write(TerminalId::new(terminal), &data).await;
                written.map_err(rpc_error)?;
            }
            "terminal/read" => return self.read(rpc::params(params)?).await,
            "terminal/resize" => {
                let ResizeParams {
                    terminal,
                    rows,
                    columns,
                } = rpc::params(params)?;
                let resized = self
                    .terminals
                    .resize(TerminalId::new(terminal), Size { rows, columns });
                resized.map_err(rpc_error)?;
            }
            "terminal/signal" => {
                let SignalParams { terminal, signal } = rpc::params(params)?;
                let sent = self.terminals.signal_number(TerminalId::new(terminal), signal);
                sent.map_err(rpc_error)?;
            }
            "terminal/close" => {
                let Named { terminal } = rpc::params(params)?;
                let closed = self.terminals.close(TerminalId::new(terminal)).await;
                closed.map_err(rpc_error)?;
            }
            "terminal/list" => {
                let ids = self.terminals.list();
                let ids: Vec<u64> = ids.iter().map(|listed| listed.id.number()).collect();
                return Ok(json!({ "terminals": ids }));
            }
            other => return Err(RpcError::unknown_method(other)),
        }
        Ok(json!({}))
    }

    async fn read(&self, params: ReadParams) -> Result<Value, RpcError> {
        let limit = params.limit.unwrap_or(usize::MAX);
        let wait = Duration::from_millis(params.wait_ms);
        let output = self
            .terminals
            .read(TerminalId::new(params.terminal), wait, limit)
            .await;
        let output = output.map_err(rpc_error)?;
        let ended = output.end.map(|end| match end {
            End::Exited(code) => json!({"exit_code": code, "signal": null}),
            End::Killed(signal) => json!({"exit_code": null, "signal": signal}),
        });
        Ok(json!({
            "data": BASE64_STANDARD.encode(&output.bytes),
            "omitted": output.left_out,
            "head": if output.left_out > 0 { output.head } else { 0 },
            "ended": ended,
        }))
    }

    /// Forgets the terminals that are no longer there; what the suite called their sessions.
    pub(super) fn forget_ended(&self) -> Vec<String> {
        let listed = self.terminals.list();
        let gone = |id: &TerminalId| !listed.iter().any(|listed| listed.id == *id);
        let mut sessions = self.sessions();
        let gone = sessions.extract_if(|id, _| gone(id));
        gone.map(|(_, session)| session).collect()
    }

    pub(super) async fn end(&self) {
        self.terminals.end().await;
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<TerminalId, String>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Selects tools.
pub(super) fn select(params: Value) -> Result<Value, RpcError> {
    let params: SelectParams = rpc::params(params)?;
    let environment = match &*params.environment {
        "local" => Environment::Configured,
        "unconfigured" => Environment::Unconfigured,
        "remote" => Environment::Remote,
        other => return Err(RpcError::invalid(format!("unknown environment `{other}`"))),
    };
    let config = ToolsConfig {
        shell_tool: params.shell_tool,
        unified_exec: params.unified_exec,
        wrapped_shell: params.wrapped_shell,
        unified_exec_wrapped_shell: params.composition,
    };
    let selection = config.select(environment);
    let backend = match selection.backend {
        Some(Backend::Wrapped) => "wrapped",
        Some(Backend::Direct) | None => "direct",
    };
    Ok(json!({"tools": selection.tools, "backend": backend}))
}

fn rpc_error(error: Error) -> RpcError {
    match error {
        Error::Unknown(_) => RpcError::invalid(error),
        error => RpcError::failed(error),
    }
}
