//! The measurements as a table for people.

use std::fmt::Write as _;

use super::{Report, server, shells};

/// The tables of a report.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<14}{:<10}{:>12}{:>10}{:>10}{:>10}{:>10}{:>14}",
        "subject", "decision", "median us", "p90 us", "x direct", "x floor", "syscalls", "instructions"
    );
    for row in &report.latency {
        let decision = row
            .decision
            .map_or_else(|| "-".to_owned(), |decision| format!("{decision:?}"));
        let _ = writeln!(
            text,
            "{:<14}{:<10}{:>12.1}{:>10.1}{:>10.2}{:>10}{:>10}{:>14}",
            row.subject,
            decision,
            row.median_us,
            row.p90_us,
            row.ratio_to_direct,
            or_dash(row.ratio_to_floor.map(|ratio| format!("{ratio:.2}"))),
            or_dash(row.system_calls.map(|calls| calls.to_string())),
            or_dash(row.instructions.map(|count| count.to_string())),
        );
    }
    let _ = writeln!(
        text,
        "\nRun as the command grows: what growth adds to the time, and that over the floor's"
    );
    let _ = writeln!(
        text,
        "{:<14}{:>10}  {:<14}{:>12}{:>12}{:>10}",
        "dimension", "size", "subject", "median us", "added us", "x floor"
    );
    for row in &report.growth {
        let _ = writeln!(
            text,
            "{:<14}{:>10}  {:<14}{:>12.1}{:>12.1}{:>10}",
            row.dimension,
            row.size,
            row.subject,
            row.median_us,
            row.added_us,
            or_dash(row.ratio_to_floor.map(|ratio| format!("{ratio:.2}"))),
        );
    }
    let _ = writeln!(text, "\n{} samples each, interleaved; medians", report.runs);
    text
}

/// The tables of a report on servers.
pub fn of_servers(report: &server::Report) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<14}{:<10}{:>12}{:>12}{:>10}",
        "subject", "decision", "median us", "p99 us", "x first"
    );
    for row in &report.latency {
        let _ = writeln!(
            text,
            "{:<14}{:<10}{:>12.1}{:>12.1}{:>10.2}",
            row.subject,
            format!("{:?}", row.decision),
            row.median_us,
            row.p99_us,
            row.ratio
        );
    }
    let _ = writeln!(
        text,
        "\n{:<14}{:<10}{:>14}{:>10}",
        "subject", "at once", "Run per s", "x first"
    );
    for row in &report.throughput {
        let _ = writeln!(
            text,
            "{:<14}{:<10}{:>14.0}{:>10.2}",
            row.subject, row.at_once, row.per_second, row.ratio
        );
    }
    let _ = writeln!(
        text,
        "\n{:<14}{:>16}{:>18}{:>14}{:>10}",
        "subject", "KiB a session", "KiB a request", "sessions/s", "x first"
    );
    for row in &report.footprint {
        let _ = writeln!(
            text,
            "{:<14}{:>16.1}{:>18.1}{:>14.0}{:>10.2}",
            row.subject,
            row.idle_session_bytes / 1024.0,
            row.pending_request_bytes / 1024.0,
            row.sessions_per_second,
            row.ratio
        );
    }
    let _ = writeln!(
        text,
        "\n{} samples of each latency, interleaved; medians",
        report.runs
    );
    text
}

/// The table of a report on shells.
pub fn of_shells(report: &shells::Report) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<12}{:<10}{:<14}{:>12}{:>10}{:>10}{:>12}",
        "work", "at once", "subject", "median us", "p90 us", "x stock", "own CPU us"
    );
    for row in &report.rows {
        let _ = writeln!(
            text,
            "{:<12}{:<10}{:<14}{:>12.1}{:>10.1}{:>10.2}{:>12.1}",
            row.work, row.at_once, row.subject, row.median_us, row.p90_us, row.ratio, row.own_cpu_us
        );
    }
    let _ = writeln!(
        text,
        "\n{} samples each, interleaved; medians of one command, and of its ratio to the stock shell's in the same round",
        report.runs
    );
    text
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}
