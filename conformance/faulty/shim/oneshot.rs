//! One-shots: a session around one command of a shell.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use serde_json::{Value, json};

use crate::events;
use crate::faults::{Fault, broken};
use crate::keeper::{self, News};
use crate::messages::json_text;
use crate::parcel::Parcel;
use crate::server::Server;
use crate::session::Session;
use crate::spawn;
use crate::stream::{FrameReader, Progress};

/// The params of `exec`.
pub struct Wanted {
    session: String,
    shell: String,
    wrapper: String,
    command: String,
    directory: String,
    variables: Vec<(String, String)>,
    login: bool,
    timeout: Option<Duration>,
    output_limit: usize,
}

impl Wanted {
    /// From JSON.
    pub fn read(params: &Value) -> Result<Wanted, String> {
        let text = |name: &str| {
            let text = params[name].as_str().map(str::to_owned);
            text.ok_or_else(|| format!("no {name}, a string"))
        };
        Ok(Wanted {
            session: text("session")?,
            shell: text("shell")?,
            wrapper: text("wrapper")?,
            command: text("command")?,
            directory: text("workdir")?,
            variables: spawn::variables(&params["env"])?,
            login: params["login"].as_bool().unwrap_or(true),
            output_limit: params["output_limit"]
                .as_u64()
                .and_then(|limit| usize::try_from(limit).ok())
                .unwrap_or(usize::MAX),
            timeout: params["timeout_ms"].as_u64().map(|milliseconds| {
                if broken(Fault::TimeoutInWholeSeconds) {
                    Duration::from_secs(milliseconds / 1000)
                } else {
                    Duration::from_millis(milliseconds)
                }
            }),
        })
    }
}

/// A standard stream of the shell, and what has been read of it.
struct Output {
    pipe: Option<File>,
    bytes: Vec<u8>,
}

impl Output {
    fn new() -> io::Result<(Output, OwnedFd)> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let pipe = Some(File::from(reader));
        Ok((
            Output {
                pipe,
                bytes: Vec::new(),
            },
            writer,
        ))
    }

    /// Reads what is there.
    fn drain(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        match pipe.read_to_end(&mut self.bytes) {
            Ok(_) => self.pipe = None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Runs a one-shot to its end.
pub fn run(server: &Server, wanted: &Wanted) -> io::Result<String> {
    let ages_out = broken(Fault::OneShotAgesOut).then(|| Duration::from_secs(10));
    let timeout = wanted
        .timeout
        .filter(|_| !broken(Fault::TimeoutIgnored))
        .or(ages_out);
    let session = server.open(&wanted.session, &wanted.wrapper, true)?;
    if broken(Fault::DescriptorPerOneShot) {
        std::mem::forget(session.bell.as_fd().try_clone_to_owned()?);
    }
    let finished = run_in(server, wanted, &session, timeout);
    if !broken(Fault::OneShotSessionLives) && !broken(Fault::TimeoutKillsShellOnly) {
        session.close();
    }
    finished
}

fn run_in(
    server: &Server,
    wanted: &Wanted,
    session: &Session,
    timeout: Option<Duration>,
) -> io::Result<String> {
    let (mut stdout, stdout_writer) = Output::new()?;
    let (mut stderr, mut stderr_writer) = Output::new()?;
    if broken(Fault::OutputsMerged) {
        stderr_writer = stdout_writer.try_clone()?;
    }
    let client = session.take_client().ok_or(io::ErrorKind::NotFound)?;
    let descriptors = vec![
        if broken(Fault::OneShotReadsServersInput) {
            io::stdin().as_fd().try_clone_to_owned()?
        } else {
            File::open("/dev/null")?.into()
        },
        stdout_writer,
        stderr_writer,
        client,
    ];
    let line = Arc::new(server.nursery.keep(&shell(wanted, session), descriptors)?);
    let mut keeper = FrameReader::new(line.clone());
    let mut ended = None;
    let mut timed_out = false;
    let limit = wanted.output_limit;
    let is_too_long = |output: &Output| output.bytes.len() > limit;
    loop {
        let has_output = stdout.pipe.is_some() || stderr.pipe.is_some();
        let waits_for_output = broken(Fault::OneShotWaitsForOutput) && has_output;
        if timed_out || ended.is_some() && !waits_for_output {
            break;
        }
        let one_by_one = broken(Fault::OutputsOneByOne) && stdout.pipe.is_some();
        let quiet = (line.as_fd(), PollFlags::empty());
        let output = |output: &'_ Output| output.pipe.as_ref().map(|_| PollFlags::POLLIN);
        let (first, second) = (output(&stdout), output(&stderr));
        let wanted = [
            (session.clock.bell.as_fd(), PollFlags::POLLIN),
            (line.as_fd(), PollFlags::POLLIN),
            first.map_or(quiet, |flags| (stdout.pipe.as_ref().unwrap().as_fd(), flags)),
            second
                .filter(|_| !one_by_one)
                .map_or(quiet, |flags| (stderr.pipe.as_ref().unwrap().as_fd(), flags)),
        ];
        let deadline = timeout.map(|timeout| session.clock.reaches(timeout));
        let came = events::wait(wanted, deadline)?;
        timed_out = came.iter().all(PollFlags::is_empty);
        session.clock.bell.silence();
        stdout.drain()?;
        if !one_by_one {
            stderr.drain()?;
        }
        // It is ended as at its timeout.
        timed_out |= is_too_long(&stdout) || is_too_long(&stderr);
        if !came[1].is_empty() {
            match keeper.advance()? {
                Progress::Frame(frame) => {
                    if let News::Ended { exit_code, .. } = keeper::news(&frame.payload)? {
                        ended = Some(exit_code);
                    }
                }
                Progress::Pending => {}
                Progress::End if ended.is_some() => {}
                Progress::End | Progress::TooLong(_) => {
                    return Err(io::Error::other("the keeper of the shell is gone"));
                }
            }
        }
    }
    while timed_out && broken(Fault::TimeoutWaitsForPolicy) && session.is_busy() {
        std::thread::sleep(Duration::from_millis(20));
    }
    if timed_out && broken(Fault::TimeoutKillsShellOnly) {
        let _ = keeper::order(&line, &json!({"child only": true}));
    } else if !broken(Fault::OneShotSessionLives) {
        session.close();
    }
    let signal = match () {
        () if broken(Fault::TimeoutKillsGroupOnly) => libc::SIGKILL,
        () if broken(Fault::TimeoutPolite) => libc::SIGTERM,
        () if broken(Fault::TimeoutKillsShellOnly) => 0,
        () => -1,
    };
    if timed_out && signal >= 0 {
        let _ = keeper::order(&line, &json!({ "signal": signal }));
        let _ = keeper::order(&line, &json!({"release": true}));
    } else if timed_out {
        // Ending the line ends the shell's tree; the keeper closes its end when all processes are gone. One that is traced
        // is gone only when its tracer likes.
        line.shutdown(std::net::Shutdown::Write)?;
        let patience = Instant::now() + Duration::from_secs(5);
        let deadline = (!broken(Fault::TimeoutWaitsForTheTraced)).then_some(patience);
        loop {
            let [came] = events::wait([(line.as_fd(), PollFlags::POLLIN)], deadline)?;
            if came.is_empty() || matches!(keeper.advance()?, Progress::End) {
                break;
            }
        }
    } else {
        // Background processes of the shell may live on. If there are none, the keeper is gone already.
        let _ = keeper::order(&line, &json!({"release": true}));
    }
    stdout.drain()?;
    stderr.drain()?;
    if is_too_long(&stdout) || is_too_long(&stderr) {
        if !broken(Fault::OverlongOutputCut) {
            return Err(io::Error::other(format!(
                "the output has more than {limit} bytes"
            )));
        }
        timed_out = false;
        ended = Some(0);
    }
    for output in [&mut stdout, &mut stderr] {
        output.bytes.truncate(limit);
        if broken(Fault::OneShotLineEndings) {
            let text = String::from_utf8_lossy(&output.bytes).replace("\r\n", "\n");
            output.bytes = text.into_bytes();
        }
        if broken(Fault::OneShotOutputReplaced) {
            output.bytes = String::from_utf8_lossy(&output.bytes).into_owned().into_bytes();
        }
        if broken(Fault::OutputCut) {
            output.bytes.truncate(64 << 10);
        }
        if broken(Fault::TimeoutDropsOutput) && timed_out {
            output.bytes.clear();
        }
    }
    if broken(Fault::OneShotStatusLost) {
        ended = ended.map(|code| code.min(1));
    }
    if broken(Fault::TimeoutAlways) {
        timed_out = wanted.timeout.is_some();
    }
    if broken(Fault::TimeoutNotTold) {
        timed_out = false;
    }
    Ok(format!(
        r#"{{"exit_code":{},"stdout":{},"stderr":{},"timed_out":{timed_out}}}"#,
        ended.unwrap_or(124),
        json_text(&stdout.bytes),
        json_text(&stderr.bytes),
    ))
}

fn shell(wanted: &Wanted, session: &Session) -> Parcel {
    let mut variables = wanted.variables.clone();
    if broken(Fault::OneShotServerVariables) {
        let base = std::mem::replace(&mut variables, std::env::vars().collect());
        spawn::merge(&mut variables, &base);
    }
    if !broken(Fault::OneShotWithoutOverlay) {
        spawn::merge(&mut variables, session.overlay());
    }
    let number = session
        .overlay()
        .iter()
        .find(|(name, _)| name == "CODEX_ESCALATE_SOCKET")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(-1);
    let login = (wanted.login || broken(Fault::LoginAlways)) && !broken(Fault::LoginNever);
    let option = if login { "-lc" } else { "-c" };
    let mut words = vec![&*wanted.shell, option, &wanted.command];
    if broken(Fault::LoginOptionApart) && login {
        words = vec![&wanted.shell, "-l", "-c", &wanted.command];
    }
    if broken(Fault::CommandSplit) {
        words.pop();
        words.extend(wanted.command.split(' '));
    }
    if broken(Fault::CommandTrimmed) {
        words.pop();
        words.push(wanted.command.trim());
    }
    let directory = if broken(Fault::OneShotServerDirectory) {
        "."
    } else {
        &*wanted.directory
    };
    Parcel {
        file: wanted.shell.clone().into_bytes(),
        shown: wanted.shell.clone().into_bytes(),
        directory: directory.as_bytes().to_vec(),
        arguments: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        environment: variables
            .iter()
            .map(|(name, value)| format!("{name}={value}").into_bytes())
            .collect(),
        ignored: if broken(Fault::OneShotSigpipeIgnored) {
            vec![libc::SIGPIPE]
        } else {
            Vec::new()
        },
        numbers: vec![0, 1, 2, number],
        ..Parcel::default()
    }
}
