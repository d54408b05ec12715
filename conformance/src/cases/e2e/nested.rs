//! e2e.nested: commands of a shell that the shell has started are intercepted too.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::spec::requirements::Role;
use crate::stage::e2e::{EndToEnd, commands, denial, expect_transcript, file_name};
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::E2e, &[
    case("e2e.nested/depths", depths),
    case("e2e.nested/ways", ways),
    case("e2e.nested/script-files", script_files),
]);

/// The script, and the commands of [`commands`], that were asked about, in order.
fn asked(all: &EndToEnd) -> Vec<String> {
    all.take_asked()
        .iter()
        .map(|question| file_name(&question.program).to_owned())
        .filter(|name| ["script", "run-it", "escalate-it", "deny-it"].contains(&name.as_str()))
        .collect()
}

/// The shell's path and its options, as the beginning of a command in a script.
fn nested_shell(context: &Context, all: &EndToEnd) -> Result<String, CaseError> {
    let options = all.dialect.plain_options().join(" ");
    Ok(format!("{} {options}", context.shell()?.display()))
}

/// A shell in a shell in a shell: each shell and each command is asked about, with its argv.
fn depths(context: &mut Context) -> Verdict {
    commands(context, ["run-it", "escalate-it", "deny-it"])?;
    let mut all = EndToEnd::new(context)?;
    let shell = nested_shell(context, &all)?;
    let inner = "run-it out:3; escalate-it out:three; deny-it three";
    let middle = format!("run-it out:2; {shell} -c \"{inner}\"; echo $?; escalate-it out:two");
    let script = format!("run-it out:1; {shell} -c '{middle}'; echo $?; deny-it one");
    let result = all.run(&script)?;
    let output = "1\n2\n3\nthree\n1\ntwo\n0\n";
    expect_transcript(&script, &result, output, &denial("deny-it").repeat(2), 1)?;
    let shell_name = file_name(&context.shell()?.display().to_string()).to_owned();
    let seen: Vec<String> = all
        .take_asked()
        .iter()
        .map(|question| {
            let mut words = vec![file_name(&question.program).to_owned()];
            if words[0] != shell_name {
                words.extend(question.arguments.iter().skip(1).cloned());
            }
            words.join(" ")
        })
        .collect();
    let wanted = [
        "run-it out:1",
        &shell_name,
        "run-it out:2",
        &shell_name,
        "run-it out:3",
        "escalate-it out:three",
        "deny-it three",
        "escalate-it out:two",
        "deny-it one",
    ];
    expect::equal("commands that the policy was asked about", &wanted[..], seen)?;
    all.shutdown()
}

/// Nested by `exec`, in a substitution, a subshell, a pipeline, in the background, from standard input, with a
/// changed environment, and by a program that keeps environment and descriptors.
fn ways(context: &mut Context) -> Verdict {
    commands(context, ["escalate-it", "deny-it"])?;
    let mut all = EndToEnd::new(context)?;
    let shell = nested_shell(context, &all)?;
    for script in [
        format!("( exec {shell} -c 'escalate-it out:x; deny-it' )"),
        format!("x=$({shell} -c 'escalate-it out:x; deny-it'); echo $x; false"),
        format!("( {shell} -c 'escalate-it out:x; deny-it' )"),
        format!(": | {shell} -c 'escalate-it out:x; deny-it'"),
        format!("{shell} -c 'escalate-it out:x; deny-it' & wait $!"),
        format!("echo 'escalate-it out:x; deny-it' | {shell}"),
        format!("{shell} <<'E'\nescalate-it out:x\ndeny-it\nE"),
        format!("X=1 {shell} -c 'escalate-it out:x; deny-it'"),
        format!("unset HOME X; {shell} -c 'escalate-it out:x; deny-it'"),
        format!("env X=1 {shell} -c 'escalate-it out:x; deny-it'"),
        format!("eval \"{shell} -c 'escalate-it out:x; deny-it'\""),
        format!("exec {shell} -c 'escalate-it out:x; exec deny-it'"),
    ] {
        let result = all.run(&script)?;
        expect_transcript(&script, &result, "x\n", &denial("deny-it"), 1)?;
        expect::equal(
            &format!("commands of the nested shell of {script:?} that the policy was asked about"),
            vec!["escalate-it", "deny-it"],
            asked(&all),
        )?;
    }
    all.shutdown()
}

/// Script files: with `#!` to the patched shell, and as the shell's argument.
fn script_files(context: &mut Context) -> Verdict {
    commands(context, ["escalate-it", "deny-it"])?;
    let mut all = EndToEnd::new(context)?;
    let shell = nested_shell(context, &all)?;
    let text = format!("#!{}\nescalate-it \"out:$1\"\ndeny-it\n", shell.trim_end());
    context.write_file("work/script", text.as_bytes(), 0o755)?;
    for script in [
        "./script argument".to_owned(),
        "x=$(./script argument); echo $x; false".to_owned(),
        format!("{shell} script argument"),
        "exec ./script argument".to_owned(),
    ] {
        let result = all.run(&script)?;
        expect_transcript(&script, &result, "argument\n", &denial("deny-it"), 1)?;
        let mut wanted = vec!["escalate-it", "deny-it"];
        if script.contains("./script") {
            wanted.insert(0, "script");
        }
        let title = format!("the script and commands that the policy was asked about by {script:?}");
        expect::equal(&title, wanted, asked(&all))?;
    }
    all.shutdown()
}
