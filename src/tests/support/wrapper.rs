//! The wrapper's side of the protocol, byte by byte.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use sendfd::SendWithFd;
use serde_json::{Value, json};

/// Longer than anything here takes even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Sends handshakes on a session's socket.
pub struct Client(pub OwnedFd);

impl Client {
    /// Duplicates the client's end that an overlay names, as a shell inherits it.
    pub fn of(number: &str) -> Self {
        // SAFETY: the session holds it open while this borrows it.
        let own = unsafe { BorrowedFd::borrow_raw(number.parse().unwrap()) };
        Self(own.try_clone_to_owned().unwrap())
    }

    /// One datagram with these descriptors.
    pub fn send(&self, data: &[u8], descriptors: &[RawFd]) -> std::io::Result<usize> {
        let socket = std::os::unix::net::UnixDatagram::from(self.0.try_clone().unwrap());
        socket.send_with_fd(data, descriptors)
    }

    /// A handshake: the request stream.
    pub fn connect(&self) -> Stream {
        self.try_connect().unwrap()
    }

    pub fn try_connect(&self) -> std::io::Result<Stream> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.send(&[0], &[theirs.as_raw_fd()])?;
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        Ok(Stream(ours))
    }

    /// Handshake and request of `argv` in `/`.
    pub fn request(&self, argv: &[&str]) -> Stream {
        let mut stream = self.connect();
        stream.send(&request(argv));
        stream
    }

    /// An escalated command, up to and including its descriptors.
    pub fn escalate(&self, argv: &[&str], descriptors: &[(&dyn AsFd, i32)]) -> Stream {
        let mut stream = self.request(argv);
        assert_eq!(stream.receive(), json!({"action": "Escalate"}));
        stream.send_descriptors(descriptors);
        stream
    }
}

/// A request for `argv`, whose first element is also the file.
pub fn request(argv: &[&str]) -> Value {
    json!({"file": argv[0], "argv": argv, "workdir": "/", "env": {"PATH": "/usr/bin:/bin"}})
}

/// Request stream, wrapper's end.
pub struct Stream(pub UnixStream);

impl Stream {
    pub fn send(&mut self, message: &Value) {
        self.send_payload(message.to_string().as_bytes());
    }

    pub fn send_payload(&mut self, payload: &[u8]) {
        self.0.write_all(&frame(payload)).unwrap();
    }

    pub fn send_descriptors(&mut self, descriptors: &[(&dyn AsFd, i32)]) {
        let numbers: Vec<i32> = descriptors.iter().map(|&(_, number)| number).collect();
        self.send_with(&json!({"fds": numbers}), descriptors);
    }

    pub fn send_with(&mut self, message: &Value, descriptors: &[(&dyn AsFd, i32)]) {
        let raw: Vec<RawFd> = descriptors
            .iter()
            .map(|(descriptor, _)| descriptor.as_fd().as_raw_fd())
            .collect();
        let frame = frame(message.to_string().as_bytes());
        assert_eq!(self.0.send_with_fd(&frame, &raw).unwrap(), frame.len());
    }

    /// The next message; panics at the end of the stream.
    pub fn receive(&mut self) -> Value {
        self.try_receive().expect("the stream ended")
    }

    /// The next message, or `None` at the end of the stream.
    pub fn try_receive(&mut self) -> Option<Value> {
        let mut length = [0; 4];
        match self.0.read_exact(&mut length) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset
                ) =>
            {
                return None;
            }
            Err(error) => panic!("no message in time: {error}"),
        }
        let mut payload = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut payload).unwrap();
        Some(serde_json::from_slice(&payload).unwrap())
    }
}

pub fn frame(payload: &[u8]) -> Vec<u8> {
    [&u32::try_from(payload.len()).unwrap().to_le_bytes()[..], payload].concat()
}

pub fn null() -> File {
    File::options().read(true).write(true).open("/dev/null").unwrap()
}

/// A pipe: reader and writer.
pub fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    (reader.into(), writer)
}

/// All that comes out of a pipe until its last writer is gone.
pub fn read_all(mut reader: File) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}
