//! `shell_command`: one command, from start to end.

use std::num::NonZeroU64;
use std::time::Duration;

use rmcp::schemars::{self, JsonSchema};
use serde::Serialize;
use shell_escalation::{ExecParams, ExecResult, Gap};

use super::super::confined::Confined;
use super::arguments::{DEFAULT_TIMEOUT_MS, ShellCommand};
use super::call::Call;
use super::output::{Collected, DEFAULT_TOKENS, Shown};
use super::workplace::Workplace;

/// How a command ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CommandResult {
    /// The shell's exit code; 128 + N if signal N killed it; 124 if it timed out.
    exit_code: i32,
    /// Number of the signal that killed the shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    /// What the sandbox allows, if the command failed: that it refused more may be why.
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<String>,
    /// Whether everything was killed because the time was over.
    timed_out: bool,
    /// Seconds from the start to the end, waiting for approval included.
    wall_time_seconds: f64,
    /// Standard output; of too much, the first and the last part.
    stdout: String,
    /// Standard error; of too much, the first and the last part. Lines that begin with `Execution denied` are from the policy.
    stderr: String,
    /// How many bytes of both are not shown.
    bytes_left_out: u64,
    /// Whether bytes that are not UTF-8 are shown as U+FFFD.
    bytes_replaced: bool,
    /// Processes of the command that could not be killed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    survivors: Vec<String>,
}

impl Workplace {
    /// Runs a command to its end. If the client takes the call back, or goes, everything of the command ends first.
    ///
    /// # Errors
    /// Why it was not run, for the model.
    pub(super) async fn shell_command(
        &self,
        arguments: ShellCommand,
        call: &Call<'_>,
    ) -> Result<CommandResult, String> {
        let mut params = ExecParams::new(arguments.command, self.workdir(arguments.workdir.as_deref()));
        params.env = self.env.clone();
        params.login = self.login(arguments.login)?;
        params.timeout = Some(Duration::from_millis(
            arguments.timeout_ms.map_or(DEFAULT_TIMEOUT_MS, NonZeroU64::get),
        ));
        params.longest_stop = self.approval_time;
        let parent = self.ending.child_token();
        let running = self.server.exec(params, &parent);
        tokio::pin!(running);
        let result = call
            .reporting(async {
                tokio::select! {
                    result = &mut running => result,
                    () = call.cancelled.cancelled() => {
                        parent.cancel();
                        running.await
                    }
                }
            })
            .await;
        result
            .map(|result| CommandResult::new(result, &self.confined))
            .map_err(|error| format!("the command was not run to its end: {error}"))
    }
}

impl CommandResult {
    fn new(result: ExecResult, confined: &Confined) -> Self {
        let (stdout, stderr) = streams(
            Output::new(&result.stdout, result.stdout_gap),
            Output::new(&result.stderr, result.stderr_gap),
        );
        Self {
            exit_code: result.exit_code,
            signal: result.signal,
            sandbox: (!result.timed_out)
                .then(|| confined.if_failed(result.exit_code, result.signal))
                .flatten(),
            timed_out: result.timed_out,
            wall_time_seconds: result.duration.as_secs_f64(),
            bytes_left_out: stdout.left_out + stderr.left_out,
            bytes_replaced: stdout.replaced || stderr.replaced,
            stdout: stdout.text,
            stderr: stderr.text,
            survivors: result.survivors.iter().map(ToString::to_string).collect(),
        }
    }

    /// The same as a text.
    pub(super) fn text(&self) -> String {
        let mut text = match (self.timed_out, self.signal) {
            (true, _) => {
                "Timed out, and was killed. Pass a longer timeout_ms if it needs more time.\n".to_owned()
            }
            (false, Some(signal)) => format!("Killed by signal {signal}\n"),
            (false, None) => format!("Exit code: {}\n", self.exit_code),
        };
        text.push_str(&format!("Wall time: {:.1} s\n", self.wall_time_seconds));
        if let Some(can) = &self.sandbox {
            text.push_str(&format!("If the sandbox refused it something: it {can}.\n"));
        }
        if self.bytes_replaced {
            text.push_str("Bytes that are not UTF-8 are shown as U+FFFD.\n");
        }
        for process in &self.survivors {
            text.push_str(&format!("Could not be killed: {process}\n"));
        }
        for (name, stream) in [
            ("Standard output", &self.stdout),
            ("Standard error", &self.stderr),
        ] {
            if !stream.is_empty() {
                text.push_str(&format!("{name}:\n{stream}"));
                if !stream.ends_with('\n') {
                    text.push('\n');
                }
            }
        }
        if self.stdout.is_empty() && self.stderr.is_empty() {
            text.push_str("No output.\n");
        }
        text
    }
}

/// What was kept of a stream.
#[derive(Clone, Copy)]
struct Output<'a> {
    bytes: &'a [u8],
    gap: Option<Gap>,
}

impl<'a> Output<'a> {
    fn new(bytes: &'a [u8], gap: Option<Gap>) -> Self {
        Self { bytes, gap }
    }
}

/// Both streams within the bound that they share: what one doesn't need, the other may use.
fn streams(stdout: Output<'_>, stderr: Output<'_>) -> (Shown, Shown) {
    let tokens = |output: Output<'_>| u32::try_from(output.bytes.len().div_ceil(4)).unwrap_or(u32::MAX);
    let half = DEFAULT_TOKENS / 2;
    let (out, error) = (tokens(stdout), tokens(stderr));
    let room_for = |other: u32| DEFAULT_TOKENS - other.min(half);
    let show = |output: Output<'_>, room: u32| {
        let mut collected = Collected::new(room);
        let (at, missing) = output.gap.map_or((0, 0), |gap| (gap.at, gap.bytes));
        let (head, tail) = output.bytes.split_at(at);
        collected.push(head);
        collected.skip(missing);
        collected.push(tail);
        collected.shown()
    };
    (show(stdout, room_for(error)), show(stderr, room_for(out)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_share_one_bound_and_neither_crowds_out_the_other() {
        let large = vec![b'x'; 1_000_000];
        let streams =
            |out: &[u8], error: &[u8]| super::streams(Output::new(out, None), Output::new(error, None));
        let length = |shown: &Shown| shown.text.matches('x').count();
        let (out, error) = streams(&large, b"denied");
        assert_eq!(error.text, "denied");
        assert_eq!(length(&out), 4 * (10_000 - 2));
        let (out, error) = streams(&large, &large);
        assert_eq!((length(&out), length(&error)), (20_000, 20_000));
        assert_eq!(error.left_out, 980_000);
        let (out, error) = streams(b"", &large);
        assert_eq!((length(&out), length(&error)), (0, 40_000));
    }
}
