//! What the integration tests share: a hand-written wrapper, and a view of /proc.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod chain;
pub mod processes;
pub mod repository;
pub mod wrapper;
