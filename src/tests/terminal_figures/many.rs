//! Many terminals: at once, and one after the other.

use std::time::{Duration, Instant};

use shell_escalation::terminal::{ExecRequest, Streams, Terminals};

use super::{Failure, flow, on_terminal, ready};

/// How long so many terminals take that all write so many bytes at once.
pub(super) async fn busy(terminals: &Terminals, number: usize, bytes: u64) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let mut left = Vec::new();
    for _ in 0..number {
        left.push(ready(terminals, &flow(bytes)).await?);
    }
    while !left.is_empty() {
        let mut unfinished = Vec::new();
        for (id, read) in left {
            let output = terminals.read(id, Duration::from_millis(1), usize::MAX).await?;
            let read = read + output.bytes.len() as u64 + output.left_out;
            if read < bytes {
                if output.end.is_some() && output.bytes.is_empty() {
                    return Err(format!(
                        "{read} of {bytes} bytes of a terminal were read or counted at its end"
                    )
                    .into());
                }
                unfinished.push((id, read));
            } else {
                terminals.close(id).await?;
            }
        }
        left = unfinished;
    }
    Ok(begun.elapsed())
}

/// How long each of so many terminals takes from its opening to the end of its closing: by turns on a pseudo-terminal with a
/// program that lives, and on pipes with one that has ended.
pub(super) async fn open_and_close(terminals: &Terminals, number: usize) -> Result<Vec<Duration>, Failure> {
    let mut times = Vec::new();
    for turn in 0..number {
        let begun = Instant::now();
        let request = match turn % 2 {
            0 => ExecRequest::shell("/bin/sh", "sleep 600 & exec sleep 600", "/").on(on_terminal()),
            _ => ExecRequest::shell("/bin/sh", "exit 3", "/").on(Streams::Pipes),
        };
        let id = terminals.open(request).await?;
        let left = terminals.close(id).await?;
        times.push(begun.elapsed());
        if !left.is_empty() {
            return Err(format!("processes are left of terminal {turn}: {left:?}").into());
        }
    }
    Ok(times)
}
