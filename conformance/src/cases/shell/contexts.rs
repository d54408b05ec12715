//! shell.contexts: wrapped wherever a shell can execute something; one execution, one call.

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::dialect::{Dialect, no_such_syntax};
use crate::peer::finished::Finished;
use crate::peer::recording_wrapper::RecordedShell;
use crate::probe::plan::Act;
use crate::spec::requirements::Role;
use crate::stage::shell::{command, commands, obedient};
use crate::system::launch::pipe;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.contexts/simple-list-condition", simple_list_condition),
    case("shell.contexts/loops", loops),
    case("shell.contexts/last-command", last_command),
    case("shell.contexts/pipeline-elements", pipeline_elements),
    case("shell.contexts/lastpipe", lastpipe),
    case("shell.contexts/subshell-and-group", subshell_and_group),
    case("shell.contexts/substitutions", substitutions),
    case("shell.contexts/process-substitutions", process_substitutions),
    case("shell.contexts/here-documents", here_documents),
    case("shell.contexts/background", background),
    case("shell.contexts/coproc", coproc),
    case("shell.contexts/exec-command-time", exec_command_time),
    case("shell.contexts/functions-eval-source", functions_eval_source),
    case("shell.contexts/traps", traps),
    case("shell.contexts/start-up-files", start_up_files),
    case("shell.contexts/prompt-commands", prompt_commands),
    case("shell.contexts/not-found-handler", not_found_handler),
    case("shell.contexts/script-file-stdin-c", script_file_stdin_c),
    case("shell.contexts/posix-mode", posix_mode),
    case("shell.contexts/called-as-sh", called_as_sh),
]);

/// Runs a script of commands that do nothing and succeed, and demands exactly these calls, in any order.
fn calls(context: &Context, script: &str, names: &[&str]) -> Result<Finished, CaseError> {
    let mut unique = names.to_vec();
    unique.sort_unstable();
    unique.dedup();
    commands(context, &unique)?;
    let shell = RecordedShell::new(context)?;
    let result = shell.run(script)?;
    shell.expect_calls_in_any_order(names)?;
    result.expect_output("")?;
    Ok(result)
}

/// Simple commands, lists, conditions, `case` and `!`.
fn simple_list_condition(context: &mut Context) -> Verdict {
    let script = "a; b && c || never\nif d; then e; else never; fi\nif ! f; then never; elif g; then h; fi\n\
                  case x in y) never;; x) i;; esac\n! j\n:";
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    command(context, "never")?;
    calls(context, script, &names).map(drop)
}

/// Conditions and bodies of loops, at each turn.
fn loops(context: &mut Context) -> Verdict {
    let script = "n=0; while a && [ $n -lt 2 ]; do b; n=$((n+1)); done\nuntil c; do never; done\n\
                  for x in 1 2; do d; done\nfor x in 1; do for y in 1 2; do e; done; done\n\
                  while f; do g; break; done >/dev/null\n:";
    let names = ["a", "a", "a", "b", "b", "c", "d", "d", "e", "e", "f", "g"];
    calls(context, script, &names).map(drop)
}

/// The last command of a script, a subshell, a substitution, a function or a branch, which shells like to
/// execute without a fork.
fn last_command(context: &mut Context) -> Verdict {
    for (number, script) in [
        "a",
        "b; a",
        "b && a",
        "( a )",
        "{ a; }",
        "f() { a; }; f",
        "if b; then a; fi",
        "case x in x) a;; esac",
        "for x in 1; do a; done",
        "x=$(a)",
        ": | a",
        "eval a",
        "X=1 a",
        "a >/dev/null",
        "b; ( ( a ) )",
    ]
    .into_iter()
    .enumerate()
    {
        if number == 0 {
            commands(context, &["a", "b"])?;
        }
        let shell = RecordedShell::new(context)?;
        shell.run(script)?.expect_output("")?;
        let names: &[&str] = if script.contains('b') && script.contains("b ") || script.contains("b;") {
            &["b", "a"]
        } else {
            &["a"]
        };
        shell.expect_calls(names)?;
    }
    Ok(())
}

/// Every element of a pipeline, and a pipeline in a pipeline.
fn pipeline_elements(context: &mut Context) -> Verdict {
    let script = "a | b | c | d | e\n{ f; g; } | ( h; i )\n! j | k\nwhile l; do break; done | m\n:";
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"];
    calls(context, script, &names).map(drop)
}

/// The last element where it runs in the shell itself, and `|&`.
fn lastpipe(context: &mut Context) -> Verdict {
    let dialect = Dialect::of(context);
    dialect.needs_extensions("lastpipe and |&")?;
    let set_up = if dialect == Dialect::Bash {
        "shopt -s lastpipe; set +m\n"
    } else {
        ""
    };
    let script = format!(
        "{set_up}a | b\n: | c\necho x | {{ read y; d; }}\ne |& f\ng |& {{ h; i; }}\necho x | while read y; do j; done\n:"
    );
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    calls(context, &script, &names).map(drop)
}

/// Subshells and groups, nested.
fn subshell_and_group(context: &mut Context) -> Verdict {
    let script =
        "( a; b )\n{ c; }\n( ( ( ( ( d ) ) ) ) )\n{ { ( { e; }; f ); }; }\n( g ) && ( h ) || ( never )\n:";
    calls(context, script, &["a", "b", "c", "d", "e", "f", "g", "h"]).map(drop)
}

/// Command substitutions: in words, assignments, redirections, `case`, arithmetic, parameters, nested.
fn substitutions(context: &mut Context) -> Verdict {
    let script = "x=$(a); y=`b`; : $(c $(d)) \"$(e)\" `f \\`g\\``\n: ${z-$(h)} ${z:-`i`}\n\
        case $(j) in $(k)) l;; esac\n: >/dev/null$(m)\nfor w in $(n) $(o); do never; done\n: $((1 + 0$(p)))\n\
        f() { local_less=$(q); }; f\nX=$(v) s\n[ -z \"$(t)\" ] && u\n:";
    let names = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "v", "s", "t",
        "u",
    ];
    calls(context, script, &names).map(drop)
}

/// `<(…)` and `>(…)`, nested and with more than one command.
fn process_substitutions(context: &mut Context) -> Verdict {
    Dialect::of(context).needs_extensions("process substitution")?;
    let script = "cat <(a) <(b; c)\n: > >(d)\ncat <(e <(f))\ng <(h)\n: < <(i)\n:";
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "cat", "cat"];
    let mut unique = names.to_vec();
    unique.dedup();
    commands(context, &["a", "b", "c", "d", "e", "f", "g", "h", "i"])?;
    let shell = RecordedShell::new(context)?;
    let result = shell.run(script)?;
    shell.expect_calls_in_any_order(&names)?;
    result.expect_output("")
}

/// The command of a here-document, and substitutions in its text; here-strings.
fn here_documents(context: &mut Context) -> Verdict {
    let mut script = "a <<E\ntext $(b) `c`\nE\nd <<'E'\n$(never)\nE\ne <<-E\n\t$(f)\n\tE\n\
        g <<ONE <<TWO\n$(h)\nONE\n$(i)\nTWO\n( j ) <<E\n$(k)\nE\n"
        .to_owned();
    let mut names = vec!["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    if Dialect::of(context) != Dialect::Other {
        script.push_str("l <<<\"$(m)\"\n");
        names.extend(["l", "m"]);
    }
    script.push(':');
    calls(context, &script, &names).map(drop)
}

/// Background commands, lists and pipelines.
fn background(context: &mut Context) -> Verdict {
    let script = "a & b & wait\nc | d &\n{ e; f; } &\n( g ) &\nh && i &\nj </dev/null &\nwait\n( k & )\n:";
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    calls(context, script, &names).map(drop)
}

/// A simple and a compound coprocess.
fn coproc(context: &mut Context) -> Verdict {
    let (script, names): (_, &[&str]) = match Dialect::of(context) {
        Dialect::Bash => (
            "{ coproc a; } 2>/dev/null; wait\ncoproc NAME { b; c; }\nwait\n:",
            &["a", "b", "c"],
        ),
        Dialect::Zsh => ("coproc a; wait\ncoproc { b; c; }\nwait\n:", &["a", "b", "c"]),
        Dialect::Other => return Err(no_such_syntax("coproc")),
    };
    calls(context, script, names).map(drop)
}

/// `exec`, `command` and `time`.
fn exec_command_time(context: &mut Context) -> Verdict {
    let mut script = "( exec a )\ncommand b\n( exec e; never )\n\
                      ( X=1 exec f )\n( exec g >/dev/null )\n( : | exec h )\nx=$(exec i)\n"
        .to_owned();
    let mut names = vec!["a", "b", "e", "f", "g", "h", "i"];
    if Dialect::of(context) != Dialect::Zsh {
        // In zsh `command` is a modifier that asks for a program.
        script.push_str("command command c\n( command exec d )\n");
        names.extend(["c", "d"]);
    }
    if Dialect::of(context) != Dialect::Other {
        script.push_str("{ time j; } 2>/dev/null\n{ time k | l; } 2>/dev/null\n");
        names.extend(["j", "k", "l"]);
    }
    if Dialect::of(context) == Dialect::Bash {
        script.push_str("builtin command m\n{ time -p n; } 2>/dev/null\n");
        names.extend(["m", "n"]);
    }
    script.push_str("exec o");
    names.push("o");
    commands(context, &["never"])?;
    calls(context, &script, &names).map(drop)
}

/// Functions, also recursive ones and in subshells; `eval`; sourced files.
fn functions_eval_source(context: &mut Context) -> Verdict {
    context.write_file("work/sourced", b"f\n( g )\nreturn 0\nnever\n", 0o644)?;
    context.write_file("work/outer", b". ./sourced\nh\n", 0o644)?;
    let script = "one() { a; two; }; two() { b; }; one\n\
        down() { if [ $1 -gt 0 ]; then c; down $(($1 - 1)); fi; }; down 3\n\
        eval d; eval 'eval \"e\"; :'\n. ./outer\nthree() ( i ); three\nfour() { j; } >/dev/null; four\n\
        x=$(one)\n:";
    let names = [
        "a", "b", "c", "c", "c", "d", "e", "f", "g", "h", "i", "j", "a", "b",
    ];
    calls(context, script, &names).map(drop)
}

/// Commands of traps: EXIT and signals in every shell; ERR, DEBUG and RETURN where they exist.
fn traps(context: &mut Context) -> Verdict {
    let mut script =
        "trap a USR1; kill -USR1 $$; trap - USR1\n( trap b EXIT; : )\n( trap 'c; d' EXIT; e )\n".to_owned();
    let mut names = vec!["a", "b", "c", "d", "e"];
    match Dialect::of(context) {
        Dialect::Bash => {
            script.push_str(
                "trap f ERR; false; trap - ERR\n( trap 'trap - DEBUG; g' DEBUG; : )\n\
                 k() { trap h RETURN; :; trap - RETURN; }; r() { trap h RETURN; :; }; r; trap - RETURN\n",
            );
            names.extend(["f", "g", "h"]);
        }
        Dialect::Zsh => {
            script.push_str("trap f ZERR; false; trap - ZERR\n( trap 'trap - DEBUG; g' DEBUG; : )\nTRAPUSR2() { h; }; kill -USR2 $$\n");
            names.extend(["f", "g", "h"]);
        }
        Dialect::Other => {}
    }
    script.push_str("trap i EXIT\n:");
    names.push("i");
    calls(context, &script, &names).map(drop)
}

/// A start-up file runs before the script; its commands are wrapped as well.
fn start_up_files(context: &mut Context) -> Verdict {
    let programs = commands(context, &["at-start", "in-profile", "main"])?;
    let text = |program: usize| format!("{}\n", programs[program].text());
    let mut shell = RecordedShell::new(context)?;
    let (options, profile): (&[&str], _) = match shell.dialect {
        Dialect::Bash => {
            let file = context.write_file("work/environment", text(0).as_bytes(), 0o644)?;
            shell.set_variable("BASH_ENV", Some(file.as_os_str()));
            (&[], "work/.bash_profile")
        }
        Dialect::Zsh => {
            context.write_file("work/.zshenv", text(0).as_bytes(), 0o644)?;
            (&[], "work/.zprofile")
        }
        Dialect::Other => return Err(no_such_syntax("start-up files")),
    };
    context.write_file(profile, text(1).as_bytes(), 0o644)?;
    let script = format!("{}\n:", programs[2].text());
    let ours = |shell: &RecordedShell| -> Result<Vec<String>, CaseError> {
        // Start-up files of the machine may start what they like.
        let names = ["at-start", "in-profile", "main"];
        Ok(shell
            .calls()?
            .iter()
            .map(|call| call.file_name())
            .filter(|name| names.contains(&name.as_str()))
            .collect())
    };
    let arguments = options.iter().copied().chain(["-c", &script]);
    shell.start(shell.launch(arguments)?)?.finish()?;
    shell.some_calls()?;
    crate::case::expect::equal(
        "commands of the start-up file and of the script that went to the wrapper",
        vec!["at-start", "main"],
        ours(&shell)?,
    )?;
    let mut login = RecordedShell::new(context)?;
    login.set_variable("ZDOTDIR", Some(context.work_directory().as_os_str()));
    login.start(login.launch(["-l", "-c", &script])?)?.finish()?;
    let mut seen = ours(&login)?;
    seen.retain(|name| name != "at-start");
    crate::case::expect::equal(
        "commands of the profile and of the script that went to the wrapper",
        vec!["in-profile", "main"],
        seen,
    )
}

/// The commands that an interactive shell runs before each prompt.
fn prompt_commands(context: &mut Context) -> Verdict {
    commands(context, &["before-prompt", "typed"])?;
    let mut shell = RecordedShell::new(context)?;
    let input: &[u8] = match shell.dialect {
        Dialect::Bash => {
            shell.set_variable("PROMPT_COMMAND", Some("before-prompt".as_ref()));
            b"typed\nexit 0\n"
        }
        Dialect::Zsh => b"precmd() { before-prompt }\ntyped\nprecmd() { : }\nexit 0\n",
        Dialect::Other => return Err(no_such_syntax("commands before a prompt")),
    };
    let (reader, mut writer) = pipe()?;
    std::io::Write::write_all(&mut writer, input)?;
    drop(writer);
    let launch = shell
        .launch(shell.dialect.interactive_options())?
        .descriptor(0, reader);
    shell.start(launch)?.finish()?.expect_status(0)?;
    shell.expect_calls(&["before-prompt", "typed", "before-prompt"])
}

/// The command that bash's command_not_found_handle or zsh's command_not_found_handler runs.
fn not_found_handler(context: &mut Context) -> Verdict {
    let name = match Dialect::of(context) {
        Dialect::Bash => "command_not_found_handle",
        Dialect::Zsh => "command_not_found_handler",
        Dialect::Other => return Err(no_such_syntax("a handler of missing commands")),
    };
    let script = format!("{name}() {{ a \"$@\"; }}\nno-such-command x\n:");
    calls(context, &script, &["a"]).map(drop)
}

/// The same lines by `-c`, from a file and from standard input.
fn script_file_stdin_c(context: &mut Context) -> Verdict {
    let lines = "a\nb | c\nd";
    let names = ["a", "b", "c", "d"];
    commands(context, &names)?;
    let file = context.write_file("work/script", lines.as_bytes(), 0o644)?;
    let plain = Dialect::of(context).plain_options();
    for way in ["-c", "file", "standard input", "one command"] {
        context.transcript.note(format_args!("the script by {way}"));
        let shell = RecordedShell::new(context)?;
        let options = plain.iter().map(std::ffi::OsStr::new);
        let launch = match way {
            "-c" => shell.launch(options.chain(["-c".as_ref(), lines.as_ref()]))?,
            "file" => shell.launch(options.chain([file.as_os_str()]))?,
            "one command" => shell.launch(options.chain(["-c".as_ref(), "a".as_ref()]))?,
            _ => shell.launch(options)?.descriptor(0, std::fs::File::open(&file)?),
        };
        shell.start(launch)?.finish()?.expect_output("")?;
        let expected: &[&str] = if way == "one command" { &["a"] } else { &names };
        shell.expect_calls_in_any_order(expected)?;
    }
    // A script in which each line is read while its command runs: standard input is shared, and no command
    // may lose or take a line of it.
    obedient(context, "tool")?;
    crate::peer::program::Program::new(context, "reader", [Act::Copy])?;
    let (reader, mut writer) = pipe()?;
    std::io::Write::write_all(&mut writer, b"tool out:one\nreader\nthis is\nits input\n")?;
    drop(writer);
    let shell = RecordedShell::new(context)?;
    let launch = shell.launch(plain)?.descriptor(0, reader);
    shell
        .start(launch)?
        .finish()?
        .expect_output("one\nthis is\nits input\n")
}

/// One of each kind of process that POSIX has.
const POSIX_LINES: &str = "a; ( b ); x=$(c)\nd | e\nf &\nwait\ncommand g\neval h\nexec i";

/// The file names of [`POSIX_LINES`].
const POSIX_NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

/// POSIX mode, however it is switched on, and zsh's emulation of sh.
fn posix_mode(context: &mut Context) -> Verdict {
    commands(context, &POSIX_NAMES)?;
    let dialect = Dialect::of(context);
    let switch = match dialect {
        Dialect::Bash => "set -o posix",
        Dialect::Zsh => "emulate sh",
        Dialect::Other => return Err(no_such_syntax("a POSIX mode to switch to")),
    };
    let switched = format!("{switch}\n{POSIX_LINES}");
    let expect_wrapped = |shell: &RecordedShell<'_>, options: &[&str], script: &str| -> Verdict {
        context.transcript.note(format_args!("{options:?} -c {script:?}"));
        let options = options.iter().chain(dialect.plain_options()).copied();
        let launch = shell.launch(options.chain(["-c", script]))?;
        shell.start(launch)?.finish()?.expect_output("")?;
        shell.expect_calls_in_any_order(&POSIX_NAMES)
    };
    expect_wrapped(&RecordedShell::new(context)?, &[], &switched)?;
    if dialect == Dialect::Bash {
        expect_wrapped(&RecordedShell::new(context)?, &["--posix"], POSIX_LINES)?;
        let mut shell = RecordedShell::new(context)?;
        shell.set_variable("POSIXLY_CORRECT", Some("1".as_ref()));
        expect_wrapped(&shell, &[], POSIX_LINES)?;
    } else {
        expect_wrapped(&RecordedShell::new(context)?, &["--emulate", "sh"], POSIX_LINES)?;
    }
    Ok(())
}

/// A shell whose `argv[0]` is `sh`, or a path that ends so.
fn called_as_sh(context: &mut Context) -> Verdict {
    commands(context, &POSIX_NAMES)?;
    for name in ["sh", "/bin/sh"] {
        context
            .transcript
            .note(format_args!("argv[0] is {name:?}, -c {POSIX_LINES:?}"));
        let shell = RecordedShell::new(context)?;
        let launch = shell.launch::<&str>([])?.arguments([name, "-c", POSIX_LINES]);
        shell.start(launch)?.finish()?.expect_output("")?;
        shell.expect_calls_in_any_order(&POSIX_NAMES)?;
    }
    Ok(())
}
