//! Long-lived terminals.

mod decisions;
mod jobs;
mod many;
mod output;
mod program;
mod teardown;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shell_escalation::terminal::{
    Config, End, ExecRequest, Output, ShellBackend, Size, Streams, TerminalId, Terminals,
};
use shell_escalation::{EscalateServer, EscalationPolicy};

use super::support::chain;
use super::support::wrapper::DEADLINE;

/// Terminals with a server whose shell passes every line of its script to the wrapper, except those that begin with a colon.
struct Wrapped {
    terminals: Terminals,
    shell: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Wrapped {
    fn new(policy: impl EscalationPolicy) -> Self {
        Self::with(policy, |_| {})
    }

    fn with(policy: impl EscalationPolicy, configure: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shell = chain::shell(folder.path());
        let server = EscalateServer::new(&shell, chain::wrapper(), policy);
        let mut config = Config::new(ShellBackend::Wrapped(Arc::new(server)));
        configure(&mut config);
        Self {
            terminals: Terminals::new(config),
            shell,
            _folder: folder,
        }
    }

    async fn open(&self, script: &str, streams: Streams) -> TerminalId {
        let request = ExecRequest::shell(&self.shell, script, "/tmp")
            .with_env(env())
            .on(streams);
        self.terminals.open(request).await.unwrap()
    }
}

/// A shell that passes what is typed, line by line, to the wrapper: `FILE ARGV0 ARGUMENT...`.
const TYPED: &str = ":while read -r line; do eval \"set -- $line\"; \"$EXEC_WRAPPER\" \"$@\"; done";

fn direct() -> Terminals {
    Terminals::new(Config::new(ShellBackend::Direct))
}

fn env() -> Vec<(OsString, OsString)> {
    vec![("PATH".into(), "/usr/bin:/bin".into())]
}

/// A script of the system's shell.
fn sh(script: &str) -> ExecRequest {
    ExecRequest::shell("/bin/sh", script, "/tmp").with_env(env())
}

fn on_terminal() -> Streams {
    Streams::Terminal(Size::default())
}

const EVERY_KIND: [Streams; 2] = [
    Streams::Pipes,
    Streams::Terminal(Size {
        rows: 24,
        columns: 80,
    }),
];

/// Reads until that has been written; all that was read since.
async fn read_until(terminals: &Terminals, id: TerminalId, text: &str) -> String {
    let begun = Instant::now();
    let mut read = Vec::new();
    loop {
        let output = terminals
            .read(id, Duration::from_secs(1), usize::MAX)
            .await
            .unwrap();
        assert_eq!(output.left_out, 0);
        read.extend(output.bytes);
        let so_far = String::from_utf8_lossy(&read);
        if so_far.contains(text) {
            return so_far.into_owned();
        }
        assert!(output.end.is_none(), "ended without {text:?}: {so_far:?}");
        assert!(begun.elapsed() < DEADLINE, "no {text:?} in {so_far:?}");
    }
}

/// Reads to the program's end.
async fn read_to_end(terminals: &Terminals, id: TerminalId) -> (Vec<u8>, End) {
    let begun = Instant::now();
    let mut read = Vec::new();
    loop {
        let Output {
            bytes, left_out, end, ..
        } = terminals
            .read(id, Duration::from_secs(1), usize::MAX)
            .await
            .unwrap();
        assert_eq!(left_out, 0);
        read.extend(bytes);
        if let Some(end) = end {
            return (read, end);
        }
        assert!(
            begun.elapsed() < DEADLINE,
            "no end after {:?}",
            String::from_utf8_lossy(&read)
        );
    }
}

/// The same as text, as it was written: a terminal adds carriage returns.
async fn text_to_end(terminals: &Terminals, id: TerminalId) -> (String, End) {
    let (bytes, end) = read_to_end(terminals, id).await;
    (String::from_utf8(bytes).unwrap().replace("\r\n", "\n"), end)
}

/// Reads the next line that is a number.
async fn read_number(terminals: &Terminals, id: TerminalId) -> i32 {
    let text = read_until(terminals, id, "\n").await;
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("no number: {text:?}"))
}
