//! e2e.scripts: what has been reported as broken of systems that stand between a shell and its commands.

use std::os::unix::fs::symlink;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::spec::requirements::{Level, Role};
use crate::stage::e2e::{commands, installed, same_under_both};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.scripts/readiness-by-a-closed-descriptor", readiness_by_a_closed_descriptor).at(Level::Faithful),
    case("e2e.scripts/process-left-behind", process_left_behind).at(Level::Faithful),
    case("e2e.scripts/megabytes-of-input", megabytes_of_input).at(Level::Faithful),
    case("e2e.scripts/sixty-stages", sixty_stages).at(Level::Faithful).within_seconds(90),
    case("e2e.scripts/arguments-that-are-too-long", arguments_that_are_too_long).at(Level::Faithful),
    case("e2e.scripts/locks", locks).at(Level::Faithful),
    case("e2e.scripts/child-ends-ignored", child_ends_ignored).at(Level::Faithful),
    case("e2e.scripts/executed-by-others", executed_by_others).at(Level::Faithful),
    case("e2e.scripts/timeouts", timeouts).at(Level::Faithful),
    case("e2e.scripts/job-server", job_server).at(Level::Faithful),
]);

/// A service says that it is ready by closing a descriptor, and goes on.
fn readiness_by_a_closed_descriptor(context: &mut Context) -> Verdict {
    let service = "echo ready >&3; exec 3>&-; read -r line <gate; echo \"went on: $line\" >log";
    let script = format!(
        "rm -f gate log; mkfifo gate; (sh -c '{service}' 3>&1 >/dev/null &) | cat; echo 'end of file'\n\
         echo more >gate; until [ -s log ]; do :; done; cat log"
    );
    same_under_both(context, &script, &["sh", "cat"])
}

/// A command's status comes when it has ended, though a process that it has left behind holds its output.
fn process_left_behind(context: &mut Context) -> Verdict {
    // A gate for each: a writer that finds the last reader still there doesn't wait for the next.
    let leaves = |gate| format!("sh -c '(read -r line <gate{gate}) & exit 3'");
    let script = format!(
        "rm -f gate1 gate2 gate3 gate4; mkfifo gate1 gate2 gate3 gate4\n{}; echo $?; echo go >gate1\n{} || echo failed; echo go >gate2\n\
         {} >file; echo $?; echo go >gate3\necho x | {}; echo $?; echo go >gate4",
        leaves(1),
        leaves(2),
        leaves(3),
        leaves(4)
    );
    same_under_both(context, &script, &["sh"])
}

/// Here-documents of more than a pipe holds.
fn megabytes_of_input(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let mut script = "v=$(head -c 3000000 /dev/zero | tr '\\0' x)\ntool sum <<END\n$v\nEND\ncat <<END | tool sum\n$v\nEND\n\
        x=$(cat <<END\n$v\nEND\n); echo ${#x}\n"
        .to_owned();
    if Dialect::of(context) != Dialect::Other {
        script.push_str("tool sum <<<\"$v\"; tool sum < <(cat <<<\"$v\")\n");
    }
    same_under_both(context, &script, &["tool", "cat"])
}

/// A pipeline of sixty commands.
fn sixty_stages(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let script = format!(
        "tool pattern:300000 {}| tool sum; echo $?",
        "| tool copy ".repeat(58)
    );
    same_under_both(context, &script, &["tool"])
}

/// Near the system's limit, and above it.
fn arguments_that_are_too_long(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let script = "w=$(head -c 100000 /dev/zero | tr '\\0' x); set -- $w $w $w $w $w $w $w $w $w; set -- \"$@\" \"$@\" $w\n\
        sh -c 'echo $# ${#1}; exit 5' sh \"$@\"; echo $?; tool out:${w}${w}; echo $?; sh -c : sh \"$w$w\"; echo $?";
    same_under_both(context, script, &["sh"])
}

/// A lock goes with the open file, whichever process has it.
fn locks(context: &mut Context) -> Verdict {
    let script = "exec 8>lock; flock 8; flock -n 8 && echo ours; sh -c 'flock -n 8 && echo shared'\n\
        flock -n lock echo taken || echo held; sh -c 'exec 8>&-; flock -n lock echo taken' || echo held\n\
        exec 8>&-; flock -n lock echo taken";
    same_under_both(context, script, &["flock", "sh"])
}

/// A shell that ignores the ends of its children knows their statuses.
fn child_ends_ignored(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let script = "trap '' CHLD; tool exit:7; echo $?; sh -c 'exit 8'; echo $?; sh -c 'sh -c \"exit 9\"; echo $?'\n\
        tool die:9; echo $?; sh -c 'exit 6' & wait $!; echo $?; tool exit:4 | tool exit:5; echo $?; x=$(sh -c 'echo y; exit 3'); echo $x $?";
    same_under_both(context, script, &["tool", "sh"])
}

/// Commands that execute commands.
fn executed_by_others(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let mut script = "env -i A=1 env; env A=2 sh -c 'echo $A'; echo a b c | xargs -n 1 -P 1 tool out:x; mkdir -p d; : >d/f\n\
        find d -type f -exec tool out:found {} +; find d -name f -exec sh -c 'echo $0' {} ';'; nohup sh -c 'echo away' 2>/dev/null | cat\n\
        nice sh -c 'echo nice'; (cd d && ls); exec 5<d/f; sh -c 'read -r x <&5; echo $?'; exec 5<&-; sh -c 'echo $0 $1' zero one\n"
        .to_owned();
    if Dialect::of(context) != Dialect::Other {
        script.push_str("(exec -a zeroth sh -c 'echo $0'); (exec -c env | grep -c '^HOME='); echo $?\n");
    }
    let names = ["env", "xargs", "find", "sh", "nohup", "nice", "ls"];
    same_under_both(context, &script, &names)
}

/// timeout(1) before a command, within a pipeline and around a shell.
fn timeouts(context: &mut Context) -> Verdict {
    let script = "timeout 50 echo in time; echo $?; timeout 0.2 sleep 100; echo $?; timeout -s KILL 0.2 sleep 100; echo $?\n\
        timeout --preserve-status -s INT 0.2 sleep 100; echo $?; timeout 50 sh -c 'exit 9'; echo $?; echo piped | timeout 50 cat; echo $?\n\
        timeout -k 50 0.2 sh -c 'trap \"echo asked; exit 3\" TERM; while :; do :; done'; echo $?";
    same_under_both(context, script, &["timeout"])
}

/// make's job server is a pipe that its recipes inherit, which are executed by the shell.
fn job_server(context: &mut Context) -> Verdict {
    let make = installed("make")?;
    std::fs::create_dir_all(context.path("bin"))?;
    symlink(make, context.path("bin/sub-make"))?;
    let makefile = "all: a b c d\na b c d:\n\t+@sub-make -s part > $@; cat $@\npart:\n\t@echo part\n";
    // Newer ones use a named pipe unless they are told.
    let script = format!(
        "printf '{}' >Makefile; rm -f a b c d; pipe=$(make --help | sed -n 's/^ *--jobserver-style=.*/--jobserver-style=pipe/p')\n\
         make -s -j3 $pipe SHELL=\"$0\"; echo $?; make -s -q; echo $?",
        makefile.replace('\n', "\\n").replace('\t', "\\t")
    );
    same_under_both(context, &script, &["sub-make"])
}
