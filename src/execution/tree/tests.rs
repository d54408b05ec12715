//! Process trees, with real processes.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::execution::channel::Ending;
use crate::execution::descriptor_map::open_file_limit;
use crate::execution::failure::{Stage, StartFailure};
use crate::execution::program::{PinnedFile, open_directory};
use crate::execution::supervisor::Placement;

/// A command in the root directory, with an empty environment and nothing else of its own.
fn command(argv: &[&str]) -> Spawn {
    let workdir = open_directory(OsStr::new("/")).unwrap();
    let program = PinnedFile::open(workdir.as_fd(), OsStr::new(argv[0])).unwrap();
    Spawn {
        program: Ok(program),
        path: argv[0].into(),
        argv: argv.iter().map(Into::into).collect(),
        env: Vec::new(),
        workdir: Ok(workdir),
        umask: None,
        open_files: None,
        descriptors: Vec::new(),
        placement: Placement::OwnGroup,
        error_prefix: Vec::new(),
    }
}

fn spawn(argv: &[&str]) -> Tree {
    Tree::spawn(command(argv)).unwrap()
}

async fn started(tree: &mut Tree) -> Pid {
    match tree.next_event().await {
        Some(Report::Started(pid)) => pid,
        other => panic!("{other:?}"),
    }
}

async fn in_time<T>(event: impl Future<Output = T>) -> T {
    let deadline = std::time::Duration::from_secs(20);
    tokio::time::timeout(deadline, event)
        .await
        .expect("the supervisor reports in time")
}

#[tokio::test]
async fn a_child_starts_ends_and_is_reaped() {
    let mut tree = spawn(&["/bin/sh", "-c", "exit 7"]);
    let pid = started(&mut tree).await;
    assert_eq!(tree.next_event().await, Some(Report::Ended(Ending::Exited(7))));
    assert_eq!(tree.next_event().await, None);
    assert!(tree.supervisor.is_none());
    assert_eq!(kill(pid, None), Err(Errno::ESRCH));
}

#[tokio::test]
async fn stops_and_kills_are_reported() {
    let mut tree = spawn(&["/bin/sleep", "600"]);
    started(&mut tree).await;
    tree.signal(libc::SIGSTOP);
    assert_eq!(tree.next_event().await, Some(Report::Stopped(libc::SIGSTOP)));
    tree.kill();
    assert_eq!(
        tree.next_event().await,
        Some(Report::Ended(Ending::Killed(libc::SIGKILL)))
    );
    assert_eq!(tree.next_event().await, None);
}

#[tokio::test]
async fn the_end_reaches_a_host_that_has_left_many_stops_unread() {
    const STOPS: usize = 1_000; // the kernel queues a few hundred messages
    // With and without another process left for the supervisor to watch.
    for before in ["", "sleep 600 & "] {
        let stops = format!("n={STOPS}; while [ $((n -= 1)) -ge 0 ]; do kill -STOP $$; done; exit 7");
        let mut tree = spawn(&["/bin/sh", "-c", &(before.to_owned() + &stops)]);
        let pid = started(&mut tree).await;
        for _ in 0..STOPS {
            while !is_stopped(pid) {
                std::thread::yield_now();
            }
            kill(pid, Signal::SIGCONT).unwrap();
        }
        // Once it is reaped, the supervisor knows how it ended.
        while kill(pid, None).is_ok() {
            std::thread::yield_now();
        }
        let mut reported = 0;
        let last = loop {
            match in_time(tree.next_event()).await {
                Some(Report::Stopped(libc::SIGSTOP)) => reported += 1,
                other => break other,
            }
        };
        assert_eq!(last, Some(Report::Ended(Ending::Exited(7))));
        assert!(
            reported < STOPS,
            "all {reported} stops fit, so nothing had to wait"
        );
        tree.end().await;
    }
}

#[tokio::test]
async fn a_tree_that_is_dropped_leaves_no_process() {
    let mut tree = spawn(&["/bin/sleep", "600"]);
    let child = started(&mut tree).await;
    let supervisor = tree.supervisor.as_ref().unwrap().pid;
    drop(tree);
    // Until it is reaped, kill(2) still finds a process.
    for pid in [child, supervisor] {
        while kill(pid, None).is_ok() {
            std::thread::yield_now();
        }
    }
}

#[tokio::test]
async fn a_complaint_that_is_never_read_does_not_hold_up_the_supervisor() {
    let (_reader, writer) = nix::unistd::pipe2(OFlag::O_NONBLOCK).unwrap();
    while nix::unistd::write(&writer, &[0; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let mut tree = Tree::spawn(Spawn {
        program: Err(StartFailure {
            stage: Stage::Execute,
            errno: Errno::ENOENT,
        }),
        descriptors: vec![(writer, 2)],
        error_prefix: b"command: ".to_vec(),
        ..command(&["/bin/true"])
    })
    .unwrap();
    tree.kill();
    while in_time(tree.next_event()).await.is_some() {}
}

fn is_stopped(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    status
        .rsplit(')')
        .next()
        .is_some_and(|fields| fields.trim_start().starts_with('T'))
}

#[tokio::test]
async fn a_child_has_its_own_limits_of_open_files() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut tree = Tree::spawn(Spawn {
        open_files: Some((33, 44)),
        descriptors: vec![(writer, 1)],
        ..command(&["/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"])
    })
    .unwrap();
    while tree.next_event().await.is_some() {}
    let mut output = [0; 64];
    let bytes = nix::unistd::read(&reader, &mut output).unwrap();
    assert_eq!(&output[..bytes], b"33\n44\n");
    assert_ne!(open_file_limit().unwrap(), 33);
}

#[tokio::test]
async fn a_child_dies_with_a_supervisor_that_is_killed() {
    let mut tree = spawn(&["/bin/sleep", "600"]);
    let pid = started(&mut tree).await;
    let supervisor = tree.supervisor.as_ref().unwrap().pid;
    // SAFETY: two integers.
    let child = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    // SAFETY: just made.
    let child = unsafe { OwnedFd::from_raw_fd(i32::try_from(child).unwrap()) };
    kill(supervisor, Signal::SIGKILL).unwrap();
    assert_eq!(tree.next_event().await, None);
    let mut watched = [nix::poll::PollFd::new(
        child.as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    assert_eq!(
        nix::poll::poll(&mut watched, 10_000_u16),
        Ok(1),
        "the child is still running"
    );
}

#[tokio::test]
async fn a_script_that_was_replaced_is_not_executed_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for first_line in ["#!/bin/sh", ": for /bin/sh, since no interpreter is named"] {
        let [decided, other] = ["decided", "other"].map(|name| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("{first_line}\nexit 9\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).unwrap();
            path
        });
        for (path, expected) in [
            (&decided, Report::Ended(Ending::Exited(9))),
            (
                &other,
                Report::Failed(StartFailure {
                    stage: Stage::Swapped,
                    errno: Errno::ESTALE,
                }),
            ),
        ] {
            let mut tree = Tree::spawn(Spawn {
                path: path.into(),
                ..command(&[decided.to_str().unwrap()])
            })
            .unwrap();
            let mut last = None;
            while let Some(event) = tree.next_event().await {
                last = Some(event);
            }
            assert_eq!(last, Some(expected), "{first_line}");
        }
    }
}

#[tokio::test]
async fn an_argument_with_nul_starts_nothing() {
    let spawned = Tree::spawn(command(&["/bin/sh", "a\0b"]));
    assert!(matches!(spawned, Err(SpawnError::Nul(_))), "{spawned:?}");
}

#[tokio::test]
async fn failed_starts_leave_no_stacks_behind() {
    let mappings = || {
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count()
    };
    let before = mappings();
    for _ in 0..1_000 {
        Tree::spawn(command(&["/bin/sh", "a\0b"])).unwrap_err();
    }
    // Other tests have stacks, too, but few at once.
    assert!(mappings() < before + 500);
}
