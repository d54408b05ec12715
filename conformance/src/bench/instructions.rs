//! Counts instructions of one run, on machines that can.

use perf_event::events::Hardware;
use perf_event::{Builder, Counter};

use super::measure::Start;

/// A counter of the instructions of this thread and what it starts.
pub struct Instructions {
    counter: Counter,
}

impl Instructions {
    /// A counter, none where the machine has none: a virtual machine often hides its counters.
    pub fn available() -> Option<Instructions> {
        let mut builder = Builder::new().kind(Hardware::INSTRUCTIONS);
        builder.inherit(true);
        let counter = builder.build().ok()?;
        Some(Instructions { counter })
    }

    /// The instructions of one sample, those of starting it included.
    ///
    /// # Errors
    /// What the sample or the counter says.
    pub fn of(&mut self, start: &Start) -> anyhow::Result<u64> {
        self.counter.reset()?;
        self.counter.enable()?;
        let sample = start.sample();
        self.counter.disable()?;
        sample?;
        Ok(self.counter.read()?)
    }
}
