//! Handshakes as hostile datagrams: any bytes, with descriptors of any kind and number.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use fuzz::{Bounds, Probe, Target};
use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{pipe2, read};
use sendfd::SendWithFd;

use super::{receive_with_descriptors, stream_of};

/// What a sender may pass, the only acceptable kind first.
const KINDS: usize = 6;

/// Datagrams of an input: more would show nothing new.
const MOST: usize = 16;

/// One of each kind; the second end of a pair, which shows whether the first is closed, if it has one.
fn descriptor(kind: usize) -> (OwnedFd, Option<OwnedFd>) {
    match kind {
        0 => {
            let (stream, peer) = UnixStream::pair().expect("a socket pair");
            (stream.into(), Some(peer.into()))
        }
        1 => {
            let (reader, writer) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).expect("a pipe");
            (writer, Some(reader))
        }
        2 => (File::open("/dev/null").expect("/dev/null").into(), None),
        3 => {
            let (datagram, peer) = UnixDatagram::pair().expect("a socket pair");
            (datagram.into(), Some(peer.into()))
        }
        4 | 5 => {
            let family = if kind == 4 {
                AddressFamily::Unix
            } else {
                AddressFamily::Inet
            };
            let unconnected = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
            (unconnected.expect("a socket"), None)
        }
        _ => unreachable!("not a kind"),
    }
}

/// The datagrams that an input stands for: kinds of descriptors, and bytes.
fn datagrams(input: &[u8]) -> Vec<(Vec<usize>, &[u8])> {
    const COUNTS: [usize; 8] = [1, 1, 1, 0, 2, 16, 17, 40];
    const SIZES: [usize; 4] = [1, 0, 2, 3000];
    let (mut rest, mut datagrams) = (input, Vec::new());
    while let Some((&first, after)) = rest.split_first()
        && datagrams.len() < MOST
    {
        let first = usize::from(first);
        let count = COUNTS[first % 8];
        let kinds = (0..count).map(|index| (first / 8 + index * (first / 64)) % KINDS);
        let (data, after) = after.split_at(SIZES[first / 16 % 4].min(after.len()));
        datagrams.push((kinds.collect(), data));
        rest = after;
    }
    datagrams
}

#[test]
fn handshakes() {
    let target = Target {
        name: "handshake",
        corpus: vec![b"\0x".to_vec(), b"\x01\x09\x03\x04".to_vec(), (0..=255).collect()],
        words: &[b"\0\0", b"\x08", b"\x06", b"\x07"],
        bounds: Bounds {
            // The list of descriptors; what the rest of the datagram has is never received.
            memory: |_| 256,
            time: Bounds::linear_time,
        },
    };
    target.run(|input: &[u8], probe: &mut Probe| {
        let (client, server) = UnixDatagram::pair().expect("a socket pair");
        server.set_nonblocking(true).expect("a socket");
        let mut any = false;
        for (kinds, data) in datagrams(input) {
            let (sent, others): (Vec<_>, Vec<_>) = kinds.iter().map(|&kind| descriptor(kind)).unzip();
            let numbers: Vec<i32> = sent.iter().map(AsRawFd::as_raw_fd).collect();
            let sending = client.send_with_fd(data, &numbers);
            sending.map_err(|error| format!("sending: {error}"))?;
            drop(sent);
            let accepted = probe.measure(|| {
                let datagram = receive_with_descriptors(server.as_fd(), &mut [0; 1]);
                datagram.map(|datagram| stream_of(datagram).ok())
            });
            let accepted = accepted.map_err(|error| format!("receiving: {error}"))?;
            if accepted.is_some() != (kinds == [0]) {
                return Err(format!("{kinds:?}: accepted {accepted:?}"));
            }
            any |= accepted.is_some();
            drop(accepted);
            for (kind, other) in kinds
                .iter()
                .zip(others)
                .filter_map(|(kind, other)| Some((kind, other?)))
            {
                // A datagram socket whose peer is gone has no end.
                if *kind != 3 && read(&other, &mut [0; 1]) != Ok(0) {
                    return Err(format!("{kinds:?}: a descriptor is still open"));
                }
            }
        }
        Ok(any)
    });
}
