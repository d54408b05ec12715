//! A wrapper waits: for decisions and results as long as it takes, and for room on the escalation socket.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};

use super::support::{any_call, expect_state};
use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::peer::wire::receive_handshake;
use crate::peer::wrapper_call::{WrapperCall, WrapperRun};
use crate::spec::requirements::{Level, Role};
use crate::system::poll::readable_until;
use crate::system::process::Ended;
use crate::verdict::{CaseError, Verdict, harness};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.waits/for-each-decision", for_each_decision),
    case("wrapper.waits/stopped-and-continued", stopped_and_continued).at(Level::Faithful),
    case("wrapper.waits/harmless-signals", harmless_signals).at(Level::Faithful),
    case("wrapper.handshake.full/flags-while-it-waits", flags_while_it_waits),
    case("wrapper.handshake.full/does-not-spin", does_not_spin),
    case("wrapper.handshake.full/many-wait", many_wait),
    case("wrapper.killed/while-the-socket-is-full", killed_while_full),
]);

/// Three wrappers wait side by side while time passes; then each decision is still carried out, silently until then.
fn for_each_decision(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let start = || -> Result<_, CaseError> {
        let wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
        let (stream, _) = wrapper.request()?;
        Ok((wrapper, stream))
    };
    let (mut run, mut run_stream) = start()?;
    let (mut denied, mut denied_stream) = start()?;
    let (mut escalated, mut escalated_stream) = start()?;
    // The delay is the input: a wrapper with a timeout of its own gives up in it. The one that escalates spends half
    // of it waiting for its result.
    let half = context.scaled(Duration::from_secs(2));
    expect_waiting(&run, half)?;
    drop(escalated_stream.escalate()?);
    expect_waiting(&escalated, half)?;
    for (wrapper, stream) in [
        (&run, &run_stream),
        (&denied, &denied_stream),
        (&escalated, &escalated_stream),
    ] {
        expect_waiting(wrapper, Duration::ZERO)?;
        wrapper.expect_no_handshake()?;
        let silent = !readable_until(stream.frames.socket(), Instant::now())?;
        expect::that(silent, "nothing is sent while it waits", "something, or the end")?;
    }
    program.expect_not_started()?;
    run_stream.run()?;
    let finished = run.finish()?;
    finished.expect_status(0)?;
    expect::equal("standard error", "", &*finished.error_text())?;
    program.only_start()?;
    denied_stream.deny(None)?;
    let finished = denied.finish()?;
    finished.expect_status(1)?;
    expect::equal("standard error", "Execution denied\n", &*finished.error_text())?;
    escalated_stream.result(5)?;
    let finished = escalated.finish()?;
    finished.expect_status(5)?;
    expect::equal("standard error", "", &*finished.error_text())
}

fn expect_waiting(wrapper: &WrapperRun, so_long: Duration) -> Verdict {
    let ended = wrapper.process.handle().ended_within(so_long)?;
    expect::that(!ended, "the wrapper waits", "it has ended")
}

/// SIGSTOP and SIGCONT from outside change nothing about what it waits for.
fn stopped_and_continued(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    for decision in 0..3 {
        let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
        let (mut stream, _) = wrapper.request()?;
        for _ in 0..2 {
            wrapper.process.signal(libc::SIGSTOP)?;
            expect_state(context, &wrapper, "T")?;
            wrapper.process.signal(libc::SIGCONT)?;
            expect_state(context, &wrapper, "RS")?;
        }
        let status = match decision {
            0 => {
                stream.run()?;
                0
            }
            1 => {
                stream.deny(None)?;
                1
            }
            _ => {
                drop(stream.escalate()?);
                stream.result(44)?;
                44
            }
        };
        wrapper.finish()?.expect_status(status)?;
    }
    Ok(())
}

/// Signals that end nobody by default do not end the wait.
fn harmless_signals(context: &mut Context) -> Verdict {
    let mut wrapper = any_call(context)?.start()?;
    let (mut stream, _) = wrapper.request()?;
    for signal in [libc::SIGWINCH, libc::SIGCHLD, libc::SIGURG, libc::SIGCONT] {
        // Each is to interrupt a wait that has begun.
        expect_state(context, &wrapper, "S")?;
        wrapper.process.signal(signal)?;
    }
    stream.deny(Some("after all"))?;
    let finished = wrapper.finish()?;
    finished.expect_status(1)?;
    expect::equal(
        "standard error",
        "Execution denied: after all\n",
        &*finished.error_text(),
    )
}

/// An escalation socket that holds no more datagrams.
struct FullSocket {
    server_end: UnixDatagram,
    client_end: UnixDatagram,
    datagrams: usize,
}

impl FullSocket {
    fn new(nonblocking: bool) -> Result<FullSocket, CaseError> {
        let (server_end, client_end) = UnixDatagram::pair()?;
        client_end.set_nonblocking(true)?;
        let mut datagrams = 0;
        loop {
            match client_end.send(b"f") {
                Ok(_) => datagrams += 1,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        client_end.set_nonblocking(nonblocking)?;
        Ok(FullSocket {
            server_end,
            client_end,
            datagrams,
        })
    }

    /// A wrapper that finds the socket full, and copies of both ends.
    fn start(&self, call: WrapperCall<'_>) -> Result<WrapperRun, CaseError> {
        call.client_end(Some(self.client_end.try_clone()?.into()))
            .server_end(self.server_end.try_clone()?)
            .start()
    }

    fn take_one(&self) -> Verdict {
        receive_handshake(&self.server_end, Instant::now())?
            .map(drop)
            .ok_or_else(|| harness("the full queue was empty"))
    }

    fn take_fillers(&self, count: usize) -> Verdict {
        (0..count).try_for_each(|_| self.take_one())
    }
}

/// The socket's flags are the same while the wrapper waits for room: everybody shares them.
fn flags_while_it_waits(context: &mut Context) -> Verdict {
    for nonblocking in [true, false] {
        let full = FullSocket::new(nonblocking)?;
        let flags = || fcntl(&full.client_end, FcntlArg::F_GETFL);
        let before = flags()?;
        let mut wrapper = full.start(any_call(context)?)?;
        // Looked at again and again for a while, since a change may be short.
        let end = Instant::now() + context.scaled(Duration::from_millis(300));
        while Instant::now() < end {
            expect::equal("the socket's flags while it is full", before, flags()?)?;
            std::thread::yield_now();
        }
        full.take_fillers(full.datagrams)?;
        let (mut stream, _) = wrapper.request()?;
        expect::equal("the socket's flags after the handshake", before, flags()?)?;
        stream.deny(None)?;
        wrapper.finish()?.expect_status(1)?;
        expect::equal("the socket's flags afterwards", before, flags()?)?;
    }
    Ok(())
}

/// Processor time that a process has used so far.
fn processor_time(pid: i32) -> Result<Duration, CaseError> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text[text.rfind(')').map_or(0, |end| end + 2)..]
        .split(' ')
        .collect();
    // utime and stime are the 14th and 15th fields of proc_pid_stat(5); the first two are cut off.
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
        return Err(harness(format_args!("/proc/{pid}/stat: {text}")));
    };
    // SAFETY: sysconf takes an integer.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(Duration::from_secs_f64(
        (user + system) as f64 / per_second as f64,
    ))
}

/// A wrapper that waits for room leaves the processor to others.
fn does_not_spin(context: &mut Context) -> Verdict {
    for nonblocking in [true, false] {
        let full = FullSocket::new(nonblocking)?;
        let mut wrapper = full.start(any_call(context)?)?;
        let pid = wrapper.process.pid.as_raw();
        let before = processor_time(pid)?;
        let window = context.scaled(Duration::from_millis(1_200));
        expect_waiting(&wrapper, window)?;
        let used = processor_time(pid)?.saturating_sub(before);
        expect::that(
            used < window / 4,
            format_args!("less than a quarter of a processor during {window:?}"),
            format_args!("{used:?} of processor time"),
        )?;
        full.take_fillers(full.datagrams)?;
        let (mut stream, _) = wrapper.request()?;
        stream.deny(None)?;
        wrapper.finish()?.expect_status(1)?;
    }
    Ok(())
}

/// Ten wrappers wait for room at once: when there is some, each of them is served.
fn many_wait(context: &mut Context) -> Verdict {
    let full = FullSocket::new(true)?;
    let mut wrappers = Vec::new();
    for index in 0..10 {
        let call = WrapperCall::new(context, "/bin/program", [index.to_string()])?;
        wrappers.push(full.start(call)?);
    }
    full.take_fillers(full.datagrams)?;
    let mut seen = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..10 {
        // Whose handshake comes is not said by the datagram; the request says it. None ends before all have come.
        let (stream, request) = wrappers[0].request()?;
        seen.push(request.arguments()?.join(" "));
        streams.push(stream);
    }
    for stream in &mut streams {
        stream.deny(None)?;
    }
    seen.sort_unstable();
    let expected: Vec<String> = (0..10).map(|index| index.to_string()).collect();
    expect::equal("argv[0] of the requests", expected, seen)?;
    for wrapper in &mut wrappers {
        wrapper.finish()?.expect_status(1)?;
    }
    Ok(())
}

/// Killed while it waits for room, a wrapper sends nothing afterwards; what it may have sent has no other end.
fn killed_while_full(context: &mut Context) -> Verdict {
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let full = FullSocket::new(true)?;
        let mut wrapper = full.start(any_call(context)?)?;
        expect_waiting(&wrapper, context.scaled(Duration::from_millis(100)))?;
        wrapper.process.signal(signal)?;
        let ended = wrapper.process.wait("the wrapper", context.patience())?;
        expect::equal("the wrapper's end", Ended::Killed(signal), ended)?;
        full.take_fillers(full.datagrams)?;
        wrapper.expect_no_handshake()?;
    }
    Ok(())
}
