//! wrapper.escalate.group: which signals the kernel has sent to the wrapper's process group for a terminal.

use std::io::Write;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use serde_json::Value;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::fake_server::RequestStream;
use crate::peer::program::ConnectedProgram;
use crate::peer::signals::forwarded;
use crate::peer::terminal::Terminal;
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::processes::{Kin, fork};
use crate::stage::wrapper::{any_call, escalated, escalating};
use crate::system::launch::{Launch, pipe};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.escalate.group/of-a-terminal", of_a_terminal),
    case("wrapper.escalate.group/of-a-terminal-that-hangs-up", of_a_terminal_that_hangs_up),
    case("wrapper.escalate.group/of-a-terminal-in-the-background", of_a_terminal_in_the_background),
    case("wrapper.escalate.group/of-a-process", of_a_process),
    case("wrapper.escalate.group/of-a-process-without-a-pid", of_a_process_without_a_pid),
    case("wrapper.escalate.group/of-a-process-by-every-call", of_a_process_by_every_call),
    case("wrapper.escalate.group/of-the-kernel-for-another-reason", of_the_kernel_for_another_reason),
]);

fn next(stream: &mut RequestStream, what: &str) -> Result<Value, CaseError> {
    stream.frames.expect_frame(what)?.json()
}

/// Ctrl-C, Ctrl-\\, Ctrl-Z and a change of the window's size say that they come of a terminal; the same signals from a
/// process do not.
fn of_a_terminal(context: &mut Context) -> Verdict {
    let mut terminal = Terminal::open(context)?;
    let slave = terminal.other_side()?;
    let call = any_call(context)?.launched(|launch| launch.descriptor(0, slave).on_terminal(0));
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    // A terminal that no process has open has no keys.
    let _descriptors = escalation.descriptors;
    for (key, signal) in [
        ("\u{3}", libc::SIGINT),
        ("\u{1c}", libc::SIGQUIT),
        ("\u{1a}", libc::SIGTSTP),
    ] {
        terminal.type_text(key)?;
        expect_of_terminal(&mut stream, signal)?;
        wrapper.process.signal(signal)?;
        expect_plain(&mut stream, signal)?;
    }
    terminal.resize(30, 100)?;
    expect_of_terminal(&mut stream, libc::SIGWINCH)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

fn expect_of_terminal(stream: &mut RequestStream, signal: i32) -> Verdict {
    let message = next(stream, "a frame of a terminal's signal")?;
    expect::that(
        message["signal"] == signal && message["terminal"] == true && message.get("sender").is_none(),
        format_args!("signal {signal} with \"terminal\":true and without a sender"),
        message,
    )
}

/// Another process of the wrapper's group reads the terminal in the background, and then changes its foreground: SIGTTIN and
/// SIGTTOU for the group come of the terminal.
fn of_a_terminal_in_the_background(context: &mut Context) -> Verdict {
    let terminal = Terminal::open(context)?;
    let slave = terminal.other_side()?;
    let wrapper = context.wrapper()?.display().to_string();
    let program = ConnectedProgram::new(context, "leader")?;
    // The session's leader is started as the wrapper would be, and stays in the foreground.
    let call = any_call(context)?.launched(|launch| {
        Launch::new(program.text(), context.work_directory())
            .descriptors_of(launch)
            .descriptor(0, slave)
            .on_terminal(0)
    });
    let run = call.start()?;
    let mut leader = program.accept("the leader of the terminal's session")?;
    // With a parent of the same session and another group, its group isn't orphaned and can be stopped.
    let mut caller = fork(&mut leader, &program, Kin::OwnGroup)?;
    // Their parent is gone, so the wrapper hears nothing of them.
    let kin = Order::Fork {
        new_session: false,
        new_group: false,
        orphan: true,
    };
    let mut neighbours = Vec::new();
    for _ in 0..2 {
        caller.must(&kin)?;
        neighbours.push(program.accept("another process of the wrapper's group")?);
    }
    let process = caller.process()?;
    let group = process.pid.as_raw();
    caller.send(&Order::Execute {
        file: wrapper.clone(),
        arguments: vec![wrapper, "/bin/program".into(), "program".into()],
    })?;
    let (mut stream, _) = run.request()?;
    let _escalation = stream.escalate()?;
    let background = [
        (libc::SIGTTIN, Order::Read(0, 1)),
        (libc::SIGTTOU, Order::Foreground(group)),
    ];
    for (mut neighbour, (signal, order)) in neighbours.into_iter().zip(background) {
        let stopped = neighbour.process()?;
        // The signal before has stopped it, too.
        stopped.signal(libc::SIGCONT)?;
        neighbour.send(&order)?;
        expect_of_terminal(&mut stream, signal)?;
        process.signal(signal)?;
        expect_plain(&mut stream, signal)?;
        stopped.signal(libc::SIGKILL)?;
    }
    stream.result(0)?;
    process.expect_end("the wrapper", context.patience())
}

fn expect_plain(stream: &mut RequestStream, signal: i32) -> Verdict {
    let message = next(stream, "a frame of a process's signal")?;
    expect::that(
        message["signal"] == signal && message["terminal"] != true && message["sender"] == std::process::id(),
        format_args!(
            "signal {signal}, without \"terminal\":true and with \"sender\":{}, the process that has sent it",
            std::process::id()
        ),
        message,
    )
}

/// No signal that a process sends comes of a terminal.
fn of_a_process(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    for signal in forwarded() {
        wrapper.process.signal(signal)?;
        expect_plain(&mut stream, signal)?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// The kernel says that process 0 has sent a signal where the sender has no pid in the wrapper's namespace, as below.
fn of_a_process_without_a_pid(context: &mut Context) -> Verdict {
    let (mut wrapper, mut stream) = escalating(context)?;
    for signal in [
        libc::SIGINT,
        libc::SIGTSTP,
        libc::SIGCONT,
        libc::SIGTERM,
        libc::SIGUSR1,
        42,
    ] {
        Errno::result(by_nobody(wrapper.process.pid.as_raw(), signal))?;
        let message = next(&mut stream, "a frame of a process's signal")?;
        expect::that(
            message["signal"] == signal && message["terminal"] != true && message.get("sender").is_none(),
            format_args!("signal {signal} with neither \"terminal\":true nor a sender"),
            message,
        )?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// Sends a signal as sigqueue(3) does, but with a `si_pid` of 0.
fn by_nobody(pid: libc::pid_t, signal: i32) -> libc::c_long {
    // SAFETY: all-zero is valid, and its pid and value are 0; the kernel reads it.
    unsafe {
        let mut information: libc::siginfo_t = std::mem::zeroed();
        information.si_signo = signal;
        information.si_code = libc::SI_QUEUE;
        libc::syscall(libc::SYS_rt_sigqueueinfo, pid, signal, &raw const information)
    }
}

type SendSignal = fn(libc::pid_t, i32) -> libc::c_long;

fn by_kill(pid: libc::pid_t, signal: i32) -> libc::c_long {
    // SAFETY: kill takes integers.
    unsafe { libc::kill(pid, signal) }.into()
}

fn by_sigqueue(pid: libc::pid_t, signal: i32) -> libc::c_long {
    let value = libc::sigval {
        sival_ptr: std::ptr::null_mut(),
    };
    // SAFETY: sigqueue takes integers and a value that the kernel only passes on.
    unsafe { libc::sigqueue(pid, signal, value) }.into()
}

fn by_tgkill(pid: libc::pid_t, signal: i32) -> libc::c_long {
    // SAFETY: tgkill takes integers.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, signal) }
}

/// Of kill(2), sigqueue(3) and tgkill(2), each of which has a `si_code` of its own, the sender is told alike. The last one sends to
/// a thread, and so to a wrapper that has only one.
fn of_a_process_by_every_call(context: &mut Context) -> Verdict {
    let calls: [(&str, SendSignal); 3] = [
        ("kill", by_kill),
        ("sigqueue", by_sigqueue),
        ("tgkill", by_tgkill),
    ];
    let (mut wrapper, mut stream) = escalating(context)?;
    let threads = std::fs::read_dir(format!("/proc/{}/task", wrapper.process.pid))?.count();
    for (name, call) in calls
        .into_iter()
        .filter(|(name, _)| *name != "tgkill" || threads == 1)
    {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGCONT, 42] {
            Errno::result(call(wrapper.process.pid.as_raw(), signal))?;
            let verdict = expect_plain(&mut stream, signal);
            expect::with_input(format_args!("{name} of signal {signal}"), verdict)?;
        }
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// The terminal of a wrapper that leads its session hangs up: SIGHUP and SIGCONT, in any order, come of it.
fn of_a_terminal_that_hangs_up(context: &mut Context) -> Verdict {
    let terminal = Terminal::open(context)?;
    let slave = terminal.other_side()?;
    let call = any_call(context)?.launched(|launch| launch.descriptor(0, slave).on_terminal(0));
    let (mut wrapper, mut stream, _escalation) = escalated(call)?;
    drop(terminal);
    let mut missing = vec![libc::SIGHUP, libc::SIGCONT];
    while !missing.is_empty() {
        let message = next(&mut stream, "SIGHUP and SIGCONT of a terminal that hangs up")?;
        expect::that(
            message["terminal"] == true,
            "each of the two signals with \"terminal\":true",
            &message,
        )?;
        let before = missing.len();
        missing.retain(|signal| message["signal"] != *signal);
        expect::that(
            missing.len() < before,
            format_args!("signals {missing:?}"),
            &message,
        )?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}

/// SIGIO, which the kernel sends because a pipe of another process can be read, comes neither of a terminal nor of a process.
/// It need not be forwarded.
fn of_the_kernel_for_another_reason(context: &mut Context) -> Verdict {
    const LATER: i32 = 42;
    let (mut wrapper, mut stream) = escalating(context)?;
    let (readable, mut writable) = pipe()?;
    // SAFETY: fcntl takes integers.
    unsafe {
        let descriptor = readable.as_raw_fd();
        Errno::result(libc::fcntl(
            descriptor,
            libc::F_SETOWN,
            wrapper.process.pid.as_raw(),
        ))?;
        let flags = Errno::result(libc::fcntl(descriptor, libc::F_GETFL))?;
        Errno::result(libc::fcntl(descriptor, libc::F_SETFL, flags | libc::O_ASYNC))?;
    }
    writable.write_all(b"x")?;
    // Of two signals that are pending, the one with the lower number is taken first.
    wrapper.process.signal(LATER)?;
    loop {
        let what = format!("signal {LATER}, before which SIGIO may come");
        let message = next(&mut stream, &what)?;
        if message["signal"] == LATER {
            break;
        }
        expect::that(
            message["signal"] == libc::SIGIO
                && message["terminal"] != true
                && message.get("sender").is_none(),
            format_args!(
                "signal {} with neither \"terminal\":true nor a sender",
                libc::SIGIO
            ),
            message,
        )?;
    }
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)
}
