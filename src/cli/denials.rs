//! Whether a command of this run was denied, which explains a failure better than the sandbox does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shell_escalation::{Action, Decision, EscalationPolicy, PolicyError, PolicyRequest};

/// A policy, and where its denials are noted.
pub(super) struct Noting<P> {
    pub(super) policy: P,
    pub(super) denied: Arc<AtomicBool>,
}

impl<P: EscalationPolicy> EscalationPolicy for Noting<P> {
    async fn decide(&self, request: &PolicyRequest) -> Result<Decision, PolicyError> {
        let decided = self.policy.decide(request).await;
        let is_denial = |decision: &Decision| matches!(decision.action(), Action::Deny { .. });
        if decided.as_ref().map_or(true, is_denial) {
            self.denied.store(true, Ordering::Relaxed);
        }
        decided
    }
}
