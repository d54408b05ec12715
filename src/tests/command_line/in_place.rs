//! Scripts in place beside a sandbox that writes to them, or that lends them names of its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::run::program;
use super::sandbox::{run, text};
use super::support::chain::script;

/// A workspace, and beside it a folder of scripts and a policy that executes all of them in place.
struct Places {
    outside: TempDir,
    workspace: TempDir,
    policy: PathBuf,
}

impl Places {
    fn new(more: &str) -> Self {
        let [outside, workspace] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let name = "#!/bin/sh\necho \"$0\"\n";
        fs::create_dir(outside.path().join("skills")).unwrap();
        script(&outside.path().join("skills/tool"), name);
        script(&workspace.path().join("own"), name);
        fs::create_dir_all(workspace.path().join("sub/sub")).unwrap();
        symlink(
            outside.path().join("skills/tool"),
            workspace.path().join("sub/tool"),
        )
        .unwrap();
        symlink(outside.path().join("skills"), workspace.path().join("skills")).unwrap();
        let policy = outside.path().join("policy.toml");
        let rules = ["skills/tool", "own"]
            .into_iter()
            .zip([outside.path(), workspace.path()])
            .map(|(file, folder)| {
                let file = fs::canonicalize(folder).unwrap().join(file);
                format!(
                    "[[rule]]\nprogram = {file:?}\naction = \"escalate\"\nreplaceable = true\nin_place = true\n{more}\n"
                )
            });
        let rules: String = rules.collect();
        fs::write(&policy, format!("default = \"deny\"\n{rules}")).unwrap();
        Self {
            outside,
            workspace,
            policy,
        }
    }

    fn skill(&self) -> String {
        self.outside.path().join("skills/tool").display().to_string()
    }

    fn here(&self) -> &Path {
        self.workspace.path()
    }

    /// What the line writes, and what is said.
    fn run(&self, sandbox: &str, line: &str) -> (String, String) {
        let policy = self.policy.to_str().unwrap();
        let output = run(self.here(), &["--sandbox", sandbox, "--policy", policy], line);
        (text(&output.stdout), text(&output.stderr))
    }

    fn says_written(&self, script: &str) -> String {
        format!(
            "sandboxed processes can write to {}, which is executed in place (`in_place`): they can choose what it does outside \
             of their sandbox\n",
            self.here().join(script).display()
        )
    }

    fn says_copied(&self, place: &str) -> String {
        format!(
            "{} is executed from a copy, not in place: it was called by way of {}, which sandboxed processes can make lead \
             elsewhere\n",
            self.skill(),
            self.here().join(place).display()
        )
    }
}

#[test]
fn a_script_that_the_sandbox_can_write_is_executed_in_place_and_that_is_said_once() {
    let places = Places::new("");
    let said = format!("shell-escalation: {}", places.says_written("own"));
    let (printed, errors) = places.run("workspace-write", "./own; sub/../own; ./own");
    assert_eq!(printed, "./own\nsub/../own\n./own\n", "{errors}");
    assert_eq!(errors, said);
    // Here no one writes to it.
    let (printed, errors) = places.run("read-only", "./own; cd sub; ../own");
    assert_eq!((printed.as_str(), errors.as_str()), ("./own\n../own\n", ""));
    // What is in the same sandbox may do no more than who writes to it.
    for profile in ["same", "read-only"] {
        let places = Places::new(&format!("profile = {profile:?}"));
        let (printed, errors) = places.run("workspace-write", "./own; sub/tool");
        assert_eq!((printed.as_str(), errors.as_str()), ("./own\nsub/tool\n", ""));
    }
}

#[test]
fn a_script_keeps_no_name_that_the_sandbox_can_make_lead_elsewhere() {
    let places = Places::new("");
    let skill = places.skill();
    let back = fs::canonicalize(places.outside.path()).unwrap();
    let back = back.strip_prefix(fs::canonicalize(places.here()).unwrap().parent().unwrap());
    let back = back.unwrap().display().to_string();
    // By links to the file and to its folder, out of a folder that can be moved, and through one.
    for (line, place) in [
        ("sub/tool".to_owned(), "sub"),
        ("cd sub; ./tool".to_owned(), "sub"),
        ("skills/tool".to_owned(), "skills"),
        ("PATH=$PWD/skills:$PATH; tool".to_owned(), "skills"),
        (format!("cd sub/sub; ../../../{back}/skills/tool"), "sub"),
        (format!("$PWD/sub/../../{back}/skills/tool"), "sub"),
    ] {
        let (printed, errors) = places.run("workspace-write", &line);
        assert!(printed.starts_with("/dev/fd/"), "{line}: {printed}{errors}");
        assert_eq!(
            errors,
            format!("shell-escalation: {}", places.says_copied(place)),
            "{line}"
        );
        // Where the sandbox can't do that, they are as good as any.
        let (printed, errors) = places.run("read-only", &line);
        assert!(
            printed.ends_with("tool\n") && errors.is_empty(),
            "{line}: {printed}{errors}"
        );
    }
    // The workspace itself stays where it is.
    for name in [skill.clone(), format!("../{back}/skills/tool")] {
        let (printed, errors) = places.run("workspace-write", &name);
        assert_eq!((printed, errors), (format!("{name}\n"), String::new()));
    }
}

#[test]
fn check_says_what_a_sandbox_can_do_about_a_script_in_place() {
    let places = Places::new("");
    let check = |options: &[&str], file: &str| {
        let mut check = program();
        check.current_dir(places.here()).args(["check", "--policy"]);
        check.arg(&places.policy).args(options).args(["--", file]);
        let output = check.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let lines = text(&output.stdout);
        let sandbox = lines.lines().find_map(|line| line.strip_prefix("  sandbox   "));
        sandbox.map(|said| format!("{said}\n"))
    };
    assert_eq!(check(&[], "./own"), Some(places.says_written("own")));
    assert_eq!(check(&[], "skills/tool"), Some(places.says_copied("skills")));
    assert_eq!(check(&[], &places.skill()), None);
    for file in ["./own", "skills/tool"] {
        assert_eq!(check(&["--sandbox", "read-only"], file), None);
        assert_eq!(check(&["--sandbox", "full-access"], file), None);
    }
    let outside = places.outside.path().to_str().unwrap();
    let said = check(&["--writable", outside], &places.skill()).unwrap();
    assert!(
        said.contains(&format!("can write to {}", places.skill())),
        "{said}"
    );
    let said = check(&["--sandbox", "missing"], "./own").unwrap();
    assert!(said.starts_with("--sandbox missing: no such profile"), "{said}");
    // What nobody writes to is not waited for.
    let own = places.here().join("own");
    fs::remove_file(&own).unwrap();
    nix::unistd::mkfifo(&own, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(check(&[], "./own"), None);
}
