//! Reference server of shell escalation: decides about every command of a patched shell, and runs those outside of the
//! shell's sandbox that are to run there.
//!
//! A patched shell executes a *wrapper* in place of every external command. The wrapper asks the server behind the shell's
//! session: execute it here (*run*), let the server execute it with my descriptors (*escalate*), or not at all (*deny*).
//! This crate is the server, to be embedded in a program that has such shells; the binary `shell-escalation` is one.
//!
//! # The server in 40 lines
//!
//! ```
//! use shell_escalation::{Decision, EscalateServer, EscalationPolicy, ExecParams, PolicyError, PolicyRequest};
//! use tokio_util::sync::CancellationToken;
//!
//! // Pushing runs outside, removing does not run, everything else runs where the shell runs.
//! struct Careful;
//!
//! impl EscalationPolicy for Careful {
//!     async fn decide(&self, request: &PolicyRequest) -> Result<Decision, PolicyError> {
//!         let name = request.program.file_name().unwrap_or_default();
//!         if request.program.starts_with("/usr/bin") && name == "git" && request.argv[1..] == ["push"] {
//!             Ok(Decision::escalate())
//!         } else if name == "rm" {
//!             Ok(Decision::deny(Some("use the trash".to_owned())))
//!         } else {
//!             Ok(Decision::run())
//!         }
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     // A patched shell goes here, and the wrapper that it is to execute; any shell will do to try.
//!     let server = EscalateServer::new("/bin/sh", "/usr/libexec/execve-wrapper", Careful);
//!     let parent = CancellationToken::new();
//!
//!     // One command, from its shell to the last of its descendants.
//!     let result = server.exec(ExecParams::new("echo hello", "/tmp"), &parent).await?;
//!     assert_eq!((result.exit_code, &result.stdout[..]), (0, &b"hello\n"[..]));
//!
//!     // A shell that the caller starts its own way, say in a sandbox.
//!     let session = server.start_session(&parent)?;
//!     let mut shell = std::process::Command::new("/bin/sh");
//!     shell.args(["-c", "test -n \"$EXEC_WRAPPER\""]);
//!     session.attach(&mut shell)?;
//!     let mut shell = shell.spawn()?;
//!     session.close_client_socket();
//!     assert!(shell.wait()?.success());
//!     session.close().await;
//!     Ok(())
//! }
//! ```
//!
//! # What a host can rely on
//!
//! - **What is decided is what runs.** A policy is asked about the file that the kernel would execute. An escalated program is
//!   executed by the descriptor that was compared with the decision; a file that was swapped or changed meanwhile isn't executed.
//!   Only `#!` scripts, and texts without, have to be opened by name once more, right after the last comparison.
//! - **Nothing outlives its owner.** An escalated child and all its descendants, whatever groups and sessions they have made for
//!   themselves, end with the wrapper that asked for it (while the child runs), with the session, with its parent token, and with
//!   this process, even if that is killed by SIGKILL. A small supervisor process for each child sees to that; the host's own signal
//!   handling, children and process-wide attributes are left alone.
//! - **The socket is in no wrong place.** Everything is close-on-exec from the system call on; the client's end becomes inheritable
//!   only inside of the child that is to have it. An escalated child holds the descriptors of its request and nothing else.
//! - **Fails closed.** Whatever goes wrong, with the request, the policy or the system, the wrapper's stream is closed and nothing
//!   runs. Hostile input costs its sender only; see [`Limits`] for the bounds and their defaults.
//! - **Variables that load code** (see [`loads_code`]) reach an escalated child only if the decision [keeps
//!   them](Decision::keeping_env).
//!
//! # Audit log
//!
//! [`EscalateServer::with_audit`] writes one JSON object a line for every request that came to a question: `time` (RFC 3339, of
//! the handshake), `session`, `request` (numbers within this process), `peer` (pid of the wrapper as the kernel knows it, or null),
//! `program`, `argv`, `workdir`, `decision` (`run`, `escalate`, `deny`, or null), `rule`, `decided_ms`, `result` (as on the wire, or
//! null), `error` (or null), `duration_ms`. Texts are cut at 1,024 bytes. Environments are never written.
//!
//! # Requirements
//!
//! Linux 5.9 or later (`close_range`, `openat2`, `pidfd_open`), with /proc mounted and CONFIG_PROC_CHILDREN, as every distribution
//! has it. Descendants that change their user so that this process may not signal them can't be ended.

#![warn(unreachable_pub)]

mod audit;
mod clock;
#[expect(unreachable_pub, reason = "its private helpers say pub")]
mod execution;
mod limits;
mod policy;
mod protocol;
mod server;
mod session;
mod stream;
mod watch;

pub use audit::AuditLog;
pub use clock::Stopped;
pub use execution::{
    ClientSocket, LocalExecutor, PreparedExec, ShellCommand, ShellCommandExecutor, ShellOutput,
    StandardStreams,
};
pub use limits::Limits;
pub use policy::{
    Action, Approval, Approver, Decision, EscalationPolicy, KeepEnv, NobodyThere, PolicyError, PolicyFile,
    PolicyFileError, PolicyRequest, loads_code,
};
pub use protocol::encode_json_text;
pub use server::{EscalateServer, ExecParams, ExecResult};
pub use session::EscalationSession;
