//! wrapper.run.attributes: umask, limits, niceness, groups, session, users and terminal of the command are
//! those of the wrapper.

use std::os::fd::OwnedFd;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wrapper_call::WrapperCall;
use crate::probe::report::Report;
use crate::spec::requirements::Role;
use crate::stage::wrapper::{run_directly, run_under};
use crate::system::launch::Launch;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Wrapper, &[
    case("wrapper.run.attributes/umask", umask),
    case("wrapper.run.attributes/limits", limits),
    case("wrapper.run.attributes/niceness", niceness),
    case("wrapper.run.attributes/group-and-session", group_and_session),
    case("wrapper.run.attributes/users-and-groups", users_and_groups),
    case("wrapper.run.attributes/terminal", terminal),
]);

/// The umask is the wrapper's.
fn umask(context: &mut Context) -> Verdict {
    for umask in [0o000, 0o027, 0o777] {
        expect::equal(
            "umask",
            umask,
            run_under(context, |launch| launch.umask(umask))?.umask,
        )?;
    }
    Ok(())
}

/// Limits are the wrapper's, soft and hard.
fn limits(context: &mut Context) -> Verdict {
    let change = |launch: Launch| {
        launch
            .limit(libc::RLIMIT_NOFILE, 123)
            .limit(libc::RLIMIT_CORE, 0)
            .limit(libc::RLIMIT_STACK, 4 << 20)
    };
    let direct = run_directly(context, change)?;
    expect::equal(
        "limits (soft, hard) by number",
        direct.limits,
        run_under(context, change)?.limits,
    )
}

/// Niceness is the wrapper's.
fn niceness(context: &mut Context) -> Verdict {
    expect::equal("niceness", 5, run_under(context, |launch| launch.nice(5))?.nice)
}

/// Process group and session are the wrapper's.
fn group_and_session(context: &mut Context) -> Verdict {
    let program = Program::new(context, "program", [])?;
    let call = WrapperCall::new(context, &program.path, ["program"])?;
    let mut wrapper = call.launched(Launch::in_new_session).start()?;
    let pid = wrapper.process.pid.as_raw();
    let (mut stream, _) = wrapper.request()?;
    stream.run()?;
    wrapper.finish()?.expect_status(0)?;
    let report = program.only_start()?;
    expect::equal(
        "process, group, session",
        (pid, pid, pid),
        (report.pid, report.group, report.session),
    )?;
    let own = nix::unistd::getpgrp().as_raw();
    expect::equal(
        "group",
        own,
        run_under(context, Launch::in_own_group_of_the_case)?.group,
    )
}

/// Users, groups and no_new_privs are the wrapper's.
fn users_and_groups(context: &mut Context) -> Verdict {
    let direct = run_directly(context, |launch| launch)?;
    let report = run_under(context, |launch| launch)?;
    expect::equal("users", direct.users, report.users)?;
    expect::equal("groups", direct.groups, report.groups)?;
    expect::equal(
        "supplementary groups",
        direct.supplementary_groups,
        report.supplementary_groups,
    )?;
    expect::equal("no_new_privs", direct.no_new_privileges, report.no_new_privileges)
}

/// In a session with a controlling terminal: the same session, group and foreground group, and the terminal.
fn terminal(context: &mut Context) -> Verdict {
    let seen = |report: &Report, pid: i32| {
        let relative = |other: i32| other - pid;
        (
            relative(report.pid),
            relative(report.group),
            relative(report.session),
            report.foreground_group.map(relative),
        )
    };
    let pty = || nix::pty::openpty(None, None);
    let direct = pty()?;
    let on = |launch: Launch, slave: OwnedFd| launch.descriptor(0, slave).on_terminal(0);
    let report = run_directly(context, |launch| on(launch, direct.slave))?;
    let expected = seen(&report, report.pid);
    let pair = pty()?;
    let report = run_under(context, |launch| on(launch, pair.slave))?;
    expect::equal(
        "process, group, session, foreground group of the terminal, relative to the process",
        expected,
        seen(&report, report.pid),
    )?;
    expect::equal(
        "whether there is a foreground group",
        true,
        report.foreground_group.is_some(),
    )?;
    drop(pair.master);
    drop(direct.master);
    Ok(())
}
