//! Baseline *direct*: a static program without the C library that does nothing.
#![no_std]
#![no_main]
#![allow(dead_code)]

include!("start.rs");

fn run(_: Start) -> usize {
    0
}
