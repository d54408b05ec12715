//! The committed schemas are current, and what the suite writes is what they describe.

use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::inside::schema;
use serde_json::Value;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.json"))
}

fn conformance(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn validator(name: &str) -> jsonschema::Validator {
    let schema = schema::named(name).expect("a schema");
    jsonschema::validator_for(schema.as_value()).expect("a schema that is one")
}

fn assert_valid(validator: &jsonschema::Validator, value: &Value) {
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{value}\n{}", errors.join("\n"));
}

#[test]
fn the_committed_schemas_are_current() {
    for name in schema::NAMES {
        let printed = String::from_utf8(conformance(&["schema", name]).stdout).expect("UTF-8");
        let committed = std::fs::read_to_string(file(name)).unwrap_or_default();
        assert!(
            printed == committed,
            "{} is stale: conformance schema {name} >conformance/schemas/{name}.json",
            file(name).display()
        );
    }
}

#[test]
fn reports_are_what_their_schema_says() {
    let validator = validator("report");
    let shim = env!("CARGO_BIN_EXE_faulty-shim");
    for arguments in [
        vec!["--wrapper", "/bin/true", "--only", "wrapper.deny.*"],
        vec![
            "--server",
            shim,
            "--only",
            "session.overlay/*",
            "--only",
            "server.signal-frame/*",
        ],
    ] {
        let output = conformance(&[vec!["run", "--json", "-"], arguments].concat());
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        assert!(report["cases"].as_array().is_some_and(|cases| !cases.is_empty()));
        assert_valid(&validator, &report);
    }
    let report = serde_json::json!({"format": 1, "cases": []});
    assert!(!validator.is_valid(&report), "what lacks members is no report");
}

#[test]
fn baselines_are_what_their_schema_says() {
    let validator = validator("baseline");
    let text = include_str!("../examples/known-wrapper.toml");
    assert_valid(&validator, &toml::from_str(text).expect("TOML"));
    let without_a_reason =
        serde_json::json!({"known": [{"case": "wrapper.deny.status/is-one", "issue": "#1"}]});
    assert!(!validator.is_valid(&without_a_reason));
}

#[test]
fn the_traffic_of_the_harness_protocol_is_what_its_schema_says() {
    let validator = validator("harness");
    let mut methods = std::collections::BTreeSet::new();
    let output = conformance(&[
        "run",
        "--trace",
        "--cases",
        "4",
        "--server",
        env!("CARGO_BIN_EXE_faulty-shim"),
        "--only",
        "exec.*",
        "--only",
        "session.*",
        "--only",
        "server.decision/*",
        "--only",
        "teardown.cancel/*",
        "--only",
        "terminal.prune/every-use-counts",
        "--only",
        "terminal.close/late-answers",
    ]);
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message = line
            .split_once("--> shim: ")
            .or_else(|| line.split_once("<-- shim: "))
            .and_then(|(_, message)| serde_json::from_str::<Value>(message).ok());
        // Long lines are shown cut short; they are no JSON any more.
        if let Some(message) = message {
            methods.extend(message["method"].as_str().map(str::to_owned));
            assert_valid(&validator, &message);
        }
    }
    for method in [
        "initialize",
        "session/start",
        "session/spawn",
        "session/wait",
        "session/cancel",
        "session/close",
        "exec",
        "process/spawn",
        "process/wait",
        "terminal/open",
        "terminal/write",
        "terminal/read",
        "terminal/resize",
        "terminal/signal",
        "terminal/close",
        "terminal/list",
        "shutdown",
        "policy/decide",
    ] {
        assert!(
            methods.contains(method),
            "{method} was not seen among {methods:?}"
        );
    }
    for wrong in [
        r#"{"jsonrpc": "2.0", "id": 1, "method": "session/open", "params": {}}"#,
        r#"{"jsonrpc": "2.0", "id": 1, "method": "session/wait", "params": {"session": "a"}}"#,
        r#"{"jsonrpc": "1.0", "id": 1, "result": {}}"#,
    ] {
        let message = serde_json::from_str(wrong).expect("JSON");
        assert!(!validator.is_valid(&message), "{wrong}");
    }
}
