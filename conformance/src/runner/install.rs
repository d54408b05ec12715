//! The probe as the cases of a run copy it, without what only debuggers read.
//!
//! The programs of a case are copies. Were they links to one inode, its change time and its number of links would move
//! whenever a case of any run makes another program, and a server that counts the change time as part of a
//! program's identity (`server.toctou`) would refuse at random.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};

use crate::case::programs;

/// Where e_shoff, e_shnum and e_shstrndx stand in the header of a 64-bit file (elf(5)).
const SECTION_FIELDS: [std::ops::Range<usize>; 2] = [0x28..0x30, 0x3c..0x40];

/// Writes the probe into `directory`, which must be on the file system of the cases.
///
/// # Errors
/// Where the probe cannot be read, or its copy not be written.
pub fn probe(directory: &Path) -> anyhow::Result<PathBuf> {
    let source = programs::source().context("the path of this executable (is /proc mounted?)")?;
    let bytes = std::fs::read(&source).with_context(|| format!("the probe {}", source.display()))?;
    let probe = directory.join("probe");
    let kept = loadable(bytes);
    std::fs::write(&probe, kept).context("a copy of the probe for the cases")?;
    std::fs::set_permissions(&probe, std::fs::Permissions::from_mode(0o755))?;
    Ok(probe)
}

/// The part of an executable that the kernel and the dynamic linker read: everything up to the end of its last segment.
/// What is not a 64-bit ELF file stays whole.
fn loadable(mut bytes: Vec<u8>) -> Vec<u8> {
    let Some(end) = end_of_segments(&bytes) else {
        return bytes;
    };
    bytes.truncate(end);
    for field in SECTION_FIELDS {
        bytes[field].fill(0);
    }
    bytes
}

fn end_of_segments(bytes: &[u8]) -> Option<usize> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, bytes).ok()?;
    let ends = segments
        .iter()
        .map(|segment| segment.p_offset(endian).checked_add(segment.p_filesz(endian)));
    let end = usize::try_from(ends.max()??).ok()?;
    (SECTION_FIELDS[1].end <= end && end <= bytes.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loadable_part_is_smaller_and_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let probe = probe(folder.path()).expect("a probe");
        let whole = std::env::current_exe().expect("this executable");
        let size = |path: &Path| path.metadata().expect("metadata").len();
        assert!(size(&probe) < size(&whole), "{} bytes", size(&probe));
        // The test's own executable lists its tests.
        let output = std::process::Command::new(&probe)
            .arg("--list")
            .output()
            .expect("a start");
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("a_loadable_part_is_smaller_and_runs"));
    }

    #[test]
    fn what_is_no_executable_stays_whole() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01", &[0; 100]] {
            assert_eq!(loadable(bytes.to_vec()), bytes);
        }
    }
}
