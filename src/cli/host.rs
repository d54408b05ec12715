//! A server as the command line's options describe it: what `run`, `shell` and `mcp` share.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::Args;
use shell_escalation::{
    Approver, AuditLog, EscalateServer, Limits, LocalExecutor, PolicyFile, Profile, SandboxedExecutor,
};

use super::confined::Confined;
use super::denials::Noting;
use super::locate;
use super::rules::Rules;

/// The options that say how commands are executed and decided.
#[derive(Args)]
pub(super) struct HostOptions {
    /// Policy file (TOML) that decides about every command, see `shell-escalation help-policy` [default: run everything in
    /// the sandbox]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    rules: Rules,
    /// What the shell is confined to: read-only, workspace-write (the current directory is writable, except its .git; no
    /// network), full-access (no sandbox), or a profile of the policy file
    #[arg(long, value_name = "PROFILE", default_value = "workspace-write")]
    sandbox: String,
    /// Refuse to start if this system can't hold everything that the profile promises
    #[arg(long)]
    sandbox_strict: bool,
    /// Another file or folder that the sandbox may write to (repeatable)
    #[arg(long, value_name = "PATH")]
    writable: Vec<PathBuf>,
    /// Patched shell [default: SHELL_ESCALATION_SHELL, then one next to this program]
    #[arg(long, value_name = "PATH")]
    shell: Option<PathBuf>,
    /// Wrapper that the shell executes for every command [default: SHELL_ESCALATION_WRAPPER, then
    /// `execve-wrapper` next to this program]
    #[arg(long, value_name = "PATH")]
    wrapper: Option<PathBuf>,
    /// Append one line of JSON per request to this file, two if it is escalated; if that fails, refuse to escalate
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Do not start a login shell
    #[arg(long)]
    pub(super) no_login: bool,
}

/// A server, and what else is known of its shells.
#[cfg_attr(
    not(feature = "mcp"),
    expect(dead_code, reason = "only `mcp` needs to know more of its shells")
)]
pub(super) struct Host {
    pub(super) server: EscalateServer,
    /// The environment that they get.
    pub(super) env: Vec<(OsString, OsString)>,
    /// The program.
    pub(super) shell: PathBuf,
    /// What they are confined to.
    pub(super) confined: Confined,
    /// Whether a command was denied.
    pub(super) denied: Arc<AtomicBool>,
}

impl HostOptions {
    /// The server, whose shells `executor` starts, by default in `workspace`. The approver is made for the environment that
    /// shells get.
    pub(super) fn host<A: Approver>(
        &self,
        executor: LocalExecutor,
        workspace: &Path,
        inherited_open_files: Option<(u64, u64)>,
        approver: impl FnOnce(Vec<(OsString, OsString)>) -> A,
    ) -> anyhow::Result<Host> {
        let shell = locate::shell(self.shell.clone())?;
        let wrapper = locate::wrapper(self.wrapper.clone())?;
        let audit = self
            .audit
            .as_ref()
            .map(|path| AuditLog::open(path).with_context(|| format!("--audit {}", path.display())));
        let audit = audit.transpose()?;
        let policy = self.rules.policy(self.policy.as_deref())?;
        let profile = profile(&policy, &self.sandbox, &self.writable)?;
        let executor = self.sandboxed(
            executor.open_files(inherited_open_files),
            &policy,
            &profile,
            workspace,
        )?;
        let mut env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        if let Some(folder) = executor.temporary_folder() {
            env.retain(|(name, _)| name != "TMPDIR");
            env.push(("TMPDIR".into(), folder.into()));
        }
        let policy = policy
            .with_approver(approver(env.clone()))
            .with_notices(|line| eprintln!("shell-escalation: {line}"));
        let denied = Arc::default();
        let policy = Noting {
            policy,
            denied: Arc::clone(&denied),
        };
        let mut limits = Limits::default();
        limits.child_open_files = inherited_open_files;
        let mut server = EscalateServer::new(&shell, wrapper, policy)
            .with_limits(limits)
            // The shells of `run` and `shell` stand in for this process, in its group; those of `mcp` have groups of their own.
            .sharing_process_group(true)
            .with_executor(executor);
        if let Some(log) = audit {
            server = server.with_audit(log);
        }
        Ok(Host {
            server,
            env,
            shell,
            confined: Confined::new(&self.sandbox, profile, workspace),
            denied,
        })
    }

    /// Puts the sandbox around what `executor` starts.
    fn sandboxed(
        &self,
        executor: LocalExecutor,
        policy: &PolicyFile,
        profile: &Profile,
        workspace: &Path,
    ) -> anyhow::Result<SandboxedExecutor<LocalExecutor>> {
        let name = &self.sandbox;
        if !profile.confines() {
            anyhow::ensure!(
                !self.sandbox_strict && self.writable.is_empty(),
                "--sandbox {name} confines nothing, so --sandbox-strict and --writable have no effect"
            );
            eprintln!("shell-escalation: no sandbox: commands may do all that you may (--sandbox {name})");
        }
        let sandboxed = sandboxed(executor, workspace, name, profile, policy.profiles_of_rules())
            .with_context(|| format!("--sandbox {name}"))?;
        let files = self.policy.iter().chain(self.rules.files()).chain(&self.audit);
        Ok(files
            .fold(sandboxed, |sandboxed, file| sandboxed.protecting(file))
            .with_notices(|line| eprintln!("shell-escalation: {line}"))
            .strict(self.sandbox_strict))
    }
}

/// The profile of `--sandbox`, with what `--writable` names.
pub(super) fn profile(policy: &PolicyFile, name: &str, writable: &[PathBuf]) -> anyhow::Result<Profile> {
    let profile = policy.profile(name).with_context(|| {
        format!(
            "--sandbox {name}: no such profile; expected read-only, workspace-write, full-access, or a [profile.{name}] in \
             the policy file"
        )
    })?;
    Ok(writable.iter().cloned().fold(profile, Profile::with_write))
}

/// Puts a sandbox around what `executor` starts: shells in `profile`, and what decisions escalate into one of `others`.
///
/// # Errors
/// As for [`SandboxedExecutor::new`].
pub(super) fn sandboxed(
    executor: LocalExecutor,
    workspace: &Path,
    name: &str,
    profile: &Profile,
    others: impl IntoIterator<Item = (String, Profile)>,
) -> std::io::Result<SandboxedExecutor<LocalExecutor>> {
    let mut sandboxed = SandboxedExecutor::new(executor, workspace, name, profile)?;
    for (name, profile) in others {
        sandboxed = sandboxed.with_profile(name, &profile)?;
    }
    // It is executed outside of a sandbox, so none may ever have written it.
    if let Some(launcher) = locate::launcher().filter(|path| !sandboxed.may_write(path)) {
        sandboxed = sandboxed.with_launcher(launcher);
    }
    Ok(sandboxed)
}
