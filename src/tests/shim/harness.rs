//! The suite's side of the harness protocol.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use super::support::wrapper::{Client, DEADLINE};

/// A running shim. Dropping it ends the process and what it has started.
pub struct Shim {
    pub child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<Value>,
    /// Read while waiting for something else.
    set_aside: Vec<Value>,
    next_id: u64,
}

impl Shim {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A shim with these options.
    pub fn start_with(options: &[&str]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_shell-escalation"));
        Self::start_by(program, options)
    }

    /// A shim with this soft limit of open files, which it may raise.
    pub fn start_with_open_files(soft: u64) -> Self {
        let mut shell = Command::new("/bin/sh");
        let script = format!("ulimit -Sn {soft} && exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_shell-escalation")]);
        Self::start_by(shell, &[])
    }

    /// A shim with this limit of open files.
    pub fn start_with_at_most_open_files(hard: u64) -> Self {
        let mut shell = Command::new("/bin/sh");
        let script = format!("ulimit -n {hard} && exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_shell-escalation")]);
        Self::start_by(shell, &[])
    }

    fn start_by(mut command: Command, options: &[&str]) -> Self {
        let mut child = command
            .args(["--log", "error", "shim"])
            .args(options)
            .env("SECRET_OF_THE_SHIM", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let message = serde_json::from_str(&line.unwrap()).unwrap();
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            stdin,
            messages,
            set_aside: Vec::new(),
            next_id: 0,
        }
    }

    pub fn send(&mut self, message: &Value) {
        self.send_line(&message.to_string());
    }

    pub fn send_line(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Whether a message of this method came before one that was waited for.
    pub fn has_said(&self, method: &str) -> bool {
        self.set_aside.iter().any(|message| message["method"] == method)
    }

    /// Sends a request without waiting; the id of its answer.
    pub fn ask(&mut self, method: &str, params: &Value) -> u64 {
        self.next_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params}));
        self.next_id
    }

    /// The answer, `result` or `error`.
    pub fn answer(&mut self, id: u64) -> Result<Value, i64> {
        let answer = self.wait_for(|message| message["id"] == id && message.get("method").is_none());
        match answer.get("error") {
            Some(error) => Err(error["code"].as_i64().unwrap()),
            None => Ok(answer["result"].clone()),
        }
    }

    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, i64> {
        let id = self.ask(method, params);
        self.answer(id)
    }

    /// The next question about a decision: its id and parameters.
    pub fn question(&mut self) -> (u64, Value) {
        let question = self.wait_for(|message| message["method"] == "policy/decide");
        (question["id"].as_u64().unwrap(), question["params"].clone())
    }

    pub fn decide(&mut self, id: u64, result: &Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    pub fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(found) = self.set_aside.iter().position(&wanted) {
            return self.set_aside.remove(found);
        }
        loop {
            let message = self.messages.recv_timeout(DEADLINE).expect("no message in time");
            if wanted(&message) {
                return message;
            }
            self.set_aside.push(message);
        }
    }

    /// Closes standard input and waits for the end; the exit status.
    pub fn end(&mut self) -> i32 {
        self.stdin = None;
        self.child.wait().unwrap().code().unwrap()
    }

    /// A session with `sleep` in place of a shell: its pid, and a client of the socket that it inherited.
    pub fn session(&mut self, id: &str) -> (i32, Client) {
        let started = self.call(
            "session/start",
            &json!({"session": id, "shell": "/no/shell", "wrapper": "/no/wrapper"}),
        );
        let env = started.unwrap()["env"].clone();
        let spawned = self.call(
            "session/spawn",
            &json!({"session": id, "argv": ["/bin/sleep", "600"], "cwd": "/", "env": {"BASE": "1"}}),
        );
        let pid = i32::try_from(spawned.unwrap()["pid"].as_i64().unwrap()).unwrap();
        let number: i32 = env["CODEX_ESCALATE_SOCKET"].as_str().unwrap().parse().unwrap();
        (pid, Client(descriptor_of(pid, number)))
    }

    /// Answers the next question with `escalate`.
    pub fn escalate(&mut self) {
        let (id, _) = self.question();
        self.decide(id, &json!({"action": "escalate"}));
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // The end of input: it kills what it started, which a killed shim couldn't.
        self.stdin = None;
        let _ = self.child.wait();
    }
}

/// Takes a copy of another process's descriptor.
pub fn descriptor_of(pid: i32, number: i32) -> OwnedFd {
    // SAFETY: integers only.
    let copy = unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(pidfd >= 0);
        let copy = libc::syscall(libc::SYS_pidfd_getfd, pidfd, number, 0);
        libc::close(pidfd as i32);
        copy
    };
    assert!(
        copy >= 0,
        "descriptor {number} of {pid}: {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: just made.
    unsafe { OwnedFd::from_raw_fd(copy as i32) }
}
