//! What the tools of a server share.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shell_escalation::EscalateServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::confined::Confined;
use super::link::Link;
use super::sessions::Sessions;

/// What the tools share.
pub(super) struct Workplace {
    pub(super) server: Arc<EscalateServer>,
    /// The shells' environment.
    pub(super) env: Vec<(OsString, OsString)>,
    /// The only shell.
    pub(super) shell: PathBuf,
    /// What shells are confined to.
    pub(super) confined: Confined,
    /// Where commands run unless they say otherwise.
    pub(super) workspace: PathBuf,
    /// Whether shells may be login shells.
    pub(super) login: bool,
    pub(super) approval_time: Duration,
    pub(super) link: Arc<Link>,
    /// What goes on between calls; `None` if the selected tools have none.
    pub(super) sessions: Option<Sessions>,
    /// Cancelled when everything is to end.
    pub(super) ending: CancellationToken,
    /// Calls that are being served.
    pub(super) calls: TaskTracker,
}

impl Workplace {
    /// Ends all commands, and waits until nothing is left of them.
    pub(super) async fn end(&self) {
        self.ending.cancel();
        if let Some(sessions) = &self.sessions {
            sessions.end().await;
        }
        self.calls.close();
        self.calls.wait().await;
    }

    /// The sessions.
    ///
    /// # Errors
    /// When the selected tools have none.
    pub(super) fn sessions(&self) -> Result<&Sessions, String> {
        self.sessions
            .as_ref()
            .ok_or_else(|| "this server has no sessions".to_owned())
    }

    /// The shell, which a call may name but not choose.
    ///
    /// # Errors
    /// When it names another one.
    pub(super) fn shell(&self, named: Option<&str>) -> Result<PathBuf, String> {
        let shell = &self.shell;
        let is_it = |named: &str| Path::new(named) == shell || shell.file_name() == Some(OsStr::new(named));
        match named {
            Some(named) if !is_it(named) => Err(format!(
                "there is no shell {named:?} here: commands run in {} only, which asks the user's policy about every program. \
                 Leave `shell` out",
                shell.display()
            )),
            _ => Ok(shell.clone()),
        }
    }

    /// A directory as a call names it.
    pub(super) fn workdir(&self, named: Option<&str>) -> PathBuf {
        self.workspace
            .join(named.unwrap_or_default())
            .components()
            .collect()
    }

    /// Whether to run a login shell.
    ///
    /// # Errors
    /// When the user has ruled that out.
    pub(super) fn login(&self, wanted: Option<bool>) -> Result<bool, String> {
        match wanted {
            Some(true) if !self.login => {
                Err("login shells are switched off (--no-login): leave `login` out, or pass false".to_owned())
            }
            wanted => Ok(wanted.unwrap_or(self.login)),
        }
    }

    /// What a model should know before it calls a tool.
    pub(super) fn instructions(&self) -> String {
        let shell = self.shell.file_name().unwrap_or_default().display().to_string();
        let mut text = format!(
            "Commands run in {shell}, in the workspace {} unless they say otherwise.",
            self.workspace.display()
        );
        let Some(can) = self.confined.can() else {
            text.push_str(" There is no sandbox: they may do all that the user may.");
            return text;
        };
        text.push_str(&format!(" They run in a sandbox, which {can}."));
        text.push_str(
            " A program that fails with `Permission denied`, `Read-only file system` or `Operation not permitted`, or finds no \
             server or host, may have been refused by the sandbox; the user's policy decides which programs run outside of it.",
        );
        text
    }
}
