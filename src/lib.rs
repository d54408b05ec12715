//! Reference server of shell escalation.

mod audit;
mod execution;
mod policy;
mod protocol;
mod server;
mod session;
mod stream;
mod watch;

pub use audit::AuditLog;
pub use execution::{
    ClientSocket, LocalExecutor, PreparedExec, ShellCommand, ShellCommandExecutor, ShellOutput,
    StandardStreams,
};
pub use policy::{
    Action, Approval, Approver, Decision, EscalationPolicy, KeepEnv, NobodyThere, PolicyError, PolicyFile,
    PolicyFileError, PolicyRequest, loads_code,
};
pub use protocol::encode_json_text;
pub use server::{EscalateServer, ExecParams, ExecResult, Limits};
pub use session::{EscalationSession, Stopped};
