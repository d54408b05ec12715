//! A session: the escalation socket, the requests that are open, and their common end.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::clock::Clock;
use crate::events::{Bell, lock};
use crate::faults::{Fault, Variant, broken, chat, unusual};
use crate::keeper::Nursery;
use crate::policy::Policy;
use crate::shares;
use crate::ticket::Ticket;

/// A session.
pub struct Session {
    /// The suite's name for it.
    pub name: String,
    /// What decides about its requests.
    pub policy: Arc<Policy>,
    /// Where its escalated trees come from.
    pub nursery: Arc<Nursery>,
    /// Rung when the session ends.
    pub bell: Bell,
    /// The clock of its one-shot.
    pub clock: Clock,
    /// Whether it belongs to a one-shot.
    pub one_shot: bool,
    /// The number of the server's end.
    server_end: RawFd,
    /// Copies of the client's end that should not be there.
    kept: Mutex<Vec<OwnedFd>>,
    overlay: Vec<(String, String)>,
    client: Mutex<Option<OwnedFd>>,
    state: Mutex<State>,
    next: AtomicU64,
}

#[derive(Default)]
struct State {
    closed: bool,
    open: HashMap<u64, Arc<Ticket>>,
}

/// The same socket under a number that no script uses for its redirections.
fn out_of_the_way(socket: &UnixDatagram) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes integers.
    let number = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 60) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is new and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

impl Session {
    /// Makes the escalation socket; also gives the server's end, to be listened on.
    pub fn new(
        policy: &Arc<Policy>,
        nursery: &Arc<Nursery>,
        name: &str,
        wrapper: &str,
        one_shot: bool,
    ) -> io::Result<(Session, UnixDatagram)> {
        let (mut ours, mut theirs) = UnixDatagram::pair()?;
        if broken(Fault::SocketIsAStream) {
            let (one, other) = UnixStream::pair()?;
            (ours, theirs) = (OwnedFd::from(one).into(), OwnedFd::from(other).into());
        }
        if !broken(Fault::SocketAmongTheScriptsNumbers) {
            theirs = out_of_the_way(&theirs)?.into();
        }
        for (fault, number) in [
            (Fault::ClientInheritable, theirs.as_raw_fd()),
            (Fault::ServerEndInheritable, ours.as_raw_fd()),
        ] {
            if broken(fault) {
                // SAFETY: fcntl(2) takes integers.
                unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
            }
        }
        if broken(Fault::InheritableAtFirst) {
            drop(crate::spawn::window(&theirs.try_clone()?.into())?);
        }
        let mut number = theirs.as_raw_fd().to_string();
        if broken(Fault::OverlayNamesAnother) {
            number = (theirs.as_raw_fd() + 1).to_string();
        }
        if broken(Fault::NumberInHexadecimal) {
            number = format!("{:#x}", theirs.as_raw_fd());
        }
        if broken(Fault::NumberPadded) {
            number = format!("{:04}", theirs.as_raw_fd());
        }
        let cleaned = cleaned(wrapper);
        let wrapper = if broken(Fault::WrapperPathResolved) {
            &cleaned
        } else {
            wrapper
        };
        let mut overlay = vec![
            ("CODEX_ESCALATE_SOCKET".to_owned(), number),
            ("EXEC_WRAPPER".to_owned(), wrapper.to_owned()),
        ];
        if unusual(Variant::OlderName) {
            overlay.push(("BASH_EXEC_WRAPPER".to_owned(), wrapper.to_owned()));
        }
        if broken(Fault::WholeEnvironment) {
            overlay.push(("PATH".to_owned(), "/usr/bin:/bin".to_owned()));
        }
        if broken(Fault::ServerVariables) {
            overlay.extend(std::env::vars().filter(|(name, _)| name.starts_with("LC_")));
        }
        let session = Session {
            name: name.to_owned(),
            one_shot,
            server_end: ours.as_raw_fd(),
            kept: Mutex::default(),
            policy: policy.clone(),
            nursery: nursery.clone(),
            bell: Bell::new()?,
            clock: Clock::start()?,
            overlay,
            client: Mutex::new(Some(OwnedFd::from(theirs))),
            state: Mutex::default(),
            next: AtomicU64::new(1),
        };
        Ok((session, ours))
    }

    /// The variables that the shell needs.
    pub fn overlay(&self) -> &[(String, String)] {
        &self.overlay
    }

    /// Takes the client's end, for the one process that may have it.
    pub fn take_client(&self) -> Option<OwnedFd> {
        let client = lock(&self.client).take();
        let kept = broken(Fault::ClientKept) && !self.one_shot
            || broken(Fault::ClientKeptInOneShots) && self.one_shot
            || broken(Fault::ChildHoldsSocket);
        if kept && let Some(copy) = client.as_ref().and_then(|client| client.try_clone().ok()) {
            lock(&self.kept).push(copy);
        }
        client
    }

    /// A copy of the client's end that should not be there.
    pub fn kept_client(&self) -> Option<OwnedFd> {
        lock(&self.kept).first()?.try_clone().ok()
    }

    /// The number of the client's end, until it is taken.
    pub fn client_number(&self) -> Option<RawFd> {
        lock(&self.client).as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The number of the server's end.
    pub fn server_end(&self) -> RawFd {
        self.server_end
    }

    /// The numbers of the request streams.
    pub fn stream_numbers(&self) -> Vec<RawFd> {
        let state = lock(&self.state);
        state
            .open
            .values()
            .map(|ticket| ticket.stream.as_raw_fd())
            .collect()
    }

    /// Whether a request is open.
    pub fn is_busy(&self) -> bool {
        !lock(&self.state).open.is_empty()
    }

    /// Whether a request is open for which nothing has been started.
    pub fn has_childless_request(&self) -> bool {
        let state = lock(&self.state);
        let mut open = state.open.values();
        open.any(|ticket| !ticket.has_child.load(Ordering::SeqCst))
    }

    /// Registers a request; none if the session has ended.
    pub fn admit(&self, stream: UnixStream) -> io::Result<Option<Arc<Ticket>>> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let ticket = Arc::new(Ticket::new(number, &self.name, stream)?);
        let mut state = lock(&self.state);
        if state.closed && !broken(Fault::ListenerLingers)
            || broken(Fault::FortyAtMost) && state.open.len() >= 40
        {
            return Ok(None);
        }
        state.open.insert(ticket.number(), ticket.clone());
        drop(state);
        shares::enter(&ticket);
        Ok(Some(ticket))
    }

    /// Removes a request that is over.
    pub fn forget(&self, ticket: &Arc<Ticket>) {
        shares::leave(ticket);
        lock(&self.state).open.remove(&ticket.number());
    }

    /// With that fault, waits for the end of all its requests.
    pub fn wait_with(&self, fault: Fault) {
        while broken(fault) && self.is_busy() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Ends the session: the listener, the pending requests, the escalated trees.
    pub fn close(&self) {
        if broken(Fault::SecondEndFatal) && self.is_closed() {
            panic!("session {} has ended already", self.name);
        }
        self.end(&Spared {
            listener: broken(Fault::ListenerSurvivesClose),
            requests: broken(Fault::RequestsSurviveClose),
            readers: broken(Fault::ReadersSurviveClose),
            children: broken(Fault::ChildrenSurviveClose)
                || broken(Fault::OneShotChildrenLive) && self.one_shot,
        });
    }

    /// Ends the session because its parent token was cancelled.
    pub fn cancel(&self) {
        if !broken(Fault::CancelIgnored) {
            self.end(&Spared {
                listener: broken(Fault::CancelSparesListener),
                requests: broken(Fault::CancelSparesRequests),
                readers: false,
                children: broken(Fault::CancelSparesChildren),
            });
        }
    }

    fn end(&self, spared: &Spared) {
        if broken(Fault::ThreadPerSession) {
            std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            });
        }
        if broken(Fault::DescriptorPerSession) {
            std::mem::forget(std::os::fd::AsFd::as_fd(&self.bell).try_clone_to_owned());
        }
        let open = {
            let mut state = lock(&self.state);
            state.closed |= !spared.listener;
            state.open.clone()
        };
        drop(self.take_client());
        lock(&self.kept).clear();
        if !spared.listener {
            self.bell.ring();
        }
        let mut ended = 0;
        for ticket in open.values() {
            let has_child = ticket.has_child.load(Ordering::SeqCst);
            let is_reading = ticket.is_reading.load(Ordering::SeqCst);
            let lives = spared.children && has_child
                || spared.readers && is_reading
                || spared.requests && !has_child
                || broken(Fault::OneChildKilled) && has_child && ended > 0;
            if !lives {
                ended += 1;
                ticket.cancel();
            }
        }
        chat(format_args!(
            "session {} ended with {} requests open",
            self.name,
            open.len()
        ));
    }
}

/// What faults let outlive the end of a session.
struct Spared {
    listener: bool,
    requests: bool,
    readers: bool,
    children: bool,
}

/// A path without `.`, `..` and doubled slashes.
fn cleaned(path: &str) -> String {
    let mut components = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            name => components.push(name),
        }
    }
    format!("/{}", components.join("/"))
}
