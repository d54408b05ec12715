//! A command that is Run is the command: everything that a process inherits is as the wrapper was started with.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use proptest::prelude::*;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::case::{expect, property};
use crate::peer::program::Program;
use crate::peer::wrapper_call::{Finished, WrapperCall};
use crate::probe::report::Report;
use crate::spec::requirements::Role;
use crate::system::launch::{Launch, pipe};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.run.signals/default", signals_default),
    case("wrapper.run.signals/ignored-stay-ignored", signals_ignored),
    case("wrapper.run.signals/blocked-stay-blocked", signals_blocked),
    case("wrapper.run.signals/any-state", any_signal_state).within_seconds(60),
    case("wrapper.run.fds/none-added", descriptors_none_added),
    case("wrapper.run.fds/others-kept", descriptors_kept),
    case("wrapper.run.fds/flags-unchanged", flags_unchanged),
    case("wrapper.run.fds/any-set", any_descriptors).within_seconds(60),
    case("wrapper.closed-stdio/run", closed_stdio),
    case("wrapper.run.attributes/umask", umask),
    case("wrapper.run.attributes/limits", limits),
    case("wrapper.run.attributes/niceness", niceness),
    case("wrapper.run.attributes/group-and-session", group_and_session),
    case("wrapper.run.attributes/users-and-groups", users_and_groups),
    case("wrapper.run.missing/no-such-file", missing),
    case("wrapper.run.missing/not-executable", not_executable),
    case("wrapper.run.missing/a-directory", a_directory),
    case("wrapper.run.missing/below-a-file", below_a_file),
    case("wrapper.run.script-bare/runs", bare_script),
    case("wrapper.run.script-bare/arguments", bare_script_arguments),
    case("wrapper.run.script-bare/dash-name", bare_script_dash),
]);

/// Runs a reporting program under a changed launch, and returns what it was started with.
pub(super) fn run_under(
    context: &Context,
    change: impl FnOnce(Launch) -> Launch,
) -> Result<Report, CaseError> {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?
        .launched(change)
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    program.only_start()
}

/// What the same program is started with when there is no wrapper: the suite's launcher alone.
pub(super) fn run_directly(
    context: &Context,
    change: impl FnOnce(Launch) -> Launch,
) -> Result<Report, CaseError> {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let mut process = change(Launch::new(&program.path, context.work_directory())).start()?;
    process.wait("the program", context.patience())?;
    program.only_start()
}

/// No disposition and no mask of the wrapper's own: SIGPIPE first of all.
fn signals_default(context: &mut Context) -> Verdict {
    same_signals(context, |launch| launch)
}

/// What was ignored stays ignored, as under nohup.
fn signals_ignored(context: &mut Context) -> Verdict {
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGPIPE,
        libc::SIGCHLD,
        libc::SIGTTOU,
        34,
        64,
    ] {
        same_signals(context, |launch| launch.ignoring(signal))?;
    }
    Ok(())
}

/// What was blocked stays blocked.
fn signals_blocked(context: &mut Context) -> Verdict {
    for signal in [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGCHLD,
        libc::SIGUSR1,
        libc::SIGWINCH,
        40,
    ] {
        same_signals(context, |launch| launch.blocking(signal))?;
    }
    Ok(())
}

fn same_signals(context: &Context, change: impl Fn(Launch) -> Launch) -> Verdict {
    let direct = run_directly(context, &change)?;
    let report = run_under(context, &change)?;
    let shown = |set: u64| format!("{set:016x}");
    expect::equal("ignored signals", shown(direct.ignored), shown(report.ignored))?;
    expect::equal("blocked signals", shown(direct.blocked), shown(report.blocked))
}

/// Property: any set of ignored and blocked signals.
fn any_signal_state(context: &mut Context) -> Verdict {
    let context = &*context;
    let signal = (1..=64_i32).prop_filter("the C library keeps 32 and 33", |signal| {
        ![9, 19, 32, 33].contains(signal)
    });
    let signals = proptest::collection::vec(signal, 0..6);
    property::holds(context, &(signals.clone(), signals), |(ignored, blocked)| {
        same_signals(context, |launch| {
            let launch = ignored
                .iter()
                .fold(launch, |launch, signal| launch.ignoring(*signal));
            blocked
                .iter()
                .fold(launch, |launch, signal| launch.blocking(*signal))
        })
    })
}

/// The command has 0, 1, 2 and the escalation socket: nothing that the wrapper opened.
fn descriptors_none_added(context: &mut Context) -> Verdict {
    let report = run_under(context, |launch| launch)?;
    let number = crate::peer::wire::ESCALATION_DESCRIPTOR;
    expect::equal(
        "the command's descriptors",
        vec![0, 1, 2, number],
        report.descriptor_numbers(),
    )
}

/// Other descriptors are kept, with what is behind them and their offsets.
fn descriptors_kept(context: &mut Context) -> Verdict {
    let path = context.write_file("data", b"0123456789", 0o644)?;
    let mut file = File::open(path)?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(4))?;
    let (reader, writer) = pipe()?;
    let report = run_under(context, |launch| {
        launch
            .descriptor(3, file)
            .descriptor(8, reader)
            .descriptor(77, writer)
    })?;
    let number = crate::peer::wire::ESCALATION_DESCRIPTOR;
    expect::equal(
        "the command's descriptors",
        vec![0, 1, 2, 3, 8, number, 77],
        report.descriptor_numbers(),
    )?;
    expect::equal(
        "offset of 3",
        Some(Some(4)),
        report.descriptor(3).map(|descriptor| descriptor.offset),
    )?;
    expect::equal(
        "close-on-exec of 3",
        Some(0),
        report.descriptor(3).map(|descriptor| descriptor.descriptor_flags),
    )
}

/// File status flags are shared with others: O_NONBLOCK and O_APPEND stay as they were, on the socket too.
fn flags_unchanged(context: &mut Context) -> Verdict {
    for nonblocking in [false, true] {
        let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
        let (reader, _writer) = pipe()?;
        let (_reader, writer) = pipe()?;
        let call = WrapperCall::new(context, &program.path, ["program"])?;
        for descriptor in [
            reader.as_raw_fd(),
            writer.as_raw_fd(),
            call.client_end_ref().map_or(-1, AsRawFd::as_raw_fd),
        ] {
            set_nonblocking(descriptor, nonblocking)?;
        }
        let mut wrapper = call
            .launched(|launch| launch.descriptor(0, reader).descriptor(5, writer))
            .start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.run()?;
        wrapper.finish()?.expect_status(0)?;
        let report = program.only_start()?;
        for number in [0, 5, crate::peer::wire::ESCALATION_DESCRIPTOR] {
            let flags = report
                .descriptor(number)
                .map(|descriptor| descriptor.status_flags & libc::O_NONBLOCK != 0);
            expect::equal(&format!("O_NONBLOCK of {number}"), Some(nonblocking), flags)?;
        }
    }
    Ok(())
}

fn set_nonblocking(number: i32, nonblocking: bool) -> Verdict {
    // SAFETY: the number is open, says the caller, for as long as this borrow lives.
    let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    let flags = if nonblocking {
        OFlag::O_NONBLOCK
    } else {
        OFlag::empty()
    };
    fcntl(descriptor, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// Property: any set of open and closed descriptors is the same with and without a wrapper.
fn any_descriptors(context: &mut Context) -> Verdict {
    let context = &*context;
    let kinds = proptest::collection::btree_map(0..40_i32, 0..3_u8, 0..8);
    property::holds(context, &kinds, |mut kinds| {
        // The escalation socket has its own number.
        kinds.remove(&crate::peer::wire::ESCALATION_DESCRIPTOR);
        let place = |mut launch: Launch| {
            for (number, kind) in &kinds {
                launch = match kind {
                    0 => launch.closed(*number),
                    1 => launch.descriptor(*number, File::open("/dev/null").expect("/dev/null opens")),
                    _ => launch.descriptor(*number, File::open("/etc/passwd").expect("/etc/passwd opens")),
                };
            }
            launch
        };
        let seen = |report: &Report| {
            let socket = crate::peer::wire::ESCALATION_DESCRIPTOR;
            let named = |number: i32| kinds.contains_key(&number);
            report
                .descriptors
                .iter()
                .filter(|descriptor| descriptor.number != socket)
                .map(|descriptor| {
                    let identity = named(descriptor.number).then_some(descriptor.identity);
                    (descriptor.number, descriptor.descriptor_flags, identity)
                })
                .collect::<Vec<_>>()
        };
        let direct = run_directly(context, place)?;
        let report = run_under(context, place)?;
        expect::equal(
            "the command's descriptors (number, flags, file)",
            seen(&direct),
            seen(&report),
        )
    })
}

/// 0, 1 and 2 that are closed stay closed.
fn closed_stdio(context: &mut Context) -> Verdict {
    for closed in [vec![0], vec![1], vec![2], vec![0, 1], vec![0, 2], vec![0, 1, 2]] {
        let report = run_under(context, |launch| {
            closed
                .iter()
                .fold(launch, |launch, number| launch.closed(*number))
        })?;
        for number in &closed {
            let seen = report
                .descriptor(*number)
                .map(|found| String::from_utf8_lossy(&found.target).into_owned());
            expect::equal(&format!("descriptor {number} of the command"), None, seen)?;
        }
    }
    Ok(())
}

/// The umask is the wrapper's.
fn umask(context: &mut Context) -> Verdict {
    for umask in [0o000, 0o027, 0o777] {
        expect::equal(
            "umask",
            umask,
            run_under(context, |launch| launch.umask(umask))?.umask,
        )?;
    }
    Ok(())
}

/// Limits are the wrapper's, soft and hard.
fn limits(context: &mut Context) -> Verdict {
    let change = |launch: Launch| {
        launch
            .limit(libc::RLIMIT_NOFILE, 123)
            .limit(libc::RLIMIT_CORE, 0)
            .limit(libc::RLIMIT_STACK, 4 << 20)
    };
    let direct = run_directly(context, change)?;
    expect::equal(
        "limits (soft, hard) by number",
        direct.limits,
        run_under(context, change)?.limits,
    )
}

/// Niceness is the wrapper's.
fn niceness(context: &mut Context) -> Verdict {
    expect::equal("niceness", 5, run_under(context, |launch| launch.nice(5))?.nice)
}

/// Process group and session are the wrapper's.
fn group_and_session(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call.launched(Launch::in_new_session).start()?;
    let pid = wrapper.process.pid.as_raw();
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    let report = program.only_start()?;
    expect::equal(
        "process, group, session",
        (pid, pid, pid),
        (report.pid, report.group, report.session),
    )?;
    let own = nix::unistd::getpgrp().as_raw();
    expect::equal(
        "group",
        own,
        run_under(context, Launch::in_own_group_of_the_case)?.group,
    )
}

/// Users, groups and no_new_privs are the wrapper's.
fn users_and_groups(context: &mut Context) -> Verdict {
    let direct = run_directly(context, |launch| launch)?;
    let report = run_under(context, |launch| launch)?;
    expect::equal("users", direct.users, report.users)?;
    expect::equal("groups", direct.groups, report.groups)?;
    expect::equal(
        "supplementary groups",
        direct.supplementary_groups,
        report.supplementary_groups,
    )?;
    expect::equal("no_new_privs", direct.no_new_privileges, report.no_new_privileges)
}

/// A FILE that does not exist: 127 and one line on standard error.
fn missing(context: &mut Context) -> Verdict {
    cannot_run(context, "/nonexistent/program", 127)
}

/// A FILE that may not be executed: 126 and one line.
fn not_executable(context: &mut Context) -> Verdict {
    let path = context.write_file("work/plain", b"text\n", 0o644)?;
    cannot_run(context, &path.to_string_lossy(), 126)
}

/// A directory: 126 and one line.
fn a_directory(context: &mut Context) -> Verdict {
    cannot_run(context, "/tmp", 126)
}

/// A path below a plain file is missing: 127 and one line.
fn below_a_file(context: &mut Context) -> Verdict {
    let path = context.write_file("work/plain", b"text\n", 0o755)?;
    cannot_run(context, &format!("{}/program", path.display()), 127)
}

fn cannot_run(context: &Context, file: &str, status: i32) -> Verdict {
    let finished = run_to_end(context, file, &["program"])?;
    finished.expect_status(status)?;
    finished.expect_no_output()?;
    let text = finished.error_text();
    let one_line = text.lines().count() == 1 && text.ends_with('\n');
    expect::that(one_line, "one line on standard error", format_args!("{text:?}"))
}

fn run_to_end(context: &Context, file: &str, arguments: &[&str]) -> Result<Finished, CaseError> {
    let mut wrapper = WrapperCall::new(context, file, arguments)?.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    wrapper.finish()
}

/// An executable text without `#!` runs as a shell script, as execvp(3) runs it.
fn bare_script(context: &mut Context) -> Verdict {
    let script = context.write_file("work/script", b"echo bare; exit 4\n", 0o755)?;
    let finished = run_to_end(context, &script.to_string_lossy(), &["script"])?;
    expect::equal("standard output", "bare\n", &*finished.output_text())?;
    finished.expect_status(4)
}

/// It has its arguments, and its own path as `$0`.
fn bare_script_arguments(context: &mut Context) -> Verdict {
    let script = context.write_file("work/script", b"printf '[%s]' \"$0\" \"$@\"\n", 0o755)?;
    let path = script.to_string_lossy().into_owned();
    let finished = run_to_end(context, &path, &["another name", "", "a b", "*"])?;
    expect::equal(
        "standard output",
        format!("[{path}][][a b][*]"),
        finished.output_text(),
    )?;
    finished.expect_status(0)
}

/// A script whose relative name begins with a dash, given with a folder, is a file and no option.
fn bare_script_dash(context: &mut Context) -> Verdict {
    context.write_file("work/-c", b"echo dash\n", 0o755)?;
    let finished = run_to_end(context, "./-c", &["-c"])?;
    expect::equal("standard output", "dash\n", &*finished.output_text())?;
    finished.expect_status(0)
}
