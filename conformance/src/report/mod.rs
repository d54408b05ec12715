//! Reports of a run: for people on the terminal and in a browser, for programs as JSON, JUnit XML and TAP.
//!
//! Every reporter hears the same events ([`crate::case::run::RunEvent`]): [`progress`] writes while the run goes on,
//! [`files`] when it is over.

pub mod changes;
pub mod diff;
pub mod files;
pub mod html;
pub mod human;
pub mod join;
pub mod json;
pub mod junit;
pub mod matrix;
pub mod progress;
pub mod schema;
pub mod shares;
pub mod tap;

use crate::case::run::RunEvent;

/// Something that tells of a run.
pub trait Reporter {
    /// Hears what happens. What goes wrong in telling of it does not disturb the run, and is said by [`Reporter::close`].
    fn hear(&mut self, event: &RunEvent);

    /// Ends the report.
    ///
    /// # Errors
    /// What could not be written, now or before.
    fn close(&mut self) -> anyhow::Result<()>;
}
