//! The recording wrapper against a shell under test: what the shell handed to its wrapper, call by call.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use crate::context::Context;
use crate::outcome::{CaseError, Verdict, violation};
use crate::peer::launch::{Launch, Launched};
use crate::peer::process::Ended;
use crate::peer::program::Program;
use crate::probe::plan::Plan;
use crate::probe::record::{End, Record, Rule};
use crate::probe::report::Report;

/// The number under which a shell inherits the escalation socket here.
pub const ESCALATION_DESCRIPTOR: i32 = 20;

/// A shell under test with a recording wrapper.
pub struct RecordedShell<'a> {
    context: &'a Context,
    /// The recording wrapper.
    pub wrapper: Program,
    variables: Vec<(String, String)>,
}

/// What a finished shell left.
#[derive(Clone, Debug)]
pub struct ShellResult {
    /// How it ended.
    pub ended: Ended,
    /// Its standard output.
    pub output: Vec<u8>,
    /// Its standard error.
    pub error: Vec<u8>,
}

impl ShellResult {
    /// Its standard output as text.
    pub fn output_text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Its standard error as text.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.error).into_owned()
    }
}

/// One call of the wrapper: `[WRAPPER, FILE, ARGV0, ARGV1, …]`.
#[derive(Clone, Debug)]
pub struct Call {
    /// Everything about the process.
    pub report: Report,
}

impl Call {
    /// FILE.
    pub fn file(&self) -> String {
        self.report.argument_text().get(1).cloned().unwrap_or_default()
    }

    /// ARGV as bytes, argv[0] included.
    pub fn arguments(&self) -> Vec<Vec<u8>> {
        self.report.arguments.get(2..).unwrap_or_default().to_vec()
    }

    /// ARGV as text.
    pub fn argument_text(&self) -> Vec<String> {
        self.report.argument_text().get(2..).unwrap_or_default().to_vec()
    }
}

impl<'a> RecordedShell<'a> {
    /// With a wrapper that records and runs every command.
    pub fn new(context: &'a Context) -> Result<RecordedShell<'a>, CaseError> {
        RecordedShell::with_rules(context, [])
    }

    /// With a wrapper that ends by itself, without running the command, for commands of these file names.
    pub fn with_rules(
        context: &'a Context,
        rules: impl IntoIterator<Item = (&'static str, End)>,
    ) -> Result<RecordedShell<'a>, CaseError> {
        let rules = rules
            .into_iter()
            .map(|(name, end)| Rule {
                file_name: name.to_owned(),
                end,
            })
            .collect::<Vec<_>>();
        let path = context
            .directory()
            .join("bin")
            .join(format!("recording-wrapper-{}", context.next_number()));
        let plan = Plan {
            record: Some(Record { rules }),
            ..Plan::default()
        };
        let wrapper = Program::with_plan(context, &path, plan)?;
        let variables = vec![
            (
                "PATH".to_owned(),
                format!("{}:/usr/bin:/bin", context.path("bin").display()),
            ),
            ("HOME".to_owned(), context.work_directory().display().to_string()),
            (
                "TMPDIR".to_owned(),
                context.temporary_directory().display().to_string(),
            ),
            ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
            ("EXEC_WRAPPER".to_owned(), wrapper.text().to_owned()),
            (
                "CODEX_ESCALATE_SOCKET".to_owned(),
                ESCALATION_DESCRIPTOR.to_string(),
            ),
        ];
        Ok(RecordedShell {
            context,
            wrapper,
            variables,
        })
    }

    /// Sets a variable of the shell's environment; none takes it away.
    pub fn set_variable(&mut self, name: &str, value: Option<&str>) {
        self.variables.retain(|(known, _)| known != name);
        if let Some(value) = value {
            self.variables.push((name.to_owned(), value.to_owned()));
        }
    }

    /// The launch of the shell with these arguments after argv[0]; change it, then hand it to [`Self::start`].
    pub fn launch<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Launch, CaseError> {
        let shell = self.context.shell()?;
        let mut vector = vec![shell.as_os_str().to_owned()];
        vector.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        let (_server_end, client_end) = std::os::unix::net::UnixDatagram::pair()?;
        let mut launch = Launch::new(shell, self.context.work_directory())
            .arguments(vector)
            .descriptor(ESCALATION_DESCRIPTOR, client_end);
        for (name, value) in &self.variables {
            launch = launch.variable(name, value);
        }
        Ok(launch)
    }

    /// Starts a launch of [`Self::launch`]; outputs that it does not mention are kept for the result.
    pub fn start(&self, mut launch: Launch) -> Result<ShellRun, CaseError> {
        let output = self
            .context
            .path(&format!("stdout-{}", self.context.next_number()));
        if !launch.mentions(1) {
            launch = launch.descriptor(1, File::options().create_new(true).append(true).open(&output)?);
        }
        let (file, error) = self.context.error_log("shell")?;
        if !launch.mentions(2) {
            launch = launch.descriptor(2, file);
        }
        Ok(ShellRun {
            process: launch.start()?,
            output,
            error,
            patience: self.context.patience(),
        })
    }

    /// Runs `shell -c SCRIPT` to its end.
    pub fn run(&self, script: &str) -> Result<ShellResult, CaseError> {
        self.context.transcript.note(format_args!("shell -c {script:?}"));
        self.start(self.launch(["-c", script])?)?.finish()
    }

    /// All calls of the wrapper so far, in order.
    pub fn calls(&self) -> Result<Vec<Call>, CaseError> {
        let calls: Vec<Call> = self
            .wrapper
            .starts()?
            .into_iter()
            .map(|report| Call { report })
            .collect();
        for call in &calls {
            self.context
                .transcript
                .note(format_args!("wrapper called: {:?}", call.report.argument_text()));
        }
        Ok(calls)
    }

    /// The only call for a command of that file name.
    pub fn only_call(&self, file_name: &str) -> Result<Call, CaseError> {
        let mut calls = self.calls()?;
        calls.retain(|call| call.file().rsplit('/').next() == Some(file_name));
        match (calls.pop(), calls.len()) {
            (Some(call), 0) => Ok(call),
            (last, more) => Err(violation(
                format_args!("{file_name} goes to the wrapper once"),
                format_args!("{} times", more + usize::from(last.is_some())),
            )),
        }
    }

    /// Demands that the wrapper was called for commands of exactly these file names, in this order.
    pub fn expect_calls(&self, file_names: &[&str]) -> Verdict {
        let names: Vec<String> = self
            .calls()?
            .iter()
            .map(|call| call.file().rsplit('/').next().unwrap_or_default().to_owned())
            .collect();
        crate::expect::equal("commands that went to the wrapper", file_names, names.as_slice())
    }
}

/// A running shell.
pub struct ShellRun {
    /// The process.
    pub process: Launched,
    output: PathBuf,
    error: PathBuf,
    patience: Duration,
}

impl ShellRun {
    /// Waits for its end.
    pub fn finish(&mut self) -> Result<ShellResult, CaseError> {
        let ended = self.process.wait("the shell", self.patience)?;
        let read = |path: &PathBuf| {
            if path.exists() {
                fs::read(path)
            } else {
                Ok(Vec::new())
            }
        };
        Ok(ShellResult {
            ended,
            output: read(&self.output)?,
            error: read(&self.error)?,
        })
    }
}
