//! Reference wrapper.
fn main() {}
