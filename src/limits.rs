//! Bounds on what the sandboxed side can make a server hold.

use std::time::Duration;

/// Bounds of one session. Reaching one costs only the request that does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Longest payload of a frame in bytes; a longer one closes its stream. Default: 16 MiB, which the protocol
    /// demands to be accepted.
    pub frame: usize,
    /// Time from a handshake to the end of its request, and from `Escalate` to the end of the descriptor message.
    /// Default: 30 seconds. Decisions and children take as long as they take.
    pub message_time: Duration,
    /// Streams whose request has not come yet; one more closes the oldest of them. Never more than a quarter of the
    /// process's limit of open files. Default: 256.
    pub idle_streams: usize,
    /// Requests that are being decided about or whose processes run; one more is closed at once. Default: 1024.
    pub open_requests: usize,
    /// Escalated children that have ended and left descendants running; those of one more are killed at its end.
    /// Default: 1024.
    pub left_running: usize,
    /// Bytes that the payloads of all open requests take together; a frame that would take more is closed. Default: 256 MiB.
    pub request_memory: usize,
    /// Limit of open files (soft, hard) that escalated children get. Default: the server's own, as it is.
    pub child_open_files: Option<(u64, u64)>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: 16 * 1024 * 1024,
            message_time: Duration::from_secs(30),
            idle_streams: 256,
            open_requests: 1024,
            left_running: 1024,
            request_memory: 256 * 1024 * 1024,
            child_open_files: None,
        }
    }
}
