//! What cases of a wrapper share: the suite as shell and server around it, and what it demands of the wrapper.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use crate::case::context::Context;
use crate::case::expect;
use crate::peer::fake_server::{Escalation, RequestStream};
use crate::peer::finished::Finished;
use crate::peer::program::Program;
use crate::peer::wire::{Received, receive_handshake};
use crate::peer::wrapper_call::{WrapperCall, WrapperRun};
use crate::probe::report::Report;
use crate::shown::shown;
use crate::system::clock::Moment;
use crate::system::filter;
use crate::system::launch::Launch;
use crate::system::process;
use crate::system::queue::OwnTime;
use crate::transcript;
use crate::verdict::{CaseError, Verdict, harness, violation};

/// Whether two descriptors share an open file description: a status flag set through one is seen through the
/// other. (kcmp(2) says so directly, but many containers refuse it.)
pub fn same_description(one: &impl AsFd, other: &impl AsFd) -> Result<bool, CaseError> {
    let before = fcntl(one, FcntlArg::F_GETFL)?;
    let toggled = OFlag::from_bits_retain(before ^ libc::O_NONBLOCK);
    let seen_before = fcntl(other, FcntlArg::F_GETFL)?;
    fcntl(one, FcntlArg::F_SETFL(toggled))?;
    let seen = fcntl(other, FcntlArg::F_GETFL)?;
    fcntl(one, FcntlArg::F_SETFL(OFlag::from_bits_retain(before)))?;
    Ok((seen ^ seen_before) & libc::O_NONBLOCK != 0)
}

/// Starts a call, escalates its request and returns what was handed over. The suite plays the child from here.
pub fn escalated(call: WrapperCall<'_>) -> Result<(WrapperRun, RequestStream, Escalation), CaseError> {
    let wrapper = call.start()?;
    let (mut stream, _) = wrapper.request()?;
    let escalation = stream.escalate()?;
    Ok((wrapper, stream, escalation))
}

/// Says Escalate to a wrapper that may have more descriptors than fit; gives what it hands over, and none if it refuses.
///
/// # Errors
/// A violation where it does neither.
pub fn escalated_or_refused(stream: &mut RequestStream) -> Result<Option<Escalation>, CaseError> {
    stream.frames.send(br#"{"action":"Escalate"}"#, &[])?;
    match stream.frames.receive()? {
        Received::Frame(frame) => Escalation::of(frame).map(Some),
        Received::End { .. } => Ok(None),
        Received::Silence { .. } => Err(violation(
            "a descriptor message or a refusal",
            "neither, and the stream is open",
        )),
    }
}

/// A call of a program that is never executed, since it does not exist.
pub fn any_call(context: &Context) -> Result<WrapperCall<'_>, CaseError> {
    WrapperCall::new(context, "/bin/program", ["program"])
}

/// Waits until the wrapper is in one of these states (R, S, T …) of /proc. The kernel sends no event for that.
pub fn expect_state(context: &Context, wrapper: &WrapperRun, states: &str) -> Verdict {
    let deadline = Moment::now() + context.patience();
    loop {
        let state = wrapper.process.state().map(|process| process.state);
        if state.is_some_and(|state| states.contains(state)) {
            return Ok(());
        }
        if deadline.is_over() {
            return Err(violation(
                format_args!("the wrapper's state is one of {states}"),
                format_args!("{} after {:?}", shown(&state), context.patience()),
            ));
        }
        process::rest();
    }
}

/// Runs a reporting program under a changed launch, and returns what it was started with.
pub fn run_under(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Result<Report, CaseError> {
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
pub fn run_directly(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Result<Report, CaseError> {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let mut process = change(Launch::new(&program.path, context.work_directory())).start()?;
    process.wait("the program", context.patience())?;
    program.only_start()
}

/// Escalates a call, has `look` examine what was handed over, and ends with 0.
pub fn handed_over<'a>(
    context: &'a Context,
    change: impl FnOnce(WrapperCall<'a>) -> Result<WrapperCall<'a>, CaseError>,
    look: impl FnOnce(&Escalation) -> Verdict,
) -> Verdict {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let call = change(WrapperCall::new(context, &program.path, ["program"])?)?;
    let mut wrapper = call.start()?;
    let (mut stream, _) = wrapper.request()?;
    let escalation = stream.escalate()?;
    look(&escalation)?;
    stream.result(0)?;
    wrapper.finish()?.expect_status(0)?;
    program.expect_not_started()
}

/// A call that must fail before any request: nothing reaches the server, the program does not run.
pub fn fails_without_request<'a>(
    context: &'a Context,
    change: impl FnOnce(WrapperCall<'a>) -> WrapperCall<'a>,
) -> Verdict {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let mut wrapper = change(WrapperCall::new(context, &program.path, ["program"])?).start()?;
    let finished = wrapper.finish();
    expect::all([
        program.expect_not_started(),
        finished.and_then(|finished| finished.expect_refused()),
        wrapper.expect_no_handshake(),
    ])
}

/// A call that must fail by what `answer` does on the request stream.
pub fn fails_by(
    context: &Context,
    answer: impl FnOnce(RequestStream) -> Result<Option<RequestStream>, CaseError>,
) -> Verdict {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?.start()?;
    let (stream, request) = wrapper.request()?;
    expect::equal("file", program.text(), request.file()?)?;
    // A stream that comes back stays open: the wrapper must not wait for its end.
    let held = answer(stream)?;
    let finished = wrapper.finish();
    drop(held);
    expect::all([
        program.expect_not_started(),
        finished.and_then(|finished| finished.expect_refused()),
    ])
}

/// Demands that each of these decisions fails closed.
pub fn each_decision_fails(context: &Context, payloads: &[&[u8]]) -> Verdict {
    for payload in payloads {
        let verdict = fails_by(context, |mut stream| {
            stream.frames.send(payload, &[])?;
            Ok(Some(stream))
        });
        expect::with_input(
            format_args!("the decision {}", transcript::shown(payload)),
            verdict,
        )?;
    }
    Ok(())
}

/// Demands that each of these results fails closed.
pub fn each_result_fails(context: &Context, payloads: &[&[u8]]) -> Verdict {
    for payload in payloads {
        let verdict = fails_by(context, |mut stream| {
            stream.escalate()?;
            stream.frames.send(payload, &[])?;
            Ok(Some(stream))
        });
        expect::with_input(format_args!("the result {}", transcript::shown(payload)), verdict)?;
    }
    Ok(())
}

/// Demands that descriptor `number` of the message is the description behind `ours`.
pub fn expect_same_description(escalation: &Escalation, number: i32, ours: &impl AsFd) -> Verdict {
    let same = same_description(ours, escalation.descriptor(i64::from(number))?)?;
    expect::that(
        same,
        format_args!("the descriptor for {number} is the description that the wrapper was started with"),
        "it is another one",
    )
}

/// Lets `file` run, and returns how it ended.
pub fn run_file(context: &Context, file: &str, arguments: &[&str]) -> Result<Finished, CaseError> {
    let mut wrapper = WrapperCall::new(context, file, arguments)?.start()?;
    let (mut stream, request) = wrapper.request()?;
    expect::equal("file", file, request.file()?)?;
    stream.run()?;
    wrapper.finish()
}

/// Demands that the wrapper is still alive when it has had that long for itself.
pub fn expect_waiting(wrapper: &WrapperRun, so_long: Duration) -> Verdict {
    let ended = wrapper.process.handle().ended_within_own(so_long)?;
    expect::that(!ended, "the wrapper waits", "it has ended")
}

/// An escalation socket that holds no more datagrams.
pub struct FullSocket {
    server_end: UnixDatagram,
    /// The end that the wrapper inherits a copy of.
    pub client_end: UnixDatagram,
    /// How many datagrams filled it.
    pub datagrams: usize,
}

impl FullSocket {
    /// A pair whose queue is full; `nonblocking` is the state of the client end that the wrapper finds.
    pub fn new(nonblocking: bool) -> Result<FullSocket, CaseError> {
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

    /// Starts a wrapper that finds the socket full; the suite keeps both ends.
    pub fn start(&self, call: WrapperCall<'_>) -> Result<WrapperRun, CaseError> {
        call.client_end(Some(self.client_end.try_clone()?.into()))
            .server_end(self.server_end.try_clone()?)
            .start()
    }

    fn take_one(&self) -> Verdict {
        receive_handshake(&self.server_end, Moment::now())?
            .map(drop)
            .ok_or_else(|| harness("the full queue was empty"))
    }

    /// Takes `count` of the datagrams that fill the queue.
    pub fn take_fillers(&self, count: usize) -> Verdict {
        (0..count).try_for_each(|_| self.take_one())
    }
}

/// Variables that turn on the logging of programs and runtimes.
///
/// GODEBUG isn't one of them: the runtime of Go prints what it asks for before `main`, so no program in Go could be quiet.
const DEBUG_VARIABLES: [(&str, &str); 5] = [
    ("RUST_BACKTRACE", "full"),
    ("RUST_LOG", "trace"),
    ("DEBUG", "1"),
    ("PYTHONDEVMODE", "1"),
    ("LC_ALL", "xx_YY.UTF-8"),
];

/// The call with these variables in its environment.
pub fn with_debug_variables(call: WrapperCall<'_>) -> WrapperCall<'_> {
    DEBUG_VARIABLES
        .into_iter()
        .fold(call, |call, (name, value)| call.variable(name, value))
}

/// A wrapper whose escalated child "runs": the suite has the descriptors and has not sent a result.
pub fn escalating(context: &Context) -> Result<(WrapperRun, RequestStream), CaseError> {
    let wrapper = WrapperCall::new(context, "/bin/program", ["program"])?.start()?;
    let (mut stream, _) = wrapper.request()?;
    let escalation = stream.escalate()?;
    expect::that(
        escalation.announces_signals(),
        "\"signals\":true with the descriptors, from a wrapper that forwards signals",
        &escalation.message,
    )?;
    Ok((wrapper, stream))
}

/// The next signal frame.
pub fn forwarded(stream: &mut RequestStream, what: &str) -> Result<i64, CaseError> {
    let message = stream.frames.expect_frame(what)?.json()?;
    message["signal"]
        .as_i64()
        .ok_or_else(|| violation(format_args!("{what}: a signal frame"), &message))
}

/// Sends the wrapper SIGUSR1 again and again, without reading, until no more frames of it fit into the stream.
pub fn fill_with_signals(context: &Context, wrapper: &WrapperRun, stream: &RequestStream) -> Verdict {
    for _ in 0..20_000 {
        let before = waiting_bytes(stream.frames.socket())?;
        wrapper.process.signal(libc::SIGUSR1)?;
        // The event is the arrival of the frame; if none arrives in this time, although the wrapper had it for itself, the
        // stream is full.
        let mut time = OwnTime::of(wrapper.process.pid);
        let deadline = Moment::now() + context.patience();
        while waiting_bytes(stream.frames.socket())? == before
            && time.so_far() < context.scaled(Duration::from_millis(300))
            && !deadline.is_over()
        {
            std::thread::yield_now();
        }
        if waiting_bytes(stream.frames.socket())? == before {
            return Ok(());
        }
    }
    Err(violation(
        "a frame for each signal until the stream is full",
        "20,000 frames fit",
    ))
}

/// Waits until the wrapper is held up by what it writes to: some bytes have `arrived` that nobody reads, and it sleeps.
/// One that tries again without sleeping is given the case's patience, one that has ended none.
pub fn expect_held_up(
    context: &Context,
    wrapper: &WrapperRun,
    arrived: impl Fn() -> Result<i32, CaseError>,
) -> Verdict {
    let deadline = Moment::now() + context.patience();
    loop {
        let before = arrived()?;
        let sleeps = wrapper
            .process
            .state()
            .is_some_and(|process| process.state == 'S');
        let held_up = before > 0 && sleeps && arrived()? == before;
        if held_up || wrapper.process.has_ended()? {
            return Ok(());
        }
        if deadline.is_over() {
            return expect::that(before > 0, "the wrapper writes what it has to say", "no byte");
        }
        process::rest();
    }
}

/// Bytes that wait to be read from this pipe or socket.
pub fn waiting_bytes(descriptor: &impl AsFd) -> Result<i32, CaseError> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int through the pointer, which outlives the call.
    let status = unsafe { libc::ioctl(descriptor.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    nix::errno::Errno::result(status)?;
    Ok(bytes)
}

/// Stops the wrapper from outside and continues it, as Ctrl-Z and `fg` do: a call in which it waits is interrupted.
pub fn stopped_and_continued(context: &Context, wrapper: &WrapperRun) -> Verdict {
    wrapper.process.signal(libc::SIGSTOP)?;
    // One that has ended too early is found by what it hasn't written.
    expect_state(context, wrapper, "TZ")?;
    wrapper.process.signal(libc::SIGCONT)
}

/// Waits until the wrapper, a child of this process, is stopped, and returns by which signal.
///
/// # Errors
/// A violation where it ends or runs on instead.
pub fn stopped_by(wrapper: &WrapperRun, context: &Context) -> Result<i32, CaseError> {
    let deadline = Moment::now() + context.patience();
    loop {
        // Once it has ended no stop will come, and without WEXITED waitid(2) gives ECHILD for it.
        if wrapper.process.has_ended()? {
            return Err(violation(
                "the wrapper stops itself after `stopped`",
                "it ended and was never seen as stopped",
            ));
        }
        // Without WNOWAIT, so that the next stop is reported as a new one.
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(wrapper.process.pid), flags) {
            Ok(WaitStatus::Stopped(_, signal)) => return Ok(signal as i32),
            // It has ended just now; the next round says so.
            Err(Errno::ECHILD) if !deadline.is_over() => {}
            Ok(WaitStatus::StillAlive) if !deadline.is_over() => process::rest(),
            Ok(WaitStatus::StillAlive) => {
                let seen = process::describe(wrapper.process.pid);
                return Err(violation("the wrapper stops itself after `stopped`", seen));
            }
            Ok(other) => return Err(harness(format_args!("waitid gave {other:?}"))),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs a program under a changed launch.
pub fn runs_under(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Verdict {
    run_under(context, change).map(drop)
}

/// Denies a program under a changed launch.
pub fn denied_under(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?
        .launched(change)
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.deny(Some("no"))?;
    let finished = wrapper.finish()?;
    finished.expect_status(1)?;
    expect::equal(
        "standard error",
        "Execution denied: no\n",
        &*finished.error_text(),
    )
}

/// Escalates a program under a changed launch, and sends a result.
pub fn escalated_under(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?
        .launched(change)
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    let escalation = stream.escalate()?;
    expect::equal("numbers", vec![0, 1, 2], escalation.sorted_numbers())?;
    stream.result(4)?;
    wrapper.finish()?.expect_status(4)
}

/// What network filters of sandboxes refuse (SPEC.md, "Facts that trap implementers").
pub const REFUSED: [i64; 7] = [
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
];

/// Under a filter that refuses these.
pub fn in_sandbox(launch: Launch) -> Launch {
    launch.filter(filter::refusing(&REFUSED))
}
