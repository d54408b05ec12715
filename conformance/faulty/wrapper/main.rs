//! A wrapper that can be broken on purpose. Without a fault it conforms at all levels, so what the suite catches is
//! the fault.
//!
//! The name of its file chooses the fault: `faulty-wrapper--NAME`, a hard link. `../wrapper-faults.toml` lists the
//! names. Those that begin with `variant-` conform in an unusual way, and those with `null-` ask no policy.
//!
//! It shares no code with the suite or with the reference.
#![no_main]

mod descriptors;
mod escalate;
mod faults;
mod handshake;
mod payload;
mod process;
mod refusal;
mod request;
mod run;
mod signals;
mod spoil;
mod stream;

use std::ffi::{CString, c_char, c_int};
use std::path::Path;

use faults::{Fault, Null, Variant, broken, is_null, unusual};
use process::write_error;
use refusal::fail_closed;
use request::{Call, request};
use serde_json::Value;
use stream::Stream;

/// The C entry point: Rust's runtime would ignore SIGPIPE and open closed standard streams.
// SAFETY: `main` is the symbol that the C start-up code calls, once, with the process's arguments.
#[unsafe(no_mangle)]
pub extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    let words: Vec<CString> = std::env::args_os()
        .filter_map(|word| CString::new(word.into_encoded_bytes()).ok())
        .collect();
    if let Err(name) = faults::choose(words.first().map_or(b"", |word| word.as_bytes())) {
        let name = name.escape_debug();
        write_error(
            format!("faulty-wrapper: no fault is called {name}; wrapper-faults.toml lists them\n").as_bytes(),
        );
        return 2;
    }
    spoil::spoil_process();
    let Some(file) = words.get(1) else {
        if broken(Fault::UsageAsksTheServer) {
            let escalation = handshake::escalation_socket();
            Stream::open(escalation);
        }
        write_error(b"usage: faulty-wrapper FILE ARGV0 [ARGV1 ...]\n");
        return if broken(Fault::UsageWithStatus0) { 0 } else { 2 };
    };
    if broken(Fault::OptionsAreParsed)
        && words[1..]
            .iter()
            .any(|word| matches!(word.to_bytes(), b"--help" | b"-h"))
    {
        println!("faulty-wrapper FILE ARGV0 [ARGV1 ...]");
        return 0;
    }
    if broken(Fault::DashArgv0Refused) && words.get(2).is_some_and(|word| word.to_bytes().starts_with(b"-")) {
        write_error(b"faulty-wrapper: unknown option\n");
        return 2;
    }
    let file = if broken(Fault::DashFileRefused) && file.to_bytes().starts_with(b"-") {
        write_error(b"faulty-wrapper: unknown option\n");
        return 2;
    } else {
        file.clone()
    };
    if is_null(Null::AlwaysRuns) {
        run::execute(&file, &words[2..]);
    }
    if is_null(Null::NeverAnswers) {
        loop {
            // SAFETY: pause takes nothing.
            unsafe { libc::pause() };
        }
    }
    let escalation = handshake::escalation_socket();
    let call = Call {
        file,
        arguments: words[2..].to_vec(),
        escalation,
    };
    ask_and_obey(&call)
}

fn ask_and_obey(call: &Call) -> ! {
    if unusual(Variant::SlowStart) {
        // SAFETY: usleep takes an integer.
        unsafe { libc::usleep(150_000) };
    }
    let mut stream = Stream::open(call.escalation);
    if broken(Fault::HandshakeTwice) {
        drop(Stream::open(call.escalation));
    }
    if broken(Fault::StreamHeldByAHelper) {
        spoil::helper_that_holds_everything();
    }
    let existed = Path::new(&*call.file.to_string_lossy()).exists();
    stream.send_request(&request(call));
    if broken(Fault::RequestTwice) {
        stream.send_request(&request(call));
    }
    if broken(Fault::AsksAgain) || broken(Fault::SaysThatItWaits) {
        stream.give_up_after(500);
    }
    if broken(Fault::LogUnderDebugVariables) && std::env::var_os("RUST_LOG").is_some() {
        write_error(b"TRACE wrapper: request sent\n");
    }
    if broken(Fault::GivesUpWaiting) {
        stream.give_up_after(500);
    }
    if broken(Fault::GivesUpAfterSeconds) {
        stream.give_up_after(5_000);
    }
    let reply = stream.receive("the decision");
    match action(&reply) {
        Action::Run => {
            stream.close_for_run();
            if broken(Fault::CheckedBeforeAsking) && existed {
                run::execute_what_existed(&call.file, &call.arguments);
            }
            spoil::spoil_before_run();
            if broken(Fault::RunSpawns) {
                run::spawn_and_wait(call);
            }
            run::execute(&call.file, &call.arguments)
        }
        Action::Deny(reason) => run::deny(reason.as_deref()),
        Action::Escalate => escalate::escalate(call, stream),
    }
}

enum Action {
    Run,
    Deny(Option<String>),
    Escalate,
}

fn action(reply: &Value) -> Action {
    if broken(Fault::UnknownMembersRefused) && reply.as_object().is_some_and(|members| members.len() != 1) {
        fail_closed("the decision has unknown members");
    }
    match &reply["action"] {
        Value::String(action) if action == "Run" => Action::Run,
        Value::String(action) if action == "Escalate" => Action::Escalate,
        Value::Object(members) if members.len() == 1 => match members.get("Deny") {
            Some(Value::Object(deny)) if matches!(deny.get("reason"), Some(Value::Null) | None) => {
                Action::Deny(None)
            }
            Some(Value::Object(_) | Value::String(_)) if broken(Fault::DenialsOfAnyShape) => {
                Action::Deny(None)
            }
            Some(Value::Object(deny)) if deny["reason"].is_string() => {
                Action::Deny(deny["reason"].as_str().map(str::to_owned))
            }
            _ => fail_closed("a malformed denial"),
        },
        _ if broken(Fault::UnknownActionRuns) => Action::Run,
        _ if broken(Fault::UnknownActionDenies) => Action::Deny(None),
        _ => fail_closed("an unknown action"),
    }
}
