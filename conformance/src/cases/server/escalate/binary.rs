//! What the kernel doesn't execute and is no text, a shell doesn't execute outside of the sandbox, either.

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::harness::Answer;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::server::Stage;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.binary/nul-in-the-first-line", nul_in_the_first_line),
    case("server.escalate.binary/elf-that-is-cut-off", elf_that_is_cut_off),
    case("server.escalate.binary/nul-after-the-first-line", nul_after_the_first_line),
    case("server.escalate.binary/empty-file", empty_file),
]);

/// The beginning of an archive, and a command that a shell would find behind it.
fn nul_in_the_first_line(context: &mut Context) -> Verdict {
    refused(context, b"PK\x03\x04\0\0\n/usr/bin/touch ran || touch ran\n")
}

/// No NUL in the first line, but the magic of ELF.
fn elf_that_is_cut_off(context: &mut Context) -> Verdict {
    refused(context, b"\x7fELF\x02\x01\x01\ntouch ran\n")
}

/// What makes a file a text is its first line; scripts may carry an archive behind their last one.
fn nul_after_the_first_line(context: &mut Context) -> Verdict {
    let status = escalate(context, b"echo text\nexit 5\n\0\x7fELF\0\n")?;
    expect::equal("exit_code of a script with a NUL behind its end", 5, status)
}

/// An empty file is a script of no commands.
fn empty_file(context: &mut Context) -> Verdict {
    let status = escalate(context, b"")?;
    expect::equal("exit_code of an executable file without content", 0, status)
}

/// Demands that no shell looks for commands in the program.
fn refused(context: &Context, content: &[u8]) -> Verdict {
    let status = escalate(context, content)?;
    expect::that(
        !context.work_directory().join("ran").exists(),
        "no shell executes what it finds in a binary",
        "a command among its bytes was executed",
    )?;
    expect::equal("exit_code of what is no program and no text", 126, status)
}

/// The `exit_code` of an escalated program with that content.
fn escalate(context: &Context, content: &[u8]) -> Result<i64, crate::verdict::CaseError> {
    let program = context.write_file("work/program", content, 0o755)?;
    let mut stage = Stage::new(context)?;
    stage.shim.decide_by(|_| Answer::Escalate);
    let request = stage.request_for(&program.to_string_lossy());
    let mut requester = stage.granted(&request)?;
    requester.send_descriptors(&[(1, &null()?), (2, &null()?)])?;
    let result = requester.result()?;
    stage.finish()?;
    Ok(result["exit_code"].as_i64().unwrap_or(-1))
}
