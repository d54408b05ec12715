//! Hostile input on request streams: stalls, huge or deeply nested JSON, masses of descriptors, garbage.

use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use proptest::prelude::*;
use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{RequestMessage, Requester};
use crate::peer::harness::Answer;
use crate::peer::program::ConnectedProgram;
use crate::peer::wire::{FrameStream, frame};
use crate::spec::requirements::Role;
use crate::stage::descriptors::{null, watched_pipes};
use crate::stage::holdings::Rounds;
use crate::stage::server::Stage;
use crate::stage::siege::{OPEN_AT_ONCE, Siege, expect_any_answer};
use crate::system::clock::Moment;
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.hostile/silent-streams", silent_streams),
    case("server.hostile/half-frames", half_frames),
    case("server.hostile/half-frames-at-the-end", half_frames_at_the_end),
    case("server.hostile/announced-and-not-sent", announced_and_not_sent),
    case("server.hostile/stalls-in-every-phase", stalls_in_every_phase).within_seconds(60),
    case("server.hostile/readers-that-stall", readers_that_stall).within_seconds(60),
    case("server.hostile/nested-without-end", nested_without_end).within_seconds(60),
    case("server.hostile/sixteen-mib-of-json", sixteen_mib_of_json).within_seconds(180),
    case("server.hostile/parents-without-end", parents_without_end).within_seconds(60),
    case("server.hostile/heaps-of-descriptors", heaps_of_descriptors),
    case("server.hostile/a-stream-in-itself", a_stream_in_itself),
    case("server.hostile/streams-with-credentials", streams_with_credentials),
    case("server.hostile/streams-with-pidfds", streams_with_pidfds),
    case("server.hostile/garbage", garbage).within_seconds(120),
]);

/// Streams that are open at once, to each of which `say` has written something.
fn open(
    siege: &mut Siege,
    count: usize,
    mut say: impl FnMut(usize, &mut Requester) -> Verdict,
) -> Result<Vec<Requester>, CaseError> {
    (0..count)
        .map(|index| {
            let mut requester = siege.stage.session.socket.open()?;
            say(index, &mut requester)?;
            Ok(requester)
        })
        .collect()
}

/// Streams on which nothing is sent.
fn silent_streams(context: &mut Context) -> Verdict {
    let mut siege = Siege::new(context)?;
    let silent = open(&mut siege, OPEN_AT_ONCE, |_, _| Ok(()))?;
    siege.others_are_served()?;
    for requester in &silent[..OPEN_AT_ONCE / 2] {
        requester.frames.shutdown_write()?;
    }
    siege.others_are_served()?;
    drop(silent);
    siege.lift(context, "silent streams")
}

/// Part of a request's frame, cut at one of many places.
fn part_of_a_frame(stage: &Stage, index: usize) -> Vec<u8> {
    let mut bytes = frame(stage.request_for("/bin/true").value().to_string().as_bytes());
    let cuts = [1, 2, 3, 4, 5, 20, bytes.len() - 1];
    bytes.truncate(cuts[index % cuts.len()]);
    bytes
}

/// Streams on which half a length or half a payload was sent.
fn half_frames(context: &mut Context) -> Verdict {
    let mut siege = Siege::new(context)?;
    let parts: Vec<_> = (0..OPEN_AT_ONCE)
        .map(|index| part_of_a_frame(&siege.stage, index))
        .collect();
    let open = open(&mut siege, OPEN_AT_ONCE, |index, requester| {
        requester.frames.send_bytes(&parts[index], &[])
    })?;
    siege.others_are_served()?;
    drop(open);
    siege.lift(context, "half frames")
}

/// They do not hold up the end of the session.
fn half_frames_at_the_end(context: &mut Context) -> Verdict {
    let mut siege = Siege::new(context)?;
    let parts: Vec<_> = (0..OPEN_AT_ONCE)
        .map(|index| part_of_a_frame(&siege.stage, index))
        .collect();
    let open = open(&mut siege, OPEN_AT_ONCE, |index, requester| {
        requester.frames.send_bytes(&parts[index], &[])
    })?;
    siege.others_are_served()?;
    siege.stage.close_session()?;
    for mut requester in open {
        requester.frames.expect_end("the session is closed")?;
    }
    siege.stage.finish()
}

/// Lengths that are allowed, and not a byte of the payload.
fn announced_and_not_sent(context: &mut Context) -> Verdict {
    let mut siege = Siege::new(context)?;
    let lengths = [16_u32 << 20, 1 << 20, 0x8000_0000, 0x7fff_ffff, 0x0100_0001];
    let open = open(&mut siege, OPEN_AT_ONCE, |index, requester| {
        requester
            .frames
            .send_bytes(&lengths[index % lengths.len()].to_le_bytes(), &[])
    })?;
    siege.others_are_served()?;
    drop(open);
    siege.lift(context, "lengths without payloads")
}

/// A wrapper stalls at each point in the course of a request; then all wrappers go.
fn stalls_in_every_phase(context: &mut Context) -> Verdict {
    const OF_EACH: usize = 6;
    let mut siege = Siege::new(context)?;
    siege
        .stage
        .shim
        .decide_by(|question| match &*question.arguments[0] {
            "undecided" => Answer::Later,
            _ => Answer::Escalate,
        });
    let program = ConnectedProgram::new(context, "child")?;
    let null = null()?;
    let numbers = [null.as_raw_fd(); 3];
    let descriptors = frame(b"{\"fds\":[0,1,2]}");
    let mut stalled = Vec::new();
    let mut children = Vec::new();
    for _ in 0..OF_EACH {
        let mut undecided = siege.stage.session.socket.open()?;
        let request = siege.stage.request_for(program.text());
        undecided.request(&request.clone().member("argv", json!(["undecided"])))?;
        stalled.push(undecided);
        stalled.push(siege.stage.granted(&request)?);
        let mut half = siege.stage.granted(&request)?;
        half.frames.send_bytes(&descriptors[..9], &numbers)?;
        stalled.push(half);
        let mut running = siege.stage.granted(&request)?;
        running.frames.send_bytes(&descriptors, &numbers)?;
        children.push(program.accept("the escalated child")?);
        // Half of what could be a signal frame.
        running.frames.send_bytes(&[200, 0], &[])?;
        stalled.push(running);
        siege.others_are_served()?;
    }
    drop(stalled);
    for child in &mut children {
        child.expect_gone("the escalated child of a wrapper that is gone")?;
    }
    siege.lift(context, "stalls in every phase")
}

/// Denials of 512 KiB, more than a socket takes, that no wrapper reads.
fn readers_that_stall(context: &mut Context) -> Verdict {
    const READERS: usize = 8;
    let mut siege = Siege::new(context)?;
    let reason = "r".repeat(512 << 10);
    siege
        .stage
        .shim
        .decide_by(move |question| match &*question.arguments[0] {
            "stall" => Answer::Deny(Some(reason.clone())),
            _ => Answer::Escalate,
        });
    let request = siege
        .stage
        .request_for("/bin/true")
        .member("argv", json!(["stall"]));
    let stalled = open(&mut siege, READERS, |_, requester| requester.request(&request))?;
    for requester in &stalled {
        // The denial has begun to come, and can't be written to its end.
        let begun = crate::system::poll::readable_until(
            requester.frames.socket(),
            Moment::now() + context.patience(),
        )?;
        crate::case::expect::that(begun, "the denial begins to come", "nothing")?;
    }
    siege.others_are_served()?;
    drop(stalled);
    siege.lift(context, "readers that stall")
}

/// JSON of 100,000 levels: alone, as an unknown member, as a known one, and without an end.
fn nested_without_end(context: &mut Context) -> Verdict {
    const DEPTH: usize = 100_000;
    let mut siege = Siege::new(context)?;
    let right = siege.stage.request_for("/bin/true").value().to_string();
    let arrays = format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let objects = format!("{}1{}", "{\"a\":".repeat(DEPTH), "}".repeat(DEPTH));
    let mixed = format!("{}{}", "[{\"a\":".repeat(DEPTH), "}]".repeat(DEPTH));
    let unclosed = "[".repeat(10 * DEPTH);
    for value in [&arrays, &objects, &mixed, &unclosed] {
        for payload in [
            value.clone(),
            format!("{{\"unknown\":{value},{}", &right[1..]),
            right.replace("\"env\":{}", &format!("\"env\":{value}")),
            right.replace("\"argv\":[", &format!("\"argv\":[{value},")),
        ] {
            let mut requester = siege.stage.session.socket.open()?;
            // It may be refused before all of it was sent.
            let _ = requester.frames.try_send_bytes(&frame(payload.as_bytes()), &[]);
            expect_any_answer(&mut requester, "100,000 levels of nesting", context.patience())?;
            drop(requester);
            siege.others_are_served()?;
        }
    }
    siege.lift(context, "100,000 levels of nesting")
}

/// 16 MiB of valid JSON of several kinds, again and again: the memory that a server takes for it is released.
fn sixteen_mib_of_json(context: &mut Context) -> Verdict {
    const LENGTH: usize = 16 << 20;
    let loud = std::mem::replace(&mut context.transcript, Transcript::new(|_| {}));
    let stage = Stage::new(context);
    context.transcript = loud;
    let mut stage = stage?;
    let right = stage.request_for("/bin/true").value().to_string();
    let filled = |open: &str, item: &str, close: &str| {
        let room = LENGTH - right.len() - open.len() - close.len() - 100;
        format!("{open}{}{close}", item.repeat(room / item.len()))
    };
    let values = [
        filled("[1", ",1", "]"),
        filled("\"", "\\u0041", "\""),
        filled("1", "0", ""),
    ];
    let payloads: Vec<Vec<u8>> = values
        .iter()
        .map(|value| frame(format!("{{\"unknown\":{value},{}", &right[1..]).as_bytes()))
        .chain([frame(values[0].as_bytes())])
        .collect();
    // A slow parser needs time for so much.
    let long = 6 * context.patience();
    let rounds = Rounds {
        what: "requests of 16 MiB",
        requests: payloads.len() as u64,
        bytes_of_each: 2 << 20,
    };
    rounds.run(context, &mut stage, |stage| {
        for payload in &payloads {
            let mut requester = stage.session.socket.open()?;
            let _ = requester.frames.try_send_bytes(payload, &[]);
            expect_any_answer(&mut requester, "16 MiB of JSON", long)?;
            drop(requester);
            stage.sentinel()?;
        }
        Ok(())
    })?;
    stage.finish()
}

/// Hundreds of `..` in a deep folder, in less than four kilobytes: the file is not there, and saying so takes no more time than
/// the kernel would take.
fn parents_without_end(context: &mut Context) -> Verdict {
    const DEPTH: usize = 900;
    const PARENTS: usize = 800;
    let mut siege = Siege::new(context)?;
    let deep = context.path(&"a/".repeat(DEPTH));
    std::fs::create_dir_all(&deep)?;
    let file = "../a/".repeat(PARENTS) + "tool";
    let request = RequestMessage::new(&file, &["tool"], &deep.to_string_lossy());
    let mut open = open(&mut siege, 4, |_, requester| requester.request(&request))?;
    siege.others_are_served()?;
    for requester in &mut open {
        expect_any_answer(requester, "a file behind hundreds of `..`", context.patience())?;
    }
    drop(open);
    siege.lift(context, "requests with hundreds of `..`")
}

/// Sixteen descriptors with each of many half frames.
fn heaps_of_descriptors(context: &mut Context) -> Verdict {
    const STREAMS: usize = 30;
    let mut siege = Siege::new(context)?;
    let (watch, pipes) = watched_pipes(16)?;
    let numbers: Vec<RawFd> = pipes.iter().map(AsRawFd::as_raw_fd).collect();
    let parts: Vec<_> = (0..STREAMS)
        .map(|index| part_of_a_frame(&siege.stage, index))
        .collect();
    let open = open(&mut siege, STREAMS, |index, requester| {
        requester.frames.send_bytes(&parts[index], &numbers)
    })?;
    siege.others_are_served()?;
    drop((open, pipes));
    watch.expect_closed("the server", context.patience())?;
    siege.lift(context, "masses of descriptors")
}

/// A request that brings both ends of its own stream: as long as the server keeps them, it never sees an end.
fn a_stream_in_itself(context: &mut Context) -> Verdict {
    let mut siege = Siege::new(context)?;
    let request = siege.stage.request_for("/bin/true").value().to_string();
    for payload in [request.as_bytes(), b"nope", b""] {
        let (ours, theirs) = UnixStream::pair()?;
        siege.stage.session.socket.datagram(&[0], &[&theirs])?;
        let numbers = [ours.as_raw_fd(), theirs.as_raw_fd()];
        let mut frames = FrameStream::new(
            ours,
            "request stream",
            Transcript::new(|_| {}),
            context.patience(),
        );
        frames.send(payload, &numbers)?;
        drop((frames, theirs));
        siege.others_are_served()?;
    }
    siege.lift(context, "streams that were sent over themselves")
}

/// With each message the kernel gives the server the sender's process, user and group (SO_PASSCRED).
fn streams_with_credentials(context: &mut Context) -> Verdict {
    let mut siege = Siege::new(context)?;
    escalate_on(context, &mut siege, |servers_end| {
        setsockopt(servers_end, sockopt::PassCred, &true)
    })?;
    siege.lift(context, "streams that bring credentials")
}

/// With each message the kernel gives the server a pidfd of the sender, who did not send it (SO_PASSPIDFD).
fn streams_with_pidfds(context: &mut Context) -> Verdict {
    let (end, _) = UnixStream::pair()?;
    if bring_pidfds(&end) == Err(Errno::ENOPROTOOPT) {
        return Err(CaseError::NotApplicable(
            "this kernel has no SO_PASSPIDFD (Linux 6.5)".to_owned(),
        ));
    }
    let mut siege = Siege::new(context)?;
    escalate_on(context, &mut siege, bring_pidfds)?;
    siege.lift(context, "streams that bring pidfds")
}

/// Has each message to this end bring a pidfd of its sender (unix(7)).
fn bring_pidfds(end: &UnixStream) -> nix::Result<()> {
    const SO_PASSPIDFD: libc::c_int = 76; // as in asm-generic/socket.h
    let on: libc::c_int = 1;
    let value: *const libc::c_int = &raw const on;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the value lives across the call and has the length that is passed.
    let done = unsafe {
        libc::setsockopt(
            end.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSPIDFD,
            value.cast(),
            length,
        )
    };
    Errno::result(done).map(drop)
}

/// Requests to be escalated, each with a descriptor, on streams whose server's end is set up like this.
fn escalate_on(
    context: &Context,
    siege: &mut Siege,
    set_up: impl Fn(&UnixStream) -> nix::Result<()>,
) -> Verdict {
    const STREAMS: usize = 20;
    let null = null()?;
    for _ in 0..STREAMS {
        let (ours, theirs) = UnixStream::pair()?;
        set_up(&theirs)?;
        let mut requester = siege.stage.session.socket.open_on(ours, &theirs)?;
        drop(theirs);
        requester.request(&siege.stage.request_for("/bin/true"))?;
        expect_any_answer(&mut requester, "a request", context.patience())?;
        // The server may have closed such a stream already.
        if requester.send_descriptors(&[(1, &null)]).is_ok() {
            expect_any_answer(&mut requester, "an escalated command", context.patience())?;
        }
    }
    siege.others_are_served()
}

/// Random bytes, with and without descriptors, at random points of a request's course.
fn garbage(context: &mut Context) -> Verdict {
    let siege = std::cell::RefCell::new(Siege::new(context)?);
    let piece = (prop::collection::vec(any::<u8>(), 0..200), 0_usize..5);
    let strategy = (prop::collection::vec(piece, 1..6), 0_usize..3, any::<bool>());
    let null = null()?;
    crate::case::property::holds(context, &strategy, |(pieces, point, in_frames)| {
        let mut siege = siege.borrow_mut();
        let request = siege.stage.request_for("/bin/true");
        let mut requester = match point {
            0 => siege.stage.session.socket.open()?,
            1 => siege.stage.granted(&request)?,
            _ => {
                let mut requester = siege.stage.granted(&request)?;
                requester.send_descriptors(&[(0, &null)])?;
                requester
            }
        };
        for (bytes, count) in pieces {
            let bytes = if in_frames { frame(&bytes) } else { bytes };
            if bytes.is_empty() {
                continue;
            }
            // The server may have closed the stream already.
            let _ = requester
                .frames
                .try_send_bytes(&bytes, &vec![null.as_raw_fd(); count]);
        }
        drop(requester);
        siege.others_are_served()
    })?;
    siege.into_inner().lift(context, "garbage")
}
