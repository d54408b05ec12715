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
mod tools;
mod workplace;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use nix::sys::signal::Signal;
use rmcp::ServiceExt;
use rmcp::transport::io::stdio_pipes;
use shell_escalation::{LocalExecutor, StandardStreams};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::host::HostOptions;
use super::run::{die_by, seconds};
use approver::ElicitingApprover;
use link::Link;
use server::McpServer;
use workplace::Workplace;

/// A one-shot command that writes more to one of its streams is killed.
const MOST_OUTPUT: usize = 64 * 1024 * 1024;

/// Serves a client until it closes standard input.
#[derive(Args)]
pub(super) struct Mcp {
    #[command(flatten)]
    host: HostOptions,
    /// Time spent waiting for approval that a tool's timeout does not count, in all
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "600")]
    approval_time: Duration,
}

impl Mcp {
    pub(super) async fn serve(self, inherited_open_files: Option<(u64, u64)>) -> anyhow::Result<ExitCode> {
        let workspace = std::env::current_dir().context("cannot determine the current directory")?;
        let executor = LocalExecutor::new(StandardStreams::Captured).output_limit(Some(MOST_OUTPUT));
        let link = Arc::new(Link::default());
        let host = self
            .host
            .host(executor, &workspace, inherited_open_files, |env| {
                ElicitingApprover::new(env, Arc::clone(&link))
            })?;
        let workplace = Arc::new(Workplace {
            host,
            workspace,
            login: !self.host.no_login,
            approval_time: self.approval_time,
            link,
            ending: CancellationToken::new(),
            calls: TaskTracker::new(),
        });

        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let told = {
            let serving = serve(&workplace);
            tokio::pin!(serving);
            let told = tokio::select! {
                served = &mut serving => {
                    served?;
                    None
                }
                _ = terminate.recv() => Some(Signal::SIGTERM),
                _ = hang_up.recv() => Some(Signal::SIGHUP),
                _ = interrupt.recv() => Some(Signal::SIGINT),
            };
            workplace.end().await;
            told
        };
        // A signal may be what ends this process, and the sandbox has files to remove.
        drop(workplace);
        match told {
            Some(signal) => die_by(signal),
            None => Ok(ExitCode::SUCCESS),
        }
    }
}

/// Serves the client on standard input and output until it closes the former.
async fn serve(workplace: &Arc<Workplace>) -> anyhow::Result<()> {
    let (input, output) = stdio_pipes();
    let input = link::Input::new(input, workplace.ending.clone());
    let service = McpServer::new(Arc::clone(workplace));
    let running = match service.serve((input, output)).await {
        Ok(running) => running,
        // It never said anything.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(error).context("the client did not initialize the protocol"),
    };
    running.waiting().await.context("the protocol's task failed")?;
    Ok(())
}
