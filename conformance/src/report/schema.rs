//! JSON Schemas of what others read and write: the report and the messages of the harness protocol.
//!
//! The messages stand here as types; the suite itself reads a foreign shim's JSON as it comes, to say what is wrong
//! with it. That both are the same is shown by a test on real traffic.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, schema_for};

use super::json::Report;

/// The schema of the report that `conformance run --json` writes.
pub fn of_report() -> Schema {
    schema_for!(Report)
}

/// The schema of a line of the harness protocol.
pub fn of_harness() -> Schema {
    schema_for!(Message)
}

/// A line of the harness protocol, version 1, in either direction.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "the types are read by the schema generator")]
enum Message {
    /// A request of the suite.
    Request {
        /// Always 2.0.
        jsonrpc: Version,
        /// Chosen by the sender; the two directions are independent.
        id: u64,
        #[serde(flatten)]
        request: Request,
    },
    /// A question of the shim.
    Question {
        jsonrpc: Version,
        id: Id,
        #[serde(flatten)]
        request: Question,
    },
    /// A notification of the shim.
    Notification {
        jsonrpc: Version,
        #[serde(flatten)]
        notification: Notification,
    },
    /// An answer.
    Result {
        jsonrpc: Version,
        id: Id,
        result: Answer,
    },
    /// A refusal.
    Error {
        jsonrpc: Version,
        id: Option<Id>,
        error: RpcError,
    },
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "as above")]
enum Version {
    #[serde(rename = "2.0")]
    Two,
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "as above")]
enum Id {
    Number(u64),
    Text(String),
}

#[derive(JsonSchema)]
#[serde(tag = "method", content = "params")]
#[allow(dead_code, reason = "as above")]
enum Request {
    #[serde(rename = "initialize")]
    Initialize {
        /// Version of the harness protocol: 1.
        protocol: u32,
        suite: Named,
    },
    #[serde(rename = "session/start")]
    SessionStart {
        /// Chosen by the suite.
        session: String,
        /// Absolute, and perhaps not there.
        shell: String,
        wrapper: String,
    },
    #[serde(rename = "session/spawn")]
    SessionSpawn {
        session: String,
        #[serde(flatten)]
        spawn: Spawn,
    },
    #[serde(rename = "session/wait")]
    SessionWait { session: String, pid: i32 },
    /// Cancels the parent token.
    #[serde(rename = "session/cancel")]
    SessionCancel { session: String },
    #[serde(rename = "session/close")]
    SessionClose { session: String },
    #[serde(rename = "exec")]
    Exec {
        /// For correlation with the policy's questions.
        session: String,
        shell: String,
        wrapper: String,
        command: String,
        workdir: String,
        /// The complete base environment.
        env: BTreeMap<String, String>,
        /// Whether the shell is a login shell; true where it is missing.
        login: Option<bool>,
        /// Milliseconds.
        timeout_ms: Option<u64>,
    },
    #[serde(rename = "process/spawn")]
    ProcessSpawn(Spawn),
    #[serde(rename = "process/wait")]
    ProcessWait { pid: i32 },
    #[serde(rename = "terminal/open")]
    TerminalOpen {
        /// For correlation with the policy's questions.
        session: String,
        argv: Vec<String>,
        cwd: String,
        /// The complete base environment.
        env: BTreeMap<String, String>,
        /// The size of a pseudo-terminal; without it the terminal is on pipes.
        tty: Option<Size>,
        /// Of the wrapped backend, as is `wrapper`; without both the backend is direct.
        shell: Option<String>,
        wrapper: Option<String>,
    },
    #[serde(rename = "terminal/write")]
    TerminalWrite {
        terminal: Id,
        /// Base64.
        data: String,
    },
    #[serde(rename = "terminal/read")]
    TerminalRead {
        terminal: Id,
        /// Milliseconds.
        wait_ms: u64,
        /// Bytes; without it as many as there are.
        limit: Option<u64>,
    },
    #[serde(rename = "terminal/resize")]
    TerminalResize {
        terminal: Id,
        #[serde(flatten)]
        size: Size,
    },
    #[serde(rename = "terminal/signal")]
    TerminalSignal { terminal: Id, signal: i64 },
    #[serde(rename = "terminal/close")]
    TerminalClose { terminal: Id },
    #[serde(rename = "terminal/list")]
    TerminalList {},
    #[serde(rename = "shutdown")]
    Shutdown {},
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "as above")]
struct Size {
    rows: u16,
    columns: u16,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "as above")]
struct Spawn {
    argv: Vec<String>,
    cwd: String,
    /// The complete base environment.
    env: BTreeMap<String, String>,
    /// A path; /dev/null where it is missing. The outputs are created or truncated.
    stdin: Option<String>,
    stdout: Option<String>,
    stderr: Option<String>,
}

#[derive(JsonSchema)]
#[serde(tag = "method", content = "params")]
#[allow(dead_code, reason = "as above")]
enum Question {
    #[serde(rename = "policy/decide")]
    Decide {
        session: String,
        /// The path as the policy sees it.
        program: String,
        argv: Vec<String>,
        workdir: String,
        env: Option<BTreeMap<String, String>>,
    },
}

#[derive(JsonSchema)]
#[serde(tag = "method", content = "params")]
#[allow(dead_code, reason = "as above")]
enum Notification {
    /// The decision asked for with that request id is no longer wanted.
    #[serde(rename = "policy/cancelled")]
    Cancelled { session: String, id: Id },
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "as above")]
enum Answer {
    Initialized {
        protocol: u32,
        implementation: Named,
        capabilities: Vec<String>,
    },
    /// To `session/start`: the overlay, exactly as the implementation's API gives it.
    Started {
        env: BTreeMap<String, String>,
    },
    Spawned {
        pid: i32,
    },
    /// To `exec`.
    Executed {
        exit_code: i32,
        stdout: String,
        stderr: String,
        timed_out: bool,
    },
    /// To `terminal/open`.
    Opened {
        terminal: Id,
        /// Whether the wrapped backend has recognised the arguments.
        wrapped: bool,
    },
    /// To `terminal/read`.
    Read {
        /// Base64.
        data: String,
        /// Bytes that were left out behind the first `head` of `data`; 0 where it is missing.
        omitted: Option<u64>,
        head: Option<u64>,
        /// Where the process has ended and all output before that has been read.
        ended: Option<End>,
    },
    /// To `terminal/list`.
    Listed {
        terminals: Vec<Id>,
    },
    /// To `session/wait` and `process/wait`.
    Ended(End),
    /// To `policy/decide`.
    Decided(Decision),
    /// To all others.
    Done {},
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "as above")]
struct End {
    exit_code: Option<i32>,
    signal: Option<i32>,
}

#[derive(JsonSchema)]
#[serde(tag = "action", rename_all = "lowercase")]
#[allow(dead_code, reason = "as above")]
enum Decision {
    Run,
    Escalate,
    Deny { reason: Option<String> },
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "as above")]
struct Named {
    name: String,
    version: String,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "as above")]
struct RpcError {
    /// -32601 for an unknown method, -32602 for an unknown session or pid.
    code: i64,
    message: String,
}
