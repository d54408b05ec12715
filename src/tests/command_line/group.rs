//! `run` is in the process group of its shell: which signals end it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::run::{program, stock};

/// Of two equal signals that come at once the kernel keeps the first. There is no event for their being taken.
fn wait_until_none_is_pending(process: u32) {
    let is_pending = || {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
        u64::from_str_radix(pending.unwrap().trim(), 16).unwrap() != 0
    };
    while is_pending() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What others send ends the run though the shell catches it: to the process, to its group, and to both one after the other.
#[test]
fn what_others_send_is_for_the_run() {
    type Send = fn(Pid, Signal) -> nix::Result<()>;
    let sends: [Send; 3] = [
        |run, signal| kill(run, signal),
        |run, signal| killpg(run, signal),
        |run, signal| kill(run, signal).and_then(|()| killpg(run, signal)),
    ];
    for (send, signal) in sends
        .into_iter()
        .flat_map(|send| [(send, Signal::SIGTERM), (send, Signal::SIGUSR1)])
    {
        // The group has had these signals before, and then they were not for the run.
        let script = "trap : TERM USR1; sh -c 'kill 0'; sh -c 'kill -USR1 0'; echo ready; while :; do sleep 600 & wait; done";
        let mut run = stock(script);
        let arguments: Vec<OsString> = run.get_args().map(Into::into).collect();
        run = program();
        // In a sandbox nothing would have reached the run before.
        run.arg(&arguments[0])
            .args(["--sandbox", "full-access"])
            .args(&arguments[1..]);
        // In a group of its own, which isn't the test's.
        run.process_group(0).stdin(Stdio::null());
        let mut child = run.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        wait_until_none_is_pending(child.id());
        send(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal as i32));
    }
}
