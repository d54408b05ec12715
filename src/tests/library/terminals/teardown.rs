//! Nothing outlives its terminal, however that ends.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use shell_escalation::Decision;
use shell_escalation::terminal::{Config, Error, ExecRequest, ShellBackend, Streams, TerminalId, Terminals};
use tokio_util::sync::CancellationToken;

use super::super::Always;
use super::super::support::processes::{children, eventually, gone_within};
use super::{DEADLINE, EVERY_KIND, Wrapped, direct, on_terminal, read_until, sh, text_to_end};

/// What a shell starts and what is escalated for it: each with a child, a job in the background, one that ignores what would end
/// it, and one that fled into a session of its own. Each line is a pid, of seven.
const SCRIPT: &str = ":trap '' HUP TERM INT; (setsid sh -c 'echo $$; sleep 600 & echo $!; wait' &)
:sleep 600 & echo $!
:sh -c 'trap \"\" HUP TERM INT TSTP; echo $$; kill -STOP $$' &
:\"$EXEC_WRAPPER\" /bin/sh sh -c \"trap '' HUP TERM INT; echo \\$\\$; (setsid sh -c 'echo \\$\\$; sleep 600 & echo \\$!; wait' &) ; sleep 600\"
";

/// Opens one with such trees; all their pids.
async fn with_trees(wrapped: &Wrapped, streams: Streams) -> (TerminalId, Vec<i32>) {
    let id = wrapped.open(SCRIPT, streams).await;
    let mut text = String::new();
    while text.matches('\n').count() < 7 {
        text += &read_until(&wrapped.terminals, id, "\n").await;
    }
    let pids: Vec<i32> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert_eq!(pids.len(), 7, "{text}");
    eventually("one has stopped itself", || {
        pids.iter().any(|pid| is_stopped(*pid))
    });
    (id, pids)
}

fn is_stopped(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") T "))
}

fn escalating() -> Wrapped {
    Wrapped::new(Always::new(Decision::escalate()))
}

async fn all_gone(pids: Vec<i32>, time: Duration) {
    super::super::blocking(move || {
        for pid in pids {
            assert!(gone_within(pid, time), "{pid} lives on");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_everything_before_it_returns() {
    for streams in EVERY_KIND {
        let wrapped = escalating();
        let (other, others) = with_trees(&wrapped, streams).await;
        let (id, pids) = with_trees(&wrapped, streams).await;
        assert_eq!(wrapped.terminals.close(id).await.unwrap(), []);
        all_gone(pids, Duration::ZERO).await;
        for pid in others {
            assert!(
                !gone_within(pid, Duration::ZERO),
                "{pid} of another terminal was killed"
            );
        }
        assert!(matches!(
            wrapped.terminals.write(id, b"x").await,
            Err(Error::Unknown(_))
        ));
        assert!(matches!(
            wrapped.terminals.close(id).await,
            Err(Error::Unknown(_))
        ));
        assert_eq!(wrapped.terminals.list()[0].id, other);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_the_parent_and_dropping_all_end_everything() {
    for streams in EVERY_KIND {
        let parent = CancellationToken::new();
        let wrapped = Wrapped::with(Always::new(Decision::escalate()), |config| {
            config.parent = parent.clone();
        });
        let (_, pids) = with_trees(&wrapped, streams).await;
        parent.cancel();
        all_gone(pids, DEADLINE).await;
        let opened = wrapped.terminals.open(sh("true")).await;
        assert!(matches!(opened, Err(Error::Ending)));

        let wrapped = escalating();
        let (_, pids) = with_trees(&wrapped, streams).await;
        drop(wrapped);
        all_gone(pids, DEADLINE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn making_room_ends_everything_of_the_terminal_that_makes_it() {
    for streams in EVERY_KIND {
        let wrapped = Wrapped::with(Always::new(Decision::escalate()), |config| config.most = 1);
        let (pruned, pids) = with_trees(&wrapped, streams).await;
        let id = wrapped.terminals.open(sh("echo x")).await.unwrap();
        all_gone(pids, Duration::ZERO).await;
        assert_ne!(id, pruned);
        assert!(matches!(
            wrapped.terminals.read(pruned, Duration::ZERO, 1).await,
            Err(Error::Unknown(_))
        ));
        assert_eq!(wrapped.terminals.list().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_all_ends_everything_before_it_returns() {
    let wrapped = escalating();
    let mut pids = Vec::new();
    for streams in EVERY_KIND {
        pids.extend(with_trees(&wrapped, streams).await.1);
    }
    assert_eq!(wrapped.terminals.end().await, []);
    all_gone(pids, Duration::ZERO).await;
    assert_eq!(wrapped.terminals.list(), []);
}

/// Whether a future is done when it has been begun and has had no time to wait.
async fn is_done_at_once(future: impl Future) -> bool {
    tokio::time::timeout(Duration::ZERO, future).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_all_waits_for_what_is_being_closed() {
    for streams in EVERY_KIND {
        let wrapped = escalating();
        let (id, pids) = with_trees(&wrapped, streams).await;
        assert!(!is_done_at_once(wrapped.terminals.close(id)).await);
        wrapped.terminals.end().await;
        all_gone(pids, Duration::ZERO).await;
    }
}

/// The file is opened for execution only when the lease is given up, or the system's patience is at its end: 45 s by default.
fn hold_back(path: &Path) -> File {
    const F_SETSIG: i32 = 10; // asm-generic/fcntl.h
    let leased = File::open(path).unwrap();
    for (command, argument) in [(F_SETSIG, libc::SIGURG), (libc::F_SETLEASE, libc::F_WRLCK)] {
        // SAFETY: these commands take an integer.
        let set = unsafe { libc::fcntl(leased.as_raw_fd(), command, argument) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
    leased
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_whose_execution_is_held_back_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leased");
    std::fs::copy("/bin/true", &path).unwrap();
    let _lease = hold_back(&path);
    for streams in EVERY_KIND {
        let terminals = direct();
        let request = ExecRequest::new(&path, ["leased"], "/").on(streams);
        let opening = tokio::time::timeout(Duration::from_millis(300), terminals.open(request));
        assert!(opening.await.is_err(), "it was executed");
        let ended = tokio::time::timeout(Duration::from_secs(10), terminals.end());
        assert_eq!(ended.await.expect("it is still being opened"), []);
    }
}

#[test]
fn the_end_of_the_runtime_is_the_end_of_its_terminals() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (wrapped, pids) = runtime.block_on(async {
        let wrapped = escalating();
        let (_, mut pids) = with_trees(&wrapped, Streams::Pipes).await;
        pids.extend(with_trees(&wrapped, on_terminal()).await.1);
        (wrapped, pids)
    });
    drop(runtime);
    for pid in pids {
        assert!(gone_within(pid, DEADLINE), "{pid} lives on");
    }
    drop(wrapped);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_run_away_by_forking_are_caught() {
    let terminals = direct();
    for streams in EVERY_KIND {
        let script = "echo started; run() { (setsid sh -c 'sleep 0.01' & ) ; }; \
                      while :; do run; (sh -c 'exec sleep 0.02' &) ; done";
        let id = terminals.open(sh(script).on(streams)).await.unwrap();
        read_until(&terminals, id, "started").await;
        assert_eq!(terminals.close(id).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_an_opening_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for streams in EVERY_KIND {
        for step in 0..8_u32 {
            let terminals = direct();
            let witness = folder.path().join("pid");
            let script = format!("echo $$ > {}; exec sleep 600", witness.display());
            let opening = terminals.open(sh(&script).on(streams));
            let opened = tokio::time::timeout(Duration::from_micros(200 << step), opening).await;
            if opened.is_err() {
                assert_eq!(terminals.list(), []);
                if let Ok(pid) = std::fs::read_to_string(&witness)
                    && let Ok(pid) = pid.trim().parse()
                {
                    all_gone(vec![pid], DEADLINE).await;
                }
            }
            terminals.end().await;
            let _ = std::fs::remove_file(&witness);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_of_sessions_are_reaped() {
    let terminals = direct();
    for _ in 0..20 {
        let id = terminals.open(sh("exit 0").on(on_terminal())).await.unwrap();
        text_to_end(&terminals, id).await;
        terminals.close(id).await.unwrap();
    }
    let zombie = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    };
    eventually("no zombies", || !children(std::process::id()).iter().any(zombie));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_takes_its_terminal_with_it() {
    let mut config = Config::new(ShellBackend::Direct);
    config.most = 2;
    let terminals = Terminals::new(config);
    let script = "trap '' HUP TERM; ps -o sid= -p $$; setsid sleep 600 & echo $!; echo $$; sleep 600";
    let id = terminals.open(sh(script).on(on_terminal())).await.unwrap();
    let text = {
        let mut text = String::new();
        while text.lines().count() < 3 {
            text += &read_until(&terminals, id, "\n").await;
        }
        text
    };
    let pids: Vec<i32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    let leader = nix::unistd::Pid::from_raw(pids[0]);
    nix::sys::signal::kill(leader, nix::sys::signal::Signal::SIGKILL).unwrap();
    all_gone(pids, DEADLINE).await;
    let (_, end) = text_to_end(&terminals, id).await;
    assert_eq!(end, shell_escalation::terminal::End::Killed(libc::SIGKILL));
    assert_eq!(terminals.close(id).await.unwrap(), []);
    // The next one is as good as ever.
    let id = terminals.open(sh("exit 9").on(on_terminal())).await.unwrap();
    assert_eq!(
        text_to_end(&terminals, id).await.1,
        shell_escalation::terminal::End::Exited(9)
    );
}
