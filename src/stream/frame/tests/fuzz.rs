//! A stream and its descriptors as hostile bytes, in pieces of any size.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use fuzz::{Bounds, Probe, Target};
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read};
use sendfd::SendWithFd;

use super::{FIRST_ALLOCATION, frame, would_block};
use crate::stream::budget::tests::alone;
use crate::stream::frame::{FrameReader, StreamError};

const LIMIT: usize = 5000;

/// How a stream ended for its reader.
#[derive(Debug, PartialEq, Eq)]
enum End {
    BetweenFrames,
    Within,
    TooLong,
    /// More descriptors came than a message may have.
    Surplus,
}

/// The payloads in a stream of bytes, and its end.
fn split(mut bytes: &[u8]) -> (Vec<Vec<u8>>, End) {
    let mut payloads = Vec::new();
    loop {
        if bytes.is_empty() {
            return (payloads, End::BetweenFrames);
        }
        let Some((header, rest)) = bytes.split_first_chunk::<4>() else {
            return (payloads, End::Within);
        };
        let length = header
            .iter()
            .rev()
            .fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        if length > LIMIT {
            return (payloads, End::TooLong);
        }
        if rest.len() < length {
            return (payloads, End::Within);
        }
        payloads.push(rest[..length].to_vec());
        bytes = &rest[length..];
    }
}

/// The pieces in which the input is sent, and how many descriptors come with each, as the input's own bytes say.
fn pieces(input: &[u8]) -> Vec<(&[u8], usize)> {
    const SIZES: [usize; 8] = [1, 2, 3, 5, 40, 1000, 30_000, 60_000];
    const DESCRIPTORS: [usize; 8] = [0, 0, 0, 0, 1, 3, 16, 17];
    let mut state = input.len();
    let (mut rest, mut pieces) = (input, Vec::new());
    while let Some((&first, _)) = rest.split_first() {
        state = state.wrapping_mul(31).wrapping_add(usize::from(first));
        let (piece, after) = rest.split_at(SIZES[state % 8].min(rest.len()));
        pieces.push((piece, DESCRIPTORS[state / 8 % 8]));
        rest = after;
    }
    pieces
}

#[test]
fn frames() {
    let (watch, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).expect("a pipe");
    let target = Target {
        name: "frame",
        corpus: vec![
            [frame(b"{}"), frame(b""), frame(b"{\"fds\":[0,1,2]}")].concat(),
            frame(&[b'x'; 300]),
            [frame(&[0; 4999]), frame(&[1; 4])].concat(),
            vec![0xff; 5],
            b"\x10\0\0".to_vec(),
        ],
        words: &[
            b"\x88\x13\0\0",
            b"\x89\x13\0\0",
            b"\0\0\0\0",
            b"\x01\0\0\0",
            b"\0\0\0\x01",
            b"\0\0\x01\0",
        ],
        bounds: Bounds {
            // The frame that comes, and what one may reserve.
            memory: |length| 2 * length + 2 * FIRST_ALLOCATION,
            time: Bounds::linear_time,
        },
    };
    target.run(|input: &[u8], probe: &mut Probe| {
        let (mut client, server) = UnixStream::pair().expect("a socket pair");
        let budget = alone(1 << 20);
        let mut reader = FrameReader::new(LIMIT, budget.share());
        let (mut payloads, mut end) = (Vec::new(), None);
        // As a request is read, or a message with descriptors.
        let with_descriptors = input.len().is_multiple_of(2);
        // Reads on; false when there is nothing more to read for now.
        let mut read_on = || {
            let step = probe.measure(|| {
                if with_descriptors {
                    reader.advance_header(server.as_fd(), true)?;
                }
                reader.advance(server.as_fd())
            });
            match step {
                Ok(Some(frame)) => payloads.push(frame.payload),
                Ok(None) => end = Some(End::BetweenFrames),
                Err(StreamError::Truncated { .. }) => end = Some(End::Within),
                Err(StreamError::TooLong { .. }) => end = Some(End::TooLong),
                Err(StreamError::TooManyDescriptors(17)) => end = Some(End::Surplus),
                Err(error) => {
                    assert!(would_block::<()>(Err(error)), "nothing else can go wrong");
                    return (false, end.is_some());
                }
            }
            (end.is_none(), end.is_some())
        };
        let mut has_ended = false;
        for (piece, descriptors) in pieces(input) {
            let sent = if descriptors == 0 {
                client.write_all(piece)
            } else {
                let numbers = vec![writer.as_raw_fd(); descriptors];
                let sent = client.send_with_fd(piece, &numbers);
                sent.and_then(|sent| client.write_all(&piece[sent..]))
            };
            sent.map_err(|error| format!("sending: {error}"))?;
            let mut more = true;
            while more {
                (more, has_ended) = read_on();
            }
            if has_ended {
                break;
            }
        }
        drop(client);
        while !has_ended {
            (_, has_ended) = read_on();
        }
        let (wanted, wanted_end) = split(input);
        let surplus = end == Some(End::Surplus) && with_descriptors && wanted.starts_with(&payloads);
        if !surplus && (&payloads, end.as_ref()) != (&wanted, Some(&wanted_end)) {
            return Err(format!(
                "{} frames and {end:?} instead of {} and {wanted_end:?}",
                payloads.len(),
                wanted.len()
            ));
        }
        let accepted = end == Some(End::BetweenFrames) && !payloads.is_empty();
        drop((payloads, reader));
        if !budget.share().grow(1 << 20) {
            return Err("a share of the memory was not given back".to_owned());
        }
        Ok(accepted)
    });
    // Each descriptor that came was closed, by now.
    drop(writer);
    assert_eq!(
        read(&watch, &mut [0; 1]),
        Ok(0),
        "a received descriptor is still open"
    );
}
