//! From a wrapper's first message to the question for the policy, and from the decision to the command.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::core::SessionCore;
use super::error::RequestError;
use crate::execution::{FilesAtDecision, PreparedExec};
use crate::policy::{Decision, FileStamp, PolicyRequest};
use crate::protocol::Request;

/// A request whose files have been looked at.
#[derive(Debug)]
pub(super) struct Question {
    /// What the policy is asked.
    pub asked: Arc<PolicyRequest>,
    file: OsString,
    files: FilesAtDecision,
}

impl Question {
    /// Parses a request and looks at its files. Blocks as long as the file systems do.
    ///
    /// # Errors
    /// When the payload is not a request, or its files change while they are looked at.
    pub(super) fn read(
        payload: &[u8],
        session: &SessionCore,
        peer: Option<i32>,
    ) -> Result<Self, RequestError> {
        let request = Request::parse(payload)?;
        let program = resolve(Path::new(&request.workdir), Path::new(&request.file));
        let files = FilesAtDecision::look(&request, program.as_os_str())?;
        let asked = PolicyRequest {
            session: session.id,
            program,
            canonical: files.canonical.clone(),
            stamp: files.status.as_ref().map(FileStamp::from),
            argv: request.argv,
            workdir: request.workdir.into(),
            canonical_workdir: files.canonical_workdir.clone(),
            env: request.env,
            umask: request.umask,
            peer,
            clock: Arc::clone(&session.clock),
        };
        Ok(Self {
            asked: Arc::new(asked),
            file: request.file,
            files,
        })
    }

    /// The command that was decided to be escalated, and the files that the decision was about.
    pub(super) fn into_command(self, decision: &Decision) -> (PreparedExec, FilesAtDecision) {
        let asked = Arc::unwrap_or_clone(self.asked);
        let exec = PreparedExec {
            file: self.file,
            argv: asked.argv,
            workdir: asked.workdir,
            env: decision.child_env(&asked.env),
            umask: asked.umask,
        };
        (exec, self.files)
    }
}

/// The absolute path of the file that the kernel would execute: joins `file` to `workdir` and removes `.` and `..`. Like the
/// kernel, it resolves symbolic links before a `..`, so that the path leads to the same file. A `..` after something that
/// does not exist stays, and the kernel will refuse it.
fn resolve(workdir: &Path, file: &Path) -> PathBuf {
    let mut resolved = PathBuf::from("/");
    for component in workdir.join(file).components() {
        match component {
            Component::Normal(name) => resolved.push(name),
            Component::ParentDir => match std::fs::canonicalize(&resolved) {
                Ok(real) if real.is_dir() => {
                    resolved = real;
                    resolved.pop();
                }
                _ => resolved.push(".."),
            },
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn shown(workdir: &str, file: &str) -> String {
        resolve(Path::new(workdir), Path::new(file))
            .to_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn relative_files_are_relative_to_the_working_directory() {
        assert_eq!(shown("/usr", "bin/env"), "/usr/bin/env");
        assert_eq!(shown("/usr", "./bin/./env"), "/usr/bin/env");
        assert_eq!(shown("/usr/./bin", "env"), "/usr/bin/env");
        assert_eq!(shown("/usr", "/bin/sh"), "/bin/sh");
        assert_eq!(shown("/usr", "../bin/sh"), "/bin/sh");
        assert_eq!(shown("/", "../../bin/sh"), "/bin/sh");
    }

    #[test]
    fn a_tilde_is_a_name_like_any_other() {
        assert_eq!(shown("/tmp", "~/tool"), "/tmp/~/tool");
        assert_eq!(shown("/tmp", "~root"), "/tmp/~root");
    }

    #[test]
    fn a_parent_of_a_symbolic_link_is_the_parent_of_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("elsewhere/deep")).unwrap();
        symlink(root.join("elsewhere/deep"), root.join("link")).unwrap();
        assert_eq!(
            resolve(&root, Path::new("link/../tool")),
            root.join("elsewhere/tool")
        );
        assert_eq!(resolve(&root, Path::new("link/tool")), root.join("link/tool"));
    }

    #[test]
    fn a_parent_of_nothing_is_nothing() {
        assert_eq!(shown("/nowhere-at-all", "../bin/sh"), "/nowhere-at-all/../bin/sh");
        assert_eq!(
            shown("/etc/hostname", "../../bin/sh"),
            "/etc/hostname/../../bin/sh"
        );
    }
}
