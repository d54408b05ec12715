//! The library, with a hand-written wrapper as its client: sessions, decisions, escalated children and their ends.

#[path = "../support/mod.rs"]
mod support;

mod approvals;
mod children;
mod hostile;
mod in_place;
mod one_shot;
mod pinned;
mod requests;
mod sessions;
mod teardown;
mod terminals;

use std::sync::{Arc, Mutex};

use shell_escalation::{
    Decision, EscalateServer, EscalationPolicy, EscalationSession, PolicyError, PolicyRequest,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use support::wrapper::Client;

/// A policy that always decides the same, and records what it was asked.
#[derive(Clone)]
struct Always {
    decision: Decision,
    asked: Arc<Mutex<Vec<PolicyRequest>>>,
}

impl Always {
    fn new(decision: Decision) -> Self {
        Self {
            decision,
            asked: Arc::default(),
        }
    }
}

impl EscalationPolicy for Always {
    async fn decide(&self, request: &PolicyRequest) -> Result<Decision, PolicyError> {
        self.asked.lock().unwrap().push(request.clone());
        Ok(self.decision.clone())
    }
}

/// A question for the test to answer.
struct Question {
    request: PolicyRequest,
    answer: oneshot::Sender<Result<Decision, PolicyError>>,
}

/// A policy that passes every question on to the test.
struct Asking(mpsc::UnboundedSender<Question>);

impl Asking {
    fn new() -> (Self, mpsc::UnboundedReceiver<Question>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }
}

impl EscalationPolicy for Asking {
    async fn decide(&self, request: &PolicyRequest) -> Result<Decision, PolicyError> {
        let (answer, answered) = oneshot::channel();
        self.0
            .send(Question {
                request: request.clone(),
                answer,
            })
            .map_err(|_| "the test has ended")?;
        answered.await?
    }
}

/// A session, and a client like a descendant of its shell; nothing else holds the client's end.
struct Fixture {
    parent: CancellationToken,
    session: EscalationSession,
    client: Client,
}

fn start(policy: impl EscalationPolicy) -> Fixture {
    start_with(EscalateServer::new("/bin/sh", "/no/wrapper", policy))
}

fn start_with(server: EscalateServer) -> Fixture {
    let parent = CancellationToken::new();
    let session = server.start_session(&parent).unwrap();
    let client = Client::of(&session.env()["CODEX_ESCALATE_SOCKET"]);
    session.close_client_socket();
    Fixture {
        parent,
        session,
        client,
    }
}

/// Runs the blocking side of a test on a thread of its own.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.unwrap()
}
