//! The shell against a wrapper under test: calls it as a shell would, and takes its handshake.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::case::context::Context;
use crate::peer::counterpart::Counterpart;
use crate::peer::fake_server::{Request, RequestStream};
use crate::peer::finished::Finished;
use crate::peer::wire::{ESCALATION_DESCRIPTOR, FrameStream, receive_handshake};
use crate::system::clock::Moment;
use crate::system::launch::{Launch, Launched};
use crate::system::process::Ended;
use crate::transcript::{Direction, Transcript};
use crate::verdict::{CaseError, Verdict, harness, violation};

/// A wrapper that is about to be called.
pub struct WrapperCall<'a> {
    context: &'a Context,
    launch: Launch,
    wrapper: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    server_end: UnixDatagram,
    client_end: Option<OwnedFd>,
    socket_number: RawFd,
}

/// Where an output of the wrapper goes.
enum Capture {
    /// To a file of the case.
    File(PathBuf),
    /// To wherever the case has put it.
    Elsewhere,
}

impl<'a> WrapperCall<'a> {
    /// The call `wrapper FILE ARGV…` with the three variables, PATH, and a fresh escalation socket.
    pub fn new<S: AsRef<OsStr>>(
        context: &'a Context,
        file: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<WrapperCall<'a>, CaseError> {
        let mut call = WrapperCall::without_arguments(context)?;
        call.arguments.push(file.as_ref().to_owned());
        call.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        Ok(call)
    }

    /// The call `wrapper` alone.
    pub fn without_arguments(context: &'a Context) -> Result<WrapperCall<'a>, CaseError> {
        let wrapper = context.wrapper()?.to_owned();
        let (server_end, client_end) = UnixDatagram::pair()?;
        let launch = Launch::new(&wrapper, context.work_directory());
        let variables = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("TMPDIR".into(), context.temporary_directory().into_os_string()),
            ("EXEC_WRAPPER".into(), wrapper.clone().into_os_string()),
            (
                "CODEX_ESCALATE_SOCKET".into(),
                ESCALATION_DESCRIPTOR.to_string().into(),
            ),
        ];
        Ok(WrapperCall {
            context,
            launch,
            arguments: vec![wrapper.clone().into_os_string()],
            wrapper,
            variables,
            server_end,
            client_end: Some(client_end.into()),
            socket_number: ESCALATION_DESCRIPTOR,
        })
    }

    /// Sets a variable, replacing one of that name.
    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self = self.without_variable(name.as_ref());
        self.variables
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Takes a variable away.
    pub fn without_variable(mut self, name: impl AsRef<OsStr>) -> Self {
        self.variables.retain(|(known, _)| known != name.as_ref());
        self
    }

    /// The number of the escalation socket, in the descriptors and in the variable.
    pub fn socket_number(mut self, number: RawFd) -> Self {
        self.socket_number = number;
        self.variable("CODEX_ESCALATE_SOCKET", number.to_string())
    }

    /// Puts something else (or, with none, nothing) where the escalation socket would be.
    pub fn client_end(mut self, descriptor: Option<OwnedFd>) -> Self {
        self.client_end = descriptor;
        self
    }

    /// The client's end of the escalation socket, for its flags and its queue.
    pub fn client_end_ref(&self) -> Option<&OwnedFd> {
        self.client_end.as_ref()
    }

    /// The server's end that belongs to another client's end.
    pub fn server_end(mut self, socket: UnixDatagram) -> Self {
        self.server_end = socket;
        self
    }

    /// Changes how the process is launched: descriptors, signals, limits, directory and so on.
    pub fn launched(mut self, change: impl FnOnce(Launch) -> Launch) -> Self {
        self.launch = change(self.launch);
        self
    }

    /// Runs in another directory.
    pub fn directory(mut self, directory: impl AsRef<std::path::Path>) -> Self {
        self.launch = self.launch.in_directory(directory);
        self
    }

    /// Starts the wrapper.
    pub fn start(self) -> Result<WrapperRun, CaseError> {
        let mut launch = self.launch.arguments(&self.arguments);
        for (name, value) in &self.variables {
            launch = launch.variable(name, value);
        }
        if let Some(client_end) = self.client_end {
            launch = launch.descriptor(self.socket_number, client_end);
        }
        let output = if launch.mentions(1) {
            Capture::Elsewhere
        } else {
            let path = self
                .context
                .path(&format!("stdout-{}", self.context.next_number()));
            launch = launch.descriptor(1, File::options().create_new(true).append(true).open(&path)?);
            Capture::File(path)
        };
        let error = if launch.mentions(2) {
            Capture::Elsewhere
        } else {
            let (file, path) = self.context.error_log("wrapper")?;
            launch = launch.descriptor(2, file);
            Capture::File(path)
        };
        self.context.transcript.note(format_args!(
            "the shell calls {} {}",
            self.wrapper.display(),
            self.arguments[1..]
                .iter()
                .map(|word| format!("{:?}", word.display().to_string()))
                .take(8)
                .collect::<Vec<_>>()
                .join(" ")
        ));
        let process = launch.start()?;
        Ok(WrapperRun {
            counterpart: Arc::new(Counterpart::new("the wrapper", process.handle())?),
            process,
            server_end: Some(self.server_end),
            output,
            error,
            patience: self.context.patience(),
            transcript: self.context.transcript.clone(),
        })
    }
}

/// A running wrapper, and the server's end of its escalation socket.
pub struct WrapperRun {
    /// The process.
    pub process: Launched,
    counterpart: Arc<Counterpart>,
    server_end: Option<UnixDatagram>,
    output: Capture,
    error: Capture,
    patience: Duration,
    transcript: Transcript,
}

impl WrapperRun {
    /// Receives the handshake and returns the server's side of the request stream.
    ///
    /// # Errors
    /// A violation of `wire.handshake`.
    pub fn handshake(&self) -> Result<RequestStream, CaseError> {
        let server_end = self
            .server_end
            .as_ref()
            .ok_or_else(|| harness("the escalation socket has been closed"))?;
        if !self.process.readable_or_ended(server_end, self.patience)? {
            let seen = format!("none within {:?}", self.patience);
            return Err(violation("a handshake datagram on the escalation socket", seen));
        }
        // Readable, or the wrapper has ended; what it sent before its end is still in the queue.
        let handshake = receive_handshake(server_end, Moment::now())?.ok_or_else(|| {
            let seen = match self.counterpart.ended() {
                None => "the wrapper closed the socket without sending one".to_owned(),
                Some(ended) => {
                    self.transcript.note(format_args!("the wrapper ended: {ended}"));
                    format!("the wrapper ended without sending one: {ended}")
                }
            };
            violation("a handshake datagram on the escalation socket", seen)
        })?;
        self.transcript.message(
            Direction::FromImplementation,
            "escalation socket",
            &handshake.bytes,
            handshake.descriptors.len(),
        );
        crate::case::expect::equal("the handshake's bytes", vec![0_u8], handshake.bytes)?;
        crate::case::expect::equal("the handshake's descriptors", 1, handshake.descriptors.len())?;
        let descriptor = handshake
            .descriptors
            .into_iter()
            .next()
            .ok_or_else(|| harness("no descriptor"))?;
        expect_connected_stream(&descriptor)?;
        let socket = UnixStream::from(descriptor);
        Ok(RequestStream {
            frames: FrameStream::new(socket, "request stream", self.transcript.clone(), self.patience)
                .with(Some(self.counterpart.clone())),
        })
    }

    /// Demands that no handshake has been sent.
    pub fn expect_no_handshake(&self) -> Verdict {
        let server_end = self
            .server_end
            .as_ref()
            .ok_or_else(|| harness("the escalation socket has been closed"))?;
        match receive_handshake(server_end, Moment::now())? {
            None => Ok(()),
            Some(handshake) => Err(violation(
                "nothing (more) is sent on the escalation socket",
                format_args!("a datagram of {} bytes", handshake.bytes.len()),
            )),
        }
    }

    /// Receives handshake and request.
    pub fn request(&self) -> Result<(RequestStream, Request), CaseError> {
        let mut stream = self.handshake()?;
        let request = stream.request()?;
        Ok((stream, request))
    }

    /// Waits for the end of the wrapper (or of the command in its place) and collects what it wrote.
    pub fn finish(&mut self) -> Result<Finished, CaseError> {
        self.finish_within(self.patience)
    }

    /// The same with another patience.
    pub fn finish_within(&mut self, patience: Duration) -> Result<Finished, CaseError> {
        let ended = self.process.wait("the wrapper", patience)?;
        self.transcript.note(format_args!("the wrapper ended: {ended}"));
        let text = |capture: &Capture| match capture {
            Capture::File(path) => fs::read(path),
            Capture::Elsewhere => Ok(Vec::new()),
        };
        let finished = Finished {
            what: "the wrapper",
            ended,
            output: text(&self.output)?,
            error: text(&self.error)?,
        };
        let crashed = match finished.ended {
            Ended::Exited(101) => finished.error_text().contains("panicked"),
            Ended::Killed(signal) => {
                matches!(
                    signal,
                    libc::SIGSEGV | libc::SIGABRT | libc::SIGBUS | libc::SIGILL | libc::SIGSYS
                )
            }
            Ended::Exited(_) => false,
        };
        crate::case::expect::that(
            !crashed,
            "the wrapper does not crash",
            format_args!("{ended}: {}", finished.error_text()),
        )?;
        Ok(finished)
    }
}

fn expect_connected_stream(descriptor: &OwnedFd) -> Verdict {
    use nix::sys::socket::{
        AddressFamily, SockType, SockaddrLike, UnixAddr, getpeername, getsockopt, sockopt,
    };
    let kind = getsockopt(descriptor, sockopt::SockType)
        .map_err(|error| violation("the handshake's descriptor is a socket", error.desc()))?;
    crate::case::expect::equal("the type of the handshake's socket", SockType::Stream, kind)?;
    let peer = getpeername::<UnixAddr>(descriptor.as_raw_fd())
        .map_err(|error| violation("the handshake's socket is connected, AF_UNIX", error.desc()))?;
    crate::case::expect::equal("its address family", Some(AddressFamily::Unix), peer.family())
}
