//! Where paths lead: links, `..`, magic links, and who could make them lead elsewhere.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

fn look(workdir: &str, file: &str) -> Lookup {
    look_up(Path::new(workdir), OsStr::new(file), Wait::Allowed).unwrap()
}

fn shown(workdir: &str, file: &str) -> String {
    look(workdir, file)
        .requested
        .into_os_string()
        .into_string()
        .unwrap()
}

fn trust(path: &Path) -> Trust {
    let found = look_up(Path::new("/"), path.as_os_str(), Wait::Allowed).unwrap();
    found.trust.unwrap()
}

fn others_can_replace(path: &Path) -> bool {
    trust(path).others_can_redirect()
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A group other than root's that this process may give a file to.
fn some_group() -> u32 {
    match nix::unistd::getegid().as_raw() {
        0 => 1,
        own => own,
    }
}

#[test]
fn every_place_on_the_way_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let here = fs::canonicalize(folder.path()).unwrap();
    fs::create_dir_all(here.join("a/b")).unwrap();
    fs::create_dir(here.join("c")).unwrap();
    fs::write(here.join("c/file"), "").unwrap();
    symlink(here.join("a/b/../../c"), here.join("link")).unwrap();
    symlink("../c/file", here.join("a/other")).unwrap();
    let leads_by = |workdir: &str, file: &str, place: &str| {
        let place = here.join(place);
        let found = first_on_the_way(&here.join(workdir), OsStr::new(file), &|way| way == place);
        let found = found.unwrap();
        assert!(found.is_none() || found.as_ref() == Some(&place));
        found.is_some()
    };
    for (workdir, file, places) in [
        (".", "c/file", &["c", "c/file"][..]),
        (".", "link/file", &["link", "a", "a/b", "c", "c/file"]),
        ("a/b", "../../c/file", &["a", "a/b", "c", "c/file"]),
        ("a", "other", &["a", "a/other", "c", "c/file"]),
        ("c", "./file", &["c", "c/file"]),
        (".", "a/b/missing", &["a", "a/b"]),
    ] {
        for place in ["a", "a/b", "a/other", "c", "c/file", "link", "a/b/missing"] {
            assert_eq!(
                leads_by(workdir, file, place),
                places.contains(&place),
                "{workdir} {file} {place}"
            );
        }
    }
}

#[test]
fn relative_files_are_relative_to_the_working_directory() {
    assert_eq!(shown("/usr", "bin/env"), "/usr/bin/env");
    assert_eq!(shown("/usr", "./bin/./env"), "/usr/bin/env");
    assert_eq!(shown("/usr/./bin", "env"), "/usr/bin/env");
    assert_eq!(shown("/usr", "/bin/sh"), "/bin/sh");
    assert_eq!(shown("/usr", "../bin/sh"), "/bin/sh");
    assert_eq!(shown("/", "../../bin/sh"), "/bin/sh");
    assert_eq!(shown("//usr//", "bin///env"), "/usr/bin/env");
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
    symlink("elsewhere/../elsewhere/deep", root.join("relative")).unwrap();
    let requested = |file: &str| look_up(&root, OsStr::new(file), Wait::Allowed).unwrap().requested;
    for link in ["link", "relative"] {
        assert_eq!(requested(&format!("{link}/../tool")), root.join("elsewhere/tool"));
        assert_eq!(requested(&format!("{link}/tool")), root.join(link).join("tool"));
    }
}

#[test]
fn a_parent_of_nothing_is_nothing() {
    assert_eq!(shown("/nowhere-at-all", "../bin/sh"), "/nowhere-at-all/../bin/sh");
    assert_eq!(
        shown("/etc/hostname", "../../bin/sh"),
        "/etc/hostname/../../bin/sh"
    );
}

#[test]
fn the_walk_finds_what_the_kernel_finds() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/file"), "").unwrap();
    for (target, link) in [
        ("file", "a/link"),
        ("../a/link", "a/b/chain"),
        ("loop", "loop"),
        ("b/", "a/directory"),
        ("/", "a/root"),
        ("missing", "a/dangling"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    for file in [
        "a/file",
        "a/link",
        "a/b/chain",
        "loop",
        "a/directory/../file",
        "a/directory/chain",
        "a/root/bin/sh",
        "a/dangling",
        "a/file/",
        "a/file/.",
        "a/file/..",
        "a/link/",
        "a/b",
        "a/b/",
        "a/b/.",
        "none/..",
        "/",
        "..",
        "../../../../../bin/env",
        "loop/..",
        "a/dangling/..",
        "a/root/..",
    ] {
        let found = look_up(&root, OsStr::new(file), Wait::Allowed).unwrap();
        let quick = find(&root, OsStr::new(file), Wait::Allowed).unwrap();
        assert_eq!(
            (&quick.requested, &quick.canonical),
            (&found.requested, &found.canonical),
            "{file}"
        );
        // Without waiting the answer is the same, if there is one.
        if let Ok(at_once) = look_up(&root, OsStr::new(file), Wait::Never)
            && at_once.is_settled()
        {
            assert_eq!(
                (&at_once.requested, &at_once.canonical, at_once.trust),
                (&found.requested, &found.canonical, found.trust),
                "{file}"
            );
        }
        let directory = open_path(nowhere(), root.as_os_str(), 0, Wait::Allowed).unwrap();
        match (
            found.file,
            PinnedFile::open(directory.as_fd(), OsStr::new(file), Wait::Allowed),
        ) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(ours.status(), theirs.status(), "{file}");
                assert_eq!(
                    fs::canonicalize(&found.requested).ok(),
                    found.canonical,
                    "{file}: {}",
                    found.requested.display()
                );
            }
            (Err(ours), Err(theirs)) => {
                assert_eq!(ours.raw_os_error(), theirs.raw_os_error(), "{file}");
                assert_eq!(found.canonical, None);
            }
            (ours, theirs) => panic!("{file}: {ours:?}, but {theirs:?}"),
        }
    }
}

#[test]
fn nothing_is_said_at_once_that_the_kernel_would_have_to_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("not looked up before");
    let at_once = find(Path::new("/"), name.as_os_str(), Wait::Never).unwrap();
    assert!(!at_once.is_settled(), "{at_once:?}");
    // Links lead where their file system says, which may be anybody's.
    set(folder.path(), 0o777);
    symlink("/usr/bin", folder.path().join("bin")).unwrap();
    let env = folder.path().join("bin/env");
    assert!(
        find(Path::new("/"), env.as_os_str(), Wait::Allowed)
            .unwrap()
            .file
            .is_ok()
    );
    let at_once = look_up(Path::new("/"), env.as_os_str(), Wait::Never);
    assert!(
        matches!(&at_once, Err(Unclear::System(error)) if error.kind() == io::ErrorKind::WouldBlock),
        "{at_once:?}"
    );
}

#[test]
fn what_leads_to_another_file_in_each_process_is_not_decided_on() {
    let folder = tempfile::tempdir().unwrap();
    symlink("/proc/self", folder.path().join("own")).unwrap();
    let own = std::process::id();
    for (workdir, file) in [
        ("/", "/proc/self/exe"),
        ("/", "//proc/./self/cwd/../x"),
        ("/", "/dev/fd/0"),
        ("/", "/dev/stdin"),
        ("/proc/self", "exe"),
        ("//proc/self/cwd", "../x"),
        (folder.path().to_str().unwrap(), "own/root/bin/sh"),
        ("/proc/thread-self", "./exe"),
        ("/", &format!("/proc/{own}/root/bin/sh")),
    ] {
        let unclear = find(Path::new(workdir), OsStr::new(file), Wait::Allowed).unwrap_err();
        assert!(
            matches!(unclear, Unclear::DependsOnProcess(_)),
            "{file} in {workdir}"
        );
    }
    assert!(look("/proc/self", "/bin/sh").file.is_ok());
}

#[test]
fn the_longest_paths_cost_no_more_than_their_length() {
    let folder = tempfile::tempdir().unwrap();
    let mut deep = folder.path().canonicalize().unwrap();
    while deep.as_os_str().len() < 3_900 {
        deep.push("a");
    }
    // Too deep to be made by one call only for names that are long.
    fs::create_dir_all(&deep).unwrap();
    let file = "../a/".repeat(800) + "t";
    let before = std::time::Instant::now();
    let found = look_up(&deep, OsStr::new(&file), Wait::Allowed).unwrap();
    assert_eq!(found.requested, deep.join("t"));
    assert!(before.elapsed() < std::time::Duration::from_secs(1));
}

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
    fs::write(&program, "").unwrap();
    set(folder.path(), 0o777);
    assert!(others_can_replace(&program));
    set(folder.path(), 0o755);
    set(&program, 0o644);
    // Only root can create a file that root owns.
    assert_eq!(others_can_replace(&program), !is_root());
    set(&program, 0o666);
    assert!(others_can_replace(&program));
    // Group-writable counts as replaceable, unless the group is root.
    set(&program, 0o775);
    assert_eq!(others_can_replace(&program), !is_root());
    chown(&program, None, Some(some_group())).unwrap();
    assert!(others_can_replace(&program));
    set(&program, 0o755);
    assert_eq!(others_can_replace(&program), !is_root());
    if is_root() {
        chown(&program, Some(1), None).unwrap();
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
    fs::create_dir(&own).unwrap();
    set(&own, 0o755);
    set(folder.path(), 0o777);
    assert!(others_can_replace(&own.join("git")));
    // With the sticky bit, the directory's owner can still rename.
    set(folder.path(), 0o1777);
    assert_eq!(others_can_replace(&own.join("git")), !is_root());
    if is_root() {
        chown(folder.path(), Some(1), None).unwrap();
    }
    assert!(others_can_replace(&own.join("git")));
}

#[test]
fn a_link_that_others_can_change_is_no_reason_to_distrust_its_target_but_its_name() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), 0o777);
    let link = folder.path().join("env");
    symlink("/usr/bin/env", &link).unwrap();
    let found = trust(&link);
    assert!(!found.others_can_replace());
    assert!(found.others_can_redirect());
    // The same for a directory on the way.
    symlink("/usr/bin", folder.path().join("bin")).unwrap();
    let found = trust(&folder.path().join("bin/env"));
    assert_eq!((found.others_can_replace(), found.name), (false, false));
}
