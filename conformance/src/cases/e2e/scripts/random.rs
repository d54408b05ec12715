//! e2e.scripts as a property: random scripts of commands that are run, escalated or denied, and a model that
//! says what they print. The model knows lists, conditions, loops, pipelines and `$?`, and no shell.

use std::fmt::{self, Write as _};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::case::context::Context;
use crate::case::property;
use crate::case::{Table, case};
use crate::shown::Shown;
use crate::spec::requirements::Role;
use crate::stage::e2e::{EndToEnd, commands, denial, expect_transcript};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.scripts/random", random).within_seconds(240),
]);

/// Random scripts have the transcript of the model.
fn random(context: &mut Context) -> Verdict {
    commands(context, NAMES)?;
    let all = std::cell::RefCell::new(EndToEnd::new(context)?);
    all.borrow_mut().be_patient(4);
    property::holds(context, &script(), |example| {
        let script = example.text();
        let mut expected = Transcript::default();
        let status = example.play(&mut expected);
        let result = all.borrow_mut().run(&script)?;
        expect_transcript(&script, &result, &expected.output, &expected.error, status)
    })?;
    all.into_inner().shutdown()
}

const NAMES: [&str; 3] = ["run-it", "escalate-it", "deny-it"];

/// A command of the suite: what decides it, what it prints, how it ends.
#[derive(Clone, Debug)]
struct Command {
    decision: usize,
    word: char,
    status: u8,
}

#[derive(Clone, Debug)]
enum Script {
    Command(Command),
    /// A line each, with `$?` printed after it.
    Lines(Vec<Script>),
    And(Box<Script>, Box<Script>),
    Or(Box<Script>, Box<Script>),
    Not(Box<Script>),
    If(Box<Script>, Box<Script>, Box<Script>),
    /// `for` over so many words.
    Repeat(u8, Box<Script>),
    Subshell(Box<Script>),
    Group(Box<Script>),
    /// A function that is called at once.
    Function(Box<Script>),
    /// `x=$(…)`, printed.
    Substitution(Box<Script>),
    /// A writer and copying stages.
    Pipeline(Command, Vec<Command>),
    /// In the background, waited for.
    Background(Command),
    /// A subshell under `set -e`, of plain commands.
    ErrorExit(Vec<Command>),
}

fn command() -> impl Strategy<Value = Command> {
    let status = prop_oneof![3 => Just(0_u8), 2 => 1..=255_u8];
    (0..3_usize, proptest::char::range('a', 'z'), status).prop_map(|(decision, word, status)| Command {
        decision,
        word,
        status,
    })
}

/// Whole scripts: lines of which some are under `set -e`. Where a status is tested, `set -e` has no effect, and
/// shells disagree about how deep that reaches; so it stands on top only.
fn script() -> impl Strategy<Value = Script> {
    let line = prop_oneof![
        6 => part(),
        1 => vec(command(), 1..4).prop_map(Script::ErrorExit),
    ];
    vec(line, 1..4).prop_map(Script::Lines)
}

fn part() -> impl Strategy<Value = Script> {
    let leaf = prop_oneof![
        6 => command().prop_map(Script::Command),
        2 => (command(), vec(command(), 1..4)).prop_map(|(first, rest)| Script::Pipeline(first, rest)),
        1 => command().prop_map(Script::Background),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        prop_oneof![
            3 => vec(inner.clone(), 1..4).prop_map(Script::Lines),
            2 => (boxed(), boxed()).prop_map(|(left, right)| Script::And(left, right)),
            2 => (boxed(), boxed()).prop_map(|(left, right)| Script::Or(left, right)),
            1 => boxed().prop_map(Script::Not),
            1 => (boxed(), boxed(), boxed()).prop_map(|(test, yes, no)| Script::If(test, yes, no)),
            1 => (1..3_u8, boxed()).prop_map(|(count, body)| Script::Repeat(count, body)),
            1 => boxed().prop_map(Script::Subshell),
            1 => boxed().prop_map(Script::Group),
            1 => boxed().prop_map(Script::Function),
            1 => boxed().prop_map(Script::Substitution),
        ]
    })
}

impl Shown for Script {
    fn show(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\n{}", self.text())
    }
}

impl Command {
    fn name(&self) -> &'static str {
        NAMES[self.decision]
    }

    fn is_denied(&self) -> bool {
        self.name() == "deny-it"
    }

    fn text(&self, prefix: &str) -> String {
        format!("{} {prefix}out:{} exit:{}", self.name(), self.word, self.status)
    }
}

impl Script {
    fn text(&self) -> String {
        match self {
            Script::Command(command) => command.text(""),
            Script::Lines(lines) => {
                let mut text = "{\n".to_owned();
                for line in lines {
                    let _ = writeln!(text, "{}\necho $?", line.text());
                }
                text + "}"
            }
            Script::And(left, right) => format!("{{ {}\n}} && {{ {}\n}}", left.text(), right.text()),
            Script::Or(left, right) => format!("{{ {}\n}} || {{ {}\n}}", left.text(), right.text()),
            Script::Not(inner) => format!("! {{ {}\n}}", inner.text()),
            Script::If(test, yes, no) => {
                format!("if {}\nthen {}\nelse {}\nfi", test.text(), yes.text(), no.text())
            }
            Script::Repeat(count, body) => {
                let words = vec!["w"; usize::from(*count)].join(" ");
                format!("for w in {words}\ndo {}\ndone", body.text())
            }
            Script::Subshell(inner) => format!("( {}\n)", inner.text()),
            Script::Group(inner) => format!("{{ {}\n}}", inner.text()),
            Script::Function(body) => format!("{{ f() {{ {}\n}}\nf\n}}", body.text()),
            Script::Substitution(inner) => {
                format!("{{ x=$( {}\n)\necho \"<$x> $?\"\n}}", inner.text())
            }
            Script::Pipeline(first, rest) => {
                let mut text = first.text("");
                for stage in rest {
                    let _ = write!(text, " | {}", stage.text("copy "));
                }
                text
            }
            Script::Background(command) => format!("{{ {} & wait $!\n}}", command.text("")),
            Script::ErrorExit(commands) => {
                let lines: Vec<String> = commands.iter().map(|command| command.text("")).collect();
                format!("( set -e\n{}\n)", lines.join("\n"))
            }
        }
    }

    /// Adds what the script prints to `transcript` and gives its status.
    fn play(&self, transcript: &mut Transcript) -> i32 {
        match self {
            Script::Command(command) | Script::Background(command) => transcript.command(command),
            Script::Lines(lines) => {
                for line in lines {
                    let status = line.play(transcript);
                    let _ = writeln!(transcript.output, "{status}");
                }
                0
            }
            Script::And(left, right) => match left.play(transcript) {
                0 => right.play(transcript),
                status => status,
            },
            Script::Or(left, right) => match left.play(transcript) {
                0 => 0,
                _ => right.play(transcript),
            },
            Script::Not(inner) => i32::from(inner.play(transcript) == 0),
            Script::If(test, yes, no) => match test.play(transcript) {
                0 => yes.play(transcript),
                _ => no.play(transcript),
            },
            Script::Repeat(count, body) => (0..*count).fold(0, |_, _| body.play(transcript)),
            Script::Subshell(inner) | Script::Group(inner) | Script::Function(inner) => {
                inner.play(transcript)
            }
            Script::Substitution(inner) => {
                let mut inside = Transcript::default();
                let status = inner.play(&mut inside);
                transcript.error.push_str(&inside.error);
                let value = inside.output.trim_end_matches('\n');
                let _ = writeln!(transcript.output, "<{value}> {status}");
                0
            }
            Script::Pipeline(first, rest) => {
                let mut data = String::new();
                let mut status = 0;
                for stage in std::iter::once(first).chain(rest) {
                    // A denied stage reads nothing and writes nothing.
                    if stage.is_denied() {
                        data.clear();
                    }
                    let mut alone = Transcript::default();
                    status = alone.command(stage);
                    data.push_str(&alone.output);
                    transcript.error.push_str(&alone.error);
                }
                transcript.output.push_str(&data);
                status
            }
            Script::ErrorExit(commands) => {
                let mut status = 0;
                for command in commands {
                    status = transcript.command(command);
                    if status != 0 {
                        break;
                    }
                }
                status
            }
        }
    }
}

#[derive(Debug, Default)]
struct Transcript {
    output: String,
    error: String,
}

impl Transcript {
    fn command(&mut self, command: &Command) -> i32 {
        if command.is_denied() {
            self.error.push_str(&denial(command.name()));
            return 1;
        }
        let _ = writeln!(self.output, "{}", command.word);
        i32::from(command.status)
    }
}
