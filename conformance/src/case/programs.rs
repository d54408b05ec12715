//! The file that the programs of cases are copies of.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The program beside the suite's executable that is the probe and nothing else: a fraction to copy and to start.
const BESIDE: &str = "conformance-probe";

/// What the suite's sources come to. A probe that was built of others may understand its plan in another way.
pub const BUILD: &str = env!("CONFORMANCE_SOURCES");

/// The probe beside this executable where it is of the same build, else this executable, which is one too.
///
/// # Errors
/// Where the path of this executable cannot be known, for instance without /proc.
pub fn source() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.with_file_name(BESIDE);
    let said = Command::new(&beside).stdin(Stdio::null()).output();
    Ok(match said {
        Ok(output) if output.stdout.trim_ascii_end() == BUILD.as_bytes() => beside,
        _ => own,
    })
}
