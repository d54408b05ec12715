//! Whether the wrapper asks and takes a denial, and which extensions it uses.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::beginning_of;
use crate::case::expect;
use crate::peer::bytes::ByteRequest;
use crate::peer::counterpart::Counterpart;
use crate::peer::fake_server::RequestStream;
use crate::peer::wire::{ESCALATION_DESCRIPTOR, Frame, FrameStream, receive_handshake};
use crate::system::clock::Moment;
use crate::system::launch::{Launch, Launched};
use crate::system::process::Ended;
use crate::transcript::Transcript;
use crate::verdict::{CaseError, Verdict, violation};

/// A wrapper that has been called for /bin/true with one more argument, and the server's side of its request.
struct Asking {
    process: Launched,
    stream: RequestStream,
    request: Frame,
}

/// Calls the wrapper and reads its request; its standard error goes to `error_log`.
fn ask(wrapper: &Path, argument: &[u8], error_log: &Path, patience: Duration) -> Result<Asking, CaseError> {
    let (server_end, client_end) = UnixDatagram::pair()?;
    let words: [&OsStr; 4] = [
        wrapper.as_os_str(),
        "/bin/true".as_ref(),
        "true".as_ref(),
        OsStr::from_bytes(argument),
    ];
    let process = Launch::new(wrapper, error_log.parent().unwrap_or(Path::new("/")))
        .arguments(words)
        .variable("PATH", "/usr/bin:/bin")
        .variable("EXEC_WRAPPER", wrapper)
        .variable("CODEX_ESCALATE_SOCKET", ESCALATION_DESCRIPTOR.to_string())
        .descriptor(2, File::create(error_log)?)
        .descriptor(ESCALATION_DESCRIPTOR, client_end)
        .start()?;
    process.readable_or_ended(&server_end, patience)?;
    let counterpart = Arc::new(Counterpart::new("the wrapper", process.handle())?);
    let handshake = receive_handshake(&server_end, Moment::now())?.ok_or_else(|| {
        let seen = match counterpart.ended() {
            None => "none".to_owned(),
            Some(ended) => format!("none; the wrapper: {ended}"),
        };
        violation("a handshake on the escalation socket", seen)
    })?;
    let end = handshake
        .descriptors
        .into_iter()
        .next()
        .ok_or_else(|| violation("a descriptor with the handshake", "none"))?;
    let mut frames = FrameStream::new(
        UnixStream::from(end),
        "request stream",
        Transcript::new(|_| {}),
        patience,
    )
    .with(Some(counterpart));
    let request = frames.expect_frame("a request")?;
    Ok(Asking {
        process,
        stream: RequestStream { frames },
        request,
    })
}

/// Demands that the wrapper asks before it acts: a handshake, a request, and status 1 after a denial. What it did
/// instead is told with its standard error.
pub fn denied(wrapper: &Path, directory: &Path, patience: Duration) -> Verdict {
    let error_log = directory.join("stderr");
    let denied = || {
        let mut asking = ask(wrapper, b"argument", &error_log, patience)?;
        asking.stream.deny(Some("a trial"))?;
        // The stream stays open until the wrapper has ended: an earlier end of file would be another answer.
        let ended = asking.process.wait("the wrapper after a denial", patience)?;
        expect::equal("the wrapper's end after a denial", Ended::Exited(1), ended)
    };
    denied().map_err(|error| match error {
        CaseError::Violation { expected, observed } => {
            let said = beginning_of(&error_log).unwrap_or_default();
            violation(
                expected,
                match said.trim_end() {
                    "" => format!("{observed}; it wrote nothing to its standard error"),
                    said => format!("{observed}; its standard error: {}", said.escape_debug()),
                },
            )
        }
        error => error,
    })
}

/// Sees which extensions the wrapper uses: `umask` in its request, `"signals":true`, `"group":true` and `limits` with its
/// descriptors, and a byte that is not UTF-8 as a lone surrogate. One that breaks down on the way has what was seen so far; the rest is for the
/// cases to judge. Also told is whether `patience` ran out.
pub fn extensions(
    wrapper: &Path,
    directory: &Path,
    patience: Duration,
) -> Result<(Vec<String>, bool), CaseError> {
    let began = Instant::now();
    let error_log = directory.join("stderr");
    let mut seen = Vec::new();
    let mut observe = || -> Verdict {
        let mut asking = ask(wrapper, b"argument", &error_log, patience)?;
        let umask = asking.request.json()?.get("umask").is_some();
        let escalation = asking.stream.escalate()?;
        for (extension, is_seen) in [
            ("signals", escalation.announces_signals()),
            ("umask", umask),
            ("group", escalation.message["group"] == true),
            ("inherited", escalation.message.get("limits").is_some()),
        ] {
            if is_seen {
                seen.push(extension.to_owned());
            }
        }
        let asking = ask(wrapper, b"\xff", &error_log, patience)?;
        let request = ByteRequest::decode(&asking.request.payload)?;
        if request.argv.last().is_some_and(|argument| argument.0 == b"\xff") {
            seen.push("bytes".to_owned());
        }
        Ok(())
    };
    match observe() {
        Ok(()) => Ok((seen, false)),
        Err(CaseError::Violation { .. }) => Ok((seen, began.elapsed() >= patience)),
        Err(error) => Err(error),
    }
}
