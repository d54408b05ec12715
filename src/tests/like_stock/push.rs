//! `git push` over ssh, with a key whose passphrase ssh asks for on the terminal.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use rexpect::session::{PtySession, spawn_command};
use tempfile::TempDir;

use super::shells::{escalating, is_installed};

const PATIENCE: Option<u64> = Some(60_000);
const PASSPHRASE: &str = "open sesame";

/// Where sshd is: it demands to be started by its absolute path, and is rarely in the PATH of a user.
fn sshd() -> Option<PathBuf> {
    let found = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];
    found.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// A folder with a server's and a user's keys, a repository to push from, and one to push to.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Self { folder };
        site.shell(
            "git init -q --bare remote.git; git init -q -b main work; cd work; \
             git -c user.name=me -c user.email=me@localhost commit -q --allow-empty -m 'to be pushed'",
        );
        for (key, passphrase) in [("host_key", ""), ("key", PASSPHRASE)] {
            let mut made = Command::new("ssh-keygen");
            made.args(["-q", "-t", "ed25519", "-C", "", "-N", passphrase, "-f"]);
            assert!(made.arg(site.path(key)).status().unwrap().success());
        }
        site.shell("cp key.pub authorized_keys; chmod 600 authorized_keys");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shell(&self, script: &str) -> String {
        let output = Command::new("sh")
            .args(["-ec", script])
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Serves ssh on a port of 127.0.0.1, one sshd per connection, until the test's process ends.
    fn serve(&self, sshd: &Path) {
        if nix::unistd::geteuid().is_root() {
            // Where sshd of most systems, as root, goes into; its service makes it.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let config = format!(
            "HostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized_keys\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n",
            self.folder.path().display()
        );
        std::fs::write(self.path("sshd_config"), config).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let public = std::fs::read_to_string(self.path("host_key.pub")).unwrap();
        std::fs::write(self.path("known_hosts"), format!("[127.0.0.1]:{port} {public}")).unwrap();
        let config = format!(
            "Host site\nHostName 127.0.0.1\nPort {port}\nUser {1}\nIdentityFile {0}/key\nIdentitiesOnly yes\nIdentityAgent none\n\
             UserKnownHostsFile {0}/known_hosts\nStrictHostKeyChecking yes\n",
            self.folder.path().display(),
            self.shell("id -un").trim(),
        );
        std::fs::write(self.path("ssh_config"), config).unwrap();
        let (sshd, config, log) = (sshd.to_owned(), self.path("sshd_config"), self.path("sshd.log"));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let connection = OwnedFd::from(connection.unwrap());
                let mut server = Command::new(&sshd);
                server.arg("-i").arg("-f").arg(&config).arg("-E").arg(&log);
                server.stdin(connection.try_clone().unwrap()).stdout(connection);
                server.stderr(Stdio::null());
                let mut server = server.spawn().unwrap();
                thread::spawn(move || server.wait().unwrap());
            }
        });
    }

    fn policy(&self) -> PathBuf {
        let policy = self.path("policy.toml");
        let text = "default = \"run\"\n[[rule]]\nprogram = \"git\"\nargv = [\"push\"]\naction = \"escalate\"\nenv = [\"GIT_SSH_COMMAND\"]\n";
        std::fs::write(&policy, text).unwrap();
        policy
    }

    fn start(&self, mut command: Command) -> PtySession {
        command
            .current_dir(self.path("work"))
            .env("HOME", self.folder.path())
            .env(
                "GIT_SSH_COMMAND",
                format!("ssh -F {}", self.path("ssh_config").display()),
            )
            .env("PS1", "ready> ");
        for name in ["DISPLAY", "SSH_ASKPASS", "SSH_AUTH_SOCK", "GIT_ASKPASS", "TMPDIR"] {
            command.env_remove(name);
        }
        spawn_command(command, PATIENCE).unwrap()
    }

    fn url(&self) -> String {
        format!("ssh://site{}", self.path("remote.git").display())
    }

    /// Types the passphrase when ssh asks for it.
    fn answer(&self, terminal: &mut PtySession) {
        terminal.exp_string("Enter passphrase for key ").unwrap();
        terminal.exp_string("': ").unwrap();
        terminal.send_line(PASSPHRASE).unwrap();
        let said = terminal.exp_string("main -> main").unwrap_or_else(|error| {
            let log = std::fs::read_to_string(self.path("sshd.log")).unwrap_or_default();
            panic!("{error}; sshd: {log}")
        });
        assert!(!said.contains(PASSPHRASE), "the passphrase was shown: {said}");
    }

    fn assert_arrived(&self) {
        let pushed = self.shell("git -C remote.git log --format=%s main");
        assert_eq!(pushed, "to be pushed\n");
        assert_eq!(
            self.shell("git -C remote.git rev-parse main"),
            self.shell("git -C work rev-parse main")
        );
    }
}

/// Runs `test` if all is there that it needs.
fn at_a_site(test: impl FnOnce(&Site)) {
    let Some(sshd) = sshd().filter(|_| ["git", "ssh", "ssh-keygen"].into_iter().all(is_installed)) else {
        eprintln!("sshd, ssh, ssh-keygen or git is not installed, so `git push` over ssh is NOT TESTED");
        return;
    };
    let site = Site::new();
    site.serve(&sshd);
    test(&site);
}

#[test]
fn a_push_in_a_run_asks_for_the_passphrase_on_the_terminal() {
    at_a_site(|site| {
        let mut run = escalating("run", "bash-5.3", &site.policy());
        run.args(["--", &format!("git push {} main; echo status $?", site.url())]);
        let mut terminal = site.start(run);
        site.answer(&mut terminal);
        terminal.exp_string("status 0\r\n").unwrap();
        terminal.exp_eof().unwrap();
        site.assert_arrived();
    });
}

fn a_push_in_an_interactive_shell_asks(name: &str) {
    at_a_site(|site| {
        std::fs::write(site.path(".zshrc"), "PS1='ready> '\n").unwrap();
        let mut terminal = site.start(escalating("shell", name, &site.policy()));
        terminal.exp_string("ready> ").unwrap();
        terminal
            .send_line(&format!("git push {} main; echo status $?", site.url()))
            .unwrap();
        site.answer(&mut terminal);
        terminal.exp_string("status 0\r\n").unwrap();
        terminal.exp_string("ready> ").unwrap();
        // What was typed went to ssh alone.
        terminal.send_line("fc -ln -1; exit 6").unwrap();
        let rest = terminal.exp_eof().unwrap();
        assert!(!rest.contains(PASSPHRASE), "{rest}");
        site.assert_arrived();
    });
}

#[test]
fn a_push_in_an_interactive_bash_asks_on_the_terminal() {
    a_push_in_an_interactive_shell_asks("bash-5.3");
}

#[test]
fn a_push_in_an_interactive_zsh_asks_on_the_terminal() {
    a_push_in_an_interactive_shell_asks("zsh-5.9");
}
