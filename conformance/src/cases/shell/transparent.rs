//! shell.transparent: under a pass-through wrapper nothing shows.
//!
//! A script runs in the stock shell, in the shell under test with interception off, and with the recording
//! wrapper that runs every command, each time in the same fresh directory. Output, standard error (process ids
//! aside), end, and what is then in the directory must be equal.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::case::{expect, property};
use crate::peer::dialect::Dialect;
use crate::peer::finished::{Finished, without_process_ids};
use crate::peer::recording_wrapper::RecordedShell;
use crate::peer::terminal::{PROMPT, Terminal};
use crate::spec::requirements::Role;
use crate::stage::shell::terminal::led;
use crate::stage::shell::{obedient, scripts};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.transparent/ordinary", ordinary),
    case("shell.transparent/files-and-text", files_and_text),
    case("shell.transparent/control-flow", control_flow),
    case("shell.transparent/processes", processes),
    case("shell.transparent/bytes-and-quoting", bytes_and_quoting),
    case("shell.transparent/attributes", attributes),
    case("shell.transparent/job-control", job_control),
    case("shell.transparent/random-scripts", random_scripts).within_seconds(600),
]);

/// A script of ordinary things.
fn ordinary(context: &mut Context) -> Verdict {
    written(context, include_str!("../../../../fixtures/scripts/ordinary.sh"))
}

/// Files, directories, pipes of text tools.
fn files_and_text(context: &mut Context) -> Verdict {
    written(
        context,
        include_str!("../../../../fixtures/scripts/files-and-text.sh"),
    )
}

/// Conditions, loops, functions, options.
fn control_flow(context: &mut Context) -> Verdict {
    written(
        context,
        include_str!("../../../../fixtures/scripts/control-flow.sh"),
    )
}

/// Background commands, traps, signals, substitutions.
fn processes(context: &mut Context) -> Verdict {
    written(context, include_str!("../../../../fixtures/scripts/processes.sh"))
}

/// Quoting of every kind and data that is not text.
fn bytes_and_quoting(context: &mut Context) -> Verdict {
    written(
        context,
        include_str!("../../../../fixtures/scripts/bytes-and-quoting.sh"),
    )
}

/// What a process inherits beside descriptors: directory, umask, limits, niceness, groups.
fn attributes(context: &mut Context) -> Verdict {
    written(
        context,
        include_str!("../../../../fixtures/scripts/attributes.sh"),
    )
}

fn written(context: &Context, script: &str) -> Verdict {
    let comparison = Comparison::new(context)?;
    comparison.compare(script)?;
    if Dialect::of(context) == Dialect::Bash {
        // The last command of a script is where a shell likes to save a fork; so each line is a last one once.
        for line in script.lines().filter(|line| line.starts_with("tool ")) {
            comparison.compare(line)?;
        }
    }
    Ok(())
}

/// Random scripts; a difference is reported with the smallest script that shows it.
fn random_scripts(context: &mut Context) -> Verdict {
    let comparison = Comparison::new(context)?;
    let dialect = Dialect::of(context);
    let (vocabulary, scripts) = (scripts::vocabulary(dialect), scripts::script(dialect));
    property::holds_of_these_and(context, vocabulary, &scripts, |script| {
        comparison.compare(&script.0)
    })
}

/// What a run left behind.
struct Left {
    result: Finished,
    files: BTreeMap<PathBuf, String>,
}

/// The commands of the scripts, and the ways to run one.
struct Comparison<'a> {
    context: &'a Context,
}

impl<'a> Comparison<'a> {
    fn new(context: &'a Context) -> Result<Comparison<'a>, CaseError> {
        obedient(context, "tool")?;
        context.write_file("bin/script", b"#!/bin/sh\necho \"$0: $*\"\n", 0o755)?;
        context.write_file(
            "bin/interpreted",
            b"#!/bin/sh\necho \"script $# $X\"\nfor a in \"$@\"; do echo \"<$a>\"; done\nexit 3\n",
            0o755,
        )?;
        context.write_file("bin/bare", b"echo \"bare $# $1\"\nexit 5\n", 0o755)?;
        context.write_file("bin/unexecutable", b"", 0o644)?;
        let shell = context.shell()?.display().to_string();
        let options = Dialect::of(context).plain_options().join(" ");
        let nested = format!("#!/bin/sh\nexec {shell} {options} -c \"$@\"\n");
        context.write_file("bin/nested", nested.as_bytes(), 0o755)?;
        Ok(Comparison { context })
    }

    fn compare(&self, script: &str) -> Verdict {
        let stock = self.run(script, "the stock shell", |shell, arguments| {
            shell.launch_stock(arguments)
        })?;
        if self.context.settings.implementations.stock_shell.is_some() {
            self.compare_off(script, &stock)?;
        }
        let wrapped = self.run(
            script,
            "the shell with a pass-through wrapper",
            |shell, arguments| shell.launch(arguments),
        )?;
        expect_equal(script, "with a pass-through wrapper", &stock, &wrapped)
    }

    /// Where the stock shell is another executable than the shell under test with interception off.
    fn compare_off(&self, script: &str, stock: &Left) -> Verdict {
        let off = self.run(script, "the shell with interception off", |shell, arguments| {
            shell.launch_unwrapped(arguments)
        })?;
        expect_equal(script, "with interception off", stock, &off)
    }

    fn run(
        &self,
        script: &str,
        way: &str,
        launch: impl FnOnce(&RecordedShell, &[String]) -> Result<crate::system::launch::Launch, CaseError>,
    ) -> Result<Left, CaseError> {
        let mut shell = RecordedShell::new(self.context)?;
        shell.be_patient(4);
        self.furnish()?;
        self.context.transcript.note(format_args!("{way}: {script}"));
        let launch = launch(&shell, &shell.command_arguments(script))?;
        let result = shell.start(launch)?.finish()?;
        let mut files = BTreeMap::new();
        collect(&self.context.work_directory(), Path::new(""), &mut files)?;
        collect(
            &self.context.temporary_directory(),
            Path::new("TMPDIR"),
            &mut files,
        )?;
        shell.wrapper.forget_starts()?;
        Ok(Left { result, files })
    }

    /// Makes the work directory anew.
    fn furnish(&self) -> Verdict {
        let work = self.context.work_directory();
        fs::remove_dir_all(&work)?;
        fs::create_dir_all(work.join("d"))?;
        let all_bytes: Vec<u8> = (0..=255).collect();
        for (name, bytes) in [
            ("alpha", b"first line of alpha\nsecond\n" as &[u8]),
            ("beta.txt", b"pear\napple\nbanana\n"),
            ("gamma file", b"gamma\n"),
            ("data.bin", &all_bytes),
            ("d/inner", b"inner\n"),
            ("sourced", b"tool out:sourced\nsourced=yes\n"),
        ] {
            fs::write(work.join(name), bytes)?;
            fs::set_permissions(work.join(name), fs::Permissions::from_mode(0o644))?;
        }
        Ok(())
    }
}

fn expect_equal(script: &str, way: &str, stock: &Left, other: &Left) -> Verdict {
    other
        .result
        .expect_as_stock(&format!("{script} ({way})"), &stock.result)?;
    let names: Vec<&PathBuf> = stock
        .files
        .keys()
        .chain(other.files.keys())
        .filter(|name| stock.files.get(*name) != other.files.get(*name))
        .collect();
    match names.first() {
        None => Ok(()),
        Some(name) => {
            let shown = |left: &Left| match left.files.get(*name) {
                Some(what) => format!("{}: {what}", name.display()),
                None => format!("{}: not there", name.display()),
            };
            Err(violation(
                format_args!(
                    "files after {script:?} {way} as after the stock shell: {}",
                    shown(stock)
                ),
                shown(other),
            ))
        }
    }
}

/// What is in a directory: kind, permissions, contents.
fn collect(root: &Path, below: &Path, files: &mut BTreeMap<PathBuf, String>) -> Verdict {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        let metadata = fs::symlink_metadata(entry.path())?;
        let kind = metadata.file_type();
        let mode = metadata.mode() & 0o7777;
        if kind.is_symlink() {
            let target = fs::read_link(entry.path())?;
            files.insert(name, format!("link to {}", target.display()));
        } else if kind.is_dir() {
            files.insert(name.clone(), format!("directory {mode:o}"));
            collect(&entry.path(), &name, files)?;
        } else if kind.is_file() {
            let bytes = fs::read(entry.path())?;
            files.insert(
                name,
                format!("file {mode:o} {}", crate::transcript::shown(&bytes)),
            );
        } else {
            files.insert(name, format!("special {mode:o}"));
        }
    }
    Ok(())
}

/// Stopped, continued and killed jobs look as with the stock shell.
fn job_control(context: &mut Context) -> Verdict {
    let dialogue = |terminal: &mut Terminal| {
        for line in ["tool out:text", "tool exit:3 & wait $!", "echo $?", "jobs"] {
            terminal.command(line)?;
        }
        for line in ["tool out:running pause", "( tool out:running pause )"] {
            terminal.type_text(&format!("{line}\n"))?;
            terminal.wait_for("\nrunning\r\n")?;
            terminal.type_text("\u{1a}")?;
            terminal.wait_for(PROMPT)?;
            terminal.command("jobs")?;
            terminal.type_text("fg\n")?;
            terminal.wait_for("\ncontinued\r\n")?;
            terminal.type_text("\u{3}")?;
            terminal.wait_for(PROMPT)?;
            terminal.command("echo $?; jobs")?;
        }
        terminal.command("tool out:running stop out:resumed exit:7")?;
        terminal.command("jobs; echo $?")?;
        terminal.type_text("fg\n")?;
        terminal.wait_for("\nresumed\r\n")?;
        terminal.wait_for(PROMPT)?;
        terminal.command("echo $?")?;
        terminal.command("tool die:15; tool die:9; echo $?")?;
        terminal.command("set +m; tool exit:2 & wait $!; echo $?; set -m")?;
        Ok(())
    };
    let (stock, _) = led(context, true, dialogue)?;
    let (seen, _) = led(context, false, dialogue)?;
    expect::equal(
        "the terminal's screen, as with the stock shell",
        without_process_ids(&stock),
        without_process_ids(&seen),
    )
}
