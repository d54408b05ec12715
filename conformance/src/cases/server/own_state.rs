//! server.own-state: what a server has set for itself reaches nothing that it starts. The measure is the same program,
//! executed by what started the server.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::harness::{Answer, Shim};
use crate::peer::program::Program;
use crate::probe::kernel_state::KernelState;
use crate::probe::plan::Act;
use crate::spec::requirements::Role;
use crate::stage::kernel_state::{expect_same, unusual};
use crate::stage::one_shot::OneShots;
use crate::stage::server::Stage;
use crate::stage::terminal::{Host, on_both};
use crate::system::launch::{Launch, hard_limit};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.own-state/escalated-child", escalated_child),
    case("server.own-state/escalated-child-of-an-unusual-server", escalated_child_of_an_unusual_server),
    case("server.own-state/shell", shell),
    case("server.own-state/shell-of-an-unusual-server", shell_of_an_unusual_server),
    case("server.own-state/one-shot", one_shot).needs("exec"),
    case("server.own-state/one-shot-of-an-unusual-server", one_shot_of_an_unusual_server).needs("exec"),
    case("server.own-state/terminal", terminal).needs("terminals"),
    case("server.own-state/terminal-of-an-unusual-server", terminal_of_an_unusual_server).needs("terminals"),
]);

/// How a server is started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Ordinary,
    Unusual,
}

impl Start {
    /// In an unusual server, soft limits are below the hard ones as well.
    fn apply(self, launch: Launch) -> Result<Launch, CaseError> {
        if self == Start::Ordinary {
            return Ok(launch);
        }
        let core = hard_limit(libc::RLIMIT_CORE)?;
        let files = hard_limit(libc::RLIMIT_NOFILE)?.min(1024);
        Ok(unusual(launch)
            .limits(libc::RLIMIT_NOFILE, files / 2, files)
            .limits(libc::RLIMIT_CORE, core.min(4096), core))
    }

    /// Of all that the kernel keeps: what this requirement is about. Dispositions and masks only of an ordinary server,
    /// since those that a server was started with may or may not be what its shells have.
    fn demands(self, name: &str) -> bool {
        const OTHERWISE: [&str; 8] = [
            "cwd",
            "cgroup",
            "cpuset",
            "parent-death signal",
            "stat, group",
            "stat, session",
            "stat, controlling terminal",
            "stat, foreground group of the terminal",
        ];
        let of_signals = ["status, SigIgn", "status, SigBlk"].contains(&name);
        let is_left_open = self == Start::Unusual && of_signals;
        let has_another = OTHERWISE.contains(&name) || name.starts_with("descriptor ");
        !is_left_open && !has_another
    }
}

/// A program that writes its state down, and that state as it is when the program is executed directly.
struct Measured {
    start: Start,
    program: Program,
    path: PathBuf,
    direct: KernelState,
}

impl Measured {
    fn new(context: &Context, start: Start) -> Result<Measured, CaseError> {
        let path = context.path("kernel-state");
        let program = Program::new(context, "program", [Act::KernelState(path.clone())])?;
        start
            .apply(Launch::new(&program.path, context.work_directory()))?
            .start()?
            .wait("the program, executed directly", context.patience())?;
        let mut measured = Measured {
            start,
            program,
            path,
            direct: KernelState::new(),
        };
        measured.direct = measured.take()?;
        Ok(measured)
    }

    /// The state that the program has written down.
    fn take(&self) -> Result<KernelState, CaseError> {
        let mut state: KernelState = serde_json::from_slice(&fs::read(&self.path)?)?;
        fs::remove_file(&self.path)?;
        state.retain(|name, _| self.start.demands(name));
        Ok(state)
    }

    /// Demands that the program, started by the server, has had the same state.
    fn expect(&self, started: &str) -> Verdict {
        expect_same(
            "executed by what started the server",
            &self.direct,
            started,
            &self.take()?,
        )
    }
}

/// A shim that was started so.
fn shim(context: &Context, start: Start) -> Result<Shim, CaseError> {
    // `start_with` takes no change that fails.
    let mut failure = None;
    let shim = Shim::start_with(context, |launch| match start.apply(launch) {
        Ok(launch) => launch,
        Err(error) => {
            failure = Some(error);
            Launch::new("/", context.directory())
        }
    });
    failure.map_or(shim, Err)
}

fn escalated_child_in(context: &Context, start: Start) -> Verdict {
    let measured = Measured::new(context, start)?;
    let mut stage = Stage::around(context, shim(context, start)?)?;
    stage.shim.decide_by(|_| Answer::Escalate);
    let mut requester = stage.escalate_quietly(&stage.request_for(measured.program.text()))?;
    requester.expect_exit_code(0)?;
    measured.expect("as an escalated child")?;
    stage.finish()
}

/// An escalated child has what the server was started with.
fn escalated_child(context: &mut Context) -> Verdict {
    escalated_child_in(context, Start::Ordinary)
}

/// The same where that is not the default: nothing is reset either.
fn escalated_child_of_an_unusual_server(context: &mut Context) -> Verdict {
    escalated_child_in(context, Start::Unusual)
}

fn shell_in(context: &Context, start: Start) -> Verdict {
    let measured = Measured::new(context, start)?;
    let mut shim = shim(context, start)?;
    let program = measured.program.text();
    let directory = context.work_directory().to_string_lossy().into_owned();
    shim.start_session("main", program, "/opt/wrapper")?;
    let pid = shim.spawn("main", &[program], &directory)?;
    let ended = shim.call("session/wait", json!({"session": "main", "pid": pid}))?;
    expect::equal("exit_code", &json!(0), &ended["exit_code"])?;
    measured.expect("as the shell of a session")?;
    shim.close_session("main")?;
    shim.shutdown()
}

/// The shell of a session has what the server was started with.
fn shell(context: &mut Context) -> Verdict {
    shell_in(context, Start::Ordinary)
}

/// The same where that is not the default.
fn shell_of_an_unusual_server(context: &mut Context) -> Verdict {
    shell_in(context, Start::Unusual)
}

fn one_shot_in(context: &Context, start: Start) -> Verdict {
    let measured = Measured::new(context, start)?;
    let mut one_shots = OneShots::around(context, shim(context, start)?);
    let params = one_shots.params(measured.program.text(), "command");
    let result = one_shots.run(params)?;
    expect::equal("exit_code", &json!(0), &result["exit_code"])?;
    measured.expect("as the shell of a one-shot")?;
    one_shots.shim.shutdown()
}

/// The shell of a one-shot has what the server was started with, dispositions and mask included.
fn one_shot(context: &mut Context) -> Verdict {
    one_shot_in(context, Start::Ordinary)
}

/// The same where that is not the default.
fn one_shot_of_an_unusual_server(context: &mut Context) -> Verdict {
    one_shot_in(context, Start::Unusual)
}

fn terminal_in(context: &Context, start: Start) -> Verdict {
    let measured = Measured::new(context, start)?;
    let mut host = Host::around(context, shim(context, start)?)?;
    on_both(|on| {
        let id = host.open_direct(on, &[measured.program.text()])?;
        host.read_to_end(&id)?;
        measured.expect("as the process of a terminal")
    })?;
    host.finish()
}

/// The process of a terminal has what the host was started with.
fn terminal(context: &mut Context) -> Verdict {
    terminal_in(context, Start::Ordinary)
}

/// The same where that is not the default.
fn terminal_of_an_unusual_server(context: &mut Context) -> Verdict {
    terminal_in(context, Start::Unusual)
}
