//! An executor that puts a sandbox around what another one starts.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::plan::{Plan, Resolved};
use crate::confinement::{Execution, Profile};
use crate::execution::{
    Influence, Launcher, PreparedExec, ShellCommand, ShellCommandExecutor, ShellOutput, ShellStart, Target,
    Told, Writers,
};

/// Starts shells in a sandbox, by way of another executor, and the escalated commands that a decision wants in one.
///
/// Its launcher is this same program, executed again: the program's `main` must begin with
/// [`launch_if_asked`](crate::launch_if_asked). Or [name](Self::with_launcher) another one, such as the binary
/// `shell-escalation`.
///
/// ```no_run
/// use shell_escalation::{EscalateServer, LocalExecutor, PolicyFile, Profile, SandboxedExecutor, StandardStreams};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     shell_escalation::launch_if_asked();
///     let executor = LocalExecutor::new(StandardStreams::Captured);
///     let profile = Profile::workspace_write().with_network(true);
///     let executor = SandboxedExecutor::new(executor, "/home/me/project", "with-network", &profile)?;
///     let policy = PolicyFile::run_everything();
///     let server = EscalateServer::new("/usr/libexec/bash", "/usr/libexec/execve-wrapper", policy)
///         .with_executor(executor);
///     // ...
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct SandboxedExecutor<E> {
    inner: E,
    launcher: PathBuf,
    workspace: PathBuf,
    /// Where temporary files of sandboxed processes go.
    temporary: TempDir,
    /// Name of the shells' profile.
    shell: String,
    profiles: BTreeMap<String, Option<Resolved>>,
    protected: Vec<PathBuf>,
    strict: bool,
    told: Arc<Told>,
}

impl<E: ShellCommandExecutor> SandboxedExecutor<E> {
    /// Shells that `inner` starts, confined to `profile`, whose relative paths are relative to `workspace`, an absolute path.
    /// `name` is what messages call the profile.
    ///
    /// # Errors
    /// When a path of the profile doesn't exist, a sandbox may not write to it, or no folder for temporary files can be made.
    pub fn new(
        inner: E,
        workspace: impl Into<PathBuf>,
        name: impl Into<String>,
        profile: &Profile,
    ) -> io::Result<Self> {
        let name = name.into();
        let temporary = tempfile::Builder::new()
            .prefix("sandbox-")
            // As private as what mktemp(1) makes.
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        let executor = Self {
            inner,
            launcher: PathBuf::from("/proc/self/exe"),
            workspace: workspace.into(),
            temporary,
            shell: name.clone(),
            profiles: BTreeMap::new(),
            protected: Vec::new(),
            strict: false,
            told: Arc::default(),
        };
        executor.with_profile(name, profile)
    }

    /// Another profile, for decisions to name.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_profile(mut self, name: impl Into<String>, profile: &Profile) -> io::Result<Self> {
        let resolved = if profile.confines() {
            let temporary = std::fs::canonicalize(self.temporary.path())?;
            Some(Resolved::new(profile, &self.workspace, &temporary)?)
        } else {
            None
        };
        self.profiles.insert(name.into(), resolved);
        Ok(self)
    }

    /// Executes this program, whose `main` begins with [`launch_if_asked`](crate::launch_if_asked), as the launcher: outside of
    /// any sandbox, so [no profile may write to it](Self::may_write). It is to be of this version of the library.
    #[must_use]
    pub fn with_launcher(mut self, program: impl Into<PathBuf>) -> Self {
        self.launcher = program.into();
        self
    }

    /// Whether any of the profiles lets this file or folder, a path without symbolic links, be written.
    #[must_use]
    pub fn may_write(&self, path: &Path) -> bool {
        let mut confining = self.profiles.values().flatten();
        confining.any(|profile| profile.writes(path))
    }

    /// Keeps a file or folder from being written, wherever it is: policy files, logs. One that doesn't exist is ignored.
    #[must_use]
    pub fn protecting(mut self, path: &Path) -> Self {
        self.protected.extend(std::fs::canonicalize(path));
        // A symbolic link to it could be exchanged. That can't be kept, and is said.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = std::fs::canonicalize(folder.unwrap_or(Path::new(".")));
        if let (true, Ok(folder), Some(name)) = (path.is_symlink(), folder, path.file_name()) {
            self.protected.push(folder.join(name));
        }
        self
    }

    /// Starts nothing unless the kernel can hold all of a profile. Without this, only what a profile says about files has to be
    /// held; about the rest, shells begin with a line on standard error.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Passes to `notices` what the author of a policy should know of scripts that are executed
    /// [in place](crate::Decision::in_place): one line per script that sandboxed processes can write to, and per name that they can
    /// make lead elsewhere, each once and of each executor a few.
    #[must_use]
    pub fn with_notices(mut self, notices: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.told = Arc::new(Told::by(Box::new(notices)));
        self
    }

    /// What there is to say if the file that `workdir` and `file` lead to, which is `canonical` without symbolic links, is a script
    /// that is executed [in place](crate::Decision::in_place): that sandboxed processes can write to it, or that it is executed from
    /// a copy since they can make its name lead elsewhere. Blocks as long as the file systems do.
    #[must_use]
    pub fn doubt_about(
        &self,
        canonical: &Path,
        workdir: &Path,
        file: &OsStr,
        execution: &Execution,
    ) -> Option<String> {
        let influence = self.writers(execution)?.influence(canonical, workdir, file)?;
        (influence != Influence::None).then(|| influence.to_string())
    }

    /// The processes that may do less than what is executed so. `None` where shells may do everything.
    fn writers(&self, execution: &Execution) -> Option<Writers> {
        let shell = self.profiles.get(&self.shell)?.as_ref()?;
        let own = match execution {
            Execution::Unsandboxed => None,
            Execution::SameSandbox => Some(shell),
            Execution::Profile(name) => self.profiles.get(name)?.as_ref(),
        };
        let others = self.profiles.values().flatten();
        let less = others.filter(|other| own.is_none_or(|own| !own.is_within(other)));
        let roots = less.flat_map(|other| other.written()).cloned().collect();
        Some(Writers::new(roots, Arc::clone(&self.told)))
    }

    /// The folder for temporary files that TMPDIR names in shells, if their profile has one.
    #[must_use]
    pub fn temporary_folder(&self) -> Option<&Path> {
        self.writes_temporary(&self.shell).then(|| self.temporary.path())
    }

    /// The launcher for a profile; `None` if that confines nothing.
    fn launcher(&self, name: &str, says: bool, needed: &[PathBuf]) -> io::Result<Option<Launcher>> {
        let profile = self.profiles.get(name).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("no sandbox profile is called {name:?}"),
            )
        })?;
        Ok(profile.as_ref().map(|resolved| {
            let plan = Plan {
                strict: self.strict,
                says,
                ..resolved.plan(name, &self.protected, needed)
            };
            Launcher {
                program: self.launcher.clone(),
                plan: serde_json::to_string(&plan).expect("a plan is JSON"),
            }
        }))
    }

    /// A shell behind the launcher for its profile, if that confines anything.
    fn confined(&self, mut shell: ShellStart) -> io::Result<ShellStart> {
        let name = &self.shell;
        // What the shell can't do without, whatever the profile lets be read.
        let wrapper = shell.env.iter().find(|(name, _)| name == "EXEC_WRAPPER");
        let wrapper = wrapper.map(|(_, path)| PathBuf::from(path));
        let needed = wrapper.iter().chain([&shell.program]);
        // One that isn't there is complained about when it is executed.
        let needed: Vec<PathBuf> = needed
            .filter_map(|path| std::fs::canonicalize(path).ok())
            .collect();
        if let Some(launcher) = self.launcher(name, true, &needed)? {
            if self.writes_temporary(name) {
                self.with_temporary(&mut shell.env);
            }
            let target = Target {
                file: shell.program.into(),
                opened: None,
                keep: [0, 1, 2]
                    .into_iter()
                    .chain(shell.descriptors.iter().copied())
                    .collect(),
            };
            shell.argv = launcher.arguments(&target, std::mem::take(&mut shell.env), shell.argv);
            shell.program = launcher.program;
        }
        Ok(shell)
    }

    fn with_temporary(&self, env: &mut Vec<(OsString, OsString)>) {
        env.retain(|(name, _)| name != "TMPDIR");
        env.push(("TMPDIR".into(), self.temporary.path().into()));
    }

    fn writes_temporary(&self, name: &str) -> bool {
        let profile = self.profiles.get(name).and_then(Option::as_ref);
        profile.is_some_and(|profile| profile.writes(self.temporary.path()))
    }
}

impl<E: ShellCommandExecutor> ShellCommandExecutor for SandboxedExecutor<E> {
    async fn run(&self, mut command: ShellCommand) -> io::Result<ShellOutput> {
        let socket = vec![command.socket.number()];
        let shell = ShellStart::new(command.program, command.argv, command.env, socket);
        let confined = self.confined(shell)?;
        (command.program, command.argv, command.env) = (confined.program, confined.argv, confined.env);
        self.inner.run(command).await
    }

    fn confine(&self, shell: ShellStart) -> io::Result<ShellStart> {
        self.confined(self.inner.confine(shell)?)
    }

    async fn prepare(&self, exec: PreparedExec) -> io::Result<PreparedExec> {
        let mut exec = self.inner.prepare(exec).await?;
        if exec.in_place {
            exec.writers = self.writers(&exec.execution);
        }
        let name = match &exec.execution {
            Execution::Unsandboxed => return Ok(exec),
            Execution::SameSandbox => self.shell.clone(),
            Execution::Profile(name) => name.clone(),
        };
        exec.launcher = self.launcher(&name, false, &[])?;
        if exec.launcher.is_none() {
            exec.execution = Execution::Unsandboxed;
        } else if self.writes_temporary(&name) {
            self.with_temporary(&mut exec.env);
        }
        Ok(exec)
    }
}
