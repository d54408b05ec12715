//! e2e.tty.job: commands on a terminal of the server's own session are part of their job.

pub mod keys;
pub mod programs;
