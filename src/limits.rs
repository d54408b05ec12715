//! Limits on the resources that the sandboxed side can make a server hold.

use std::time::Duration;

/// Limits of one session. Only the request that exceeds one is closed, except as noted.
///
/// Besides, the streams of all sessions of a process hold at most half of its limit of open files. At that limit, the session
/// that holds most gives way to one that holds less: streams that wait for their client first, the oldest before others, then
/// pending decisions, the newest first. Running commands never give way, but of one session they take no more than they leave.
///
/// File systems are waited for on at most 512 threads of their own, apart from those of the host's runtime: 16 for a session
/// while more than half of them are free, then one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Longest payload of a frame in bytes; a longer one closes its stream. Default: 16 MiB, which the protocol
    /// requires a server to accept.
    pub frame: usize,
    /// Time from a handshake to the end of its request, and from `Escalate` to the end of the descriptor message.
    /// Default: 30 seconds. Decisions and children have no time limit.
    pub message_time: Duration,
    /// Streams whose request has not arrived yet; one more closes the oldest of them. Never more than a quarter of the
    /// process's limit of open files. Default: 256.
    pub idle_streams: usize,
    /// Requests that await their decision or whose processes run; one more is closed at once. Default: 1024.
    pub open_requests: usize,
    /// Escalated children that have ended and left descendants running; the descendants of one more are killed when it ends.
    /// Default: 1024.
    pub left_running: usize,
    /// Bytes that all open requests may use together, before and after they are decoded; the stream of one that would exceed
    /// that is closed. Default: 256 MiB.
    pub request_memory: usize,
    /// The same for all sessions of this process together. One session never takes more than it leaves free for the others.
    /// Default: 512 MiB.
    pub server_memory: usize,
    /// Limit of open files (soft, hard) that escalated children get. Default: the server's own.
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
            server_memory: 512 * 1024 * 1024,
            child_open_files: None,
        }
    }
}
