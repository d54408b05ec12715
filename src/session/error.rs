//! Why a request comes to nothing.

use crate::execution::Refusal;
use crate::policy::PolicyError;
use crate::protocol::ProtocolError;
use crate::stream::StreamError;

use super::core::SessionEnded;

/// Why a request came to nothing. Its text is what the log and the audit log say.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("the policy failed: {0}")]
    Policy(PolicyError),
    #[error("the policy panicked")]
    PolicyPanicked,
    #[error("the executor refused the command: {0}")]
    Executor(std::io::Error),
    #[error("the wrapper did not send or read a message in time")]
    TimedOut,
    #[error("closed to make room for others: this process's sessions hold too many descriptors")]
    Evicted,
    #[error("too many escalated commands of this session are running")]
    TooManyRunning,
    #[error("too many open requests in this session")]
    TooManyRequests,
    #[error("the wrapper has closed the stream")]
    WrapperGone,
    #[error("{0}")]
    SessionEnded(#[from] SessionEnded),
    #[error("the child's supervisor process was killed")]
    SupervisorLost,
    #[error("a worker thread panicked")]
    WorkerPanicked,
}
