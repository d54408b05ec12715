//! A session: the socket that a shell inherits, the variables that name it, and the lifetime of everything behind it.

mod child;
mod core;
mod error;
mod group;
mod listener;
mod memory;
mod places;
mod question;
mod socket;
mod stops;
mod worker;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::clock::Stopwatch;
use crate::execution::{ClientSocket, SessionLeader, Survivor, check_proc};
use crate::files::Looks;
use crate::stream::{Budget, Pool};

use core::SessionCore;
pub(crate) use core::Settings;
use listener::Listener;
use places::Ledger;
use socket::{EXEC_WRAPPER, SOCKET_VARIABLE};

/// The descriptors of the request streams of all sessions of this process.
static DESCRIPTORS: LazyLock<Ledger> = LazyLock::new(Ledger::default);

/// The memory of the requests of all sessions of this process.
static MEMORY: LazyLock<Pool> = LazyLock::new(Pool::new);

/// A session: as long as it lives, the server answers its shell's requests.
///
/// Dropping it, or cancelling its parent token, ends everything that belongs to it: pending decisions, escalated
/// children with all their descendants, and the listener. The shell itself belongs to its caller.
#[derive(Debug)]
pub struct EscalationSession {
    overlay: HashMap<String, String>,
    client: Arc<ClientEnd>,
    core: Arc<SessionCore>,
}

/// The client's end of the escalation socket, here until the shell has been started.
#[derive(Debug)]
struct ClientEnd {
    socket: Mutex<Option<OwnedFd>>,
    /// Its number, or -1 once it is closed: for a child between fork and exec, which must not take a lock.
    number: AtomicI32,
}

impl EscalationSession {
    /// Starts a session under `parent`. Neither the shell nor the wrapper is touched.
    pub(crate) fn start(
        settings: Arc<Settings>,
        wrapper: &Path,
        parent: &CancellationToken,
    ) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let wrapper = wrapper.to_str().ok_or_else(|| {
            let message = format!("the wrapper's path is not UTF-8: {}", wrapper.display());
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        let (server, client) = socket::pair()?;
        let overlay = HashMap::from([
            (SOCKET_VARIABLE.to_owned(), client.as_raw_fd().to_string()),
            (EXEC_WRAPPER.to_owned(), wrapper.to_owned()),
        ]);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let core = Arc::new(SessionCore {
            id,
            span: tracing::info_span!("session", id),
            ended: parent.child_token(),
            tasks: TaskTracker::new(),
            open_requests: Arc::new(tokio::sync::Semaphore::new(settings.limits.open_requests)),
            left_running: tokio::sync::Semaphore::new(settings.limits.left_running),
            memory: Budget::new(
                settings.limits.request_memory,
                &MEMORY,
                settings.limits.server_memory,
            ),
            decoding: Arc::new(tokio::sync::Semaphore::new(core::DECODING)),
            looks: Looks::default(),
            survivors: Mutex::default(),
            leader: OnceLock::new(),
            clock: Stopwatch::start(),
            settings,
        });
        let listener = Listener::new(server, Arc::clone(&core), &DESCRIPTORS)?;
        core.tasks.spawn(listener.run().instrument(core.span.clone()));
        core.span.in_scope(|| {
            if let Err(error) = check_proc() {
                tracing::error!(%error, "escalated commands will be refused");
            }
            tracing::debug!("session started");
        });
        Ok(Self {
            overlay,
            client: Arc::new(ClientEnd {
                number: AtomicI32::new(client.as_raw_fd()),
                socket: Mutex::new(Some(client)),
            }),
            core,
        })
    }

    /// Number of the session within this process, the same as in logs and [`PolicyRequest`](crate::PolicyRequest).
    #[must_use]
    pub fn id(&self) -> u64 {
        self.core.id
    }

    /// The overlay: the variables to set in the shell's environment, and nothing else. They are useful only to a process that
    /// inherits the session's socket (see [`Self::attach`]).
    #[must_use]
    pub fn env(&self) -> &HashMap<String, String> {
        &self.overlay
    }

    /// Prepares `command` to start this session's shell: sets the overlay, and lets that child alone inherit the socket.
    /// Here it stays close-on-exec at every moment. Call [`Self::close_client_socket`] when the command has been spawned.
    ///
    /// # Errors
    /// When the socket has already been closed. If that happens between this call and the spawn, the spawn fails.
    pub fn attach(&self, command: &mut std::process::Command) -> io::Result<()> {
        use std::os::unix::process::CommandExt;
        if self.client.number.load(Ordering::Acquire) < 0 {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the session's client socket has already been closed",
            ));
        }
        command.envs(&self.overlay);
        let client = Arc::clone(&self.client);
        // SAFETY: between fork and exec an atomic is read and fcntl(2) is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                // A closed socket's number may be reused for another file; -1 never is, and fails with EBADF.
                match libc::fcntl(client.number.load(Ordering::Acquire), libc::F_SETFD, 0) {
                    -1 => Err(io::Error::last_os_error()),
                    _ => Ok(()),
                }
            });
        }
        Ok(())
    }

    /// Closes this process's copy of the client's end. Call it right after the shell has been spawned: from then on
    /// only the shell and its descendants hold it.
    pub fn close_client_socket(&self) {
        drop(self.take_client());
    }

    /// Ends the session and waits until every escalated process is dead and reaped, for about three seconds at most. Returns
    /// those that could not be ended: they have become another user's, another process traces them, or they wait for a file
    /// system that does not answer. Each is killed as soon as that is possible.
    pub async fn close(self) -> Vec<Survivor> {
        self.core.ended.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
        std::mem::take(&mut *self.core.survivors())
    }

    /// Lets escalated commands run in the session of the shell's terminal. To be called before the shell is started.
    pub(crate) fn escalate_in(&self, leader: &SessionLeader) {
        self.core.leader.get_or_init(|| leader.clone());
    }

    /// The clock that approvals stop.
    pub(crate) fn clock(&self) -> Arc<Stopwatch> {
        Arc::clone(&self.core.clock)
    }

    /// Hands over the client's end, for a shell that an executor starts.
    pub(crate) fn take_client_socket(&self) -> Option<ClientSocket> {
        self.take_client().map(ClientSocket)
    }

    fn take_client(&self) -> Option<OwnedFd> {
        // Before the socket is closed: a child that still reads the number here may use it.
        self.client.number.store(-1, Ordering::Release);
        let mut socket = self.client.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.take()
    }
}

impl Drop for EscalationSession {
    fn drop(&mut self) {
        self.core.ended.cancel();
        self.core.tasks.close();
        self.core.span.in_scope(|| tracing::debug!("session ended"));
    }
}
