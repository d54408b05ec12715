//! What can go wrong with a terminal.

use std::io;

use super::id::TerminalId;

/// Why something could not be done with a terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There never was such a terminal, or it has been closed, or pruned to make room for another one.
    #[error("there is no terminal {0}: it has been closed, or had to make room for newer ones")]
    Unknown(TerminalId),
    /// The program could not be started, for this reason.
    #[error("cannot start {program}: {error}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// The program has ended, or has closed its standard input.
    #[error("terminal {0} no longer reads: its program has ended or closed its standard input")]
    NotReading(TerminalId),
    /// The program has ended.
    #[error("the program of terminal {0} has ended")]
    Ended(TerminalId),
    /// There is no such signal.
    #[error("{0} is not the number of a signal")]
    NoSignal(i32),
    /// It has pipes.
    #[error("terminal {0} has no size: its program runs on pipes")]
    NoSize(TerminalId),
    /// All that could make room for another one are being opened themselves.
    #[error("no terminal can be opened now: too many are being opened at the same time")]
    Full,
    /// All of them end.
    #[error("no terminal can be opened any more: the host is ending them all")]
    Ending,
    /// What the system says.
    #[error("terminal {0}: {1}")]
    System(TerminalId, io::Error),
}
