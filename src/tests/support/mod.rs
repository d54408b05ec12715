//! A wrapper written by hand, and eyes for /proc: what the integration tests share.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod chain;
pub mod processes;
pub mod wrapper;
