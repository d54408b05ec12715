//! Process trees, with real processes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp};
use tokio::sync::RwLock;

use super::*;
use crate::execution::attributes::Attributes;
use crate::execution::channel::Ending;
use crate::execution::descriptor_map::open_file_limit;
use crate::execution::executable::{Executable, Origin, Texts};
use crate::execution::failure::{Stage, StartFailure};
use crate::execution::supervisor::Placement;
use crate::files::{PinnedFile, Wait, open_directory};

mod stops;
mod successors;
mod supervision;

/// The guardian of this process, which all tests share that run as its threads: some must have it alone.
static GUARDIAN: RwLock<()> = RwLock::const_new(());

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
        attributes: Attributes::default(),
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
    let _together = GUARDIAN.read().await;
    let mut tree = spawn(&["/bin/sh", "-c", "exit 7"]);
    let pid = started(&mut tree).await;
    assert_eq!(tree.next_event().await, Some(Report::Ended(Ending::Exited(7))));
    assert_eq!(tree.next_event().await, None);
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
    let _together = GUARDIAN.read().await;
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
            command.program = Executable::new(file, origin, Texts::Fixed, OsStr::new("text"));
            let output = output(command).await;
            assert!(output.starts_with("/dev/fd/"), "{origin:?}: {output}");
        }
    }
}

#[tokio::test]
async fn a_text_in_place_is_what_was_opened_or_is_not_executed() {
    let _together = GUARDIAN.read().await;
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["text", "other"].map(|name| folder.path().join(name));
    let write = |path: &std::path::Path, content: String| {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    for first_line in ["#!/bin/sh\n", ""] {
        for origin in [Origin::SystemByOtherName, Origin::Changeable] {
            write(&path, format!("{first_line}echo \"$0\"\n"));
            let in_place = || {
                let mut command = command(&[path.to_str().unwrap()]);
                let workdir = command.workdir.as_ref().unwrap().as_fd();
                let file = PinnedFile::open(workdir, path.as_os_str(), Wait::Allowed).unwrap();
                command.program = Executable::new(file, origin, Texts::InPlace, OsStr::new("text"));
                command
            };
            assert_eq!(output(in_place()).await, format!("{}\n", path.display()));
            // Exchanged after the host has compared it.
            let late = in_place();
            if origin == Origin::Changeable {
                // Who writes to it waits for the execution.
                let written = std::fs::File::options()
                    .write(true)
                    .custom_flags(libc::O_NONBLOCK)
                    .open(&path);
                assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EWOULDBLOCK));
            }
            write(&other, format!("{first_line}echo no\n"));
            std::fs::rename(&other, &path).unwrap();
            let mut tree = Tree::spawn(late).unwrap();
            let swapped = StartFailure {
                stage: Stage::Swapped,
                errno: Errno::ESTALE,
            };
            assert_eq!(
                in_time(tree.next_event()).await,
                Some(Report::Failed(swapped)),
                "{origin:?}"
            );
        }
    }
}

/// The dynamic linker shows AT_EXECFN: the name by which a program was executed.
#[tokio::test]
async fn a_binary_is_executed_by_its_name_but_only_if_it_is_the_one_that_was_opened() {
    let _together = GUARDIAN.read().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    let link = folder.path().join("linked");
    std::fs::copy("/bin/echo", &path).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let command_for = |name: &std::path::Path, origin, texts| {
        let mut command = command(&[name.to_str().unwrap(), "decided"]);
        let workdir = command.workdir.as_ref().unwrap().as_fd();
        let file = PinnedFile::open(workdir, name.as_os_str(), Wait::Allowed).unwrap();
        command.program = Executable::new(file, origin, texts, OsStr::new("program"));
        command.env = vec![("LD_SHOW_AUXV".into(), "1".into())];
        command
    };
    let shown = |output: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix("AT_EXECFN:"));
        line.unwrap_or_else(|| panic!("{output}")).trim().to_owned()
    };
    for origin in [Origin::System, Origin::SystemByOtherName, Origin::Changeable] {
        // That texts are in place is nothing to it.
        let [fixed, in_place] = [Texts::Fixed, Texts::InPlace].map(|texts| {
            let program = command_for(&path, origin, texts).program.unwrap();
            (
                program.scripts(),
                program.may_be_traced(),
                program.lease().is_some(),
            )
        });
        assert_eq!(fixed, in_place, "{origin:?}");
    }
    for origin in [Origin::System, Origin::SystemByOtherName, Origin::Changeable] {
        for name in [&path, &link] {
            let output = output(command_for(name, origin, Texts::Fixed)).await;
            assert!(output.ends_with("decided\n"), "{origin:?}: {output}");
            assert_eq!(shown(&output), name.to_str().unwrap(), "{origin:?}");
        }
    }
    for origin in [Origin::System, Origin::SystemByOtherName, Origin::Changeable] {
        let command = command_for(&path, origin, Texts::Fixed);
        // The link leads to another program by the time of the execution.
        let other = folder.path().join("other");
        std::fs::copy("/bin/true", &other).unwrap();
        std::fs::rename(&other, &path).unwrap();
        let output = output(command).await;
        assert!(output.ends_with("decided\n"), "{origin:?}: {output}");
        assert!(shown(&output).starts_with("/dev/fd/"), "{origin:?}: {output}");
        std::fs::remove_file(&path).unwrap();
        std::fs::copy("/bin/echo", &path).unwrap();
    }
}

/// Where the child is about to execute its program it still borrows the supervisor's memory.
#[tokio::test]
async fn a_signal_before_the_exec_leaves_no_core() {
    let _together = GUARDIAN.read().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leased");
    std::fs::copy("/bin/true", &path).unwrap();
    let _lease = hold_back(&path);
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE).unwrap();
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, most, most).unwrap();
    let mut tree = Tree::spawn(Spawn {
        workdir: Ok(open_directory(folder.path().as_os_str(), Wait::Allowed)
            .unwrap()
            .into_descriptor()),
        ..command(&[path.to_str().unwrap()])
    })
    .unwrap();
    let keeper = keeper(&mut tree).await.to_string();
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
    let ended = Report::Ended(Ending::Killed(libc::SIGQUIT));
    assert_eq!(tree.next_event().await, Some(ended));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// A traced process stops for each signal, even for one that does nothing.
#[tokio::test]
async fn a_child_on_trial_survives_signals_before_its_program_runs() {
    let _together = GUARDIAN.read().await;
    let folder = tempfile::tempdir().unwrap();
    let [path, held] = ["program", "held"].map(|name| folder.path().join(name));
    for path in [&path, &held] {
        std::fs::copy("/bin/true", path).unwrap();
    }
    for signals in [&[Signal::SIGURG][..], &[Signal::SIGSTOP, Signal::SIGCONT]] {
        let lease = hold_back(&held);
        let mut command = command(&[path.to_str().unwrap()]);
        let workdir = command.workdir.as_ref().unwrap().as_fd();
        let file = PinnedFile::open(workdir, path.as_os_str(), Wait::Allowed).unwrap();
        command.program = Executable::new(file, Origin::Changeable, Texts::Fixed, OsStr::new("program"));
        // By the time of the execution it leads to a program that can't be executed yet.
        command.path = held.clone().into();
        let mut tree = Tree::spawn(command).unwrap();
        let keeper = keeper(&mut tree).await.to_string();
        while !is_wanted(&lease) {
            std::thread::yield_now();
        }
        let child = Pid::from_raw(only_child(&only_child(&keeper)).parse().unwrap());
        for signal in signals {
            kill(child, *signal).unwrap();
        }
        drop(lease);
        in_time(started(&mut tree)).await;
        let ended = Some(Report::Ended(Ending::Exited(0)));
        assert_eq!(in_time(tree.next_event()).await, ended, "{signals:?}");
    }
}

/// A write lease, which holds every exec of the file back until it is given up, or broken after 45 seconds.
fn hold_back(path: &std::path::Path) -> std::fs::File {
    const F_SETSIG: i32 = 10; // asm-generic/fcntl.h
    let leased = std::fs::File::open(path).unwrap();
    for (command, argument) in [
        (F_SETSIG, libc::SIGURG),
        (libc::F_SETLEASE, libc::F_WRLCK),
        (libc::F_SETOWN, 0),
    ] {
        // SAFETY: these commands take an integer.
        let set = unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&leased), command, argument) };
        Errno::result(set).unwrap();
    }
    leased
}

/// Whether a process waits for the end of the lease.
fn is_wanted(leased: &std::fs::File) -> bool {
    // SAFETY: this command takes no argument.
    let lease = unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(leased), libc::F_GETLEASE) };
    Errno::result(lease).unwrap() != libc::F_WRLCK
}

fn only_child(of: &str) -> String {
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
    children.unwrap_or_default().trim().to_owned()
}

fn children(of: Pid) -> Vec<Pid> {
    let children = only_child(&of.to_string());
    let numbers = children.split_whitespace().map(|pid| pid.parse().unwrap());
    numbers.map(Pid::from_raw).collect()
}

/// The name of a process as ps(1) shows it; empty if it has ended.
fn name(pid: Pid) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    name.unwrap_or_default().trim().to_owned()
}

/// The keeper, once it has reported itself.
async fn keeper(tree: &mut Tree) -> Pid {
    while tree.keeper.is_none() {
        match tree.channel.as_ref().unwrap().receive().await.unwrap() {
            Some(Report::Kept(keeper)) => tree.keeper = Some(keeper),
            other => panic!("{other:?}"),
        }
    }
    tree.keeper.unwrap()
}

#[tokio::test]
async fn stops_and_kills_are_reported() {
    let _together = GUARDIAN.read().await;
    let mut tree = spawn(&["/bin/sleep", "600"]);
    started(&mut tree).await;
    tree.signal(libc::SIGSTOP);
    assert!(matches!(
        tree.next_event().await,
        Some(Report::Stopped(
            Stop {
                signal: libc::SIGSTOP,
                number: 1
            },
            0
        ))
    ));
    tree.kill();
    assert_eq!(
        tree.next_event().await,
        Some(Report::Ended(Ending::Killed(libc::SIGKILL)))
    );
    assert_eq!(tree.next_event().await, None);
}

#[tokio::test]
async fn the_end_reaches_a_host_that_has_left_many_stops_unread() {
    let _together = GUARDIAN.read().await;
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
                Some(Report::Stopped(
                    Stop {
                        signal: libc::SIGSTOP,
                        ..
                    },
                    _,
                )) => reported += 1,
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
    let _together = GUARDIAN.read().await;
    let mut tree = spawn(&["/bin/sleep", "600"]);
    let child = started(&mut tree).await;
    let keeper = tree.keeper.unwrap();
    drop(tree);
    // Until it is reaped, kill(2) still finds a process.
    for pid in [child, keeper] {
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
    let _together = GUARDIAN.read().await;
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
    let _together = GUARDIAN.read().await;
    let (_reader, writer) = nix::unistd::pipe2(OFlag::O_NONBLOCK).unwrap();
    while nix::unistd::write(&writer, &[0; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let mut tree = failed_start(writer, b"command: ".to_vec());
    tree.kill();
    // Not from the start, which is no part of it.
    let start = std::time::Instant::now();
    while in_time(tree.next_event()).await.is_some() {}
    assert!(start.elapsed() < std::time::Duration::from_secs(1));
}

#[tokio::test]
async fn a_complaint_is_read_as_a_line() {
    let _together = GUARDIAN.read().await;
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
    let _together = GUARDIAN.read().await;
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut tree = Tree::spawn(Spawn {
        attributes: Attributes::with_open_files(Some((33, 44))),
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
    let _together = GUARDIAN.read().await;
    let mut tree = spawn(&["/bin/sleep", "600"]);
    let pid = started(&mut tree).await;
    let supervisor: i32 = only_child(&tree.keeper.unwrap().to_string()).parse().unwrap();
    // SAFETY: two integers.
    let child = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    // SAFETY: just made.
    let child = unsafe { OwnedFd::from_raw_fd(i32::try_from(child).unwrap()) };
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
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
    let _together = GUARDIAN.read().await;
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
    let _together = GUARDIAN.read().await;
    let spawned = Tree::spawn(command(&["/bin/sh", "a\0b"]));
    assert!(matches!(spawned, Err(SpawnError::Nul(_))), "{spawned:?}");
}

#[tokio::test]
async fn a_child_has_what_its_host_has_now() {
    let _alone = GUARDIAN.write().await;
    let umask = || {
        let mut command = command(&["/bin/sh", "-c", "umask"]);
        command.env.push(("PATH".into(), "/bin:/usr/bin".into()));
        output(command)
    };
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    assert_eq!(umask().await, "0027\n");
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    assert_eq!(umask().await, "0077\n");
    nix::sys::stat::umask(before);
    let adjustment = "/proc/self/oom_score_adj";
    let before = std::fs::read_to_string(adjustment).unwrap();
    let read = || output(command(&["/bin/cat", adjustment]));
    // So that nothing else has changed for the next one.
    assert_eq!(read().await, before);
    let another = if before.trim() == "1000" {
        "999\n"
    } else {
        "1000\n"
    };
    std::fs::write(adjustment, another).unwrap();
    assert_eq!(read().await, another);
    std::fs::write(adjustment, &before).unwrap();
    assert_eq!(read().await, before);
}
