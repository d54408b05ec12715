//! Closing a session, and cancelling its parent: pending decisions end, children end, nothing is served any more.

use nix::unistd::Pid;
use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::{Answer, ProbeSession};
use crate::peer::program::{ConnectedProgram, Program};
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::server::{Escalated, Stage};
use crate::system::process;
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("teardown.close.worker/pending-decision", close_pending),
    case("teardown.close.worker/late-answer", close_late_answer),
    case("teardown.close.child/killed-and-reaped", close_child),
    case("teardown.close.child/of-this-session-only", close_this_only),
    case("teardown.close.listener/no-handshake-is-served", close_listener),
    case("teardown.cancel/pending-decision", cancel_pending).needs("cancel"),
    case("teardown.cancel/child", cancel_child).needs("cancel"),
    case("teardown.cancel/listener", cancel_listener).needs("cancel"),
]);

/// How a session is ended.
#[derive(Clone, Copy)]
enum Ending {
    Close,
    Cancel,
}

/// The session that ends is the stage's; the other one lives on, for sentinels.
struct Ends {
    stage: Stage,
    other: ProbeSession,
}

impl Ends {
    fn new(context: &Context) -> Result<Ends, CaseError> {
        let mut stage = Stage::new(context)?.decide_by_hand();
        let other = stage.shim.probe_session(context, "other")?;
        Ok(Ends { stage, other })
    }

    fn end(&mut self, ending: Ending) -> Verdict {
        match ending {
            Ending::Close => self.stage.close_session(),
            Ending::Cancel => self.stage.cancel_session(),
        }
    }

    /// A whole request of the other session: what the ended one could still do, it has done by then.
    fn sentinel(&mut self) -> Verdict {
        let request = RequestMessage::new("/bin/true", &["sentinel"], "/");
        let mut requester = self.other.socket.open()?;
        requester.request(&request)?;
        let decision = self.stage.question_about(&request)?;
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        let null = null()?;
        requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
        requester.expect_exit_code(0)
    }
}

/// A request that waits for its decision gets end of file.
fn close_pending(context: &mut Context) -> Verdict {
    pending(context, Ending::Close)
}

/// The same when the parent is cancelled.
fn cancel_pending(context: &mut Context) -> Verdict {
    pending(context, Ending::Cancel)
}

fn pending(context: &Context, ending: Ending) -> Verdict {
    let mut ends = Ends::new(context)?;
    let request = ends.stage.request("/bin/true", &["true"]);
    let (mut requester, _decision) = ends.stage.ask(&request)?;
    ends.end(ending)?;
    requester.frames.expect_end("its session has ended")?;
    ends.sentinel()?;
    ends.stage.finish()
}

/// An answer that comes after the session has been closed starts nothing.
fn close_late_answer(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut ends = Ends::new(context)?;
    let request = ends.stage.request(program.text(), &["program"]);
    let (mut requester, decision) = ends.stage.ask(&request)?;
    ends.end(Ending::Close)?;
    requester.frames.expect_end("its session has been closed")?;
    decision.answer(&Answer::Escalate)?;
    ends.sentinel()?;
    program.expect_not_started()?;
    ends.stage.finish()
}

/// An escalated child is killed and reaped, and its wrapper gets end of file.
fn close_child(context: &mut Context) -> Verdict {
    child(context, Ending::Close)
}

/// The same when the parent is cancelled.
fn cancel_child(context: &mut Context) -> Verdict {
    child(context, Ending::Cancel)
}

fn child(context: &Context, ending: Ending) -> Verdict {
    let program = ConnectedProgram::new(context, "child")?;
    let mut ends = Ends::new(context)?;
    let Escalated {
        mut requester,
        child: probe,
    } = ends.stage.start(&program)?;
    let handle = probe.process()?;
    ends.end(ending)?;
    handle.expect_end("the escalated child", context.patience())?;
    expect_reaped(probe.report.pid, context)?;
    requester.frames.expect_end("its session has ended")?;
    ends.stage.finish()
}

/// Waits until a process that has ended is no zombie any more.
fn expect_reaped(pid: i32, context: &Context) -> Verdict {
    let deadline = std::time::Instant::now() + context.patience();
    while process::state(pid).is_some_and(|state| state.state == 'Z') {
        if std::time::Instant::now() >= deadline {
            let seen = process::describe(Pid::from_raw(pid));
            return Err(violation("the escalated child is reaped", seen));
        }
        // Nobody but its parent is told of a reaping.
        std::thread::yield_now();
    }
    Ok(())
}

/// Children of other sessions live on.
fn close_this_only(context: &mut Context) -> Verdict {
    let program = ConnectedProgram::new(context, "child")?;
    let mut ends = Ends::new(context)?;
    let request = RequestMessage::new(program.text(), &["child"], "/");
    let mut requester = ends.other.socket.open()?;
    requester.request(&request)?;
    ends.stage.question_about(&request)?.answer(&Answer::Escalate)?;
    requester.expect_action(&json!("Escalate"))?;
    let null = null()?;
    requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
    let mut probe = program.accept("the child of the other session")?;
    ends.end(Ending::Close)?;
    ends.sentinel()?;
    expect::equal(
        "the other child's pid",
        probe.report.pid,
        probe.report_again()?.pid,
    )?;
    probe.send(&crate::probe::remote::Order::Exit(6))?;
    requester.expect_exit_code(6)?;
    ends.stage.finish()
}

/// After closing no handshake is served: no question, no decision.
fn close_listener(context: &mut Context) -> Verdict {
    listener(context, Ending::Close)
}

/// The same when the parent is cancelled.
fn cancel_listener(context: &mut Context) -> Verdict {
    listener(context, Ending::Cancel)
}

fn listener(context: &Context, ending: Ending) -> Verdict {
    let mut ends = Ends::new(context)?;
    // A pending request shows by its end that the teardown has come as far as the streams.
    let request = ends.stage.request("/bin/true", &["first"]);
    let (mut pending, _decision) = ends.stage.ask(&request)?;
    ends.end(ending)?;
    pending.frames.expect_end("its session has ended")?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    // The socket may refuse it, or take it and never serve it.
    let sent = ends.stage.session.socket.try_datagram(&[0], &[&theirs]);
    drop(theirs);
    if sent.is_ok() {
        let payload = crate::peer::wire::frame(request.value().to_string().as_bytes());
        // Refused or not, nobody must act on it.
        let _ = std::io::Write::write_all(&mut &ours, &payload);
    }
    ends.sentinel()?;
    ends.stage.shim.expect_no_decision()?;
    ends.stage.finish()
}
