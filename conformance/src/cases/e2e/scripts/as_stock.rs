//! e2e.scripts: a script does under each decision what it does in the stock shell.

use std::os::unix::fs::symlink;

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::dialect::Dialect;
use crate::peer::program::Program;
use crate::probe::plan::Act;
use crate::spec::requirements::{Level, Role};
use crate::stage::e2e::{commands, same_under_both};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.scripts/process-substitution", process_substitution).at(Level::Faithful),
    case("e2e.scripts/many-descriptors", many_descriptors).at(Level::Faithful),
    case("e2e.scripts/ordinary", ordinary).at(Level::Faithful),
    case("e2e.scripts/executed-as", executed_as).at(Level::Faithful),
    case("e2e.scripts/umask", umask).at(Level::Faithful).needs("umask"),
]);

/// `<(…)` and a descriptor above 2 reach the escalated command by their numbers.
fn process_substitution(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    let mut script =
        "echo third >three; cat /dev/fd/3 3<three; cat /proc/self/fd/5 5<three; sh -c 'cat <&4' 4<three; echo $?\n".to_owned();
    if Dialect::of(context) != Dialect::Other {
        script.push_str("cat <(echo a) <(tool out:b | cat); cat < <(tool out:c); tool out:d > >(cat >consumed); paste <(echo x) <(echo y)\n");
    }
    same_under_both(context, &script, &["cat", "sh", "tool", "paste"])
}

/// Ten descriptors beside 0, 1 and 2.
fn many_descriptors(context: &mut Context) -> Verdict {
    let script = "for n in 3 4 5 6 7 8 9; do echo $n >file$n; done\n\
        sh -c 'cat <&3; cat <&4; cat <&5; cat <&6; cat <&7; cat <&8; cat <&9' 3<file3 4<file4 5<file5 6<file6 7<file7 8<file8 9<file9\n\
        sh -c 'echo out >&8; echo more >&9' 8>out8 9>>file9; cat out8 file9; sh -c 'echo x >&3' 3>&1; sh -c 'cat <&7' 7<&- 2>/dev/null; echo $?";
    same_under_both(context, script, &["sh"])
}

/// The ordinary script, with its commands under each decision.
fn ordinary(context: &mut Context) -> Verdict {
    commands(context, ["tool"])?;
    context.write_file("bin/script", b"#!/bin/sh\necho \"script: $*\"\n", 0o755)?;
    context.write_file("bin/bare", b"echo bare: \"$*\"\nexit 4\n", 0o755)?;
    context.write_file("bin/unexecutable", b"", 0o644)?;
    let script = include_str!("../../../../../fixtures/scripts/ordinary.sh");
    same_under_both(context, script, &["tool", "script", "bare"])
}

/// A command sees itself executed by the same name as in the stock shell, whichever way its name was found.
fn executed_as(context: &mut Context) -> Verdict {
    let folder = context.work_directory().join("d");
    std::fs::create_dir(&folder)?;
    let tool = Program::at(context, &folder.join("tool"), [Act::Arguments])?;
    symlink("tool", folder.join("link"))?;
    commands(context, ["own-name"])?;
    symlink("own-name", context.path("bin/other-name"))?;
    let mut script = format!(
        "own-name executed; other-name executed; {} executed; d/../d//tool executed; ./d/link executed\n\
         PATH=d:$PATH; link executed; cd d; ./link executed; PATH=.:$PATH; link executed\n\
         env other-name executed; sh -c 'exec ./link executed'; cat /proc/self/comm; readlink /proc/self/exe\n",
        tool.text()
    );
    if Dialect::of(context) != Dialect::Other {
        script.push_str("(exec -a zeroth ./link executed)\n");
    }
    let names = [
        "own-name",
        "other-name",
        "tool",
        "link",
        "env",
        "sh",
        "cat",
        "readlink",
    ];
    same_under_both(context, &script, &names)
}

/// The umask of the script is the escalated command's.
fn umask(context: &mut Context) -> Verdict {
    let script = "umask 027; rm -f one two; touch one; sh -c umask; ( umask 0; sh -c umask; touch two ); ls -l one two | cut -c1-10";
    same_under_both(context, script, &["touch", "sh"])
}
