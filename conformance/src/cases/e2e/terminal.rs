//! e2e.terminal: a patched shell in a terminal of a host, into which commands are typed.

use serde_json::Value;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::{Answer, Opening};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::e2e::{EndToEnd, denial};
use crate::stage::terminal::{On, on_both};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.terminal/a-hundred-commands", a_hundred_commands).within_seconds(60),
    case("e2e.terminal.teardown/closed", closed),
]);

/// Executes what is typed, line by line.
const TYPED: &str = "echo shell $$; while read -r line; do eval \"$line\"; done";

/// A terminal in which the shell under test executes what is typed.
struct Typed {
    terminal: Value,
    shell: i32,
}

impl Typed {
    fn open(all: &mut EndToEnd<'_>, context: &Context, on: On) -> Result<Typed, CaseError> {
        let shell = context.shell()?.display().to_string();
        let wrapper = context.wrapper()?.display().to_string();
        let directory = context.work_directory().display().to_string();
        let session = format!("typed-{}", context.next_number());
        let opening = Opening::new(&session, &[&shell, "-c", TYPED], &directory)
            .environment(all.base_environment())
            .wrapped_by(&shell, &wrapper);
        let opened = all.shim.open_terminal(&on.apply(opening))?;
        expect::equal("wrapped", true, opened.wrapped)?;
        let said = all.shim.read_terminal_until(&opened.id, "\n")?;
        let said = String::from_utf8_lossy(&said);
        let shell = said
            .trim()
            .strip_prefix("shell ")
            .and_then(|pid| pid.parse().ok());
        Ok(Typed {
            terminal: opened.id,
            shell: shell
                .ok_or_else(|| violation("the shell tells its process id", format_args!("{said:?}")))?,
        })
    }

    fn type_line(&self, all: &mut EndToEnd<'_>, line: &str) -> Verdict {
        all.shim
            .write_terminal(&self.terminal, format!("{line}\n").as_bytes())
    }

    /// Types the command, which is executed, and gives it.
    fn start(
        &self,
        all: &mut EndToEnd<'_>,
        program: &ConnectedProgram,
        line: &str,
    ) -> Result<Probe, CaseError> {
        self.type_line(all, line)?;
        program.accept("the command that was typed")
    }
}

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

/// A job inside and an escalated one, each deaf to polite signals, in the background of a shell that reads on.
fn closed(context: &mut Context) -> Verdict {
    let program = ConnectedProgram::new(context, "stubborn")?;
    let mut all = EndToEnd::new(context)?;
    on_both(|on| {
        let typed = Typed::open(&mut all, context, on)?;
        let mut jobs = Vec::new();
        for decided in [Answer::Run, Answer::Escalate] {
            all.decide("stubborn", decided);
            let mut job = typed.start(&mut all, &program, "stubborn &")?;
            for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGINT] {
                job.must(&Order::Ignore(signal))?;
            }
            job.must(&Order::Fork {
                new_session: true,
                new_group: false,
                orphan: false,
            })?;
            jobs.push(program.accept("the command's child in a session of its own")?);
            jobs.push(job);
        }
        all.shim.close_terminal(&typed.terminal)?;
        let [inside_child, inside, escalated_child, escalated] = &mut jobs[..] else {
            unreachable!("two jobs, each with a child");
        };
        inside.expect_gone("the job inside")?;
        inside_child.expect_gone("the child of the job inside")?;
        escalated.expect_gone("the escalated job")?;
        escalated_child.expect_gone("the child of the escalated job")
    })?;
    all.shutdown()
}
