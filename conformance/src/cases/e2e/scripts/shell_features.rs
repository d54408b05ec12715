//! e2e.scripts: what shells have beside pipelines, and programs that go on beside the script.

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::dialect::{Dialect, no_such_syntax};
use crate::spec::requirements::{Level, Role};
use crate::stage::e2e::{commands, installed, same_under_both};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.scripts/coprocesses", coprocesses).at(Level::Faithful),
    case("e2e.scripts/files-of-the-shell", files_of_the_shell).at(Level::Faithful),
    case("e2e.scripts/in-the-shell-itself", in_the_shell_itself).at(Level::Faithful),
    case("e2e.scripts/first-to-end", first_to_end).at(Level::Faithful),
    case("e2e.scripts/signals-to-the-shell", signals_to_the_shell).at(Level::Faithful),
    case("e2e.scripts/killed-pipeline", killed_pipeline).at(Level::Faithful),
    case("e2e.scripts/agent", agent).at(Level::Faithful),
    case("e2e.scripts/two-hundred-megabytes", two_hundred_megabytes).at(Level::Faithful).within_seconds(90),
]);

/// A coprocess is written to and read from, and ends with its input. zsh has one on a terminal of its own, too.
fn coprocesses(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let script = match Dialect::of(context) {
        Dialect::Bash => {
            "coproc tool copy; pid=$COPROC_PID; echo one >&${COPROC[1]}; read -r x <&${COPROC[0]}; echo \"got $x\"; \
             sh -c 'echo two' >&${COPROC[1]}; sh -c 'read -r x; echo \"got $x\"' <&${COPROC[0]}; \
             exec {COPROC[1]}>&-; wait $pid; echo $?; coproc NAMED { tool copy exit:5; }; pid=$NAMED_PID; \
             exec {NAMED[1]}>&-; wait $pid; echo $?"
        }
        Dialect::Zsh => {
            "coproc tool copy; print -p one; read -p x; echo \"got $x\"; sh -c 'echo two' >&p; sh -c 'read -r x; echo \"got $x\"' <&p; \
             coproc exit; wait; echo $?; zmodload zsh/zpty || exit 9; zpty -b name tool line out:typed copy; zpty -w name one; \
             zpty -r -m name x '*typed*' && echo heard; zpty -d name; zpty; echo $?"
        }
        Dialect::Other => return Err(no_such_syntax("coprocesses")),
    };
    same_under_both(context, script, &["tool", "sh"])
}

/// Files and pipes that the shell makes for a command: `=(…)`, several outputs and several inputs; `>(…)` that outlives it. The
/// shells don't wait for each process behind these, so the scripts do: with the session what is still escalated would end.
fn files_of_the_shell(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let (script, names) = match Dialect::of(context) {
        Dialect::Bash => (
            "rm -f gate ended-?; mkfifo gate; tool out:one > >(cat >one; echo done >gate); read -r x <gate; cat one; \
             cat <(cat <(tool out:two)) <(tool out:three); tool out:four | tee >(cat >four; echo done >gate) >copy; \
             read -r x <gate; cat four copy; diff <(tool out:a; : >ended-a) <(tool out:b; : >ended-b); echo $?; \
             until [ -e ended-a ] && [ -e ended-b ]; do :; done",
            ["tool", "cat", "tee", "diff"],
        ),
        Dialect::Zsh => (
            "rm -f ended; cat =(tool out:one) =(tool out:two); cp =(tool out:three) three; cat three; sh -c 'test -f $0; echo $?' =(tool out:x); \
             tool out:four >a >b; until [ -s a ] && [ -s b ]; do :; done; cat a b; tool out:five >c | tool sum; until [ -s c ]; do :; done; \
             cat c; cat <a <b <c; tool out:six >>a >>|b; until grep -q six a && grep -q six b; do :; done; cat a b; \
             diff <(tool out:a; : >ended) =(tool out:b); echo $?; until [ -e ended ]; do :; done",
            ["tool", "cat", "cp", "diff"],
        ),
        Dialect::Other => return Err(no_such_syntax("temporary files of commands")),
    };
    same_under_both(context, script, &names)
}

/// Commands whose output or end the shell takes without a process of its own between: `lastpipe`, `${ …; }` where there is one, a
/// handler for each command; and a name that means another program after a change of PATH.
fn in_the_shell_itself(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let handled = match Dialect::of(context) {
        Dialect::Bash => {
            "shopt -s lastpipe; eval 'x=${ tool out:inline exit:3; }; echo $x $?' 2>/dev/null; echo $?"
        }
        Dialect::Zsh => "(ARGV0=zeroth sh -c 'echo $0'); repeat 2 tool out:twice; - sh -c 'echo $0'",
        Dialect::Other => return Err(no_such_syntax("lastpipe and DEBUG")),
    };
    let script = format!(
        "{handled}\ntool out:last exit:4 | read -r x; echo $x; trap 'tool out:before' DEBUG; tool out:one; trap - DEBUG; tool out:two\n\
         sh -c 'exit 5'; mkdir -p d; printf '#!/bin/sh\\necho another; exit 6\\n' >d/sh; chmod +x d/sh; PATH=$PWD/d:$PATH; sh; echo $?; rm -r d"
    );
    same_under_both(context, &script, &["tool", "sh"])
}

/// `wait -n` tells of whichever background command ends first; in zsh a handler does, which knows those that are left.
fn first_to_end(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let script = match Dialect::of(context) {
        Dialect::Bash => {
            "rm -f slow slower; mkfifo slow slower; tool line exit:3 <slow & tool line exit:4 <slower & exec 8>slow 9>slower\n\
             tool exit:5 & wait -n; echo $?; echo >&8; wait -n; echo $?; echo >&9; wait -n -p which; echo $? ${which:+known}\n\
             wait -n; echo $?; tool exit:6 & wait -n $!; echo $?"
        }
        Dialect::Zsh => {
            "rm -f slow slower; mkfifo slow slower; zmodload zsh/parameter; tool line exit:3 <slow & one=$!; tool line exit:4 <slower & two=$!\n\
             exec 8>slow 9>slower; TRAPCHLD() { echo \"one has ended, left: ${(v)jobstates%%:*}\"; }; tool exit:5 & wait $!; echo $?\n\
             echo >&8; wait $one; echo $?; echo >&9; wait $two; echo $?; wait; echo $?; tool exit:6 & wait $!; echo $?"
        }
        Dialect::Other => return Err(no_such_syntax("the first of several commands to end")),
    };
    same_under_both(context, script, &["tool"])
}

/// A command signals its shell, and the shell itself, each of which the shell's handler hears about; also while it waits.
fn signals_to_the_shell(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let handler = match Dialect::of(context) {
        Dialect::Zsh => "TRAPUSR1() { echo \"caught $1\"; return 0; }",
        Dialect::Bash | Dialect::Other => "trap 'echo caught 10' USR1",
    };
    let script = format!(
        "{handler}\nkill -USR1 $$; sh -c 'kill -USR1 '$$; echo $?; x=$(sh -c 'kill -USR1 '$$; echo text); echo $x\n\
         rm -f gate; mkfifo gate; tool line exit:7 <gate & pid=$!; exec 8>gate; trap 'echo caught again; echo >&8' USR1\n\
         (sh -c 'kill -USR1 '$$) & while wait $pid; s=$?; [ $s -gt 128 ]; do :; done; echo $s\n\
         trap 'echo left' EXIT; (trap 'echo left the subshell' EXIT; tool exit:3); echo $?; tool exit:8"
    );
    same_under_both(context, &script, &["tool", "sh"])
}

/// A pipeline in the background that is killed as a group ends as a whole. Without a terminal zsh has no job control, so for it
/// only `e2e.tty.job/pipeline-killed` asks for this.
fn killed_pipeline(context: &mut Context) -> Verdict {
    if Dialect::of(context) != Dialect::Bash {
        return Err(no_such_syntax("job control in a script"));
    }
    commands(context, ["tool"])?;
    let script = "set -m; { for s in TERM HUP USR1; do rm -f one two; tool touch:one pause | tool touch:two pause &\n\
        until [ -e one ] && [ -e two ]; do :; done; kill -$s -- -$(jobs -p); wait $!; echo $?; done; } 2>/dev/null";
    same_under_both(context, script, &["tool"])
}

/// An agent that a script starts serves the commands after it until it is ended.
fn agent(context: &mut Context) -> Verdict {
    for name in ["ssh-agent", "ssh-add", "ssh-keygen"] {
        installed(name)?;
    }
    let script = "ssh-keygen -q -t ed25519 -N '' -f key; eval \"$(ssh-agent -s -a ./agent)\" >/dev/null; ssh-add -l; echo $?\n\
        ssh-add -q key; echo $?; ssh-add -l | wc -l; sh -c 'ssh-add -L' | cmp - key.pub; echo $?; ssh-add -q -D; echo $?; ssh-add -l\n\
        kill -0 $SSH_AGENT_PID; echo $?; ssh-agent -k >/dev/null; echo $?; while ssh-add -l >/dev/null 2>&1; [ $? -ne 2 ]; do :; done; rm -f key key.pub agent";
    same_under_both(context, script, &["ssh-keygen", "ssh-agent", "ssh-add", "sh"])
}

/// As much through pipes of escalated commands as nothing on the way could hold.
fn two_hundred_megabytes(context: &mut Context) -> Verdict {
    let script = "head -c 200000000 /dev/zero | cat | cksum; x=$(head -c 200000000 /dev/zero | tr '\\0' x | wc -c); echo $((x))";
    same_under_both(context, script, &["head", "cat", "cksum", "tr", "wc"])
}
