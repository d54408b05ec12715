//! Tries parsers on hostile bytes: mutations of a corpus, within bounds of memory and time.
//!
//! The unit tests named `fuzz` use it, each next to the parser that it tries. As ordinary tests they try some thousands of
//! inputs from a fixed seed; `make fuzz` gives them time. These variables say more:
//!
//! - `FUZZ_SECONDS`: how long each target is tried, instead of that number of inputs;
//! - `FUZZ_SEED`: the seed, which is printed; with `FUZZ_SECONDS` it is a random one otherwise;
//! - `FUZZ_INPUT`: a file with the only input to try.
//!
//! An input that fails is made smaller and saved below `target/fuzz/`. Moved to `fixtures/hostile/TARGET/`, it is tried first
//! in every run.

mod allocations;
mod mutation;
mod probe;
mod target;
mod tree;

pub use probe::{Bounds, Probe};
pub use target::Target;
pub use tree::{Tree, Twice};
