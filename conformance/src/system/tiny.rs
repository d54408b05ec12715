//! The smallest programs: each writes one letter to its standard output and exits with a status.
//!
//! For cases that start thousands of programs, and for those that have to tell two files of one kind apart by
//! what they do alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::verdict::CaseError;

/// What the kernel makes of a program's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Machine code; on machines whose code this file doesn't know, a script.
    Binary,
    /// A text that begins with `#!/bin/sh`.
    Script,
    /// A text without `#!`.
    BareScript,
}

/// Writes an executable file of its own at `path`, which must not exist.
///
/// # Errors
/// Where it cannot be written.
pub fn write(path: &Path, kind: Kind, letter: u8, status: u8) -> Result<(), CaseError> {
    let commands = format!("printf %c {}\nexit {status}\n", char::from(letter));
    let bytes = match kind {
        Kind::Binary => match machine_code(letter, status) {
            Some(code) => executable(&code),
            None => format!("#!/bin/sh\n{commands}").into_bytes(),
        },
        Kind::Script => format!("#!/bin/sh\n{commands}").into_bytes(),
        Kind::BareScript => commands.into_bytes(),
    };
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// write(1, &letter, 1); exit(status);
fn machine_code(letter: u8, status: u8) -> Option<Vec<u8>> {
    if cfg!(target_arch = "x86_64") {
        let mut code = vec![
            0xb8, 1, 0, 0, 0, // mov eax, 1 (write)
            0xbf, 1, 0, 0, 0, // mov edi, 1
            0x48, 0x8d, 0x35, 0x13, 0, 0, 0, // lea rsi, [rip + 0x13], the letter
            0xba, 1, 0, 0, 0, // mov edx, 1
            0x0f, 0x05, // syscall
            0xbf, status, 0, 0, 0, // mov edi, status
            0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
            0x0f, 0x05, // syscall
        ];
        code.push(letter);
        return Some(code);
    }
    if cfg!(target_arch = "aarch64") {
        let instructions = [
            0xd280_0020,                          // mov x0, #1
            0x1000_00e1,                          // adr x1, the letter
            0xd280_0022,                          // mov x2, #1
            0xd280_0808,                          // mov x8, #64 (write)
            0xd400_0001,                          // svc #0
            0xd280_0000 | u32::from(status) << 5, // mov x0, status
            0xd280_0ba8,                          // mov x8, #93 (exit)
            0xd400_0001,                          // svc #0
        ];
        let mut code: Vec<u8> = instructions.iter().flat_map(|word| word.to_le_bytes()).collect();
        code.push(letter);
        return Some(code);
    }
    None
}

/// An ELF file of one segment: header, program header, code.
fn executable(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let length = HEADERS + code.len() as u64;
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bit, little-endian, version 1
    for half in [2_u16, machine] {
        file.extend(half.to_le_bytes()); // executable
    }
    file.extend(1_u32.to_le_bytes()); // version
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(u64::to_le_bytes(word)); // entry, program headers, no sections
    }
    file.extend(0_u32.to_le_bytes()); // flags
    for half in [64_u16, 56, 1, 64, 0, 0] {
        file.extend(half.to_le_bytes()); // sizes and numbers of headers
    }
    for word in [1_u32, 5] {
        file.extend(word.to_le_bytes()); // to be loaded, readable and executable
    }
    for word in [0, BASE, BASE, length, length, 0x1000] {
        file.extend(u64::to_le_bytes(word)); // offset, addresses, sizes, alignment
    }
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn each_kind_says_its_letter_and_exits_with_its_status() {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, kind) in [
            ("binary", Kind::Binary),
            ("script", Kind::Script),
            ("bare", Kind::BareScript),
        ] {
            let path = directory.path().join(name);
            write(&path, kind, b'k', 42).expect("a program");
            let output = if kind == Kind::BareScript {
                Command::new("/bin/sh").arg(&path).output()
            } else {
                Command::new(&path).output()
            }
            .expect("the program starts");
            assert_eq!(
                (output.stdout.as_slice(), output.status.code()),
                (b"k".as_slice(), Some(42)),
                "{name}"
            );
        }
    }
}
