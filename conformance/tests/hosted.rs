//! The hosted CI: the workflow and the composite action are what the runner of Actions needs, and the action's
//! scripts say of real reports what they should.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

const WORKFLOW: &str = ".github/workflows/conformance.yml";
const ACTION: &str = ".github/actions/conformance";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(text: &str) -> Value {
    // As the runner reads it: `on` is a name, not a truth.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options)
        .unwrap_or_else(|error| panic!("no YAML: {error}\n{text}"))
}

fn action() -> Value {
    yaml(&read(&format!("{ACTION}/action.yml")))
}

fn names(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect()
}

/// What stands between `${{` and `}}`.
fn expressions(text: &str) -> Vec<&str> {
    text.split("${{")
        .skip(1)
        .map(|rest| rest.split_once("}}").map_or(rest, |(inside, _)| inside).trim())
        .collect()
}

/// The names that follow `prefix` in an expression, such as `wrapper` in `inputs.wrapper == ''`.
fn followed<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let part_of_a_name = |letter: char| letter.is_ascii_alphanumeric() || "_-.*".contains(letter);
    text.match_indices(prefix)
        .filter(|(at, _)| !text[..*at].ends_with(part_of_a_name))
        .map(|(at, _)| {
            text[at + prefix.len()..]
                .split(|letter| !part_of_a_name(letter))
                .next()
                .unwrap_or_default()
        })
        .collect()
}

/// What is wrong with a list of steps, of which those of a composite action need a shell.
fn wrong_steps(steps: &Value, composite: bool, place: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(steps) = steps.as_array().filter(|steps| !steps.is_empty()) else {
        return vec![format!("{place} has no steps")];
    };
    let mut ids: BTreeSet<&str> = BTreeSet::new();
    for (index, step) in steps.iter().enumerate() {
        let place = format!("{place}, step {}", index + 1);
        if step["run"].is_string() == step["uses"].is_string() {
            wrong.push(format!("{place} needs either `run` or `uses`"));
        }
        if composite && step["run"].is_string() && !step["shell"].is_string() {
            wrong.push(format!("{place} runs something and names no shell"));
        }
        if !expressions(step["run"].as_str().unwrap_or_default()).is_empty() {
            wrong.push(format!(
                "{place} pastes an expression into a script; hand it over in `env`"
            ));
        }
        if let Some(local) = step["uses"].as_str().and_then(|uses| uses.strip_prefix("./")) {
            let used = yaml(&read(&format!("{local}/action.yml")));
            let declared = names(&used["inputs"]);
            wrong.extend(
                names(&step["with"])
                    .difference(&declared)
                    .map(|name| format!("{place} gives {name}, which {local} does not take")),
            );
        } else if step["uses"].as_str().is_some_and(|uses| !uses.contains('@')) {
            wrong.push(format!("{place} uses an action without a version"));
        }
        wrong.extend(unknown_outputs(&step.to_string(), steps, &ids, &place));
        if let Some(id) = step["id"].as_str() {
            ids.insert(id);
        }
    }
    wrong
}

/// `steps.ID.outputs.NAME` where no step above has the id, or a local action has no such output.
fn unknown_outputs(text: &str, steps: &[Value], ids: &BTreeSet<&str>, place: &str) -> Vec<String> {
    let references = followed(text, "steps.");
    references
        .into_iter()
        .filter_map(|reference| {
            let (id, rest) = reference.split_once('.').unwrap_or((reference, ""));
            if !ids.contains(id) {
                return Some(format!("{place} refers to the step {id}, which is not above it"));
            }
            let step = steps.iter().find(|step| step["id"] == id)?;
            let local = step["uses"].as_str()?.strip_prefix("./")?;
            let used = yaml(&read(&format!("{local}/action.yml")));
            let name = rest.strip_prefix("outputs.").unwrap_or(rest);
            (!names(&used["outputs"]).contains(name))
                .then(|| format!("{place}: {local} has no output {name}"))
        })
        .collect()
}

fn wrong_workflow(workflow: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    if !workflow["name"].is_string() {
        wrong.push("it has no name".to_owned());
    }
    let events = names(&workflow["on"]);
    if events.is_empty()
        || !events.is_subset(&BTreeSet::from([
            "push",
            "pull_request",
            "workflow_dispatch",
            "schedule",
        ]))
    {
        wrong.push(format!("it is started by {events:?}"));
    }
    if workflow["permissions"] != json!({"contents": "read"}) {
        wrong.push("it may do more than read".to_owned());
    }
    let jobs = names(&workflow["jobs"]);
    if jobs.is_empty() {
        wrong.push("it has no jobs".to_owned());
    }
    for name in &jobs {
        let job = &workflow["jobs"][name];
        if !job["runs-on"].is_string() {
            wrong.push(format!("{name} does not say what it runs on"));
        }
        for needed in job["needs"].as_array().into_iter().flatten() {
            if !needed.as_str().is_some_and(|needed| jobs.contains(needed)) {
                wrong.push(format!("{name} needs the job {needed}, which does not exist"));
            }
        }
        let dimensions = names(&job["strategy"]["matrix"]);
        for used in followed(&job.to_string(), "matrix.") {
            if !dimensions.contains(used) {
                wrong.push(format!(
                    "{name} refers to matrix.{used}, which its matrix does not have"
                ));
            }
        }
        wrong.extend(wrong_steps(&job["steps"], false, name));
    }
    wrong
}

fn wrong_action(action: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for member in ["name", "description"] {
        if !action[member].is_string() {
            wrong.push(format!("it has no {member}"));
        }
    }
    if action["runs"]["using"] != "composite" {
        wrong.push("it is not composite".to_owned());
    }
    let inputs = names(&action["inputs"]);
    let used: BTreeSet<_> = followed(&action["runs"].to_string(), "inputs.")
        .into_iter()
        .map(str::to_owned)
        .collect();
    for name in &used {
        if !inputs.contains(name.as_str()) {
            wrong.push(format!("it uses the input {name}, which is not declared"));
        }
    }
    for name in inputs {
        let input = &action["inputs"][name];
        if !used.contains(name) {
            wrong.push(format!("it declares the input {name}, and does not use it"));
        }
        if !input["description"].is_string() || !(input["default"].is_string() || input["required"] == true) {
            wrong.push(format!(
                "the input {name} needs a description, and a default or `required`"
            ));
        }
    }
    let steps = action["runs"]["steps"].as_array().cloned().unwrap_or_default();
    let ids: BTreeSet<_> = steps.iter().filter_map(|step| step["id"].as_str()).collect();
    for name in names(&action["outputs"]) {
        let value = action["outputs"][name]["value"].as_str().unwrap_or_default();
        if expressions(value).len() != 1 {
            wrong.push(format!("the output {name} has no value"));
        }
        wrong.extend(unknown_outputs(
            value,
            &steps,
            &ids,
            &format!("the output {name}"),
        ));
    }
    wrong.extend(wrong_steps(&action["runs"]["steps"], true, "it"));
    wrong
}

#[test]
fn the_workflow_is_what_the_runner_needs() {
    assert_eq!(wrong_workflow(&yaml(&read(WORKFLOW))), Vec::<String>::new());
}

#[test]
fn the_action_is_what_the_runner_needs() {
    assert_eq!(wrong_action(&action()), Vec::<String>::new());
}

#[test]
fn a_broken_workflow_or_action_is_noticed() {
    let (workflow, action) = (read(WORKFLOW), read(&format!("{ACTION}/action.yml")));
    let told = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from:?} is not there to be broken");
        let broken = yaml(&text.replace(from, to));
        if broken.get("jobs").is_some() {
            wrong_workflow(&broken)
        } else {
            wrong_action(&broken)
        }
        .join("\n")
    };
    for (text, from, to, complaint) in [
        (
            &workflow,
            "    runs-on: ubuntu-latest\n",
            "",
            "does not say what it runs on",
        ),
        (
            &workflow,
            "          shard: $",
            "          shards: $",
            "gives shards, which",
        ),
        (&workflow, "matrix.part", "matrix.parts", "refers to matrix.parts"),
        (&workflow, "outputs.passed", "outputs.pass", "has no output pass"),
        (
            &workflow,
            "needs: [judge,",
            "needs: [judged,",
            "needs the job \"judged\"",
        ),
        (
            &workflow,
            "uses: actions/checkout@v5",
            "uses: actions/checkout",
            "without a version",
        ),
        (
            &workflow,
            "contents: read",
            "contents: write",
            "may do more than read",
        ),
        (
            &workflow,
            "  pull_request:",
            "  pull_requests:",
            "it is started by",
        ),
        (&action, "      shell: sh\n", "", "names no shell"),
        (&action, "using: composite", "using: docker", "not composite"),
        (&action, "      id: judge\n", "", "refers to the step judge"),
        (
            &action,
            "inputs.baseline",
            "inputs.base",
            "uses the input base, which",
        ),
        (
            &action,
            "inputs.baseline",
            "inputs.level",
            "declares the input baseline",
        ),
        (
            &action,
            "exit \"${CONFORMANCE_STATUS:-3}\"",
            "exit ${{ inputs.level }}",
            "pastes an expression",
        ),
        (
            &action,
            "      run: exit",
            "      ran: exit",
            "needs either `run` or `uses`",
        ),
    ] {
        let told = told(text, from, to);
        assert!(
            told.contains(complaint),
            "{from:?} -> {to:?}: {complaint:?} is not in {told:?}"
        );
    }
}

#[test]
fn four_machines_judge_each_case_once() {
    let workflow = yaml(&read(WORKFLOW));
    let judge = &workflow["jobs"]["judge"];
    assert_eq!(judge["strategy"]["matrix"]["part"], json!([1, 2, 3, 4]));
    let shards: Vec<_> = judge["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|step| step["with"]["shard"].as_str())
        .collect();
    assert_eq!(shards, ["${{ matrix.part }}/4"]);
}

#[test]
fn the_workflow_calls_targets_and_files_that_exist() {
    let makefile = read("Makefile");
    let action = action();
    let workflow = yaml(&read(WORKFLOW));
    let scripts = workflow["jobs"]
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(_, job)| job["steps"].as_array().into_iter().flatten())
        .chain(action["runs"]["steps"].as_array().into_iter().flatten())
        .filter_map(|step| step["run"].as_str());
    let mut seen = 0;
    for script in scripts {
        let without_environment = script
            .strip_prefix("env -u ")
            .and_then(|rest| rest.split_once(" make "));
        if let Some(rest) = script
            .strip_prefix("make ")
            .or(without_environment.map(|(_, rest)| rest))
        {
            let rest = rest
                .strip_prefix("-C \"$GITHUB_ACTION_PATH/../../..\" ")
                .unwrap_or(rest);
            for target in rest.split(' ') {
                assert!(
                    makefile.contains(&format!("\n{target}: ")),
                    "make {target}: no such target"
                );
                seen += 1;
            }
        }
        for name in followed(script, "$GITHUB_ACTION_PATH/") {
            assert!(
                name == ".." || top().join(ACTION).join(name).exists(),
                "{ACTION}/{name} is missing"
            );
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} names were checked");
}

/// A runner's step: folders and files that it hands to scripts.
struct Step {
    folder: tempfile::TempDir,
}

impl Step {
    fn new() -> Step {
        Step {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    fn run(&self, program: &str, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let action = top().join(ACTION);
        Command::new(program)
            .arg(action.join(script))
            .args(arguments)
            .env("GITHUB_ACTION_PATH", &action)
            .env("RUNNER_TEMP", self.folder.path())
            .env("GITHUB_OUTPUT", self.folder.path().join("output"))
            .env("GITHUB_STEP_SUMMARY", self.folder.path().join("summary.md"))
            .env("CONFORMANCE_SUITE", env!("CARGO_BIN_EXE_conformance"))
            .envs(
                ["WRAPPER", "SHELL", "SERVER", "BASELINE", "OPTIONS"]
                    .map(|name| (format!("CONFORMANCE_{name}"), "")),
            )
            .env("CONFORMANCE_LEVEL", "")
            .env("CONFORMANCE_SHARD", "")
            .envs(variables.iter().copied())
            .output()
            .unwrap_or_else(|error| panic!("{program} {script}: {error}"))
    }

    fn written(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// An output as the runner reads it: the last of its name.
    fn output(&self, name: &str) -> String {
        let text = self.written("output");
        let value = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value
            .unwrap_or_else(|| panic!("no output {name} in {text}"))
            .to_owned()
    }

    /// The suite with these inputs of the action.
    fn judge(&self, inputs: &[(&str, &str)]) -> Output {
        let output = self.run("sh", "judge.sh", &[], inputs);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the last step is the gate: {said}");
        output
    }

    /// The summary script on a report with this text, and its annotations.
    fn summarize(&self, report: &str, status: &str) -> String {
        let path = self.folder.path().join("given.json");
        fs::write(&path, report).expect("a report");
        let status = [("CONFORMANCE_STATUS", status)];
        let output = self.run("python3", "summary.py", &[path.to_str().expect("UTF-8")], &status);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

#[test]
fn a_wrapper_that_does_nothing_fills_summary_annotations_and_outputs() {
    let step = Step::new();
    step.judge(&[
        ("CONFORMANCE_WRAPPER", "/bin/true"),
        (
            "CONFORMANCE_OPTIONS",
            "--only=wrapper.deny.*\r\n  --seed=7 \n\n--jobs=1",
        ),
    ]);
    assert_eq!(step.output("status"), "1");
    assert_eq!(step.output("part"), "1-1");
    let report = fs::read_to_string(step.output("report")).expect("the report");
    for name in ["report.xml", "report.html"] {
        assert!(Path::new(&step.output("folder")).join(name).exists(), "{name}");
    }
    let failed = serde_json::from_str::<Value>(&report).expect("JSON")["summary"]["fail"]
        .as_u64()
        .expect("a number");
    assert!(failed > 10, "{failed} failures are too few for what follows");

    let annotations = step.summarize(&report, "1");
    assert_eq!(step.output("passed"), "0");
    assert_eq!(step.output("failed"), failed.to_string());
    let lines: Vec<_> = annotations.lines().collect();
    assert_eq!(lines.len(), 10, "{annotations}");
    let first = "::error title=wrapper.deny.message/with-reason::failed%0Aexpected: a handshake datagram on the \
                 escalation socket%0Aobserved: the wrapper ended without sending one: exit status 0";
    assert_eq!(lines[0], first);
    assert_eq!(
        lines[9],
        format!(
            "::error title=conformance::{} more are in the job's summary",
            failed - 9
        )
    );

    let summary = step.written("summary.md");
    assert!(
        summary.starts_with(&format!("## Conformance: {failed} not as expected\n")),
        "{summary}"
    );
    assert!(
        summary.contains("| | core | faithful | hardened |\n|---|---:|---:|---:|\n| wrapper | 0/9 |"),
        "{summary}"
    );
    assert_eq!(summary.matches("<details>").count() as u64, failed);
    assert!(
        summary.contains("\nconformance case wrapper.deny.status/is-one --wrapper /bin/true --seed 7\n"),
        "{summary}"
    );
}

#[test]
fn a_run_as_expected_has_no_annotations() {
    let step = Step::new();
    let case = json!({"id": "wrapper.deny.status/is-one", "role": "wrapper", "level": "core", "outcome": "expected-fail"});
    let report = json!({"level": "core", "shard": "1/4", "seed": 7, "cases": [case],
        "summary": {"pass": 0, "fail": 0, "expected_fail": 1}});
    assert_eq!(step.summarize(&report.to_string(), "0"), "");
    assert_eq!(
        (step.output("passed"), step.output("failed")),
        ("0".to_owned(), "0".to_owned())
    );
    let summary = step.written("summary.md");
    assert!(summary.contains("## Conformance: as expected\n"), "{summary}");
    assert!(
        summary.contains("1 case, level core, shard 1/4, seed 7: 1 expected fail\n"),
        "{summary}"
    );
}

#[test]
fn what_is_newer_than_the_version_that_decides_is_told_and_no_annotation() {
    let step = Step::new();
    let case = json!({"id": "wrapper.deny.status/is-one", "role": "wrapper", "level": "core", "outcome": "fail",
        "newer_than": "0.1.0", "expected": "a", "observed": "b", "transcript": null, "stderr_tail": null,
        "reproduce": ""});
    let report = json!({"level": "core", "shard": "1/1", "seed": 7, "cases": [case], "summary": {"pass": 0, "fail": 1}});
    assert_eq!(step.summarize(&report.to_string(), "0"), "");
    assert_eq!(step.output("failed"), "0");
    let summary = step.written("summary.md");
    assert!(summary.contains("## Conformance: as expected\n"), "{summary}");
    let newer = "1 of them newer than 0.1.0, which don't decide: `wrapper.deny.status/is-one`\n";
    assert!(summary.contains(newer), "{summary}");
}

#[test]
fn a_run_that_ended_early_is_told() {
    for (member, words) in [
        (
            json!({"stopped": {"failures": 3, "not_run": 8}}),
            "Stopped after 3 failures: 8 selected cases were not run.",
        ),
        (
            json!({"interrupted": {"signal": 15, "not_run": 8}}),
            "Interrupted by signal 15: 8 selected cases were not run.",
        ),
    ] {
        let step = Step::new();
        let mut report =
            json!({"level": "core", "shard": "1/1", "seed": 7, "cases": [], "summary": {"pass": 0}});
        let early = member.as_object().expect("an object").clone();
        report.as_object_mut().expect("an object").extend(early);
        let said = step.summarize(&report.to_string(), "143");
        assert_eq!(said, format!("::error title=conformance::{words}\n"));
        let summary = step.written("summary.md");
        assert!(summary.contains("## Conformance: ended early\n"), "{summary}");
        assert!(summary.contains(words), "{summary}");
    }
}

#[test]
fn what_an_implementation_says_is_neither_markdown_nor_a_command() {
    let step = Step::new();
    let case = json!({"id": "wrapper.run/a-script", "role": "wrapper", "level": "core", "outcome": "fail",
        "expected": "100 %\n::add-mask::a", "observed": "````\n# heading\n```", "transcript": ["x\r\n::stop-commands::y"],
        "stderr_tail": "</details>", "reproduce": "conformance case"});
    let report = json!({"level": "core", "shard": "1/1", "seed": 7, "cases": [case], "summary": {"pass": 0, "fail": 1}});
    let annotations = step.summarize(&report.to_string(), "1");
    assert_eq!(
        annotations,
        "::error title=wrapper.run/a-script::failed%0Aexpected: 100 %25%0A::add-mask::a%0Aobserved: ````%0A# heading%0A```\n"
    );
    let summary = step.written("summary.md");
    let block = summary
        .split("`````text\n")
        .nth(1)
        .and_then(|rest| rest.split_once("\n`````\n"));
    let (quoted, after) = block.unwrap_or_else(|| panic!("no fence of five: {summary}"));
    assert!(
        quoted.contains("# heading") && quoted.contains("stderr    </details>"),
        "{quoted}"
    );
    assert_eq!(after.trim(), "</details>");
}

#[test]
fn a_judged_program_cannot_give_commands_to_the_runner() {
    let step = Step::new();
    let judged = step.judge(&[
        ("CONFORMANCE_WRAPPER", "/bin/true"),
        ("CONFORMANCE_OPTIONS", "--only=wrapper.deny.status/is-one"),
    ]);
    let text = String::from_utf8(judged.stdout).expect("UTF-8");
    let lines: Vec<_> = text.lines().collect();
    let token = lines[0]
        .strip_prefix("::stop-commands::")
        .expect("commands are stopped first");
    assert_eq!(token.len(), 32, "{token}");
    assert_eq!(lines.last(), Some(&format!("::{token}::").as_str()), "{text}");
}

#[test]
fn a_run_that_did_not_begin_is_told_and_fails_the_gate() {
    let step = Step::new();
    step.judge(&[("CONFORMANCE_WRAPPER", "/nonexistent")]);
    assert_eq!(step.output("status"), "2");
    let status = [("CONFORMANCE_STATUS", "2")];
    let output = step.run("python3", "summary.py", &[&step.output("report")], &status);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let annotations = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        annotations.starts_with("::error title=conformance::there is no report"),
        "{annotations}"
    );
    assert_eq!(step.output("failed"), "");
    let action = action();
    let gate = action["runs"]["steps"]
        .as_array()
        .and_then(|steps| steps.last())
        .expect("a last step");
    assert_eq!(gate["run"], "exit \"${CONFORMANCE_STATUS:-3}\"");
    assert_eq!(gate["if"], "${{ !cancelled() }}");
    assert_eq!(
        gate["env"]["CONFORMANCE_STATUS"],
        "${{ steps.judge.outputs.status }}"
    );
}

#[test]
fn a_run_that_judges_nothing_is_no_success() {
    let step = Step::new();
    step.judge(&[
        ("CONFORMANCE_WRAPPER", "/bin/true"),
        ("CONFORMANCE_OPTIONS", "--help"),
    ]);
    assert_eq!(step.output("status"), "3");

    let step = Step::new();
    step.judge(&[
        ("CONFORMANCE_WRAPPER", "/bin/true"),
        ("CONFORMANCE_OPTIONS", "--only=session.*"),
    ]);
    assert_eq!(step.output("status"), "4");
    let report = fs::read_to_string(step.output("report")).expect("a report");
    let annotations = step.summarize(&report, "4");
    assert!(
        annotations.starts_with("::error title=conformance::nothing was judged"),
        "{annotations}"
    );
    let summary = step.written("summary.md");
    assert!(
        summary.starts_with("## Conformance: nothing was judged\n"),
        "{summary}"
    );
}

#[test]
fn no_input_writes_an_output_of_its_own() {
    let step = Step::new();
    step.judge(&[
        ("CONFORMANCE_WRAPPER", "/bin/true"),
        ("CONFORMANCE_SHARD", "1/1\nstatus=0"),
    ]);
    assert_eq!(step.output("status"), "2");
    assert_eq!(step.output("part"), "1-1-status-0");
}

#[test]
fn a_long_wire_hides_no_command_that_repeats_the_case() {
    let step = Step::new();
    let case = json!({"id": "wrapper.run/a-script", "role": "wrapper", "level": "core", "outcome": "fail",
        "expected": "this", "observed": "that", "transcript": vec!["a line of the wire"; 1000],
        "stderr_tail": "last words", "reproduce": "conformance case wrapper.run/a-script"});
    let report = json!({"level": "core", "shard": "1/1", "seed": 7, "cases": [case], "summary": {"pass": 0, "fail": 1}});
    step.summarize(&report.to_string(), "1");
    let summary = step.written("summary.md");
    assert!(summary.len() < 6000, "{} bytes", summary.len());
    assert!(
        summary.contains("last words\nconformance case wrapper.run/a-script\n"),
        "{summary}"
    );
}
