//! All terminals of a host.

use std::fmt;

use tokio_util::sync::CancellationToken;

use super::backend::{Backend, ShellBackend};
use super::output::End;

/// What terminals are like.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What prepares the programs.
    pub backend: ShellBackend,
    /// When this is cancelled, all terminals end.
    pub parent: CancellationToken,
    /// How many there may be, ended ones included. Opening one more prunes one: ended ones before others, and those first that
    /// have not been used for longest. Default: 64.
    pub most: usize,
    /// So many that were used last are not pruned. Default: 8.
    pub protected: usize,
    /// How many bytes of output are kept per terminal until they are read: the first and the last ones. Default: 1 MiB.
    pub output_limit: usize,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(backend: ShellBackend) -> Self {
        Self {
            backend,
            parent: CancellationToken::new(),
            most: 64,
            protected: 8,
            output_limit: 1024 * 1024,
        }
    }
}

/// Names a terminal. Ids are numbers that are never used again by the same [`Terminals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TerminalId(u64);

impl TerminalId {
    /// From the number that [`Display`](fmt::Display) shows.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TerminalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A terminal as [`Terminals::list`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its id.
    pub id: TerminalId,
    /// Whether its commands are decided.
    pub backend: Backend,
    /// How its program has ended, if it has.
    pub end: Option<End>,
}

/// The terminals of a host, which end when this is dropped, when they are closed or pruned, when
/// [`Config::parent`] is cancelled, and with this process, even if that is killed: their programs with all that they have
/// started, pending decisions, and escalated commands.
#[derive(Debug)]
pub struct Terminals {
    #[expect(dead_code, reason = "read by the methods, which follow")]
    config: Config,
}

impl Terminals {
    /// None yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}
