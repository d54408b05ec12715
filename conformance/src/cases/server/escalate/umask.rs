//! The umask of an escalated child, and that the server keeps its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::spec::requirements::Role;
use crate::stage::server::Stage;
use crate::verdict::{CaseError, Verdict, harness, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.umask/as-requested", as_requested),
    case("server.escalate.umask/without-the-member", without_the_member),
    case("server.escalate.umask/one-after-the-other", one_after_the_other),
    case("server.escalate.umask/bare-script", bare_script),
    case("server.escalate.umask/server-unchanged", server_unchanged),
    case("server.escalate.umask/unrelated-unchanged", unrelated_unchanged).needs("unrelated"),
]).needs("umask");

/// The umask that the shims of this file are started with.
const SERVERS: u32 = 0o027;

fn stage(context: &Context) -> Result<Stage, CaseError> {
    Stage::on(context, |launch| launch.umask(SERVERS))
}

/// Escalates a program, with this umask or without the member, and gives the umask that it had.
fn umask_of(context: &Context, stage: &mut Stage, umask: Option<u32>) -> Result<u32, CaseError> {
    let program = Program::new(context, &format!("program-{}", context.next_number()), [])?;
    let mut request = stage.request_for(program.text());
    if let Some(umask) = umask {
        request = request.member("umask", json!(umask));
    }
    let result = stage.result_of(&request, &[])?;
    expect::equal("exit_code", Some(0), result["exit_code"].as_i64())?;
    Ok(program.only_start()?.umask)
}

/// The child has the request's umask: a number, not the octal reading of its digits.
fn as_requested(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    for umask in [0, 0o22, 0o77, 0o777, 0o2, 0o10, 0o100, 22, 77] {
        let seen = umask_of(context, &mut stage, Some(umask))?;
        expect::equal(&format!("the child's umask for {umask}"), umask, seen)?;
    }
    stage.finish()
}

/// Without the member the child has the server's umask.
fn without_the_member(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    let seen = umask_of(context, &mut stage, None)?;
    expect::equal("the child's umask without the member", SERVERS, seen)?;
    stage.finish()
}

/// A request's umask does not carry over to the next request.
fn one_after_the_other(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    for _ in 0..10 {
        expect::equal(
            "the child's umask",
            0o777,
            umask_of(context, &mut stage, Some(0o777))?,
        )?;
        expect::equal(
            "the child's umask without the member, after one with it",
            SERVERS,
            umask_of(context, &mut stage, None)?,
        )?;
    }
    stage.finish()
}

/// A script without `#!` gets the umask as well.
fn bare_script(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    let program = Program::new(context, "program", [])?;
    let text = format!("exec '{}'\n", program.text());
    let script = context.write_file("bin/script", text.as_bytes(), 0o755)?;
    let request = stage
        .request_for(&script.to_string_lossy())
        .member("umask", json!(0o137));
    let result = stage.result_of(&request, &[])?;
    expect::equal("exit_code", Some(0), result["exit_code"].as_i64())?;
    expect::equal("the script's umask", 0o137, program.only_start()?.umask)?;
    stage.finish()
}

/// The server's own umask, watched in /proc while 100 requests bring another one, never changes.
fn server_unchanged(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    let pid = stage.shim.process.pid.as_raw();
    let over = Arc::new(AtomicBool::new(false));
    let watcher = std::thread::spawn({
        let over = over.clone();
        move || {
            let (mut looks, mut others) = (0_u64, Vec::new());
            while !over.load(Ordering::Relaxed) {
                if let Some(umask) = process_umask(pid)
                    && umask != SERVERS
                    && !others.contains(&umask)
                {
                    others.push(umask);
                }
                looks += 1;
                // Let the server that is watched have the processor, too.
                std::thread::yield_now();
            }
            (looks, others)
        }
    });
    let children = (0..100).try_for_each(|_| {
        expect::equal(
            "the child's umask",
            0o777,
            umask_of(context, &mut stage, Some(0o777))?,
        )
    });
    over.store(true, Ordering::Relaxed);
    let (looks, others) = watcher
        .join()
        .map_err(|_| harness("the thread that watches the umask panicked"))?;
    children?;
    context
        .transcript
        .note(format_args!("looked {looks} times at the server's umask"));
    if process_umask(pid).is_none() {
        return Err(harness("/proc/PID/status shows no Umask (before Linux 4.7?)"));
    }
    expect::equal(
        "other values of the server's umask, at any moment",
        Vec::<u32>::new(),
        others,
    )?;
    stage.finish()
}

fn process_umask(pid: i32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(value.trim(), 8).ok()
}

/// Unrelated processes that the server starts meanwhile have the server's umask.
fn unrelated_unchanged(context: &mut Context) -> Verdict {
    let mut stage = stage(context)?;
    let bystander = Program::new(context, "bystander", [])?;
    let program = Program::new(context, "program", [])?;
    let request = stage.request_for(program.text()).member("umask", json!(0o777));
    for _ in 0..50 {
        let mut requester = stage.granted(&request)?;
        let params = json!({"argv": [bystander.text()], "cwd": stage.directory, "env": {}});
        let unrelated = stage.shim.send("process/spawn", params)?;
        requester.send_descriptors(&[])?;
        let answer = stage.shim.answer_to(unrelated, "process/spawn")?;
        let pid = answer.map_err(|error| violation("process/spawn succeeds", error.message))?["pid"].clone();
        requester.expect_exit_code(0)?;
        let ended: Value = stage.shim.call("process/wait", json!({"pid": pid}))?;
        expect::equal(
            "exit_code of the unrelated process",
            &json!(0),
            &ended["exit_code"],
        )?;
    }
    let starts = bystander.starts()?;
    expect::equal("starts of the unrelated program", 50, starts.len())?;
    for report in starts {
        expect::equal("the umask of an unrelated process", SERVERS, report.umask)?;
    }
    stage.finish()
}
