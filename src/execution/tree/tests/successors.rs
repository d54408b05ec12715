//! Trees that have the supervisor that another tree has left.

use super::*;
use crate::execution::raw;

#[tokio::test]
async fn a_keeper_gets_tree_after_tree_but_none_of_the_guardian_s_session_once_it_has_left_that() {
    let _alone = GUARDIAN.write().await;
    let run = async |placement| {
        let mut tree = Tree::spawn(Spawn {
            placement,
            ..command(&["/bin/true"])
        })
        .unwrap();
        in_time(started(&mut tree)).await;
        // Too late, mostly.
        tree.signal(libc::SIGURG);
        while in_time(tree.next_event()).await.is_some() {}
        tree.keeper.unwrap()
    };
    let group = Placement::Group(getpgrp());
    let first = run(Placement::OwnGroup).await;
    for _ in 0..3 {
        assert_eq!(run(Placement::OwnGroup).await, first);
    }
    let other = run(group).await;
    assert_ne!(other, first);
    assert_eq!(run(group).await, other);
    assert_eq!(run(Placement::OwnGroup).await, first);
}

/// A new session keyring for the parent, as keyctl(1) makes it with `new_session`.
fn keyring_for_parent() -> String {
    const JOIN_SESSION_KEYRING: i32 = 1;
    const SESSION_TO_PARENT: i32 = 18;
    let keyctl = libc::SYS_keyctl;
    format!(
        "from ctypes import CDLL; call = CDLL(None).syscall; \
         assert call({keyctl}, {JOIN_SESSION_KEYRING}, None) > 0 and call({keyctl}, {SESSION_TO_PARENT}) == 0"
    )
}

/// What a tree does to its supervisor is not the next one's.
#[tokio::test]
async fn a_supervisor_that_its_tree_has_changed_gets_no_other() {
    let _alone = GUARDIAN.write().await;
    let mut changes: Vec<String> = [
        "renice -n 3 -p $PPID",
        "prlimit --pid $PPID --core=0:0",
        "taskset -p 1 $PPID",
        "chrt --batch -p 0 $PPID",
        "ionice -c 3 -p $PPID",
        "echo 500 >/proc/$PPID/oom_score_adj",
        "echo 0 >/proc/$PPID/coredump_filter",
        "echo 70000 >/proc/$PPID/timerslack_ns",
    ]
    .map(str::to_owned)
    .into();
    // Not every kernel has these, nor every container.
    if std::path::Path::new("/proc/self/autogroup").exists() {
        changes.push("echo 3 >/proc/self/autogroup".to_owned());
    }
    if raw::session_keyring().is_ok() {
        changes.push(format!("exec python3 -c '{}'", keyring_for_parent()));
    }
    for change in changes {
        let mut tree = spawn(&[
            "/bin/sh",
            "-c",
            &format!("PATH=/usr/bin:/bin; {{ {change}; }} >/dev/null"),
        ]);
        in_time(started(&mut tree)).await;
        let ended = in_time(tree.next_event()).await;
        assert_eq!(ended, Some(Report::Ended(Ending::Exited(0))), "{change}");
        assert_eq!(in_time(tree.next_event()).await, None);
        assert!(
            tree.channel.is_some(),
            "{change}: its keeper waits for another tree"
        );
        assert_eq!(kill(tree.keeper.unwrap(), None), Err(Errno::ESRCH), "{change}");
    }
    let mut tree = spawn(&["/bin/true"]);
    while in_time(tree.next_event()).await.is_some() {}
    assert!(tree.channel.is_none());
}

/// Keepers are copies of their guardian.
#[tokio::test]
async fn a_guardian_that_a_tree_has_changed_makes_no_keeper() {
    let _alone = GUARDIAN.write().await;
    let above = "parent() { cut -d' ' -f4 /proc/$1/stat; }; guardian=$(parent $(parent $PPID))";
    for change in ["renice -n 3 -p $guardian", "prlimit --pid $guardian --core=0:0"] {
        let mut seen = std::collections::BTreeSet::new();
        for is_changed in [false, true, false, false, false] {
            let change = if is_changed { change } else { ":" };
            // A supervisor that is spent, so that the next one is new.
            let script = format!(
                "PATH=/usr/bin:/bin; {above}; nice; ulimit -c; {{ {change}; renice -n 7 -p $PPID; }} >/dev/null"
            );
            seen.insert(output(command(&["/bin/sh", "-c", &script])).await);
        }
        assert_eq!(seen.len(), 1, "{change}: {seen:?}");
    }
}

/// Runs that shell script to its end, in which its supervisor must not be spent.
async fn leave(script: &str) -> Pid {
    let mut tree = spawn(&["/bin/sh", "-c", &format!("PATH=/usr/bin:/bin; {script}")]);
    in_time(started(&mut tree)).await;
    let ended = in_time(tree.next_event()).await;
    assert_eq!(ended, Some(Report::Ended(Ending::Exited(0))), "{script}");
    assert_eq!(in_time(tree.next_event()).await, None);
    assert!(tree.channel.is_none(), "{script}: its keeper has ended");
    tree.keeper.unwrap()
}

/// Completes when no signal waits for that process.
async fn without_signals(process: Pid) {
    loop {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let mut pending = status.lines().filter(|line| line.contains("Pnd:"));
        if pending.all(|line| line.ends_with(":\t0000000000000000")) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn parent(of: Pid) -> Pid {
    let status = std::fs::read_to_string(format!("/proc/{of}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Pid::from_raw(line.unwrap().trim().parse().unwrap())
}

/// All signals are blocked in what supervises trees, and those that wait count against the user's limit.
#[tokio::test]
async fn signals_that_a_tree_has_sent_to_what_supervises_it_do_not_stay() {
    let _alone = GUARDIAN.write().await;
    let keeper = leave(
        "parent() { cut -d' ' -f4 /proc/$1/stat; }; keeper=$(parent $PPID); guardian=$(parent $keeper); n=0; \
         while [ $((n += 1)) -le 50 ]; do kill -s RTMIN+1 $PPID $keeper $guardian; done",
    )
    .await;
    let (guardian, supervisor) = (parent(keeper), children(keeper)[0]);
    for process in [guardian, keeper, supervisor] {
        in_time(without_signals(process)).await;
    }
    // Nor do those that come while it waits.
    kill(supervisor, Signal::SIGUSR1).unwrap();
    in_time(without_signals(supervisor)).await;
    assert_eq!(leave("true").await, keeper);
}

#[tokio::test]
async fn a_tree_that_is_over_is_told_to_a_host_that_has_left_many_stops_unread() {
    let _alone = GUARDIAN.write().await;
    let script = "while kill -STOP $$; do :; done";
    let mut tree = spawn(&["/bin/sh", "-c", script]);
    let pid = started(&mut tree).await;
    // More than there is room for.
    for _ in 0..1_000 {
        while !is_stopped(pid) {
            std::thread::yield_now();
        }
        kill(pid, Signal::SIGCONT).unwrap();
    }
    while !is_stopped(pid) {
        std::thread::yield_now();
    }
    // Room for one report.
    assert!(matches!(
        in_time(tree.next_event()).await,
        Some(Report::Stopped(..))
    ));
    kill(pid, Signal::SIGKILL).unwrap();
    while kill(pid, None).is_ok() {
        std::thread::yield_now();
    }
    loop {
        match in_time(tree.next_event()).await {
            Some(Report::Stopped(..)) => {}
            last => break assert_eq!(last, Some(Report::Ended(Ending::Killed(libc::SIGKILL)))),
        }
    }
    assert_eq!(in_time(tree.next_event()).await, None);
}
