//! Variables that make a loader or a shell run code do not reach an escalated child.

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::peer::wire::Received;
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::server::Stage;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.env.loader/dynamic-loader", dynamic_loader),
    case("server.env.loader/shell-start", shell_start),
    case("server.env.loader/exported-functions", exported_functions),
    case("server.env.loader/bare-script", bare_script),
]);

/// Sends a request with `dangerous` variables and demands that none reaches the program, or a refusal.
fn expect_left_out(stage: &mut Stage, program: &Program, dangerous: &[(&str, &str)]) -> Verdict {
    let ordinary = stage.request_for(program.text()).variable("ORDINARY", "kept");
    let request = dangerous
        .iter()
        .fold(ordinary, |request, (name, value)| request.variable(name, value));
    let mut requester = stage.session.socket.open()?;
    requester.request(&request)?;
    match requester.frames.receive()? {
        Received::Frame(frame) if frame.json()?["action"] == json!("Escalate") => {
            let null = null()?;
            requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
            requester.expect_exit_code(0)?;
            let environment = program.only_start()?.environment;
            expect::that(
                environment.contains(&b"ORDINARY=kept".to_vec()),
                "the request's other variables reach the program",
                format_args!("its environment: {}", in_words(&environment)),
            )?;
            for (name, _) in dangerous {
                let prefix = format!("{name}=");
                expect::that(
                    !environment
                        .iter()
                        .any(|entry| entry.starts_with(prefix.as_bytes())),
                    format_args!("{name} is left out of the child's environment, or the request is denied"),
                    format_args!("its environment: {}", in_words(&environment)),
                )?;
            }
            Ok(())
        }
        Received::Frame(frame) => {
            expect_denial(&frame.json()?)?;
            denied(stage, program)
        }
        Received::End { bytes: 0 } => denied(stage, program),
        other => Err(violation(
            "Escalate without the variables, or a refusal",
            shown(&other),
        )),
    }
}

fn expect_denial(message: &Value) -> Verdict {
    expect::that(
        message["action"]["Deny"].is_object(),
        "Escalate without the variables, or a denial",
        message,
    )
}

/// The program didn't run, and a harmless request is served.
fn denied(stage: &mut Stage, program: &Program) -> Verdict {
    stage.sentinel()?;
    program.expect_not_started()
}

fn in_words(environment: &[Vec<u8>]) -> String {
    environment
        .iter()
        .map(|entry| String::from_utf8_lossy(entry))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Demands for each of these variables by itself, and for all together, that it doesn't reach the child.
fn each_left_out(context: &Context, dangerous: &[(&str, &str)]) -> Verdict {
    let mut stage = Stage::new(context)?;
    for (index, variable) in dangerous.iter().enumerate() {
        let program = Program::new(context, &format!("program-{index}"), [])?;
        expect_left_out(&mut stage, &program, &[*variable])?;
    }
    let program = Program::new(context, "program-all", [])?;
    expect_left_out(&mut stage, &program, dangerous)?;
    stage.finish()
}

/// LD_PRELOAD, LD_AUDIT, LD_LIBRARY_PATH, whatever else begins with `LD_`, and GLIBC_TUNABLES.
fn dynamic_loader(context: &mut Context) -> Verdict {
    each_left_out(
        context,
        &[
            ("LD_PRELOAD", "/nonexistent/preload.so"),
            ("LD_AUDIT", "/nonexistent/audit.so"),
            ("LD_LIBRARY_PATH", "/nonexistent"),
            ("LD_BIND_NOT", "1"),
            ("LD_PROFILE", "libc.so.6"),
            ("LD_OF_THE_FUTURE", "1"),
            ("LD_", "1"),
            ("GLIBC_TUNABLES", "glibc.malloc.check=3"),
        ],
    )
}

/// Variables that name what shells read or execute at startup.
fn shell_start(context: &mut Context) -> Verdict {
    each_left_out(
        context,
        &[
            ("BASH_ENV", "/nonexistent/startup"),
            ("ENV", "/nonexistent/startup"),
            ("SHELLOPTS", "xtrace"),
            ("BASHOPTS", "extdebug"),
            ("PS4", "$(touch /nonexistent/file)"),
            ("ZDOTDIR", "/nonexistent"),
        ],
    )
}

/// Functions that a bash has exported, in the spellings of its versions.
fn exported_functions(context: &mut Context) -> Verdict {
    each_left_out(
        context,
        &[
            ("BASH_FUNC_ls%%", "() { :; }"),
            ("BASH_FUNC_ls()", "() { :; }"),
            ("BASH_FUNC_[%%", "() { :; }"),
            ("BASH_FUNC_", "() { :; }"),
        ],
    )
}

/// A script without `#!`, which an interpreter is put in front of, does not get round that.
fn bare_script(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    let program = Program::new(context, "program", [])?;
    let script = context.write_file(
        "bin/script",
        format!("exec '{}'\n", program.text()).as_bytes(),
        0o755,
    )?;
    let script = script.to_string_lossy().into_owned();
    let null = null()?;
    let harmless = stage.request_for(&script).variable("ORDINARY", "kept");
    let placements: [(i64, &dyn crate::peer::fake_wrapper::AsFdObject); 3] =
        [(0, &null), (1, &null), (2, &null)];
    let result = stage.result_of(&harmless, &placements)?;
    expect::equal("exit_code of the script", Some(0), result["exit_code"].as_i64())?;
    let request = harmless
        .variable("LD_PRELOAD", "/nonexistent/preload.so")
        .variable("ENV", "/nonexistent/startup");
    let mut requester = stage.session.socket.open()?;
    requester.request(&request)?;
    let message = requester.frames.expect_frame("a decision")?.json()?;
    if message["action"] == json!("Escalate") {
        requester.send_descriptors(&placements)?;
        requester.expect_exit_code(0)?;
    } else {
        expect_denial(&message)?;
    }
    for report in program.starts()? {
        for name in ["LD_PRELOAD", "ENV"] {
            expect::that(
                report.variable(name).is_none(),
                format_args!("{name} is left out of the script's environment"),
                in_words(&report.environment),
            )?;
        }
    }
    stage.sentinel()?;
    stage.finish()
}
