//! Programs in a file system of the sandbox's own making that never answers.

use std::fs::File;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::spec::requirements::Role;
use crate::stage::siege::Siege;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.hostile/file-system-that-never-answers", file_system_that_never_answers).within_seconds(60),
    case("server.hostile/file-system-that-never-answers-many-sessions", file_system_that_never_answers_many_sessions).within_seconds(120),
]);

/// A FUSE mount that no process serves: whatever looks into it waits until this is dropped.
struct Unanswered {
    _requests: File,
    program: String,
}

impl Unanswered {
    /// Mounts it where only this thread and the processes that it starts see it.
    fn new(context: &Context) -> Result<Unanswered, CaseError> {
        let needs = |what: &str, error: &dyn std::fmt::Display| {
            CaseError::NotApplicable(format!("a FUSE mount is needed, and {what}: {error}"))
        };
        let requests = File::options().read(true).write(true).open("/dev/fuse");
        let requests = requests.map_err(|error| needs("/dev/fuse cannot be opened", &error))?;
        unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|error| needs("a mount namespace cannot be made", &error))?;
        let nothing: Option<&str> = None;
        mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            nothing,
        )?;
        let directory = context.path("unanswered");
        std::fs::create_dir(&directory)?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&requests);
        let options = format!("fd={number},rootmode=40000,user_id=0,group_id=0,allow_other");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        match mount(
            Some("unanswered"),
            &directory,
            Some("fuse"),
            flags,
            Some(&*options),
        ) {
            Ok(()) => {}
            Err(error @ (Errno::EPERM | Errno::ENODEV)) => return Err(needs("mount(2) refuses it", &error)),
            Err(error) => return Err(error.into()),
        }
        Ok(Unanswered {
            _requests: requests,
            program: directory.join("tool").to_string_lossy().into_owned(),
        })
    }
}

/// The looks of one session hold up no other session, nor the end of their own.
fn file_system_that_never_answers(context: &mut Context) -> Verdict {
    const REQUESTS: usize = 40;
    let unanswered = Unanswered::new(context)?;
    let mut siege = Siege::new(context)?;
    let mut hostile = siege.stage.shim.probe_session(context, "hostile")?;
    let request = siege.stage.request_for(&unanswered.program);
    let mut held = Vec::new();
    for _ in 0..REQUESTS {
        let mut requester = hostile.socket.open()?;
        requester.request(&request)?;
        held.push(requester);
    }
    for _ in 0..3 {
        siege.others_are_served()?;
    }
    siege.stage.shim.close_session("hostile")?;
    for requester in &mut held {
        requester.frames.expect_end("its session is closed")?;
    }
    siege.others_are_served()?;
    drop((unanswered, held, hostile));
    siege.lift(
        context,
        "requests for programs in a file system that never answers",
    )
}

/// Nor do those of many sessions together, each of which asks for no more than a server could let it have.
fn file_system_that_never_answers_many_sessions(context: &mut Context) -> Verdict {
    const SESSIONS: usize = 40;
    const REQUESTS: usize = 16;
    let unanswered = Unanswered::new(context)?;
    let mut siege = Siege::new(context)?;
    let request = siege.stage.request_for(&unanswered.program);
    let name = |number: usize| format!("hostile-{number}");
    let mut held = Vec::new();
    for number in 0..SESSIONS {
        let mut hostile = siege.stage.shim.probe_session(context, &name(number))?;
        let mut requesters = Vec::new();
        for _ in 0..REQUESTS {
            let mut requester = hostile.socket.open()?;
            requester.request(&request)?;
            requesters.push(requester);
        }
        held.push((hostile, requesters));
    }
    let long = "x".repeat(100_000);
    let long = siege.stage.request("/bin/true", &["true", &long, &long]);
    for _ in 0..3 {
        // A program that is not the system's, and a request that takes a while to decode: a server might use other threads.
        siege.others_are_served()?;
        siege.stage.escalate_quietly(&long)?.expect_exit_code(0)?;
    }
    for number in 0..SESSIONS {
        siege.stage.shim.close_session(&name(number))?;
    }
    siege.others_are_served()?;
    drop((unanswered, held));
    siege.lift(
        context,
        "requests of many sessions for programs in a file system that never answers",
    )
}
