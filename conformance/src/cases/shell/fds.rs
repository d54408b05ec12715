//! shell.fds: the command's descriptors with all redirections done, and the escalation socket.

use std::fs::{self, File};
use std::os::fd::AsFd;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::recording_wrapper::{Call, ESCALATION_DESCRIPTOR, LIFELINE, RecordedShell};
use crate::probe::report::{DescriptorReport, Report};
use crate::spec::requirements::Role;
use crate::stage::shell::{command, obedient};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.fds/redirections-done", redirections_done),
    case("shell.fds/escalation-socket", escalation_socket),
    case("shell.fds/nothing-added", nothing_added),
    case("shell.fds/here-document-and-closed", here_document_and_closed),
    case("shell.fds/socket-is-left-alone", socket_is_left_alone),
    case("shell.fds/socket-redirected", socket_redirected),
]);

/// The wrapper's descriptors are the files of the redirections, with their flags.
fn redirections_done(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    let work = context.work_directory();
    for name in ["in", "old", "appended", "three", "five"] {
        fs::write(work.join(name), "text\n")?;
    }
    let shell = RecordedShell::new(context)?;
    shell
        .run("tool <in >out 2>&1 3<three 4>>appended 5<>five 6>&3 7</dev/null")?
        .expect_output("")?;
    let call = shell.only_call("tool")?;
    let files = [
        (0, "in", libc::O_RDONLY),
        (1, "out", libc::O_WRONLY),
        (2, "out", libc::O_WRONLY),
        (3, "three", libc::O_RDONLY),
        (4, "appended", libc::O_WRONLY | libc::O_APPEND),
        (5, "five", libc::O_RDWR),
        (6, "three", libc::O_RDONLY),
    ];
    for (number, name, flags) in files {
        let seen = descriptor(&call, number)?;
        let stat = nix::sys::stat::stat(&work.join(name))?;
        expect::equal(
            &format!("descriptor {number}: the file {name}, by device and inode"),
            (stat.st_dev, stat.st_ino),
            seen.identity,
        )?;
        expect::equal(
            &format!("access mode and O_APPEND of descriptor {number}"),
            flags,
            seen.status_flags & (libc::O_ACCMODE | libc::O_APPEND),
        )?;
        expect::equal(
            &format!("close-on-exec of descriptor {number}"),
            0,
            seen.descriptor_flags & libc::FD_CLOEXEC,
        )?;
    }
    Ok(())
}

/// The escalation socket is there under its number, in every context of a script.
fn escalation_socket(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    let script = "tool; ( tool ); { tool; } >/dev/null; tool | tool; x=$(tool); tool & wait; f() { tool; }; f; eval tool\n\
                  while tool; do tool; break; done <<E\nx\nE\n( exec tool 3</dev/null ); exec tool";
    let calls = 13;
    for number in [3, 10, 11, 20, 57, 255] {
        context
            .transcript
            .note(format_args!("the escalation socket is descriptor {number}"));
        let mut shell = RecordedShell::new(context)?;
        shell.set_socket_number(number);
        let script = if number == 3 {
            script.replace("3<", "4<")
        } else {
            script.to_owned()
        };
        shell.run(&script)?.expect_output("")?;
        shell.expect_calls(&vec!["tool"; calls])?;
        for call in shell.calls()? {
            expect_socket(&shell, &call, number)?;
        }
    }
    Ok(())
}

/// The wrapper has no descriptor that the command would not have under the stock shell, but for the socket.
fn nothing_added(context: &mut Context) -> Verdict {
    let program = command(context, "tool")?;
    let mut script = "tool; ( tool ); tool | tool; x=$(tool); exec 8>/dev/null; tool 9<&8; exec 8>&-; tool; tool <<E\nx\nE\n\
                      { tool; } </dev/null; f() { tool; } >/dev/null; f; for x in 1; do tool; done </dev/null\n\
                      . ./sourced; eval 'tool' 3</dev/null\n"
        .to_owned();
    let shell = RecordedShell::new(context)?;
    if shell.dialect != Dialect::Other {
        script.push_str("tool <<<x\ntool < <(:)\n");
    }
    fs::write(context.work_directory().join("sourced"), "tool\n")?;
    let file = context.write_file("work/script", script.as_bytes(), 0o644)?;
    let arguments = || {
        let plain = shell
            .dialect
            .plain_options()
            .iter()
            .map(|option| (*option).to_owned());
        plain.chain([file.display().to_string()])
    };
    shell
        .start(shell.launch_stock(arguments())?)?
        .finish()?
        .expect_output("")?;
    let wanted = program.starts()?;
    shell
        .start(shell.launch(arguments())?)?
        .finish()?
        .expect_output("")?;
    let calls = shell.some_calls()?;
    expect::equal("calls of the wrapper", wanted.len(), calls.len())?;
    // The elements of the pipeline start in any order; what they hold is compared as a whole.
    let numbers = |report: &Report, except: &[i32]| -> Vec<(i32, i32)> {
        report
            .descriptors
            .iter()
            .filter(|descriptor| !except.contains(&descriptor.number))
            .map(|descriptor| (descriptor.number, descriptor.descriptor_flags))
            .collect()
    };
    let mut wanted: Vec<_> = wanted.iter().map(|report| numbers(report, &[])).collect();
    let mut seen: Vec<_> = calls
        .iter()
        .map(|call| numbers(&call.report, &[ESCALATION_DESCRIPTOR]))
        .collect();
    wanted.sort();
    seen.sort();
    expect::equal(
        "numbers and flags of each call's descriptors, the escalation socket aside, as in the stock shell",
        wanted,
        seen,
    )
}

/// Here-documents can be read, closed descriptors are closed.
fn here_document_and_closed(context: &mut Context) -> Verdict {
    obedient(context, "tool")?;
    command(context, "closed")?;
    let shell = RecordedShell::new(context)?;
    let result = shell.run(
        "x=value; tool copy <<E\nfirst $x\nE\ntool copy <<'E'\nsecond $x\nE\n( tool copy ) <<E\nthird\nE\n\
         closed <&- 2>&1; closed >&- <&-; ( exec 2>&-; closed )\n:",
    )?;
    let calls = shell.some_calls()?;
    result.expect_output("first value\nsecond $x\nthird\n")?;
    let standard: Vec<Vec<i32>> = calls
        .iter()
        .filter(|call| call.file_name() == "closed")
        .map(|call| {
            let mut numbers = call.report.descriptor_numbers();
            numbers.retain(|number| *number <= 2);
            numbers
        })
        .collect();
    expect::equal(
        "open standard descriptors of the three commands",
        vec![vec![1, 2], vec![2], vec![0, 1]],
        standard,
    )
}

/// The shell changes neither the socket's flags nor its number, and uses that number for nothing of its own:
/// not for saved descriptors, not for a script's file, not for an allocated number.
fn socket_is_left_alone(context: &mut Context) -> Verdict {
    command(context, "tool")?;
    for number in [10, 11, 12] {
        let mut shell = RecordedShell::new(context)?;
        shell.set_socket_number(number);
        let mut script = "{ tool; } >/dev/null 2>&1 </dev/null\nf() { tool; }; f >/dev/null 2>&1\n\
                          if :; then tool; fi 3>/dev/null 4>/dev/null\n"
            .to_owned();
        let mut calls = 3;
        if shell.dialect != Dialect::Other {
            script.push_str("exec {new}>/dev/null; tool; exec {new}>&-; tool\n");
            calls += 2;
        }
        script.push_str("( exec 5>/dev/null; tool ); tool");
        calls += 2;
        let file = context.write_file("work/script", script.as_bytes(), 0o644)?;
        let plain = shell.dialect.plain_options().iter().map(std::ffi::OsStr::new);
        let launch = shell.launch(plain.chain([file.as_os_str()]))?;
        shell.start(launch)?.finish()?.expect_output("")?;
        shell.expect_calls(&vec!["tool"; calls])?;
        for call in shell.calls()? {
            expect_socket(&shell, &call, number)?;
            let same = call
                .report
                .descriptors
                .iter()
                .filter(|other| {
                    other.identity == descriptor(&call, number).map_or((0, 0), |own| own.identity)
                })
                .count();
            expect::equal("descriptors that refer to the escalation socket", 1, same)?;
        }
    }
    Ok(())
}

/// A script that redirects or closes the socket's number gets what it asked for.
fn socket_redirected(context: &mut Context) -> Verdict {
    command(context, "closed")?;
    command(context, "redirected")?;
    command(context, "after")?;
    let mut shell = RecordedShell::new(context)?;
    shell.set_socket_number(5);
    shell
        .run("closed 5>&-; redirected 5</dev/null; after; :")?
        .expect_output("")?;
    let closed = shell.only_call("closed")?;
    expect::that(
        closed.report.descriptor(5).is_none(),
        "descriptor 5 is closed where the script closed it",
        format_args!("open descriptors: {:?}", closed.report.descriptor_numbers()),
    )?;
    let redirected = shell.only_call("redirected")?;
    let null = nix::sys::stat::fstat(File::open("/dev/null")?.as_fd())?;
    expect::equal(
        "descriptor 5 where the script redirected it: /dev/null, by device and inode",
        (null.st_dev, null.st_ino),
        descriptor(&redirected, 5)?.identity,
    )?;
    expect_socket(&shell, &shell.only_call("after")?, 5)
}

fn descriptor(call: &Call, number: i32) -> Result<&DescriptorReport, CaseError> {
    call.report.descriptor(number).ok_or_else(|| {
        let mut numbers = call.report.descriptor_numbers();
        numbers.retain(|number| *number != LIFELINE);
        violation(
            format_args!("descriptor {number} of {} is open", call.file_name()),
            format_args!("open descriptors: {numbers:?}"),
        )
    })
}

fn expect_socket(shell: &RecordedShell, call: &Call, number: i32) -> Verdict {
    let seen = descriptor(call, number)?;
    expect::equal(
        &format!("descriptor {number}: the escalation socket, by device and inode"),
        shell.socket_identity()?,
        seen.identity,
    )?;
    expect::equal(
        "flags of the escalation socket (close-on-exec, non-blocking)",
        (0, 0),
        (
            seen.descriptor_flags & libc::FD_CLOEXEC,
            seen.status_flags & libc::O_NONBLOCK,
        ),
    )
}
