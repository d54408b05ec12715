//! Preflight checks of the implementations under test, once before all cases: whether the shell calls wrappers at all,
//! which extensions the wrapper uses, and the shim's `initialize`, for its name and capabilities. The doctor tries the
//! wrapper, too.
//!
//! Each has a deadline, and whatever was started for it ends with it, also where a signal interrupts the suite.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::case::implementations::Implementations;
use crate::exit::{HarnessFailure, Interrupted};
use crate::peer::bytes::ByteRequest;
use crate::peer::fake_server::RequestStream;
use crate::peer::harness::{PROTOCOL, Shim, initialize_params};
use crate::peer::wire::{ESCALATION_DESCRIPTOR, Frame, FrameStream, receive_handshake};
use crate::printable::printable;
use crate::runner::{census, interrupts};
use crate::system::launch::{Launch, Launched};
use crate::system::process::Ended;
use crate::transcript::Transcript;
use crate::verdict::{CaseError, violation};

/// How long each may take, before `--timeout-scale`.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A shell that calls wrappers in any of these places is a patched one, good or bad.
const ANY_COMMAND: &str = "/bin/true; (/bin/true); /bin/true | /bin/cat; /bin/true & wait; /bin/true";

/// Asks all that is named for its version or its capabilities, and a shell for a wrapped command.
///
/// # Errors
/// What [`try_shell`] and [`initialize_server`] say, or that a signal came.
pub fn check(implementations: &mut Implementations, patience: Duration) -> anyhow::Result<()> {
    leaving_nothing(|| {
        ask_shell_version(implementations, patience)?;
        initialize_server(implementations, patience)?;
        observe_wrapper(implementations, patience)?;
        try_shell(implementations, patience)
    })
}

/// Runs `trial`, and ends whatever it has started and not waited for.
///
/// # Errors
/// What `trial` says, or [`Interrupted`] where a signal came meanwhile.
pub fn leaving_nothing<T>(trial: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    // Orphans come to this process, which can then end them.
    nix::sys::prctl::set_child_subreaper(true)?;
    let (mut signals, earlier) = interrupts::listen()?;
    if let Some(signal) = earlier {
        return Err(Interrupted(signal).into());
    }
    let handle = signals.handle();
    let watch = std::thread::spawn(move || {
        let signal = signals.forever().next()?;
        // The trial sees the end of what it waits for.
        let ended = census::kill_all_descendants();
        Some((signal, ended))
    });
    let outcome = trial();
    handle.close();
    let came = watch
        .join()
        .map_err(|_| anyhow::anyhow!("the signal thread panicked"))?;
    census::kill_all_descendants().map_err(in_words)?;
    match came {
        Some((signal, ended)) => {
            ended.map_err(in_words)?;
            Err(Interrupted(signal).into())
        }
        None => outcome,
    }
}

/// What went wrong, for an error outside of any case.
fn in_words(error: CaseError) -> HarnessFailure {
    HarnessFailure(error.to_string())
}

/// Asks the shell for its version, which the report shows. One that does not tell has none.
fn ask_shell_version(implementations: &mut Implementations, patience: Duration) -> anyhow::Result<()> {
    let Some(shell) = &implementations.shell else {
        return Ok(());
    };
    let directory = tempfile::Builder::new().prefix("conformance-").tempdir()?;
    let answer = directory.path().join("version");
    let mut process = Launch::new(shell, directory.path())
        .arguments([shell.as_os_str(), "--version".as_ref()])
        .variable("PATH", "/usr/bin:/bin")
        .variable("LC_ALL", "C")
        .descriptor(1, File::create(&answer)?)
        .start()
        .map_err(|error| {
            anyhow::anyhow!(
                "--shell {}: cannot be started: {}",
                shell.display(),
                in_words(error)
            )
        })?;
    match process.wait("the shell after --version", patience) {
        Ok(_) => {}
        // It goes on and on; what else it can do is for the cases to see.
        Err(CaseError::Violation { .. }) => return Ok(()),
        Err(error) => return Err(in_words(error).into()),
    }
    let text = std::fs::read(&answer)?;
    let text = String::from_utf8_lossy(&text);
    implementations.shell_version = text.lines().next().map(printable);
    Ok(())
}

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
    let handshake = receive_handshake(&server_end, Instant::now())?
        .ok_or_else(|| violation("a handshake on the escalation socket", "none"))?;
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
    );
    let request = frames.expect_frame("a request")?;
    Ok(Asking {
        process,
        stream: RequestStream { frames },
        request,
    })
}

/// Demands that the wrapper asks before it acts: a handshake, a request, and status 1 after a denial.
///
/// # Errors
/// What it did instead, with its standard error.
pub fn try_wrapper(wrapper: &Path, patience: Duration) -> anyhow::Result<()> {
    let directory = tempfile::Builder::new().prefix("conformance-").tempdir()?;
    let error_log = directory.path().join("stderr");
    let denied = || -> Result<(), CaseError> {
        let mut asking = ask(wrapper, b"argument", &error_log, patience)?;
        asking.stream.deny(Some("a trial"))?;
        // The stream stays open until the wrapper has ended: an earlier end of file would be another answer.
        let ended = asking.process.wait("the wrapper after a denial", patience)?;
        crate::case::expect::equal("the wrapper's end after a denial", Ended::Exited(1), ended)
    };
    denied().map_err(|error| {
        let said = String::from_utf8_lossy(&std::fs::read(&error_log).unwrap_or_default()).into_owned();
        let tail = match said.trim_end() {
            "" => "; it wrote nothing to its standard error".to_owned(),
            said => format!("; its standard error: {}", said.escape_debug()),
        };
        HarnessFailure(format!(
            "--wrapper {}: {}{tail}",
            wrapper.display(),
            in_words(error)
        ))
        .into()
    })
}

/// Sees which extensions the wrapper uses: `umask` in its request, `"signals":true` with its descriptors, and a byte
/// that is not UTF-8 as a lone surrogate. One that breaks down on the way has what was seen so far; the rest is for the
/// cases to judge.
///
/// # Errors
/// Where the suite cannot do its part.
fn observe_wrapper(implementations: &mut Implementations, patience: Duration) -> anyhow::Result<()> {
    let Some(wrapper) = implementations.wrapper.clone() else {
        return Ok(());
    };
    let directory = tempfile::Builder::new().prefix("conformance-").tempdir()?;
    let error_log = directory.path().join("stderr");
    let mut seen = Vec::new();
    let observed = (|| -> Result<(), CaseError> {
        let mut asking = ask(&wrapper, b"argument", &error_log, patience)?;
        let umask = asking.request.json()?.get("umask").is_some();
        if asking.stream.escalate()?.announces_signals() {
            seen.push("signals");
        }
        if umask {
            seen.push("umask");
        }
        let asking = ask(&wrapper, b"\xff", &error_log, patience)?;
        let request = ByteRequest::decode(&asking.request.payload)?;
        if request.argv.last().is_some_and(|argument| argument.0 == b"\xff") {
            seen.push("bytes");
        }
        Ok(())
    })();
    match observed {
        Ok(()) | Err(CaseError::Violation { .. }) => {}
        Err(error) => return Err(in_words(error).into()),
    }
    implementations.wrapper_extensions = seen.into_iter().map(str::to_owned).collect();
    Ok(())
}

/// Demands that a shell that runs some commands calls its wrapper for at least one of them.
///
/// # Errors
/// A usage error where it does not: cases of a stock shell would fail one by one, and say less.
fn try_shell(implementations: &Implementations, patience: Duration) -> anyhow::Result<()> {
    let Some(shell) = &implementations.shell else {
        return Ok(());
    };
    let directory = tempfile::Builder::new().prefix("conformance-").tempdir()?;
    let wrapper = directory.path().join("wrapper");
    std::fs::write(&wrapper, "#!/bin/sh\n: >\"$0-was-called\"\n")?;
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755))?;
    let launch = Launch::new(shell, directory.path())
        .arguments([shell.as_os_str(), "-c".as_ref(), ANY_COMMAND.as_ref()])
        .variable("PATH", "/usr/bin:/bin")
        .variable("HOME", directory.path())
        .variable("EXEC_WRAPPER", &wrapper);
    let shown = shell.display();
    let ended = launch
        .start()
        .and_then(|mut process| process.wait("the shell after a script of five commands", patience))
        .map_err(|error| {
            HarnessFailure(format!(
                "--shell {shown}: no script runs in it: {}",
                in_words(error)
            ))
        })?;
    // A shell that breaks down before it has called a wrapper is for the cases to judge.
    if ended == Ended::Exited(0) && !directory.path().join("wrapper-was-called").exists() {
        bail!(
            "--shell {shown}: this shell is not patched: with EXEC_WRAPPER set, none of its commands went to the wrapper"
        );
    }
    Ok(())
}

/// Asks the server for its name, version and capabilities.
///
/// # Errors
/// A harness failure (exit status 3) where the shim does not answer as the harness protocol says.
pub fn initialize_server(implementations: &mut Implementations, patience: Duration) -> anyhow::Result<()> {
    let Some(words) = implementations.server.clone() else {
        return Ok(());
    };
    let directory = tempfile::Builder::new().prefix("conformance-").tempdir()?;
    let error_log = directory.path().join("stderr");
    let error_file = File::create(&error_log)?;
    let launch = Launch::new(&words[0], directory.path())
        .arguments(&words)
        .variable("PATH", "/usr/bin:/bin")
        .variable("HOME", directory.path())
        .variable("TMPDIR", directory.path())
        .descriptor(2, error_file);
    let command = implementations.server_command.clone().unwrap_or_default();
    let answer = Shim::over(launch, error_log, Transcript::new(|_| {}), patience).and_then(|mut shim| {
        let result = shim.call("initialize", initialize_params());
        let tail = shim.error_text();
        let result = result.map_err(|error| (error, tail));
        match result {
            Ok(result) => {
                shim.close_input();
                shim.process
                    .wait("the shim after the end of its input", patience)?;
                Ok(result)
            }
            Err((CaseError::Violation { expected, observed }, tail)) => Err(CaseError::Violation {
                expected,
                observed: match tail.trim_end() {
                    "" => observed,
                    tail => format!("{observed}; its standard error: {tail}"),
                },
            }),
            Err((error, _)) => Err(error),
        }
    });
    let result = answer.map_err(|error| {
        HarnessFailure(format!(
            "--server {command:?}: the shim does not answer `initialize`: {}",
            in_words(error)
        ))
    })?;
    if result["protocol"].as_u64() != Some(PROTOCOL) {
        let protocol = &result["protocol"];
        let text = format!(
            "--server {command:?}: the shim speaks protocol {protocol}; this suite speaks {PROTOCOL}"
        );
        return Err(HarnessFailure(text).into());
    }
    let text = |value: &serde_json::Value| value.as_str().map(printable);
    implementations.server_name = text(&result["implementation"]["name"]);
    implementations.server_version = text(&result["implementation"]["version"]);
    implementations.capabilities = result["capabilities"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(text)
        .collect();
    Ok(())
}
