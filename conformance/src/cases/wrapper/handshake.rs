//! wrapper.handshake.full: a full escalation socket delays the handshake.

use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use sendfd::SendWithFd;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wrapper_call::{WrapperCall, WrapperRun};
use crate::spec::requirements::Role;
use crate::stage::wrapper::{FullSocket, any_call, expect_waiting};
use crate::system::clock::Moment;
use crate::system::queue::OwnTime;
use crate::verdict::{CaseError, Verdict, harness};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.handshake.full/flags-while-it-waits", flags_while_it_waits),
    case("wrapper.handshake.full/does-not-spin", does_not_spin).within_seconds(60),
    case("wrapper.handshake.full/many-wait", many_wait),
    case("wrapper.handshake.full/delays", full_delays),
    case("wrapper.handshake.full/flags-untouched", flags_untouched),
    case("wrapper.handshake.full/too-many-in-flight", too_many_in_flight),
]);

/// The socket's flags, which all its holders share, do not change while the wrapper waits for room.
fn flags_while_it_waits(context: &mut Context) -> Verdict {
    for nonblocking in [true, false] {
        let full = FullSocket::new(nonblocking)?;
        let flags = || fcntl(&full.client_end, FcntlArg::F_GETFL);
        let before = flags()?;
        let mut wrapper = full.start(any_call(context)?)?;
        // Polled for a while, since a change may be brief, and until the wrapper had that long for itself.
        let mut time = OwnTime::of(wrapper.process.pid);
        let latest = Moment::now() + context.patience();
        while time.so_far() < context.scaled(Duration::from_millis(300)) && !latest.is_over() {
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

/// A wrapper that waits for room does not spin.
fn does_not_spin(context: &mut Context) -> Verdict {
    for nonblocking in [true, false] {
        let full = FullSocket::new(nonblocking)?;
        let mut wrapper = full.start(any_call(context)?)?;
        expect_rest(context, &wrapper)?;
        full.take_fillers(full.datagrams)?;
        let (mut stream, _) = wrapper.request()?;
        stream.deny(None)?;
        wrapper.finish()?.expect_status(1)?;
    }
    Ok(())
}

/// Demands that the wrapper rests for most of the time that others leave it.
fn expect_rest(context: &Context, wrapper: &WrapperRun) -> Verdict {
    let window = context.scaled(Duration::from_millis(1_200));
    let allowed = window / 4;
    let mut time = OwnTime::of(wrapper.process.pid);
    // One that spins on a loaded machine needs a multiple of the time for as much of a processor.
    let latest = Moment::now() + context.scaled(Duration::from_secs(20));
    loop {
        expect_waiting(wrapper, Duration::ZERO)?;
        let had = time.so_far();
        expect::that(
            time.used() < allowed,
            format_args!(
                "less than {allowed:?} of processor time in {window:?} that others leave the wrapper"
            ),
            format_args!("{:?} of processor time in {had:?}", time.used()),
        )?;
        if had >= window || latest.is_over() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ten wrappers wait for room at once: once there is some, each of them is served.
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
        // The datagram does not say whose handshake it is; the request does. No wrapper ends before all have arrived.
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

/// A full escalation socket delays the handshake until there is room again.
fn full_delays(context: &mut Context) -> Verdict {
    for nonblocking in [true, false] {
        let program = Program::new(context, &format!("program-{nonblocking}"), [])?;
        let full = FullSocket::new(nonblocking)?;
        let mut wrapper = full.start(WrapperCall::new(context, &program.path, ["program"])?)?;
        // The kernel does not say that a sender waits; a wrapper that gives up instead would end in this time.
        expect_waiting(&wrapper, context.scaled(Duration::from_millis(700)))?;
        full.take_fillers(full.datagrams)?;
        let (mut stream, _) = wrapper.request()?;
        stream.run()?;
        wrapper.finish()?.expect_status(0)?;
        program.only_start()?;
        expect_flags(&full.client_end, nonblocking)?;
    }
    Ok(())
}

/// While a user has more descriptors in flight than a process may have open, the kernel takes none from that process
/// (ETOOMANYREFS, unix(7)): the handshake is only delayed, too.
fn too_many_in_flight(context: &mut Context) -> Verdict {
    const OPEN_FILES: u64 = 24;
    // The user's other processes are refused, too, unless they are exempt as this one is.
    if !is_exempt()? {
        let why = "CAP_SYS_RESOURCE or CAP_SYS_ADMIN is needed, so that other cases go on while the user has much in flight";
        return Err(CaseError::NotApplicable(why.to_owned()));
    }
    let (held, holder) = UnixStream::pair()?;
    for _ in 0..=OPEN_FILES {
        holder.send_with_fd(b"f", &[held.as_raw_fd()])?;
    }
    let call = any_call(context)?.launched(|launch| {
        let launch = launch.limit(libc::RLIMIT_NOFILE, OPEN_FILES);
        // SAFETY: prctl(2) only.
        unsafe { launch.prepared_by(without_exemption) }
    });
    let mut wrapper = call.start()?;
    // As in `full_delays`, there is no event to wait for.
    expect_waiting(&wrapper, context.scaled(Duration::from_millis(700)))?;
    if wrapper.expect_no_handshake().is_err() {
        let why = "this kernel limits no descriptors in flight";
        return Err(CaseError::NotApplicable(why.to_owned()));
    }
    drop((held, holder));
    let (mut stream, _) = wrapper.request()?;
    stream.deny(None)?;
    wrapper.finish()?.expect_status(1)
}

const CAP_SYS_ADMIN: libc::c_ulong = 21;
const CAP_SYS_RESOURCE: libc::c_ulong = 24;

/// Whether this process may have as much in flight as it likes (capabilities(7)).
fn is_exempt() -> Result<bool, CaseError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .ok_or_else(|| harness("/proc/self/status has no CapEff"))?;
    Ok(effective & (1 << CAP_SYS_RESOURCE | 1 << CAP_SYS_ADMIN) != 0)
}

/// Has the next execve(2) take the capabilities that exempt root.
fn without_exemption() -> libc::c_int {
    for capability in [CAP_SYS_ADMIN, CAP_SYS_RESOURCE] {
        // SAFETY: prctl takes integers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            return -1;
        }
    }
    0
}

fn expect_flags(socket: &UnixDatagram, nonblocking: bool) -> Verdict {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    expect::equal(
        "O_NONBLOCK of the escalation socket",
        nonblocking,
        flags.contains(OFlag::O_NONBLOCK),
    )
}

/// The socket's flags, which others share, are the same while the wrapper waits and afterwards.
fn flags_untouched(context: &mut Context) -> Verdict {
    for nonblocking in [true, false] {
        let call = WrapperCall::new(context, "/bin/program", ["program"])?;
        let (server_end, client_end) = UnixDatagram::pair()?;
        client_end.set_nonblocking(nonblocking)?;
        let ours = client_end.try_clone()?;
        let mut wrapper = call
            .client_end(Some(client_end.into()))
            .server_end(server_end)
            .start()?;
        let (mut stream, _) = wrapper.request()?;
        expect_flags(&ours, nonblocking)?;
        stream.deny(None)?;
        wrapper.finish()?.expect_status(1)?;
        expect_flags(&ours, nonblocking)?;
        let held = ours.as_raw_fd() != ESCALATION_DESCRIPTOR;
        expect::that(held, "the suite's copy has another number", "the same number")?;
    }
    Ok(())
}
