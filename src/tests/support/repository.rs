//! A git repository with something to push.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Makes `folder` a repository with one commit, which is not yet in `bare.git` of the folder that is returned.
pub fn repository(folder: &Path) -> TempDir {
    let outside = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let output = Command::new("/usr/bin/git")
            .current_dir(folder)
            .env("HOME", folder)
            .args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
            .args(["-c", "init.defaultBranch=main"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let bare = outside.path().join("bare.git").display().to_string();
    git(&["init", "--bare", &bare]);
    git(&["init"]);
    git(&["commit", "--allow-empty", "-m", "first"]);
    git(&["remote", "add", "origin", &bare]);
    outside
}
