//! Ordinary subprocesses of the server: the shells of sessions, and others.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

use crate::events::lock;
use crate::faults::{Fault, broken};

/// What to start.
pub struct Command {
    arguments: Vec<String>,
    directory: String,
    variables: Vec<(String, String)>,
    streams: [Option<String>; 3],
    inherited: Vec<RawFd>,
}

/// Exit code or signal.
type Ended = (Option<i32>, Option<i32>);

/// A process that was started, and its end once it is there.
pub struct Process {
    /// Its process id.
    pub pid: i64,
    end: Arc<(Mutex<Option<Ended>>, Condvar)>,
}

impl Command {
    /// From the params of a spawning method.
    pub fn read(params: &Value) -> Result<Command, String> {
        let list = |name: &str| {
            let texts = params[name]
                .as_array()?
                .iter()
                .map(|item| Some(item.as_str()?.to_owned()));
            texts.collect::<Option<Vec<_>>>()
        };
        let stream = |name: &str| params[name].as_str().map(str::to_owned);
        Ok(Command {
            arguments: list("argv")
                .filter(|arguments| !arguments.is_empty())
                .ok_or("no argv, a list of strings")?,
            directory: params["cwd"].as_str().ok_or("no cwd, a string")?.to_owned(),
            variables: variables(&params["env"])?,
            streams: [stream("stdin"), stream("stdout"), stream("stderr")],
            inherited: Vec::new(),
        })
    }

    /// The argument vector.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// The environment.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// The working directory.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// With these variables over the others.
    pub fn with_variables(mut self, overlay: &[(String, String)]) -> Command {
        if broken(Fault::BaseOverOverlay) {
            let base = std::mem::replace(&mut self.variables, overlay.to_vec());
            merge(&mut self.variables, &base);
        } else {
            merge(&mut self.variables, overlay);
        }
        self
    }

    /// Lets the process inherit these descriptors, which it should not have.
    pub fn inheriting(mut self, numbers: Vec<RawFd>) -> Command {
        self.inherited = numbers;
        self
    }

    /// Starts it. `client` crosses the execve, and nowhere else; it is closed here afterwards.
    pub fn spawn(self, client: Option<OwnedFd>) -> io::Result<Process> {
        let [stdin, stdout, stderr] = &self.streams;
        let input = File::open(stdin.as_deref().unwrap_or("/dev/null"))?;
        let output = |path: &Option<String>| match path {
            Some(path) => File::create(path),
            None => File::options().write(true).open("/dev/null"),
        };
        let mut command = std::process::Command::new(&self.arguments[0]);
        command
            .args(&self.arguments[1..])
            .current_dir(&self.directory)
            .env_clear()
            .envs(self.variables)
            .stdin(input)
            .stdout(output(stdout)?)
            .stderr(output(stderr)?);
        if let Some(number) = client.as_ref().map(AsRawFd::as_raw_fd) {
            let mut inherited = self.inherited;
            if !broken(Fault::SocketClosesOnExec) {
                inherited.push(number);
            }
            // SAFETY: the closure makes system calls on integers, which signal-safety(7) allows.
            unsafe {
                command.pre_exec(move || {
                    // In the child alone the socket loses its close-on-exec flag.
                    for number in &inherited {
                        nix::errno::Errno::result(libc::fcntl(*number, libc::F_SETFD, 0))?;
                    }
                    if broken(Fault::ClientHeldTwice) {
                        libc::dup(number);
                    }
                    if broken(Fault::ShellSigpipeIgnored) {
                        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
                    }
                    Ok(())
                });
            }
        }
        let _window = client
            .as_ref()
            .filter(|_| broken(Fault::InheritableForTheSpawn))
            .map(window)
            .transpose()?;
        let mut child = command.spawn()?;
        drop(client);
        let end = Arc::new((Mutex::new(None), Condvar::new()));
        let process = Process {
            pid: i64::from(child.id()),
            end: end.clone(),
        };
        std::thread::Builder::new().spawn(move || {
            let status = child.wait().unwrap_or(ExitStatusExt::from_raw(0xff00));
            *lock(&end.0) = Some((status.code(), status.signal()));
            end.1.notify_all();
        })?;
        Ok(process)
    }
}

/// While the returned value lives, any process that is spawned inherits a copy of `socket`.
pub fn window(socket: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD takes integers, and the number that it returns is new and has no other owner.
    let copy = unsafe {
        let number = nix::errno::Errno::result(libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD, 90))?;
        std::os::fd::FromRawFd::from_raw_fd(number)
    };
    std::thread::sleep(std::time::Duration::from_millis(5));
    Ok(copy)
}

impl Process {
    /// Waits for its end: exit code or signal.
    pub fn wait(&self) -> Ended {
        let mut end = lock(&self.end.0);
        loop {
            if let Some(status) = *end {
                return status;
            }
            end = self
                .end
                .1
                .wait(end)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }
}

/// An object of strings.
pub fn variables(value: &Value) -> Result<Vec<(String, String)>, String> {
    let members = value.as_object().ok_or("no env, an object")?;
    members
        .iter()
        .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect::<Option<_>>()
        .ok_or_else(|| "env holds what is no text".to_owned())
}

/// `overlay` over `variables`, each name once.
pub fn merge(variables: &mut Vec<(String, String)>, overlay: &[(String, String)]) {
    variables.retain(|(name, _)| overlay.iter().all(|(over, _)| over != name));
    variables.extend_from_slice(overlay);
}
