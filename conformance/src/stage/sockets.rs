//! Who holds an escalation socket, and what a shell holds beside it.

use std::collections::BTreeSet;

use crate::case::context::Context;
use crate::case::expect;
use crate::probe::report::Report;
use crate::system::clock::Moment;
use crate::system::process;
use crate::verdict::{Verdict, violation};

/// Demands that only `shell` and its descendants hold the socket of that inode. The moment between a
/// fork and its execve, in which a process holds more, is waited out.
pub fn expect_only_holder(context: &Context, inode: u64, shell: i32) -> Verdict {
    let deadline = Moment::now() + context.patience();
    loop {
        let family: BTreeSet<i32> = process::descendants(shell)
            .into_iter()
            .map(|process| process.pid)
            .chain([shell])
            .collect();
        let holders: BTreeSet<i32> = process::holders_of_socket(inode)
            .into_iter()
            .map(|(pid, _)| pid)
            .collect();
        let strangers: Vec<i32> = holders.difference(&family).copied().collect();
        if strangers.is_empty() {
            return expect::that(
                holders.contains(&shell),
                "the shell holds its escalation socket",
                "no process holds it",
            );
        }
        if deadline.is_over() {
            let names: Vec<String> = strangers
                .into_iter()
                .map(|pid| process::describe(nix::unistd::Pid::from_raw(pid)))
                .collect();
            return Err(violation(
                "the client's end of the escalation socket is held by the shell and its descendants only",
                format_args!("also held by {}", names.join("; ")),
            ));
        }
        process::rest();
    }
}

/// Demands that a process held exactly these descriptors beside its standard streams.
pub fn expect_beside_streams(report: &Report, expected: &[i32]) -> Verdict {
    let beside: Vec<String> = report
        .descriptors
        .iter()
        .filter(|descriptor| descriptor.number > 2)
        .map(|descriptor| {
            format!(
                "{} -> {}",
                descriptor.number,
                String::from_utf8_lossy(&descriptor.target)
            )
        })
        .collect();
    let numbers: Vec<i32> = report
        .descriptor_numbers()
        .into_iter()
        .filter(|number| *number > 2)
        .collect();
    expect::that(
        numbers == expected,
        format_args!("beside its standard streams the process holds {expected:?}"),
        format_args!("{beside:?}"),
    )
}
