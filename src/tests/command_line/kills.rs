//! SIGKILL at random moments: whichever process it hits, nothing is left of the command.
//!
//! `SHELL_ESCALATION_KILLS` says how many rounds there are, `SHELL_ESCALATION_KILLS_SEED` which.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::run::run;

/// How long everything may take to end.
const BOUND: Duration = Duration::from_secs(10);

/// What an escalated `sh -c` runs. Each of these goes on until it is killed.
const TREES: &[&str] = &[
    "sleep 600",
    "trap : HUP TERM INT; sleep 600 & sleep 600 & wait; wait; sleep 600",
    "setsid sleep 600 & (setsid sh -c \\\"sleep 600 & sleep 600\\\" &) ; sleep 600",
    "n=0; while [ \\$((n += 1)) -le 40 ]; do (setsid sleep 600 &) & done; sleep 600",
    "while :; do (sleep 0.01 &) ; sleep 0.01; done",
    "sh -c \\\"kill -STOP \\\\\\$\\\\\\$\\\" & kill -STOP \\$\\$; sleep 600",
    "kill -STOP \\$PPID; setsid sleep 600 & sleep 600",
    "(setsid sleep 600 &) ; kill -KILL \\$PPID; sleep 600",
];

/// Who is killed, two of them in the same instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Server,
    Guardian,
    Keeper,
    Supervisor,
    Shell,
    Wrapper,
    Tree,
    /// A keeper or supervisor that has no tree yet.
    Waiting,
}

const VICTIMS: &[&[Role]] = &[
    &[Role::Server],
    &[Role::Guardian],
    &[Role::Keeper],
    &[Role::Supervisor],
    &[Role::Shell],
    &[Role::Wrapper],
    &[Role::Tree],
    &[Role::Waiting],
    &[Role::Supervisor, Role::Keeper],
    &[Role::Keeper, Role::Guardian],
    &[Role::Supervisor, Role::Guardian],
    &[Role::Server, Role::Guardian],
    &[Role::Server, Role::Keeper],
    &[Role::Server, Role::Supervisor],
    &[Role::Server, Role::Supervisor, Role::Keeper],
    &[Role::Wrapper, Role::Supervisor],
];

/// The next of a sequence of numbers that looks random (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn one_of<T: Copy>(items: &[T], state: &mut u64) -> T {
    items[usize::try_from(next(state) % items.len() as u64).unwrap()]
}

/// Parent and name of each process.
fn processes() -> BTreeMap<i32, (i32, String)> {
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let process = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (start, rest) = stat.rsplit_once(')')?;
        let parent = rest.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, (parent, start.split_once('(')?.1.to_owned())))
    };
    pids.filter_map(process).collect()
}

/// Who is there of a run, by role.
fn cast(server: i32) -> Vec<(Role, i32)> {
    let all = processes();
    let is_parent = |pid: i32| all.values().any(|&(of, _)| of == pid);
    let has_tree = |keeper: i32| all.iter().any(|(&pid, &(of, _))| of == keeper && is_parent(pid));
    let mut cast = vec![(Role::Server, server)];
    let mut parents = vec![(Role::Server, server)];
    while let Some((role_of_parent, parent)) = parents.pop() {
        for (&pid, (_, name)) in all.iter().filter(|(_, (of, _))| *of == parent) {
            let role = match (role_of_parent, name.as_str()) {
                (Role::Server, "tree-guardian") => Role::Guardian,
                (Role::Guardian, _) if has_tree(pid) => Role::Keeper,
                (Role::Guardian | Role::Waiting, _) => Role::Waiting,
                (Role::Keeper, _) => Role::Supervisor,
                (Role::Supervisor, "shell") => Role::Shell,
                (_, "minimal-wrapper") => Role::Wrapper,
                _ => Role::Tree,
            };
            cast.push((role, pid));
            parents.push((role, pid));
        }
    }
    cast
}

/// Whether this child has ended; it is not reaped.
fn has_exited(pid: i32) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(Id::Pid(Pid::from_raw(pid)), flags).unwrap() != WaitStatus::StillAlive
}

/// Whether something was escalated and runs.
fn has_tree(cast: &[(Role, i32)]) -> bool {
    cast.iter().any(|&(role, _)| role == Role::Wrapper) && cast.iter().any(|&(role, _)| role == Role::Keeper)
}

/// Processes whose environment has `marker`.
fn marked(marker: &str) -> Vec<i32> {
    let has_marker = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|entry| entry == marker.as_bytes())
    };
    processes().into_keys().filter(has_marker).collect()
}

fn is_there(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

/// Waits until the run and all that it started have ended; what is left otherwise.
fn left_of(run: &mut Child, marker: &str, cast: &[(Role, i32)]) -> Vec<String> {
    let deadline = Instant::now() + BOUND;
    loop {
        let has_exited = run.try_wait().unwrap().is_some();
        let mut left = marked(marker);
        // Neither these nor a process that is executing a program have an environment to show.
        left.extend(cast.iter().map(|&(_, pid)| pid).filter(|&pid| is_there(pid)));
        if has_exited && left.is_empty() && marked(marker).is_empty() {
            return Vec::new();
        }
        if Instant::now() > deadline {
            let all = processes();
            let described = |pid: i32| format!("{pid} {:?}", all.get(&pid));
            return left.into_iter().map(described).collect();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_sigkill_at_any_moment_leaves_nothing_of_a_run() {
    let setting = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().unwrap())
    };
    let rounds = setting("SHELL_ESCALATION_KILLS").unwrap_or(20);
    let random = || RandomState::new().build_hasher().finish();
    let seed = setting("SHELL_ESCALATION_KILLS_SEED").unwrap_or_else(random);
    let mut state = seed;
    let mut hit: BTreeMap<Role, u32> = BTreeMap::new();
    for round in 0..rounds {
        let folder = TempDir::new().unwrap();
        let marker = format!("ROUND={}-{seed}-{round}", std::process::id());
        let (name, value) = marker.split_once('=').unwrap();
        let tree = one_of(TREES, &mut state);
        let mut command = run(
            &folder,
            "default = \"escalate\"\n",
            &format!("/bin/sh sh -c \"{tree}\""),
        );
        command.env(name, value).stdin(Stdio::null());
        let mut run = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = i32::try_from(run.id()).unwrap();
        let mut victims = one_of(VICTIMS, &mut state);
        if tree.contains("-KILL") {
            // With the supervisor that the tree kills, all three who watch over it must not be hit in one instant.
            victims = &victims[..1];
        }
        let moment = Duration::from_micros(next(&mut state) % 150_000);
        let stops_first = next(&mut state).is_multiple_of(4);
        // A moment within the start or after it, as chance will have it; on a busy machine the start takes longer.
        while round % 2 == 0 && !has_exited(server) && !has_tree(&cast(server)) {
            std::thread::yield_now();
        }
        std::thread::sleep(moment);
        let cast = cast(server);
        let killed: Vec<(Role, i32)> = victims
            .iter()
            // The last one is the latest: of the command, not of the shell.
            .filter_map(|role| cast.iter().rfind(|(found, _)| found == role).copied())
            .collect();
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for &(_, pid) in killed.iter().filter(|_| signal == Signal::SIGKILL || stops_first) {
                // It may have ended meanwhile.
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
        for &(role, _) in &killed {
            *hit.entry(role).or_default() += 1;
        }
        // A guardian without trees is replaced, and a tree does without one of its processes.
        let has_trees = cast.iter().any(|&(role, _)| role == Role::Keeper);
        let goes_on =
            |role| matches!(role, Role::Tree | Role::Waiting) || role == Role::Guardian && !has_trees;
        if killed.iter().all(|&(role, _)| goes_on(role)) {
            kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
            *hit.entry(Role::Server).or_default() += 1;
        }
        let left = left_of(&mut run, &marker, &cast);
        let about = format!("seed {seed}, round {round}: {killed:?} after {moment:?} in `{tree}`");
        assert_eq!(left, [""; 0], "{about}");
    }
    println!("{rounds} rounds, seed {seed}, killed {hit:?}");
    assert!(rounds < 20 || hit.len() > 2, "{hit:?}");
}
