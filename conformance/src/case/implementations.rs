//! What a run judges: paths and command lines, looked at before the first case.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::spec::requirements::Role;

/// The extensions of the wire (SPEC.md, section 5).
pub const EXTENSIONS: [&str; 5] = ["signals", "bytes", "umask", "group", "inherited"];

/// The capabilities that a shim may name (HARNESS.md), the extensions of the wire among them.
pub const CAPABILITIES: [&str; 13] = [
    "session",
    "cancel",
    "exec",
    "unrelated",
    "signals",
    "bytes",
    "umask",
    "stopped",
    "group",
    "inherited",
    "terminals",
    "approvals",
    "tools",
];

/// What is judged. A role without an implementation is played by the suite.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Implementations {
    /// The patched shell.
    pub shell: Option<PathBuf>,
    /// First line of its `--version`.
    pub shell_version: Option<String>,
    /// The stock shell of the same version, where one is at hand.
    pub stock_shell: Option<PathBuf>,
    /// The variable in which the patched shell looks for its wrapper, if it isn't EXEC_WRAPPER.
    #[serde(default)]
    pub wrapper_variable: Option<String>,
    /// The wrapper.
    pub wrapper: Option<PathBuf>,
    /// The extensions that the wrapper was seen to have.
    #[serde(default)]
    pub wrapper_extensions: Vec<String>,
    /// Why nothing could be seen of the wrapper's extensions, where it got in the way of that.
    #[serde(default)]
    pub not_observed: Option<String>,
    /// The shim's command line.
    pub server: Option<Vec<String>>,
    /// The command line as it was given.
    pub server_command: Option<String>,
    /// What `initialize` said the implementation is called.
    pub server_name: Option<String>,
    /// Its version.
    pub server_version: Option<String>,
    /// What the shim says it supports.
    pub capabilities: Vec<String>,
}

impl Implementations {
    /// Checks what was named on the command line.
    ///
    /// # Errors
    /// Says which option names something that cannot be judged, and why.
    pub fn named(
        shell: Option<&Path>,
        wrapper: Option<&Path>,
        server: Option<&str>,
    ) -> anyhow::Result<Implementations> {
        let mut named = Implementations::default();
        if let Some(path) = shell {
            named.shell = Some(executable("--shell", path)?);
        }
        if let Some(path) = wrapper {
            named.wrapper = Some(executable("--wrapper", path)?);
        }
        if let Some(command) = server {
            let mut words = shlex::split(command)
                .filter(|words| !words.is_empty())
                .with_context(|| {
                    format!("--server {command:?}: not a command line (is a quote unbalanced?)")
                })?;
            if words[0].contains('/') {
                words[0] = executable("--server", Path::new(&words[0]))?
                    .into_os_string()
                    .into_string()
                    .map_err(|path| anyhow::anyhow!("--server {}: the path is not UTF-8", path.display()))?;
            } else {
                words[0] = find_in_path(&words[0])
                    .with_context(|| format!("--server {command:?}: no {} in PATH", words[0]))?;
            }
            named.server = Some(words);
            named.server_command = Some(command.to_owned());
        }
        Ok(named)
    }

    /// The roles whose cases can run.
    pub fn roles(&self) -> Vec<Role> {
        let mut roles = Vec::new();
        if self.wrapper.is_some() {
            roles.push(Role::Wrapper);
        }
        if self.server.is_some() {
            roles.push(Role::Server);
        }
        if self.shell.is_some() {
            roles.push(Role::Shell);
        }
        if roles.len() == 3 {
            roles.push(Role::E2e);
        }
        roles
    }

    /// The wrapper's extensions, or "none".
    pub fn shown_extensions(&self) -> String {
        match &self.not_observed {
            Some(why) => format!("none could be seen: {why}"),
            None if self.wrapper_extensions.is_empty() => "none".to_owned(),
            None => self.wrapper_extensions.join(" "),
        }
    }

    /// Names the stock shell that the shell under test is compared with.
    ///
    /// # Errors
    /// Where it cannot be executed.
    pub fn with_stock_shell(mut self, path: Option<&Path>) -> anyhow::Result<Implementations> {
        self.stock_shell = path.map(|path| executable("--stock-shell", path)).transpose()?;
        Ok(self)
    }

    /// Names the variable in which the shell under test looks for its wrapper.
    ///
    /// # Errors
    /// Where no variable can be called that.
    pub fn with_wrapper_variable(mut self, name: Option<&str>) -> anyhow::Result<Implementations> {
        if let Some(name) = name {
            let in_names = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
            let is_name =
                name.bytes().all(in_names) && !name.bytes().next().is_none_or(|byte| byte.is_ascii_digit());
            anyhow::ensure!(is_name, "--wrapper-variable {name:?}: not the name of a variable");
        }
        self.wrapper_variable = name.map(str::to_owned);
        Ok(self)
    }

    /// The options that name these implementations again, quoted for a shell.
    pub fn as_options(&self) -> String {
        let mut options = Vec::new();
        let mut push = |option: &str, value: &str| {
            let quoted =
                shlex::try_quote(value).map_or_else(|_| format!("{value:?}"), |quoted| quoted.into_owned());
            options.push(format!("{option} {quoted}"));
        };
        if let Some(path) = &self.shell {
            push("--shell", &path.to_string_lossy());
        }
        if let Some(path) = &self.stock_shell {
            push("--stock-shell", &path.to_string_lossy());
        }
        if let Some(name) = &self.wrapper_variable {
            push("--wrapper-variable", name);
        }
        if let Some(path) = &self.wrapper {
            push("--wrapper", &path.to_string_lossy());
        }
        if let Some(words) = &self.server {
            let command =
                shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "));
            push("--server", &command);
        }
        options.join(" ")
    }
}

/// The absolute path of an executable file. Symbolic links stay: an implementation may look at its own name.
fn executable(option: &str, path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).with_context(|| format!("{option} {shown}: cannot be judged"))?;
    if !metadata.is_file() {
        bail!("{option} {shown}: not a file; name the executable itself");
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        bail!("{option} {shown}: not executable; chmod +x it, or name another file");
    }
    std::path::absolute(path).with_context(|| format!("{option} {shown}: no absolute path"))
}

/// Where an executable of that name is, by this process's PATH.
pub fn find_in_path(name: &str) -> Option<String> {
    let path = std::env::var("PATH").ok()?;
    path.split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|candidate| executable("--server", candidate).is_ok())
        .and_then(|found| found.into_os_string().into_string().ok())
}
