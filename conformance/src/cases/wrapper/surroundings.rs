//! Where wrappers live: sandboxes that refuse system calls, few descriptors, no further process, a busy socket.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wire::send_datagram;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::system::filter;
use crate::system::launch::Launch;
use crate::verdict::{Verdict, harness};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.sandbox/run", sandbox_run),
    case("wrapper.sandbox/deny", sandbox_deny),
    case("wrapper.sandbox/escalate", sandbox_escalate),
    case("wrapper.limits/sixteen-open-files", sixteen_open_files),
    case("wrapper.limits/no-further-process", no_further_process),
    case("wrapper.handshake.full/delays", full_delays),
    case("wrapper.handshake.full/flags-untouched", flags_untouched),
]);

/// What network filters of sandboxes refuse (SPEC.md, "Facts that trap implementers").
pub(super) const REFUSED: [i64; 7] = [
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
];

fn in_sandbox(launch: Launch) -> Launch {
    launch.filter(filter::refusing(&REFUSED))
}

/// Run, under the filter.
fn sandbox_run(context: &mut Context) -> Verdict {
    runs_under(context, in_sandbox)
}

fn runs_under(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Verdict {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let mut wrapper = WrapperCall::new(context, &program.path, ["program"])?
        .launched(change)
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    program.only_start().map(drop)
}

/// Deny, under the filter.
fn sandbox_deny(context: &mut Context) -> Verdict {
    denied_under(context, in_sandbox)
}

fn denied_under(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Verdict {
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

/// Escalate, under the filter.
fn sandbox_escalate(context: &mut Context) -> Verdict {
    escalated_under(context, in_sandbox)
}

fn escalated_under(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Verdict {
    let mut wrapper = WrapperCall::new(context, "/bin/program", ["program"])?
        .launched(change)
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    let escalation = stream.escalate()?;
    let mut numbers = escalation.numbers.clone();
    numbers.sort_unstable();
    expect::equal("numbers", vec![0, 1, 2], numbers)?;
    stream.result(4)?;
    wrapper.finish()?.expect_status(4)
}

/// Every decision with 16 open files allowed.
fn sixteen_open_files(context: &mut Context) -> Verdict {
    let few = |launch: Launch| launch.limit(libc::RLIMIT_NOFILE, 16);
    for decision in 0..3 {
        let program = Program::new(context, &format!("program-{decision}"), [])?;
        let call = WrapperCall::new(context, &program.path, ["program"])?
            .socket_number(10)
            .launched(few);
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        match decision {
            0 => stream.run()?,
            1 => stream.deny(None)?,
            _ => {
                stream.escalate()?;
                stream.result(0)?;
            }
        }
        wrapper.finish()?.expect_status(i32::from(decision == 1))?;
    }
    Ok(())
}

/// Every decision where neither a process nor a thread may be made. RLIMIT_NPROC binds no root: a filter does.
fn no_further_process(context: &mut Context) -> Verdict {
    let alone = |launch: Launch| {
        let mut calls = vec![libc::SYS_clone, libc::SYS_clone3];
        #[cfg(target_arch = "x86_64")]
        calls.extend([libc::SYS_fork, libc::SYS_vfork]);
        launch.filter(filter::refusing(&calls))
    };
    runs_under(context, alone)?;
    denied_under(context, alone)?;
    escalated_under(context, alone)
}

/// A full escalation socket delays the handshake; when there is room again it comes.
fn full_delays(context: &mut Context) -> Verdict {
    for nonblocking in [true, false] {
        let program = Program::new(context, &format!("program-{nonblocking}"), [])?;
        let (server_end, client_end) = UnixDatagram::pair()?;
        client_end.set_nonblocking(nonblocking)?;
        let filler = client_end.try_clone()?;
        let filled = fill(&filler)?;
        let call = WrapperCall::new(context, &program.path, ["program"])?;
        let call = call.client_end(Some(client_end.into())).server_end(server_end);
        let mut wrapper = call.start()?;
        // Nothing tells that a sender waits; a wrapper that gives up instead has ended by now, or will soon.
        let ended = wrapper
            .process
            .handle()
            .ended_within(context.scaled(std::time::Duration::from_millis(700)))?;
        expect::that(!ended, "the wrapper waits for room", "it ended")?;
        for _ in 0..filled {
            wrapper.skip_datagram()?;
        }
        let (mut stream, _) = wrapper.request()?;
        stream.run()?;
        wrapper.finish()?.expect_status(0)?;
        program.only_start()?;
        expect_flags(&filler, nonblocking)?;
    }
    Ok(())
}

/// Sends until the queue is full, and returns how many datagrams that took.
fn fill(socket: &UnixDatagram) -> Result<usize, crate::verdict::CaseError> {
    for count in 0..100_000 {
        match send_datagram(socket, b"", &[], std::time::Duration::ZERO) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
    Err(harness("a datagram queue that never fills"))
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
        expect::that(held, "the suite's copy has another number", "it has not")?;
    }
    Ok(())
}
