//! The HTML reports: one self-contained file each, no network, readable on a phone and printed, light and dark.
//!
//! [`report`] shows a run, [`matrix`] several side by side. Both work from JSON reports, so that what a browser
//! shows is what programs read.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, context};
use serde::Serialize;

use crate::case::result::Outcome;
use crate::report::diff::{self, Part};
use crate::report::json::{CaseReport, Report};
use crate::report::matrix::Matrix;
use crate::report::shares;
use crate::spec::requirements::{self, Level, Requirement};
use crate::spec::roots::{self, Failing};

/// One line of the wire, for the sequence drawing.
#[derive(Serialize)]
struct WireLine {
    time: String,
    /// `to`, `from` or `note`.
    direction: &'static str,
    channel: String,
    payload: String,
}

/// How many cases came to an outcome.
#[derive(Serialize)]
struct Count {
    outcome: Outcome,
    number: usize,
}

/// A requirement and its cases.
#[derive(Serialize)]
struct Section<'a> {
    id: &'a str,
    level: Option<Level>,
    sentence: &'a str,
    /// The cases that need attention.
    failures: Vec<ShownCase<'a>>,
    /// All others, which are folded.
    others: Vec<ShownCase<'a>>,
    passed: usize,
    /// Other requirements that fail, of which this one is the likely root.
    root_of: Vec<&'a str>,
}

/// A case with its wire taken apart.
#[derive(Serialize)]
struct ShownCase<'a> {
    #[serde(flatten)]
    case: &'a CaseReport,
    wire: Vec<WireLine>,
    /// How expected and observed differ, where they are long.
    difference: Option<Vec<Part>>,
}

/// The page of one run, from its JSON report. What failed stands first, by requirement, the likely root of others before
/// them.
///
/// # Errors
/// Where a template is wrong, which a test would have shown.
pub fn report(report: &Report) -> anyhow::Result<String> {
    let failing: Vec<&str> = report
        .cases
        .iter()
        .filter(|case| case.is_unexpected())
        .map(|case| case.requirement.as_str())
        .collect();
    let failing: Vec<Section> = roots::first(&failing)
        .into_iter()
        .map(|failing| section(report, failing))
        .collect();
    let whole: Vec<Section> = in_order(report)
        .into_iter()
        .filter(|id| !failing.iter().any(|section| section.id == *id))
        .map(|requirement| {
            section(
                report,
                Failing {
                    requirement,
                    others: Vec::new(),
                },
            )
        })
        .collect();
    let counts: Vec<Count> = Outcome::ALL
        .into_iter()
        .map(|outcome| Count {
            outcome,
            number: report.cases.iter().filter(|case| case.outcome == outcome).count(),
        })
        .collect();
    let views: Vec<_> = report.cases.iter().map(CaseReport::view).collect();
    let table = shares::table(&views);
    let template = environment()?;
    let page = template.get_template("report.html")?.render(context! {
        report => Serde(report),
        failing => Serde(&failing),
        whole => Serde(&whole),
        summary => Serde(&table),
        counts => Serde(&counts),
    })?;
    Ok(page)
}

/// The requirements of a report: first those that this suite knows, in the order of the specification.
fn in_order(report: &Report) -> Vec<&str> {
    let place = |id: &str| requirements::all().iter().position(|known| known.id == id);
    let mut ids: Vec<&str> = report
        .cases
        .iter()
        .map(|case| case.requirement.as_str())
        .collect();
    ids.sort_by_key(|id| (place(id).unwrap_or(usize::MAX), *id));
    ids.dedup();
    ids
}

fn section<'a>(report: &'a Report, failing: Failing<'a>) -> Section<'a> {
    let id = failing.requirement;
    let known: Option<&'static Requirement> = requirements::find(id);
    let cases = report.cases.iter().filter(|case| case.requirement == id);
    let (others, failures): (Vec<_>, Vec<_>) = cases
        .map(|case| ShownCase {
            wire: case
                .transcript
                .iter()
                .flatten()
                .map(|line| wire_line(line))
                .collect(),
            difference: case
                .expected
                .as_deref()
                .zip(case.observed.as_deref())
                .and_then(|(expected, observed)| diff::of(expected, observed)),
            case,
        })
        .partition(|shown| !shown.case.is_unexpected());
    Section {
        id,
        level: known.map(|known| known.level),
        sentence: known.map_or("", |known| &known.sentence),
        failures,
        passed: others
            .iter()
            .filter(|shown| shown.case.outcome == Outcome::Pass)
            .count(),
        others,
        root_of: failing.others,
    }
}

/// The page that sets several runs side by side: requirements × implementations.
///
/// # Errors
/// Where a template is wrong, which a test would have shown.
pub fn matrix(matrix: &Matrix) -> anyhow::Result<String> {
    Ok(environment()?
        .get_template("matrix.html")?
        .render(context! { matrix => Serde(matrix) })?)
}

fn environment() -> anyhow::Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("style.css", include_str!("style.css"))?;
    environment.add_template("report.html", include_str!("report.html"))?;
    environment.add_template("matrix.html", include_str!("matrix.html"))?;
    Ok(environment)
}

/// Takes a transcript's line apart: `  12.3 ms --> channel: payload`.
fn wire_line(line: &str) -> WireLine {
    let note = |payload: &str| WireLine {
        time: String::new(),
        direction: "note",
        channel: String::new(),
        payload: payload.to_owned(),
    };
    let Some((time, rest)) = line.split_once(" ms ") else {
        return note(line);
    };
    let (arrow, rest) = rest.split_at_checked(4).unwrap_or((rest, ""));
    let direction = match arrow.trim_end() {
        "-->" => "to",
        "<--" => "from",
        _ => "note",
    };
    let (channel, payload) = rest.split_once(": ").unwrap_or(("", rest));
    WireLine {
        time: time.trim().to_owned(),
        direction,
        channel: channel.to_owned(),
        payload: payload.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::wire_line;

    #[test]
    fn a_line_of_the_wire_is_taken_apart() {
        let line = wire_line("    2.2 ms --> request stream: {\"action\":\"Run\"} [1 descriptor]");
        assert_eq!(
            (line.time.as_str(), line.direction, line.channel.as_str()),
            ("2.2", "to", "request stream")
        );
        assert_eq!(line.payload, "{\"action\":\"Run\"} [1 descriptor]");
        assert_eq!(wire_line("… 7 lines left out …").direction, "note");
    }
}
