//! What was tried has written into a file of any size.

use std::io::Read;
use std::path::Path;

/// Bytes of an answer or of a standard error that are read.
const READ_BYTES: u64 = 4_000;

/// The first bytes of a file, of any size.
pub fn beginning_of(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(READ_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
