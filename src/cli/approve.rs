//! Asks for approval on the terminal.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use nix::sys::signal::{SigHandler, Signal, killpg, signal};
use nix::unistd::{Pid, getpgid, getpgrp, tcgetpgrp, tcsetpgrp};
use shell_escalation::{Approval, Approver, PolicyError, PolicyRequest};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use tokio::sync::Mutex;

use super::interrupts::Interrupts;

/// Asks one question at a time on the controlling terminal.
pub(super) struct TerminalApprover {
    /// The environment that the shell was given: differences from it are shown.
    environment: BTreeMap<OsString, OsString>,
    interrupts: Arc<Interrupts>,
    turn: Mutex<()>,
}

impl TerminalApprover {
    pub(super) fn new(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        interrupts: Arc<Interrupts>,
    ) -> Self {
        Self {
            environment: environment.into_iter().collect(),
            interrupts,
            turn: Mutex::new(()),
        }
    }
}

impl Approver for TerminalApprover {
    async fn approve(&self, request: &PolicyRequest, reason: Option<&str>) -> Result<Approval, PolicyError> {
        let _turn = self.turn.lock().await;
        let Ok(mut terminal) = Terminal::open() else {
            let reason = "needs approval, but there is no terminal to ask on".to_owned();
            return Ok(Approval::No { reason: Some(reason) });
        };
        if terminal.is_background(request.peer) {
            // Its shell is reading from the terminal, and would receive the answer.
            let reason = "needs approval, but runs in the background".to_owned();
            return Ok(Approval::No { reason: Some(reason) });
        }
        // Until the answer, the terminal's signals arrive here; an interrupt is meant for the command that waits for it.
        terminal.take()?;
        let asking = self.interrupts.question();
        terminal.say(&question(request, reason, &self.environment))?;
        loop {
            terminal.say("Run it outside? [y]es, [n]o, [a]lways in this session: ")?;
            let line = tokio::select! {
                line = terminal.line() => line?,
                () = asking.interrupted() => {
                    terminal.interrupt();
                    return Ok(Approval::No { reason: Some("interrupted".to_owned()) });
                }
            };
            match line.as_deref().map(str::trim) {
                Some("y" | "yes") => return Ok(Approval::Yes),
                Some("a" | "always") => return Ok(Approval::Always),
                Some("n" | "no") | None => {
                    return Ok(Approval::No {
                        reason: Some("not approved".to_owned()),
                    });
                }
                Some(_) => {}
            }
        }
    }
}

/// The controlling terminal. Once taken, this process is in its foreground until this is dropped.
struct Terminal {
    file: AsyncFd<File>,
    /// The process group to give the terminal back to.
    foreground: Option<Pid>,
}

impl Terminal {
    fn open() -> io::Result<Self> {
        // A new open file description: O_NONBLOCK on it affects no other process.
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/tty")?;
        // SAFETY: a File holds the same open descriptor until it is dropped.
        let file = unsafe { AsyncFd::register_with_interest(options, Interest::READABLE) }?;
        Ok(Self {
            file,
            foreground: None,
        })
    }

    /// Whether a process is known not to be in the terminal's foreground.
    fn is_background(&self, process: Option<i32>) -> bool {
        let group = process.and_then(|process| getpgid(Some(Pid::from_raw(process))).ok());
        let foreground = tcgetpgrp(self.file.get_ref()).ok();
        matches!((group, foreground), (Some(group), Some(foreground)) if group != foreground)
    }

    /// Moves this process to the foreground, so that reading does not stop it.
    fn take(&mut self) -> io::Result<()> {
        let foreground = tcgetpgrp(self.file.get_ref())
            .ok()
            .filter(|&group| group != getpgrp());
        if foreground.is_some() {
            // A background process is stopped if it reads from the terminal or changes its foreground group.
            // SAFETY: ignoring a signal needs no handler.
            unsafe { signal(Signal::SIGTTOU, SigHandler::SigIgn) }?;
            tcsetpgrp(self.file.get_ref(), getpgrp())?;
        }
        self.foreground = foreground;
        Ok(())
    }

    /// Forwards an interrupt to the previous foreground group.
    fn interrupt(&self) {
        if let Some(foreground) = self.foreground {
            // If the group no longer exists, there is nothing to interrupt.
            let _ = killpg(foreground, Signal::SIGINT);
        }
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.file.get_mut().write_all(text.as_bytes())
    }

    /// The next line, or `None` at the end of input.
    async fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        loop {
            let mut ready = self.file.readable_mut().await?;
            let mut byte = [0];
            match ready.get_inner_mut().read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) if byte == [b'\n'] => return Ok(Some(String::from_utf8_lossy(&line).into_owned())),
                Ok(_) => line.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A shell whose job has ended in the meantime has already taken the terminal back.
        let ours = tcgetpgrp(self.file.get_ref()).is_ok_and(|group| group == getpgrp());
        if let (true, Some(foreground)) = (ours, self.foreground) {
            // If the group no longer exists, the shell takes its terminal back.
            let _ = tcsetpgrp(self.file.get_ref().as_fd(), foreground);
        }
    }
}

/// What a person needs to know to answer. The sandboxed side chose all of it, so it is escaped before it reaches the
/// terminal.
fn question(
    request: &PolicyRequest,
    reason: Option<&str>,
    environment: &BTreeMap<OsString, OsString>,
) -> String {
    let mut text = String::from("\nA command asks to run outside the sandbox:\n");
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<12}{value}");
    };
    line("program", shown(request.program.as_os_str()));
    if let Some(canonical) = request
        .canonical
        .as_deref()
        .filter(|path| *path != request.program)
    {
        line("resolves to", shown(canonical.as_os_str()));
    }
    let first: Vec<String> = request
        .argv
        .iter()
        .take(MOST_SHOWN)
        .map(|argument| shown(argument))
        .collect();
    line("arguments", first.join(" ") + &more(request.argv.len()));
    line("directory", shown(request.workdir.as_os_str()));
    let differences = differences(&request.env, environment);
    for (index, difference) in differences.iter().take(MOST_SHOWN).enumerate() {
        line(if index == 0 { "environment" } else { "" }, difference.clone());
    }
    if differences.len() > MOST_SHOWN {
        line("", more(differences.len()));
    }
    if let Some(reason) = reason {
        line("reason", reason.to_owned());
    }
    text
}

/// Arguments and variables beyond this number are only counted: no person would read them.
const MOST_SHOWN: usize = 50;

fn more(count: usize) -> String {
    match count.saturating_sub(MOST_SHOWN) {
        0 => String::new(),
        rest => format!(" … and {rest} more"),
    }
}

/// How an environment differs from the shell's, in the order of the variables' names.
fn differences(env: &[(OsString, OsString)], base: &BTreeMap<OsString, OsString>) -> Vec<String> {
    let env: BTreeMap<&OsStr, &OsStr> = env
        .iter()
        .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
        .collect();
    let mut found = Vec::new();
    for (name, value) in &env {
        let value = if is_secret(name) {
            "(hidden)".to_owned()
        } else {
            shown(value)
        };
        match base.get(*name) {
            Some(before) if before.as_os_str() == env[name] => {}
            Some(_) => found.push(format!("changed {}={value}", shown(name))),
            None => found.push(format!("added   {}={value}", shown(name))),
        }
    }
    let gone = base.keys().filter(|name| !env.contains_key(name.as_os_str()));
    found.extend(gone.map(|name| format!("removed {}", shown(name))));
    found
}

fn is_secret(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "AUTH"]
        .iter()
        .any(|part| name.contains(part))
}

/// The text in printable characters on one line, quoted if spaces or other characters could mislead, and truncated if long.
fn shown(text: &OsStr) -> String {
    const LONGEST: usize = 200;
    let text = text.to_string_lossy();
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-./,:=+@%~^".contains(character);
    let mut shown = if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        // This also escapes bidi controls and zero-width joiners.
        format!("\"{}\"", text.escape_debug())
    };
    if shown.chars().count() > LONGEST {
        shown = shown.chars().take(LONGEST).chain("… (cut)".chars()).collect();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_shows_what_matters_and_escapes_it() {
        let mut request = PolicyRequest::new("/opt/tool\u{1b}[2J");
        request.canonical = Some("/srv/tool".into());
        let many = "x".repeat(300);
        request.argv = [
            "tool",
            "",
            "two words",
            "line\nbreak",
            "right\u{202e}left",
            "it's",
            &many,
        ]
        .map(Into::into)
        .to_vec();
        request.workdir = "/home/me".into();
        request.env = [
            ("PATH", "/evil:/bin"),
            ("HOME", "/root"),
            ("API_TOKEN", "hunter2"),
            ("N\u{7}", "1"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
        let base = [("PATH", "/bin"), ("HOME", "/root"), ("LANG", "C")];
        let base = base.map(|(name, value)| (name.into(), value.into())).into();
        insta::assert_snapshot!(question(&request, Some("it reaches the network"), &base));
    }

    #[test]
    fn characters_without_a_glyph_are_shown_by_their_numbers() {
        let invisible = [
            '\u{200b}'..='\u{200f}',
            '\u{202a}'..='\u{202e}',
            '\u{2060}'..='\u{206f}',
            '\u{feff}'..='\u{feff}',
        ];
        for character in invisible.into_iter().flatten() {
            let text = format!("a{character}b");
            assert_eq!(
                shown(OsStr::new(&text)),
                format!("\"a{}b\"", character.escape_unicode())
            );
        }
    }

    #[test]
    fn what_just_fits_is_shown_in_full() {
        let mut request = PolicyRequest::new("/bin/true");
        let long = "x".repeat(200);
        request.argv = vec![long.clone().into()];
        request.env = (0..50)
            .map(|number| (format!("V{number}").into(), "".into()))
            .collect();
        let text = question(&request, None, &BTreeMap::new());
        assert!(text.contains(&format!("  arguments   {long}\n")), "{text}");
        assert!(text.ends_with("  added   V9=\"\"\n"), "{text}");
    }

    #[test]
    fn what_is_too_much_to_read_is_counted() {
        let mut request = PolicyRequest::new("/bin/true");
        request.argv = (0..1000).map(|number| number.to_string().into()).collect();
        request.env = (0..60)
            .map(|number| (format!("V{number}").into(), "".into()))
            .collect();
        let text = question(&request, None, &BTreeMap::new());
        assert!(
            text.contains(" 48 49 … and 950 more\n") && text.ends_with(" … and 10 more\n"),
            "{text}"
        );
    }
}
