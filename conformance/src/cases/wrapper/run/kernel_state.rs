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
use crate::stage::kernel_state::{expect_same, unusual};
use crate::system::launch::{Launch, duplicate, hard_limit};
use crate::verdict::{CaseError, Verdict};

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
        // SAFETY: it makes plain system calls on constants.
        unsafe { unusual(launch).prepared_by(change_own_attributes) }
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
    expect_same("as executed directly", &direct, "after Run", &read()?)
}

/// Parent-death signal and subreaper, which children don't inherit.
fn change_own_attributes() -> libc::c_int {
    // SAFETY: prctl takes integers.
    unsafe {
        let statuses = [
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGURG),
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0),
        ];
        statuses.into_iter().min().unwrap_or(0).min(0)
    }
}
