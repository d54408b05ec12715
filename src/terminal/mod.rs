//! Long-lived terminals: a program on a pseudo-terminal or on pipes that is written to and read from for as long as the host
//! likes, and whose commands are decided one by one as long as it lives.
//!
//! ```ignore
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
//! # Methods
//!
//! ```ignore
//! impl Terminals {
//!     /// Starts a program; may prune another terminal.
//!     pub async fn open(&self, request: ExecRequest) -> Result<TerminalId, Error>;
//!     /// Writes all of it to the program; waits as long as the program does not read.
//!     pub async fn write(&self, id: TerminalId, bytes: &[u8]) -> Result<(), Error>;
//!     /// Closes standard input, where that is a pipe; types the end-of-file character (Ctrl-D) on a pseudo-terminal.
//!     pub async fn close_input(&self, id: TerminalId) -> Result<(), Error>;
//!     /// Takes what was written since the last read. Waits for output up to `yield_time`; returns as soon as there is some
//!     /// and no more comes at the moment, or when the program ends. Of more than `limit` bytes, the first and last are kept.
//!     pub async fn read(&self, id: TerminalId, yield_time: Duration, limit: usize) -> Result<Output, Error>;
//!     pub fn resize(&self, id: TerminalId, size: Size) -> Result<(), Error>;
//!     /// To the foreground process group.
//!     pub fn signal(&self, id: TerminalId, signal: Signal) -> Result<(), Error>;   // nix::sys::signal::Signal
//!     /// Ends everything of it, and waits for that; what could not be ended is returned.
//!     pub async fn close(&self, id: TerminalId) -> Result<Vec<Survivor>, Error>;
//!     /// Those used last first.
//!     pub fn list(&self) -> Vec<Listed>;
//!     /// Ends all, and waits for that. No terminal can be opened any more.
//!     pub async fn end(&self) -> Vec<Survivor>;
//! }
//! ```
//!
//! # Parts
//!
//! [`ExecRequest`] says what to execute. A [`ShellBackend`] prepares it: as it is, or with an escalation session behind it,
//! which a [`SpawnLifecycle`] owns; whatever starts the process knows that and nothing of escalation. [`Terminals`] starts
//! what was prepared, and keeps it. [`ToolsConfig`] says which tools a model is shown, and which backend they use.

mod backend;
mod error;
mod lifecycle;
mod output;
mod recognition;
mod request;
mod terminals;
mod tools;

pub use backend::{Backend, Prepared, ShellBackend};
pub use error::Error;
pub use lifecycle::SpawnLifecycle;
pub use output::{End, Output};
pub use recognition::Unrecognised;
pub use request::{ExecRequest, Size, Streams};
pub use terminals::{Config, Listed, TerminalId, Terminals};
pub use tools::{Environment, Selection, ToolsConfig};
