//! `run` within `run`: each decides about its own commands.

use super::shells::escalating;

#[test]
fn a_run_within_a_run_is_like_the_command_alone() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, decision: &str, script: &str| {
        let policy = folder.path().join(decision);
        std::fs::write(&policy, format!("default = \"{decision}\"\n")).unwrap();
        let mut run = escalating("run", name, &policy);
        run.args(["--sandbox", "full-access", "--", script]);
        run
    };
    for name in ["bash-5.3", "zsh-5.9"] {
        for outer in ["run", "escalate"] {
            for inner in ["run", "escalate", "deny"] {
                let within = run(name, inner, "echo in; sh -c 'cat; exit 7'");
                let words = std::iter::once(within.get_program()).chain(within.get_args());
                let quoted: Vec<String> = words
                    .map(|word| shlex::try_quote(word.to_str().unwrap()).unwrap().into_owned())
                    .collect();
                let script = format!("echo text | {}; echo $?", quoted.join(" "));
                let output = run(name, outer, &script).output().unwrap();
                let expected = if inner == "deny" {
                    "in\n1\n"
                } else {
                    "in\ntext\n7\n"
                };
                let shown = String::from_utf8_lossy(&output.stdout);
                assert_eq!(shown, expected, "{name}, {outer}, within it {inner}: {output:?}");
            }
        }
    }
}
