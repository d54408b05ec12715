//! What the policy is asked, and what becomes of a request whose policy fails.

pub mod error;
pub mod input;
pub mod same_file;
