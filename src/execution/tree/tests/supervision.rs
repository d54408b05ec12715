//! Trees that stop or kill what supervises them, and what that is made of.

use super::*;

/// A tree whose shell runs `script`, and the pids that it prints, which must be as many.
fn printing<const N: usize>(script: &str) -> (Tree, [Pid; N]) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut spawn = command(&["/bin/sh", "-c", script]);
    spawn.descriptors = vec![(writer, 1)];
    // Its start isn't awaited: the script may stop or kill its supervisor before that has reported it.
    let tree = Tree::spawn(spawn).unwrap();
    let lines = BufReader::new(File::from(reader)).lines().take(N);
    let pids: Vec<Pid> = lines
        .map(|line| Pid::from_raw(line.unwrap().trim().parse().unwrap()))
        .collect();
    (tree, pids.try_into().unwrap())
}

/// Prints two processes, of which one has a session of its own.
const TWO: &str = "sleep 600 & echo $!; setsid sleep 600 & echo $!; ";
/// The keeper's pid, which is the parent of the shell's parent.
const KEEPER: &str = "$(cut -d' ' -f4 /proc/$PPID/stat)";

fn gone(pids: &[Pid]) {
    for &pid in pids {
        while kill(pid, None).is_ok() {
            std::thread::yield_now();
        }
    }
}

#[tokio::test]
async fn a_tree_that_stops_its_supervisor_ends() {
    let _together = GUARDIAN.read().await;
    for stop in [
        "kill -STOP $PPID".to_owned(),
        format!("kill -STOP {KEEPER}"),
        format!("kill -STOP $PPID {KEEPER}"),
        "while kill -STOP $PPID; do :; done".to_owned(),
    ] {
        let (tree, pids) = printing::<2>(&format!("{TWO}{stop}; wait"));
        assert_eq!(in_time(tree.end()).await, [], "{stop}");
        gone(&pids);
    }
}

#[tokio::test]
async fn a_tree_that_kills_its_supervisor_or_its_keeper_ends_at_once() {
    let _together = GUARDIAN.read().await;
    for victim in ["$PPID", KEEPER] {
        let (mut tree, pids) = printing::<2>(&format!("{TWO}kill -KILL {victim}; wait"));
        while in_time(tree.next_event()).await.is_some() {}
        gone(&pids);
    }
}

#[tokio::test]
async fn what_cannot_be_ended_is_named_in_time() {
    let _together = GUARDIAN.read().await;
    for (script, called) in [
        ("sleep 600 & echo $!; wait", "sleep"),
        // Nor does it escape notice by the name of a supervisor.
        (
            "sh -c 'printf escalated-tree >/proc/$$/comm; echo $$; read line' <>/dev/ptmx & wait",
            "escalated-tree",
        ),
    ] {
        let (tree, [pid]) = printing::<1>(script);
        // The shell tells the number of what may still be a copy of it.
        while name(pid) != called {
            std::thread::yield_now();
        }
        // A zombie stays until its tracer has seen it end, and the tracer is this thread.
        nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).unwrap();
        let left = in_time(tree.end()).await;
        nix::sys::wait::waitpid(pid, None).unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!((left[0].pid, left[0].name.as_str()), (pid.as_raw(), called));
        gone(&[pid]);
    }
}

/// The guardian, the keeper and the supervisor of a tree, in the order of descent.
async fn watchers(tree: &mut Tree) -> [Pid; 3] {
    let keeper = keeper(tree).await;
    let supervisor = loop {
        if let Ok(pid) = only_child(&keeper.to_string()).parse() {
            break Pid::from_raw(pid);
        }
        std::thread::yield_now();
    };
    [tree.guardian.pid(), keeper, supervisor]
}

/// What a line of /proc/PID/status says, in KiB.
fn memory(pid: Pid, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|character: char| !character.is_ascii_digit())
        .parse()
        .unwrap()
}

#[tokio::test]
async fn what_supervises_a_tree_has_none_of_the_host_s_memory() {
    let _together = GUARDIAN.read().await;
    let large = vec![1_u8; 64 << 20];
    let mut tree = spawn(&["/bin/sleep", "600"]);
    for process in watchers(&mut tree).await {
        let own = memory(process, "RssAnon:");
        assert!(own < 8 << 10, "{own} KiB of {process}");
        let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
        assert!(!maps.contains("[heap]") && !maps.contains("[stack]"), "{maps}");
    }
    assert!(large.iter().all(|&byte| byte == 1));
    tree.end().await;
}

/// Processes that flee from the shell: into sessions of their own, by way of parents that end at once, and a few that fork on.
const FLIGHT: &str = "setsid sh -c 'echo $$; (setsid sleep 600 & echo $!) & wait; \
    n=0; while [ $((n += 1)) -le 200 ]; do (setsid sleep 600 &) & done; sleep 600' & (sleep 600 & echo $!) & sleep 0.1; ";

/// Kills the shell's parent and its parent by two system calls, one after the other.
const AT_ONCE: &str = "exec python3 -c \"import os; parent = os.getppid(); \
    keeper = int(open(f'/proc/{parent}/stat').read().rpartition(')')[2].split()[1]); \
    os.fork() or os.setsid(); os.kill(parent, 9); os.kill(keeper, 9)\"";

#[tokio::test]
async fn a_tree_that_kills_its_supervisor_and_its_keeper_in_one_instant_does_not_escape() {
    let _alone = GUARDIAN.write().await;
    for kill in [format!("kill -KILL $PPID {KEEPER}"), AT_ONCE.to_owned()] {
        let (mut tree, pids) = printing::<3>(&format!("{FLIGHT}{kill}; sleep 600"));
        while in_time(tree.next_event()).await.is_some() {}
        // What is not in time for its number to be printed is found by its guardian, whose other child is the next tree's keeper.
        let left: Vec<_> = loop {
            let left = children(tree.guardian.pid()).into_iter();
            let named: Vec<_> = left.map(|pid| (pid, name(pid))).collect();
            // A keeper that has no name of its own yet is still called as its guardian is.
            if named.iter().all(|(_, name)| name != "tree-guardian") {
                break named;
            }
            std::thread::yield_now();
        };
        let left: Vec<_> = left
            .into_iter()
            .filter(|(_, name)| name != "escalated-tree")
            .collect();
        assert_eq!(left, [], "{kill}");
        for pid in pids {
            assert_eq!(nix::sys::signal::kill(pid, None), Err(Errno::ESRCH), "{kill}");
        }
    }
}

/// What calls itself a supervisor has the time that those have, and no more by keeping what is above it busy.
#[tokio::test]
async fn what_pretends_to_be_a_supervisor_and_floods_the_guardian_with_signals_does_not_live_on() {
    let _alone = GUARDIAN.write().await;
    // Twelve that each have a session of their own, the name of supervisors, and 20 s of signals to send.
    let pretend = "exec python3 -c \"import os, time; parent = os.getppid(); \
        above = lambda pid: int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1]); \
        keeper = above(parent); guardian = above(keeper); end = time.monotonic() + 20
def flood():
    os.setsid(); open('/proc/self/comm', 'w').write('escalated-tree'); os.write(1, b'%d\\n' % os.getpid())
    while time.monotonic() < end: [os.kill(guardian, 10) for _ in range(100)]
    os._exit(0)
for _ in range(12): os.fork() or flood()
time.sleep(0.5); os.kill(keeper, 9); os.kill(parent, 9); time.sleep(20)\"";
    let (mut tree, pids) = printing::<12>(pretend);
    let begun = std::time::Instant::now();
    while in_time(tree.next_event()).await.is_some() {}
    let time = begun.elapsed();
    assert!(time < Duration::from_secs(5), "{time:?}");
    gone(&pids);
}

#[tokio::test]
async fn a_guardian_that_is_killed_ends_its_trees_and_is_replaced() {
    let _alone = GUARDIAN.write().await;
    let (mut tree, pids) = printing::<2>(&format!("{TWO}wait"));
    let guardian = tree.guardian.pid();
    kill(guardian, Signal::SIGKILL).unwrap();
    while in_time(tree.next_event()).await.is_some() {}
    gone(&pids);
    let mut tree = spawn(&["/bin/true"]);
    assert_ne!(tree.guardian.pid(), guardian);
    while in_time(tree.next_event()).await.is_some() {}
}

#[tokio::test]
async fn what_waits_for_the_next_tree_is_replaced_when_it_was_killed_and_continued_when_it_was_stopped() {
    let _alone = GUARDIAN.write().await;
    let mut first = spawn(&["/bin/true"]);
    let guardian = first.guardian.pid();
    while in_time(first.next_event()).await.is_some() {}
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        for kind in [0, 1] {
            let waiting = loop {
                let pairs = children(guardian)
                    .into_iter()
                    .map(|keeper| match children(keeper)[..] {
                        [supervisor] => Some([keeper, supervisor][kind]),
                        _ => None,
                    });
                match pairs.collect::<Option<Vec<Pid>>>() {
                    Some(waiting) if !waiting.is_empty() => break waiting,
                    _ => std::thread::yield_now(),
                }
            };
            for process in waiting {
                kill(process, signal).unwrap();
            }
            while signal == Signal::SIGKILL && Keeper::is_waiting() {
                std::thread::yield_now();
            }
            let mut tree = spawn(&["/bin/true"]);
            assert_eq!(tree.guardian.pid(), guardian);
            in_time(started(&mut tree)).await;
            while in_time(tree.next_event()).await.is_some() {}
        }
    }
}

#[tokio::test]
async fn a_guardian_that_is_stopped_is_continued() {
    let _alone = GUARDIAN.write().await;
    let mut first = spawn(&["/bin/true"]);
    while in_time(first.next_event()).await.is_some() {}
    kill(first.guardian.pid(), Signal::SIGSTOP).unwrap();
    let mut tree = spawn(&["/bin/sleep", "600"]);
    in_time(started(&mut tree)).await;
    kill(tree.guardian.pid(), Signal::SIGSTOP).unwrap();
    assert_eq!(in_time(tree.end()).await, []);
}

#[tokio::test]
async fn a_supervisor_or_keeper_that_is_stopped_still_reports() {
    let _together = GUARDIAN.read().await;
    for victim in ["$PPID", KEEPER, &format!("$PPID {KEEPER}")] {
        let mut tree = spawn(&["/bin/sh", "-c", &format!("kill -STOP {victim}; exit 7")]);
        in_time(started(&mut tree)).await;
        let ended = in_time(tree.next_event()).await;
        assert_eq!(ended, Some(Report::Ended(Ending::Exited(7))), "{victim}");
        assert_eq!(in_time(tree.next_event()).await, None);
    }
}
