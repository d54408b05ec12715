//! The probe: a program that reports what it was started with, and then follows the case's orders.
//!
//! It is this executable under another name, with a plan beside it ([`plan`]). It first takes a [`report`] of
//! everything it inherited, then either acts by the plan alone, or connects to the case and obeys ([`remote`]).
//! With a plan that says so it is the recording wrapper for shells ([`record`]).

pub mod instructions;
pub mod kernel_state;
pub mod own;
pub mod plan;
pub mod record;
pub mod remote;
pub mod report;
pub mod signals;
pub mod terminal;

use std::io::{Read, Write};

use plan::{Act, Plan};

/// Runs the probe by its plan and returns its exit status.
pub fn run(plan: Plan) -> i32 {
    let report = report::take();
    match follow(&plan, report) {
        Ok(status) => status,
        Err(error) => {
            // Shows up on the implementation's standard error; no case uses status 99.
            eprintln!("probe: {error}");
            99
        }
    }
}

fn follow(plan: &Plan, report: report::Report) -> std::io::Result<i32> {
    if let Some(directory) = &plan.reports {
        report.write_into(directory)?;
    }
    if let Some(record) = &plan.record {
        return record::act(record, &report);
    }
    if let Some(socket) = &plan.connect {
        return remote::obey(socket, report);
    }
    for act in &plan.acts {
        match act {
            Act::Output(bytes) => std::io::stdout().lock().write_all(bytes)?,
            Act::Error(bytes) => std::io::stderr().lock().write_all(bytes)?,
            Act::KernelState(path) => std::fs::write(path, serde_json::to_vec(&kernel_state::take()?)?)?,
            Act::Copy => {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes)?;
                std::io::stdout().lock().write_all(&bytes)?;
            }
            Act::Terminal(path) => terminal::take(path)?,
            Act::CloseFrom(number) => {
                // SAFETY: close_range(2) takes integers; nothing of this process uses what it closes.
                let status = unsafe { libc::syscall(libc::SYS_close_range, *number, libc::c_uint::MAX, 0) };
                nix::errno::Errno::result(status)?;
            }
            Act::Execute => return Err(execute(&report.arguments[1..])),
            Act::Arguments => {
                if let Some(status) = instructions::follow(&report.arguments)? {
                    return Ok(status);
                }
            }
            Act::Signal(signal) => {
                std::io::stdout().flush()?;
                own::die_by(*signal);
            }
            Act::Exit(status) => {
                std::io::stdout().flush()?;
                return Ok(*status);
            }
        }
    }
    std::io::stdout().flush()?;
    Ok(0)
}

/// Executes `arguments[0]`, a path, with these arguments and the environment of this process.
fn execute(arguments: &[Vec<u8>]) -> std::io::Error {
    let arguments: Result<Vec<_>, _> = arguments
        .iter()
        .map(|argument| std::ffi::CString::new(argument.clone()))
        .collect();
    match arguments {
        Ok(arguments) if !arguments.is_empty() => match nix::unistd::execv(&arguments[0], &arguments) {
            Ok(never) => match never {},
            Err(error) => error.into(),
        },
        _ => std::io::Error::other("no program to execute"),
    }
}
