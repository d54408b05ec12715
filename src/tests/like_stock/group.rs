//! What a command sends to its process group, in which `run` is as well, does to the shell what it does in a stock shell, and
//! nothing to `run`.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use super::shells::{escalating, stock};

/// Sent by the shell itself, which catches it or dies; by a command that catches it; by commands that die of it. Those can't be
/// looked at any more when `run` gets the signal, and of signals that come at once the kernel keeps one.
const SCRIPTS: &[&str] = &[
    "for s in TERM HUP INT QUIT USR1 USR2 ALRM PROF ABRT; do trap \"echo caught $s\" $s; kill -$s 0; done; echo cleaned; exit 3",
    "for s in TERM HUP USR1 USR2 ALRM PROF; do trap : $s; sh -c \"trap : $s; kill -$s 0; echo cleaned $s\"; echo $?; done; exit 4",
    "trap : TERM HUP USR1; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do \
       sh -c 'kill 0'; sh -c 'kill -USR1 0; :' & sh -c 'kill -HUP 0'; done; while ! wait; do :; done; echo cleaned; exit 5",
    "trap 'trap - TERM; echo leaving; kill 0' EXIT; trap : TERM; echo working",
    "trap '' TERM; (trap - TERM; kill 0; echo ignored); sh -c 'kill 0; echo ignored'; exit 6",
    "kill 0; sleep 600",
    "kill -USR1 0; sleep 600",
    "sh -c 'kill -KILL 0'; sleep 600",
    "(kill -HUP 0); sleep 600",
];

/// What a program's caller sees of it. It has a process group of its own, which isn't the test's.
fn seen(mut program: Command) -> (String, Option<i32>, Option<i32>) {
    let output = program
        .process_group(0)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (text, output.status.code(), output.status.signal())
}

#[test]
fn what_commands_send_to_their_group_is_not_for_the_run() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["bash-5.3", "zsh-5.9"] {
        for script in SCRIPTS {
            let mut of_stock = stock(name);
            of_stock.args(["-c", script]);
            let of_stock = seen(of_stock);
            for decision in ["run", "escalate"] {
                let policy = folder.path().join(decision);
                std::fs::write(&policy, format!("default = \"{decision}\"\n")).unwrap();
                let mut escalating = escalating("run", name, &policy);
                // A sandbox holds back what is sent to a process outside of it.
                escalating.args(["--sandbox", "full-access", "--", script]);
                assert_eq!(seen(escalating), of_stock, "{name}, {decision}: {script}");
            }
        }
    }
}
