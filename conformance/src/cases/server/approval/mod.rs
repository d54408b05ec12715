//! Approvals: what an approver is asked, and what becomes of its answers.

pub mod abort;
pub mod answer;
pub mod ask;
pub mod clock;
pub mod withdrawn;
