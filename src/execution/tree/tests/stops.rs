//! Stops and continuations of a child that cross on their way.

use super::*;

/// Ends a child by a signal that it takes only if it runs; the events before.
async fn end_running(tree: &mut Tree, pid: Pid) -> Vec<Report> {
    kill(pid, Signal::SIGTERM).unwrap();
    let mut before = Vec::new();
    loop {
        match in_time(tree.next_event()).await {
            Some(Report::Ended(ending)) => {
                assert_eq!(ending, Ending::Killed(libc::SIGTERM));
                return before;
            }
            event => before.push(event.unwrap()),
        }
    }
}

/// Such a SIGCONT has come to the child's group as well, before the child stopped.
#[tokio::test]
async fn a_continuation_does_not_end_a_stop_that_it_does_not_know_of() {
    let _together = GUARDIAN.read().await;
    let mut tree = spawn(&["/bin/sleep", "600"]);
    let pid = started(&mut tree).await;
    for number in 1..=200 {
        kill(pid, Signal::SIGSTOP).unwrap();
        match number % 3 {
            0 => tree.resume(),
            1 => tree.continue_after(None),
            _ => tree.continue_after(Some(Stop {
                signal: libc::SIGSTOP,
                number: number - 1,
            })),
        }
        let told = in_time(tree.next_event()).await;
        let stop = Stop {
            signal: libc::SIGSTOP,
            number,
        };
        assert_eq!(told, Some(Report::Stopped(stop, number)));
        assert!(is_stopped(pid), "after {number} stops");
        // As a SIGCONT for the group does it.
        kill(pid, Signal::SIGCONT).unwrap();
    }
    assert_eq!(end_running(&mut tree, pid).await, []);
}

#[tokio::test]
async fn a_continuation_ends_a_stop_that_was_ordered_before_it_and_nothing_is_told_of_that() {
    let _together = GUARDIAN.read().await;
    let mut tree = spawn(&["/bin/sleep", "600"]);
    let pid = started(&mut tree).await;
    for round in 0..200 {
        tree.signal(libc::SIGTSTP);
        // One that has stopped, and one that may be about to.
        while round % 2 == 0 && !is_stopped(pid) {
            std::thread::yield_now();
        }
        // It waits while the child is stopped, and would stop it again.
        tree.signal(libc::SIGTTIN);
        match round % 3 {
            0 => tree.resume(),
            1 => tree.continue_after(None),
            _ => tree.signal(libc::SIGCONT),
        }
    }
    assert_eq!(end_running(&mut tree, pid).await, []);
}
