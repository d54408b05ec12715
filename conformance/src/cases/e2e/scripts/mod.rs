//! e2e.scripts: scripts whose commands are run, escalated and denied.

pub mod as_stock;
pub mod fixtures;
pub mod random;
pub mod reported;
pub mod shell_features;
