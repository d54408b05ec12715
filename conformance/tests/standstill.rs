//! A machine that stands still for a while, as a virtual one may: what is right passes all the same.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A case that takes three seconds of a one-shot's time, in which its server's clock goes on.
const BY_THE_CLOCK: &str = "approval.clock/what-ran-before-counts";

/// Longer than that.
const STANDSTILL: Duration = Duration::from_secs(4);

fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|line| {
            line.split(' ')
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn is_shell(pid: i32) -> bool {
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command
        .split('\0')
        .next()
        .is_some_and(|file| file.ends_with("/bin/shell"))
}

fn has_shell(pid: i32) -> bool {
    is_shell(pid) || children(pid).into_iter().any(has_shell)
}

/// The process of the case, a child of its supervisor, once its one-shot runs.
fn case_with_a_one_shot(run: i32) -> i32 {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        let cases = children(run).into_iter().flat_map(children);
        if let Some(case) = cases.into_iter().find(|case| has_shell(*case)) {
            return case;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no one-shot");
}

#[test]
fn a_case_whose_clock_went_on_meanwhile_begins_again() {
    let run = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["run", "--trace", "--only", BY_THE_CLOCK, "--server"])
        .arg(format!("'{}'", env!("CARGO_BIN_EXE_faulty-shim")))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the suite starts");
    let case = Pid::from_raw(case_with_a_one_shot(run.id().cast_signed()));
    kill(case, Signal::SIGSTOP).expect("the case stops");
    std::thread::sleep(STANDSTILL);
    kill(case, Signal::SIGCONT).expect("the case goes on");
    let output = run.wait_with_output().expect("the run ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("The case began again: the suite was held up for"),
        "{said}"
    );
}
