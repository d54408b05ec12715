//! `mcp`: a Model Context Protocol server on standard input and output, whose tools execute commands.
//!
//! Everything that a client or its model says is a request: none of it selects policy, sandbox, shell or wrapper. What tools
//! return is the text of programs, unescaped and bounded.

mod approver;
mod arguments;
mod call;
mod link;
mod one_shot;
mod output;
mod server;
mod session_calls;
mod session_results;
mod sessions;
mod tools;
mod workplace;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use nix::sys::signal::Signal;
use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;
use shell_escalation::terminal::{Config, Environment, ShellBackend, Terminals, ToolsConfig};
use shell_escalation::{LocalExecutor, StandardStreams};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::host::{Host, HostOptions};
use super::run::{die_by, seconds};
use approver::ElicitingApprover;
use link::Link;
use server::McpServer;
use sessions::Sessions;
use workplace::Workplace;

/// Bytes of each stream of a one-shot command that are kept, of more the first and the last half.
const MOST_OUTPUT: usize = 1024 * 1024;

/// How long a program on a terminal has to write nothing to be seen as pausing.
const PAUSE: Duration = Duration::from_millis(100);

/// What the shells' environment has for programs that are read by a model: neither colors nor pagers.
const FOR_MODELS: [(&str, &str); 4] = [
    ("TERM", "dumb"),
    ("NO_COLOR", "1"),
    ("PAGER", "cat"),
    ("GIT_PAGER", "cat"),
];

/// How long a client that has closed its end may take to read the answers to its last calls.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why everything ends.
enum WhyEnding {
    /// The protocol's loop has ended.
    Served(anyhow::Result<()>),
    /// The client has closed standard output, or doesn't read it.
    Unread,
    Signal(Signal),
}

fn for_models(env: &mut Vec<(OsString, OsString)>) {
    env.retain(|(name, _)| FOR_MODELS.iter().all(|(other, _)| name != other));
    env.extend(FOR_MODELS.map(|(name, value)| (name.into(), value.into())));
}

/// Serves a client until it closes standard input.
#[derive(Args)]
pub(super) struct Mcp {
    #[command(flatten)]
    host: HostOptions,
    /// Which tools the model is shown
    #[arg(long, value_enum, value_name = "TOOLS", default_value_t)]
    tools: Tools,
    /// Time spent waiting for approval that a tool's timeout does not count, in all
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "600")]
    approval_time: Duration,
}

/// Which tools the model is shown.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Tools {
    /// Sessions that go on between calls: exec_command, write_stdin, control_session, list_sessions
    #[default]
    Terminals,
    /// One command from start to end: shell_command
    Shell,
}

impl Tools {
    /// The original's switches. Commands are always decided one by one: a server without that would not need a policy.
    fn switches(self) -> ToolsConfig {
        let terminals = matches!(self, Self::Terminals);
        ToolsConfig {
            shell_tool: true,
            unified_exec: terminals,
            wrapped_shell: true,
            unified_exec_wrapped_shell: terminals,
        }
    }
}

impl Mcp {
    pub(super) async fn serve(self, inherited_open_files: Option<(u64, u64)>) -> anyhow::Result<ExitCode> {
        let workspace = std::env::current_dir().context("cannot determine the current directory")?;
        let executor = LocalExecutor::new(StandardStreams::Captured).output_ends(MOST_OUTPUT);
        let link = Arc::new(Link::default());
        let Host {
            server,
            mut env,
            shell,
            confined,
            ..
        } = self
            .host
            .host(executor, &workspace, inherited_open_files, |mut env| {
                for_models(&mut env);
                ElicitingApprover::new(env, Arc::clone(&link))
            })?;
        for_models(&mut env);
        let server = Arc::new(server);
        let ending = CancellationToken::new();
        let selection = self.tools.switches().select(Environment::Configured);
        let sessions = matches!(self.tools, Tools::Terminals).then(|| {
            let mut config = Config::new(ShellBackend::Wrapped(Arc::clone(&server)));
            config.parent = ending.clone();
            config.pause = PAUSE;
            config.open_files = inherited_open_files;
            Sessions::new(Terminals::new(config))
        });
        let workplace = Arc::new(Workplace {
            server,
            env,
            shell,
            confined,
            workspace,
            login: !self.host.no_login,
            approval_time: self.approval_time,
            link,
            sessions,
            ending,
            calls: TaskTracker::new(),
        });

        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let unread = CancellationToken::new();
        let why = {
            let serving = serve(&workplace, &unread, selection.tools);
            tokio::pin!(serving);
            let why = tokio::select! {
                biased;
                served = &mut serving => Some(WhyEnding::Served(served)),
                () = workplace.ending.cancelled() => None,
                () = unread.cancelled() => Some(WhyEnding::Unread),
                _ = terminate.recv() => Some(WhyEnding::Signal(Signal::SIGTERM)),
                _ = hang_up.recv() => Some(WhyEnding::Signal(Signal::SIGHUP)),
                _ = interrupt.recv() => Some(WhyEnding::Signal(Signal::SIGINT)),
            };
            workplace.end().await;
            match why {
                Some(why) => why,
                // The client has closed standard input, and may still read.
                None => match timeout(FAREWELL, serving).await {
                    Ok(served) => WhyEnding::Served(served),
                    Err(_) => WhyEnding::Unread,
                },
            }
        };
        // A signal may be what ends this process, and the sandbox has files to remove.
        drop(workplace);
        match why {
            WhyEnding::Served(served) => served.map(|()| ExitCode::SUCCESS),
            WhyEnding::Unread => {
                bail!("the MCP client does not read the answers to its calls; all commands were ended")
            }
            WhyEnding::Signal(signal) => die_by(signal),
        }
    }
}

/// Serves the client on standard input and output until it closes the former. `unread` is cancelled when it has closed the latter.
async fn serve(workplace: &Arc<Workplace>, unread: &CancellationToken, tools: &[&str]) -> anyhow::Result<()> {
    let (input, output) = stdio_pipes();
    let input = link::Input::new(input, workplace.ending.clone());
    let output = link::Output::new(output, unread.clone());
    let service = McpServer::new(Arc::clone(workplace), tools);
    let running = match service.serve((input, output)).await {
        Ok(running) => running,
        // It never said anything.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(error).context("the client did not initialize the protocol"),
    };
    running.waiting().await.context("the protocol's task failed")?;
    Ok(())
}
