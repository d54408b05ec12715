//! Who could put another program in a program's place?
//!
//! The server can't know which user the sandboxed side is: mostly the server's own. So a program counts as replaceable unless
//! it is root's alone: the file, its folder and all folders above are owned by root and writable by nobody else (the group
//! root aside; in folders with the sticky bit others can't touch what isn't theirs). Access lists show in the group's bits.
//! A sandboxed root is confined by what its sandbox lets it write, which can't be seen from here: rules for it should
//! name whole paths.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Whether anybody but root could replace or change the file at this absolute path. What can't be looked at counts as
/// replaceable; a file that doesn't exist counts by its folders.
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
    fn programs_in_folders_that_others_write_to_can() {
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
        // Only root can make a file that is root's.
        assert_eq!(others_can_replace(&program), !nix::unistd::geteuid().is_root());
        set(&program, 0o666);
        assert!(others_can_replace(&program));
        // A group that may write is as good as anybody, but for root's own.
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
    fn what_cannot_be_looked_at_counts_as_replaceable() {
        let too_long = "n".repeat(300);
        assert!(others_can_replace(&Path::new("/usr/bin").join(too_long)));
    }

    #[test]
    fn programs_below_a_folder_where_others_can_rename_can() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        std::fs::create_dir(&own).unwrap();
        let set =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        set(&own, 0o755);
        set(folder.path(), 0o777);
        assert!(others_can_replace(&own.join("git")));
        // Sticky: who owns the folder can rename all the same.
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

    /// A group that this process may give a file to, which for root isn't root's.
    fn some_group() -> u32 {
        match nix::unistd::getegid().as_raw() {
            0 => 1,
            own => own,
        }
    }
}
