//! wrapper.run.binary: what the kernel doesn't execute and is no text, a shell doesn't execute, either.

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::spec::requirements::Role;
use crate::stage::wrapper::run_file;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.run.binary/nul-in-the-first-line", nul_in_the_first_line),
    case("wrapper.run.binary/elf-of-another-machine", elf_of_another_machine),
    case("wrapper.run.binary/elf-that-is-cut-off", elf_that_is_cut_off),
]);

/// The beginning of an archive, and a command that a shell would find behind it.
fn nul_in_the_first_line(context: &mut Context) -> Verdict {
    refused(context, b"PK\x03\x04\0\0\n/usr/bin/touch ran || touch ran\n")
}

/// A whole header of a program for a machine that there isn't.
fn elf_of_another_machine(context: &mut Context) -> Verdict {
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(16, 0);
    // An executable (2) for machine 0xfff0, version 1; a shell finds its next line behind it.
    program.extend([2, 0, 0xf0, 0xff, 1, 0, 0, 0]);
    program.resize(64, 0);
    program.extend(b"\ntouch ran\n");
    refused(context, &program)
}

/// No NUL in the first line, but the magic of ELF.
fn elf_that_is_cut_off(context: &mut Context) -> Verdict {
    refused(context, b"\x7fELF\x02\x01\x01\ntouch ran\n")
}

/// Demands that no shell looks for commands in the file.
fn refused(context: &Context, content: &[u8]) -> Verdict {
    let file = context.write_file("work/program", content, 0o755)?;
    let finished = run_file(context, &file.to_string_lossy(), &["program"])?;
    expect::that(
        !context.work_directory().join("ran").exists(),
        "no shell executes what it finds in a binary",
        "a command among its bytes was executed",
    )?;
    finished.expect_status(126)?;
    finished.expect_no_output()?;
    finished.expect_one_line()?;
    expect::contains("standard error", &finished.error_text(), "program")
}
