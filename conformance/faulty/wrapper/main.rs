//! A wrapper that can be broken on purpose. Without a fault it is right, at all levels: that proves that the suite
//! catches the faults and not clumsiness.
//!
//! The fault is chosen by the name that it is called by: `faulty-wrapper--NAME` (a hard link). The names stand
//! in `../wrapper-faults.toml`; those that begin with `variant-` are right, but unusual.
//!
//! It shares no code with the suite's peers and none with the reference.
#![no_main]

mod escalate;
mod faults;
mod run;
mod wire;

use std::ffi::{CString, c_char, c_int};
use std::os::fd::RawFd;

use faults::Faults;
use serde_json::{Map, Value, json};

/// The wrapper's call.
pub struct Call {
    /// What is wrong.
    pub faults: Faults,
    /// FILE.
    pub file: CString,
    /// ARGV.
    pub arguments: Vec<CString>,
    /// The escalation socket.
    pub escalation: RawFd,
}

/// Says what went wrong in one line and ends, without anything executed.
pub fn fail_closed(faults: &Faults, cause: &str) -> ! {
    if faults.has("refusal-runs-anyway") {
        run::shell_command("exit 0");
    }
    if faults.has("trace-under-backtrace") && std::env::var_os("RUST_BACKTRACE").is_some() {
        run::write_error(b"   0: std::panicking::begin\n   1: main\n");
    }
    if faults.has("panics-without-standard-error") && !run::has_standard_error() {
        run::exit(101);
    }
    if !faults.has("refusal-without-message") {
        run::write_error(format!("faulty-wrapper: {cause}\n").as_bytes());
    }
    if faults.has("refusal-in-two-lines") {
        run::write_error(b"nothing was executed\n");
    }
    run::exit(match () {
        () if faults.has("refusal-with-status-0") => 0,
        () if faults.has("refusal-with-status-1") => 1,
        () => 126,
    })
}

/// The C entry point: the language runtime would ignore SIGPIPE and open closed descriptors.
// SAFETY: `main` is the symbol that the C start-up code calls, once, with the process's arguments.
#[unsafe(no_mangle)]
pub extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    let words: Vec<CString> = std::env::args_os()
        .filter_map(|word| CString::new(word.into_encoded_bytes()).ok())
        .collect();
    let faults = Faults::from_name(words.first().map_or(b"", |word| word.as_bytes()));
    run::spoil_process(&faults);
    let Some(file) = words.get(1) else {
        if faults.has("usage-asks-the-server") {
            let escalation = wire::escalation_socket(&faults);
            wire::handshake(&faults, escalation);
        }
        run::write_error(b"usage: faulty-wrapper FILE ARGV0 [ARGV1 ...]\n");
        return if faults.has("usage-with-status-0") { 0 } else { 2 };
    };
    if faults.has("options-are-parsed")
        && words[1..]
            .iter()
            .any(|word| matches!(word.to_bytes(), b"--help" | b"-h"))
    {
        println!("faulty-wrapper FILE ARGV0 [ARGV1 ...]");
        return 0;
    }
    if faults.has("dash-argv0-refused") && words.get(2).is_some_and(|word| word.to_bytes().starts_with(b"-"))
    {
        run::write_error(b"faulty-wrapper: unknown option\n");
        return 2;
    }
    let file = if faults.has("dash-file-refused") && file.to_bytes().starts_with(b"-") {
        run::write_error(b"faulty-wrapper: unknown option\n");
        return 2;
    } else {
        file.clone()
    };
    if faults.has("null-always-runs") {
        run::execute(&faults, &file, &words[2..]);
    }
    if faults.has("null-never-answers") {
        loop {
            // SAFETY: pause takes nothing.
            unsafe { libc::pause() };
        }
    }
    let escalation = wire::escalation_socket(&faults);
    let call = Call {
        faults,
        file,
        arguments: words[2..].to_vec(),
        escalation,
    };
    judge(&call)
}

fn judge(call: &Call) -> ! {
    let faults = &call.faults;
    if faults.has("variant-slow-start") {
        // SAFETY: usleep takes an integer.
        unsafe { libc::usleep(150_000) };
    }
    let mut stream = wire::handshake(faults, call.escalation);
    if faults.has("handshake-twice") {
        drop(wire::handshake(faults, call.escalation));
    }
    if faults.has("stream-held-by-a-helper") {
        run::helper_that_holds_everything();
    }
    let existed = std::path::Path::new(&*call.file.to_string_lossy()).exists();
    stream.send_request(&request(call));
    if faults.has("request-twice") {
        stream.send_request(&request(call));
    }
    if faults.has("asks-again") || faults.has("says-that-it-waits") {
        stream.give_up_after(500);
    }
    if faults.has("log-under-debug-variables") && std::env::var_os("RUST_LOG").is_some() {
        run::write_error(b"TRACE wrapper: request sent\n");
    }
    if faults.has("gives-up-waiting") {
        stream.give_up_after(500);
    }
    let reply = stream.receive("the decision");
    match action(faults, &reply) {
        Action::Run => {
            stream.close_for_run();
            if faults.has("checked-before-asking") && existed {
                run::execute(
                    &Faults::from_name(b"x--missing-always-126"),
                    &call.file,
                    &call.arguments,
                );
            }
            run::spoil_before_run(faults);
            if faults.has("run-spawns") {
                run::spawn_and_wait(call);
            }
            run::execute(faults, &call.file, &call.arguments)
        }
        Action::Deny(reason) => run::deny(faults, reason.as_deref()),
        Action::Escalate => escalate::escalate(call, stream),
    }
}

enum Action {
    Run,
    Deny(Option<String>),
    Escalate,
}

fn action(faults: &Faults, reply: &Value) -> Action {
    if faults.has("unknown-members-refused") && reply.as_object().is_some_and(|members| members.len() != 1) {
        fail_closed(faults, "the decision has unknown members");
    }
    match &reply["action"] {
        Value::String(action) if action == "Run" => Action::Run,
        Value::String(action) if action == "Escalate" => Action::Escalate,
        Value::Object(members) if members.len() == 1 => match members.get("Deny") {
            Some(Value::Object(deny)) if matches!(deny.get("reason"), Some(Value::Null) | None) => {
                Action::Deny(None)
            }
            Some(Value::Object(_) | Value::String(_)) if faults.has("denials-of-any-shape") => {
                Action::Deny(None)
            }
            Some(Value::Object(deny)) if deny["reason"].is_string() => {
                Action::Deny(deny["reason"].as_str().map(str::to_owned))
            }
            _ => fail_closed(faults, "a malformed denial"),
        },
        _ if faults.has("unknown-action-runs") => Action::Run,
        _ if faults.has("unknown-action-denies") => Action::Deny(None),
        _ => fail_closed(faults, "an unknown action"),
    }
}

fn request(call: &Call) -> Value {
    let faults = &call.faults;
    let text = |bytes: &[u8]| wire::placeholder_text(faults, bytes);
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut file = if faults.has("file-lossy") {
        lossy(call.file.to_bytes())
    } else {
        text(call.file.to_bytes())
    };
    if faults.has("file-made-absolute") && !file.starts_with('/') {
        file = format!("/usr/bin/{file}");
    }
    let mut arguments: Vec<String> = call.arguments.iter().map(|word| text(word.to_bytes())).collect();
    match () {
        () if faults.has("argv-without-argv0") => drop(arguments.remove(0)),
        () if faults.has("argv0-replaced-by-file") => arguments[0].clone_from(&file),
        () if faults.has("empty-arguments-dropped") => arguments.retain(|word| !word.is_empty()),
        () if faults.has("argv-trimmed") => arguments
            .iter_mut()
            .for_each(|word| *word = word.trim().to_owned()),
        () if faults.has("thousand-arguments-at-most") => arguments.truncate(1000),
        () => {}
    }
    let mut directory = run::working_directory(faults);
    let mut directory = if faults.has("workdir-lossy") {
        lossy(&std::mem::take(&mut directory))
    } else {
        text(&directory)
    };
    if faults.has("workdir-from-pwd")
        && let Some(logical) = std::env::var_os("PWD")
    {
        directory = logical.to_string_lossy().into_owned();
    }
    let mut environment = Map::new();
    for entry in run::environment() {
        let Some(equals) = entry.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (name, value) = (&entry[..equals], &entry[equals + 1..]);
        if faults.has("undecodable-names-dropped") && std::str::from_utf8(name).is_err() {
            continue;
        }
        if left_out(faults, name) || (faults.has("empty-variables-dropped") && value.is_empty()) {
            continue;
        }
        let value = if faults.has("values-end-at-equals") {
            value.split(|byte| *byte == b'=').next().unwrap_or(value)
        } else {
            value
        };
        environment.insert(text(name), Value::from(text(value)));
    }
    let mut message = Map::new();
    if faults.has("variant-other-order") {
        message.insert("env".into(), environment.clone().into());
        message.insert("workdir".into(), directory.clone().into());
    }
    message.insert("file".into(), file.into());
    message.insert("argv".into(), json!(arguments));
    message.insert("workdir".into(), directory.into());
    message.insert("env".into(), environment.into());
    if faults.has("member-misnamed") {
        let value = message.remove("workdir").unwrap_or_default();
        message.insert("cwd".into(), value);
    }
    if faults.has("variant-extra-member") {
        message.insert("hints".into(), json!({"x": [1, null]}));
    }
    match () {
        () if faults.has("umask-missing") || faults.has("variant-core-only") => {}
        () if faults.has("umask-constant") => drop(message.insert("umask".into(), 0o022.into())),
        () if faults.has("umask-as-text") => {
            drop(message.insert("umask".into(), format!("{:03o}", run::umask()).into()));
        }
        () => drop(message.insert("umask".into(), run::umask().into())),
    }
    Value::Object(message)
}

fn left_out(faults: &Faults, name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name);
    if faults.has("environment-keeps-the-three") {
        return false;
    }
    if faults.has("environment-keeps-the-alias") && name == "BASH_EXEC_WRAPPER" {
        return false;
    }
    if faults.has("similar-names-left-out") && name.contains("EXEC_WRAPPER") {
        return true;
    }
    matches!(
        &*name,
        "EXEC_WRAPPER" | "BASH_EXEC_WRAPPER" | "CODEX_ESCALATE_SOCKET"
    )
}
