//! The clock of a one-shot stands still while an approver decides.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{RequestMessage, Requester};
use crate::peer::harness::{Approval, ApprovalAnswer, Shim};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::approval::asked;
use crate::stage::one_shot::{Begun, OneShots};
use crate::system::process::eventually;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("approval.clock/stands-still", stands_still).by_the_clock(),
    case("approval.clock/runs-on", runs_on).by_the_clock(),
    case("approval.clock/what-ran-before-counts", what_ran_before_counts).by_the_clock(),
    case("approval.clock/runs-on-after-a-withdrawal", runs_on_after_a_withdrawal).by_the_clock(),
]).needs("exec");

/// Sends a request of the one-shot, about which the approver is asked.
fn needing(begun: &mut Begun, shim: &Shim) -> Result<(Requester, Approval), CaseError> {
    let mut requester = begun.socket.open()?;
    requester.request(&RequestMessage::new("/bin/sh", &["asked"], "/"))?;
    let approval = asked(shim, shim.next_decision()?)?;
    Ok((requester, approval))
}

/// Lets time pass, which is what a clock measures.
fn pass(time: Duration) {
    let until = Instant::now() + time;
    eventually(time, || Instant::now() >= until);
}

/// A one-shot whose timeout is short.
fn begun(context: &Context) -> Result<(OneShots, Begun, Duration), CaseError> {
    let mut one_shots = OneShots::new(context)?;
    let timeout = one_shots.short_timeout_ms;
    let begun = one_shots.begin(context, Some(timeout))?;
    Ok((one_shots, begun, Duration::from_millis(timeout)))
}

/// An approval that takes longer than the timeout: the one-shot is there when it comes, and ends in time.
fn stands_still(context: &mut Context) -> Verdict {
    let (one_shots, mut begun, timeout) = begun(context)?;
    let (mut requester, approval) = needing(&mut begun, &one_shots.shim)?;
    pass(timeout * 3 / 2);
    begun.shell.report_again()?;
    approval.answer(&ApprovalAnswer::Deny(None))?;
    requester.expect_action(&json!({"Deny": {"reason": null}}))?;
    begun.shell.send(&Order::Exit(4))?;
    let result = one_shots.result(begun.id)?;
    expect::equal("timed_out", &json!(false), &result["timed_out"])?;
    expect::equal("exit_code", &json!(4), &result["exit_code"])?;
    let mut shim = one_shots.shim;
    shim.shutdown()
}

/// After the approval the timeout comes.
fn runs_on(context: &mut Context) -> Verdict {
    let (one_shots, mut begun, timeout) = begun(context)?;
    let (mut requester, approval) = needing(&mut begun, &one_shots.shim)?;
    pass(timeout / 2);
    approval.answer(&ApprovalAnswer::Deny(None))?;
    requester.expect_action(&json!({"Deny": {"reason": null}}))?;
    one_shots.timed_out(begun.id)?;
    let mut shim = one_shots.shim;
    shim.shutdown()
}

/// The clock doesn't begin again with an approval: the last part of the timeout is all that is left after two of them.
fn what_ran_before_counts(context: &mut Context) -> Verdict {
    let (one_shots, mut begun, timeout) = begun(context)?;
    let mut answered = Instant::now();
    for _ in 0..2 {
        pass(timeout * 2 / 5);
        let (mut requester, approval) = needing(&mut begun, &one_shots.shim)?;
        answered = Instant::now();
        approval.answer(&ApprovalAnswer::Deny(None))?;
        requester.expect_action(&json!({"Deny": {"reason": null}}))?;
    }
    one_shots.timed_out(begun.id)?;
    let left = answered.elapsed();
    expect::that(
        left < timeout * 4 / 5,
        format_args!("a fifth of the timeout of {timeout:?} is left after the second approval"),
        format_args!("the one-shot ended {left:?} after it"),
    )?;
    let mut shim = one_shots.shim;
    shim.shutdown()
}

/// The end of the wrapper ends the standstill as an answer does.
fn runs_on_after_a_withdrawal(context: &mut Context) -> Verdict {
    let (one_shots, mut begun, _) = begun(context)?;
    let (requester, _approval) = needing(&mut begun, &one_shots.shim)?;
    drop(requester);
    one_shots.timed_out(begun.id)?;
    let mut shim = one_shots.shim;
    shim.shutdown()
}
