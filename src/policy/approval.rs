//! Decisions made by a person: they may take minutes, may be withdrawn, and are remembered for the session on request.

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::sessions::PerSession;
use super::{PolicyError, PolicyRequest};
use crate::confinement::Execution;
use crate::files::Identity;

/// A person's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Escalate this one.
    Yes,
    /// Escalate this one, and, without asking again, all later ones in the same session that are the same in all of: program
    /// (path, device, inode, size, times of modification and change), arguments, working directory, environment of the
    /// escalated child, and umask.
    Always,
    /// Don't execute it, nor the others that wait for the same question.
    No {
        /// Shown to the user of the shell.
        reason: Option<String>,
    },
    /// Don't execute it, nor anything else in this session that needs approval, pending or later.
    NoToAll {
        /// Shown to the user of the shell.
        reason: Option<String>,
    },
}

/// Asks a person. Requests may come concurrently, but never two that are the same, nor more than [`MOST_WAITING`] of a
/// session; a future is dropped when its answer is no longer needed.
pub trait Approver: Send + Sync + 'static {
    /// Asks about escalating `request`, whose environment here is the one that the escalated child would get; `reason` is the
    /// rule's. While this runs, the timeout of a one-shot command is suspended, in all no longer than
    /// [`ExecParams::longest_stop`](crate::ExecParams::longest_stop).
    fn approve(
        &self,
        request: &PolicyRequest,
        reason: Option<&str>,
    ) -> impl Future<Output = Result<Approval, PolicyError>> + Send;
}

/// The approver when there is no person to ask: it says no.
#[derive(Clone, Copy, Debug)]
pub struct NoApprover;

impl Approver for NoApprover {
    async fn approve(&self, _: &PolicyRequest, _: Option<&str>) -> Result<Approval, PolicyError> {
        Ok(Approval::No {
            reason: Some("needs approval, but there is no one to ask".to_owned()),
        })
    }
}

/// [`Approver`] as an object.
pub(super) trait AnyApprover: Send + Sync {
    fn approve<'a>(
        &'a self,
        request: &'a PolicyRequest,
        reason: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<Approval, PolicyError>> + Send + 'a>>;
}

impl<A: Approver> AnyApprover for A {
    fn approve<'a>(
        &'a self,
        request: &'a PolicyRequest,
        reason: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<Approval, PolicyError>> + Send + 'a>> {
        Box::pin(Approver::approve(self, request, reason))
    }
}

/// Most requests of a session that may wait for approval at the same time; one more is denied. Far below
/// [`Limits::open_requests`](crate::Limits::open_requests), so that other requests of the session are served meanwhile.
pub const MOST_WAITING: usize = 64;

/// An approver, and what it has answered for whole sessions.
pub(super) struct Approvals {
    approver: Box<dyn AnyApprover>,
    sessions: PerSession<Answers>,
}

/// What came of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Approved,
    Refused(Option<String>),
}

/// The answers of one session.
#[derive(Default)]
struct Answers {
    state: Mutex<State>,
    /// The reason of the answer that refuses everything.
    refused: watch::Sender<Option<Option<String>>>,
}

#[derive(Default)]
struct State {
    always: Vec<Arc<Asked>>,
    /// What is being asked; requests that wait for the answer to the same question learn it here.
    questions: Vec<(Arc<Asked>, watch::Receiver<Option<Shared>>)>,
    /// Requests that wait for an answer, to whichever question.
    waiting: usize,
}

/// An answer, as far as it is one for other requests that ask the same.
#[derive(Clone, Debug)]
enum Shared {
    /// It was for one command: the others ask again.
    AskAgain,
    No(Option<String>),
}

/// What a question is about: all that the person sees, and what could make the same command do something else.
#[derive(PartialEq, Eq)]
struct Asked {
    program: PathBuf,
    canonical: Option<PathBuf>,
    identity: Option<Identity>,
    argv: Vec<OsString>,
    workdir: PathBuf,
    canonical_workdir: Option<PathBuf>,
    /// The environment that the command would get, in the order of the names.
    env: Vec<(OsString, OsString)>,
    umask: Option<u32>,
    execution: Execution,
}

impl Asked {
    fn of(request: &PolicyRequest) -> Self {
        let mut env = request.env.clone();
        env.sort();
        Self {
            program: request.program.clone(),
            canonical: request.canonical.clone(),
            identity: request.identity,
            argv: request.argv.clone(),
            workdir: request.workdir.clone(),
            canonical_workdir: request.canonical_workdir.clone(),
            env,
            umask: request.umask,
            execution: request.execution.clone(),
        }
    }
}

impl fmt::Debug for Approvals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Approvals").finish_non_exhaustive()
    }
}

impl Approvals {
    pub(super) fn new(approver: impl Approver) -> Self {
        Self {
            approver: Box::new(approver),
            sessions: PerSession::default(),
        }
    }

    /// The approver's answer, or an earlier one that holds for this request as well. Requests that ask the same wait for one
    /// question: a no is for all of them, a yes for one, and the next of them asks again.
    pub(super) async fn ask(
        &self,
        request: &PolicyRequest,
        reason: Option<&str>,
    ) -> Result<Outcome, PolicyError> {
        let answers = self.sessions.of(request);
        let asked = Arc::new(Asked::of(request));
        let Some(_waiting) = Waiting::begin(&answers) else {
            let reason = format!("{MOST_WAITING} commands of this session already wait for approval");
            return Ok(Outcome::Refused(Some(reason)));
        };
        let _stopped = request.stop_the_clock();
        let mut refused = answers.refused.subscribe();
        let answering = self.answer(&answers, &asked, request, reason);
        tokio::select! {
            biased;
            refusal = refused.wait_for(Option::is_some) => {
                // The sender lives in `answers`.
                Ok(Outcome::Refused(refusal.ok().and_then(|reason| reason.clone().flatten())))
            }
            outcome = answering => outcome,
        }
    }

    async fn answer(
        &self,
        answers: &Arc<Answers>,
        asked: &Arc<Asked>,
        request: &PolicyRequest,
        reason: Option<&str>,
    ) -> Result<Outcome, PolicyError> {
        loop {
            let turn = {
                let mut state = answers.state();
                if state.always.contains(asked) {
                    return Ok(Outcome::Approved);
                }
                let same = state.questions.iter().find(|(other, _)| other == asked);
                match same {
                    Some((_, answer)) => Turn::Wait(answer.clone()),
                    None => {
                        let (sender, receiver) = watch::channel(None);
                        state.questions.push((Arc::clone(asked), receiver));
                        Turn::Ask(Question {
                            answers: Arc::clone(answers),
                            asked: Arc::clone(asked),
                            answer: sender,
                        })
                    }
                }
            };
            match turn {
                Turn::Ask(question) => return self.put(&question, request, reason).await,
                Turn::Wait(mut answer) => {
                    let answer = answer.wait_for(Option::is_some).await;
                    if let Ok(Some(Shared::No(reason))) = answer.as_deref() {
                        return Ok(Outcome::Refused(reason.clone()));
                    }
                    // Answered for one command, remembered for all of them, or withdrawn.
                }
            }
        }
    }

    /// Puts the question to the person.
    async fn put(
        &self,
        question: &Question,
        request: &PolicyRequest,
        reason: Option<&str>,
    ) -> Result<Outcome, PolicyError> {
        match self.approver.approve(request, reason).await? {
            Approval::Yes => {
                question.answered(Shared::AskAgain);
                Ok(Outcome::Approved)
            }
            Approval::Always => {
                let asked = Arc::clone(&question.asked);
                question.answers.state().always.push(asked);
                question.answered(Shared::AskAgain);
                Ok(Outcome::Approved)
            }
            Approval::No { reason } => {
                question.answered(Shared::No(reason.clone()));
                Ok(Outcome::Refused(reason))
            }
            Approval::NoToAll { reason } => {
                question.answers.refused.send_replace(Some(reason.clone()));
                Ok(Outcome::Refused(reason))
            }
        }
    }
}

impl Answers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request does that needs an answer.
enum Turn {
    Ask(Question),
    Wait(watch::Receiver<Option<Shared>>),
}

/// A question that is being asked; withdrawn when this is dropped without an answer.
struct Question {
    answers: Arc<Answers>,
    asked: Arc<Asked>,
    answer: watch::Sender<Option<Shared>>,
}

impl Question {
    /// Tells the requests that wait for the same answer.
    fn answered(&self, answer: Shared) {
        // First, so that one that asks again does not find this question.
        self.close();
        self.answer.send_replace(Some(answer));
    }

    fn close(&self) {
        let asked = &self.asked;
        self.answers
            .state()
            .questions
            .retain(|(other, _)| !Arc::ptr_eq(other, asked));
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.close();
    }
}

/// One of the requests that wait.
struct Waiting(Arc<Answers>);

impl Waiting {
    fn begin(answers: &Arc<Answers>) -> Option<Self> {
        let mut state = answers.state();
        if state.waiting >= MOST_WAITING {
            return None;
        }
        state.waiting += 1;
        Some(Self(Arc::clone(answers)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[cfg(test)]
mod tests;
