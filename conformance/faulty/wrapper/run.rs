//! Run and Deny, and what a process is.

use std::ffi::{CStr, CString};

use crate::Call;
use crate::faults::Faults;

unsafe extern "C" {
    static mut environ: *const *const libc::c_char;
}

/// What a careless language runtime does to a process before the wrapper's own code begins.
pub fn spoil_process(faults: &Faults) {
    // SAFETY: plain system calls on integers and a local signal set.
    unsafe {
        if faults.has("sigpipe-left-ignored") {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        }
        if faults.has("ignored-signals-reset") {
            for signal in 1..=31 {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        if faults.has("sigint-ignored-reset") {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
        }
        if faults.has("mask-cleared") || faults.has("mask-filled") {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            if faults.has("mask-filled") {
                libc::sigaddset(&raw mut set, libc::SIGCHLD);
            }
            libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        }
        if faults.has("null-on-closed-stdio") {
            for number in 0..3 {
                if libc::fcntl(number, libc::F_GETFD) < 0 {
                    libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
                }
            }
        }
        if faults.has("stdin-made-nonblocking") {
            let flags = libc::fcntl(0, libc::F_GETFL);
            libc::fcntl(0, libc::F_SETFL, flags | libc::O_NONBLOCK);
        }
        if faults.has("umask-reset") {
            libc::umask(0o022);
        }
        if faults.has("nice-reset") {
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        }
        if faults.has("limits-raised") {
            let limit = libc::rlimit {
                rlim_cur: 64,
                rlim_max: 64,
            };
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
        if faults.has("own-process-group") {
            libc::setpgid(0, 0);
            libc::setsid();
        }
        if faults.has("new-privileges-refused") {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        }
        if faults.has("needs-a-thread") && std::thread::Builder::new().spawn(|| {}).is_err() {
            exit(101);
        }
        if faults.has("needs-many-descriptors") {
            for _ in 0..16 {
                if libc::fcntl(2, libc::F_DUPFD_CLOEXEC, 100) < 0 && libc::fcntl(2, libc::F_GETFD) >= 0 {
                    exit(101);
                }
            }
        }
    }
}

/// _exit(2).
pub fn exit(status: i32) -> ! {
    // SAFETY: takes an integer.
    unsafe { libc::_exit(status) }
}

/// abort(3), as a panic in a wrapper ends.
pub fn abort() -> ! {
    // SAFETY: takes nothing.
    unsafe { libc::abort() }
}

/// Writes to standard error, wherever that is.
pub fn write_error(bytes: &[u8]) {
    write_to(2, bytes);
}

fn write_to(number: i32, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: write reads `rest`.
        let written = unsafe { libc::write(number, rest.as_ptr().cast(), rest.len()) };
        let Ok(written) = usize::try_from(written) else {
            return;
        };
        rest = &rest[written..];
    }
}

/// The environment's entries.
pub fn environment() -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    // SAFETY: one thread; `environ` is a null-terminated vector of C strings.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            entries.push(CStr::from_ptr(*entry).to_bytes().to_vec());
            entry = entry.add(1);
        }
    }
    entries
}

/// Starts a process that does nothing but hold the descriptors of this one.
pub fn helper_that_holds_everything() {
    // SAFETY: fork in a process of one thread; the child only waits.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            loop {
                libc::pause();
            }
        }
    }
}

/// getcwd(3).
pub fn working_directory(faults: &Faults) -> Vec<u8> {
    let mut buffer = vec![0_u8; 1 << 16];
    // SAFETY: getcwd writes at most as many bytes as it is told.
    if unsafe { libc::getcwd(buffer.as_mut_ptr().cast(), buffer.len()) }.is_null() {
        crate::fail_closed(faults, "the working directory has no name");
    }
    buffer.truncate(buffer.iter().position(|byte| *byte == 0).unwrap_or(0));
    buffer
}

/// The umask, left as it is.
pub fn umask() -> u32 {
    // SAFETY: umask takes and gives an integer.
    unsafe {
        let umask = libc::umask(0);
        libc::umask(umask);
        umask
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Ends by running a shell command.
pub fn shell_command(command: &str) -> ! {
    let words: Vec<CString> = ["sh", "-c", command]
        .iter()
        .filter_map(|word| CString::new(*word).ok())
        .collect();
    // SAFETY: execv reads C strings that live until it succeeds.
    unsafe { libc::execv(c"/bin/sh".as_ptr(), pointers(&words).as_ptr()) };
    exit(0)
}

/// Becomes FILE.
pub fn execute(faults: &Faults, file: &CString, arguments: &[CString]) -> ! {
    let mut arguments = arguments.to_vec();
    if faults.has("run-replaces-argv0") && !arguments.is_empty() {
        arguments[0] = file.clone();
    }
    if faults.has("run-changes-directory") {
        // SAFETY: chdir reads a C string.
        unsafe { libc::chdir(c"/".as_ptr()) };
    }
    let mut entries: Vec<CString> = environment()
        .into_iter()
        .filter_map(|entry| CString::new(entry).ok())
        .collect();
    if faults.has("run-cleans-the-environment") {
        entries.retain(|entry| {
            !entry.as_bytes().starts_with(b"EXEC_WRAPPER=") && !entry.as_bytes().starts_with(b"CODEX_")
        });
    }
    if faults.has("run-adds-a-variable") {
        entries.push(c"WRAPPED=1".to_owned());
    }
    if faults.has("run-closes-the-socket") {
        // SAFETY: close takes an integer.
        unsafe { libc::close(20) };
    }
    if faults.has("run-closes-others") {
        for number in (3..100).filter(|number| *number != 20) {
            // SAFETY: close takes an integer.
            unsafe { libc::close(number) };
        }
    }
    let mut path = file.clone();
    if faults.has("run-searches-path") && !file.as_bytes().contains(&b'/') {
        path = CString::new([b"/usr/bin/", file.as_bytes()].concat()).unwrap_or(path);
    }
    // SAFETY: execve reads C strings and null-terminated vectors that live until it succeeds.
    unsafe {
        libc::execve(
            path.as_ptr(),
            pointers(&arguments).as_ptr(),
            pointers(&entries).as_ptr(),
        )
    };
    let mut error = std::io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOEXEC) && !faults.has("bare-scripts-refused") {
        let mut vector = vec![c"/bin/sh".to_owned(), path];
        if !faults.has("bare-scripts-lose-arguments") {
            vector.extend(arguments.into_iter().skip(1));
        }
        // SAFETY: as above.
        unsafe {
            libc::execve(
                c"/bin/sh".as_ptr(),
                pointers(&vector).as_ptr(),
                pointers(&entries).as_ptr(),
            )
        };
        error = std::io::Error::last_os_error();
    }
    if !faults.has("missing-without-message") {
        write_error(format!("faulty-wrapper: {}: {error}\n", file.to_string_lossy()).as_bytes());
    }
    let missing = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR));
    exit(match () {
        () if faults.has("missing-with-status-1") => 1,
        () if faults.has("missing-always-127") => 127,
        () if faults.has("missing-always-126") => 126,
        () if missing => 127,
        () => 126,
    })
}

/// Runs FILE as a child, as wrappers in languages without exec do.
pub fn spawn_and_wait(call: &Call) -> ! {
    // SAFETY: fork in a process of one thread; waitpid writes one integer.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            execute(&call.faults, &call.file, &call.arguments);
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        exit(if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        })
    }
}

/// Says why and ends with 1.
pub fn deny(faults: &Faults, reason: Option<&str>) -> ! {
    let mut text = match reason {
        None if faults.has("no-reason-said-as-null") => "Execution denied: null".to_owned(),
        None => "Execution denied".to_owned(),
        Some(_) if faults.has("reason-left-out") => "Execution denied".to_owned(),
        Some(reason) => {
            let mut reason = reason.to_owned();
            if faults.has("reason-cut-at-the-first-newline") {
                reason = reason.lines().next().unwrap_or_default().to_owned();
            }
            if faults.has("reason-cut-at-1-kib") {
                reason = reason.chars().take(1024).collect();
            }
            if faults.has("reason-as-ascii") {
                reason = reason
                    .chars()
                    .map(|character| if character.is_ascii() { character } else { '?' })
                    .collect();
            }
            if faults.has("reason-as-format") {
                reason = reason.replace("%s", "(null)");
            }
            format!("Execution denied: {reason}")
        }
    };
    if !faults.has("control-characters-raw") {
        text = text
            .chars()
            .map(|character| match character {
                '\n' | '\t' => character.to_string(),
                '\u{80}'..='\u{9f}' if faults.has("c1-control-characters-raw") => character.to_string(),
                character if character.is_control() => character.escape_default().to_string(),
                character => character.to_string(),
            })
            .collect();
    }
    if !faults.has("denial-without-newline") {
        text.push('\n');
    }
    if faults.has("denial-on-standard-output") {
        write_to(1, text.as_bytes());
    } else if !faults.has("denial-without-message") {
        write_error(text.as_bytes());
    }
    if faults.has("denial-twice") {
        write_to(1, b"denied\n");
    }
    if faults.has("denied-runs-anyway") {
        let words: Vec<CString> = std::env::args()
            .skip(1)
            .filter_map(|word| CString::new(word).ok())
            .collect();
        execute(faults, &words[0], &words[1..]);
    }
    exit(match () {
        () if faults.has("denial-with-status-0") => 0,
        () if faults.has("denial-with-status-126") => 126,
        () => 1,
    })
}
