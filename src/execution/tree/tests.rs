//! Process trees, with real processes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::execution::channel::Ending;
use crate::execution::descriptor_map::open_file_limit;
use crate::execution::executable::{Executable, Origin};
use crate::execution::failure::{Stage, StartFailure};
use crate::execution::supervisor::Placement;
use crate::files::{PinnedFile, Wait, open_directory};

/// A command in the root directory, with an empty environment and nothing else of its own.
fn command(argv: &[&str]) -> Spawn {
    let workdir = open_directory(OsStr::new("/"), Wait::Allowed).unwrap();
    let program = PinnedFile::open(workdir.descriptor(), OsStr::new(argv[0]), Wait::Allowed).unwrap();
    Spawn {
        program: Ok(Executable::of_host(program)),
        path: argv[0].into(),
        argv: argv.iter().map(Into::into).collect(),
        env: Vec::new(),
        workdir: Ok(workdir.into_descriptor()),
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

/// What a command writes to its standard output.
async fn output(command: Spawn) -> String {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    let descriptors = vec![(writer, 1)];
    let mut tree = Tree::spawn(Spawn {
        descriptors,
        ..command
    })
    .unwrap();
    while tree.next_event().await.is_some() {}
    std::io::read_to_string(std::fs::File::from(reader)).unwrap()
}

#[tokio::test]
async fn a_text_is_opened_by_name_or_by_descriptor_as_its_executable_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    for first_line in ["#!/bin/sh\n", ""] {
        std::fs::write(&path, first_line.to_owned() + "echo \"$0\"\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let by_name = command(&[path.to_str().unwrap()]);
        assert_eq!(output(by_name).await, format!("{}\n", path.display()));
        for origin in [Origin::SystemByOtherName, Origin::Changeable] {
            let mut command = command(&[path.to_str().unwrap()]);
            let file = PinnedFile::open(
                command.workdir.as_ref().unwrap().as_fd(),
                path.as_os_str(),
                Wait::Allowed,
            )
            .unwrap();
            command.program = Executable::new(file, origin, OsStr::new("text"));
            let output = output(command).await;
            assert!(output.starts_with("/dev/fd/"), "{origin:?}: {output}");
        }
    }
}

/// Where the child is about to execute its program it still borrows the host's memory.
#[tokio::test]
async fn a_signal_before_the_exec_leaves_no_core_with_the_memory_of_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leased");
    std::fs::copy("/bin/true", &path).unwrap();
    // A write lease holds every exec of the file back until it is given up, or broken after 45 seconds.
    let leased = std::fs::File::open(&path).unwrap();
    let set = |command, argument: i32| {
        // SAFETY: these commands take an integer.
        Errno::result(unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&leased), command, argument) })
    };
    const F_SETSIG: i32 = 10; // asm-generic/fcntl.h
    set(F_SETSIG, libc::SIGURG).unwrap();
    set(libc::F_SETLEASE, libc::F_WRLCK).unwrap();
    set(libc::F_SETOWN, 0).unwrap();
    let mut tree = spawn(&[path.to_str().unwrap()]);
    let only_child = |of: &str| {
        let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
        children.unwrap_or_default().trim().to_owned()
    };
    let keeper = tree.supervisor.as_ref().unwrap().pid.to_string();
    let child = loop {
        // The keeper's child is the supervisor, whose child is about to execute the program.
        let child = only_child(&only_child(&keeper));
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
        if status.contains("SigBlk:\t0000000000000000\n") {
            break Pid::from_raw(child.parse().unwrap());
        }
        std::thread::yield_now();
    };
    kill(child, Signal::SIGQUIT).unwrap();
    started(&mut tree).await;
    assert_eq!(
        tree.next_event().await,
        Some(Report::Ended(Ending::Exited(128 + libc::SIGQUIT)))
    );
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

/// A failed start that complains to `output` after this prefix.
fn failed_start(output: OwnedFd, prefix: Vec<u8>) -> Tree {
    Tree::spawn(Spawn {
        program: Err(StartFailure {
            stage: Stage::Execute,
            errno: Errno::ENOENT,
        }),
        descriptors: vec![(output, 2)],
        error_prefix: prefix,
        ..command(&["/bin/true"])
    })
    .unwrap()
}

#[tokio::test]
async fn a_complaint_that_no_reader_takes_does_not_hold_up_the_supervisor() {
    // Without room, and with some, so that poll(2) finds the pipe writable.
    for room in [0, 4096] {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_NONBLOCK).unwrap();
        while nix::unistd::write(&writer, &[0; 4096]).is_ok() {}
        nix::unistd::read(&reader, &mut vec![0; room]).unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let other_writer = writer.try_clone().unwrap();
        let mut tree = failed_start(writer, vec![b'x'; 100_000]);
        let reported = in_time(tree.next_event()).await;
        assert!(matches!(reported, Some(Report::Failed(_))), "{reported:?}");
        assert_eq!(in_time(tree.next_event()).await, None);
        drop(other_writer);
    }
}

#[tokio::test]
async fn a_complaint_ends_with_the_host_s_order() {
    let (_reader, writer) = nix::unistd::pipe2(OFlag::O_NONBLOCK).unwrap();
    while nix::unistd::write(&writer, &[0; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let start = std::time::Instant::now();
    let mut tree = failed_start(writer, b"command: ".to_vec());
    tree.kill();
    while in_time(tree.next_event()).await.is_some() {}
    assert!(start.elapsed() < std::time::Duration::from_secs(1));
}

#[tokio::test]
async fn a_complaint_is_read_as_a_line() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut tree = failed_start(writer, b"command: ".to_vec());
    while in_time(tree.next_event()).await.is_some() {}
    let mut line = [0; 64];
    let bytes = nix::unistd::read(&reader, &mut line).unwrap();
    assert_eq!(&line[..bytes], b"command: No such file or directory\n");
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
    while in_time(tree.next_event()).await.is_some() {}
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
    for victim in ["$PPID", KEEPER] {
        let (mut tree, pids) = printing::<2>(&format!("{TWO}kill -KILL {victim}; wait"));
        while in_time(tree.next_event()).await.is_some() {}
        gone(&pids);
    }
}

#[tokio::test]
async fn what_cannot_be_ended_is_named_in_time() {
    let (tree, [pid]) = printing::<1>("sleep 600 & echo $!; wait");
    // A zombie stays until its tracer has seen it end, and the tracer is this thread.
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).unwrap();
    let left = in_time(tree.end()).await;
    nix::sys::wait::waitpid(pid, None).unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].pid, pid.as_raw());
    gone(&[pid]);
}
