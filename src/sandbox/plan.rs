//! What a profile means on this machine: paths without symbolic links, and what in writable folders is not writable.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::confinement::Profile;
use crate::execution::holds_system;

/// The version of this library.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a launcher confines itself to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    /// The [version](VERSION) of who made it: a launcher of another one may confine less than is meant.
    pub(super) version: String,
    /// The profile's name, for messages.
    pub(super) name: String,
    pub(super) read: Vec<OsString>,
    pub(super) write: Vec<OsString>,
    /// Not writable although they are in a writable folder.
    pub(super) protected: Vec<OsString>,
    pub(super) network: bool,
    /// Refuse to start if anything can't be held.
    pub(super) strict: bool,
    /// Say on standard error what can't be held.
    pub(super) says: bool,
}

/// A profile whose paths have been looked up, once and for all: what the sandboxed side makes of them later doesn't matter.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    network: bool,
}

impl Resolved {
    /// Looks up a profile's paths relative to `workspace`.
    ///
    /// # Errors
    /// When a path doesn't exist, or is none that a sandbox may write to.
    pub(super) fn new(profile: &Profile, workspace: &Path, temporary: &Path) -> io::Result<Self> {
        let look_up = |path: &PathBuf| {
            let path = workspace.join(path);
            fs::canonicalize(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        };
        let read = profile.read.iter().map(look_up).collect::<io::Result<_>>()?;
        let mut write = profile
            .write
            .iter()
            .map(look_up)
            .collect::<io::Result<Vec<PathBuf>>>()?;
        for root in &write {
            let refused = root == Path::new("/") || (geteuid().is_root() && holds_system(root));
            if refused {
                let message = format!(
                    "a sandbox may not write to all of {}: start it in another directory, or use another profile \
                     (--sandbox read-only, --sandbox full-access)",
                    root.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
        if profile.temporary {
            write.push(temporary.to_owned());
        }
        Ok(Self {
            read,
            write,
            network: profile.network,
        })
    }

    /// Whether everything in a folder may be written.
    pub(super) fn writes(&self, folder: &Path) -> bool {
        self.write.iter().any(|root| folder.starts_with(root))
    }

    /// Where everything may be written.
    pub(super) fn written(&self) -> &[PathBuf] {
        &self.write
    }

    /// Whether this lets nothing be done that `other` doesn't.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let is_in = |path: &PathBuf, roots: &[&[PathBuf]]| {
            let mut roots = roots.iter().copied().flatten();
            roots.any(|root| path.starts_with(root))
        };
        (other.network || !self.network)
            && self.write.iter().all(|path| is_in(path, &[&other.write]))
            && self
                .read
                .iter()
                .all(|path| is_in(path, &[&other.read, &other.write]))
    }

    /// The plan as of now: what is protected depends on what is there.
    pub(super) fn plan(&self, name: &str, protected: &[PathBuf], needed: &[PathBuf]) -> Plan {
        let mut kept: Vec<PathBuf> = Vec::new();
        let repositories = self.write.iter().flat_map(|root| git_folders(root));
        for path in repositories.chain(protected.iter().cloned()) {
            let is_below = self
                .write
                .iter()
                .any(|root| path.starts_with(root) && path != *root);
            let is_named = self.write.contains(&path);
            if is_below && !is_named && !kept.contains(&path) {
                kept.push(path);
            }
        }
        let texts = |paths: &[PathBuf]| paths.iter().map(|path| path.clone().into()).collect();
        let mut read: Vec<OsString> = texts(&self.read);
        read.extend(texts(needed));
        Plan {
            version: VERSION.to_owned(),
            name: name.to_owned(),
            read,
            write: texts(&self.write),
            protected: texts(&kept),
            network: self.network,
            strict: false,
            says: false,
        }
    }
}

/// The `.git` of a folder, and, if that is a file (as in worktrees), the folders that it names.
fn git_folders(root: &Path) -> Vec<PathBuf> {
    let git = root.join(".git");
    let Ok(status) = fs::symlink_metadata(&git) else {
        return Vec::new();
    };
    let mut found = vec![git.clone()];
    if status.is_symlink() {
        found.extend(fs::canonicalize(&git));
    } else if status.is_file()
        && let Ok(text) = fs::read_to_string(&git)
        && let Some(folder) = text.strip_prefix("gitdir:")
        && let Ok(folder) = fs::canonicalize(root.join(folder.trim()))
    {
        if let Ok(common) = fs::read_to_string(folder.join("commondir")) {
            found.extend(fs::canonicalize(folder.join(common.trim())));
        }
        found.push(folder);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(profile: &Profile, workspace: &Path, protected: &[PathBuf]) -> Plan {
        let resolved = Resolved::new(profile, workspace, Path::new("/nowhere")).unwrap();
        resolved.plan("test", protected, &[])
    }

    #[test]
    fn the_repository_and_given_files_of_a_writable_folder_are_protected() {
        let folder = tempfile::tempdir().unwrap();
        let here = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(here.join("conf")).unwrap();
        fs::write(here.join("conf/policy.toml"), "").unwrap();
        let files = [here.join("conf/policy.toml"), PathBuf::from("/etc/passwd")];
        let workspace = Profile::workspace_write();
        assert_eq!(
            plan(&workspace, &here, &files).protected,
            [here.join("conf/policy.toml")]
        );
        fs::create_dir(here.join(".git")).unwrap();
        let with_git = plan(&workspace, &here, &[]);
        assert_eq!(with_git.protected, [here.join(".git")]);
        // Unless it is named itself.
        let named = plan(&workspace.with_write(".git"), &here, &[]);
        assert_eq!(named.protected, [""; 0]);
        assert_eq!(plan(&Profile::read_only(), &here, &files).protected, [""; 0]);
    }

    #[test]
    fn the_repository_of_a_worktree_is_protected_where_it_is_writable() {
        let folder = tempfile::tempdir().unwrap();
        let here = fs::canonicalize(folder.path()).unwrap();
        let own = here.join("main/.git/worktrees/w");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("commondir"), "../..\n").unwrap();
        fs::create_dir(here.join("w")).unwrap();
        fs::write(here.join("w/.git"), "gitdir: ../main/.git/worktrees/w\n").unwrap();
        let git = here.join("w/.git");
        let workspace = Profile::workspace_write();
        assert_eq!(
            plan(&workspace, &here.join("w"), &[]).protected,
            std::slice::from_ref(&git)
        );
        let both = plan(&workspace.with_write("../main"), &here.join("w"), &[]);
        assert_eq!(both.protected, [git.clone(), here.join("main/.git"), own]);
    }

    #[test]
    fn a_profile_is_within_those_that_allow_all_of_it() {
        let read = |paths: &[&str]| Profile {
            read: paths.iter().map(PathBuf::from).collect(),
            ..Profile::read_only()
        };
        let workspace = Profile::workspace_write();
        let profiles = [
            read(&["/usr"]),
            Profile::read_only(),
            workspace.clone(),
            workspace.clone().with_write("/usr"),
            workspace.with_write("/usr").with_network(true),
        ];
        let resolved = profiles.map(|profile| {
            let workspace = fs::canonicalize(std::env::temp_dir()).unwrap();
            let mut resolved =
                Resolved::new(&Profile::read_only(), &workspace, Path::new("/nowhere")).unwrap();
            resolved.read = profile.read;
            resolved.write = profile.write.iter().map(|path| workspace.join(path)).collect();
            resolved.network = profile.network;
            resolved
        });
        for (one, profile) in resolved.iter().enumerate() {
            for (other, wider) in resolved.iter().enumerate() {
                assert_eq!(profile.is_within(wider), one <= other, "{one} {other}");
            }
        }
        // What may be written may be read.
        let [narrow, wide] = [read(&["/usr"]), read(&["/bin"]).with_write("/opt")]
            .map(|profile| Resolved::new(&profile, Path::new("/"), Path::new("/nowhere")));
        if let (Ok(mut narrow), Ok(wide)) = (narrow, wide) {
            assert!(!narrow.is_within(&wide));
            narrow.read = vec!["/opt/x".into()];
            assert!(narrow.is_within(&wide));
        }
    }

    #[test]
    fn what_must_not_be_writable_or_is_not_there_is_refused() {
        let new = |path: &str| {
            let profile = Profile::read_only().with_write(path);
            Resolved::new(&profile, Path::new("/"), Path::new("/tmp"))
                .err()
                .map(|error| error.to_string())
        };
        assert!(new("/").unwrap().contains("may not write to all of /"));
        assert!(new("/nowhere").unwrap().starts_with("/nowhere: No such file"));
        assert_eq!(new("/tmp"), None);
        if geteuid().is_root() {
            assert!(new("/usr/share").is_some());
        }
    }
}
