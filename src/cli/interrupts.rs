//! Interrupts while a question is pending: they are for the question.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

    /// Interrupts the pending question; false if there is none.
    pub(super) fn interrupt_question(&self) -> bool {
        let question = self.current();
        if let Some(question) = &*question {
            question.notify_one();
        }
        question.is_some()
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
