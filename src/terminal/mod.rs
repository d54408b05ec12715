//! Long-lived terminals: a program on a pseudo-terminal or on pipes that is written to and read from for as long as the host
//! likes, and whose commands are decided one by one as long as it lives.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use shell_escalation::terminal::{Config, ExecRequest, ShellBackend, Size, Streams, Terminals};
//! use shell_escalation::{EscalateServer, PolicyFile};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = PolicyFile::run_everything();
//! let server = EscalateServer::new("/usr/libexec/bash", "/usr/libexec/execve-wrapper", policy);
//! let terminals = Terminals::new(Config::new(ShellBackend::Wrapped(Arc::new(server))));
//! let request = ExecRequest::shell("/usr/libexec/bash", "python3", "/home/me/project")
//!     .on(Streams::Terminal(Size::default()));
//! let python = terminals.open(request).await?;
//! terminals.write(python, b"6 * 7\n").await?;
//! let output = terminals.read(python, Duration::from_secs(1), 64 * 1024).await?;
//! println!("{}", String::from_utf8_lossy(&output.bytes));
//! terminals.close(python).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Parts
//!
//! [`ExecRequest`] says what to execute. A [`ShellBackend`] prepares it: as it is, or with an escalation session behind it,
//! which a [`SpawnLifecycle`] owns; whatever starts the process knows that and nothing of escalation. [`Terminals`] starts
//! what was prepared, and keeps it.
//!
//! One-shot commands ([`EscalateServer::exec`](crate::EscalateServer::exec)) share session, overlay, sandbox and the starting of
//! the process with that, but not the lifecycle: it is an executor that starts their shell, which may be the host's own
//! ([`ShellCommandExecutor`](crate::ShellCommandExecutor)). It is given the socket itself, which is closed when the executor drops
//! it; [`LocalExecutor`](crate::LocalExecutor) gives it away with the process that it starts. Nor is there anything to recognise:
//! a one-shot without a command is the configured shell, too.
//!
//! [`ToolsConfig`] says which tools a model is shown, and which backend they use.

mod attendant;
mod backend;
mod buffer;
mod error;
mod handle;
mod id;
mod lifecycle;
mod output;
mod recognition;
mod registry;
mod request;
mod streams;
mod terminals;
mod tools;

pub use nix::sys::signal::Signal;

pub use backend::{Backend, Prepared, ShellBackend};
pub use error::Error;
pub use id::TerminalId;
pub use lifecycle::SpawnLifecycle;
pub use output::{End, Output};
pub use recognition::Unrecognised;
pub use request::{ExecRequest, Size, Streams};
pub use terminals::{Config, Listed, Terminals};
pub use tools::{Environment, Selection, ToolsConfig};
