//! How the command line ends: its exit statuses, and the errors that are not a usage error.

/// Everything as expected.
pub const EXPECTED: i32 = 0;
/// Failures, unexpected passes or stale baseline entries.
pub const UNEXPECTED: i32 = 1;
/// Usage or configuration.
pub const USAGE: i32 = 2;
/// The suite or the machine failed.
pub const HARNESS: i32 = 3;
/// Nothing was run.
pub const NOTHING: i32 = 4;

/// The suite or the machine failed: exit status 3, not 2.
#[derive(Debug)]
pub struct HarnessFailure(pub String);

impl std::fmt::Display for HarnessFailure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for HarnessFailure {}

/// What is judged lacks something that was demanded of it: exit status 1, not 2.
#[derive(Debug)]
pub struct Lacking(pub String);

impl std::fmt::Display for Lacking {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Lacking {}

/// A signal came before the first case: exit status 128 and its number.
#[derive(Debug)]
pub struct Interrupted(pub i32);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "interrupted by signal {} before the first case",
            self.0
        )
    }
}

impl std::error::Error for Interrupted {}
