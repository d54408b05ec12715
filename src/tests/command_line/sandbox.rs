//! The sandbox of `run`: what is refused inside, and what a rule lets out.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::assert::OutputAssertExt;

use super::run::program;
use super::support::chain;

/// A patched shell and the wrapper that `make test` has built, or stand-ins that behave the same for single commands.
pub(super) struct Chain {
    pub(super) shell: PathBuf,
    pub(super) wrapper: PathBuf,
}

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

impl Chain {
    pub(super) fn patched() -> Self {
        let shell = Path::new(PROJECT).join("target/shells/bash-5.3/bin/bash");
        assert!(shell.is_file(), "{} is built by `make shells`", shell.display());
        Self {
            shell,
            wrapper: chain::wrapper(),
        }
    }

    /// `run` in `workspace`, with these options.
    fn run(&self, workspace: &Path, options: &[&str], command: &str) -> Command {
        let mut run = program();
        run.current_dir(workspace).args(["run", "--no-login"]);
        run.arg("--shell").arg(&self.shell);
        run.arg("--wrapper").arg(&self.wrapper);
        run.args(options).args(["--", command]);
        run
    }
}

pub(super) fn run(workspace: &Path, options: &[&str], command: &str) -> Output {
    Chain::patched()
        .run(workspace, options, command)
        .output()
        .unwrap()
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An HTTP server for one request.
fn serve_once() -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).unwrap();
        let answer = b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nserved";
        stream.write_all(answer).unwrap();
    });
    (port, serving)
}

/// Prints what a server on this port answers. As an argument of python3.
pub(super) fn client(port: u16) -> String {
    format!("import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:{port}\").read().decode())")
}

#[test]
fn without_a_policy_the_workspace_is_writable_and_nothing_else_is_reachable() {
    let folder = tempfile::tempdir().unwrap();
    let (port, serving) = serve_once();
    let outside = tempfile::tempdir().unwrap();
    let elsewhere = outside.path().join("x");
    let command = format!(
        "touch '{}'; touch /etc/x; /usr/bin/python3 -c '{}'; touch here && echo done",
        elsewhere.display(),
        client(port)
    );
    let output = run(folder.path(), &[], &command);
    let errors = text(&output.stderr);
    assert_eq!(text(&output.stdout), "done\n", "{errors}");
    assert!(folder.path().join("here").exists());
    assert!(!elsewhere.exists() && !Path::new("/etc/x").exists());
    assert!(
        errors.contains("touch: cannot touch '/etc/x': Read-only file system"),
        "{errors}"
    );
    assert!(errors.contains("Operation not permitted"), "{errors}");

    // With a rule the same command line reaches the server, and touches no more than before.
    let policy = outside.path().join("policy.toml");
    let rule = format!(
        "default = \"run\"\n[[rule]]\nprogram = \"{}\"\nargv_exact = [\"-c\", '{}']\naction = \"escalate\"\n",
        "python3*",
        client(port)
    );
    fs::write(&policy, rule).unwrap();
    let options = ["--policy", policy.to_str().unwrap()];
    let output = run(folder.path(), &options, &command);
    assert_eq!(text(&output.stdout), "served\ndone\n", "{}", text(&output.stderr));
    assert!(!elsewhere.exists() && !Path::new("/etc/x").exists());
    serving.join().unwrap();
}

#[test]
fn the_repository_and_the_policy_are_not_writable_and_cannot_be_moved() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(".git/hooks")).unwrap();
    fs::create_dir(folder.path().join("conf")).unwrap();
    let policy = folder.path().join("conf/policy.toml");
    fs::write(&policy, "default = \"run\"\n").unwrap();
    let audit = folder.path().join("audit");
    let attacks = [
        "echo evil > .git/hooks/pre-commit",
        "echo evil > .git/config",
        "mv .git elsewhere",
        "rm -r .git",
        "echo 'default = \"escalate\"' > conf/policy.toml",
        "rm -f conf/policy.toml",
        "mv conf elsewhere",
        "mv conf/policy.toml conf/elsewhere",
        "mv here conf/policy.toml",
        ": > audit",
        "mv audit elsewhere",
    ];
    let command = attacks.map(|attack| format!("{attack} && echo \"{}\"; ", attack.replace('"', "")));
    let command = format!("touch here; {} echo tried", command.concat());
    let options = [
        "--policy",
        policy.to_str().unwrap(),
        "--audit",
        audit.to_str().unwrap(),
    ];
    let output = run(folder.path(), &options, &command);
    assert_eq!(text(&output.stdout), "tried\n", "{}", text(&output.stderr));
    assert!(folder.path().join(".git/hooks").is_dir());
    assert_eq!(fs::read_to_string(&policy).unwrap(), "default = \"run\"\n");
    assert!(!fs::read_to_string(&audit).unwrap().is_empty());
}

#[test]
fn a_read_only_sandbox_writes_nothing_and_full_access_says_that_it_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(
        folder.path(),
        &["--sandbox", "read-only"],
        "touch here || echo no; echo > /dev/null && echo null",
    );
    assert_eq!(text(&output.stdout), "no\nnull\n");
    let output = run(
        folder.path(),
        &["--sandbox", "full-access"],
        "touch here && echo yes",
    );
    assert_eq!(text(&output.stdout), "yes\n");
    assert_eq!(
        text(&output.stderr),
        "shell-escalation: no sandbox: commands may do all that you may (--sandbox full-access)\n"
    );
}

#[test]
fn temporary_files_have_a_folder_of_their_own_that_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(
        folder.path(),
        &[],
        "echo \"$TMPDIR\"; touch \"$TMPDIR/x\" && mktemp",
    );
    let lines = text(&output.stdout);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 2, "{}", text(&output.stderr));
    assert!(lines[1].starts_with(lines[0]));
    assert!(!Path::new(lines[0]).exists());
    // The server ends as its shell did.
    let output = run(folder.path(), &[], "echo \"$TMPDIR\"; kill -TERM $$");
    assert_eq!(output.status.signal(), Some(15));
    assert!(!Path::new(text(&output.stdout).trim()).exists());
}

#[test]
fn a_profile_of_the_policy_file_says_what_may_be_read_written_and_reached() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret\n").unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    let policy = folder.path().join("policy.toml");
    let text_of_policy = "default = \"run\"\n\
        [profile.narrow]\nread = [\"/usr\", \"/lib\", \"/lib64\", \"/bin\", \"/etc\", \".\"]\nwrite = [\"out\"]\nnetwork = true\n";
    fs::write(&policy, text_of_policy).unwrap();
    let (port, serving) = serve_once();
    let command = format!(
        "touch out/here && echo wrote; touch here || echo kept; cat '{}/secret' || echo hidden; /usr/bin/python3 -c '{}'",
        outside.path().display(),
        client(port)
    );
    let options = ["--policy", policy.to_str().unwrap(), "--sandbox", "narrow"];
    let output = run(folder.path(), &options, &command);
    assert_eq!(
        text(&output.stdout),
        "wrote\nkept\nhidden\nserved\n",
        "{}",
        text(&output.stderr)
    );
    serving.join().unwrap();
}

/// A policy that escalates python3 with these lines in its rule.
fn escalating_python(outside: &Path, more: &str) -> PathBuf {
    let policy = outside.join("policy.toml");
    let rule = format!(
        "default = \"run\"\n[profile.net]\ninherit = \"workspace-write\"\nnetwork = true\n\
         [[rule]]\nprogram = \"python3*\"\naction = \"escalate\"\n{more}\n"
    );
    fs::write(&policy, rule).unwrap();
    policy
}

#[test]
fn a_rule_may_open_the_network_without_opening_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let (port, serving) = serve_once();
    let elsewhere = outside.path().join("x");
    let write = |path: &Path| {
        format!(
            "/usr/bin/python3 -c 'open(\"{}\", \"w\")' 2>/dev/null",
            path.display()
        )
    };
    // From a directory that the workspace isn't: a command's own makes nothing writable.
    let command = format!(
        "cd '{}'; {} || echo kept; {} && echo wrote; /usr/bin/python3 -c '{}'",
        outside.path().display(),
        write(&elsewhere),
        write(&folder.path().join("here")),
        client(port)
    );
    let audit = outside.path().join("audit");
    let run = |more: &str| {
        let policy = escalating_python(outside.path(), more);
        let options = [
            "--policy",
            policy.to_str().unwrap(),
            "--audit",
            audit.to_str().unwrap(),
        ];
        run(folder.path(), &options, &command)
    };
    let same = run("profile = \"same\"");
    assert_eq!(text(&same.stdout), "kept\nwrote\n", "{}", text(&same.stderr));
    let net = run("profile = \"net\"");
    assert_eq!(
        text(&net.stdout),
        "kept\nwrote\nserved\n",
        "{}",
        text(&net.stderr)
    );
    assert!(!elsewhere.exists());
    serving.join().unwrap();
    let log = fs::read_to_string(&audit).unwrap();
    assert!(
        log.contains("\"execution\":\"same\"") && log.contains("\"execution\":\"net\""),
        "{log}"
    );
}

#[test]
fn what_a_command_is_given_does_not_act_before_it_is_confined() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let here = folder.path().display();
    let out = outside.path().display();
    let source = "#include <fcntl.h>\n#include <stdlib.h>\n\
        __attribute__((constructor)) static void start(void) { open(getenv(\"HERE\"), O_CREAT | O_WRONLY, 0600); \
        open(getenv(\"OUT\"), O_CREAT | O_WRONLY, 0600); }\n";
    fs::write(folder.path().join("evil.c"), source).unwrap();
    let built = Command::new("cc")
        .current_dir(folder.path())
        .args(["-shared", "-fPIC", "-o", "evil.so", "evil.c"])
        .status()
        .unwrap();
    assert!(built.success());
    let policy = escalating_python(outside.path(), "profile = \"net\"\nenv = \"everything\"");
    let command = format!(
        "HERE='{here}/loaded' OUT='{out}/loaded' LD_PRELOAD='{here}/evil.so' /usr/bin/python3 -c 'print(1)'"
    );
    let output = run(folder.path(), &["--policy", policy.to_str().unwrap()], &command);
    assert_eq!(text(&output.stdout), "1\n", "{}", text(&output.stderr));
    assert!(
        folder.path().join("loaded").exists(),
        "the library is loaded in the end"
    );
    assert!(!outside.path().join("loaded").exists());
}

#[test]
fn a_program_that_cannot_be_executed_in_a_profile_is_reported_as_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let policy = outside.path().join("policy.toml");
    chain::script(
        &folder.path().join("script.test"),
        "#!/bin/sh\necho \"script $1\"; exit 3\n",
    );
    chain::script(&folder.path().join("text.test"), "echo \"text $1\"\n");
    chain::script(&folder.path().join("lost.test"), "#!/no/interpreter\n");
    fs::write(folder.path().join("data.test"), "no program").unwrap();
    let outputs = ["", "profile = \"same\"\n"].map(|profile| {
        let rule = "default = \"run\"\n[[rule]]\nprogram = \"*.test\"\naction = \"escalate\"\nreplaceable = true\n";
        fs::write(&policy, format!("{rule}{profile}")).unwrap();
        let each = "for name in script text lost data none; do \"$EXEC_WRAPPER\" ./$name.test ./$name.test a; echo $?; done";
        let output = run(folder.path(), &["--policy", policy.to_str().unwrap()], each);
        (text(&output.stdout), text(&output.stderr))
    });
    assert_eq!(
        outputs[0].0, "script a\n3\ntext a\n0\n127\n126\n127\n",
        "{outputs:?}"
    );
    assert_eq!(outputs[0], outputs[1]);
}

#[test]
fn where_files_cannot_be_confined_nothing_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let mut without = Chain::patched().run(folder.path(), &[], "echo started");
    refuse_call(&mut without, libc::SYS_landlock_create_ruleset, libc::ENOSYS);
    without.assert().code(125).stdout("").stderr(
        "shell-escalation: sandbox: this kernel has no Landlock (Linux 5.13, and `landlock` among the LSMs that it starts with), \
         so files can't be confined; --sandbox full-access runs without a sandbox\n",
    );
}

#[test]
fn what_cannot_be_held_is_said_and_refused_in_strict_mode() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(".git")).unwrap();
    let without = |options: &[&str]| {
        let mut run = Chain::patched().run(folder.path(), options, "echo started");
        refuse_call(&mut run, libc::SYS_unshare, libc::EPERM);
        run.output().unwrap()
    };
    let best_effort = without(&[]);
    assert_eq!(text(&best_effort.stdout), "started\n");
    let said = text(&best_effort.stderr);
    let git = fs::canonicalize(folder.path()).unwrap().join(".git");
    let expected = format!(
        "shell-escalation: sandbox workspace-write, except that {} can be written to (user namespaces are refused: Operation \
         not permitted)",
        git.display()
    );
    assert!(said.starts_with(&expected), "{said}");
    let strict = without(&["--sandbox-strict"]);
    assert_eq!(
        (strict.status.code(), text(&strict.stdout).as_str()),
        (Some(125), "")
    );
    assert!(text(&strict.stderr).contains("--sandbox-strict demands all of it"));
    // Here nothing is missing.
    let whole = run(folder.path(), &["--sandbox-strict"], "echo started");
    assert_eq!(text(&whole.stdout), "started\n", "{}", text(&whole.stderr));
    assert_eq!(text(&whole.stderr), "");
}

/// Lets a system call fail for the command and all that it starts, as on a kernel that has it not or forbids it.
fn refuse_call(command: &mut Command, call: libc::c_long, errno: i32) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
    use std::os::unix::process::CommandExt;
    let filter = SeccompFilter::new(
        [(call, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.cast_unsigned()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    // SAFETY: between fork and exec only two system calls are made, with memory that was allocated before.
    unsafe {
        command.pre_exec(move || apply_filter(&program).map_err(|_| std::io::Error::last_os_error()));
    }
}
