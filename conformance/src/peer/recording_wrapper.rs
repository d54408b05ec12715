//! The recording wrapper against a shell under test: what the shell handed to its wrapper, call by call.
//!
//! The same scripts also run in the *stock shell*, the measure of many requirements: the one given by
//! `--stock-shell`, or else the shell under test with interception off.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::case::context::Context;
use crate::case::expect;
use crate::peer::dialect::Dialect;
use crate::peer::finished::Finished;
use crate::peer::program::Program;
use crate::probe::plan::Plan;
use crate::probe::record::{End, Record, Rule};
use crate::probe::report::Report;
use crate::system::clock::Moment;
use crate::system::holders::of_other_end;
use crate::system::launch::{Launch, Launched, pipe};
use crate::system::poll::readable_until;
use crate::verdict::{CaseError, Verdict, violation};

/// The number under which a shell inherits the escalation socket here, unless a case says otherwise.
pub const ESCALATION_DESCRIPTOR: i32 = 20;

/// The number of a pipe's writing end that everything a script starts inherits: when its reading end is at
/// its end, all of it has ended.
pub const LIFELINE: i32 = 21;

/// A shell under test with a recording wrapper.
pub struct RecordedShell<'a> {
    context: &'a Context,
    /// The recording wrapper.
    pub wrapper: Program,
    /// The language of the shell under test.
    pub dialect: Dialect,
    variables: Vec<(OsString, OsString)>,
    socket_number: i32,
    socket: OwnedFd,
    patience: Duration,
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

    /// The last part of FILE.
    pub fn file_name(&self) -> String {
        self.file().rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// ARGV as bytes, `argv[0]` included.
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
    pub fn with_rules<'n>(
        context: &'a Context,
        rules: impl IntoIterator<Item = (&'n str, End)>,
    ) -> Result<RecordedShell<'a>, CaseError> {
        let name = format!("recording-wrapper-{}", context.next_number());
        let path = context.directory().join("bin").join(name);
        RecordedShell::at(context, &path, rules)
    }

    /// The same with a wrapper at any path.
    pub fn at<'n>(
        context: &'a Context,
        path: &Path,
        rules: impl IntoIterator<Item = (&'n str, End)>,
    ) -> Result<RecordedShell<'a>, CaseError> {
        let rules = rules
            .into_iter()
            .map(|(name, end)| Rule {
                file_name: name.to_owned(),
                end,
            })
            .collect::<Vec<_>>();
        let plan = Plan {
            record: Some(Record { rules }),
            ..Plan::default()
        };
        let wrapper = Program::with_plan(context, path, plan)?;
        // There is no server: the recording wrapper sends no requests.
        let (_server_end, client_end) = UnixDatagram::pair()?;
        let mut shell = RecordedShell {
            context,
            wrapper,
            dialect: Dialect::of(context),
            variables: Vec::new(),
            socket_number: ESCALATION_DESCRIPTOR,
            socket: client_end.into(),
            patience: context.patience(),
        };
        let path = format!("{}:/usr/bin:/bin", context.path("bin").display());
        shell.set_variable("PATH", Some(path.as_ref()));
        shell.set_variable("HOME", Some(context.work_directory().as_os_str()));
        shell.set_variable("TMPDIR", Some(context.temporary_directory().as_os_str()));
        shell.set_variable("LC_ALL", Some("C.UTF-8".as_ref()));
        let wrapper = shell.wrapper.path.clone();
        shell.set_variable("EXEC_WRAPPER", Some(wrapper.as_os_str()));
        shell.set_socket_number(ESCALATION_DESCRIPTOR);
        Ok(shell)
    }

    /// Sets a variable of the shell's environment; none takes it away. EXEC_WRAPPER is set under the name that the shell knows,
    /// too.
    pub fn set_variable(&mut self, name: &str, value: Option<&OsStr>) {
        let other = &self.context.settings.implementations.wrapper_variable;
        if let (WRAPPER_VARIABLE, Some(other)) = (name, other) {
            self.set_exactly(other, value);
        }
        self.set_exactly(name, value);
    }

    fn set_exactly(&mut self, name: &str, value: Option<&OsStr>) {
        self.variables.retain(|(known, _)| known != name);
        if let Some(value) = value {
            self.variables.push((name.into(), value.to_owned()));
        }
    }

    /// Gives the shell the escalation socket under another number, and says so in CODEX_ESCALATE_SOCKET.
    pub fn set_socket_number(&mut self, number: i32) {
        self.socket_number = number;
        self.set_variable("CODEX_ESCALATE_SOCKET", Some(number.to_string().as_ref()));
    }

    /// For scripts of many commands: the shell may take `factor` times as long as one event.
    pub fn be_patient(&mut self, factor: u32) {
        self.patience = self.context.patience() * factor;
    }

    /// Device and inode of the escalation socket.
    pub fn socket_identity(&self) -> Result<(u64, u64), CaseError> {
        let stat = nix::sys::stat::fstat(&self.socket)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// The path of the shell under test, for scripts that start it again. Without blanks or quotes.
    pub fn shell_path(&self) -> Result<String, CaseError> {
        Ok(self.context.shell()?.display().to_string())
    }

    /// The launch of the shell with these arguments after `argv[0]`; change it, then hand it to [`Self::start`].
    pub fn launch<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Launch, CaseError> {
        let mut launch = self
            .plain_launch(self.context.shell()?, arguments)?
            .descriptor(self.socket_number, self.socket.try_clone()?);
        for (name, value) in &self.variables {
            launch = launch.variable(name, value);
        }
        Ok(launch)
    }

    /// The launch of the stock shell, with the same environment but for the wrapper variables.
    pub fn launch_stock<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Launch, CaseError> {
        self.launch_without_wrapper(stock_shell(self.context)?, arguments)
    }

    /// The launch of the shell under test itself with interception off: without the wrapper variables.
    pub fn launch_unwrapped<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Launch, CaseError> {
        self.launch_without_wrapper(self.context.shell()?, arguments)
    }

    fn launch_without_wrapper<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Launch, CaseError> {
        let mut launch = self.plain_launch(program, arguments)?;
        for (name, value) in &self.variables {
            if !is_wrapper_variable(name.as_encoded_bytes()) {
                launch = launch.variable(name, value);
            }
        }
        Ok(launch)
    }

    /// The stock shell gets the same argv[0], for it appears in messages.
    fn plain_launch<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Launch, CaseError> {
        let mut vector = vec![self.context.shell()?.as_os_str().to_owned()];
        vector.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        Ok(Launch::new(program, self.context.work_directory()).arguments(vector))
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
        let (lifeline, their_lifeline) = pipe()?;
        Ok(ShellRun {
            process: launch.descriptor(LIFELINE, their_lifeline).start()?,
            lifeline,
            output,
            error,
            patience: self.patience,
        })
    }

    /// Runs `shell -c SCRIPT` to its end, and to the end of all that it started.
    pub fn run(&self, script: &str) -> Result<Finished, CaseError> {
        self.context.transcript.note(format_args!("shell -c {script:?}"));
        self.start(self.launch(self.command_arguments(script))?)?.finish()
    }

    /// The same in the stock shell.
    pub fn run_stock(&self, script: &str) -> Result<Finished, CaseError> {
        self.context
            .transcript
            .note(format_args!("stock shell -c {script:?}"));
        self.start(self.launch_stock(self.command_arguments(script))?)?
            .finish()
    }

    /// The arguments of `shell -c SCRIPT`, without start-up files of the machine.
    pub fn command_arguments(&self, script: &str) -> Vec<String> {
        let options = self.dialect.plain_options().iter().copied();
        options.chain(["-c", script]).map(str::to_owned).collect()
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
            let arguments = call.report.argument_text();
            self.context
                .transcript
                .note(format_args!("wrapper called: {arguments:?}"));
        }
        Ok(calls)
    }

    /// The only call for a command of that file name.
    pub fn only_call(&self, file_name: &str) -> Result<Call, CaseError> {
        let mut calls = self.calls()?;
        calls.retain(|call| call.file_name() == file_name);
        match (calls.pop(), calls.len()) {
            (Some(call), 0) => Ok(call),
            (None, _) => Err(self.missing(
                &format!("{file_name} goes to the wrapper once"),
                "it did not go to the wrapper",
            )?),
            (Some(_), more) => Err(violation(
                format_args!("{file_name} goes to the wrapper once"),
                format_args!("{} times", more + 1),
            )),
        }
    }

    /// Demands that the wrapper was called for commands of exactly these file names, in this order.
    pub fn expect_calls(&self, file_names: &[&str]) -> Verdict {
        self.expect_names(file_names, self.called_names()?)
    }

    /// Demands that the wrapper was called for commands of exactly these file names, in any order.
    pub fn expect_calls_in_any_order(&self, file_names: &[&str]) -> Verdict {
        let mut expected = file_names.to_vec();
        expected.sort_unstable();
        let mut names = self.called_names()?;
        names.sort();
        self.expect_names(&expected, names)
    }

    /// All calls of the wrapper so far, of which there must be one at least.
    ///
    /// # Errors
    /// A violation if there is none, that is, if the shell is not patched at all.
    pub fn some_calls(&self) -> Result<Vec<Call>, CaseError> {
        let calls = self.calls()?;
        if calls.is_empty() {
            return Err(self.missing("commands go to the wrapper", "none of them did")?);
        }
        Ok(calls)
    }

    /// Demands that the wrapper was not called since the recorder began.
    pub fn expect_no_call(&self) -> Verdict {
        self.expect_calls(&[])
    }

    fn called_names(&self) -> Result<Vec<String>, CaseError> {
        Ok(self.calls()?.iter().map(Call::file_name).collect())
    }

    fn expect_names(&self, expected: &[&str], names: Vec<String>) -> Verdict {
        if names.len() < expected.len() {
            return Err(self.missing(
                &format!("commands that go to the wrapper: {expected:?}"),
                &format!("commands that went to the wrapper: {names:?}"),
            )?);
        }
        expect::equal("commands that went to the wrapper", expected, names.as_slice())
    }

    /// The violation where a call is missing: of the case's requirement, or that the shell isn't patched.
    fn missing(&self, expected: &str, observed: &str) -> Result<CaseError, CaseError> {
        if self.wrapper.starts()?.is_empty() && !is_patched(self.context)? {
            let shell = self.shell_path()?;
            return Ok(violation(
                "a shell that executes the wrapper of EXEC_WRAPPER in place of a command",
                format_args!("{shell} is not patched: it executes commands without the wrapper"),
            ));
        }
        Ok(violation(expected, observed))
    }
}

/// Where a patched shell finds its wrapper.
const WRAPPER_VARIABLE: &str = "EXEC_WRAPPER";

/// Whether the shell under test hands the simplest of all scripts, one command, to its wrapper.
pub fn is_patched(context: &Context) -> Result<bool, CaseError> {
    let shell = RecordedShell::new(context)?;
    let name = format!("any-command-{}", context.next_number());
    let command = Program::new(context, &name, [])?;
    shell.run(&format!("{} argument\nexit\n", command.text()))?;
    Ok(!shell.wrapper.starts()?.is_empty())
}

/// The stock shell, or the shell under test where none is given.
pub fn stock_shell(context: &Context) -> Result<&Path, CaseError> {
    match &context.settings.implementations.stock_shell {
        Some(path) => Ok(path),
        None => context.shell(),
    }
}

/// Whether a name (or an entry that begins with it) is one of the three wrapper variables.
pub fn is_wrapper_variable(entry: &[u8]) -> bool {
    let name = entry.split(|byte| *byte == b'=').next().unwrap_or_default();
    [
        &b"EXEC_WRAPPER"[..],
        b"BASH_EXEC_WRAPPER",
        b"CODEX_ESCALATE_SOCKET",
    ]
    .contains(&name)
}

/// A running shell.
pub struct ShellRun {
    /// The process.
    pub process: Launched,
    lifeline: File,
    output: PathBuf,
    error: PathBuf,
    patience: Duration,
}

impl ShellRun {
    /// Waits for its end, and for the end of all that it started.
    pub fn finish(&mut self) -> Result<Finished, CaseError> {
        let ended = self.process.wait("the shell", self.patience)?;
        self.expect_all_ended()?;
        let read = |path: &PathBuf| {
            if path.exists() {
                fs::read(path)
            } else {
                Ok(Vec::new())
            }
        };
        Ok(Finished {
            what: "the shell",
            ended,
            output: read(&self.output)?,
            error: read(&self.error)?,
        })
    }

    fn expect_all_ended(&mut self) -> Verdict {
        let deadline = Moment::now() + self.patience;
        if !readable_until(&self.lifeline, deadline)? {
            return Err(violation(
                "what the script started ends",
                format_args!(
                    "{:?} after the shell's end the pipe that all of it inherited is {}",
                    self.patience,
                    of_other_end(&self.lifeline)
                ),
            ));
        }
        let mut written = Vec::new();
        self.lifeline.read_to_end(&mut written)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapper_variables_are_told_by_their_whole_name() {
        assert!(is_wrapper_variable(b"EXEC_WRAPPER=/w"));
        assert!(is_wrapper_variable(b"EXEC_WRAPPER"));
        assert!(!is_wrapper_variable(b"EXEC_WRAPPER_2=/w"));
        assert!(!is_wrapper_variable(b"X=EXEC_WRAPPER"));
    }
}
