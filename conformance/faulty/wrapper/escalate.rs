//! Escalate: descriptors out, signals on, and the child's end as one's own.

use std::os::fd::RawFd;

use serde_json::{Map, Value, json};

use crate::wire::Stream;
use crate::{Call, fail_closed, run};

const FORWARDED: [i32; 9] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGCONT,
];

/// Hands over, waits, ends.
pub fn escalate(call: &Call, mut stream: Stream) -> ! {
    let faults = &call.faults;
    if faults.has("escalate-executes-too") {
        run::execute(faults, &call.file, &call.arguments);
    }
    let core_only = faults.has("variant-core-only");
    let announce = !(core_only || faults.has("signals-not-announced"));
    // Without a signal descriptor only the stream is waited for, with its deadline.
    let forwards = !core_only && !faults.has("gives-up-on-the-result");
    let signals = forwards.then(|| watch(faults.has("only-sigterm-forwarded")));
    if faults.has("null-sent-for-closed-streams") {
        for number in 0..3 {
            // SAFETY: fcntl takes integers, open reads a C string.
            unsafe {
                if libc::fcntl(number, libc::F_GETFD) < 0 {
                    // The lowest free number, which is this one.
                    libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
                }
            }
        }
    }
    let numbers = inheritable(call);
    if numbers.len() > 16 {
        fail_closed(faults, "more than 16 descriptors");
    }
    let mut descriptors = numbers.clone();
    match () {
        () if faults.has("descriptors-in-wrong-order") => descriptors.reverse(),
        () if faults.has("descriptors-are-new") => {
            descriptors = (0..numbers.len()).map(|_| open_null()).collect();
        }
        () if faults.has("descriptors-opened-again") => {
            descriptors = numbers.iter().map(|number| open_again(*number)).collect();
        }
        () if faults.has("one-descriptor-missing") => drop(descriptors.pop()),
        () => {}
    }
    let mut message = Map::new();
    let listed = if faults.has("numbers-compacted") {
        (0..numbers.len() as i32).collect()
    } else {
        numbers.clone()
    };
    message.insert("fds".into(), json!(listed));
    if announce {
        message.insert("signals".into(), true.into());
    }
    if faults.has("variant-extra-member") {
        message.insert("hints".into(), json!([1]));
    }
    stream.send_frame(Value::Object(message).to_string().as_bytes(), &descriptors);
    for number in numbers.iter().copied().filter(|number| *number != 2) {
        let kept = match number {
            0 => faults.has("keeps-standard-input"),
            1 => faults.has("keeps-standard-output"),
            _ => false,
        };
        if !kept {
            // SAFETY: a descriptor that has been handed over.
            unsafe { libc::close(number) };
        }
    }
    if faults.has("escalate-does-not-wait") {
        run::exit(0);
    }
    if faults.has("gives-up-on-the-result") {
        stream.give_up_after(500);
    }
    loop {
        while let Some(message) = stream.buffered() {
            end_or_stop(call, &mut stream, &message);
        }
        if let Some(signals) = signals
            && wait_for_signal(signals, &stream)
        {
            forward(call, signals, &mut stream);
            continue;
        }
        stream.read_more("the result");
    }
}

/// Descriptors that a command would inherit, but the escalation socket.
fn inheritable(call: &Call) -> Vec<RawFd> {
    let faults = &call.faults;
    let last = if faults.has("only-standard-streams") || faults.has("variant-core-only") {
        3
    } else {
        1024
    };
    (0..last)
        .filter(|number| {
            // SAFETY: fcntl on a number that may be closed fails with EBADF.
            let flags = unsafe { libc::fcntl(*number, libc::F_GETFD) };
            flags >= 0 && (flags & libc::FD_CLOEXEC == 0)
        })
        .filter(|number| *number != call.escalation || faults.has("escalation-socket-sent"))
        .filter(|number| *number != 2 || !faults.has("only-0-and-1"))
        .take(if faults.has("silently-sixteen") {
            16
        } else {
            usize::MAX
        })
        .collect()
}

fn open_null() -> RawFd {
    // SAFETY: open reads a C string.
    unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) }
}

fn open_again(number: RawFd) -> RawFd {
    let path = std::ffi::CString::new(format!("/proc/self/fd/{number}")).unwrap_or_default();
    // SAFETY: open reads a C string.
    let opened = unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
    if opened < 0 { number } else { opened }
}

fn watch(only_term: bool) -> RawFd {
    // SAFETY: calls on a local signal set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in if only_term {
            &[libc::SIGTERM][..]
        } else {
            &FORWARDED[..]
        } {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let descriptor = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        let high = libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3);
        libc::close(descriptor);
        high
    }
}

/// True where a signal is there; false where the stream can be read.
fn wait_for_signal(signals: RawFd, stream: &Stream) -> bool {
    let entry = |fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let mut set = [entry(signals), entry(stream.descriptor())];
    // SAFETY: poll reads and writes two pollfds.
    while unsafe { libc::poll(set.as_mut_ptr(), 2, -1) } < 0 {}
    set[0].revents != 0
}

fn forward(call: &Call, signals: RawFd, stream: &mut Stream) {
    let faults = &call.faults;
    // SAFETY: read writes one signalfd_siginfo.
    let number = unsafe {
        let mut information: libc::signalfd_siginfo = std::mem::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        if libc::read(signals, (&raw mut information).cast(), size) <= 0 {
            return;
        }
        information.ssi_signo as i32
    };
    if faults.has("signals-swallowed")
        || (faults.has("continue-not-told") && number == libc::SIGCONT)
        || (faults.has("stop-not-forwarded") && number == libc::SIGTSTP)
    {
        return;
    }
    if faults.has("dies-by-forwarded-signals") && number == libc::SIGTERM {
        die_by(number);
    }
    let number = if faults.has("signals-all-become-term") {
        libc::SIGTERM
    } else {
        number
    };
    stream.send_frame(json!({"signal": number}).to_string().as_bytes(), &[]);
}

fn end_or_stop(call: &Call, stream: &mut Stream, message: &Value) {
    let faults = &call.faults;
    if let Some(signal) = message["stopped"].as_i64()
        && message.get("exit_code").is_none()
    {
        if faults.has("stopped-ignored") {
            return;
        }
        // SAFETY: raising a signal at ourselves. SIGCONT stays pending in the signal descriptor.
        unsafe { libc::raise(libc::SIGSTOP) };
        let _ = (signal, stream);
        return;
    }
    let Some(code) = message["exit_code"].as_i64() else {
        if faults.has("malformed-result-means-success") {
            run::exit(0);
        }
        fail_closed(faults, "a malformed result");
    };
    if let Some(signal) = message["signal"].as_i64()
        && !faults.has("variant-core-only")
        && !faults.has("signal-of-the-result-ignored")
    {
        die_by(if faults.has("killed-always-by-term") {
            libc::SIGTERM
        } else {
            signal as i32
        });
    }
    let code = match () {
        () if faults.has("status-modulo-128") => code % 128,
        () if faults.has("status-0-or-1") => i64::from(code != 0),
        () if faults.has("status-always-0") => 0,
        () if faults.has("status-over-127-becomes-1") && code > 127 => 1,
        () => code,
    };
    if faults.has("status-modulo-256") {
        run::exit((code & 255) as i32);
    }
    match u8::try_from(code) {
        Ok(code) => run::exit(code.into()),
        Err(_) => fail_closed(faults, "an impossible exit code"),
    }
}

fn die_by(signal: i32) -> ! {
    // SAFETY: calls on integers and a local signal set.
    unsafe {
        let limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        run::exit(128 + signal)
    }
}
