//! e2e.terminal: a patched shell in a terminal of a host, into which commands are typed.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Answer;
use crate::peer::program::ConnectedProgram;
use crate::probe::remote::Order;
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::e2e::typed::Typed;
use crate::stage::e2e::{EndToEnd, denial};
use crate::stage::terminal::on_both;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.terminal/a-hundred-commands", a_hundred_commands).within_seconds(60),
]);

/// What becomes of command number N, in turns.
fn answer(number: i32) -> Answer {
    match number % 3 {
        0 => Answer::Escalate,
        1 => Answer::Run,
        _ => Answer::Deny(Some(format!("no {number}"))),
    }
}

/// The same command again and again: each is asked about, each answer holds for it alone. A denied one that starts would be
/// taken for the one after it.
fn a_hundred_commands(context: &mut Context) -> Verdict {
    let program = ConnectedProgram::new(context, "typed")?;
    let mut all = EndToEnd::new(context)?;
    on_both(|on| {
        let typed = Typed::open(&mut all, context, on)?;
        all.take_asked();
        for number in 0..110 {
            let decided = answer(number);
            all.decide("typed", decided.clone());
            expect::with_input(
                format_args!("command {number}, {}", shown(&decided)),
                decided_alone(&mut all, &typed, &program, number, &decided),
            )?;
        }
        all.shim.close_terminal(&typed.terminal)
    })?;
    all.shutdown()
}

/// Types the command once more, and demands that it is asked about, that the answer is what becomes of it, and that the shell
/// gets its status.
fn decided_alone(
    all: &mut EndToEnd<'_>,
    typed: &Typed,
    program: &ConnectedProgram,
    number: i32,
    decided: &Answer,
) -> Verdict {
    const LINE: &str = "typed; echo \"status: $?\"";
    let status = match decided {
        Answer::Deny(_) => {
            typed.type_line(all, LINE)?;
            1
        }
        _ => {
            let mut command = typed.start(all, program, LINE)?;
            expect::equal(
                "whether the command is a child of the shell",
                *decided == Answer::Run,
                command.report.parent == typed.shell,
            )?;
            command.send(&Order::Exit(2 + number))?;
            2 + number
        }
    };
    let seen = all
        .shim
        .read_terminal_until(&typed.terminal, &format!("status: {status}"))?;
    let asked: Vec<Vec<String>> = all
        .take_asked()
        .into_iter()
        .map(|question| question.arguments)
        .collect();
    expect::equal("argv of the questions", vec![vec!["typed".to_owned()]], asked)?;
    if matches!(decided, Answer::Deny(_)) {
        let said = denial(&number.to_string());
        let seen = String::from_utf8_lossy(&seen).replace("\r\n", "\n");
        expect::contains("the terminal's output", &seen, &said)?;
    }
    Ok(())
}
