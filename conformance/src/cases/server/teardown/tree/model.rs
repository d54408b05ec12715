//! Any course of events: sessions, requests, children, ends in random order, against a model that says which
//! process may live, which stream must be closed, and who may hold which socket.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::AsRawFd;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::property;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::Requester;
use crate::peer::harness::{Answer, Decision, ProbeSession, Question};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::peer::wire::Received;
use crate::probe::remote::Order;
use crate::shown::{Shown, shown};
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::ending::expect_ended_child_stream;
use crate::stage::processes::{Kin, expect_alive, expect_all_end, fork};
use crate::stage::server::{Stage, probe_session_with};
use crate::stage::signals::expect_killed;
use crate::system::process::{self, ProcessHandle};
use crate::verdict::{CaseError, Verdict, harness, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.tree/any-course-of-events", any_course_of_events).within_seconds(180),
]);

/// One event. Its target is picked from what exists at that point; a no-op if nothing does.
#[derive(Clone, Debug)]
enum Event {
    /// Another session begins.
    Session,
    /// A wrapper asks, and the policy decides at once.
    Request(Index, Decided),
    /// The policy decides on a question that waits, whether its wrapper still does or not.
    LateAnswer(Index, Decided),
    /// A wrapper sends its descriptors, and the child starts.
    Descriptors(Index),
    /// A process of a tree forks.
    Fork(Index, Index, Kin),
    /// A child exits.
    Exit(Index, u8),
    /// Another process kills a child.
    Kill(Index),
    /// A wrapper goes.
    Disconnect(Index),
    /// A session is closed.
    Close(Index),
    /// The parent token of a session is cancelled.
    Cancel(Index),
}

impl Shown for Event {
    fn show(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Which of those that exist at that point, as a share of their list.
        let at = |index: &Index| format!("{} %", index.index(100));
        match self {
            Event::Session => formatter.write_str("another session"),
            Event::Request(session, decided) => {
                write!(
                    formatter,
                    "request ({}) in session at {}",
                    decided.word(),
                    at(session)
                )
            }
            Event::LateAnswer(question, decided) => {
                write!(
                    formatter,
                    "late answer ({}) to question at {}",
                    decided.word(),
                    at(question)
                )
            }
            Event::Descriptors(request) => write!(formatter, "descriptors of request at {}", at(request)),
            Event::Fork(tree, parent, kin) => write!(
                formatter,
                "process at {} of the tree at {} forks ({kin:?})",
                at(parent),
                at(tree)
            ),
            Event::Exit(tree, status) => write!(formatter, "child at {} exits with {status}", at(tree)),
            Event::Kill(tree) => write!(formatter, "child at {} is killed", at(tree)),
            Event::Disconnect(request) => write!(formatter, "wrapper at {} goes", at(request)),
            Event::Close(session) => write!(formatter, "session at {} is closed", at(session)),
            Event::Cancel(session) => write!(formatter, "session at {} is cancelled", at(session)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decided {
    Run,
    Deny,
    Escalate,
    Later,
}

impl Decided {
    fn word(self) -> &'static str {
        match self {
            Decided::Run => "run",
            Decided::Deny => "deny",
            Decided::Escalate => "escalate",
            Decided::Later => "later",
        }
    }

    fn answer(self) -> Answer {
        match self {
            Decided::Run => Answer::Run,
            Decided::Deny => Answer::Deny(None),
            Decided::Escalate => Answer::Escalate,
            Decided::Later => Answer::Later,
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let decided = prop_oneof![
        1 => Just(Decided::Run),
        1 => Just(Decided::Deny),
        6 => Just(Decided::Escalate),
        3 => Just(Decided::Later),
    ];
    let late = prop_oneof![
        1 => Just(Decided::Run),
        1 => Just(Decided::Deny),
        3 => Just(Decided::Escalate),
    ];
    let kin = prop::sample::select(Kin::ALL.to_vec());
    let event = prop_oneof![
        1 => Just(Event::Session),
        6 => (any::<Index>(), decided).prop_map(|(session, decided)| Event::Request(session, decided)),
        3 => (any::<Index>(), late).prop_map(|(question, decided)| Event::LateAnswer(question, decided)),
        6 => any::<Index>().prop_map(Event::Descriptors),
        4 => (any::<Index>(), any::<Index>(), kin).prop_map(|(tree, parent, kin)| Event::Fork(tree, parent, kin)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(tree, status)| Event::Exit(tree, status)),
        1 => any::<Index>().prop_map(Event::Kill),
        3 => any::<Index>().prop_map(Event::Disconnect),
        2 => any::<Index>().prop_map(Event::Close),
        1 => any::<Index>().prop_map(Event::Cancel),
    ];
    prop::collection::vec(event, 1..16)
}

/// Events in any order, with the model looked at after each of them.
fn any_course_of_events(context: &mut Context) -> Verdict {
    let context = &*context;
    property::holds(context, &events(), |events| {
        let mut course = Course::new(context)?;
        for event in &events {
            course.happen(context, event)?;
            course.expect_the_living_to_live()?;
        }
        course.finish()
    })
}

/// Where a request stands.
enum Phase {
    /// The policy has not decided.
    Pending,
    /// Escalate has come, the descriptor message has not been sent.
    Escalated,
    /// There is a child.
    Running(Box<Tree>),
}

/// A child, its descendants, and handles of all of them.
struct Tree {
    child: Probe,
    descendants: Vec<Probe>,
    handles: Vec<ProcessHandle>,
}

/// A request whose stream is open.
struct Request {
    session: usize,
    requester: Requester,
    phase: Phase,
}

/// The model, and the server that it is compared with.
struct Course {
    stage: Stage,
    program: ConnectedProgram,
    /// Sessions that are open.
    sessions: BTreeMap<usize, ProbeSession>,
    /// Requests whose streams must be open, by their number.
    requests: BTreeMap<usize, Request>,
    /// Questions that the policy has not answered, by the number of the request.
    questions: BTreeMap<usize, Decision>,
    /// What children left that ended by themselves: may live until their session ends.
    left: Vec<(usize, Tree)>,
    next: usize,
    patience: Duration,
}

impl Course {
    fn new(context: &Context) -> Result<Course, CaseError> {
        let stage = Stage::new(context)?;
        stage.shim.decide_by(decide);
        let program = ConnectedProgram::new(context, &format!("program-{}", context.next_number()))?;
        let mut course = Course {
            stage,
            program,
            sessions: BTreeMap::new(),
            requests: BTreeMap::new(),
            questions: BTreeMap::new(),
            left: Vec::new(),
            next: 0,
            patience: context.patience(),
        };
        course.start_session(context)?;
        Ok(course)
    }

    fn start_session(&mut self, context: &Context) -> Verdict {
        self.next += 1;
        let name = format!("session-{}-{}", context.next_number(), self.next);
        let session = probe_session_with(context, &mut self.stage.shim, &name, &json!({}))?;
        self.sessions.insert(self.next, session);
        Ok(())
    }

    fn happen(&mut self, context: &Context, event: &Event) -> Verdict {
        const MOST_SESSIONS: usize = 3;
        match event {
            Event::Session if self.sessions.len() < MOST_SESSIONS => self.start_session(context),
            Event::Session => Ok(()),
            Event::Request(index, decided) => match choose(&self.sessions, index, |_| true) {
                Some(session) => self.request(session, *decided),
                None => Ok(()),
            },
            Event::LateAnswer(index, decided) => match choose(&self.questions, index, |_| true) {
                Some(question) => self.late_answer(question, *decided),
                None => Ok(()),
            },
            Event::Descriptors(index) => {
                let escalated = |request: &Request| matches!(request.phase, Phase::Escalated);
                match choose(&self.requests, index, escalated) {
                    Some(number) => self.descriptors(number),
                    None => Ok(()),
                }
            }
            Event::Fork(index, parent, kin) => {
                self.with_tree(index, |course, number| course.fork(number, parent, *kin))
            }
            Event::Exit(index, status) => self.with_tree(index, |course, number| {
                course.child_ends(
                    number,
                    |tree| tree.child.send(&Order::Exit((*status).into())),
                    |result| {
                        expect::equal(
                            "exit_code",
                            Some(i64::from(*status)),
                            result["exit_code"].as_i64(),
                        )
                    },
                )
            }),
            Event::Kill(index) => self.with_tree(index, |course, number| {
                course.child_ends(
                    number,
                    |tree| tree.child.process()?.signal(libc::SIGKILL),
                    |result| expect_killed(result, libc::SIGKILL),
                )
            }),
            Event::Disconnect(index) => match choose(&self.requests, index, |_| true) {
                Some(number) => self.disconnect(number),
                None => Ok(()),
            },
            Event::Close(index) => match choose(&self.sessions, index, |_| true) {
                Some(session) => self.end_session(session, false),
                None => Ok(()),
            },
            Event::Cancel(index) => match choose(&self.sessions, index, |_| true) {
                Some(session) => self.end_session(session, context.has_capability("cancel")),
                None => Ok(()),
            },
        }
    }

    fn with_tree(&mut self, index: &Index, act: impl FnOnce(&mut Course, usize) -> Verdict) -> Verdict {
        let running = |request: &Request| matches!(request.phase, Phase::Running(_));
        match choose(&self.requests, index, running) {
            Some(number) => act(self, number),
            None => Ok(()),
        }
    }

    fn request(&mut self, session: usize, decided: Decided) -> Verdict {
        self.next += 1;
        let number = self.next;
        let argv = json!([self.program.text(), decided.word(), number.to_string()]);
        let message = self.stage.request_for(self.program.text()).member("argv", argv);
        let socket = &mut self
            .sessions
            .get_mut(&session)
            .ok_or_else(|| harness("no such session"))?
            .socket;
        let mut requester = socket.open()?;
        requester.request(&message)?;
        if decided == Decided::Later {
            let decision = self.stage.shim.next_decision()?;
            expect::equal(
                "the request that the policy is asked about",
                Some(&number.to_string()),
                decision.question.arguments.get(2),
            )?;
            self.questions.insert(number, decision);
        }
        self.requests.insert(
            number,
            Request {
                session,
                requester,
                phase: Phase::Pending,
            },
        );
        self.decided(number, decided)
    }

    /// The wrapper hears of the decision.
    fn decided(&mut self, number: usize, decided: Decided) -> Verdict {
        let Some(request) = self.requests.get_mut(&number) else {
            // Its wrapper or its session has gone: no answer is sent, and nothing starts.
            return Ok(());
        };
        match decided {
            Decided::Later => return Ok(()),
            Decided::Escalate => {
                request.requester.expect_action(&json!("Escalate"))?;
                request.phase = Phase::Escalated;
                return Ok(());
            }
            Decided::Run => request.requester.expect_action(&json!("Run"))?,
            Decided::Deny => request
                .requester
                .expect_action(&json!({"Deny": {"reason": null}}))?,
        }
        request.requester.frames.expect_end("the request is over")?;
        self.requests.remove(&number);
        Ok(())
    }

    fn late_answer(&mut self, question: usize, decided: Decided) -> Verdict {
        if let Some(decision) = self.questions.remove(&question) {
            decision.answer(&decided.answer())?;
        }
        self.decided(question, decided)
    }

    fn descriptors(&mut self, number: usize) -> Verdict {
        let null = null()?;
        let request = self
            .requests
            .get_mut(&number)
            .ok_or_else(|| harness("no such request"))?;
        request
            .requester
            .send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
        let child = self.program.accept("the escalated child")?;
        expect::equal(
            "the request whose child starts",
            Some(&number.to_string()),
            child.report.argument_text().get(2),
        )?;
        request.phase = Phase::Running(Box::new(Tree {
            handles: vec![child.process()?],
            child,
            descendants: Vec::new(),
        }));
        Ok(())
    }

    fn fork(&mut self, number: usize, parent: &Index, kin: Kin) -> Verdict {
        const LARGEST: usize = 6;
        if let Some(Request {
            phase: Phase::Running(tree),
            ..
        }) = self.requests.get_mut(&number)
            && tree.handles.len() < LARGEST
        {
            let parent = match parent.index(tree.handles.len()) {
                0 => &mut tree.child,
                other => &mut tree.descendants[other - 1],
            };
            let new = fork(parent, &self.program, kin)?;
            tree.handles.push(new.process()?);
            tree.descendants.push(new);
        }
        Ok(())
    }

    /// A child ends by itself or is killed; its result comes, and its stream ends.
    fn child_ends(
        &mut self,
        number: usize,
        end: impl FnOnce(&mut Tree) -> Verdict,
        expected: impl FnOnce(&serde_json::Value) -> Verdict,
    ) -> Verdict {
        let Some(mut request) = self.requests.remove(&number) else {
            return Ok(());
        };
        if let Phase::Running(mut tree) = request.phase {
            end(&mut tree)?;
            expected(&request.requester.result()?)?;
            request.requester.frames.expect_end("its result has been sent")?;
            self.left.push((request.session, *tree));
        }
        Ok(())
    }

    /// A wrapper goes: its tree ends.
    fn disconnect(&mut self, number: usize) -> Verdict {
        let Some(request) = self.requests.remove(&number) else {
            return Ok(());
        };
        let Request { requester, phase, .. } = request;
        drop(requester);
        match phase {
            Phase::Running(tree) => expect_all_end(
                &tree.handles,
                "a process of the tree whose wrapper has gone",
                self.patience,
            ),
            Phase::Pending | Phase::Escalated => Ok(()),
        }
    }

    /// A session ends: its streams are closed, its trees end, what its children had left ends.
    fn end_session(&mut self, session: usize, cancelled: bool) -> Verdict {
        let Some(ended) = self.sessions.remove(&session) else {
            return Ok(());
        };
        if cancelled {
            self.stage.shim.cancel_session(&ended.name)?;
        } else {
            self.stage.shim.close_session(&ended.name)?;
        }
        let (of_session, others) = std::mem::take(&mut self.requests)
            .into_iter()
            .partition(|(_, request)| request.session == session);
        self.requests = others;
        let of_session: BTreeMap<usize, Request> = of_session;
        for mut request in of_session.into_values() {
            match request.phase {
                Phase::Running(_) => expect_ended_child_stream(&mut request.requester)?,
                _ => request.requester.frames.expect_end("its session has ended")?,
            }
            if let Phase::Running(tree) = request.phase {
                expect_all_end(
                    &tree.handles,
                    "a process of an ended session's tree",
                    self.patience,
                )?;
            }
        }
        let (left, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.left)
            .into_iter()
            .partition(|(of, _)| *of == session);
        self.left = others;
        for (_, tree) in left {
            expect_all_end(
                &tree.handles,
                "what a child of an ended session had left",
                self.patience,
            )?;
        }
        Ok(())
    }

    /// What the model says to live does: trees of open requests, streams that wait.
    fn expect_the_living_to_live(&mut self) -> Verdict {
        for (number, request) in &mut self.requests {
            if let Phase::Running(tree) = &request.phase {
                for handle in &tree.handles {
                    expect_alive(handle, "a process of a tree that has not been ended")?;
                }
            }
            match request.requester.frames.receive_within(Duration::ZERO)? {
                Received::Silence { bytes: 0 } => {}
                other => {
                    return Err(violation(
                        format_args!("the stream of request {number} is open, and nothing comes on it"),
                        shown(&other),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Who may hold the client's end of each open session: its shell, and the suite, which took a copy.
    fn expect_holders(&self) -> Verdict {
        let own = std::process::id() as i32;
        for session in self.sessions.values() {
            let inode = inode_of(session)?;
            let shell = session.probe.report.pid;
            let mut others = Vec::new();
            let alone = process::eventually(self.patience, || {
                others = process::holders_of_socket(inode)
                    .into_iter()
                    .filter(|(holder, _)| *holder != own && *holder != shell)
                    .collect();
                others.is_empty()
            });
            expect::that(
                alone,
                format_args!(
                    "only the shell, process {shell}, holds the client's end of its escalation socket"
                ),
                format_args!("(process, descriptor): {others:?}"),
            )?;
        }
        Ok(())
    }

    /// The end of the course: late answers start nothing, everything ends, nothing was started unasked.
    fn finish(mut self) -> Verdict {
        self.expect_holders()?;
        for (number, decision) in std::mem::take(&mut self.questions) {
            decision.answer(&Answer::Escalate)?;
            self.decided(number, Decided::Escalate)?;
        }
        self.stage.sentinel()?;
        match self.program.accept_within(Duration::ZERO)? {
            None => {}
            Some(probe) => {
                return Err(violation(
                    "no child beside those that were asked for",
                    format_args!("process {} runs", probe.report.pid),
                ));
            }
        }
        self.expect_the_living_to_live()?;
        let sessions: Vec<usize> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.end_session(session, false)?;
        }
        self.stage.expect_no_zombies()?;
        self.stage.finish()
    }
}

fn decide(question: &Question) -> Answer {
    match question.arguments.get(1).map(String::as_str) {
        Some("run") => Answer::Run,
        Some("deny") => Answer::Deny(None),
        Some("later") => Answer::Later,
        _ => Answer::Escalate,
    }
}

fn choose<T>(map: &BTreeMap<usize, T>, index: &Index, fits: impl Fn(&T) -> bool) -> Option<usize> {
    let fitting: Vec<usize> = map
        .iter()
        .filter(|(_, item)| fits(item))
        .map(|(number, _)| *number)
        .collect();
    (!fitting.is_empty()).then(|| *index.get(&fitting))
}

/// The inode of a session's escalation socket, from the suite's own copy.
fn inode_of(session: &ProbeSession) -> Result<u64, CaseError> {
    let number = session.socket.descriptor().as_raw_fd();
    let target = std::fs::read_link(format!("/proc/self/fd/{number}"))?;
    target
        .to_string_lossy()
        .strip_prefix("socket:[")
        .and_then(|rest| rest.strip_suffix(']')?.parse().ok())
        .ok_or_else(|| harness(format_args!("{} is not a socket", target.display())))
}
