//! A day's work in the default sandbox, compared with the same day in a stock shell without one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::unistd::geteuid;

use super::run::program;
use super::support::chain;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// What a day's work is made of: a tool that it needs, and commands that print the same every time.
const WORKS: &[(&str, &str)] = &[
    (
        "git",
        "git init -q repository; cd repository; echo one > file; git add file; git commit -qm one; git checkout -qb other; \
         echo two >> file; git commit -qam two; git rebase -q main; git checkout -q main; git merge -q other; \
         git log --format='%h %s'; git show --stat --format=%s | cat; git gc -q; git fsck; git worktree add -q ../tree other; \
         git clone -q . ../clone; git -C ../clone log --oneline; cd ..",
    ),
    (
        "make",
        "mkdir made; cd made; printf 'all: a b\\n%%:\\n\\t@sleep 0.01; echo $@ > $@\\n' > Makefile; make -s -j4; cat a b; \
         make -q; echo $?; cd ..",
    ),
    (
        "cc",
        "printf '#include <stdio.h>\\nint main(void) { return puts(\"compiled\") < 0; }\\n' > main.c; cc -pipe -o main main.c; \
         ./main | tr a-z A-Z",
    ),
    (
        "cargo",
        "cargo init -q --name tiny crate; cd crate; cargo test -q --offline 2>&1 | sed 's/finished in.*//'; \
         cargo run -q --offline; cd ..",
    ),
    (
        "npm",
        "mkdir package; cd package; export npm_config_cache=$PWD/../cache npm_config_update_notifier=false; npm init -y > /dev/null; npm pack --offline 2> /dev/null; \
         npm run --silent env | grep ^npm_package_name=; node -p 'require(\"./package.json\").version'; cd ..",
    ),
    (
        "python3",
        "python3 -m venv --without-pip venv; venv/bin/python -c 'import multiprocessing as m; \
         print(m.get_context(\"fork\").Pool(2).map(abs, [-1, -2]))'; \
         python3 -c 'import asyncio, subprocess, tempfile; tempfile.TemporaryFile(); \
         print(subprocess.run([\"sh\", \"-c\", \"echo $0\"], stdout=subprocess.PIPE).stdout, asyncio.run(asyncio.sleep(0, 3)))'",
    ),
];

/// Who has the day: by default the user of the test.
#[derive(Clone, Copy, Default)]
struct Worker {
    user: Option<u32>,
}

impl Worker {
    /// Lets this user execute the command.
    fn act(self, command: &mut Command) {
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
    }

    fn can_execute(self, tool: &str) -> bool {
        let mut found = Command::new("sh");
        found.args(["-c", "command -v \"$0\"", tool]);
        self.act(&mut found);
        found.output().unwrap().status.success()
    }
}

/// The works whose tools are here for the worker, one after the other.
fn script(worker: Worker) -> String {
    let (here, missing): (Vec<_>, Vec<_>) = WORKS.iter().partition(|(tool, _)| worker.can_execute(tool));
    for (tool, _) in missing {
        eprintln!("{tool} is not installed for this user, so its part of the day is NOT TESTED");
    }
    let git = "export GIT_CONFIG_GLOBAL=$PWD/gitconfig GIT_AUTHOR_DATE=2026-01-01T00:00:00Z GIT_COMMITTER_DATE=2026-01-01T00:00:00Z\n\
        printf '[user]\\nname = me\\nemail = me@localhost\\n[init]\\ndefaultBranch = main\\n' > gitconfig\n";
    let works = here.iter().map(|(_, work)| format!("{work}\n"));
    format!("{git}{}echo done", works.collect::<String>())
}

/// What a shell makes of `script` in a new folder.
fn day(mut command: Command, script: &str, worker: Worker) -> Output {
    let folder = tempfile::tempdir().unwrap();
    command.arg(script).current_dir(folder.path());
    if worker.user.is_some() {
        chown(folder.path(), worker.user, worker.user).unwrap();
        command.env("HOME", folder.path());
        worker.act(&mut command);
    }
    command.env_remove("TMPDIR").output().unwrap()
}

fn shell(name: &str, kind: &str) -> PathBuf {
    let (family, _) = name.split_once('-').unwrap();
    let shell = Path::new(PROJECT).join(format!("target/shells/{name}{kind}/bin/{family}"));
    assert!(shell.is_file(), "{} is built by `make shells`", shell.display());
    shell
}

/// The stock shell is bash in any case: these scripts are the same to every shell.
fn a_day_in_the_sandbox_is_like_one_without(patched: &str) {
    let programs = Programs {
        server: program(),
        stock: shell("bash-5.3", "-stock"),
        patched: shell(patched, ""),
        wrapper: chain::wrapper(),
    };
    the_days_are_alike(programs, Worker::default());
}

pub(super) struct Programs {
    pub(super) server: Command,
    stock: PathBuf,
    pub(super) patched: PathBuf,
    pub(super) wrapper: PathBuf,
}

impl Programs {
    /// Copies in this folder: what is built may be where only root can go.
    pub(super) fn for_everyone(folder: &Path) -> Self {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        let copied = |file: &Path, name: &str| {
            let copy = folder.join(name);
            // By another process: see `chain::script`.
            let done = Command::new("cp").arg(file).arg(&copy).status().unwrap();
            assert!(done.success(), "{} is there", file.display());
            copy
        };
        Self {
            server: Command::new(copied(Path::new(program().get_program()), "server")),
            stock: copied(&shell("bash-5.3", "-stock"), "stock"),
            patched: copied(&shell("bash-5.3", ""), "bash"),
            wrapper: copied(&chain::wrapper(), "wrapper"),
        }
    }
}

fn the_days_are_alike(programs: Programs, worker: Worker) {
    let script = script(worker);
    let mut outside = Command::new(programs.stock);
    outside.arg("-c");
    let outside = day(outside, &script, worker);
    let mut sandboxed = programs.server;
    sandboxed.args(["run", "--no-login", "--shell"]);
    sandboxed.arg(programs.patched);
    sandboxed.arg("--wrapper").arg(programs.wrapper).arg("--");
    let sandboxed = day(sandboxed, &script, worker);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        text(&sandboxed.stdout),
        text(&outside.stdout),
        "{}",
        text(&sandboxed.stderr)
    );
    assert_eq!(text(&sandboxed.stderr), text(&outside.stderr));
    assert_eq!(sandboxed.status, outside.status);
    assert!(
        text(&outside.stdout).ends_with("done\n"),
        "{}",
        text(&outside.stderr)
    );
}

#[test]
fn a_day_in_bash_in_the_sandbox_is_like_one_without() {
    a_day_in_the_sandbox_is_like_one_without("bash-5.3");
}

#[test]
fn a_day_in_zsh_in_the_sandbox_is_like_one_without() {
    a_day_in_the_sandbox_is_like_one_without("zsh-5.9");
}

/// An ordinary user, if the tests run as root.
pub(super) const NOBODY: u32 = 65_534;

#[test]
fn an_ordinary_user_s_day_in_the_sandbox_is_like_one_without() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: not root, so the other days are those of an ordinary user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let programs = Programs::for_everyone(folder.path());
    the_days_are_alike(programs, Worker { user: Some(NOBODY) });
}
