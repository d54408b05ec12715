//! The measurements as a table for people.

use std::fmt::Write as _;

use super::Report;

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

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}
