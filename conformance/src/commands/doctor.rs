//! `conformance doctor`: checks the machine and the implementations under test, so that one line says what
//! is wrong before two hundred failures do.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::case::implementations::{CAPABILITIES, Implementations};
use crate::commands::arguments::Judged;
use crate::commands::preflight::{self, leaving_nothing};
use crate::exit::{self, Interrupted};
use crate::printable::printable;
use crate::runner::{PATH_OF_CASES, census};
use crate::system::launch::Launch;
use crate::system::process::ProcessHandle;

/// How long a filtered process may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Oldest kernel that has all that the suite uses: pidfd_open (5.3), close_range with CLOSE_RANGE_CLOEXEC (5.11).
const OLDEST_KERNEL: (u32, u32) = (5, 11);

/// Descriptors that a case may need at once.
const DESCRIPTORS: u64 = 1024;

/// Processes that the cases which run at a time may need beside what the user already runs.
const PROCESSES: u64 = 512;

/// Programs that scripts of the cases call, on the PATH that cases have.
const TOOLS: [&str; 33] = [
    "awk", "bash", "cat", "chmod", "cmp", "cp", "cut", "date", "diff", "env", "find", "grep", "head", "id",
    "kill", "ls", "mkdir", "mkfifo", "mv", "nice", "nohup", "od", "rm", "sed", "seq", "setsid", "sleep",
    "sort", "tee", "tr", "wc", "xargs", "yes",
];

/// What an examination found.
enum Finding {
    /// As it should be.
    Good(String),
    /// Some cases will not say what they could.
    Weak(String),
    /// Cases cannot be judged.
    Bad(String),
}

/// Examines and prints.
///
/// # Errors
/// Where standard output cannot be written.
pub fn doctor(judged: &Judged) -> anyhow::Result<i32> {
    census::keep_to_ourselves()?;
    let mut findings = vec![
        ("kernel", kernel()),
        ("/proc", proc()),
        ("descriptors", descriptors()),
        ("processes", processes()),
        ("temporary folder", temporary_folder()),
        ("seccomp", seccomp()),
        ("user namespaces", user_namespaces()),
        ("terminals", terminals()),
        ("tools", tools()),
        ("baselines of bench", baselines()),
    ];
    if let Some(path) = &judged.shell {
        findings.push((
            "--shell",
            finding(shell(path, judged.wrapper_variable.as_deref()))?,
        ));
    }
    if let Some(path) = &judged.wrapper {
        findings.push(("--wrapper", finding(wrapper(path))?));
    }
    if let Some(command) = &judged.server {
        findings.push(("--server", finding(server(command))?));
    }
    let mut output = std::io::stdout().lock();
    let mut bad = false;
    for (name, finding) in findings {
        let (word, text) = match finding {
            Finding::Good(text) => ("good", text),
            Finding::Weak(text) => ("weak", text),
            Finding::Bad(text) => {
                bad = true;
                ("BAD", text)
            }
        };
        writeln!(output, "{word:<5} {name}: {}", printable(&text))?;
    }
    Ok(if bad { exit::HARNESS } else { exit::EXPECTED })
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = OLDEST_KERNEL;
    if version >= OLDEST_KERNEL {
        Finding::Good(release.to_owned())
    } else {
        Finding::Bad(format!(
            "{release:?}: Linux {major}.{minor} or newer is needed (pidfd_open, close_range)"
        ))
    }
}

fn proc() -> Finding {
    match ProcessHandle::open(nix::unistd::getpid()) {
        Ok(Some(_)) if crate::system::process::state(std::process::id() as i32).is_some() => {
            match fs::read_dir("/proc/1/fd") {
                Ok(_) => Finding::Good("mounted, descriptors of all processes can be seen".to_owned()),
                Err(_) => Finding::Weak(
                    "descriptors of other users' processes are hidden; only one's own are searched"
                        .to_owned(),
                ),
            }
        }
        _ => Finding::Bad("not mounted, or pidfd_open is refused: mount it, or leave the sandbox".to_owned()),
    }
}

fn descriptors() -> Finding {
    match nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) if soft >= DESCRIPTORS => Finding::Good(format!("{soft} may be open")),
        Ok((soft, _)) => Finding::Bad(format!("only {soft} may be open: ulimit -n {DESCRIPTORS}")),
        Err(error) => Finding::Bad(format!("the limit cannot be read: {error}")),
    }
}

fn processes() -> Finding {
    match nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NPROC) {
        Ok((libc::RLIM_INFINITY, _)) => Finding::Good("as many as the machine can hold".to_owned()),
        Ok((soft, _)) if soft >= PROCESSES => Finding::Good(format!("{soft} may run")),
        Ok((soft, _)) => Finding::Bad(format!("only {soft} of this user may run: ulimit -u {PROCESSES}")),
        Err(error) => Finding::Bad(format!("the limit cannot be read: {error}")),
    }
}

fn temporary_folder() -> Finding {
    let folder = match tempfile::Builder::new().prefix("conformance-").tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            return Finding::Bad(format!(
                "cannot be made: {error} (is TMPDIR set to a writable folder?)"
            ));
        }
    };
    let script = folder.path().join("script");
    let made = fs::write(&script, "#!/bin/sh\nexit 0\n")
        .and_then(|()| fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)));
    match made.and_then(|()| Command::new(&script).status()) {
        Ok(status) if status.success() => Finding::Good(folder.path().display().to_string()),
        Ok(status) => Finding::Bad(format!("a program there ended with {status}")),
        Err(error) => Finding::Bad(format!(
            "programs there cannot be executed: {error} (mounted noexec? set TMPDIR)"
        )),
    }
}

fn seccomp() -> Finding {
    // A filter of one instruction: everything is allowed.
    let allow = libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    let launched = Launch::new("/bin/true", "/").filter(vec![allow]).start();
    match launched.and_then(|mut process| process.wait("a filtered process", PATIENCE)) {
        Ok(_) => Finding::Good("filters can be installed".to_owned()),
        Err(error) => Finding::Bad(format!(
            "filters cannot be installed, so sandboxes cannot be played: {error}"
        )),
    }
}

/// No case needs one, but a sandbox around the shell that is judged usually does.
fn user_namespaces() -> Finding {
    let command = Command::new("/usr/bin/unshare")
        .args(["--user", "--map-root-user", "/bin/true"])
        .output();
    match command {
        Ok(output) if output.status.success() => Finding::Good("can be made".to_owned()),
        Ok(output) => Finding::Weak(format!(
            "cannot be made ({}): no case needs one, but a sandbox made of them cannot be judged here",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Finding::Weak(format!(
            "cannot be tried: /usr/bin/unshare: {error}; no case needs one, but a sandbox may"
        )),
    }
}

fn terminals() -> Finding {
    match nix::pty::openpty(None, None) {
        Ok(_) => Finding::Good("pseudo-terminals can be opened".to_owned()),
        Err(error) => Finding::Bad(format!(
            "pseudo-terminals cannot be opened: {error} (is /dev/pts mounted?)"
        )),
    }
}

fn tools() -> Finding {
    let folders = PATH_OF_CASES.split(':');
    let missing: Vec<_> = TOOLS
        .into_iter()
        .filter(|tool| {
            !folders
                .clone()
                .any(|folder| Path::new(folder).join(tool).is_file())
        })
        .collect();
    if missing.is_empty() {
        Finding::Good("all that scripts of the cases call is there".to_owned())
    } else {
        Finding::Bad(format!("missing in {PATH_OF_CASES}: {}", missing.join(" ")))
    }
}

fn baselines() -> Finding {
    match tempfile::tempdir()
        .map_err(anyhow::Error::from)
        .and_then(|folder| {
            let programs = crate::bench::programs::Programs::write(folder.path())?;
            Ok(Command::new(&programs.nothing).status()?)
        }) {
        Ok(status) if status.success() => Finding::Good("run".to_owned()),
        Ok(status) => Finding::Weak(format!("end with {status}")),
        Err(error) => Finding::Weak(format!("{error:#}")),
    }
}

/// A preflight check as a finding. Interruption is an error, not a finding.
fn finding(trial: anyhow::Result<String>) -> anyhow::Result<Finding> {
    match trial {
        Ok(text) => Ok(Finding::Good(text)),
        Err(error) if error.is::<Interrupted>() => Err(error),
        Err(error) => Ok(Finding::Bad(format!("{error:#}"))),
    }
}

fn shell(path: &Path, variable: Option<&str>) -> anyhow::Result<String> {
    let mut named = Implementations::named(Some(path), None, None)?.with_wrapper_variable(variable)?;
    preflight::check(&mut named, 1.0)?;
    Ok(named.shell_version.unwrap_or_else(|| path.display().to_string()))
}

fn wrapper(path: &Path) -> anyhow::Result<String> {
    let mut named = Implementations::named(None, Some(path), None)?;
    leaving_nothing(|| preflight::try_wrapper(&named, 1.0))?;
    preflight::check(&mut named, 1.0)?;
    Ok(format!(
        "{} asks, and ends with 1 when it is denied; extensions: {}",
        path.display(),
        named.shown_extensions()
    ))
}

fn server(command: &str) -> anyhow::Result<String> {
    let mut named = Implementations::named(None, None, Some(command))?;
    preflight::check(&mut named, 1.0)?;
    let unknown: Vec<_> = named
        .capabilities
        .iter()
        .filter(|name| !CAPABILITIES.contains(&name.as_str()))
        .map(|name| format!("; the protocol has no capability {name}"))
        .collect();
    Ok(format!(
        "{} {}, capabilities: {}{}",
        named.server_name.unwrap_or_default(),
        named.server_version.unwrap_or_default(),
        named.capabilities.join(" "),
        unknown.concat()
    ))
}
