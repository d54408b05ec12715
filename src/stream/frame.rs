//! Splits a byte stream into frames: a length of four bytes, little-endian, then the payload.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::ancillary::{receive, receive_with_descriptors};
use super::budget::Share;

const HEADER: usize = 4;

/// The most descriptors that may come with one message (`wire.fds`).
const MOST_DESCRIPTORS: usize = 16;

/// A frame's buffer starts with at most this many bytes and doubles as data arrives, so that a mere length costs little.
const FIRST_ALLOCATION: usize = 64 * 1024;

/// Why a request stream cannot continue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The peer closed its end in the middle of a frame.
    #[error("the stream ended in the middle of a frame, after {received} of {expected} bytes")]
    Truncated {
        /// Bytes of the frame's current part that had arrived.
        received: usize,
        /// Length of that part in bytes.
        expected: usize,
    },
    /// The announced length is over the limit; nothing of that size was allocated.
    #[error("a frame of {length} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Announced payload length in bytes.
        length: usize,
        /// The server's limit in bytes.
        limit: usize,
    },
    /// The session's requests have used up their memory.
    #[error("the session's open requests leave no memory for a frame of {0} bytes")]
    NoMemory(usize),
    /// More descriptors came than a message may have.
    #[error("{0} descriptors came with one message")]
    TooManyDescriptors(usize),
    /// The kernel could not deliver all descriptors, for example because the process has too many open.
    #[error("not all descriptors of a message could be received")]
    DescriptorsLost,
    /// A system call failed.
    #[error("request stream: {0}")]
    Io(#[from] io::Error),
}

/// One frame as received.
#[derive(Debug)]
pub(crate) struct Frame {
    pub payload: Vec<u8>,
    /// Descriptors that came with the frame's first byte; always empty if none were expected.
    pub descriptors: Vec<OwnedFd>,
    /// The payload's share of the session's memory.
    pub share: Share,
}

/// The part of the current frame that has arrived. Never reads beyond the frame's end, since the next message's descriptors
/// come with its first byte.
#[derive(Debug)]
pub(super) struct FrameReader {
    limit: usize,
    header: [u8; HEADER],
    header_filled: usize,
    /// Zeroed space for the payload, as far as it has grown.
    payload: Vec<u8>,
    payload_filled: usize,
    descriptors: Vec<OwnedFd>,
    share: Share,
}

impl FrameReader {
    pub(super) fn new(limit: usize, share: Share) -> Self {
        Self {
            limit,
            header: [0; HEADER],
            header_filled: 0,
            payload: Vec::new(),
            payload_filled: 0,
            descriptors: Vec::new(),
            share,
        }
    }

    /// Reads the length of the next frame, or only as much of it as came with its descriptors if it may have some: `Some` is
    /// their number, `None` the end of the stream between two frames. Like [`Self::advance`], call it again after
    /// `WouldBlock`.
    pub(super) fn advance_header(
        &mut self,
        socket: BorrowedFd<'_>,
        with_descriptors: bool,
    ) -> Result<Option<usize>, StreamError> {
        while self.header_filled < HEADER {
            if with_descriptors && self.header_filled > 0 {
                break;
            }
            let room = &mut self.header[self.header_filled..];
            let bytes = if with_descriptors && self.header_filled == 0 {
                let received = receive_with_descriptors(socket, room)?;
                if received.truncated {
                    return Err(StreamError::DescriptorsLost);
                }
                // At once: a sender could leave the rest of its message unsent.
                if received.descriptors.len() > MOST_DESCRIPTORS {
                    return Err(StreamError::TooManyDescriptors(received.descriptors.len()));
                }
                self.descriptors = received.descriptors;
                received.bytes
            } else {
                receive(socket, room)?
            };
            match bytes {
                0 if self.header_filled == 0 => return Ok(None),
                0 => {
                    return Err(StreamError::Truncated {
                        received: self.header_filled,
                        expected: HEADER,
                    });
                }
                bytes => self.header_filled += bytes,
            }
        }
        Ok(Some(self.descriptors.len()))
    }

    /// Reads until a frame is complete (`Some`), the stream ends between two frames (`None`), or there is nothing to read
    /// (`WouldBlock`; call again, nothing is lost). Descriptors that were not taken before are never installed.
    pub(super) fn advance(&mut self, socket: BorrowedFd<'_>) -> Result<Option<Frame>, StreamError> {
        if self.advance_header(socket, false)?.is_none() {
            return Ok(None);
        }
        let length = u32::from_le_bytes(self.header) as usize;
        if length > self.limit {
            return Err(StreamError::TooLong {
                length,
                limit: self.limit,
            });
        }
        while self.payload_filled < length {
            if self.payload_filled == self.payload.len() {
                let grown = (2 * self.payload.len()).max(FIRST_ALLOCATION).min(length);
                if !self.share.grow(grown - self.payload.len()) {
                    return Err(StreamError::NoMemory(length));
                }
                self.payload.resize(grown, 0);
            }
            match receive(socket, &mut self.payload[self.payload_filled..])? {
                0 => {
                    return Err(StreamError::Truncated {
                        received: self.payload_filled,
                        expected: length,
                    });
                }
                bytes => self.payload_filled += bytes,
            }
        }
        self.header_filled = 0;
        self.payload_filled = 0;
        Ok(Some(Frame {
            payload: std::mem::take(&mut self.payload),
            descriptors: std::mem::take(&mut self.descriptors),
            share: self.share.take(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod fuzz;

    use crate::stream::budget::tests::alone;
    use proptest::prelude::*;
    use sendfd::SendWithFd;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::net::UnixStream;

    fn reader(limit: usize) -> FrameReader {
        FrameReader::new(limit, alone(1 << 20).share())
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        [&u32::try_from(payload.len()).unwrap().to_le_bytes()[..], payload].concat()
    }

    fn would_block<T: std::fmt::Debug>(result: Result<T, StreamError>) -> bool {
        matches!(result, Err(StreamError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock)
    }

    proptest! {
        #[test]
        fn frames_split_anywhere_arrive_whole(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..5),
            cuts in proptest::collection::vec(1_usize..50, 1..40),
        ) {
            let (mut client, server) = UnixStream::pair().unwrap();
            let mut reader = reader(1000);
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
            let mut rest = &bytes[..];
            let mut cuts = cuts.into_iter().cycle();
            let mut arrived = Vec::new();
            while !rest.is_empty() {
                let cut = cuts.next().unwrap().min(rest.len());
                client.write_all(&rest[..cut]).unwrap();
                rest = &rest[cut..];
                loop {
                    match reader.advance(server.as_fd()) {
                        Ok(frame) => arrived.push(frame.unwrap().payload),
                        other => { prop_assert!(would_block(other)); break; }
                    }
                }
            }
            prop_assert_eq!(arrived, payloads);
        }
    }

    #[test]
    fn joined_frames_keep_their_own_descriptors() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut reader = reader(100);
        let null = File::open("/dev/null").unwrap();
        client.write_all(&frame(b"one")).unwrap();
        client.send_with_fd(&frame(b"two"), &[null.as_raw_fd()]).unwrap();
        client.write_all(&frame(b"three")).unwrap();
        let counts: Vec<usize> = (0..3)
            .map(|_| {
                reader.advance_header(server.as_fd(), true).unwrap();
                reader.advance(server.as_fd()).unwrap().unwrap().descriptors.len()
            })
            .collect();
        assert_eq!(counts, [0, 1, 0]);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_allocated() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut reader = reader(1 << 24);
        client.write_all(&[0xff; 4]).unwrap();
        let error = reader.advance(server.as_fd()).unwrap_err();
        assert!(
            matches!(
                error,
                StreamError::TooLong {
                    length: 0xffff_ffff,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(reader.payload.capacity(), 0);
    }

    #[test]
    fn an_announced_length_reserves_little() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut reader = reader(1 << 24);
        client.write_all(&(1_u32 << 24).to_le_bytes()).unwrap();
        assert!(would_block(reader.advance(server.as_fd())));
        assert!(reader.payload.capacity() <= FIRST_ALLOCATION);
    }

    #[test]
    fn a_frame_takes_its_own_length_from_the_budget() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let length = 3 * FIRST_ALLOCATION;
        let budget = alone(length);
        let mut reader = FrameReader::new(length, budget.share());
        let sender = std::thread::spawn(move || client.write_all(&frame(&vec![b' '; length])));
        let frame = loop {
            match reader.advance(server.as_fd()) {
                Err(StreamError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::yield_now();
                }
                arrived => break arrived.unwrap().unwrap(),
            }
        };
        sender.join().unwrap().unwrap();
        assert_eq!(frame.payload.len(), length);
        assert!(!budget.share().grow(1));
        drop(frame);
        assert!(budget.share().grow(length));
    }

    #[test]
    fn the_end_is_an_error_within_a_frame_but_not_between_frames() {
        for sent in [&b"\x05"[..], b"\x05\0\0\0", b"\x05\0\0\0abcd"] {
            let (mut client, server) = UnixStream::pair().unwrap();
            client.write_all(sent).unwrap();
            drop(client);
            let error = reader(100).advance(server.as_fd()).unwrap_err();
            assert!(matches!(error, StreamError::Truncated { .. }), "{error}");
        }
        let (client, server) = UnixStream::pair().unwrap();
        drop(client);
        assert!(reader(100).advance(server.as_fd()).unwrap().is_none());
    }

    #[test]
    fn descriptors_of_a_frame_that_ends_early_are_closed() {
        let (client, server) = UnixStream::pair().unwrap();
        let (pipe, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        client.send_with_fd(b"\x05", &[writer.as_raw_fd()]).unwrap();
        drop((writer, client));
        let mut reader = reader(100);
        assert_eq!(reader.advance_header(server.as_fd(), true).unwrap(), Some(1));
        assert!(reader.advance(server.as_fd()).is_err());
        drop(reader);
        assert_eq!(nix::unistd::read(&pipe, &mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_frame_over_the_session_s_memory_is_refused_as_it_grows() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let mut reader = FrameReader::new(1 << 20, alone(100_000).share());
        client.write_all(&(200_000_u32).to_le_bytes()).unwrap();
        assert!(would_block(reader.advance(server.as_fd())));
        client.write_all(&[b' '; 70_000]).unwrap();
        let error = reader.advance(server.as_fd()).unwrap_err();
        assert!(matches!(error, StreamError::NoMemory(200_000)), "{error}");
    }
}
