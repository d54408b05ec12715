//! Random shell scripts, for the property that a wrapper does not show.
//!
//! Each script is deterministic: what runs at the same time never writes to the same place, readers read to the
//! end, loops count, and nothing prints a process id or a time. Scripts are built as text; proptest shrinks the
//! choices behind it, so a counter-example is a script too.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::peer::dialect::Dialect;
use crate::shown::Shown;

/// A script.
#[derive(Clone, Debug)]
pub struct RandomScript(pub String);

impl Shown for RandomScript {
    fn show(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\n{}", self.0)
    }
}

/// What each script begins with: variables, and that patterns without a match stay as they are.
fn preamble(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Bash => "v=value n=3 e=; a=(one 'two words' ''); set -- first 'second word' ''\n",
        Dialect::Zsh => {
            "setopt no_nomatch; v=value n=3 e=; a=(one 'two words' ''); set -- first 'second word' ''\n"
        }
        Dialect::Other => "v=value n=3 e=; set -- first 'second word' ''\n",
    }
}

/// Scripts of one to five statements.
pub fn script(dialect: Dialect) -> impl Strategy<Value = RandomScript> {
    let line = prop_oneof![
        5 => statement(dialect),
        1 => top_level(dialect),
    ];
    vec(line, 1..6).prop_map(move |lines| script_of(dialect, &lines))
}

/// Scripts that have each statement of a random one's vocabulary by itself, some to a script.
pub fn vocabulary(dialect: Dialect) -> Vec<RandomScript> {
    const TO_A_SCRIPT: usize = 6;
    let simple = simple_statements(dialect);
    let scripts = simple.chunks(TO_A_SCRIPT).map(|lines| script_of(dialect, lines));
    // What concerns the whole shell would change the statements after it.
    let top_level = top_level_statements(dialect);
    let alone = top_level.chunks(1).map(|line| script_of(dialect, line));
    scripts.chain(alone).collect()
}

fn script_of(dialect: Dialect, lines: &[impl AsRef<str>]) -> RandomScript {
    let mut text = preamble(dialect).to_owned();
    for line in lines {
        text.push_str(line.as_ref());
        text.push_str("\necho \"status $?\"\n");
    }
    RandomScript(with_copies_apart(&text))
}

/// Copies what passes by. The file is hidden, since a stage before it may list the folder meanwhile.
const COPYING: &str = "tee .copied";

/// Numbers the copies: stages of a pipeline run at the same time, and must not write to the same file.
fn with_copies_apart(text: &str) -> String {
    let mut parts = text.split(COPYING);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for (number, part) in parts.enumerate() {
        result.push_str(&format!("{COPYING}-{number}{part}"));
    }
    result
}

/// Statements that concern the whole shell, and stand in no subshell.
fn top_level(dialect: Dialect) -> BoxedStrategy<String> {
    select(top_level_statements(dialect))
        .prop_map(str::to_owned)
        .boxed()
}

fn top_level_statements(dialect: Dialect) -> Vec<&'static str> {
    let mut fixed = vec![
        "trap 'tool out:signal' USR1; kill -USR1 $$; trap - USR1",
        "trap 'tool out:exit; echo \"at exit $?\"' EXIT",
        "trap '' PIPE",
        "umask 027",
        "cd d; cd ..",
        "exec 3>third; tool out:third >&3; exec 3>&-",
        "f() { tool out:redefined; }",
        "unset v",
        "export v=exported",
        "tool() { echo \"function tool\"; }; tool out:x; unset -f tool",
        "hash -r",
        "set -f; tool out:*; set +f",
        "set -u; tool \"out:${v-unset}\"; set +u",
        "tool exit:3 & wait $!",
        "tool die:9",
        "PATH=$PATH:/usr/bin",
    ];
    match dialect {
        Dialect::Bash => fixed.extend([
            "set -o pipefail",
            "shopt -s lastpipe",
            "trap 'echo \"error $?\"' ERR",
            "a+=(more)",
            "declare -A map=([key]=value); tool \"out:${map[key]}\"",
            // The coprocess waits for a word: bash forgets its descriptors as soon as it has ended.
            "coproc { read -r go; tool out:coprocess; }; exec {from}<&\"${COPROC[0]}\"; echo go >&\"${COPROC[1]}\"; cat <&$from; wait; exec {from}<&-",
            "mapfile -t lines < <(tool out:one out:two); echo \"${#lines[@]}\"",
            "exec {descriptor}>opened; tool out:x >&$descriptor; exec {descriptor}>&-",
        ]),
        Dialect::Zsh => fixed.extend([
            "setopt pipefail",
            "a+=(more)",
            "typeset -A map; map=(key value); tool \"out:${map[key]}\"",
            "coproc tool out:coprocess; cat <&p; wait",
            "setopt sh_word_split; tool out:x $e; unsetopt sh_word_split",
            "ARGV0=other interpreted x",
        ]),
        Dialect::Other => {}
    }
    fixed
}

/// A word of a command, without a command in it.
fn word(dialect: Dialect) -> BoxedStrategy<String> {
    let mut fixed = vec![
        "plain",
        "'single quoted'",
        "\"double $v quoted\"",
        "\"$v\"",
        "$v",
        "$e",
        "''",
        "\\*",
        "a\\ b",
        "\"a\\\"b\\\\\"",
        "'*'",
        "*.txt",
        "f?",
        "[ab]*",
        "$((n + 4))",
        "$((n * n % 5))",
        "\"${v:-default}\"",
        "${e:-default}",
        "${#v}",
        "\"${v%e}\"",
        "${v#va}",
        "\"$#\"",
        "\"$2\"",
        "\"$*\"",
        "'\u{e9}\u{4e2d}'",
        "-x",
        "--",
        "~",
        "\"line\nbreak\"",
        "%s",
        "'$v'",
    ];
    if dialect != Dialect::Other {
        fixed.extend([
            "$'tab\\there'",
            "$'byte\\377'",
            "{x,y}z",
            "\"${a[1]}\"",
            "\"${a[@]}\"",
            "${#a[@]}",
            "${v/a/b}",
            "\"${v:1:2}\"",
        ]);
    }
    select(fixed).prop_map(str::to_owned).boxed()
}

/// A simple command without redirections. May write to both outputs, reads standard input only to its end.
fn simple(dialect: Dialect) -> BoxedStrategy<String> {
    let with_words = (
        select(vec![
            "/bin/echo",
            "echo",
            "printf '<%s>'",
            "/usr/bin/printf '[%s]\\n'",
            "interpreted",
            "bare",
            "sh -c 'echo \"$0 $#\"; exit 4' name",
            "command echo",
            "f",
            "set --",
            "no-such-command",
            "env X=1 interpreted",
            "X=prefixed interpreted",
        ]),
        vec(word(dialect), 0..4),
    )
        .prop_map(|(command, words)| {
            std::iter::once(command.to_owned())
                .chain(words)
                .collect::<Vec<_>>()
                .join(" ")
        });
    let fixed = select(simple_statements(dialect)).prop_map(str::to_owned);
    prop_oneof![with_words, fixed].boxed()
}

/// Simple commands without words that are drawn.
fn simple_statements(dialect: Dialect) -> Vec<&'static str> {
    let mut fixed = vec![
        "tool out:text",
        "tool out:text err:message exit:3",
        "tool exit:0",
        "tool exit:1",
        "tool exit:126",
        "tool exit:255",
        "( tool die:15 )",
        "tool err:only",
        "cat",
        "cat alpha 'gamma file'",
        "cat missing",
        "true",
        "false",
        ":",
        "ls",
        "ls -d d/* ../work",
        "mkdir -p made/deeper",
        "touch f1 f2",
        "rm -f f1",
        "cp alpha f2",
        "ln -sf alpha link",
        "chmod 600 alpha",
        "wc -c <data.bin",
        "od -An -tx1 data.bin",
        "sort <beta.txt",
        "expr 3 + 4",
        "test -f f1",
        "[ -d d ]",
        "pwd",
        "sh -c 'umask; pwd'",
        "env | grep -v -e EXEC_WRAPPER -e CODEX_ESCALATE | sort",
        "./no/such/path 2>/dev/null",
        "./alpha 2>/dev/null",
        "./d 2>/dev/null",
        "/usr/bin/printf 'bytes \\200\\377\\n'",
        "read line <beta.txt; echo \"$line\"",
        "eval 'tool out:evaluated'",
        ". ./sourced",
        "nested 'tool out:nested; exit 6'",
        "nested 'tool out:a | cat; echo \"$0 $1\"' zero one",
        "xargs -n 1 /bin/echo item <beta.txt",
        "find d -name 'i*'",
        "sleep 0",
        "type tool >/dev/null",
        "kill -0 $$",
        "shift",
    ];
    if dialect != Dialect::Other {
        fixed.extend([
            "[[ -f f1 && $v == v* ]]",
            "(( n > 2 ))",
            "let n+=1",
            "cat <<<\"here $v\"",
            "cat <(tool out:substituted) <(echo second)",
            "exec_in_subshell() { ( exec -a other interpreted \"$@\" ); }; exec_in_subshell 1 2",
            "printf '%s\\n' \"${a[@]}\" | sort",
            "builtin echo built in",
        ]);
    }
    fixed
}

/// A stage after the first of a pipeline: reads to the end, and writes to standard output only.
fn filter(dialect: Dialect) -> BoxedStrategy<String> {
    let _ = dialect;
    select(vec![
        "cat",
        "tool copy",
        "tr a-z A-Z",
        "sort",
        "sed 's/e/E/g'",
        "wc -l",
        "tail -n 2",
        "od -c",
        "uniq -c",
        "cut -c1-5",
        "{ cat; echo after; }",
        "( tool copy exit:2 )",
        "while read -r line; do echo \"<$line>\"; done",
        "while read -r line; do tool \"out:$line\" </dev/null; done",
        "{ read -r first; tool \"out:$first\" </dev/null; cat >/dev/null; }",
        "grep -c e",
        COPYING,
    ])
    .prop_map(str::to_owned)
    .boxed()
}

/// What comes after a command or a compound one.
fn redirection() -> BoxedStrategy<String> {
    select(vec![
        ">written",
        ">>written",
        "2>errors",
        ">both 2>&1",
        "2>&1",
        "<alpha",
        "<data.bin",
        "</dev/null",
        "3>&1 1>third 3>&-",
        "<&-",
        "2>/dev/null",
        ">d/file",
        "<missing",
        ">missing/file",
        "<<E\nhere $v and $(tool out:inner)\nE\n",
        "<<'E'\nliteral $v $(no)\nE\n",
        "<<-E\n\ttabs\n\tE\n",
    ])
    .prop_map(str::to_owned)
    .boxed()
}

/// Any statement.
fn statement(dialect: Dialect) -> BoxedStrategy<String> {
    simple(dialect)
        .prop_recursive(4, 24, 3, move |inner| compound(dialect, inner))
        .boxed()
}

fn compound(dialect: Dialect, inner: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let one = || inner.clone();
    let pair = || (inner.clone(), inner.clone());
    let pipeline = (one(), vec(filter(dialect), 1..4))
        .prop_map(|(first, stages)| format!("{{ {first}\n}} 2>/dev/null | {}", stages.join(" | ")));
    prop_oneof![
        4 => pair().prop_map(|(a, b)| format!("{a}\n{b}")),
        3 => pipeline,
        3 => (one(), redirection()).prop_map(|(a, to)| format!("{{ {a}\n}} {to}")),
        2 => pair().prop_map(|(a, b)| format!("{{ {a}\n}} && {{ {b}\n}}")),
        2 => pair().prop_map(|(a, b)| format!("{{ {a}\n}} || {{ {b}\n}}")),
        2 => one().prop_map(|a| format!("( {a}\n)")),
        2 => one().prop_map(|a| format!("x=$( {a}\n); echo \"$x $?\"")),
        1 => one().prop_map(|a| format!("echo \"in quotes: $( {a}\n)\"")),
        1 => one().prop_map(|a| format!("! {{ {a}\n}}")),
        1 => (one(), one(), one())
            .prop_map(|(a, b, c)| format!("if {a}\nthen {b}\nelse {c}\nfi")),
        1 => one().prop_map(|a| format!("for i in 1 2; do {a}\ndone")),
        1 => one().prop_map(|a| format!("k=0; while [ $k -lt 2 ]; do k=$((k + 1)); {a}\ndone")),
        1 => (word(dialect), one())
            .prop_map(|(word, a)| format!("case {word} in v*|p*) {a}\n;; *) tool out:default;; esac")),
        // No simple command is called so: a function that calls itself would never end.
        1 => one().prop_map(|a| format!("called() {{ {a}\n}}\ncalled argument; unset -f called")),
        1 => one().prop_map(|a| format!("{{ {a}\n}} >background 2>&1 & wait $!")),
        1 => one().prop_map(|a| format!("( set -e; {a}\ntool out:reached )")),
        1 => one().prop_map(|a| format!("( trap 'tool out:trap' EXIT; {a}\n)")),
        1 => one().prop_map(|a| format!("( cd d; {a}\n)")),
        1 => local(dialect, one()),
        1 => extension(dialect, one()),
    ]
    .boxed()
}

/// A function with variables of its own.
fn local(dialect: Dialect, inner: BoxedStrategy<String>) -> BoxedStrategy<String> {
    inner
        .prop_map(move |a| match dialect {
            Dialect::Other => format!("g() {{ {a}\n}}\ng \"$v\""),
            Dialect::Bash | Dialect::Zsh => {
                format!("g() {{ local v=local x=1; {a}\necho \"$v\"; return 7; }}\ng \"$v\"")
            }
        })
        .boxed()
}

/// What only bash and zsh can say.
fn extension(dialect: Dialect, inner: BoxedStrategy<String>) -> BoxedStrategy<String> {
    if dialect == Dialect::Other {
        return inner.prop_map(|a| format!("( exec 2>/dev/null; {a}\n)")).boxed();
    }
    let statuses = dialect.pipeline_statuses().unwrap_or("$?");
    (0..5_usize, inner)
        .prop_map(move |(choice, a)| match choice {
            0 => format!("cat <( {a}\n) 2>/dev/null"),
            // What is substituted is not waited for, but who reads the pipe to its end sees all of it.
            1 => format!("{{ {{ {a}\n}} 2>/dev/null > >(cat >&3); }} 3>&1 | cat"),
            2 => format!("{{ {a}\n}} |& sort | cat; echo \"{statuses}\""),
            3 => format!("( set -o pipefail; {{ {a}\n}} 2>/dev/null | cat; echo \"{statuses}\" )"),
            _ => format!(
                "while read -r l; do tool \"out:$l\" </dev/null; done < <( {{ {a}\n}} 2>/dev/null | sort )"
            ),
        })
        .boxed()
}
