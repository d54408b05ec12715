//! A sandbox for what the suite starts in sessions, so that its cases can be tried below one.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use shell_escalation::{
    LocalExecutor, Profile, SandboxedExecutor, ShellCommandExecutor, ShellStart, StandardStreams,
};

use super::super::host::sandboxed;

/// How the shim's shells are confined.
#[derive(Args)]
pub(super) struct SandboxOptions {
    /// Confine the shells of sessions, one-shot commands and terminals to read-only, workspace-write (their working directory is
    /// writable; no network) or full-access (no sandbox). Cases that need more than the profile allows then fail
    #[arg(long, value_name = "PROFILE", default_value = "full-access")]
    sandbox: String,
    /// Another file or folder that the sandbox may write to (repeatable)
    #[arg(long, value_name = "PATH")]
    writable: Vec<PathBuf>,
}

/// What a sandbox needs as long as a shell in it lives: its folder for temporary files.
pub(super) struct Confined {
    _executor: SandboxedExecutor<LocalExecutor>,
}

/// What shells are confined to.
pub(super) struct Sandbox {
    name: String,
    profile: Profile,
}

impl SandboxOptions {
    /// The sandbox of the options.
    pub(super) fn sandbox(self) -> anyhow::Result<Sandbox> {
        let name = self.sandbox;
        let profile = Profile::built_in(&name).with_context(|| {
            format!("--sandbox {name}: no such profile; expected read-only, workspace-write or full-access")
        })?;
        anyhow::ensure!(
            profile.confines() || self.writable.is_empty(),
            "--sandbox {name} confines nothing, so --writable has no effect"
        );
        let profile = self.writable.into_iter().fold(profile, Profile::with_write);
        Ok(Sandbox { name, profile })
    }
}

impl Sandbox {
    /// Whether it is any.
    pub(super) fn confines(&self) -> bool {
        self.profile.confines()
    }

    /// Puts the sandbox around what `executor` starts, in this workspace.
    pub(super) fn around(
        &self,
        executor: LocalExecutor,
        workspace: &Path,
    ) -> std::io::Result<SandboxedExecutor<LocalExecutor>> {
        sandboxed(executor, workspace, &self.name, &self.profile, [])
    }

    /// Puts it around a shell that this process starts itself. `Confined` is what the sandbox needs as long as that lives.
    pub(super) fn confine(
        &self,
        shell: ShellStart,
        workspace: &Path,
    ) -> std::io::Result<(ShellStart, Confined)> {
        let executor = self.around(LocalExecutor::new(StandardStreams::Captured), workspace)?;
        let shell = executor.confine(shell)?;
        Ok((shell, Confined { _executor: executor }))
    }
}
