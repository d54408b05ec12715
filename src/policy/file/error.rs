//! Why a policy is refused, and where it is wrong.

use std::path::PathBuf;

/// Where the text of a policy is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
#[non_exhaustive]
pub struct Complaint {
    /// Number of the line, starting at 1.
    pub line: usize,
    /// Number of the character in the line, starting at 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
}

/// Why a policy file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFileError {
    /// The file could not be read.
    #[error("cannot read policy file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a valid policy.
    #[error("{}:{complaint}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where it is wrong, and how.
        complaint: Complaint,
    },
}
