//! Escalate: hand over the descriptors, forward signals, and end as the child ended.

use std::os::fd::RawFd;

use serde_json::{Map, Value, json};

use crate::faults::{Fault, Variant, broken, unusual};
use crate::payload::everything_escaped;
use crate::process;
use crate::refusal::fail_closed;
use crate::request::Call;
use crate::run;
use crate::signals::{
    block, deadly, die_by, forwarded, is_ignored, next_signal, set_default, unblock, watch,
};
use crate::stream::Stream;

/// Escalates the call and ends as its child did.
pub fn escalate(call: &Call, mut stream: Stream) -> ! {
    if broken(Fault::EscalateExecutesToo) {
        run::execute(&call.file, &call.arguments);
    }
    if broken(Fault::SignalsLostAfterEscalate) {
        signals_ignored_for_a_moment();
    }
    let core_only = unusual(Variant::CoreOnly);
    let announce = !(core_only || broken(Fault::SignalsNotAnnounced));
    // Without a signal descriptor the only wait is for the stream, which may have a deadline.
    let forwards = !core_only && !broken(Fault::GivesUpOnTheResult);
    let signals = forwards.then(watch);
    if let Some(signals) = signals
        && broken(Fault::SignalsBeforeTheDescriptorsLost)
    {
        while next_signal(signals).is_some() {}
    }
    if broken(Fault::HelperHoldsTheStream) {
        // SAFETY: fork in a process of one thread; the child does nothing but wait.
        if unsafe { libc::fork() } == 0 {
            loop {
                // SAFETY: pause takes nothing.
                unsafe { libc::pause() };
            }
        }
    }
    if broken(Fault::NeedsAThreadForSignals) && std::thread::Builder::new().spawn(|| {}).is_err() {
        process::exit(101);
    }
    if broken(Fault::NullSentForClosedStreams) {
        for number in 0..3 {
            // SAFETY: fcntl takes integers, open reads a C string.
            unsafe {
                if libc::fcntl(number, libc::F_GETFD) < 0 {
                    // Takes the lowest free number, which is `number`.
                    libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
                }
            }
        }
    }
    let numbers = inheritable(call);
    if numbers.len() > 16 && !broken(Fault::SeventeenSent) {
        fail_closed("more than 16 descriptors");
    }
    let numbers: Vec<RawFd> = if unusual(Variant::DescendingNumbers) {
        numbers.into_iter().rev().collect()
    } else {
        numbers
    };
    let mut descriptors = numbers.clone();
    match () {
        () if broken(Fault::DescriptorsInWrongOrder) => descriptors.reverse(),
        () if broken(Fault::DescriptorsAreNew) => {
            descriptors = (0..numbers.len()).map(|_| open_null()).collect();
        }
        () if broken(Fault::DescriptorsOpenedAgain) => {
            descriptors = numbers.iter().map(|number| open_again(*number)).collect();
        }
        () if broken(Fault::OneDescriptorMissing) => drop(descriptors.pop()),
        () if broken(Fault::TerminalsReplaced) => {
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
    let listed = if broken(Fault::NumbersCompacted) {
        (0..numbers.len() as i32).collect()
    } else {
        numbers.clone()
    };
    message.insert("fds".into(), json!(listed));
    if announce {
        message.insert("signals".into(), true.into());
    }
    if !core_only {
        message.insert("group".into(), true.into());
        add_inherited(&mut message);
    }
    if unusual(Variant::ExtraMember) {
        message.insert("hints".into(), json!([1]));
    }
    let message = Value::Object(message);
    let text = if unusual(Variant::EverythingEscaped) {
        everything_escaped(&message)
    } else {
        message.to_string()
    };
    stream.send_frame(text.as_bytes(), &descriptors);
    for number in numbers.iter().copied().filter(|number| *number != 2) {
        let kept = match number {
            0 => broken(Fault::KeepsStandardInput),
            1 => broken(Fault::KeepsStandardOutput),
            _ => broken(Fault::KeepsHigherDescriptors),
        };
        if kept {
            continue;
        }
        // SAFETY: a descriptor that has been handed over.
        unsafe {
            if unusual(Variant::NullInPlace) {
                libc::dup2(open_null(), number);
            } else {
                libc::close(number);
            }
        }
    }
    if broken(Fault::EscalateDoesNotWait) {
        process::exit(0);
    }
    if broken(Fault::GivesUpOnTheResult) {
        stream.give_up_after(500);
    }
    loop {
        while let Some(message) = stream.buffered() {
            end_or_stop(call, signals, &mut stream, &message);
        }
        let half = stream.has_half_a_frame() && broken(Fault::SignalsWaitForAWholeFrame);
        if let Some(signals) = signals
            && !half
            && wait_for_signal(signals, &mut stream)
        {
            forward(signals, &mut stream);
            continue;
        }
        stream.read_more("the result");
    }
}

/// The extension *inherited*.
fn add_inherited(message: &mut Map<String, Value>) {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    const USUAL: [&str; 5] = ["fsize", "nofile", "locks", "msgqueue", "cpu"];
    let ignored: Vec<i32> = (1..=64).filter(|signal| is_ignored(*signal)).collect();
    let left_out = ignored.is_empty() && unusual(Variant::IgnoredLeftOut);
    if !(left_out || broken(Fault::IgnoredNotTold)) {
        message.insert("ignored".into(), json!(ignored));
    }
    let mut limits = Map::new();
    for (resource, name) in (0..).zip(NAMES) {
        // SAFETY: getrlimit writes one limit; getpriority takes integers.
        let limit = unsafe {
            let mut limit: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(resource, &raw mut limit);
            limit
        };
        let number = |limit: u64| {
            let shown = if broken(Fault::LimitsCutTo32Bits) {
                u64::from(limit as u32)
            } else {
                limit
            };
            let is_limit = limit != libc::RLIM_INFINITY || broken(Fault::InfinityAsANumber);
            let left_out = broken(Fault::FewLimitsTold) && !USUAL.contains(&name);
            (is_limit && !left_out).then_some(shown)
        };
        let hard = if broken(Fault::SoftLimitsOnly) {
            limit.rlim_cur
        } else {
            limit.rlim_max
        };
        if !(broken(Fault::OneLimitOnly) && name != "nofile") {
            limits.insert(name.into(), json!([number(limit.rlim_cur), number(hard)]));
        }
    }
    message.insert("limits".into(), limits.into());
    // SAFETY: getpriority takes integers.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let told = match nice {
        _ if broken(Fault::NiceAlways0) => 0,
        ..0 if broken(Fault::NicenessBelow0ToldAs0) => 0,
        nice => nice,
    };
    message.insert("nice".into(), told.into());
}

/// As in a wrapper that ignores signals until its handlers are ready.
fn signals_ignored_for_a_moment() {
    // SAFETY: signal and usleep take integers; SIG_IGN and SIG_DFL run no code.
    unsafe {
        for signal in forwarded() {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::usleep(50_000);
        for signal in forwarded() {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Descriptors that a command would inherit, except for the escalation socket.
fn inheritable(call: &Call) -> Vec<RawFd> {
    let last = if broken(Fault::OnlyStandardStreams) {
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
        .filter(|number| *number != call.escalation || broken(Fault::EscalationSocketSent))
        .filter(|number| *number != 2 || !broken(Fault::Only0And1))
        .filter(|number| *number < 64 || !broken(Fault::HighNumbersNotSent))
        .filter(|number| !(broken(Fault::DuplicatesLeftOut) && seen_before(*number)))
        .take(match () {
            () if unusual(Variant::FirstSixteen) => 16,
            () if broken(Fault::FifteenAtMost) => 15,
            () => usize::MAX,
        })
        .collect()
}

/// Whether a lower number refers to the same file.
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

/// Waits until a signal is pending (true) or the stream can be read (false).
fn wait_for_signal(signals: RawFd, stream: &mut Stream) -> bool {
    loop {
        let unsent = if stream.has_unsent() { libc::POLLOUT } else { 0 };
        let entry = |fd, events| libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        let much = stream.has_much_unsent() && !broken(Fault::SignalsOver4KibDropped);
        let mut set = [
            entry(signals, if much { 0 } else { libc::POLLIN }),
            entry(stream.descriptor(), libc::POLLIN | unsent),
        ];
        // SAFETY: poll reads and writes two pollfds.
        while unsafe { libc::poll(set.as_mut_ptr(), 2, -1) } < 0 {}
        let stream_first = broken(Fault::StreamReadBeforeSignals) && set[1].revents & libc::POLLIN != 0;
        if set[0].revents != 0 && !stream_first {
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

fn forward(signals: RawFd, stream: &mut Stream) {
    let Some(arrival) = next_signal(signals) else {
        return;
    };
    let number = arrival.number;
    stream.note_signal(number);
    if broken(Fault::BurstsLost) {
        while next_signal(signals).is_some() {}
    }
    if broken(Fault::SignalsSwallowed)
        || (broken(Fault::ContinueNotTold) && number == libc::SIGCONT)
        || (broken(Fault::StopNotForwarded) && number == libc::SIGTSTP)
        || (broken(Fault::OnlyTheFirstSignal) && stream.signals_sent() > 0)
    {
        return;
    }
    if broken(Fault::DiesByForwardedSignals) && number == libc::SIGTERM {
        die_by(number);
    }
    let shown = if broken(Fault::SignalsAllBecomeTerm) {
        libc::SIGTERM
    } else {
        number
    };
    let times = if broken(Fault::SignalsSentTwice) { 2 } else { 1 };
    for _ in 0..times {
        let mut frame = json!({"signal": shown});
        if arrival.of_terminal && !broken(Fault::TerminalNotTold) || broken(Fault::TerminalAlwaysTold) {
            frame["terminal"] = true.into();
        } else if unusual(Variant::SaysWhatIsNotOfATerminal) {
            frame["terminal"] = false.into();
        }
        if let Some(sender) = arrival.sender.filter(|_| !broken(Fault::SenderNotTold)) {
            frame["sender"] = sender.into();
        }
        if number == libc::SIGCONT || unusual(Variant::CountsWithEverySignal) {
            let stops = stream.counts().stops;
            frame["stops"] = if broken(Fault::StopsNotCounted) { 0 } else { stops }.into();
        }
        if number == libc::SIGCONT {
            stream.counts().continuations += 1;
        }
        stream.send_signal(frame.to_string().as_bytes());
    }
    if broken(Fault::StopsWithoutBeingTold) && number == libc::SIGTSTP {
        // SAFETY: raise takes an integer.
        unsafe { libc::raise(libc::SIGSTOP) };
    }
}

/// Whether a SIGCONT waits to be taken.
fn is_continuing() -> bool {
    // SAFETY: sigpending writes one set.
    unsafe {
        let mut pending = std::mem::zeroed();
        libc::sigpending(&raw mut pending);
        libc::sigismember(&raw const pending, libc::SIGCONT) == 1
    }
}

fn end_or_stop(call: &Call, signals: Option<RawFd>, stream: &mut Stream, message: &Value) {
    if let Some(signal) = message["stopped"].as_i64()
        && message.get("exit_code").is_none()
    {
        stream.counts().stops += 1;
        let read = message["continued"].as_u64();
        let stale = read.is_some_and(|read| read < stream.counts().continuations) || is_continuing();
        if stale && !unusual(Variant::CoreOnly) && !broken(Fault::StaleStopObeyed) {
            return;
        }
        if broken(Fault::StoppedIgnored) || (broken(Fault::StopsOnlyOnce) && stream.has_stopped()) {
            return;
        }
        let of_terminal = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU].contains(&(signal as i32));
        let alone = message["alone"] == true && !broken(Fault::AloneIgnored)
            || stream.has_seen_stop()
            || broken(Fault::StopsAlone);
        // SAFETY: raising a signal at ourselves, or our group. SIGCONT stays pending in the signal descriptor.
        unsafe {
            if of_terminal && !alone && !unusual(Variant::CoreOnly) {
                libc::kill(0, signal as i32);
                set_default(signal as i32);
                unblock(1 << (signal - 1));
                // A group that is orphaned isn't stopped by a terminal's signals.
                if !is_continuing() {
                    libc::raise(libc::SIGSTOP);
                }
                block(1 << (signal - 1));
            } else if unusual(Variant::StopsByTheSameSignal) {
                set_default(signal as i32);
                unblock(1 << (signal - 1));
                libc::raise(signal as i32);
                // Forwarded again from here on.
                block(1 << (signal - 1));
            } else {
                libc::raise(libc::SIGSTOP);
            }
        }
        stream.note_stop();
        if let Some(signals) = signals
            && broken(Fault::SignalsWhileStoppedLost)
        {
            while next_signal(signals).is_some() {}
            stream.send_signal(json!({"signal": libc::SIGCONT}).to_string().as_bytes());
        } else if signals.is_some() && !is_continuing() && !broken(Fault::DiscardedContinuationNotTold) {
            // Only SIGCONT has let this process go on, and a stop signal behind it has discarded it.
            let counts = stream.counts();
            counts.continuations += 1;
            let frame = json!({"signal": libc::SIGCONT, "stops": counts.stops});
            stream.send_signal(frame.to_string().as_bytes());
        }
        return;
    }
    if broken(Fault::LateDecisionRuns) && message["action"] == "Run" {
        run::execute(&call.file, &call.arguments);
    }
    if broken(Fault::ExitCodeReadFromText) {
        let text = message["exit_code"].as_str().map(str::to_owned);
        if let Some(code) = text.and_then(|text| text.parse().ok()) {
            process::exit(code);
        }
    }
    if broken(Fault::FractionsCutOff) && message["exit_code"].is_f64() {
        process::exit(message["exit_code"].as_f64().unwrap_or_default() as i32 & 255);
    }
    if broken(Fault::LargeCodesModulo256) && message["exit_code"].is_number() {
        let wide = message["exit_code"].as_f64().unwrap_or_default() as i128;
        process::exit((wide & 255) as i32);
    }
    if broken(Fault::InnerMembersCount)
        && let Some(code) = inner(message, "exit_code")
    {
        process::exit(code as i32 & 255);
    }
    let Some(code) = message["exit_code"].as_i64() else {
        if broken(Fault::MalformedResultMeansSuccess) {
            process::exit(0);
        }
        fail_closed("a malformed result");
    };
    if let Some(signal) = message["signal"].as_i64()
        && !unusual(Variant::CoreOnly)
        && !broken(Fault::SignalOfTheResultIgnored)
    {
        if broken(Fault::KilledAlwaysByTerm) {
            die_by(libc::SIGTERM);
        }
        if broken(Fault::AnyNumberIsRaised) {
            // SAFETY: kill takes integers.
            unsafe { libc::kill(libc::getpid(), signal as i32) };
            process::exit(0);
        }
        match i32::try_from(signal) {
            Ok(signal) if deadly(signal) => die_by(signal),
            // The result contradicts itself: that must never look like success.
            _ if code == 0 => fail_closed("a result that contradicts itself"),
            _ => {}
        }
    }
    if broken(Fault::StatusOver128Kills) && deadly((code - 128) as i32) {
        die_by((code - 128) as i32);
    }
    let code = match () {
        () if broken(Fault::StatusModulo128) => code % 128,
        () if broken(Fault::Status0Or1) => i64::from(code != 0),
        () if broken(Fault::StatusAlways0) => 0,
        () if broken(Fault::StatusOver127Becomes1) && code > 127 => 1,
        () => code,
    };
    if broken(Fault::StatusModulo256) {
        process::exit((code & 255) as i32);
    }
    match u8::try_from(code) {
        Ok(code) => process::exit(code.into()),
        Err(_) => fail_closed("an impossible exit code"),
    }
}

/// The first member of that name at any depth, inner ones first.
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
