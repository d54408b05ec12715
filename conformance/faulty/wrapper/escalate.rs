//! Escalate: descriptors out, signals on, and the child's end as one's own.

use std::os::fd::RawFd;

use serde_json::{Map, Value, json};

use crate::wire::Stream;
use crate::{Call, fail_closed, run};

pub const FORWARDED: [i32; 9] = [
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
    if let Some(signals) = signals
        && faults.has("signals-before-the-descriptors-lost")
    {
        while next_signal(signals).is_some() {}
    }
    if faults.has("helper-holds-the-stream") {
        // SAFETY: fork in a process of one thread; the child does nothing but wait.
        if unsafe { libc::fork() } == 0 {
            loop {
                // SAFETY: pause takes nothing.
                unsafe { libc::pause() };
            }
        }
    }
    if faults.has("needs-a-thread-for-signals") && std::thread::Builder::new().spawn(|| {}).is_err() {
        run::exit(101);
    }
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
    if numbers.len() > 16 && !faults.has("seventeen-sent") {
        fail_closed(faults, "more than 16 descriptors");
    }
    let numbers: Vec<RawFd> = if faults.has("variant-descending-numbers") {
        numbers.into_iter().rev().collect()
    } else {
        numbers
    };
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
        () if faults.has("terminals-replaced") => {
            for descriptor in &mut descriptors {
                // SAFETY: isatty takes an integer.
                if unsafe { libc::isatty(*descriptor) } == 1 {
                    *descriptor = open_null();
                }
            }
        }
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
        if kept {
            continue;
        }
        // SAFETY: a descriptor that has been handed over.
        unsafe {
            if faults.has("variant-null-in-place") {
                libc::dup2(open_null(), number);
            } else {
                libc::close(number);
            }
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
            end_or_stop(call, signals, &mut stream, &message);
        }
        let half = stream.has_half_a_frame() && faults.has("signals-wait-for-a-whole-frame");
        if let Some(signals) = signals
            && !half
            && wait_for_signal(signals, &mut stream)
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
    let last = if faults.has("only-standard-streams") {
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
        .filter(|number| *number < 64 || !faults.has("high-numbers-not-sent"))
        .filter(|number| !(faults.has("duplicates-left-out") && seen_before(*number)))
        .take(match () {
            () if faults.has("variant-first-sixteen") => 16,
            () if faults.has("fifteen-at-most") => 15,
            () => usize::MAX,
        })
        .collect()
}

/// Whether a lower number is the same file.
fn seen_before(number: RawFd) -> bool {
    let identity = |number: RawFd| {
        // SAFETY: fstat writes to `stat`, of which all-zero is valid.
        unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            (libc::fstat(number, &raw mut stat) == 0).then_some((stat.st_dev, stat.st_ino))
        }
    };
    (0..number).any(|lower| identity(lower).is_some() && identity(lower) == identity(number))
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
fn wait_for_signal(signals: RawFd, stream: &mut Stream) -> bool {
    loop {
        let unsent = if stream.has_unsent() { libc::POLLOUT } else { 0 };
        let entry = |fd, events| libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        let mut set = [
            entry(signals, libc::POLLIN),
            entry(stream.descriptor(), libc::POLLIN | unsent),
        ];
        // SAFETY: poll reads and writes two pollfds.
        while unsafe { libc::poll(set.as_mut_ptr(), 2, -1) } < 0 {}
        if set[0].revents != 0 {
            return true;
        }
        if set[1].revents & libc::POLLOUT != 0 {
            stream.send_rest();
        }
        if set[1].revents & !libc::POLLOUT != 0 {
            return false;
        }
    }
}

/// The number of a signal that is there.
fn next_signal(signals: RawFd) -> Option<i32> {
    // SAFETY: read writes one signalfd_siginfo.
    unsafe {
        let mut information: libc::signalfd_siginfo = std::mem::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        let length = libc::read(signals, (&raw mut information).cast(), size);
        (length > 0).then_some(information.ssi_signo as i32)
    }
}

fn forward(call: &Call, signals: RawFd, stream: &mut Stream) {
    let faults = &call.faults;
    let Some(number) = next_signal(signals) else {
        return;
    };
    if faults.has("signals-swallowed")
        || (faults.has("continue-not-told") && number == libc::SIGCONT)
        || (faults.has("stop-not-forwarded") && number == libc::SIGTSTP)
        || (faults.has("only-the-first-signal") && stream.signals_sent() > 0)
    {
        return;
    }
    if faults.has("dies-by-forwarded-signals") && number == libc::SIGTERM {
        die_by(faults, number);
    }
    let shown = if faults.has("signals-all-become-term") {
        libc::SIGTERM
    } else {
        number
    };
    let times = if faults.has("signals-sent-twice") { 2 } else { 1 };
    for _ in 0..times {
        stream.send_signal(json!({"signal": shown}).to_string().as_bytes());
    }
    if faults.has("stops-without-being-told") && number == libc::SIGTSTP {
        // SAFETY: raise takes an integer.
        unsafe { libc::raise(libc::SIGSTOP) };
    }
}

fn end_or_stop(call: &Call, signals: Option<RawFd>, stream: &mut Stream, message: &Value) {
    let faults = &call.faults;
    if let Some(signal) = message["stopped"].as_i64()
        && message.get("exit_code").is_none()
    {
        if faults.has("stopped-ignored") || (faults.has("stops-only-once") && stream.has_stopped()) {
            return;
        }
        // SAFETY: raising a signal at ourselves. SIGCONT stays pending in the signal descriptor.
        unsafe {
            if faults.has("variant-stops-by-the-same-signal") {
                set_default(signal as i32);
                unblock(1 << (signal - 1));
                libc::raise(signal as i32);
            } else {
                libc::raise(libc::SIGSTOP);
            }
        }
        stream.note_stop();
        if let Some(signals) = signals
            && faults.has("signals-while-stopped-lost")
        {
            while next_signal(signals).is_some() {}
            stream.send_signal(json!({"signal": libc::SIGCONT}).to_string().as_bytes());
        }
        return;
    }
    if faults.has("late-decision-runs") && message["action"] == "Run" {
        run::execute(faults, &call.file, &call.arguments);
    }
    if faults.has("exit-code-read-from-text") {
        let text = message["exit_code"].as_str().map(str::to_owned);
        if let Some(code) = text.and_then(|text| text.parse().ok()) {
            run::exit(code);
        }
    }
    if faults.has("fractions-cut-off") && message["exit_code"].is_f64() {
        run::exit(message["exit_code"].as_f64().unwrap_or_default() as i32 & 255);
    }
    if faults.has("large-codes-modulo-256") && message["exit_code"].is_number() {
        let wide = message["exit_code"].as_f64().unwrap_or_default() as i128;
        run::exit((wide & 255) as i32);
    }
    if faults.has("inner-members-count")
        && let Some(code) = inner(message, "exit_code")
    {
        run::exit(code as i32 & 255);
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
        if faults.has("killed-always-by-term") {
            die_by(faults, libc::SIGTERM);
        }
        if faults.has("any-number-is-raised") {
            // SAFETY: kill takes integers.
            unsafe { libc::kill(libc::getpid(), signal as i32) };
            run::exit(0);
        }
        match i32::try_from(signal) {
            Ok(signal) if deadly(signal) => die_by(faults, signal),
            // Something went wrong over there: never success.
            _ if code == 0 => fail_closed(faults, "a result that contradicts itself"),
            _ => {}
        }
    }
    if faults.has("status-over-128-kills") && deadly((code - 128) as i32) {
        die_by(faults, (code - 128) as i32);
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

/// The first member of that name at any depth, an inner one before an outer.
fn inner(value: &Value, name: &str) -> Option<i64> {
    let children: Vec<&Value> = match value {
        Value::Object(members) => members.values().collect(),
        Value::Array(values) => values.iter().collect(),
        _ => Vec::new(),
    };
    children
        .into_iter()
        .find_map(|child| inner(child, name))
        .or_else(|| value.get(name)?.as_i64())
}

fn deadly(signal: i32) -> bool {
    (1..=64).contains(&signal)
        && ![
            libc::SIGCHLD,
            libc::SIGCONT,
            libc::SIGSTOP,
            libc::SIGTSTP,
            libc::SIGTTIN,
            libc::SIGTTOU,
            libc::SIGURG,
            libc::SIGWINCH,
        ]
        .contains(&signal)
}

/// The kernel's own struct sigaction and calls: the C library refuses two of the signals.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Sets the default disposition of a signal, whichever.
pub fn set_default(signal: i32) {
    let action = KernelAction {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    // SAFETY: rt_sigaction reads one action; the old one is not asked for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            &raw const action,
            0_usize,
            8_usize,
        )
    };
}

/// Unblocks these signals, bit N-1 for signal N.
pub fn unblock(set: u64) {
    // SAFETY: rt_sigprocmask reads one set of eight bytes.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_UNBLOCK,
            &raw const set,
            0_usize,
            8_usize,
        )
    };
}

fn die_by(faults: &crate::faults::Faults, signal: i32) -> ! {
    if faults.has("killed-exits-for-real-time-signals") && signal > 31 {
        run::exit(128 + signal);
    }
    // SAFETY: calls on integers and a local limit.
    unsafe {
        if !faults.has("core-of-its-own") {
            let limit = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        }
        if !faults.has("killed-only-where-default") {
            set_default(signal);
        }
        libc::kill(libc::getpid(), signal);
        if !faults.has("killed-only-where-unblocked") {
            unblock(1 << (signal - 1));
        }
        run::exit(128 + signal)
    }
}
