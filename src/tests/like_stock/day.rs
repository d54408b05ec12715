//! An interactive day: the same keys in the stock shell and in the patched one, with the tools escalated. Transcript and terminal
//! are the same.
//!
//! Each key waits for what it answers. LIKE_STOCK_ROUNDS says how many days there are (1).

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use rexpect::reader::Regex;
use rexpect::session::{PtySession, spawn_command};

use super::shells::{escalating, is_installed, stock};

const PATIENCE: Option<u64> = Some(60_000);
const PROMPT: &str = "ready> ";
/// What is escalated; everything else runs where the shell is.
const ESCALATED: &[&str] = &[
    "bash",
    "cat",
    "cc",
    "dd",
    "ed",
    "git",
    "less",
    "make",
    "python3",
    "sh",
    "sleep",
    "ssh-keygen",
    "stty",
    "vim",
    "vi",
];

/// Says when it has the terminal, after it hadn't: no other event tells. It starts no process meanwhile: a shell that is just in
/// vfork(2) when its job is stopped isn't stopped.
const FRONT: &str =
    "has_terminal() { read -r _ _ _ _ group _ _ front _ < /proc/$$/stat; [ \"$group\" = \"$front\" ]; }
echo begun
while has_terminal; do :; done
echo > behind
until has_terminal; do :; done
echo in front
exec sleep 600
";

nix::ioctl_write_ptr_bad!(set_window, libc::TIOCSWINSZ, libc::winsize);

/// A shell on a terminal, and what it has shown.
struct Day {
    terminal: PtySession,
    folder: PathBuf,
    shown: String,
}

impl Day {
    fn begin(mut shell: Command, folder: &Path) -> Self {
        let startup = format!("PS1='{PROMPT}'; PS2='> '; unset PROMPT_COMMAND\n");
        std::fs::write(folder.join(".bashrc"), &startup).unwrap();
        // Without these, zsh shows each prompt differently, after what stands before it.
        std::fs::write(
            folder.join(".zshrc"),
            format!("{startup}unsetopt prompt_sp prompt_cr bang_hist\n"),
        )
        .unwrap();
        let git = "[user]\nname = me\nemail = me@localhost\n[init]\ndefaultBranch = main\n[core]\npager = less\n[advice]\ndetachedHead = false\n";
        std::fs::write(folder.join(".gitconfig"), git).unwrap();
        std::fs::write(folder.join("front"), FRONT).unwrap();
        shell.current_dir(folder).env("HOME", folder).env("TERM", "linux");
        shell
            .env("LC_ALL", "C")
            .env("LESS", "")
            .env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z");
        shell.env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z");
        for name in [
            "DISPLAY",
            "SSH_ASKPASS",
            "SSH_AUTH_SOCK",
            "TMPDIR",
            "EDITOR",
            "VISUAL",
            "PAGER",
            "LESSOPEN",
        ] {
            shell.env_remove(name);
        }
        let terminal = spawn_command(shell, PATIENCE).unwrap();
        let mut day = Self {
            terminal,
            folder: folder.to_owned(),
            shown: String::new(),
        };
        // Whatever comes before the first prompt is the server's greeting.
        day.see(PROMPT);
        day.resize(40, 200);
        // rexpect has turned it off.
        day.line("stty echo");
        day.shown.clear();
        day
    }

    /// Puts a job into the background and the foreground again, and interrupts it once it has the terminal.
    fn bg_fg_interrupt(&mut self, prompt: &str) {
        for line in ["bg", "until [ -e behind ]; do :; done; rm behind", "jobs"] {
            self.type_line(line);
            self.see(prompt);
        }
        self.type_line("fg");
        self.see("in front");
        self.control('c');
        self.see(prompt);
    }

    /// Waits until the terminal shows this.
    fn see(&mut self, text: &str) {
        let before = self.terminal.exp_string(text).unwrap_or_else(|error| {
            panic!("{text:?} isn't shown: {error}\nbefore: {}", last(&self.shown, 12))
        });
        self.shown += &before;
        self.shown += text;
    }

    fn keys(&mut self, keys: &str) {
        self.terminal.send(keys).unwrap();
        self.terminal.flush().unwrap();
    }

    /// Types a line at a prompt, without what its echo looks like.
    fn type_line(&mut self, line: &str) {
        self.shown += &format!("[{line}]\n");
        self.terminal.send_line(line).unwrap();
        self.terminal.exp_string("\n").unwrap();
    }

    /// A command and all that it shows.
    fn line(&mut self, line: &str) {
        self.type_line(line);
        self.see(PROMPT);
    }

    fn control(&mut self, key: char) {
        self.terminal.send_control(key).unwrap();
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = self.terminal.process().get_file_handle().unwrap();
        // SAFETY: the descriptor is open, and the structure is what TIOCSWINSZ reads.
        unsafe { set_window(std::os::fd::AsRawFd::as_raw_fd(&terminal), &raw const size) }.unwrap();
    }

    /// Ends the shell; what was shown, without what differs from day to day.
    fn end(mut self) -> String {
        self.type_line("stty -a; exit 3");
        self.shown += &self.terminal.exp_eof().unwrap();
        let status = format!("{:?}", self.terminal.process().wait().unwrap());
        assert!(status.ends_with(", 3)"), "{status}");
        let shown = self.shown.replace(self.folder.to_str().unwrap(), "FOLDER");
        let job = Regex::new(r"(\[\d+\]) +\d+").unwrap();
        job.replace_all(&shown, "$1 PID").into_owned()
    }
}

/// Edits, builds, commits, signs, rebases.
fn work(day: &mut Day) {
    day.type_line("ed -p 'ed> ' main.c");
    day.see("ed> ");
    for (line, answer) in [
        ("a", ""),
        ("int main(void) { return 4; }", ""),
        (".", "ed> "),
        ("s/4/5/p", "ed> "),
        ("w", "ed> "),
        ("q", PROMPT),
    ] {
        day.type_line(line);
        day.see(answer);
    }
    day.line("printf 'main: main.c\\n\\t@echo building; cc -o main main.c\\n' > Makefile");
    day.line("make; ./main; echo $?; make");
    day.line("git init -q; git add main.c Makefile; git commit -qm one; echo two > two; git add two; git commit -qm two");
    day.line("echo three > three; git add three; git commit -m three; git status");
    day.line("GIT_SEQUENCE_EDITOR='sed -i s/^pick.*three/fixup/' git rebase -i HEAD~2; git log --oneline --stat | cat");
    // The editor of the message is another program that has the terminal.
    day.type_line("GIT_EDITOR=\"ed -p 'ed> '\" git commit --amend");
    day.see("ed> ");
    for (line, answer) in [("1s/.*/amended/", "ed> "), ("w", "ed> "), ("q", PROMPT)] {
        day.type_line(line);
        day.see(answer);
    }
    day.line("ssh-keygen -q -t ed25519 -C '' -N 'a secret' -f key; git config gpg.format ssh; git config user.signingkey $PWD/key.pub");
    day.type_line("git commit -S --allow-empty -qm signed; echo $?");
    day.see("Enter passphrase");
    day.see(": ");
    day.keys("a secret\n");
    day.see(PROMPT);
    day.line("git cat-file commit HEAD | grep -c 'BEGIN SSH SIGNATURE'");
    day.type_line("git add -p; echo $?");
    day.see(PROMPT);
}

/// Programs that have the screen to themselves.
fn screens(day: &mut Day) {
    day.line("i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo line $i; done > lines");
    day.type_line("less lines");
    day.see("line 39");
    day.see("lines");
    day.keys(" ");
    day.see("line 78");
    day.see(":");
    day.keys("/line 95\n");
    day.see("(END)");
    // Stopped in the middle of it, and continued.
    day.control('z');
    day.see(PROMPT);
    day.line("stty -a; jobs");
    day.type_line("fg");
    day.see("(END)");
    day.keys("q");
    day.see(PROMPT);
    day.type_line("git log --format='%an %s'");
    day.see("(END)");
    day.keys("q");
    day.see(PROMPT);
    let raw =
        "s=$(stty -g); stty raw -echo; printf \"key? \"; dd bs=1 count=1 2>/dev/null | od -c; stty \"$s\"";
    for key in ["x", "\u{3}", "\u{1a}", "\r"] {
        day.type_line(&format!("sh -c '{raw}'"));
        day.see("key? ");
        day.keys(key);
        day.see(PROMPT);
    }
    day.line("stty -a");
}

/// Edits in vim: what it draws depends on how quickly keys come, what it writes doesn't.
fn vim(day: &mut Day) {
    day.type_line("vim -u NONE -N -n lines");
    let before = day.shown.len();
    day.see("line 30");
    day.keys("O");
    day.see("INSERT");
    day.keys("typed\u{1b}");
    day.keys(":w\r");
    day.see("written");
    // vim stops its group, not only itself.
    day.control('z');
    day.see(PROMPT);
    day.shown.truncate(before);
    day.line("stty -a; head -n 2 lines");
    day.type_line("fg");
    let before = day.shown.len();
    day.see("line 30");
    day.keys(":q\r");
    day.see(PROMPT);
    day.shown.truncate(before);
    day.line("stty -a; jobs; echo $?");
}

/// Ctrl-C, Ctrl-\, Ctrl-Z, fg, bg.
fn jobs(day: &mut Day) {
    let begins = "sh -c 'echo be\"\"gun; exec sleep 600'";
    for key in ['c', '\\'] {
        day.type_line(begins);
        day.see("begun");
        day.control(key);
        day.see(PROMPT);
        day.line("echo $?");
    }
    // Both ends of a pipeline, of which only one hears of the end of file. What the first says goes through both, which have begun
    // then: a shell's copy that has not become its command loses what comes.
    day.type_line("sh -c 'echo be\"\"gun; exec sleep 600' | sh -c 'cat; echo finished'");
    day.see("begun");
    day.control('c');
    day.see(PROMPT);
    day.line("echo $?");
    day.type_line("sh front");
    day.see("begun");
    day.control('z');
    day.see(PROMPT);
    day.line("echo $?; jobs");
    day.bg_fg_interrupt(PROMPT);
    day.line("echo $?");
    // A reader in the background is stopped, and what is typed is the shell's.
    let stopped = "until grep -q '^State:.T' /proc/$!/status; do :; done";
    day.line(&format!("cat > stolen & {stopped}"));
    day.line("echo typed; jobs; wc -c < stolen");
    day.type_line("fg");
    day.see("cat > stolen");
    day.see("\n");
    day.keys("for cat\n");
    day.control('d');
    day.see(PROMPT);
    day.line("cat stolen");
    day.line(&format!(
        "stty tostop; sh -c 'echo written' & {stopped}; stty -tostop"
    ));
    day.type_line("fg");
    day.see("written");
    day.see(PROMPT);
    day.line("stty -a");
}

/// The window changes its size, and shells are nested.
fn windows_and_shells(day: &mut Day) {
    day.type_line(
        "sh -c 'trap \"stty size; exit 0\" WINCH; echo wai\"\"ting; while :; do read -r line; done'",
    );
    day.see("waiting");
    day.resize(30, 120);
    day.see("30 120");
    day.see(PROMPT);
    day.line("stty size");
    day.resize(40, 200);
    day.line("stty size");
    day.type_line("bash --norc --noediting -i");
    let (_, prompt) = day.terminal.exp_regex("[$#] ").unwrap();
    day.shown += &prompt;
    nested(day, "PS1='in''side> '");
    nested(day, "tty > /dev/null; echo $?; stty -a");
    day.type_line("sh front");
    day.see("begun");
    day.control('z');
    day.see("inside> ");
    nested(day, "jobs");
    day.bg_fg_interrupt("inside> ");
    nested(day, "echo $?");
    day.type_line("exit 4");
    day.see(PROMPT);
    day.line("echo $?; stty -a");
}

fn nested(day: &mut Day, line: &str) {
    day.type_line(line);
    day.see("inside> ");
}

/// The hours of a day, each with what it needs.
type Hour = (&'static [&'static str], fn(&mut Day));

const HOURS: &[Hour] = &[
    (&["ed", "make", "cc", "git", "ssh-keygen"], work),
    (&["less", "git"], screens),
    (&["vim"], vim),
    (&[], jobs),
    (&["bash"], windows_and_shells),
];

/// All that is shown in a day.
fn shown(shell: Command, folder: &Path) -> String {
    let mut day = Day::begin(shell, folder);
    for (needed, hour) in HOURS {
        match needed.iter().find(|tool| !is_installed(tool)) {
            None => hour(&mut day),
            Some(missing) => {
                eprintln!("{missing} is not installed, so a part of the interactive day is NOT TESTED")
            }
        }
    }
    day.end()
}

fn a_day_is_like_one_in_the_stock_shell(name: &str) {
    let rounds = std::env::var("LIKE_STOCK_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let here = tempfile::tempdir().unwrap();
    let policy = here.path().join("policy.toml");
    let rules = ESCALATED
        .iter()
        .map(|tool| format!("[[rule]]\nprogram = \"{tool}\"\naction = \"escalate\"\nenv = \"request\"\n"));
    std::fs::write(
        &policy,
        format!("default = \"run\"\n{}", rules.collect::<String>()),
    )
    .unwrap();
    let folder = here.path().join("day");
    let day = |shell| {
        std::fs::create_dir(&folder).unwrap();
        let shown = shown(shell, &folder);
        std::fs::remove_dir_all(&folder).unwrap();
        shown
    };
    for round in 1..=rounds {
        let mut interactive = stock(name);
        interactive.arg("-i");
        let expected = day(interactive);
        let mut session = escalating("shell", name, &policy);
        session.args(["--sandbox", "full-access"]);
        let seen = day(session);
        assert!(
            seen == expected,
            "round {round} of {rounds}: {}",
            difference(&expected, &seen)
        );
    }
}

/// The last lines of a text.
fn last(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The first lines that differ.
fn difference(expected: &str, seen: &str) -> String {
    let same = expected
        .lines()
        .zip(seen.lines())
        .take_while(|(expected, seen)| expected == seen)
        .count();
    let around = |text: &str| {
        text.lines()
            .skip(same.saturating_sub(8))
            .take(16)
            .collect::<Vec<_>>()
            .join("\n")
    };
    format!("expected\n{:?}\nseen\n{:?}", around(expected), around(seen))
}

#[test]
fn a_day_in_bash_is_like_one_in_the_stock_shell() {
    a_day_is_like_one_in_the_stock_shell("bash-5.3");
}

#[test]
fn a_day_in_zsh_is_like_one_in_the_stock_shell() {
    a_day_is_like_one_in_the_stock_shell("zsh-5.9");
}
