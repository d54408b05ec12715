//! A shell, a wrapper and a server together: a script goes in, the suite decides, a transcript comes out.

pub mod terminal;
pub mod typed;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::peer::dialect::Dialect;
use crate::peer::finished::Finished;
use crate::peer::harness::{Answer, Question, Shim};
use crate::peer::program::Program;
use crate::peer::recording_wrapper::RecordedShell;
use crate::probe::plan::Act;
use crate::shown::shown;
use crate::system::launch::Launch;
use crate::system::process::Ended;
use crate::verdict::{CaseError, Verdict, violation};

/// The decision of a command by the first part of its name: `run-…`, `escalate-…`, `deny-…`. A denial's reason
/// is `no NAME`. What has another name is Run, unless a case says otherwise by [`EndToEnd::decide`].
pub fn decision_by_name(name: &str) -> Answer {
    if name.starts_with("escalate") {
        Answer::Escalate
    } else if name.starts_with("deny") {
        Answer::Deny(Some(format!("no {name}")))
    } else {
        Answer::Run
    }
}

/// The line that a denied command of that name leaves on standard error.
pub fn denial(name: &str) -> String {
    format!("Execution denied: no {name}\n")
}

#[derive(Default)]
struct Policy {
    decisions: HashMap<String, Answer>,
    asked: Vec<Question>,
}

/// The three implementations, with the suite as caller and policy.
pub struct EndToEnd<'a> {
    context: &'a Context,
    /// The server.
    pub shim: Shim,
    /// The language of the shell.
    pub dialect: Dialect,
    policy: Arc<Mutex<Policy>>,
    sessions: u32,
    patience: Duration,
}

impl<'a> EndToEnd<'a> {
    /// Starts the server; decisions are by name.
    pub fn new(context: &'a Context) -> Result<EndToEnd<'a>, CaseError> {
        EndToEnd::on(context, |launch| launch)
    }

    /// The same with a server whose launch is changed.
    pub fn on(
        context: &'a Context,
        change: impl FnOnce(Launch) -> Launch,
    ) -> Result<EndToEnd<'a>, CaseError> {
        let shim = Shim::start_with(context, change)?;
        let policy = Arc::new(Mutex::new(Policy::default()));
        shim.decide_by({
            let policy = policy.clone();
            move |question| {
                let mut policy = policy.lock().unwrap_or_else(PoisonError::into_inner);
                policy.asked.push(question.clone());
                let name = file_name(&question.program);
                let decided = policy.decisions.get(name).cloned();
                decided.unwrap_or_else(|| decision_by_name(name))
            }
        });
        Ok(EndToEnd {
            context,
            shim,
            dialect: Dialect::of(context),
            policy,
            sessions: 0,
            patience: context.patience(),
        })
    }

    /// From now on commands of that name get this decision.
    pub fn decide(&self, name: &str, answer: Answer) {
        self.policy().decisions.insert(name.to_owned(), answer);
    }

    /// What the policy has been asked since the last call of this, in order.
    pub fn take_asked(&self) -> Vec<Question> {
        std::mem::take(&mut self.policy().asked)
    }

    fn policy(&self) -> std::sync::MutexGuard<'_, Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For scripts of many commands: the shell may take `factor` times as long as one event.
    pub fn be_patient(&mut self, factor: u32) {
        self.patience = self.context.patience() * factor;
    }

    /// Runs `shell -c SCRIPT` in a session of its own, to the end of the shell, and closes the session.
    pub fn run(&mut self, script: &str) -> Result<Finished, CaseError> {
        let plain = self.dialect.plain_options().iter().copied();
        let arguments: Vec<&str> = plain.chain(["-c", script]).collect();
        self.run_shell(&arguments)
    }

    /// The same with any arguments of the shell.
    pub fn run_shell(&mut self, arguments: &[&str]) -> Result<Finished, CaseError> {
        let shell = self.context.shell()?.display().to_string();
        let argv: Vec<&str> = std::iter::once(shell.as_str())
            .chain(arguments.iter().copied())
            .collect();
        let session = self.start_session()?;
        let (output, error) = self.output_files();
        let pid = self.spawn(&session, &argv, None, &output, &error)?;
        let ended = self.wait(&session, pid)?;
        self.shim.close_session(&session)?;
        Ok(Finished {
            what: "the shell",
            ended,
            output: fs::read(&output)?,
            error: fs::read(&error)?,
        })
    }

    /// Starts a session of the shell and the wrapper under test; gives its name.
    pub fn start_session(&mut self) -> Result<String, CaseError> {
        self.sessions += 1;
        let session = format!("session-{}", self.sessions);
        let shell = self.context.shell()?.display().to_string();
        let wrapper = self.context.wrapper()?.display().to_string();
        self.shim.start_session(&session, &shell, &wrapper)?;
        Ok(session)
    }

    /// New paths for a standard output and a standard error; a failed case shows the latter's tail.
    pub fn output_files(&self) -> (std::path::PathBuf, std::path::PathBuf) {
        let number = self.context.next_number();
        (
            self.context.path(&format!("stdout-{number}")),
            self.context.path(&format!("shell-{number}.stderr")),
        )
    }

    /// The environment of the suite's shells, before the overlay.
    pub fn base_environment(&self) -> Value {
        let context = self.context;
        json!({
            "PATH": format!("{}:/usr/bin:/bin", context.path("bin").display()),
            "HOME": context.work_directory(),
            "TMPDIR": context.temporary_directory(),
            "LC_ALL": "C.UTF-8",
        })
    }

    /// Spawns a program in a session, in the work directory.
    pub fn spawn(
        &mut self,
        session: &str,
        argv: &[&str],
        input: Option<&Path>,
        output: &Path,
        error: &Path,
    ) -> Result<i64, CaseError> {
        let mut params = json!({
            "session": session,
            "argv": argv,
            "cwd": self.context.work_directory(),
            "env": self.base_environment(),
            "stdout": output,
            "stderr": error,
        });
        if let Some(input) = input {
            params["stdin"] = json!(input);
        }
        self.spawn_by(params)
    }

    /// Spawns by any params of `session/spawn`.
    pub fn spawn_by(&mut self, params: Value) -> Result<i64, CaseError> {
        let result = self.shim.call("session/spawn", params)?;
        result["pid"]
            .as_i64()
            .ok_or_else(|| violation("a pid, a number", &result))
    }

    /// Waits for the end of a spawned program.
    pub fn wait(&mut self, session: &str, pid: i64) -> Result<Ended, CaseError> {
        let params = json!({"session": session, "pid": pid});
        let result = self.shim.call_within("session/wait", params, self.patience)?;
        match (result["exit_code"].as_i64(), result["signal"].as_i64()) {
            (Some(status), None) => Ok(Ended::Exited(status as i32)),
            (None, Some(signal)) => Ok(Ended::Killed(signal as i32)),
            _ => Err(violation("session/wait gives exit_code or signal", &result)),
        }
    }

    /// Ends the server.
    pub fn shutdown(mut self) -> Verdict {
        self.shim.shutdown()
    }
}

/// Runs `shell -c SCRIPT` in the stock shell, in the same directory with the same environment but without
/// wrapper and server.
pub fn run_stock(context: &Context, script: &str) -> Result<Finished, CaseError> {
    let shell = RecordedShell::new(context)?;
    shell.run_stock(script)
}

/// The last part of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Commands `bin/NAME` that do what their arguments say.
pub fn commands<'a>(
    context: &Context,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Program>, CaseError> {
    names
        .into_iter()
        .map(|name| Program::new(context, name, [Act::Arguments]))
        .collect()
}

/// Demands a script's whole transcript: standard output, the lines of standard error in any order (the
/// elements of a pipeline write when they will), and the exit status.
pub fn expect_transcript(script: &str, result: &Finished, output: &str, error: &str, status: i32) -> Verdict {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    expect::equal(
        &format!("standard output, lines of standard error and end of {script:?}"),
        (output.to_owned(), sorted(error), Ended::Exited(status)),
        (result.output_text(), sorted(&result.error_text()), result.ended),
    )
}

/// Runs a script that ends the whole case: one server, one session.
pub fn run_once(context: &Context, script: &str) -> Result<Finished, CaseError> {
    let mut all = EndToEnd::new(context)?;
    let result = all.run(script)?;
    all.shutdown()?;
    Ok(result)
}

/// Demands that the script does under each decision for `names` what it does in the stock shell, and that the policy is asked
/// about each of them. What else the script starts is Run.
pub fn same_under_both(context: &Context, script: &str, names: &[&str]) -> Verdict {
    let stock = run_stock(context, script)?;
    let mut all = EndToEnd::new(context)?;
    all.be_patient(3);
    for answer in [Answer::Run, Answer::Escalate] {
        for name in names {
            all.decide(name, answer.clone());
        }
        context
            .transcript
            .note(format_args!("{names:?}: {}", shown(&answer)));
        let result = all.run(script)?;
        let asked = all.take_asked();
        result.expect_as_stock(&format!("{script} ({names:?}: {})", shown(&answer)), &stock)?;
        let unasked: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| !asked.iter().any(|question| file_name(&question.program) == *name))
            .collect();
        expect::equal(
            "commands that the policy was not asked about",
            Vec::<&str>::new(),
            unasked,
        )?;
    }
    all.shutdown()
}

/// Where this program of the system is.
///
/// # Errors
/// The case does not apply where it isn't installed.
pub fn installed(name: &str) -> Result<PathBuf, CaseError> {
    ["/usr/bin", "/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| CaseError::NotApplicable(format!("{name} is not installed in /usr/bin or /bin")))
}
