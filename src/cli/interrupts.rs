//! Interrupts from the keyboard: for a question that is on the terminal, for the shell, or for this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::signal::unix::Signal;
use tokio::sync::Notify;

/// Where interrupts go while a question is on the terminal.
#[derive(Default)]
pub(super) struct Interrupts {
    question: Mutex<Option<Arc<Notify>>>,
}

/// A question on the terminal; from now to its drop the interrupts are its own.
pub(super) struct Question {
    interrupts: Arc<Interrupts>,
    interrupted: Arc<Notify>,
}

impl Interrupts {
    pub(super) fn question(self: &Arc<Self>) -> Question {
        let interrupted = Arc::new(Notify::new());
        *self.current() = Some(Arc::clone(&interrupted));
        Question {
            interrupts: Arc::clone(self),
            interrupted,
        }
    }

    /// Completes at the first of these signals that is meant for this process. What a terminal sends to its foreground goes to
    /// the shell as well, and it is for the shell to obey.
    pub(super) async fn sent_to_us(&self, signals: &mut Signal) {
        while signals.recv().await.is_some() {
            if let Some(question) = &*self.current() {
                question.notify_one();
                continue;
            }
            let terminal = std::fs::File::open("/dev/tty");
            let foreground = terminal.ok().and_then(|terminal| tcgetpgrp(terminal).ok());
            if foreground != Some(getpgrp()) {
                return;
            }
        }
        std::future::pending().await
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Notify>>> {
        self.question.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    /// Completes when the question has been interrupted.
    pub(super) async fn interrupted(&self) {
        self.interrupted.notified().await;
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        *self.interrupts.current() = None;
    }
}
