//! What a Run command inherits beyond the plain cases of [`super::attributes`]: every signal, pending ones, all
//! status flags, a terminal; and what happens where FILE cannot be executed.

use std::fs::{self, File};
use std::process::Command;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use proptest::collection::btree_map;
use proptest::prelude::*;

use super::attributes::{run_directly, run_under};
use crate::case::context::Context;
use crate::case::{Table, case};
use crate::case::{expect, property};
use crate::peer::program::Program;
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wrapper_call::{Finished, WrapperCall};
use crate::probe::report::{DescriptorReport, Report};
use crate::spec::requirements::Role;
use crate::system::launch::{Launch, pipe};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.run/no-search-in-path", no_search_in_path),
    case("wrapper.run/directory-behind-a-link", directory_behind_a_link),
    case("wrapper.run.signals/every-signal-ignored", every_signal_ignored),
    case("wrapper.run.signals/every-signal-blocked", every_signal_blocked),
    case("wrapper.run.signals/pending-stay-pending", pending_stay_pending),
    case("wrapper.run.fds/flags-while-it-waits", flags_while_it_waits),
    case("wrapper.run.fds/same-descriptions", same_descriptions),
    case("wrapper.run.fds/socket-under-its-number", socket_under_its_number),
    case("wrapper.run.fds/any-flags", any_flags).within_seconds(60),
    case("wrapper.run.attributes/terminal", terminal),
    case("wrapper.run.missing/removed-while-deciding", removed_while_deciding),
    case("wrapper.run.missing/whatever-execve-refuses", whatever_execve_refuses),
    case("wrapper.run.missing/standard-error-closed", standard_error_closed),
    case("wrapper.run.script-bare/same-process-same-environment", bare_same_process),
    case("wrapper.run.script-bare/empty-file", bare_empty_file),
    case("wrapper.run.script-bare/binary-garbage", bare_garbage),
    case("wrapper.run.script-bare/dash-file", bare_dash_file),
    case("wrapper.run.script-bare/without-slash", bare_without_slash),
]);

/// Runs `file` to its end.
fn run_file(context: &Context, file: &str, arguments: &[&str]) -> Result<Finished, CaseError> {
    let mut wrapper = WrapperCall::new(context, file, arguments)?.start()?;
    let (mut stream, request) = wrapper.request()?;
    expect::equal("file", file, request.file()?)?;
    stream.run()?;
    wrapper.finish()
}

/// The file that was decided upon is the one in the working directory, though PATH has another of its name.
fn no_search_in_path(context: &mut Context) -> Verdict {
    let here = Program::at(context, &context.work_directory().join("tool"), [])?;
    let elsewhere = Program::new(context, "tool", [])?;
    let folder = context.directory().join("bin");
    for arguments in [["tool"], ["other"]] {
        let mut wrapper = WrapperCall::new(context, "tool", arguments)?
            .variable("PATH", &folder)
            .start()?;
        let (mut stream, request) = wrapper.request()?;
        expect::equal("file", "tool", request.file()?)?;
        stream.run()?;
        wrapper.finish()?.expect_status(0)?;
    }
    expect::equal("starts of ./tool", 2, here.starts()?.len())?;
    elsewhere.expect_not_started()?;
    // And where there is none in the working directory, PATH is no help either.
    fs::remove_file(&here.path)?;
    let mut wrapper = WrapperCall::new(context, "tool", ["tool"])?
        .variable("PATH", &folder)
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let ended = wrapper.finish()?.ended;
    expect::that(ended.shell_status() != 0, "a failure", ended)?;
    elsewhere.expect_not_started()
}

/// The command is in the very directory that the wrapper was started in, however that was reached.
fn directory_behind_a_link(context: &mut Context) -> Verdict {
    let directory = context.path("a directory – ü");
    fs::create_dir(&directory)?;
    let link = context.path("link to it");
    std::os::unix::fs::symlink(&directory, &link)?;
    let change = |launch: Launch| launch.in_directory(&link);
    let direct = run_directly(context, change)?;
    let report = run_under(context, change)?;
    expect::equal(
        "device and inode of the working directory",
        direct.directory_identity,
        report.directory_identity,
    )
}

fn signal_state(report: &Report) -> [(&'static str, String); 3] {
    let shown = |set: u64| format!("{set:016x}");
    [
        ("ignored signals", shown(report.ignored)),
        ("blocked signals", shown(report.blocked)),
        ("pending signals", shown(report.pending)),
    ]
}

/// The numbers of all signals but SIGKILL and SIGSTOP, the two included that C libraries keep for themselves.
fn changeable() -> impl Iterator<Item = i32> + Clone {
    (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal))
}

/// Everything that can be ignored, and each half of it.
fn every_signal_ignored(context: &mut Context) -> Verdict {
    for modulus in [0, 1, 2] {
        let signals = changeable().filter(|signal| modulus == 2 || signal % 2 == modulus);
        let change = |launch| signals.clone().fold(launch, Launch::ignoring);
        let direct = run_directly(context, change)?;
        let report = run_under(context, change)?;
        expect::equal("state of signals", signal_state(&direct), signal_state(&report))?;
    }
    Ok(())
}

/// Everything that can be blocked, and each half of it.
fn every_signal_blocked(context: &mut Context) -> Verdict {
    for modulus in [0, 1, 2] {
        let signals = changeable().filter(|signal| modulus == 2 || signal % 2 == modulus);
        let change = |launch| signals.clone().fold(launch, Launch::blocking);
        let direct = run_directly(context, change)?;
        let report = run_under(context, change)?;
        expect::equal("state of signals", signal_state(&direct), signal_state(&report))?;
    }
    Ok(())
}

/// A signal that came while it was blocked, during the decision, is still there for the command.
fn pending_stay_pending(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let signals = [libc::SIGUSR1, libc::SIGTERM, libc::SIGCHLD, libc::SIGWINCH];
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call
        .launched(|launch| signals.into_iter().fold(launch, Launch::blocking))
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    for signal in signals {
        wrapper.process.signal(signal)?;
    }
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    let report = program.only_start()?;
    for signal in signals {
        // SIGCHLD and SIGWINCH, whose default is to be ignored, are kept too while they are blocked.
        let pending = report.pending & (1 << (signal - 1)) != 0;
        expect::that(
            pending,
            format_args!("signal {signal} is pending for the command"),
            format_args!("{:016x}", report.pending),
        )?;
    }
    Ok(())
}

fn status_flags(descriptor: &impl std::os::fd::AsFd) -> Result<i32, CaseError> {
    Ok(fcntl(descriptor, FcntlArg::F_GETFL)?)
}

/// Status flags of the streams are not changed for the time of the wait either: others share them.
fn flags_while_it_waits(context: &mut Context) -> Verdict {
    for nonblocking in [OFlag::empty(), OFlag::O_NONBLOCK] {
        let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
        let (reader, _other) = pipe()?;
        let (_other, writer) = pipe()?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(context.path("log"))?;
        let call = WrapperCall::new(context, &program.path, ["program"])?;
        let mut ours = vec![reader.try_clone()?, writer.try_clone()?, log.try_clone()?];
        for file in &ours[..2] {
            fcntl(file, FcntlArg::F_SETFL(nonblocking))?;
        }
        if let Some(socket) = call.client_end_ref() {
            ours.push(File::from(socket.try_clone()?));
        }
        let before = ours.iter().map(status_flags).collect::<Result<Vec<_>, _>>()?;
        let mut wrapper = call
            .launched(|launch| {
                launch
                    .descriptor(0, reader)
                    .descriptor(1, writer)
                    .descriptor(2, log)
            })
            .start()?;
        let (mut stream, _) = wrapper.request()?;
        let while_it_waits = ours.iter().map(status_flags).collect::<Result<Vec<_>, _>>()?;
        expect::equal(
            "status flags of 0, 1, 2 and the socket while it waits",
            &before,
            &while_it_waits,
        )?;
        stream.run()?;
        wrapper.finish()?.expect_status(0)?;
        let after = ours.iter().map(status_flags).collect::<Result<Vec<_>, _>>()?;
        expect::equal("status flags after Run", &before, &after)?;
    }
    Ok(())
}

/// The command's descriptors are the same open file descriptions: files of their own offset, a pipe, a socket.
fn same_descriptions(context: &mut Context) -> Verdict {
    let program = crate::peer::program::ConnectedProgram::new(context, "program")?;
    let data = context.write_file("data", b"0123456789", 0o644)?;
    let file = File::open(data)?;
    let (reader, writer) = pipe()?;
    let (near, _far) = std::os::unix::net::UnixStream::pair()?;
    let ours = [
        (0, file.try_clone()?),
        (5, reader.try_clone()?),
        (9, writer.try_clone()?),
        (63, File::from(std::os::fd::OwnedFd::from(near.try_clone()?))),
    ];
    let call = WrapperCall::new(context, program.text(), ["program"])?.launched(|launch| {
        launch
            .descriptor(0, file)
            .descriptor(5, reader)
            .descriptor(9, writer)
            .descriptor(63, near)
    });
    let mut wrapper = call.start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let mut probe = program.accept("the command")?;
    for (number, ours) in &ours {
        let theirs = probe.take_descriptor(*number)?;
        expect::that(
            super::support::same_description(ours, &theirs)?,
            format_args!("the command's {number} is the description that the wrapper was started with"),
            "it is another one",
        )?;
    }
    let offset = probe.report.descriptor(0).and_then(|found| found.offset);
    expect::equal("offset of 0", Some(0), offset)?;
    probe.send(&crate::probe::remote::Order::Exit(0))?;
    wrapper.finish()?.expect_status(0)
}

/// The escalation socket stays under its number, low or high, and is what it was.
fn socket_under_its_number(context: &mut Context) -> Verdict {
    for number in [0, 3, 57, 200] {
        let program = Program::new(context, &format!("program-{number}"), [])?;
        let call = WrapperCall::new(context, &program.path, ["program"])?.socket_number(number);
        let inode = call
            .client_end_ref()
            .map(nix::sys::stat::fstat)
            .transpose()?
            .map(|stat| (stat.st_dev, stat.st_ino));
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.run()?;
        wrapper.finish()?.expect_status(0)?;
        let report = program.only_start()?;
        let seen = report.descriptor(number).map(|found| found.identity);
        expect::equal(&format!("device and inode of {number}"), inode, seen)?;
        let mut expected = vec![0, 1, 2, number];
        expected.sort_unstable();
        expected.dedup();
        expect::equal("the command's descriptors", expected, report.descriptor_numbers())?;
    }
    Ok(())
}

/// A kind of file and its status flags, as a property case opens it.
#[derive(Clone, Copy, Debug)]
struct Opened {
    kind: u8,
    append: bool,
    nonblocking: bool,
}

/// The last of the kinds.
const DIRECTORY: u8 = 5;

impl Opened {
    fn open(self, launch: Launch, number: i32) -> Result<Launch, CaseError> {
        let flags = |base: OFlag| {
            let mut flags = base;
            flags.set(OFlag::O_APPEND, self.append);
            flags.set(OFlag::O_NONBLOCK, self.nonblocking);
            FcntlArg::F_SETFL(flags)
        };
        Ok(match self.kind {
            0 => launch.closed(number),
            1 => {
                let file = File::options().read(true).write(true).open("/dev/null")?;
                fcntl(&file, flags(OFlag::empty()))?;
                launch.descriptor(number, file)
            }
            2 => {
                let (reader, _) = pipe()?;
                fcntl(&reader, flags(OFlag::empty()))?;
                launch.descriptor(number, reader)
            }
            3 => {
                let (_, writer) = pipe()?;
                fcntl(&writer, flags(OFlag::empty()))?;
                launch.descriptor(number, writer)
            }
            4 => {
                let (socket, _) = std::os::unix::net::UnixDatagram::pair()?;
                fcntl(&socket, flags(OFlag::empty()))?;
                launch.descriptor(number, socket)
            }
            DIRECTORY.. => launch.descriptor(number, File::open("/")?),
        })
    }
}

/// Property: any set of descriptors of any kind, with any status flags, is with a wrapper as it is without one.
fn any_flags(context: &mut Context) -> Verdict {
    let context = &*context;
    let opened =
        (0..=DIRECTORY, any::<bool>(), any::<bool>()).prop_map(|(kind, append, nonblocking)| Opened {
            kind,
            append,
            nonblocking,
        });
    let set = btree_map(0..200_i32, opened, 0..12);
    property::holds(context, &set, |mut set| {
        set.remove(&ESCALATION_DESCRIPTOR);
        // Interpreters refuse to start with a directory as standard input, which says nothing about the wrapper.
        set.retain(|number, opened| *number > 2 || opened.kind != DIRECTORY);
        let place = |launch: Launch| {
            set.iter()
                .try_fold(launch, |launch, (number, opened)| opened.open(launch, *number))
        };
        let seen = |report: &Report| {
            let shown = |found: &DescriptorReport| {
                // What the suite puts on 0, 1, 2 where the example says nothing is not the same file each time.
                let flags = set.contains_key(&found.number).then_some(found.status_flags);
                let target = String::from_utf8_lossy(&found.target).into_owned();
                let kind = target.split(':').next().unwrap_or_default().to_owned();
                (
                    found.number,
                    found.descriptor_flags,
                    flags,
                    set.contains_key(&found.number).then_some(kind),
                )
            };
            let others = |found: &&DescriptorReport| found.number != ESCALATION_DESCRIPTOR;
            report
                .descriptors
                .iter()
                .filter(others)
                .map(shown)
                .collect::<Vec<_>>()
        };
        let empty = Launch::new("/", "/");
        let (first, second) = (place(empty)?, place(Launch::new("/", "/"))?);
        let direct = run_directly(context, |launch| launch.descriptors_of(first))?;
        let report = run_under(context, |launch| launch.descriptors_of(second))?;
        expect::equal(
            "the command's descriptors (number, flags, status flags, kind)",
            seen(&direct),
            seen(&report),
        )
    })
}

/// In a session with a controlling terminal: the same session, group and foreground group, and the terminal.
fn terminal(context: &mut Context) -> Verdict {
    let seen = |report: &Report, pid: i32| {
        let relative = |other: i32| other - pid;
        (
            relative(report.pid),
            relative(report.group),
            relative(report.session),
            report.foreground_group.map(relative),
        )
    };
    let pty = || nix::pty::openpty(None, None);
    let direct = pty()?;
    let on = |launch: Launch, slave: std::os::fd::OwnedFd| launch.descriptor(0, slave).on_terminal(0);
    let report = run_directly(context, |launch| on(launch, direct.slave))?;
    let expected = seen(&report, report.pid);
    let pair = pty()?;
    let report = run_under(context, |launch| on(launch, pair.slave))?;
    expect::equal(
        "process, group, session, foreground group of the terminal, relative to the process",
        expected,
        seen(&report, report.pid),
    )?;
    expect::equal(
        "whether there is a foreground group",
        true,
        report.foreground_group.is_some(),
    )?;
    drop(pair.master);
    drop(direct.master);
    Ok(())
}

/// Found while asking, gone when it is to run: 127 all the same.
fn removed_while_deciding(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    fs::remove_file(&program.path)?;
    stream.run()?;
    let finished = wrapper.finish()?;
    finished.expect_status(127)?;
    finished.expect_one_line()?;
    finished.expect_no_output()?;
    expect::contains("standard error", &finished.error_text(), program.text())
}

/// A pipe, a loop of links, a name that is too long, a file that is being written: 126, one line that names FILE.
fn whatever_execve_refuses(context: &mut Context) -> Verdict {
    let fifo = context.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
    let circle = context.path("loop");
    std::os::unix::fs::symlink(&circle, &circle)?;
    let long = context.path(&"n".repeat(300));
    let written = context.write_file("written", b"\x7fELF", 0o755)?;
    let _writer = File::options().append(true).open(&written)?;
    for path in [fifo, circle, long, written] {
        let text = path.to_string_lossy();
        let finished = run_file(context, &text, &["program"])?;
        finished.expect_status(126)?;
        finished.expect_one_line()?;
        finished.expect_no_output()?;
        expect::contains("standard error", &finished.error_text(), &text)?;
    }
    // Here the interpreter is what is missing: either status is right.
    let script = context.write_file("script", b"#!/nonexistent/interpreter\necho ran\n", 0o755)?;
    let finished = run_file(context, &script.to_string_lossy(), &["script"])?;
    let status = finished.ended.shell_status();
    expect::that(
        matches!(status, 126 | 127),
        "126 or 127 for a missing interpreter",
        finished.ended,
    )?;
    finished.expect_one_line()?;
    finished.expect_no_output()
}

/// Nowhere to say it: the status is the same, and nothing is written anywhere else.
fn standard_error_closed(context: &mut Context) -> Verdict {
    for (file, status) in [("/nonexistent/program", 127), ("/", 126)] {
        let call = WrapperCall::new(context, file, ["program"])?.launched(|launch| launch.closed(2));
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        stream.run()?;
        let finished = wrapper.finish()?;
        finished.expect_status(status)?;
        finished.expect_no_output()?;
    }
    Ok(())
}

/// A bare script is the wrapper's process, with its environment and arguments.
fn bare_same_process(context: &mut Context) -> Verdict {
    let text = b"echo \"$$ $GREETING $# $1\"\nkill -TERM $$\n";
    let script = context.write_file("script", text, 0o755)?;
    let mut wrapper = WrapperCall::new(context, &script, ["name", "a b", ""])?
        .variable("GREETING", "hello")
        .start()?;
    let pid = wrapper.process.pid;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    let finished = wrapper.finish()?;
    expect::equal(
        "pid, variable, number of arguments, first argument",
        format!("{pid} hello 2 a b\n"),
        finished.output_text(),
    )?;
    expect::equal(
        "the script's end",
        crate::system::process::Ended::Killed(libc::SIGTERM),
        finished.ended,
    )
}

/// An empty file is a script of no commands.
fn bare_empty_file(context: &mut Context) -> Verdict {
    let script = context.write_file("empty", b"", 0o755)?;
    let finished = run_file(context, &script.to_string_lossy(), &["empty"])?;
    finished.expect_status(0)?;
    finished.expect_no_output()?;
    expect::equal("standard error", "", &*finished.error_text())
}

/// What is neither a program nor a script fares as execvp(3) lets it fare: `/bin/sh` is asked.
fn bare_garbage(context: &mut Context) -> Verdict {
    let garbage = context.write_file("garbage", b"\x7fELF\x02\x01\x01\xff\xfe\n\x01\x02(\n", 0o755)?;
    let control = Command::new("/bin/sh")
        .arg(&garbage)
        .current_dir(context.work_directory())
        .env_clear()
        .output()?;
    let finished = run_file(context, &garbage.to_string_lossy(), &["garbage"])?;
    expect::equal(
        "the status, as of /bin/sh",
        control.status.code(),
        Some(finished.ended.shell_status()),
    )?;
    expect::equal("standard output", control.stdout, finished.output)
}

/// A bare script in the working directory, called by its name alone.
fn bare_without_slash(context: &mut Context) -> Verdict {
    context.write_file("work/script", b"echo \"$0 ran\"\n", 0o755)?;
    let finished = run_file(context, "script", &["zero"])?;
    finished.expect_status(0)?;
    expect::contains("standard output", &finished.output_text(), "script ran\n")
}

/// A FILE that looks like an option of the shell is a file all the same.
fn bare_dash_file(context: &mut Context) -> Verdict {
    for name in ["-c", "--", "-", "--help", "-x"] {
        context.write_file(&format!("work/{name}"), b"echo \"ran with $1\"\n", 0o755)?;
        let finished = run_file(context, name, &["zero", "echo wrong"])?;
        finished.expect_status(0)?;
        expect::equal(
            &format!("standard output of {name}"),
            "ran with echo wrong\n",
            &*finished.output_text(),
        )?;
        expect::equal("standard error", "", &*finished.error_text())?;
    }
    Ok(())
}
