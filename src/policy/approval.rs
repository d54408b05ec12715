//! Decisions made by a person: they may take minutes, may be withdrawn, and are remembered for the session on request.

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::sessions::PerSession;
use super::{Decision, PolicyError, PolicyRequest};
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

/// What a person is asked: may this command be escalated?
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Question<'a> {
    /// Number of the question within this process. No two questions share one, not even about the same command.
    pub id: u64,
    /// All that was decided on. Its environment is the one that the escalated child would get, and its
    /// [`execution`](PolicyRequest::execution) says how the child would be executed.
    pub request: &'a PolicyRequest,
    /// The rule that asks, as a [`Decision`](crate::Decision) names it: `line 6`, `git.rules:6` or `default`.
    pub rule: &'a str,
    /// The rule's reason for asking.
    pub reason: Option<&'a str>,
    /// Whether a yes holds as long as the server lives, for the same command in whatever session.
    pub once: bool,
}

impl<'a> Question<'a> {
    /// A question about a request that only the default asks, for testing approvers. The fields can be changed.
    #[must_use]
    pub fn new(id: u64, request: &'a PolicyRequest) -> Self {
        Self {
            id,
            request,
            rule: "default",
            reason: None,
            once: false,
        }
    }
}

/// Asks a person. Questions may come concurrently, but never two about the same command of a session, nor more than
/// [`MOST_WAITING`] of a session. A future is dropped when its question is withdrawn: the wrapper or the session has gone, or
/// everything else in the session was refused. So a late answer starts nothing.
pub trait Approver: Send + Sync + 'static {
    /// Puts the question. While this runs, the timeout of a one-shot command is suspended, in all no longer than
    /// [`ExecParams::longest_stop`](crate::ExecParams::longest_stop).
    ///
    /// # Errors
    /// When the question can't be put; the command is not executed.
    fn approve(&self, question: Question<'_>) -> impl Future<Output = Result<Approval, PolicyError>> + Send;
}

/// The approver when there is no person to ask: it says no.
#[derive(Clone, Copy, Debug)]
pub struct NoApprover;

impl Approver for NoApprover {
    async fn approve(&self, _: Question<'_>) -> Result<Approval, PolicyError> {
        Ok(Approval::No {
            reason: Some("needs approval, but there is no one to ask".to_owned()),
        })
    }
}

/// [`Approver`] as an object.
pub(super) trait AnyApprover: Send + Sync {
    fn approve<'a>(
        &'a self,
        question: Question<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Approval, PolicyError>> + Send + 'a>>;
}

impl<A: Approver> AnyApprover for A {
    fn approve<'a>(
        &'a self,
        question: Question<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Approval, PolicyError>> + Send + 'a>> {
        Box::pin(Approver::approve(self, question))
    }
}

/// How often a person is asked about the same command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asks {
    /// Each time, unless the answer was [`Approval::Always`].
    #[default]
    EachTime,
    /// Until it is approved, whatever session it is of.
    Once,
}

/// Most requests of a session that may wait for approval at the same time; one more is denied. Far below
/// [`Limits::open_requests`](crate::Limits::open_requests), so that other requests of the session are served meanwhile.
pub const MOST_WAITING: usize = 64;

/// An approver, and what it has answered for longer than one request: with it, a policy of the host's own can have requests
/// approved as a [`PolicyFile`](crate::PolicyFile) does.
pub struct Approvals {
    approver: Box<dyn AnyApprover>,
    sessions: PerSession<Answers>,
    /// For rules that ask [once](Asks::Once).
    once: Arc<Memory>,
}

/// What came of a question.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Approved,
    Refused(Option<String>),
}

/// The answers of one session.
#[derive(Default)]
struct Answers {
    memory: Arc<Memory>,
    /// Requests that wait for an answer, to whichever question.
    waiting: Mutex<usize>,
    /// The reason of the answer that refuses everything.
    refused: watch::Sender<Option<Option<String>>>,
}

/// What is being asked, and what need not be asked again.
#[derive(Default)]
struct Memory(Mutex<State>);

#[derive(Default)]
struct State {
    approved: Vec<Arc<Asked>>,
    /// What is being asked; requests that wait for the answer to the same question learn it here.
    pending: Vec<(Arc<Asked>, watch::Receiver<Option<Shared>>)>,
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
    in_place: bool,
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
            in_place: request.in_place,
        }
    }
}

impl fmt::Debug for Approvals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Approvals").finish_non_exhaustive()
    }
}

impl Approvals {
    /// With no answers yet.
    pub fn new(approver: impl Approver) -> Self {
        Self {
            approver: Box::new(approver),
            sessions: PerSession::default(),
            once: Arc::default(),
        }
    }

    /// Asks about `escalation` for the reason that a policy gives: that decision if it is approved, else one that denies. The
    /// person sees the rule that the decision names, and the environment that it gives.
    ///
    /// # Errors
    /// When the question can't be put.
    pub async fn decide(
        &self,
        request: &PolicyRequest,
        escalation: Decision,
        reason: Option<&str>,
    ) -> Result<Decision, PolicyError> {
        self.decide_asking(request, escalation, reason, Asks::EachTime)
            .await
    }

    /// The same, as often as `asks` says.
    pub(super) async fn decide_asking(
        &self,
        request: &PolicyRequest,
        escalation: Decision,
        reason: Option<&str>,
        asks: Asks,
    ) -> Result<Decision, PolicyError> {
        let mut asked = request.clone();
        asked.env = escalation.child_env(&request.env);
        asked.execution = escalation.execution().clone();
        asked.in_place = escalation.is_in_place();
        let rule = escalation.rule().unwrap_or("default");
        Ok(match self.ask(&asked, rule, reason, asks).await? {
            Outcome::Approved => escalation,
            Outcome::Refused(reason) => Decision::deny(reason),
        })
    }

    /// The approver's answer, or an earlier one that holds for this request as well. Requests that ask the same wait for one
    /// question: a no is for all of them, a yes for one, and the next of them asks again.
    async fn ask(
        &self,
        request: &PolicyRequest,
        rule: &str,
        reason: Option<&str>,
        asks: Asks,
    ) -> Result<Outcome, PolicyError> {
        let answers = self.sessions.of(request);
        let Some(_waiting) = Waiting::begin(&answers) else {
            let reason = format!("{MOST_WAITING} commands of this session already wait for approval");
            return Ok(Outcome::Refused(Some(reason)));
        };
        let _stopped = request.stop_the_clock();
        let mut refused = answers.refused.subscribe();
        let answering = self.answer(&answers, request, rule, reason, asks);
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
        answers: &Answers,
        request: &PolicyRequest,
        rule: &str,
        reason: Option<&str>,
        asks: Asks,
    ) -> Result<Outcome, PolicyError> {
        let asked = Arc::new(Asked::of(request));
        let memory = match asks {
            Asks::EachTime => &answers.memory,
            Asks::Once => &self.once,
        };
        let pending = loop {
            match memory.turn(&asked) {
                Turn::Approved => return Ok(Outcome::Approved),
                Turn::Ask(pending) => break pending,
                Turn::Wait(mut answer) => {
                    let answer = answer.wait_for(Option::is_some).await;
                    if let Ok(Some(Shared::No(reason))) = answer.as_deref() {
                        return Ok(Outcome::Refused(reason.clone()));
                    }
                    // Answered for one command, remembered for all of them, or withdrawn.
                }
            }
        };
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let question = Question {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            request,
            rule,
            reason,
            once: asks == Asks::Once,
        };
        match self.approver.approve(question).await? {
            Approval::Yes if asks == Asks::EachTime => {
                pending.answered(Shared::AskAgain);
                Ok(Outcome::Approved)
            }
            Approval::Yes | Approval::Always => {
                memory.state().approved.push(asked);
                pending.answered(Shared::AskAgain);
                Ok(Outcome::Approved)
            }
            Approval::No { reason } => {
                pending.answered(Shared::No(reason.clone()));
                Ok(Outcome::Refused(reason))
            }
            Approval::NoToAll { reason } => {
                answers.refused.send_replace(Some(reason.clone()));
                Ok(Outcome::Refused(reason))
            }
        }
    }
}

/// What a request does that needs an answer.
enum Turn {
    Approved,
    Ask(Pending),
    Wait(watch::Receiver<Option<Shared>>),
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(self: &Arc<Self>, asked: &Arc<Asked>) -> Turn {
        let mut state = self.state();
        if state.approved.contains(asked) {
            return Turn::Approved;
        }
        if let Some((_, answer)) = state.pending.iter().find(|(other, _)| other == asked) {
            return Turn::Wait(answer.clone());
        }
        let (sender, receiver) = watch::channel(None);
        state.pending.push((Arc::clone(asked), receiver));
        Turn::Ask(Pending {
            memory: Arc::clone(self),
            asked: Arc::clone(asked),
            answer: sender,
        })
    }
}

/// A question that is being asked; withdrawn when this is dropped without an answer.
struct Pending {
    memory: Arc<Memory>,
    asked: Arc<Asked>,
    answer: watch::Sender<Option<Shared>>,
}

impl Pending {
    /// Tells the requests that wait for the same answer.
    fn answered(&self, answer: Shared) {
        // First, so that one that asks again does not find this question.
        self.close();
        self.answer.send_replace(Some(answer));
    }

    fn close(&self) {
        let asked = &self.asked;
        let mut state = self.memory.state();
        state.pending.retain(|(other, _)| !Arc::ptr_eq(other, asked));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.close();
    }
}

/// One of the requests that wait.
struct Waiting(Arc<Answers>);

impl Answers {
    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn begin(answers: &Arc<Answers>) -> Option<Self> {
        let mut waiting = answers.waiting();
        if *waiting >= MOST_WAITING {
            return None;
        }
        *waiting += 1;
        Some(Self(Arc::clone(answers)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *self.0.waiting() -= 1;
    }
}

#[cfg(test)]
mod tests;
