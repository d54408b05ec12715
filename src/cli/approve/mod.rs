//! Asks for approval on the terminal.
//!
//! Whatever the sandboxed side can do to the terminal, it must not answer. So each question asks for a word that only its own
//! text shows: what was typed ahead, or is put into the terminal's input by TIOCSTI, cannot contain it. (A delay before the
//! answer counts would be shorter to type, but an injecting program just waits for its end, and so would a held key.)

mod terminal;
mod word;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use shell_escalation::{Approval, Approver, PolicyError, Question};
use tokio::sync::Mutex;

use super::interrupts::Interrupts;
use super::question::{question, shown};
use terminal::{Input, Terminal};

/// Wrong answers that end a question, and questions ended so that end all questions: a program that guesses words gets no
/// more attempts.
const MOST_WRONG: u32 = 3;

/// Asks one question at a time on the controlling terminal.
pub(super) struct TerminalApprover {
    /// The environment that the shell was given: differences from it are shown.
    environment: BTreeMap<OsString, OsString>,
    interrupts: Arc<Interrupts>,
    turn: Mutex<()>,
    /// Questions that ended with wrong answers only.
    misunderstood: AtomicU32,
}

impl TerminalApprover {
    pub(super) fn new(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        interrupts: Arc<Interrupts>,
    ) -> Self {
        Self {
            environment: environment.into_iter().collect(),
            interrupts,
            turn: Mutex::new(()),
            misunderstood: AtomicU32::new(0),
        }
    }
}

impl Approver for TerminalApprover {
    async fn approve(&self, asked: Question<'_>) -> Result<Approval, PolicyError> {
        let request = asked.request;
        let _turn = self.turn.lock().await;
        let text = match question(&asked, &self.environment) {
            Ok(text) => text,
            Err(too_long) => return Ok(no(too_long.to_string())),
        };
        let Ok(mut terminal) = Terminal::open() else {
            return Ok(no("needs approval, but there is no terminal to ask on"));
        };
        if terminal.is_background(request.peer) {
            // Its shell is reading from the terminal, and would receive the answer.
            return Ok(no("needs approval, but runs in the background"));
        }
        // Until the answer, the terminal's signals arrive here; an interrupt is meant for the command that waits for it.
        terminal.take()?;
        let asking = self.interrupts.question();
        let program = shown(request.program.as_os_str());
        tokio::select! {
            answer = self.ask(&mut terminal, &text, &program) => Ok(answer?),
            () = asking.interrupted() => {
                terminal.interrupt();
                Ok(no("interrupted"))
            }
        }
    }
}

impl TerminalApprover {
    async fn ask(&self, terminal: &mut Terminal, text: &str, program: &str) -> io::Result<Approval> {
        terminal.say(text).await?;
        let mut wrong = 0;
        terminal.forget_input()?;
        while wrong < MOST_WRONG {
            let word = word::random()?;
            terminal
                .say(&format!(
                    "To run {program} outside, type {word} (or \"{word} always\" for this very command from now on);\n\
                     otherwise no, or never (no to everything in this session): "
                ))
                .await?;
            let line = match terminal.line().await? {
                Input::Line(line) => line,
                Input::End => return Ok(no("not approved")),
                // What is not here is left to the other process: robbed of it, it would take the next answer, too.
                Input::Stolen => {
                    terminal
                        .say("\nThe answer was lost: it was typed before the question, or another program reads from this terminal.\n")
                        .await?;
                    continue;
                }
            };
            match line.trim() {
                "n" | "no" => return Ok(no("not approved")),
                "never" => {
                    return Ok(Approval::NoToAll {
                        reason: Some("nothing is approved any more in this session".to_owned()),
                    });
                }
                answer if answer == word => return Ok(Approval::Yes),
                answer if answer.strip_suffix(" always").map(str::trim_end) == Some(&word) => {
                    return Ok(Approval::Always);
                }
                _ => {
                    wrong += 1;
                    terminal.forget_input()?;
                }
            }
        }
        if self.misunderstood.fetch_add(1, Ordering::Relaxed) + 1 < MOST_WRONG {
            return Ok(no("not approved: three wrong answers"));
        }
        Ok(Approval::NoToAll {
            reason: Some("nothing is approved any more in this session: too many wrong answers".to_owned()),
        })
    }
}

fn no(reason: impl Into<String>) -> Approval {
    Approval::No {
        reason: Some(reason.into()),
    }
}
