//! Interrupts from the keyboard: they are for the pending question, for the shell, or for this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::signal::unix::Signal;
use tokio::sync::Notify;

/// Directs interrupts to the pending question, if there is one.
#[derive(Default)]
pub(super) struct Interrupts {
    question: Mutex<Option<Arc<Notify>>>,
}

/// A pending question, which receives the interrupts until it is dropped.
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

    /// Completes at the first of these signals that is meant for this process. What a terminal sends to its foreground group
    /// reaches the shell as well, and is left to the shell.
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
