//! A server under hostile input: others are served meanwhile, and afterwards it holds what it held before.

use std::time::Duration;

use crate::case::context::Context;
use crate::case::expect;
use crate::peer::fake_wrapper::Requester;
use crate::peer::wire::Received;
use crate::stage::holdings::Holdings;
use crate::stage::server::Stage;
use crate::system::holders::of_other_end;
use crate::system::launch::Launch;
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict, violation};

/// How many hostile streams are open while others have to be served. Together they are no more than a server must
/// handle at once.
pub const OPEN_AT_ONCE: usize = 50;

/// By how many bytes a server's memory may have grown after hostile input: less than what is sent to it, more than
/// what allocators keep.
const ALLOWED_GROWTH: u64 = 64 << 20;

/// A server before hostile input, and what it held then.
pub struct Siege {
    /// Session, policy, and requests of others.
    pub stage: Stage,
    before: Holdings,
}

impl Siege {
    /// A server at rest that has served some requests.
    pub fn new(context: &mut Context) -> Result<Siege, CaseError> {
        Siege::on(context, |launch| launch)
    }

    /// The same on a shim that is started in another way.
    pub fn on(context: &mut Context, change: impl FnOnce(Launch) -> Launch) -> Result<Siege, CaseError> {
        // Floods would bury everything else in a transcript.
        let loud = std::mem::replace(&mut context.transcript, Transcript::new(|_| {}));
        let stage = Stage::on(context, change);
        context.transcript = loud;
        let mut stage = stage?;
        for _ in 0..3 {
            stage.sentinel()?;
        }
        let shell = [stage.session.probe.report.pid];
        let before = Holdings::at_rest(&stage.shim, &shell, context.patience());
        Ok(Siege { stage, before })
    }

    /// Demands that the request of another wrapper is served.
    pub fn others_are_served(&mut self) -> Verdict {
        self.stage.sentinel()
    }

    /// Demands that the server comes to hold no more descriptors and processes than before.
    pub fn expect_rest(&self, context: &Context, what: &str) -> Result<Holdings, CaseError> {
        let shell = [self.stage.session.probe.report.pid];
        Holdings::expect_returned(&self.stage.shim, &shell, &self.before, what, context.patience())
    }

    /// Demands that others are served and that the server holds what it held before.
    pub fn lift(mut self, context: &Context, what: &str) -> Verdict {
        self.stage.sentinel()?;
        let after = self.expect_rest(context, what)?;
        expect::that(
            after.memory.saturating_sub(self.before.memory) < ALLOWED_GROWTH,
            format_args!(
                "after {what} the server has less than {ALLOWED_GROWTH} bytes of anonymous memory above the {} before",
                self.before.memory
            ),
            format_args!("{} bytes", after.memory),
        )?;
        self.stage.finish()
    }
}

/// Waits until the server answers or closes the stream: whatever it makes of the input, it must not hang.
pub fn expect_any_answer(requester: &mut Requester, what: &str, patience: Duration) -> Verdict {
    match requester.frames.receive_within(patience)? {
        Received::Frame(_) | Received::End { .. } => Ok(()),
        Received::Silence { .. } => Err(violation(
            format_args!("a decision, or the end of the stream, for {what}"),
            format_args!(
                "nothing within {patience:?}: the wrapper would hang; its stream is {}",
                of_other_end(requester.frames.socket())
            ),
        )),
    }
}
