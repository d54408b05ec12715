//! Reference server of shell escalation: decides for every command of a patched shell where it runs, and runs the escalated
//! ones itself, outside the shell's sandbox.
//!
//! A patched shell executes a *wrapper* in place of every external command. The wrapper asks the server behind the shell's
//! session what to do: execute the command in place (*run*), let the server execute it with the wrapper's descriptors
//! (*escalate*), or do not execute it (*deny*). This crate is the server, for programs that start such shells; the binary
//! `shell-escalation` is one of them.
//!
//! # The server in 40 lines
//!
//! ```
//! use shell_escalation::{Decision, EscalateServer, EscalationPolicy, ExecParams, PolicyError, PolicyRequest};
//! use tokio_util::sync::CancellationToken;
//!
//! // `git push` is escalated, `rm` is denied, everything else runs where the shell runs.
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
//!     // The patched shell, and the wrapper for it to execute; to try this out, any shell will do.
//!     let server = EscalateServer::new("/bin/sh", "/usr/libexec/execve-wrapper", Careful);
//!     let parent = CancellationToken::new();
//!
//!     // One command: its shell, and everything that the shell starts.
//!     let result = server.exec(ExecParams::new("echo hello", "/tmp"), &parent).await?;
//!     assert_eq!((result.exit_code, &result.stdout[..]), (0, &b"hello\n"[..]));
//!
//!     // A shell that the caller starts itself, for example in a sandbox.
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
//! - **What is decided is what runs.** A policy is asked about the file that the kernel would execute. What is executed is
//!   compared with the decision: an escalated program by its name, before its first instruction, and where that can't be
//!   through the descriptor that was compared; a file that has been swapped or changed since is not executed. What others than root could change is held by a lease until it runs, or executed from a sealed copy: so a
//!   script outside of the system's directories finds `/dev/fd/N` as its `$0`. A script that a decision executes in place (see
//!   [`Decision::in_place`]) keeps its name, and is compared up to its execution only. A file that is open for writing is
//!   refused.
//! - **Nothing outlives its owner.** An escalated child and all its descendants, whatever process groups and sessions they
//!   have created, end with the wrapper that asked for it (while the child runs), with the session, with its parent token,
//!   and with this process, even if that is killed by SIGKILL or for want of memory. Two small processes per child, two that
//!   wait for the next one, and one more per host, ensure that; the host's own signal handling, children and process-wide
//!   attributes are left alone.
//! - **The socket does not leak.** Every descriptor is close-on-exec from the system call on; the client's end becomes
//!   inheritable only inside the child that it is for. An escalated child holds the descriptors of its request and no others.
//! - **It fails closed.** Whatever goes wrong, with the request, the policy or the system, the wrapper's stream is closed and
//!   nothing runs. Hostile input harms only its sender; see [`Limits`] for the bounds and their defaults. Streams of all
//!   sessions hold at most half of the process's limit of open files, and no session takes what another needs. What large
//!   requests have used is returned to the system if the host fixes the C library's threshold for mappings, as the binary
//!   does (`M_MMAP_THRESHOLD`, mallopt(3)).
//! - **Variables that load code** (see [`loads_code`]) reach an escalated child only if the decision [keeps
//!   them](Decision::keeping_env). A [`PolicyFile`]'s rules pass on no other variable either that they don't list.
//! - **An approval is for what was asked.** [`Approval::Yes`] is for one command; [`Approval::Always`] for those that are the
//!   same in file, arguments, folder, environment and umask. Where a rule asks once, a yes is for those in every session. At
//!   most [`MOST_WAITING`] requests of a session wait for one, and they stop the clock of a timeout no longer than
//!   [`ExecParams::longest_stop`].
//! - **A sandbox**, if the executor is a [`SandboxedExecutor`]: shells are confined to a [`Profile`], and escalated commands to
//!   the one that the decision [names](Decision::executed). Without that executor, a decision to execute in a sandbox executes
//!   nothing.
//! - **Terminals** (see [`terminal`]) keep all of this for as long as they live. Each command is decided on its own, also when
//!   its shell has ended. However a terminal ends, all that was started in it ends with it. Output is lost only beyond
//!   [`Config::output_limit`](terminal::Config::output_limit), and what is lost is counted.
//! - **An escalation is on record before it starts**, where there is an audit log; if it can't be written, it is denied.
//!
//! # Audit log
//!
//! [`EscalateServer::with_audit`] writes lines of JSON about the requests that reached the policy. `event` is `start` (an
//! escalation was decided, and the command is about to start), `end` (an escalated command has ended or came to nothing), or
//! `request` (all about a request that was not escalated). The other members: `time` (RFC 3339, of the handshake), `session`,
//! `request` (numbers within this process), `peer` (pid of the wrapper as the kernel knows it, or null), `program`,
//! `canonical` (its path without symbolic links, or null), `argv`, `argv_count`, `argv_sha256` (if `argv` is cut: of all
//! arguments, each followed by a NUL), `workdir`, `decision` (`run`, `escalate`, `deny`, or null), `rule`, `execution` (the
//! sandbox profile of an escalated command, or `same`; absent if it has none), `in_place` (true if an escalated script is executed
//! [in place](Decision::in_place), else absent), `by_descriptor` (in the line of the end, true if the program was executed by
//! descriptor, so that a script found `/dev/fd/N` as its `$0`; else absent), `env_removed` and
//! `env_removed_count` (names of the variables that an escalated command does not get as requested; absent if there are
//! none), `decided_ms`, `result` (as on the wire, or null), `error` (or null), `duration_ms` (since the handshake). Texts are
//! truncated to 1,024 bytes, all arguments together to 4,096 and 64 texts; a line has less than 64 KiB. Environments are
//! never written.
//!
//! An escalation whose start can't be written is denied. The other lines are lost in that case, which is logged.
//!
//! # Requirements
//!
//! Linux 5.9 or later (`close_range`, `openat2`, `pidfd_open`), with /proc mounted and CONFIG_PROC_CHILDREN, which all
//! distributions enable. With the /proc of another pid namespace nothing is escalated. Descendants that change to a user whom
//! this process may not signal, that another process traces, or that wait for a file system which does not answer, cannot be
//! killed; [`EscalationSession::close`] and [`ExecResult::survivors`] name them after a few seconds.
//!
//! The process that starts the others is forked from this one with the first session, and again if it is killed or user, limits or
//! the like have changed. That takes a tenth of a second for each gibibyte of this process, so a large host should start its
//! first session early. Priority and processors of an escalated command are what this process had then.
//!
//! What remains: an escalated command of the same user may signal the three processes that supervise it. One that stops any of
//! them, or kills one or two, ends all the same; one that kills all three in the same instant can leave processes behind.

#![warn(unreachable_pub)]

mod audit;
mod clock;
mod confinement;
mod execution;
mod files;
mod limits;
mod policy;
mod protocol;
mod sandbox;
mod server;
mod session;
mod stream;
pub mod terminal;
mod watch;

pub use audit::AuditLog;
pub use clock::Stopped;
pub use confinement::{Execution, Profile};
pub use execution::{
    ClientSocket, Gap, LocalExecutor, PreparedExec, ShellCommand, ShellCommandExecutor, ShellOutput,
    ShellStart, StandardStreams, Survivor,
};
pub use limits::Limits;
pub use policy::{
    Action, Approval, Approvals, Approver, Complaint, Decision, EscalationPolicy, Explanation, KeepEnv,
    MOST_WAITING, NoApprover, PolicyError, PolicyFile, PolicyFileError, PolicyRequest, Question, Step,
    directs_programs, loads_code,
};
pub use protocol::encode_json_text;
pub use sandbox::{SandboxedExecutor, launch_if_asked};
pub use server::{EscalateServer, ExecParams, ExecResult};
pub use session::EscalationSession;
