//! wrapper.limits: 16 open files, and no further process or thread, are enough, and high descriptors do no harm.

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{
    any_call, denied_under, escalated, escalated_or_refused, escalated_under, expect_state, forwarded,
    runs_under, stopped_by,
};
use crate::system::filter;
use crate::system::launch::Launch;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.limits/signals-with-sixteen-open-files", signals_with_few_files),
    case("wrapper.limits/signals-without-further-thread", signals_without_further_thread),
    case("wrapper.limits/both-at-once", both_at_once),
    case("wrapper.limits/sixteen-open-files", sixteen_open_files),
    case("wrapper.limits/no-further-process", no_further_process),
    case("wrapper.limits/no-further-thread", no_further_thread),
    case("wrapper.limits/numbers-from-1024-on", numbers_from_1024_on),
]);

/// RLIMIT_NPROC does not apply to root, so a filter refuses to create processes and threads, as the limit would.
fn alone(launch: Launch) -> Launch {
    let mut calls = vec![libc::SYS_clone, libc::SYS_clone3];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_fork, libc::SYS_vfork]);
    launch
        .limit(libc::RLIMIT_NPROC, 1)
        .filter(filter::answering(&calls, libc::EAGAIN))
}

fn few_files(launch: Launch) -> Launch {
    launch.limit(libc::RLIMIT_NOFILE, 16)
}

/// Escalate with a forwarded signal, a stop and a result.
fn signals_under(context: &Context, change: impl FnOnce(Launch) -> Launch) -> Verdict {
    let call = any_call(context)?.socket_number(3).launched(change);
    let (mut wrapper, mut stream, escalation) = escalated(call)?;
    // A wrapper without the extension sends no frames; another requirement asks for it.
    if escalation.announces_signals() {
        for signal in [libc::SIGTERM, libc::SIGUSR1] {
            wrapper.process.signal(signal)?;
            let seen = forwarded(&mut stream, "a forwarded signal")?;
            expect::equal("the forwarded signal", i64::from(signal), seen)?;
        }
        stream.frames.send_json(&json!({"stopped": libc::SIGTSTP}))?;
        stopped_by(&wrapper, context)?;
        wrapper.process.signal(libc::SIGCONT)?;
        let seen = forwarded(&mut stream, "SIGCONT")?;
        expect::equal("the forwarded signal", i64::from(libc::SIGCONT), seen)?;
    }
    stream.result(12)?;
    wrapper.finish()?.expect_status(12)
}

/// With 16 open files.
fn signals_with_few_files(context: &mut Context) -> Verdict {
    signals_under(context, few_files)
}

/// Without a further process or thread.
fn signals_without_further_thread(context: &mut Context) -> Verdict {
    signals_under(context, alone)
}

/// Both limits, and every decision.
fn both_at_once(context: &mut Context) -> Verdict {
    let both = |launch| alone(few_files(launch));
    signals_under(context, both)?;
    let program = Program::new(context, "program", [])?;
    for run in [true, false] {
        let call = WrapperCall::new(context, &program.path, ["program"])?.socket_number(3);
        let mut wrapper = call.launched(both).start()?;
        let (mut stream, _) = wrapper.request()?;
        if run {
            stream.run()?;
        } else {
            stream.deny(None)?;
        }
        wrapper.finish()?.expect_status(i32::from(!run))?;
    }
    program.only_start().map(drop)
}

/// Every decision with 16 open files allowed.
fn sixteen_open_files(context: &mut Context) -> Verdict {
    for decision in 0..3 {
        let program = Program::new(context, &format!("program-{decision}"), [])?;
        let call = WrapperCall::new(context, &program.path, ["program"])?
            .socket_number(10)
            .launched(few_files);
        let mut wrapper = call.start()?;
        let (mut stream, _) = wrapper.request()?;
        match decision {
            0 => stream.run()?,
            1 => stream.deny(None)?,
            _ => {
                stream.escalate()?;
                stream.result(0)?;
            }
        }
        wrapper.finish()?.expect_status(i32::from(decision == 1))?;
    }
    Ok(())
}

/// Every decision where no process can be created, while threads can: some runtimes (Go, Java, Node) start one before main.
fn no_further_process(context: &mut Context) -> Verdict {
    let without_processes = |launch: Launch| launch.filter(filter::refusing_processes());
    runs_under(context, without_processes)?;
    denied_under(context, without_processes)?;
    escalated_under(context, without_processes)
}

/// Every decision where no process or thread can be created. RLIMIT_NPROC does not apply to root, but a filter does.
fn no_further_thread(context: &mut Context) -> Verdict {
    let alone = |launch: Launch| {
        let mut calls = vec![libc::SYS_clone, libc::SYS_clone3];
        #[cfg(target_arch = "x86_64")]
        calls.extend([libc::SYS_fork, libc::SYS_vfork]);
        launch.filter(filter::refusing(&calls))
    };
    runs_under(context, alone)?;
    denied_under(context, alone)?;
    escalated_under(context, alone)
}

fn with_many_files(launch: Launch) -> Launch {
    launch.limit(libc::RLIMIT_NOFILE, 2_048).crowded_below(1_100)
}

/// Every decision where all descriptors below 1,100 are open when the wrapper starts, so that its own come behind. It waits
/// for each answer, as that is where it would use select(2).
fn numbers_from_1024_on(context: &mut Context) -> Verdict {
    for action in ["Run", "Deny", "Escalate"] {
        let program = Program::new(context, &format!("program-{action}"), [])?;
        let call = WrapperCall::new(context, &program.path, ["program"])?;
        let mut wrapper = call.launched(with_many_files).start()?;
        let (mut stream, _) = wrapper.request()?;
        expect_state(context, &wrapper, "S")?;
        match action {
            "Run" => {
                stream.run()?;
                wrapper.finish()?.expect_status(0)?;
                program.only_start()?;
            }
            "Deny" => {
                stream.deny(None)?;
                wrapper.finish()?.expect_status(1)?;
            }
            _ => {
                if let Some(escalation) = escalated_or_refused(&mut stream)? {
                    drop(escalation);
                    expect_state(context, &wrapper, "S")?;
                    stream.result(4)?;
                    wrapper.finish()?.expect_status(4)?;
                } else {
                    // More than sixteen may be refused.
                    wrapper.finish()?.expect_refused()?;
                }
            }
        }
    }
    Ok(())
}
