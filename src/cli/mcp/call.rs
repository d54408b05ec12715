//! One call of a tool: its progress, and its cancellation.

use std::future::Future;
use std::time::Duration;

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::RequestContext;
use rmcp::{Peer, RoleServer};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::link::Link;

/// How often a client that wants to know hears of a call that goes on.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// A call that is being served.
pub(super) struct Call<'a> {
    client: Peer<RoleServer>,
    /// Given by clients that want progress reports.
    token: Option<ProgressToken>,
    /// When the client takes the call back.
    pub(super) cancelled: CancellationToken,
    link: &'a Link,
    started: Instant,
}

impl<'a> Call<'a> {
    pub(super) fn new(context: RequestContext<RoleServer>, link: &'a Link) -> Self {
        Self {
            token: context.meta.get_progress_token(),
            client: context.peer,
            cancelled: context.ct,
            link,
            started: Instant::now(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The output of `work`, which is dropped when the client takes the call back.
    ///
    /// # Errors
    /// When it does. No one reads the message.
    pub(super) async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => Err("the client has cancelled the call".to_owned()),
            output = work => Ok(output),
        }
    }

    /// The output of `work`; while it takes its time, the client hears of it.
    pub(super) async fn reporting<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let mut ticks = interval_at(self.started + REPORT_EVERY, REPORT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                output = &mut work => return output,
                _ = ticks.tick(), if self.token.is_some() => {
                    // `work` goes on meanwhile, even if the client reads nothing.
                    tokio::select! {
                        biased;
                        output = &mut work => return output,
                        () = self.report() => {}
                    }
                }
            }
        }
    }

    async fn report(&self) {
        let Some(token) = self.token.clone() else {
            return;
        };
        let elapsed = self.elapsed();
        let state = if self.link.questions.any() {
            "a command waits for approval"
        } else {
            "running"
        };
        let progress = ProgressNotificationParam::new(token, elapsed.as_secs_f64())
            .with_message(format!("{state} after {} s", elapsed.as_secs()));
        if let Err(error) = self.client.notify_progress(progress).await {
            tracing::debug!(%error, "no progress was reported");
        }
    }
}
