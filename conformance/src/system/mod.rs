//! System services for cases: processes with exact descriptors and signal state, waiting, system call filters.

pub mod clock;
pub mod filter;
pub mod holders;
pub mod launch;
pub mod poll;
pub mod process;
pub mod queue;
pub mod quiescence;
pub mod stat;
pub mod tiny;
