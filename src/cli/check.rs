//! `check`: what a policy would decide about commands, without a shell and a server.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use shell_escalation::{Execution, LocalExecutor, PolicyFile, PolicyRequest, StandardStreams};

use super::host::{profile, sandboxed};
use super::rules::Rules;

/// Says what would be decided about a command, by which rule, and why.
#[derive(Args)]
pub(super) struct Check {
    /// Policy file (TOML), see `shell-escalation help-policy`
    #[arg(long, value_name = "FILE", required_unless_present = "rules")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    rules: Rules,
    /// What `run` would confine the shell to, for what is said about scripts in place
    #[arg(long, value_name = "PROFILE", default_value = "workspace-write")]
    sandbox: String,
    /// What `run` would let the sandbox write to as well (repeatable)
    #[arg(long, value_name = "PATH")]
    writable: Vec<PathBuf>,
    /// Read commands from this file, or from standard input if it is `-`: one per line, with a shell's quotes, no expansions
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "command",
        required_unless_present = "command"
    )]
    commands: Option<PathBuf>,
    /// A program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Check {
    pub(super) fn answer(self) -> anyhow::Result<ExitCode> {
        let policy = self.rules.policy(self.policy.as_deref())?;
        let workdir = std::env::current_dir().context("cannot determine the current directory")?;
        let commands = match &self.commands {
            Some(path) => commands(path)?,
            None => vec![self.command.clone()],
        };
        for command in &commands {
            self.explain(&policy, command, &workdir);
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Check {
    fn explain(&self, policy: &PolicyFile, command: &[OsString], workdir: &Path) {
        let words: Vec<String> = command.iter().map(|word| shown(word)).collect();
        println!("{}", words.join(" "));
        let line = |name: &str, value: &str| println!("  {name:<10}{value}");
        let Some(program) = find(&command[0], workdir) else {
            line("program", "not found: a shell would not ask about it");
            return;
        };
        let mut request = PolicyRequest::new(&program);
        request.argv = command.to_vec();
        request.workdir = workdir.to_owned();
        request.canonical_workdir = std::fs::canonicalize(workdir).ok();
        line("program", &shown(program.as_os_str()));
        if let Some(real) = request.canonical.as_ref().filter(|real| **real != program) {
            line("", &format!("is {}", shown(real.as_os_str())));
        }
        let explanation = policy.explain(&request);
        line("decision", &explanation.to_string());
        line("by", explanation.by.as_deref().unwrap_or("`default`"));
        for step in &explanation.steps {
            line("", &format!("{}: {}", step.rule, step.verdict));
        }
        let escalates = matches!(explanation.action, "escalate" | "prompt");
        if escalates && explanation.in_place && is_script(&program) {
            let said = self.doubt(policy, &request, &explanation.execution, workdir);
            let said = said.unwrap_or_else(|error| Some(format!("{error:#}")));
            said.iter().for_each(|said| line("sandbox", said));
        }
    }

    /// What `run`, started here with the same options, would say about a script in place.
    fn doubt(
        &self,
        policy: &PolicyFile,
        request: &PolicyRequest,
        execution: &Execution,
        workspace: &Path,
    ) -> anyhow::Result<Option<String>> {
        let profile = profile(policy, &self.sandbox, &self.writable)?;
        let executor = LocalExecutor::new(StandardStreams::Captured);
        let profiles = policy.profiles_of_rules();
        let executor = sandboxed(executor, workspace, &self.sandbox, &profile, profiles)?;
        let of = |canonical: &PathBuf| {
            executor.doubt_about(
                canonical,
                &request.workdir,
                request.program.as_os_str(),
                execution,
            )
        };
        Ok(request.canonical.as_ref().and_then(of))
    }
}

/// The commands of a file; lines that are empty or begin with `#` are none.
fn commands(path: &Path) -> anyhow::Result<Vec<Vec<OsString>>> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.with_context(|| format!("--commands {}", path.display()))?;
    let mut commands = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        match shlex::split(line) {
            Some(words) if !words.is_empty() => {
                commands.push(words.into_iter().map(OsString::from).collect())
            }
            _ => bail!(
                "{}:{}:{}: a quote that isn't closed",
                path.display(),
                index + 1,
                line.len() - line.trim_start().len() + 1
            ),
        }
    }
    Ok(commands)
}

/// The file that a shell in `workdir` would execute: a path as it is, a name by PATH.
fn find(program: &OsString, workdir: &Path) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.components().count() > 1 || path.is_absolute() {
        return std::path::absolute(workdir.join(path)).ok();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| workdir.join(folder).join(path))
        .find(|file| nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok() && file.is_file())
}

fn is_script(program: &Path) -> bool {
    // A fifo is opened when another process writes to it, perhaps never.
    if !program.is_file() {
        return false;
    }
    let mut start = [0; 4];
    let read = std::fs::File::open(program).and_then(|mut file| file.read_exact(&mut start));
    // A shorter one is a text.
    start != *b"\x7fELF" && read.map_or_else(|error| error.kind() == ErrorKind::UnexpectedEof, |()| true)
}

fn shown(word: &std::ffi::OsStr) -> String {
    let text = word.display().to_string().escape_debug().to_string();
    match shlex::try_quote(&text) {
        Ok(quoted) => quoted.into_owned(),
        Err(_) => text,
    }
}
