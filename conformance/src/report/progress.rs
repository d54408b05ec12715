//! What people see of a run: a line per case, with a bar below them on a terminal, and then the failures and the summary.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Reporter, human};
use crate::case::implementations::Implementations;
use crate::case::result::CaseResult;
use crate::case::run::{Run, RunEvent};

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A line per case.
    Lines,
    /// A line and the wire of every case.
    Wires,
    /// All there is of a case that runs alone.
    OneCase,
}

/// Shows a run to people.
pub struct Progress {
    bar: Option<ProgressBar>,
    detail: Detail,
    to_standard_error: bool,
    /// What is said before the first case, one line each.
    head: String,
    /// The first write that failed. The run goes on, so that the reports in files are complete.
    broken: Option<std::io::Error>,
}

impl Progress {
    /// Shows a run on standard output, or on standard error where a report has standard output to itself.
    pub fn new(detail: Detail, report_on_stdout: bool) -> Progress {
        let terminal = detail != Detail::OneCase
            && std::io::stderr().is_terminal()
            && (report_on_stdout || std::io::stdout().is_terminal());
        let bar = terminal.then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Progress {
            bar,
            detail,
            to_standard_error: report_on_stdout,
            head: String::new(),
            broken: None,
        }
    }

    /// The same, which begins with what the wrapper was seen to have.
    pub fn about(mut self, implementations: &Implementations) -> Progress {
        if implementations.wrapper.is_some() && self.detail != Detail::OneCase {
            self.head = format!(
                "the wrapper's extensions: {}\n",
                implementations.shown_extensions()
            );
        }
        self
    }

    fn begin(&mut self, round: u32, seed: u64, cases: usize) {
        if round > 1 {
            self.say(&format!("-- round {round}, seed {seed}\n"));
        } else {
            let head = std::mem::take(&mut self.head);
            self.say(&head);
        }
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_length(cases as u64);
        }
    }

    fn finished(&mut self, result: &CaseResult) {
        let mut text = human::line(result) + "\n";
        let shows_the_wire = match self.detail {
            Detail::Lines => false,
            Detail::Wires => true,
            // The summary shows that of a failure.
            Detail::OneCase => !result.is_unexpected(),
        };
        if shows_the_wire {
            text.push_str(&human::trace(result));
        }
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                if shows_the_wire || result.is_unexpected() {
                    bar.println(text.trim_end());
                }
            }
            None => self.say(&text),
        }
    }

    fn end(&mut self, run: &Run) {
        let mut text = match self.detail {
            Detail::OneCase => human::failures(run),
            Detail::Lines | Detail::Wires => human::summary(run),
        };
        if run.rounds > 1 {
            text.push_str(&human::rounds(run));
        }
        if let Some(cut_short) = run.cut_short {
            text.push_str(&format!("{cut_short}\n"));
        }
        self.say(&text);
    }

    fn say(&mut self, text: &str) {
        if self.broken.is_none() {
            let written = if self.to_standard_error {
                std::io::stderr().lock().write_all(text.as_bytes())
            } else {
                std::io::stdout().lock().write_all(text.as_bytes())
            };
            self.broken = written.err();
        }
    }
}

impl Reporter for Progress {
    fn hear(&mut self, event: &RunEvent) {
        match event {
            RunEvent::RoundStarted { round, seed, cases } => self.begin(*round, *seed, *cases),
            RunEvent::CaseStarted(id) => {
                if let Some(bar) = &self.bar {
                    bar.set_message(*id);
                }
            }
            RunEvent::CaseFinished(result) => self.finished(result),
            RunEvent::RoundFinished { kept } => {
                if let Some(bar) = &self.bar {
                    bar.finish_and_clear();
                }
                if let Some(kept) = kept {
                    self.say(&format!(
                        "the cases' directories are kept under {}\n",
                        kept.display()
                    ));
                }
            }
            RunEvent::RunFinished(run) => self.end(run),
        }
    }

    fn close(&mut self) -> anyhow::Result<()> {
        self.broken.take().map_or(Ok(()), |error| Err(error.into()))
    }
}
