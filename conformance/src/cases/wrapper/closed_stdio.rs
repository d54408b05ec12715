//! wrapper.closed-stdio: 0, 1 and 2 that are closed stay closed.

use std::fs::File;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{any_call, escalated, expect_same_description, run_under};
use crate::system::launch::Launch;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.closed-stdio/escalate", eight_combinations),
    case("wrapper.closed-stdio/run", eight_combinations_run),
    case("wrapper.closed-stdio/protocol-intact", protocol_intact),
    case("wrapper.closed-stdio/messages-go-nowhere-else", messages_go_nowhere_else),
]);

/// Subsets of 0, 1 and 2, each as the numbers that are closed.
fn subsets() -> impl Iterator<Item = Vec<i32>> {
    (0..8_i32).map(|bits| (0..3).filter(|number| bits & (1 << number) != 0).collect())
}

fn with_closed(launch: Launch, closed: &[i32]) -> Launch {
    closed
        .iter()
        .fold(launch, |launch, number| launch.closed(*number))
}

/// Escalate with each subset of 0, 1, 2 closed: exactly the open ones are sent, each the file that it was.
fn eight_combinations(context: &mut Context) -> Verdict {
    for closed in subsets() {
        let mut call = any_call(context)?.launched(|launch| with_closed(launch, &closed));
        let mut ours = Vec::new();
        for number in (0..3).filter(|number| !closed.contains(number)) {
            let path = context.path(&format!("stream-{}", context.next_number()));
            let file = File::options()
                .create_new(true)
                .read(true)
                .write(true)
                .open(path)?;
            ours.push((number, file.try_clone()?));
            call = call.launched(|launch| launch.descriptor(number, file));
        }
        let (mut wrapper, mut stream, escalation) = escalated(call)?;
        let open: Vec<i64> = ours.iter().map(|(number, _)| i64::from(*number)).collect();
        expect::equal(
            &format!("numbers with {closed:?} closed"),
            open,
            escalation.sorted_numbers(),
        )?;
        for (number, file) in &ours {
            expect_same_description(&escalation, *number, file)?;
        }
        stream.result(5)?;
        wrapper.finish()?.expect_status(5)?;
    }
    Ok(())
}

/// Run with each subset of 0, 1, 2 closed: the command has exactly the others.
fn eight_combinations_run(context: &mut Context) -> Verdict {
    for closed in subsets() {
        let report = run_under(context, |launch| with_closed(launch, &closed))?;
        let expected: Vec<i32> = (0..3)
            .filter(|number| !closed.contains(number))
            .chain([ESCALATION_DESCRIPTOR])
            .collect();
        expect::equal(
            &format!("the command's descriptors with {closed:?} closed"),
            expected,
            report.descriptor_numbers(),
        )?;
    }
    Ok(())
}

/// All three closed, and a request of 1 MiB: the frame is whole, and nothing else is on the stream.
fn protocol_intact(context: &mut Context) -> Verdict {
    let value = "0123456789abcdef".repeat(1024);
    let mut call = any_call(context)?;
    for index in 0..64 {
        call = call.variable(format!("LARGE_{index}"), &value);
    }
    let mut wrapper = call.launched(|launch| with_closed(launch, &[0, 1, 2])).start()?;
    let (mut stream, request) = wrapper.request()?;
    for index in 0..64 {
        let name = format!("LARGE_{index}");
        let same = request.variable(&name)? == Some(value.as_str());
        expect::that(same, format_args!("{name}, verbatim"), "something else")?;
    }
    stream.deny(Some("the reason has nowhere to go"))?;
    wrapper.finish()?.expect_status(1)?;
    stream.frames.expect_end("the request is all that is sent")
}

/// With 2 closed a message goes nowhere: not to standard output, not into the stream, not into a file that others
/// have under another number.
fn messages_go_nowhere_else(context: &mut Context) -> Verdict {
    for end in ["denied", "missing", "refused"] {
        let output = context.path(&format!("output-{end}"));
        let other = context.path(&format!("other-{end}"));
        let (first, second) = (File::create_new(&output)?, File::create_new(&other)?);
        let call = WrapperCall::new(context, "/nonexistent/program", ["program"])?;
        let call = call.launched(|launch| launch.descriptor(1, first).descriptor(3, second).closed(2));
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        match end {
            "denied" => stream.deny(Some("the reason"))?,
            "missing" => stream.run()?,
            _ => stream.frames.send(b"nonsense", &[])?,
        }
        let ended = wrapper.finish()?.ended;
        expect::that(
            matches!(ended, Ended::Exited(status) if status != 0),
            "a status other than 0",
            ended,
        )?;
        stream.frames.expect_end("the request is all that is sent")?;
        for path in [output, other] {
            let text = std::fs::read(&path)?;
            let what = format!("what was written to {} when {end}", path.display());
            expect::equal(&what, String::new(), String::from_utf8_lossy(&text).into_owned())?;
        }
    }
    Ok(())
}
