//! The server's side of a session, for tests that look at the wrapper from outside.
//!
//! The wrapper under test is the one that cargo has just built, or the one that `EXECVE_WRAPPER` names: so the same
//! tests judge the freestanding build.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::ffi::OsStr;
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use sendfd::RecvWithFd;
use serde_json::Value;

/// The number under which the wrapper inherits the escalation socket.
pub const SOCKET: RawFd = 9;

/// Nothing here takes longer unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub fn wrapper_path() -> String {
    std::env::var("EXECVE_WRAPPER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_execve-wrapper").into())
}

/// Both ends of an escalation socket.
pub struct Session {
    pub server: UnixDatagram,
    pub client: UnixDatagram,
}

impl Session {
    pub fn new() -> Self {
        let (server, client) = UnixDatagram::pair().expect("a socket pair");
        server.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        Self { server, client }
    }

    /// A wrapper that is asked to execute `argv`, whose first element is FILE and ARGV0.
    pub fn command<S: AsRef<OsStr>>(&self, argv: &[S]) -> Command {
        let mut command = Command::new(wrapper_path());
        command.arg(argv[0].as_ref()).args(argv);
        self.hand_over(&mut command);
        command
    }

    /// Makes that command inherit the standard streams and the escalation socket, and nothing that the test was
    /// started with.
    pub fn hand_over(&self, command: &mut Command) {
        command
            .env("CODEX_ESCALATE_SOCKET", SOCKET.to_string())
            .env("EXEC_WRAPPER", "/w")
            .env("BASH_EXEC_WRAPPER", "/w");
        isolate(command);
        inherit(command, &self.client, SOCKET);
    }

    /// Takes the next handshake and its request.
    pub fn accept(&self) -> Request {
        let stream = self.accept_handshake();
        let mut request = Request {
            stream,
            request: Value::Null,
            raw: Vec::new(),
        };
        request.raw = request.receive().0;
        request.request = serde_json::from_slice(&request.raw).unwrap_or(Value::Null);
        request
    }

    /// Takes the next handshake, and nothing that is said on its stream.
    pub fn accept_handshake(&self) -> UnixStream {
        let mut byte = [0xff; 8];
        let mut descriptors = [-1; 8];
        let received = uninterrupted(|| self.server.recv_with_fd(&mut byte, &mut descriptors));
        let (length, count) = received.expect("a handshake");
        assert_eq!(
            (&byte[..length], count),
            (&[0][..], 1),
            "a handshake is one byte 0 and one descriptor"
        );
        // SAFETY: recvmsg has just made the descriptor.
        let stream = unsafe { UnixStream::from_raw_fd(descriptors[0]) };
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream
    }
}

/// A request that waits for its decision.
pub struct Request {
    pub stream: UnixStream,
    /// The message, where it is JSON without the *bytes* extension.
    pub request: Value,
    pub raw: Vec<u8>,
}

impl Request {
    pub fn send(&mut self, message: &str) {
        self.stream
            .write_all(&frame(message.as_bytes()))
            .expect("the wrapper reads");
    }

    /// A frame with the descriptors of its first byte.
    pub fn receive(&mut self) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut header = [0; 4];
        let mut descriptors = [-1; 32];
        let received = uninterrupted(|| self.stream.recv_with_fd(&mut header[..1], &mut descriptors));
        let (length, count) = received.expect("a frame");
        assert_eq!(length, 1, "the wrapper has closed the stream");
        self.stream.read_exact(&mut header[1..]).expect("a whole header");
        let mut payload = vec![0; u32::from_le_bytes(header) as usize];
        self.stream.read_exact(&mut payload).expect("a whole payload");
        // SAFETY: recvmsg has just made these descriptors.
        let descriptors = descriptors[..count]
            .iter()
            .map(|&number| unsafe { OwnedFd::from_raw_fd(number) })
            .collect();
        (payload, descriptors)
    }

    /// Answers Escalate, and takes the message with the descriptors.
    pub fn escalate(&mut self) -> (Value, Vec<OwnedFd>) {
        self.send(r#"{"action":"Escalate"}"#);
        let (payload, descriptors) = self.receive();
        (serde_json::from_slice(&payload).expect("JSON"), descriptors)
    }

    /// Waits until the wrapper has closed its end.
    pub fn wait_for_end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the end of the stream");
        assert!(rest.is_empty(), "the wrapper says more: {rest:?}");
    }
}

/// A call again when the kernel has cut it short, as it does with a timed wait when the process is frozen and thawed.
pub fn uninterrupted<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_le_bytes(), payload].concat()
}

/// Makes an executable file. Another process writes it: a child that a parallel test forks while this one has the file
/// open for writing would make it busy.
pub fn write_program(path: &Path, text: &str) {
    let script = r#"printf %s "$2" > "$1" && chmod 755 "$1""#;
    let status = Command::new("/bin/sh")
        .args(["-c", script, "sh"])
        .arg(path)
        .arg(text)
        .status();
    assert!(status.expect("a shell").success());
}

/// Makes that command inherit `descriptor` as `number`. The copy that the command keeps until then has a number that no
/// other descriptor is put on.
pub fn inherit(command: &mut Command, descriptor: &impl AsFd, number: RawFd) {
    let descriptor = rustix::io::fcntl_dupfd_cloexec(descriptor, 500).expect("a copy");
    before_exec(command, move || {
        // SAFETY: between fork and execve only system calls are made.
        unsafe { nix::libc::dup2(descriptor.as_raw_fd(), number) };
    });
}

/// Runs something in the child between fork and execve: system calls only.
pub fn before_exec(command: &mut Command, action: impl Fn() + Send + Sync + 'static) {
    // SAFETY: the callers make system calls only.
    unsafe {
        command.pre_exec(move || {
            action();
            Ok(())
        })
    };
}

/// Makes that command inherit nothing but the standard streams and what is put there afterwards, and lets it live no
/// longer than the test that starts it.
pub fn isolate(command: &mut Command) {
    before_exec(command, || {
        // SAFETY: between fork and execve only system calls are made.
        unsafe {
            nix::libc::close_range(3, u32::MAX, nix::libc::CLOSE_RANGE_CLOEXEC as i32);
            nix::libc::prctl(nix::libc::PR_SET_PDEATHSIG, nix::libc::SIGKILL);
        };
    });
}

/// Makes that command start with these descriptors closed.
pub fn close(command: &mut Command, numbers: &[RawFd]) {
    let numbers = numbers.to_vec();
    before_exec(command, move || {
        for &number in &numbers {
            // SAFETY: between fork and execve only system calls are made.
            unsafe { nix::libc::close(number) };
        }
    });
}

/// Makes that command see an empty /proc. Its start fails where the machine allows no user namespace.
pub fn hide_proc(command: &mut Command) {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    // SAFETY: only system calls are made, and short paths need no memory.
    unsafe {
        command.pre_exec(|| {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
            mount(
                Some("none"),
                "/proc",
                Some("tmpfs"),
                MsFlags::empty(),
                None::<&str>,
            )?;
            Ok(())
        })
    };
}

/// Starts it with its output captured.
pub fn spawn(mut command: Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the wrapper starts")
}

/// Waits for its end. A child that hangs is killed and fails the test.
pub fn finish(child: Child) -> Output {
    let process = rustix::process::Pid::from_raw(child.id() as i32).expect("a process id");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(output) => output.expect("the child can be waited for"),
        Err(_) => {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            panic!("the wrapper hangs");
        }
    }
}

/// Waits until /proc says of that process what is wanted. There is no event for it.
pub fn wait_until(child: &Child, wanted: impl Fn(&str) -> bool) {
    let path = format!("/proc/{}/status", child.id());
    let begun = std::time::Instant::now();
    while !wanted(&std::fs::read_to_string(&path).expect("the process is there")) {
        assert!(begun.elapsed() < DEADLINE, "the wrapper never gets there");
        std::thread::yield_now();
    }
}

/// Demands that no process holds the other end of a pipe any more.
#[track_caller]
pub fn assert_ends(pipe: &mut PipeReader) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let deadline = Timespec {
        tv_sec: DEADLINE.as_secs() as i64,
        tv_nsec: 0,
    };
    let ready = rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&deadline)));
    let ready = ready.expect("poll");
    assert_eq!(ready, 1, "a process still holds the pipe");
    assert_eq!(pipe.read(&mut [0]).expect("the end"), 0);
}

/// The whole of a run with that decision.
pub fn decided(session: &Session, command: Command, decision: &str) -> Output {
    let child = spawn(command);
    session.accept().send(decision);
    finish(child)
}

#[track_caller]
pub fn assert_status(status: ExitStatus, expected: i32) {
    assert_eq!(status.code(), Some(expected), "{status}");
}

/// A refusal: status 126, nothing on standard output, one line on standard error that says `cause`.
#[track_caller]
pub fn assert_fails_closed(output: &Output, cause: &str) {
    assert_status(output.status, 126);
    assert!(output.stdout.is_empty(), "something ran");
    let message = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert!(message.contains(cause), "{message:?} doesn't say {cause:?}");
    assert_eq!(message.matches('\n').count(), 1, "{message:?} isn't one line");
    assert!(message.ends_with('\n'));
}
