//! Several sessions at once: each request belongs to the one whose socket carried it.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{RequestMessage, Requester};
use crate::peer::harness::{Answer, ProbeSession, Shim};
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::ending::expect_ended_child_stream;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("session.independent/named-by-session", named_by_session),
    case("session.independent/answers-by-session", answers_by_session),
    case("session.independent/closing-one", closing_one),
    case("session.independent/started-after-closing", started_after_closing),
]);

fn sessions(
    context: &Context,
    shim: &mut Shim,
    names: &[&str],
) -> Result<Vec<ProbeSession>, crate::verdict::CaseError> {
    names
        .iter()
        .map(|name| shim.probe_session(context, name))
        .collect()
}

fn deny(reason: &str) -> Answer {
    Answer::Deny(Some(reason.to_owned()))
}

fn expect_denied(requester: &mut Requester, reason: &str) -> Verdict {
    requester.expect_action(&json!({"Deny": {"reason": reason}}))?;
    requester.frames.expect_end("after Deny nothing more is sent")
}

/// Each question names the session on whose socket the handshake came.
fn named_by_session(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let names = ["one", "two", "three"];
    let mut open = sessions(context, &mut shim, &names)?;
    for round in 0..3 {
        for (name, session) in names.iter().zip(&mut open) {
            let mark = format!("{name} {round}");
            let mut requester = session.socket.open()?;
            requester.request(&RequestMessage::new("/bin/sh", &["x", &mark], "/"))?;
            let decision = shim.next_decision()?;
            expect::equal("session of the question", *name, &*decision.question.session)?;
            expect::equal(
                "argv of the question",
                vec!["x", &mark],
                decision.question.arguments.clone(),
            )?;
            decision.answer(&deny(&mark))?;
            expect_denied(&mut requester, &mark)?;
        }
    }
    shim.shutdown()
}

/// Twenty requests of four sessions that are open together, answered in another order than asked.
fn answers_by_session(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let names = ["one", "two", "three", "four"];
    let mut open = sessions(context, &mut shim, &names)?;
    let mut requesters = Vec::new();
    for round in 0..5 {
        for (name, session) in names.iter().zip(&mut open) {
            let mark = format!("{name} {round}");
            let mut requester = session.socket.open()?;
            requester.request(&RequestMessage::new("/bin/sh", &["x", &mark], "/"))?;
            requesters.push((mark, requester));
        }
    }
    let mut decisions = Vec::new();
    for _ in &requesters {
        let decision = shim.next_decision()?;
        let mark = decision.question.arguments.get(1).cloned().unwrap_or_default();
        let name = mark.split(' ').next().unwrap_or_default().to_owned();
        expect::equal(
            format_args!("session of the question about {mark:?}")
                .to_string()
                .as_str(),
            name,
            decision.question.session.clone(),
        )?;
        decisions.push((mark, decision));
    }
    for (mark, decision) in decisions.into_iter().rev() {
        decision.answer(&deny(&mark))?;
    }
    for (mark, requester) in &mut requesters {
        expect_denied(requester, mark)?;
    }
    shim.shutdown()
}

/// Closing one session disturbs neither the pending request nor the child of another.
fn closing_one(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let mut open = sessions(context, &mut shim, &["closed", "kept"])?;
    let program = ConnectedProgram::new(context, "child")?;
    let request = RequestMessage::new(program.text(), &["child"], "/");
    let null = null()?;
    let mut running = Vec::new();
    let mut pending = Vec::new();
    for session in &mut open {
        let mut requester = session.socket.open()?;
        requester.request(&request)?;
        shim.next_decision()?.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
        running.push((requester, program.accept("the escalated child")?));
        let mut requester = session.socket.open()?;
        requester.request(&request)?;
        pending.push((requester, shim.next_decision()?));
    }
    shim.close_session("closed")?;
    // The closed session shows the effects before the other one is looked at.
    pending[0].0.frames.expect_end("its session was closed")?;
    expect_ended_child_stream(&mut running[0].0)?;

    let (mut requester, decision) = pending.remove(1);
    decision.answer(&deny("kept"))?;
    expect_denied(&mut requester, "kept")?;
    let (mut requester, mut child) = running.remove(1);
    child.send(&Order::Exit(23))?;
    requester.expect_exit_code(23)?;
    let mut requester = open[1].socket.open()?;
    requester.request(&request)?;
    shim.next_decision()?.answer(&Answer::Run)?;
    requester.expect_action(&json!("Run"))?;
    shim.shutdown()
}

/// A session that starts after another was closed is served, whatever numbers and names are used again.
fn started_after_closing(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    for round in 0..5 {
        let name = format!("round {round}");
        let mut session = shim.probe_session(context, &name)?;
        let mut requester = session.socket.open()?;
        requester.request(&RequestMessage::new("/bin/sh", &["x"], "/"))?;
        let decision = shim.next_decision()?;
        expect::equal("session of the question", &*name, &*decision.question.session)?;
        decision.answer(&deny(&name))?;
        expect_denied(&mut requester, &name)?;
        shim.close_session(&name)?;
    }
    shim.shutdown()
}
