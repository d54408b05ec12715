//! The HTML reports: one self-contained file each, no network, readable on a phone and printed, light and dark.
//!
//! [`report`] shows a run, [`matrix`] several side by side. Both work from JSON reports, so that what a browser
//! shows is what programs read.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, context};
use serde::Serialize;
use serde_json::Value;

use crate::spec::requirements::{self, Level, Role};

/// One line of the wire, for the sequence drawing.
#[derive(Serialize)]
struct WireLine {
    time: String,
    /// `to`, `from` or `note`.
    direction: &'static str,
    channel: String,
    payload: String,
}

/// The page of one run, from its JSON report.
///
/// # Errors
/// Where the report is not of the form that this suite writes.
pub fn report(report: &Value) -> anyhow::Result<String> {
    let cases = members(report, "cases")?;
    let of_requirement = |id: &str| -> Vec<Value> {
        cases
            .iter()
            .filter(|case| case["requirement"] == id)
            .cloned()
            .map(with_wire)
            .collect()
    };
    let sections: Vec<Value> = requirements::all()
        .iter()
        .filter_map(|requirement| {
            let cases = of_requirement(&requirement.id);
            (!cases.is_empty()).then(|| {
                serde_json::json!({
                    "id": requirement.id, "level": requirement.level, "sentence": requirement.sentence, "cases": cases,
                })
            })
        })
        .collect();
    let template = environment()?;
    let page = template.get_template("report.html")?.render(context! {
        report => Serde(report),
        sections => Serde(&sections),
        summary => Serde(summary(cases)),
        outcomes => ["fail", "unexpected-pass", "harness-error", "expected-fail", "not-applicable", "pass"],
    })?;
    Ok(page)
}

/// The page that sets several runs side by side: requirements × implementations.
///
/// # Errors
/// Where a template is wrong, which a test would have shown.
pub fn matrix(matrix: &crate::report::matrix::Matrix) -> anyhow::Result<String> {
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

fn members<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a [Value]> {
    value[name]
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| anyhow::anyhow!("a report without {name}"))
}

/// Passed and applicable, per role and level.
fn summary(cases: &[Value]) -> Vec<Value> {
    let share = |role: Role, level: Option<Level>| {
        let applicable = cases.iter().filter(|case| {
            case["role"] == role.to_string()
                && level.is_none_or(|level| case["level"] == level.to_string())
                && case["outcome"] != "not-applicable"
        });
        let (passed, all) = applicable.fold((0, 0), |(passed, all), case| {
            let pass = case["outcome"] == "pass" || case["outcome"] == "unexpected-pass";
            (passed + u32::from(pass), all + 1)
        });
        serde_json::json!({"passed": passed, "all": all})
    };
    Role::ALL
        .into_iter()
        .filter(|role| cases.iter().any(|case| case["role"] == role.to_string()))
        .map(|role| {
            let levels: Vec<Value> = Level::ALL
                .into_iter()
                .map(|level| share(role, Some(level)))
                .collect();
            serde_json::json!({"role": role, "levels": levels, "all": share(role, None)})
        })
        .collect()
}

fn with_wire(mut case: Value) -> Value {
    let lines = case["transcript"].as_array().cloned().unwrap_or_default();
    let wire: Vec<WireLine> = lines.iter().filter_map(Value::as_str).map(wire_line).collect();
    case["wire"] = serde_json::to_value(wire).unwrap_or_default();
    case
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
