//! What a question to a policy costs, by the number of its rules: `cargo run --release --example policy-figures`, with
//! `--features rules` also for `.rules` files. Microseconds per question, the median of rounds that take turns.

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use shell_escalation::{EscalationPolicy, PolicyFile, PolicyRequest};

const SIZES: [usize; 3] = [10, 1_000, 10_000];
const ROUNDS: usize = 41;
const QUESTIONS: u32 = 200;

/// A kind of rules, of which the last one is for `/usr/bin/env last`, if any.
struct Kind {
    name: &'static str,
    policy: fn(usize) -> PolicyFile,
}

fn main() {
    let mut kinds = vec![
        Kind {
            name: "a name each",
            policy: |size| table(size, |rule| format!("program = \"tool{rule}\"")),
        },
        Kind {
            name: "a path each",
            policy: |size| table(size, |rule| format!("program = \"/opt/{rule}/tool\"")),
        },
        Kind {
            name: "one program, an argument each",
            policy: |size| table(size, |rule| format!("program = \"env\"\nargv = [\"word{rule}\"]")),
        },
        Kind {
            name: "a glob each",
            policy: |size| table(size, |rule| format!("program = \"/opt/{rule}/**\"")),
        },
    ];
    kinds.extend(of_rules_files());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut request = PolicyRequest::new("/usr/bin/env");
    request.argv.push("last".into());
    println!(
        "{:36} {:>10} {:>10} {:>10}   difference",
        "", SIZES[0], SIZES[1], SIZES[2]
    );
    for kind in kinds {
        let policies = SIZES.map(kind.policy);
        let mut times: [Vec<Duration>; SIZES.len()] = Default::default();
        for _ in 0..ROUNDS {
            for (policy, times) in policies.iter().zip(&mut times) {
                let start = Instant::now();
                for _ in 0..QUESTIONS {
                    let decision = runtime.block_on(policy.decide(black_box(&request)));
                    black_box(decision.expect("a decision"));
                }
                times.push(start.elapsed() / QUESTIONS);
            }
        }
        let medians = times.map(|mut times| {
            times.sort();
            times[ROUNDS / 2].as_secs_f64() * 1e6
        });
        let [few, .., many] = medians;
        let columns: String = medians.iter().map(|median| format!(" {median:>10.2}")).collect();
        println!("{:36}{columns}   {:+.2}", kind.name, many - few);
    }
}

/// A policy file of so many rules, and one for `/usr/bin/env last`.
fn table(size: usize, program: impl Fn(usize) -> String) -> PolicyFile {
    let mut text = "default = \"run\"\n".to_owned();
    for rule in 1..size {
        writeln!(text, "[[rule]]\n{}\naction = \"deny\"", program(rule)).expect("a string");
    }
    text.push_str("[[rule]]\nprogram = \"/usr/bin/env\"\nargv = [\"last\"]\naction = \"run\"\n");
    PolicyFile::parse(&text).expect("a policy")
}

#[cfg(not(feature = "rules"))]
fn of_rules_files() -> Vec<Kind> {
    Vec::new()
}

#[cfg(feature = "rules")]
fn of_rules_files() -> Vec<Kind> {
    fn file(size: usize, pattern: impl Fn(usize) -> String) -> PolicyFile {
        let mut text = String::new();
        for rule in 1..size {
            writeln!(
                text,
                "prefix_rule(pattern = [{}], decision = \"forbidden\")",
                pattern(rule)
            )
            .expect("a string");
        }
        text.push_str("prefix_rule(pattern = [\"env\", \"last\"], decision = \"prompt\")\n");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.rules");
        std::fs::write(&path, text).expect("a file");
        PolicyFile::run_everything().with_rules(&path).expect("rules")
    }
    vec![
        Kind {
            name: ".rules: a name each",
            policy: |size| file(size, |rule| format!("\"tool{rule}\"")),
        },
        Kind {
            name: ".rules: one program, an argument each",
            policy: |size| file(size, |rule| format!("\"env\", \"word{rule}\"")),
        },
    ]
}
