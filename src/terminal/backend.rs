//! How a request is executed: as it is, or with an escalation session behind it.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::lifecycle::SpawnLifecycle;
use super::recognition::{Unrecognised, recognise};
use super::request::ExecRequest;
use crate::execution::ShellStart;
use crate::server::{EscalateServer, with_overlay};

/// What prepares requests.
#[derive(Clone, Debug, Default)]
pub enum ShellBackend {
    /// Executes everything as it is.
    #[default]
    Direct,
    /// Starts a session of this server for each script of its shell: `SHELL -c SCRIPT` or `SHELL -lc SCRIPT`, by itself or
    /// behind the arguments of a launcher, such as a sandbox. Everything else is executed without a session, which
    /// [`Prepared::why_direct`] and the log say.
    Wrapped(Arc<EscalateServer>),
}

/// With or without an escalation session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Nothing is decided about what the program executes.
    Direct,
    /// Each command of the shell is decided.
    Wrapped,
}

/// A request that is ready to be executed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Prepared {
    /// What to execute.
    pub request: ExecRequest,
    /// Whether there is a session.
    pub backend: Backend,
    /// Why there is none, if it was asked for.
    pub why_direct: Option<Unrecognised>,
    /// What has to live as long as the process.
    pub lifecycle: SpawnLifecycle,
}

impl ShellBackend {
    /// Prepares a request. With a server whose executor [confines](crate::ShellCommandExecutor::confine) shells, it is confined as
    /// they are, recognised or not. What belongs to the process ends when `parent` is cancelled.
    ///
    /// # Errors
    /// When no session can be started.
    pub fn prepare(&self, mut request: ExecRequest, parent: &CancellationToken) -> io::Result<Prepared> {
        let Self::Wrapped(server) = self else {
            return Ok(Prepared::direct(request, None));
        };
        if let Err(why) = recognise(server.shell(), &request) {
            tracing::info!(program = ?request.program, %why, "executed without a session");
            let request = confined(server, request, &SpawnLifecycle::none())?;
            return Ok(Prepared::direct(request, Some(why)));
        }
        let session = server.start_session(parent)?;
        request.env = with_overlay(request.env, session.env());
        let lifecycle = SpawnLifecycle::of_session(session);
        Ok(Prepared {
            request: confined(server, request, &lifecycle)?,
            backend: Backend::Wrapped,
            why_direct: None,
            lifecycle,
        })
    }
}

impl Prepared {
    fn direct(request: ExecRequest, why_direct: Option<Unrecognised>) -> Self {
        Self {
            request,
            backend: Backend::Direct,
            why_direct,
            lifecycle: SpawnLifecycle::none(),
        }
    }
}

/// The request within the sandbox of the server's shells, if there is one.
fn confined(
    server: &EscalateServer,
    request: ExecRequest,
    lifecycle: &SpawnLifecycle,
) -> io::Result<ExecRequest> {
    let ExecRequest {
        program,
        argv,
        workdir,
        env,
        streams,
    } = request;
    let inherited = lifecycle.inherited_descriptors();
    let inherited = inherited.iter().map(AsRawFd::as_raw_fd).collect();
    let confined = server.confine(ShellStart::new(program, argv, env, inherited))?;
    Ok(ExecRequest {
        program: confined.program,
        argv: confined.argv,
        workdir,
        env: confined.env,
        streams,
    })
}
