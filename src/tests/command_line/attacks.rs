//! A sandboxed process that tries to get at what is outside, for real: the same attempts succeed without a sandbox.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::unistd::geteuid;
use rexpect::session::spawn_command;
use tempfile::TempDir;

use super::support::chain;
use super::support::processes::eventually;

/// An ordinary user, if the tests run as root.
const NOBODY: u32 = 65_534;

/// A server with an escalated command, a sandboxed attacker, and sockets to be attacked.
struct Scene {
    folder: TempDir,
    /// Who all of it belongs to, if not to the user of the test.
    user: Option<u32>,
}

impl Scene {
    fn new(user: Option<u32>) -> Self {
        let scene = Self {
            folder: tempfile::tempdir().unwrap(),
            user,
        };
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        open(scene.folder.path());
        fs::create_dir(scene.path("work")).unwrap();
        open(&scene.path("work"));
        let shell = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/shells/bash-5.3/bin/bash");
        let files = [
            (Path::new(env!("CARGO_BIN_EXE_shell-escalation")), "server"),
            (&shell, "bash"),
            (&chain::wrapper(), "wrapper"),
        ];
        for (file, name) in files {
            // By another process: see `chain::script`.
            let mut copy = Command::new("cp");
            let copied = copy.arg(file).arg(scene.path(name)).status().unwrap();
            assert!(copied.success(), "{} is there", file.display());
        }
        fs::create_dir(scene.path("victims")).unwrap();
        fs::write(scene.path("victims/file"), "victim").unwrap();
        for name in ["victims", "victims/file"] {
            std::os::unix::fs::chown(scene.path(name), user, user).unwrap();
        }
        fs::write(scene.path("attack.py"), include_str!("attack.py")).unwrap();
        fs::write(
            scene.path("policy.toml"),
            "default = \"run\"\n[profile.net]\ninherit = \"workspace-write\"\nnetwork = true\n\
             [[rule]]\nprogram = \"sleep\"\naction = \"escalate\"\n",
        )
        .unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, sandbox: &str, command: &str) -> Command {
        let mut run = Command::new(self.path("server"));
        run.current_dir(self.path("work"))
            .args(["run", "--no-login", "--sandbox", sandbox, "--policy"])
            .arg(self.path("policy.toml"))
            .arg("--shell")
            .arg(self.path("bash"))
            .arg("--wrapper")
            .arg(self.path("wrapper"))
            .args(["--", command])
            .env("HOME", "/");
        if let Some(user) = self.user {
            run.uid(user).gid(user);
        }
        run
    }

    /// What comes of each attempt, by its name: every errno, or `ok`.
    fn attack(&self, sandbox: &str) -> BTreeMap<String, Vec<String>> {
        let gate = self.path("work/gate");
        let _ = fs::remove_file(&gate);
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        fs::set_permissions(&gate, fs::Permissions::from_mode(0o666)).unwrap();
        let name = format!("attacked-{}-{}", std::process::id(), self.folder.path().display());
        let (datagrams, streams) = (format!("{name}-datagrams"), format!("{name}-streams"));
        let address = |name: &str| SocketAddr::from_abstract_name(name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address(&datagrams)).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let listener = UnixListener::bind_addr(&address(&streams)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let memory = SharedMemory::new();
        let key = memory.key;
        // The second program is escalated, and lives until the shell ends.
        let command = format!(
            "/bin/sleep 60 & read -r pids < gate; /usr/bin/python3 '{}' \"$pids\" '{datagrams}' '{streams}' {key}; kill %1",
            self.path("attack.py").display()
        );
        let mut server = self.run(sandbox, &command);
        let mut server = server
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut outside = Vec::new();
        eventually("the escalated command runs", || {
            outside = outside_of(server.id());
            outside.iter().any(|pid| is_sleep(*pid))
        });
        // The shell's supervisor and its keeper, those of the escalated command, and that itself.
        assert!(outside.len() >= 6, "{outside:?}");
        outside.push(std::process::id());
        let pids: Vec<String> = outside.iter().map(ToString::to_string).collect();
        fs::write(&gate, pids.join(",") + "\n").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut server.stdout.take().unwrap(), &mut text).unwrap();
        assert!(server.wait().unwrap().code().is_some());
        assert!(text.ends_with("tried\n"), "{text}");
        let mut results: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            if let Some((name, result)) = line.split_once(' ') {
                results
                    .entry(name.to_owned())
                    .or_default()
                    .push(result.to_owned());
            }
        }
        let heard = receiver.recv(&mut [0; 8]).is_ok() || listener.accept().is_ok();
        results.insert("heard".to_owned(), vec![heard.to_string()]);
        results
    }
}

/// A segment of shared memory, which other processes find by its key.
struct SharedMemory {
    key: i32,
    id: i32,
}

impl SharedMemory {
    fn new() -> Self {
        // A pid of this moment is nobody else's, and has at most 22 bits; unlike IPC_PRIVATE, it is a key.
        static MADE: AtomicI32 = AtomicI32::new(0);
        let key = std::process::id().cast_signed() | MADE.fetch_add(1, Ordering::Relaxed) << 22;
        // SAFETY: integers only.
        let id = unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | 0o666) };
        assert!(id >= 0, "{}", std::io::Error::last_os_error());
        Self { key, id }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: this removes the segment, and reads nothing from the null pointer.
        unsafe { libc::shmctl(self.id, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// Whether this user may mount, so that a sandbox's /proc has only its own processes.
fn may_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["--mount", "true"])
        .stderr(Stdio::null())
        .status();
    tried.unwrap().success()
}

/// The server and its descendants that are not in the sandbox: all but the shell and what it has started.
fn outside_of(server: u32) -> Vec<u32> {
    let mut found = vec![server];
    let mut next = 0;
    while let Some(&process) = found.get(next) {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{process}/task"))
            .into_iter()
            .flatten()
            .flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap());
            found.extend(children.filter(|pid| !is_sandboxed(*pid)));
        }
    }
    found
}

fn is_sandboxed(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    // Under full-access nothing is: there the shell is told by its name.
    status.contains("NoNewPrivs:\t1") || name == "bash\n" || name == "wrapper\n"
}

fn is_sleep(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
}

/// What remains for users other than root: that a process is there, what every user of the machine sees of it, and the numbers
/// of its descriptors.
const VISIBLE: &[&str] = &["proc-visible", "proc-fd-numbers"];

/// Attempts that a system may refuse anyway, for want of a device, a family or a right.
const MAY_FAIL: &[&str] = &[
    "read-memory",
    "own-pair",
    "clone3",
    "bpf",
    "open-by-handle",
    "x32",
    "setns",
    "keyctl",
    "io_uring",
    "priority-of-user",
    "outside-xattr",
];

fn all_refused(results: &BTreeMap<String, Vec<String>>, but: &[&str]) {
    for (name, results) in results {
        match name.as_str() {
            "heard" => assert_eq!(results, &["false"], "something outside was reached"),
            "own-pair" => assert_eq!(results, &["ok"]),
            name if but.contains(&name) => {}
            _ => assert!(
                !results.iter().any(|result| result == "ok"),
                "{name}: {results:?}"
            ),
        }
    }
    // Refused by the filter, and not for their arguments.
    for name in [
        "mount",
        "keyctl",
        "bpf",
        "open-by-handle",
        "unshare-user",
        "clone-user",
        "trace",
        "read-memory",
        "limit",
    ] {
        assert!(
            results[name].iter().all(|result| result == "EPERM"),
            "{name}: {:?}",
            results[name]
        );
    }
    for name in ["io_uring", "clone3"] {
        assert_eq!(results[name], ["ENOSYS"], "{name}");
    }
}

#[test]
fn without_a_sandbox_the_attempts_succeed() {
    let results = Scene::new(None).attack("full-access");
    let failed: Vec<_> = results
        .iter()
        .filter(|(name, results)| {
            !MAY_FAIL.contains(&name.as_str())
                && !name.starts_with("socket-")
                && !name.starts_with("unshare-")
                && !["mount", "clone-user", "heard"].contains(&name.as_str())
                && !results.iter().any(|result| result == "ok")
        })
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(results["heard"], ["true"]);
}

#[test]
fn a_sandboxed_process_reaches_nothing_outside() {
    for sandbox in ["workspace-write", "read-only"] {
        let scene = Scene::new(None);
        let but: &[&str] = if may_mount() { &[] } else { VISIBLE };
        all_refused(&scene.attack(sandbox), but);
    }
}

#[test]
fn with_network_the_sockets_of_the_machine_stay_out_of_reach() {
    // Name resolution asks which addresses there are.
    let mut but = vec!["socket-AF_NETLINK"];
    but.extend(if may_mount() { &[] } else { VISIBLE });
    all_refused(&Scene::new(None).attack("net"), &but);
}

#[test]
fn an_ordinary_users_sandbox_holds_as_well() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: not root, so the other tests are those of an ordinary user");
        return;
    }
    for sandbox in ["read-only", "net"] {
        let mut but = VISIBLE.to_vec();
        // Name resolution asks which addresses there are.
        but.extend((sandbox == "net").then_some("socket-AF_NETLINK"));
        all_refused(&Scene::new(Some(NOBODY)).attack(sandbox), &but);
    }
    let scene = Scene::new(Some(NOBODY));
    all_refused(&scene.attack("workspace-write"), VISIBLE);
    let limit = scene.run("workspace-write", "ulimit -u; id -u").output().unwrap();
    let text = String::from_utf8(limit.stdout).unwrap();
    let (processes, user) = text.trim().split_once('\n').unwrap();
    assert!(processes.parse::<u32>().unwrap() <= 4096, "{processes}");
    assert_eq!(user, NOBODY.to_string());
}

#[test]
fn nothing_gets_into_the_terminals_input() {
    let scene = Scene::new(None);
    let injecting = |sandbox: &str| {
        let attack = scene.path("attack.py");
        let command = format!(
            "/usr/bin/python3 '{}' 1 none none 1 | grep tioc; echo end",
            attack.display()
        );
        let run = scene.run(sandbox, &command);
        let mut terminal = spawn_command(run, Some(20_000)).unwrap();
        terminal.exp_string("end\r\n").unwrap()
    };
    let inside = injecting("workspace-write");
    for name in ["tiocsti", "tiocsti-high", "tioclinux"] {
        assert!(inside.contains(&format!("{name} EPERM")), "{inside}");
    }
    let without = injecting("full-access");
    let refused_by_the_kernel =
        fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").is_ok_and(|value| value.trim() == "0");
    assert!(
        without.contains("tiocsti ok") || refused_by_the_kernel,
        "{without}"
    );
}

#[test]
fn a_shell_holds_its_streams_and_its_session_and_nothing_else() {
    let scene = Scene::new(None);
    let leaked = fs::File::open("/etc/passwd").unwrap();
    let number = leaked.as_raw_fd();
    let mut run = scene.run(
        "workspace-write",
        "for fd in /proc/self/fd/*; do [ -e \"$fd\" ] && echo \"${fd##*/}\"; done; echo session \"$CODEX_ESCALATE_SOCKET\"",
    );
    // SAFETY: between fork and exec one system call is made.
    unsafe {
        run.pre_exec(move || {
            // The server inherits it, and doesn't know.
            let cleared = libc::fcntl(number, libc::F_SETFD, 0);
            if cleared == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    let output = run.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (numbers, session) = text.trim().split_once("\nsession ").unwrap();
    let mut numbers: Vec<&str> = numbers.lines().collect();
    numbers.retain(|number| !["0", "1", "2", session].contains(number));
    assert_eq!(numbers, [""; 0], "{text}");
}
