//! Policy files as hostile bytes: what a person mistypes must be refused, or mean what it says.

use fuzz::{Bounds, Probe, Target};

use super::denied;
use crate::policy::{Complaint, EscalationPolicy, PolicyFile, PolicyRequest};

#[rustfmt::skip]
const WORDS: &[&[u8]] = &[
    b"default = ", b"\"run\"", b"\"escalate\"", b"\"deny\"", b"\"prompt\"", b"[[rule]]\n", b"program = ", b"action = ", b"argv = [",
    b"argv_exact = ", b"workdir = ", b"reason = ", b"env = ", b"\"request\"", b"\"everything\"", b"[\"PATH\", \"LC_*\"]",
    b"say_env = true\n", b"replaceable = true\n", b"in_place = true\n", b"anywhere = true\n", b"'''", b"\"\"\"", b"\\u0000", b"/usr/bin/*", b"{a,b}", b"[!a]",
    b"**", b"true", b"1979-05-27", b"[rule]", b"rule = []\n", b".", b"{ a = 1 }",
];

/// Whether a policy denies a program.
fn denies(policy: &PolicyFile, program: &str, runtime: &tokio::runtime::Runtime) -> bool {
    let decision = runtime.block_on(policy.decide(&PolicyRequest::new(program)));
    decision.is_ok_and(|decision| denied(&decision))
}

#[test]
fn policy_files() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/policies");
    let mut corpus: Vec<Vec<u8>> = std::fs::read_dir(fixtures)
        .expect("the folder of policies")
        .map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a policy"))
        .collect();
    corpus.sort();
    corpus.push(
        b"default = \"run\"\n[[rule]]\nprogram = \"/usr/bin/git\"\nargv_exact = [\"fetch\"]\nworkdir = \"/srv/**\"\n\
          env = [\"LC_*\"]\naction = \"escalate\"\nsay_env = true\nreplaceable = false\n\
          [[rule]]\nprogram = 'rm'\naction = 'deny'\nreason = \"\"\"no\"\"\"\n"
            .to_vec(),
    );
    corpus.push(
        b"rule = [{ program = \"ls\", action = \"prompt\", reason = \"why\" }]\ndefault = \"deny\"\n"
            .to_vec(),
    );
    let target = Target {
        name: "policy-file",
        corpus,
        words: WORDS,
        bounds: Bounds {
            // A glob becomes an automaton.
            memory: |length| 4096 * length + (1 << 20),
            time: |length| 20 * Bounds::linear_time(length),
        },
    };
    target.run(|input: &[u8], probe: &mut Probe| {
        let Ok(text) = std::str::from_utf8(input) else {
            return Ok(false);
        };
        match probe.measure(|| PolicyFile::parse(text)) {
            Err(Complaint { line, message, .. }) => {
                let lines = text.split('\n').count();
                if !(1..=lines).contains(&line) {
                    return Err(format!("line {line} of {lines} is named: {message}"));
                }
                if message.is_empty() || message.contains(char::is_control) {
                    return Err(format!("the complaint is not one line of text: {message:?}"));
                }
                Ok(false)
            }
            Ok(_) => {
                if toml::from_str::<toml::Table>(text).is_err() {
                    return Err("it is not TOML".to_owned());
                }
                // To rules in one line no table can be added.
                if !text.contains("[[rule]]") || text.contains("rule = [") {
                    return Ok(true);
                }
                let program = "/nonexistent/denied";
                let more = format!("{text}\n[[rule]]\nprogram = \"{program}\"\naction = \"deny\"\n");
                match PolicyFile::parse(&more) {
                    Ok(policy) if denies(&policy, program, &runtime) => Ok(true),
                    Ok(_) => Err("a deny at its end does not win".to_owned()),
                    Err(complaint) => Err(format!("with a deny at its end, {complaint}")),
                }
            }
        }
    });
}
