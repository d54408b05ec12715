//! The absolute path of the file that the kernel would execute.

use std::path::{Component, Path, PathBuf};

/// Joins `file` to `workdir` and removes `.` and `..` in a way that leads to the same file: before a `..`, symbolic links
/// are resolved, as the kernel does. A `..` behind something that doesn't exist stays, and the kernel will refuse it.
pub(crate) fn resolve(workdir: &Path, file: &Path) -> PathBuf {
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
