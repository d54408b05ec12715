//! What shells are confined to, in words: a refused call is an errno like any other, and programs often don't say even that.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use shell_escalation::Profile;

/// The status of a launcher that fails, which says why itself.
const OF_LAUNCHER: i32 = 125;

/// A profile, as messages tell of it.
pub(super) struct Confined {
    /// What the command line calls the profile.
    name: String,
    profile: Profile,
    /// What the profile's relative paths are relative to.
    workspace: PathBuf,
}

impl Confined {
    pub(super) fn new(name: &str, profile: Profile, workspace: &Path) -> Self {
        Self {
            name: name.to_owned(),
            profile,
            workspace: workspace.to_owned(),
        }
    }

    /// What processes in the sandbox can do: `can write to /here, and has no network`. `None` without a sandbox.
    pub(super) fn can(&self) -> Option<String> {
        let profile = &self.profile;
        if !profile.confines() {
            return None;
        }
        let mut can = String::from("can ");
        let readable: Vec<PathBuf> = self.paths(profile.readable()).collect();
        if !readable.iter().any(|path| path == Path::new("/")) {
            can.push_str(&format!(
                "read {}, ",
                listed(readable.iter().map(|path| shown(path)))
            ));
        }
        let writable: Vec<PathBuf> = self.paths(profile.writable()).collect();
        let but = |root: &PathBuf| {
            let git = root.join(".git");
            let is_kept = git.symlink_metadata().is_ok() && !writable.contains(&git);
            let but = if is_kept { " except its .git" } else { "" };
            format!("{}{but}", shown(root))
        };
        let temporary = profile.has_temporary().then(|| "$TMPDIR".to_owned());
        let places: Vec<String> = writable.iter().map(but).chain(temporary).collect();
        if places.is_empty() {
            can.push_str("write nowhere");
        } else {
            can.push_str(&format!("write to {}", listed(places)));
        }
        let network = if profile.allows_network() { "the" } else { "no" };
        can.push_str(&format!(", and has {network} network"));
        Some(can)
    }

    /// The same if the sandbox may be why a command ended like this: it refuses by an error, and kills only by SIGSYS.
    pub(super) fn if_failed(&self, exit_code: i32, signal: Option<i32>) -> Option<String> {
        let may_be_why = match signal {
            Some(signal) => signal == Signal::SIGSYS as i32,
            None => !matches!(exit_code, 0 | OF_LAUNCHER),
        };
        may_be_why.then(|| self.can()).flatten()
    }

    /// For who sees a command fail, and not why.
    pub(super) fn after_failure(&self, exit_code: i32, signal: Option<i32>) -> Option<String> {
        let name = &self.name;
        self.if_failed(exit_code, signal).map(|can| {
            format!(
                "if the sandbox refused it something: {name} {can}; to allow more, use --writable, --sandbox, or a rule that \
                 escalates the command (--quiet omits this line)"
            )
        })
    }

    /// For who is about to type commands; `None` without a sandbox.
    pub(super) fn at_start(&self) -> Option<String> {
        let name = &self.name;
        self.can()
            .map(|can| format!("the sandbox {name} {can} (--quiet omits this line)"))
    }

    fn paths<'a>(&'a self, paths: impl Iterator<Item = &'a Path>) -> impl Iterator<Item = PathBuf> {
        paths.map(|path| self.workspace.join(path).components().collect())
    }
}

/// A path on one line.
fn shown(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

fn listed(items: impl IntoIterator<Item = String>) -> String {
    items.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can(profile: Profile, workspace: &Path) -> Option<String> {
        Confined::new("test", profile, workspace).can()
    }

    #[test]
    fn a_profile_is_described_by_what_it_allows() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let work = here.display();
        assert_eq!(can(Profile::full_access(), here), None);
        assert_eq!(
            can(Profile::read_only(), here).unwrap(),
            "can write nowhere, and has no network"
        );
        assert_eq!(
            can(Profile::workspace_write().with_network(true), here).unwrap(),
            format!("can write to {work}, $TMPDIR, and has the network")
        );
        std::fs::create_dir(here.join(".git")).unwrap();
        assert_eq!(
            can(Profile::workspace_write().with_write("/srv/x"), here).unwrap(),
            format!("can write to {work} except its .git, /srv/x, $TMPDIR, and has no network")
        );
        let named = Profile::workspace_write().with_write(".git");
        assert_eq!(
            can(named, here).unwrap(),
            format!("can write to {work}, {work}/.git, $TMPDIR, and has no network")
        );
        let narrow = Profile::read_only().with_read(["/usr".into(), "a\nb".into()]);
        assert_eq!(
            can(narrow, here).unwrap(),
            format!("can read /usr, {work}/a\\nb, write nowhere, and has no network")
        );
    }
}
