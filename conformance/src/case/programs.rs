//! The file that the programs of cases are copies of.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use memchr::memmem;

/// The program beside the suite's executable that is the probe and nothing else: a fraction to copy and to start.
const BESIDE: &str = "conformance-probe";

/// What every executable of this build has in it. A probe that was built of other sources may understand its plan in another
/// way.
pub const BUILD: &str = concat!("a conformance probe, built of ", env!("CONFORMANCE_SOURCES"));

/// The probe beside this executable where it is of the same build, else this executable, which is one too.
///
/// # Errors
/// Where the path of this executable cannot be known, for instance without /proc.
pub fn source() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.with_file_name(BESIDE);
    Ok(if is_of_this_build(&beside).unwrap_or(false) {
        beside
    } else {
        own
    })
}

/// Whether a file has the mark of this build in it. It is not started: anything may have that name.
fn is_of_this_build(path: &Path) -> io::Result<bool> {
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(memmem::find(&bytes, BUILD.as_bytes()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_of_this_build_has_its_mark() {
        let folder = tempfile::tempdir().expect("a folder");
        let other = folder.path().join("other");
        let mark = |path: &Path| is_of_this_build(path).ok();
        assert_eq!(
            mark(&std::env::current_exe().expect("this executable")),
            Some(true)
        );
        assert_eq!(mark(&other), None);
        let stale = format!("{}{:016x}", &BUILD[..BUILD.len() - 16], 0);
        std::fs::write(&other, stale).expect("a stale probe");
        assert_eq!(mark(&other), Some(false));
        assert_eq!(mark(folder.path()), Some(false));
        std::fs::remove_file(&other).expect("no probe");
        // Without a writer, opening it would wait for ever.
        nix::unistd::mkfifo(&other, nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
        assert_eq!(mark(&other), Some(false));
    }
}
