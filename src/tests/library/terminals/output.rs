//! All of the output, in order, and what is kept of too much.

use std::time::{Duration, Instant};

use shell_escalation::terminal::{Config, End, ShellBackend, Terminals};

use super::super::support::processes::eventually;
use super::{EVERY_KIND, direct, on_terminal, read_number, read_to_end, read_until, sh, text_to_end};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_both_streams_comes_back_in_order() {
    let terminals = direct();
    // All values of a byte, by turns on both streams.
    let script = "stty raw 2>/dev/null; i=0; while [ $i -lt 256 ]; do \
                  printf \"\\\\$(printf %o $i)\" >&$((1 + i % 2)); i=$((i + 1)); done";
    for streams in EVERY_KIND {
        let id = terminals.open(sh(script).on(streams)).await.unwrap();
        let (bytes, end) = read_to_end(&terminals, id).await;
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>(), "{streams:?}");
        assert_eq!(end, End::Exited(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_up_to_the_limit_waits_for_a_reader_that_comes_late() {
    let terminals = direct();
    for streams in EVERY_KIND {
        let script = format!("stty raw 2>/dev/null; head -c {MIB} /dev/zero | tr '\\0' x");
        let id = terminals.open(sh(&script).on(streams)).await.unwrap();
        eventually("the end", || terminals.list()[0].end.is_some());
        // In parts, of which only the last one says that it is the end.
        let first = terminals.read(id, Duration::ZERO, 10).await.unwrap();
        assert_eq!(
            (&first.bytes[..], first.left_out, first.end),
            (&b"xxxxxxxxxx"[..], 0, None)
        );
        let (rest, end) = read_to_end(&terminals, id).await;
        assert_eq!((rest.len(), end), (MIB - 10, End::Exited(0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_more_than_the_limit_the_first_and_the_last_half_are_kept_with_the_number_of_the_rest() {
    let terminals = direct();
    for streams in EVERY_KIND {
        let id = terminals
            .open(sh("stty raw 2>/dev/null; seq 1000000").on(streams))
            .await
            .unwrap();
        eventually("the end", || terminals.list()[0].end.is_some());
        let written: String = (1..=1_000_000).map(|number| format!("{number}\n")).collect();
        let output = terminals.read(id, Duration::ZERO, usize::MAX).await.unwrap();
        assert_eq!(output.left_out as usize, written.len() - MIB);
        let (head, tail) = output.bytes.split_at(output.head);
        assert_eq!((head.len(), tail.len()), (MIB / 2, MIB / 2));
        assert!(written.as_bytes().starts_with(head) && written.as_bytes().ends_with(tail));
        assert_eq!(output.end, Some(End::Exited(0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_returns_as_soon_as_output_pauses_and_no_later_than_it_is_told() {
    let terminals = direct();
    for streams in EVERY_KIND {
        let id = terminals
            .open(sh("echo one; read x; echo two; sleep 600").on(streams))
            .await
            .unwrap();
        let begun = Instant::now();
        let output = terminals
            .read(id, Duration::from_secs(60), usize::MAX)
            .await
            .unwrap();
        assert!(output.bytes.starts_with(b"one"), "{output:?}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        let begun = Instant::now();
        let output = terminals
            .read(id, Duration::from_millis(50), usize::MAX)
            .await
            .unwrap();
        assert_eq!((output.bytes, output.end), (Vec::new(), None));
        assert!(begun.elapsed() >= Duration::from_millis(50));
        // Others are served while one waits.
        let waiting = terminals.read(id, Duration::from_secs(60), usize::MAX);
        let writing = async {
            tokio::task::yield_now().await;
            terminals.write(id, b"\n").await.unwrap();
        };
        let (output, ()) = tokio::join!(waiting, writing);
        assert!(!output.unwrap().bytes.is_empty());
        terminals.close(id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_as_long_as_it_is_configured() {
    let mut config = Config::new(ShellBackend::Direct);
    // Longer than any that a busy machine makes, so only the program's end is waited for.
    config.pause = Duration::from_secs(50);
    let terminals = Terminals::new(config);
    let script = "for i in 1 2 3 4 5; do echo $i; sleep 0.01; done";
    let id = terminals.open(sh(script)).await.unwrap();
    let output = terminals
        .read(id, Duration::from_secs(60), usize::MAX)
        .await
        .unwrap();
    assert_eq!(output.bytes, b"1\n2\n3\n4\n5\n");
    let mut config = Config::new(ShellBackend::Direct);
    config.pause = Duration::from_millis(300);
    let terminals = Terminals::new(config);
    let id = terminals.open(sh("echo x; read x")).await.unwrap();
    let begun = Instant::now();
    let output = terminals
        .read(id, Duration::from_secs(60), usize::MAX)
        .await
        .unwrap();
    assert_eq!(output.bytes, b"x\n");
    let time = begun.elapsed();
    assert!(
        (Duration::from_millis(300)..Duration::from_secs(20)).contains(&time),
        "{time:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_the_output_open_does_not_delay_the_end_and_is_still_read() {
    let terminals = direct();
    for streams in EVERY_KIND {
        let script = "(sleep 0.3; echo later; sleep 600) & exit 3";
        let id = terminals.open(sh(script).on(streams)).await.unwrap();
        let (text, end) = text_to_end(&terminals, id).await;
        assert_eq!(end, End::Exited(3));
        let mut read = text;
        while !read.contains("later") {
            let output = terminals
                .read(id, Duration::from_millis(50), usize::MAX)
                .await
                .unwrap();
            assert_eq!(output.end, Some(End::Exited(3)));
            read += &String::from_utf8(output.bytes).unwrap();
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_writes_without_end_ends_when_its_shell_does() {
    let terminals = direct();
    for streams in EVERY_KIND {
        let id = terminals
            .open(sh("yes & sleep 0.1; exit 4").on(streams))
            .await
            .unwrap();
        eventually("the end", || terminals.list()[0].end == Some(End::Exited(4)));
        assert_eq!(terminals.close(id).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_input_arrives_whole_while_output_is_read_by_nobody() {
    let terminals = direct();
    let input: Vec<u8> = (0..MIB).map(|place| (place % 251) as u8).collect();
    for streams in EVERY_KIND {
        let script = "stty raw -echo 2>/dev/null; echo ready; head -c 1048576 | cksum; echo done";
        let id = terminals.open(sh(script).on(streams)).await.unwrap();
        read_until(&terminals, id, "ready").await;
        terminals.write(id, &input).await.unwrap();
        let text = read_until(&terminals, id, "done").await;
        assert!(text.contains(&format!("{} 1048576", cksum(&input))), "{text}");
    }
}

/// The check sum of cksum(1).
fn cksum(bytes: &[u8]) -> u32 {
    let mut length = bytes.len();
    let mut length_bytes = Vec::new();
    while length > 0 {
        length_bytes.push((length & 0xff) as u8);
        length >>= 8;
    }
    let mut sum = 0_u32;
    for byte in bytes.iter().chain(&length_bytes) {
        sum ^= u32::from(*byte) << 24;
        for _ in 0..8 {
            sum = if sum & 0x8000_0000 == 0 {
                sum << 1
            } else {
                (sum << 1) ^ 0x04c1_1db7
            };
        }
    }
    !sum
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_a_write_that_nothing_reads() {
    let terminals = direct();
    for streams in EVERY_KIND {
        let id = terminals
            .open(sh("stty raw 2>/dev/null; echo $$; sleep 600").on(streams))
            .await
            .unwrap();
        read_number(&terminals, id).await;
        let input = vec![b'x'; 4 * MIB];
        // Begun in this order.
        let (written, left) = tokio::join!(terminals.write(id, &input), terminals.close(id));
        assert!(written.is_err());
        assert_eq!(left.unwrap(), []);
    }
    let id = terminals.open(sh("sleep 600").on(on_terminal())).await.unwrap();
    let waiting = terminals.read(id, Duration::from_secs(60), usize::MAX);
    let (output, _) = tokio::join!(waiting, async { terminals.close(id).await.unwrap() });
    assert_eq!(output.unwrap().bytes, b"");
}
