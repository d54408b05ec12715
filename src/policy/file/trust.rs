//! Can a user other than root replace a program with another one?
//!
//! The server cannot know which user the sandboxed side is; mostly it is the server's own. So a program counts as replaceable
//! unless the file, its directory and all directories above are owned by root and writable only by root and the group root.
//! (In directories with the sticky bit, users cannot touch other users' files. Access control lists show in the group's bits.)
//! What a sandboxed root may write depends on its sandbox, which cannot be seen from here: rules for it should name whole
//! paths.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Whether a user other than root could replace or change the file at this absolute path. A file that cannot be examined counts
/// as replaceable; for one that does not exist, its directories decide.
pub(super) fn others_can_replace(path: &Path) -> bool {
    match path.symlink_metadata() {
        // The mode of a symbolic link means nothing; its owner does.
        Ok(found) if found.is_symlink() => {
            if found.uid() != 0 {
                return true;
            }
        }
        Ok(found) => {
            if writable(&found) {
                return true;
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(_) => return true,
    }
    let mut folders = path.ancestors().skip(1);
    let own = folders.next();
    if !own.is_some_and(|own| own.metadata().is_ok_and(|found| !writable(&found))) {
        return true;
    }
    folders.any(|folder| match folder.metadata() {
        Ok(found) => found.uid() != 0 || (writable(&found) && found.mode() & STICKY == 0),
        Err(_) => true,
    })
}

fn writable(found: &Metadata) -> bool {
    let by_group = found.mode() & GROUP_WRITE != 0 && found.gid() != 0;
    found.uid() != 0 || by_group || found.mode() & OTHERS_WRITE != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn programs_of_the_system_cannot_be_replaced() {
        assert!(!others_can_replace(Path::new("/usr/bin/env")));
        assert!(!others_can_replace(Path::new("/bin/sh")));
        assert!(!others_can_replace(Path::new(
            "/usr/bin/there-is-no-such-program"
        )));
    }

    #[test]
    fn programs_in_directories_that_others_can_write_can_be_replaced() {
        assert!(others_can_replace(Path::new("/tmp/git")));
        assert!(others_can_replace(Path::new("/no-such-folder/git")));
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("git");
        std::fs::write(&program, "").unwrap();
        let set =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        set(folder.path(), 0o777);
        assert!(others_can_replace(&program));
        set(folder.path(), 0o755);
        // Only root can create a file that root owns.
        assert_eq!(others_can_replace(&program), !nix::unistd::geteuid().is_root());
        set(&program, 0o666);
        assert!(others_can_replace(&program));
        // Group-writable counts as replaceable, unless the group is root.
        set(&program, 0o775);
        assert_eq!(others_can_replace(&program), !nix::unistd::geteuid().is_root());
        std::os::unix::fs::chown(&program, None, Some(some_group())).unwrap();
        assert!(others_can_replace(&program));
        set(&program, 0o755);
        assert_eq!(others_can_replace(&program), !nix::unistd::geteuid().is_root());
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&program, Some(1), None).unwrap();
        }
        assert!(others_can_replace(&program));
    }

    #[test]
    fn what_cannot_be_examined_counts_as_replaceable() {
        let too_long = "n".repeat(300);
        assert!(others_can_replace(&Path::new("/usr/bin").join(too_long)));
    }

    #[test]
    fn programs_below_a_directory_where_others_can_rename_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        std::fs::create_dir(&own).unwrap();
        let set =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        set(&own, 0o755);
        set(folder.path(), 0o777);
        assert!(others_can_replace(&own.join("git")));
        // With the sticky bit, the directory's owner can still rename.
        set(folder.path(), 0o1777);
        assert_eq!(
            others_can_replace(&own.join("git")),
            !nix::unistd::geteuid().is_root()
        );
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(1), None).unwrap();
        }
        assert!(others_can_replace(&own.join("git")));
    }

    /// A group other than root's that this process may give a file to.
    fn some_group() -> u32 {
        match nix::unistd::getegid().as_raw() {
            0 => 1,
            own => own,
        }
    }
}
