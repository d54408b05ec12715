//! A client that speaks the protocol line by line, as its specification has it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::chain;
use super::support::wrapper::DEADLINE;

/// A server, and what it has said.
pub struct Client {
    pub server: Child,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    next_id: u64,
    /// Notifications that came meanwhile.
    pub notifications: Vec<Value>,
    /// Where the server's shells work.
    pub folder: TempDir,
}

/// A server that is to be started, with a policy, whose shell is the patched bash, and the folder that it works in.
pub fn server(policy: &str, options: &[&str]) -> (TempDir, Command) {
    let bash = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/shells/bash-5.3/bin/bash");
    assert!(bash.is_file(), "{} is built by `make shells`", bash.display());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, policy).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_shell-escalation"));
    command
        .current_dir(folder.path())
        .args(["mcp", "--policy"])
        .arg(file);
    command
        .arg("--shell")
        .arg(bash)
        .arg("--wrapper")
        .arg(chain::wrapper());
    // Login shells read the profile of the user's home.
    command.args(options).env("HOME", folder.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    (folder, command)
}

/// How a client introduces itself.
pub fn hello(version: &str, capabilities: &Value) -> Value {
    json!({
        "protocolVersion": version,
        "capabilities": capabilities,
        "clientInfo": {"name": "test", "version": "1"},
    })
}

/// A form that the server wants to be filled in.
pub struct Form {
    pub id: Value,
    pub message: String,
}

/// What came of a call.
pub enum Came {
    Result(Value),
    Form(Form),
}

impl Client {
    /// A server with a policy, whose shell is the patched bash, for a client with these capabilities.
    pub fn start(policy: &str, capabilities: &Value, options: &[&str]) -> Self {
        let (folder, mut command) = server(policy, options);
        let mut server = command.spawn().unwrap();
        let output = BufReader::new(server.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in output.lines() {
                let message = serde_json::from_str(&line.unwrap()).expect("a line is a message");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut client = Self {
            input: server.stdin.take(),
            server,
            messages,
            next_id: 1,
            notifications: Vec::new(),
            folder,
        };
        client.request("initialize", hello("2025-06-18", capabilities));
        client.notify("notifications/initialized", json!({}));
        client
    }

    /// The same for the tool of one-shot commands.
    pub fn with_shell_tool(policy: &str, capabilities: &Value, options: &[&str]) -> Self {
        Self::start(policy, capabilities, &[&["--tools", "shell"], options].concat())
    }

    pub fn send(&mut self, message: &Value) {
        let input = self.input.as_mut().expect("standard input is open");
        writeln!(input, "{message}").unwrap();
    }

    pub fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// Sends a request, and returns its id.
    pub fn ask(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// The answer to a request, error or result.
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        loop {
            let message = self.message();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
            assert!(message.get("id").is_none(), "not asked for: {message}");
            self.notifications.push(message);
        }
    }

    /// Calls a tool, and returns the id of the call.
    pub fn start_call(&mut self, tool: &str, arguments: Value) -> u64 {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// The next message that is not a notification: the result of this call, or a form.
    pub fn came(&mut self, call: u64) -> Came {
        loop {
            let message = self.message();
            if message.get("id").is_none() {
                self.notifications.push(message);
            } else if message["method"] == "elicitation/create" {
                return Came::Form(Form {
                    id: message["id"].clone(),
                    message: message["params"]["message"].as_str().unwrap().to_owned(),
                });
            } else if message["id"] == call {
                return Came::Result(message["result"].clone());
            } else {
                panic!("not asked for: {message}");
            }
        }
    }

    /// The result of a call that asks nothing.
    pub fn result(&mut self, call: u64) -> Value {
        match self.came(call) {
            Came::Result(result) => result,
            Came::Form(form) => panic!("asks: {}", form.message),
        }
    }

    /// The form that a call brings up.
    pub fn form(&mut self, call: u64) -> Form {
        match self.came(call) {
            Came::Form(form) => form,
            Came::Result(result) => panic!("asks nothing: {result}"),
        }
    }

    /// The result of a tool that asks nothing.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let call = self.start_call(tool, arguments);
        self.result(call)
    }

    /// Accepts a form with a decision.
    pub fn decide(&mut self, form: &Form, decision: &str) {
        self.reply(
            form,
            json!({"action": "accept", "content": {"decision": decision}}),
        );
    }

    pub fn reply(&mut self, form: &Form, result: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": form.id, "result": result}));
    }

    /// The next message.
    pub fn message(&mut self) -> Value {
        self.messages.recv_timeout(DEADLINE).expect("no message in time")
    }

    /// The next notification of this kind, with those that came before it.
    pub fn notification(&mut self, method: &str) -> Value {
        if let Some(place) = self
            .notifications
            .iter()
            .position(|seen| seen["method"] == method)
        {
            return self.notifications.remove(place);
        }
        loop {
            let message = self.message();
            if message["method"] == method {
                return message;
            }
            assert!(message.get("id").is_none(), "not asked for: {message}");
            self.notifications.push(message);
        }
    }

    /// Closes standard input.
    pub fn close(&mut self) {
        self.input = None;
    }

    /// Closes standard input, and returns the server's exit code.
    pub fn end(mut self) -> Option<i32> {
        self.close();
        self.server.wait().unwrap().code()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.input = None;
        // Only where a test has failed: it ends by itself.
        let _ = self.server.wait();
    }
}

/// The text of a result.
pub fn text(result: &Value) -> &str {
    result["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("no text: {result}"))
}
