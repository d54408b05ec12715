//! wrapper.run.attributes: whatever the kernel keeps of a process, the command has it as if it had been executed
//! directly.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::program::Program;
use crate::peer::wire::ESCALATION_DESCRIPTOR;
use crate::peer::wrapper_call::WrapperCall;
use crate::probe::kernel_state::KernelState;
use crate::probe::plan::Act;
use crate::spec::requirements::Role;
use crate::system::launch::{Launch, duplicate, hard_limit};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.run.attributes/all-of-an-ordinary-process", all_of_an_ordinary_process),
    case("wrapper.run.attributes/all-of-an-unusual-process", all_of_an_unusual_process),
    case("wrapper.run.attributes/soft-limits", soft_limits),
]);

/// Nothing that the kernel keeps is changed, nothing is left behind.
fn all_of_an_ordinary_process(context: &mut Context) -> Verdict {
    same_state(context, has_no_other_requirement, |launch| launch)
}

/// Dispositions and masks are wrapper.run.signals', the flags of the escalation socket wrapper.run.fds'.
fn has_no_other_requirement(name: &str) -> bool {
    let socket = format!("descriptor {ESCALATION_DESCRIPTOR}, fdinfo");
    !["status, SigIgn", "status, SigBlk", &socket].contains(&name)
}

/// The same from a state in which much is not as it is by default: what a wrapper resets shows here.
fn all_of_an_unusual_process(context: &mut Context) -> Verdict {
    same_state(context, has_no_other_requirement, |launch| {
        let launch = launch
            .umask(0o037)
            .nice(3)
            .ignoring(libc::SIGHUP)
            .blocking(libc::SIGUSR2);
        // SAFETY: both make plain system calls on constants and on their own stack.
        unsafe {
            launch
                .prepared_by(change_attributes)
                .prepared_by(change_scheduling)
        }
    })
}

/// Every limit keeps both of its values, a soft one below the hard one.
fn soft_limits(context: &mut Context) -> Verdict {
    let wanted = [
        (libc::RLIMIT_NOFILE, 123, 456),
        (libc::RLIMIT_CORE, 4096, 1 << 20),
        (libc::RLIMIT_STACK, 4 << 20, 6 << 20),
        (libc::RLIMIT_FSIZE, 1 << 30, 2 << 30),
        (libc::RLIMIT_CPU, 1000, 2000),
        (libc::RLIMIT_DATA, 4 << 30, 5 << 30),
        (libc::RLIMIT_AS, 64 << 30, 65 << 30),
        (libc::RLIMIT_MEMLOCK, 16 << 10, 32 << 10),
        (libc::RLIMIT_SIGPENDING, 100, 200),
        (libc::RLIMIT_MSGQUEUE, 1000, 2000),
    ];
    let mut possible = Vec::new();
    for (resource, soft, hard) in wanted {
        let limit = hard_limit(resource)?;
        // An unprivileged suite can only lower a hard limit.
        let hard = limit.min(hard);
        possible.push((resource, soft.min(hard / 2), hard));
    }
    let is_limit = |name: &str| name.starts_with("limits, ");
    same_state(context, is_limit, |launch| {
        possible.iter().fold(launch, |launch, (resource, soft, hard)| {
            launch.limits(*resource, *soft, *hard)
        })
    })
}

/// Demands that a command has after Run what it has when the suite's launcher executes it directly, of all that is
/// `demanded`.
fn same_state(
    context: &Context,
    demanded: impl Fn(&str) -> bool,
    change: impl Fn(Launch) -> Launch,
) -> Verdict {
    let path = context.path("kernel-state");
    let program = Program::new(context, "program", [Act::KernelState(path.clone())])?;
    // The very same open files, so that what /proc says of them is the same, too.
    let streams = (0..3)
        .map(|number| {
            let path = context.write_file(&format!("stream-{number}"), b"0123456789", 0o600)?;
            let mut file = File::options().read(true).append(number > 0).open(path)?;
            file.seek(SeekFrom::Start(5))?;
            Ok(file)
        })
        .collect::<Result<Vec<_>, CaseError>>()?;
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let with_streams = || {
        (0..).zip(&streams).try_fold(
            Launch::new(&program.path, context.work_directory()),
            |launch, (number, stream)| Ok::<_, CaseError>(launch.descriptor(number, duplicate(stream)?)),
        )
    };
    let mut launch = change(with_streams()?);
    if let Some(socket) = call.client_end_ref() {
        launch = launch.descriptor(ESCALATION_DESCRIPTOR, duplicate(socket)?);
    }
    launch
        .start()?
        .wait("the program, executed directly", context.patience())?;
    let read = || -> Result<KernelState, CaseError> {
        let mut state: KernelState = serde_json::from_slice(&fs::read(&path)?)?;
        state.retain(|name, _| demanded(name));
        Ok(state)
    };
    let direct = read()?;
    fs::remove_file(&path)?;

    let given = with_streams()?;
    let mut wrapper = call
        .launched(|launch| change(launch).descriptors_of(given))
        .start()?;
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    expect_same(&direct, &read()?)
}

/// Names each difference: both values in full would hide it.
fn expect_same(direct: &KernelState, wrapped: &KernelState) -> Verdict {
    let differing = |own: &KernelState, other: &KernelState| -> Vec<String> {
        let missing = || "nothing".to_owned();
        direct
            .keys()
            .chain(wrapped.keys().filter(|name| !direct.contains_key(*name)))
            .filter(|name| own.get(*name) != other.get(*name))
            .map(|name| format!("{name}: {}", own.get(name).cloned().unwrap_or_else(missing)))
            .collect()
    };
    let expected = differing(direct, wrapped);
    if expected.is_empty() {
        return Ok(());
    }
    Err(violation(
        format_args!("as executed directly: {}", expected.join("; ")),
        format_args!("after Run: {}", differing(wrapped, direct).join("; ")),
    ))
}

/// Parent-death signal, timer slack, huge pages, subreaper, no_new_privs, personality.
fn change_attributes() -> libc::c_int {
    // SAFETY: prctl and personality take integers.
    unsafe {
        let statuses = [
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGURG),
            libc::prctl(libc::PR_SET_TIMERSLACK, 123_456),
            libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        ];
        // Many containers refuse it, to the command that is executed directly as well.
        libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
        statuses.into_iter().min().unwrap_or(0).min(0)
    }
}

/// Processors (the first that is allowed) and policy.
fn change_scheduling() -> libc::c_int {
    // SAFETY: calls on local structures, of which all-zero is valid.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) < 0 {
            return -1;
        }
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        if let Some(first) = (0..libc::CPU_SETSIZE as usize).find(|number| libc::CPU_ISSET(*number, &allowed))
        {
            libc::CPU_SET(first, &mut one);
        }
        if libc::sched_setaffinity(0, size_of_val(&one), &raw const one) < 0 {
            return -1;
        }
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters)
    }
}
