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
        if faults.has("messages-go-to-standard-output") && !has_standard_error() {
            MESSAGES.store(1, std::sync::atomic::Ordering::Relaxed);
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
        if faults.has("real-time-signals-reset") {
            (32..=64).for_each(crate::escalate::set_default);
        }
        if faults.has("signals-before-the-descriptors-lost") {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in crate::escalate::FORWARDED {
                libc::sigaddset(&raw mut set, signal);
            }
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        if faults.has("library-signals-unblocked") {
            crate::escalate::unblock(0b11 << 31);
        }
        if faults.has("interruptions-end-the-wait") || faults.has("caught-signals-exit") {
            let caught = if faults.has("caught-signals-exit") {
                libc::SIGTERM
            } else {
                libc::SIGWINCH
            };
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = if faults.has("caught-signals-exit") {
                exit_at_once as *const () as usize
            } else {
                nothing as *const () as usize
            };
            libc::sigaction(caught, &raw const action, std::ptr::null_mut());
        }
        if faults.has("flags-changed-while-it-waits") || faults.has("append-taken-off") {
            let number = if faults.has("append-taken-off") { 2 } else { 0 };
            let flags = libc::fcntl(number, libc::F_GETFL);
            libc::fcntl(
                number,
                libc::F_SETFL,
                (flags & !libc::O_APPEND) ^ if number == 0 { libc::O_NONBLOCK } else { 0 },
            );
        }
        if faults.has("standard-input-read-ahead") {
            let mut byte = 0_u8;
            let flags = libc::fcntl(0, libc::F_GETFL);
            let mut poll = libc::pollfd {
                fd: 0,
                events: libc::POLLIN,
                revents: 0,
            };
            if flags >= 0 && libc::poll(&raw mut poll, 1, 0) == 1 {
                libc::read(0, (&raw mut byte).cast(), 1);
            }
        }
        if faults.has("files-looked-at") {
            libc::lseek(escalation_number(), 0, libc::SEEK_END);
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

extern "C" fn exit_at_once(_signal: libc::c_int) {
    exit(0)
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// What a careless wrapper does to its process just before it becomes the command.
pub fn spoil_before_run(faults: &Faults) {
    // SAFETY: plain system calls on integers and a local signal set.
    unsafe {
        if faults.has("pending-signals-taken") {
            let mut set = std::mem::zeroed();
            libc::sigfillset(&raw mut set);
            let now = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            while libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const now) > 0 {}
        }
        if faults.has("high-descriptors-closed") {
            libc::syscall(libc::SYS_close_range, 100, libc::c_uint::MAX, 0);
        }
        if faults.has("socket-duplicated") {
            libc::dup(escalation_number());
        }
        if faults.has("flags-changed-while-it-waits") {
            let flags = libc::fcntl(0, libc::F_GETFL);
            libc::fcntl(0, libc::F_SETFL, flags ^ libc::O_NONBLOCK);
        }
        if faults.has("streams-opened-again") {
            let opened = libc::open(c"/proc/self/fd/0".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            libc::dup2(opened, 0);
            libc::close(opened);
        }
        if faults.has("terminal-given-up") {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::ioctl(0, libc::TIOCNOTTY);
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
        }
        if faults.has("stack-limit-lowered") {
            let limit = libc::rlimit {
                rlim_cur: 1 << 20,
                rlim_max: 1 << 20,
            };
            libc::setrlimit(libc::RLIMIT_STACK, &raw const limit);
        }
    }
}

/// Whether descriptor 2 is open.
pub fn has_standard_error() -> bool {
    // SAFETY: fcntl on a number that may be closed fails with EBADF.
    unsafe { libc::fcntl(2, libc::F_GETFD) >= 0 }
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
    let number = MESSAGES.load(std::sync::atomic::Ordering::Relaxed);
    // Where standard error is closed, what took the number later is nobody's standard error.
    if number == 2 || !has_standard_error() {
        write_to(number, bytes);
    }
}

/// Where messages go: 2, but for a fault.
pub static MESSAGES: std::sync::atomic::AtomicI32 = std::sync::atomic::AtomicI32::new(2);

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
    if faults.has("variant-sorted-environment") {
        entries.sort();
    }
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
        unsafe { libc::close(escalation_number()) };
    }
    if faults.has("run-closes-others") {
        for number in (3..100).filter(|number| *number != escalation_number()) {
            // SAFETY: close takes an integer.
            unsafe { libc::close(number) };
        }
    }
    let mut path = file.clone();
    if faults.has("run-searches-path") && !file.as_bytes().contains(&b'/') {
        path = CString::new([b"/usr/bin/", file.as_bytes()].concat()).unwrap_or(path);
    }
    if faults.has("run-searches-path-first") {
        // SAFETY: execvp reads C strings; it looks into PATH for a name without a slash.
        unsafe { libc::execvp(path.as_ptr(), pointers(&arguments).as_ptr()) };
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
        if faults.has("empty-scripts-refused")
            && std::fs::metadata(&*file.to_string_lossy()).is_ok_and(|found| found.len() == 0)
        {
            write_error(b"faulty-wrapper: an empty file\n");
            exit(126);
        }
        if faults.has("bare-scripts-spawned") {
            // SAFETY: fork in a process of one thread; waitpid writes one integer.
            unsafe {
                let child = libc::fork();
                if child > 0 {
                    let mut status = 0;
                    libc::waitpid(child, &raw mut status, 0);
                    exit(libc::WEXITSTATUS(status));
                }
            }
        }
        let mut vector = vec![c"/bin/sh".to_owned()];
        // A name that begins with a dash is no option.
        if path.as_bytes().starts_with(b"-") && !faults.has("bare-scripts-as-options") {
            path = CString::new([b"./", path.as_bytes()].concat()).unwrap_or(path);
        }
        vector.push(path);
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
        let shown = if faults.has("missing-file-not-named") {
            "the file".into()
        } else {
            file.to_string_lossy()
        };
        write_error(format!("faulty-wrapper: {shown}: {error}\n").as_bytes());
        if faults.has("missing-in-two-lines") {
            write_error(b"nothing was executed\n");
        }
    }
    let missing = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR));
    exit(match () {
        () if faults.has("missing-with-status-1") => 1,
        () if faults.has("missing-always-127") => 127,
        () if faults.has("missing-always-126") => 126,
        () if missing
            && faults.has("variant-interpreter-missing-126")
            && std::path::Path::new(&*file.to_string_lossy()).exists() =>
        {
            126
        }
        () if missing => 127,
        () if faults.has("only-forbidden-gives-126") && error.raw_os_error() != Some(libc::EACCES) => 127,
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
            for (fault, most) in [
                ("reason-cut-at-1-kib", 1024),
                ("reason-cut-at-64-kib", 65_000),
                ("reason-cut-at-1-mib", 1 << 20),
            ] {
                if faults.has(fault) {
                    reason = reason.chars().take(most).collect();
                }
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
    if !faults.has("control-characters-raw") && text.chars().any(char::is_control)
        || faults.has("backslashes-doubled")
    {
        let mut shown = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                '\n' if faults.has("newlines-escaped") => shown.push_str("\\n"),
                '\n' | '\t' => shown.push(character),
                '\u{80}'..='\u{9f}' if faults.has("c1-control-characters-raw") => shown.push(character),
                '\u{7f}' if faults.has("delete-raw") => shown.push(character),
                '\r' if faults.has("carriage-return-raw") => shown.push(character),
                '\\' if faults.has("backslashes-doubled") => shown.push_str("\\\\"),
                character if character.is_control() && faults.has("control-characters-dropped") => {}
                character if character.is_control() && faults.has("variant-control-as-pictures") => {
                    shown.push('\u{fffd}');
                }
                character if character.is_control() => shown.extend(character.escape_default()),
                character => shown.push(character),
            }
        }
        text = shown;
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

/// The escalation socket's number, or one that no descriptor has.
fn escalation_number() -> libc::c_int {
    std::env::var("CODEX_ESCALATE_SOCKET")
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(-1)
}
