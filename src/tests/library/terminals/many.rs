//! Many terminals at a time.

use std::time::Duration;

use shell_escalation::terminal::Error;

use super::super::support::processes::gone_within;
use super::{DEADLINE, EVERY_KIND, direct, on_terminal, read_number, read_until, sh};

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_busy_terminals_don_t_get_in_each_other_s_way() {
    let terminals = direct();
    let script =
        "read name; i=0; while [ $i -lt 300 ]; do echo $name $i; i=$((i + 1)); done; echo end; sleep 600";
    let mut ids = Vec::new();
    for number in 0..64 {
        let request = sh(script).on(EVERY_KIND[number % 2]);
        ids.push(terminals.open(request).await.unwrap());
    }
    for (number, &id) in ids.iter().enumerate() {
        terminals
            .write(id, format!("terminal{number}\n").as_bytes())
            .await
            .unwrap();
    }
    for (number, &id) in ids.iter().enumerate() {
        let text = read_until(&terminals, id, "end").await;
        let expected: Vec<String> = (0..300).map(|line| format!("terminal{number} {line}")).collect();
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(' ')).collect();
        assert_eq!(lines, expected);
    }
    assert_eq!(terminals.list().len(), 64);
    assert_eq!(terminals.end().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sixty_fifth_makes_the_one_end_that_was_not_used_for_longest() {
    let terminals = direct();
    let mut ids = Vec::new();
    let mut pids = Vec::new();
    for _ in 0..64 {
        let id = terminals
            .open(sh("echo $$; exec sleep 600").on(on_terminal()))
            .await
            .unwrap();
        pids.push(read_number(&terminals, id).await);
        ids.push(id);
    }
    // The first is used again; the fourth has ended.
    terminals.write(ids[0], b"x").await.unwrap();
    terminals
        .signal(ids[3], shell_escalation::terminal::Signal::SIGKILL)
        .unwrap();
    let ended = || terminals.list().iter().any(|listed| listed.end.is_some());
    super::super::support::processes::eventually("the fourth to end", ended);
    for (opened, pruned) in [3, 1, 2, 4].into_iter().enumerate() {
        // The signal was a use as well, which doesn't protect it from 56 others.
        for &id in ids.iter().skip(5) {
            terminals.read(id, Duration::ZERO, 0).await.unwrap();
        }
        terminals.open(sh("sleep 600")).await.unwrap();
        assert!(gone_within(pids[pruned], DEADLINE));
        let read = terminals.read(ids[pruned], Duration::ZERO, 1).await;
        assert!(matches!(read, Err(Error::Unknown(_))), "{opened}: {pruned}");
        assert_eq!(terminals.list().len(), 64);
    }
}
