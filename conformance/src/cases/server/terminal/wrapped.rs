//! What the wrapped backend recognises as a call of its shell, and what it executes directly.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::program::{ConnectedProgram, Probe};
use crate::probe::remote::Order;
use crate::spec::requirements::Role;
use crate::stage::terminal::{Host, On, WRAPPER, on_both, socket_number};
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("terminal.wrapped/calls-of-the-shell", calls_of_the_shell),
    case("terminal.wrapped/behind-a-launcher", behind_a_launcher),
    case("terminal.wrapped/other-shells", other_shells),
    case("terminal.wrapped/other-arguments", other_arguments),
    case("terminal.wrapped/unconfigured", unconfigured),
]);

fn expect_arguments(expected: &[&str], probe: &Probe) -> Verdict {
    let expected: Vec<String> = expected.iter().map(|word| (*word).to_owned()).collect();
    expect::equal("argv of the process", expected, probe.report.argument_text())
}

/// Demands that a process has nothing of a session.
fn expect_unwrapped(probe: &Probe) -> Verdict {
    for name in ["EXEC_WRAPPER", "BASH_EXEC_WRAPPER", "CODEX_ESCALATE_SOCKET"] {
        let value = probe.report.variable(name);
        expect::equal(&format!("{name} of a process that isn't wrapped"), None, value)?;
    }
    let beside: Vec<i32> = probe
        .report
        .descriptor_numbers()
        .into_iter()
        .filter(|number| *number > 2)
        .collect();
    expect::equal(
        "descriptors beside 0, 1 and 2 of a process that isn't wrapped",
        Vec::<i32>::new(),
        beside,
    )
}

/// Opens with these arguments, of which `program` is executed, and demands that it is executed directly.
fn expect_direct(host: &mut Host, on: On, program: &ConnectedProgram, words: &[&str]) -> Verdict {
    let opening = host.wrapped(on, words);
    let opened = host.shim.open_terminal(&opening)?;
    let mut probe = program.accept("the process of a terminal")?;
    expect::with_input(
        format_args!("arguments {words:?}"),
        expect::equal("wrapped", false, opened.wrapped)
            .and_then(|()| expect_arguments(words, &probe))
            .and_then(|()| expect_unwrapped(&probe)),
    )?;
    probe.send(&Order::Exit(0))?;
    host.shim.close_terminal(&opened.id)
}

/// `SHELL -c SCRIPT` and `SHELL -lc SCRIPT` are recognised, and executed unchanged.
fn calls_of_the_shell(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let shell = host.shell.text().to_owned();
        for option in ["-c", "-lc"] {
            for script in ["true", "", "  echo 'a b'\n$x \n"] {
                let words = [&*shell, option, script];
                let opening = host.wrapped(on, &words);
                let opened = host.shim.open_terminal(&opening)?;
                let mut probe = host.shell.accept("the shell of a terminal")?;
                expect::equal("wrapped", true, opened.wrapped)?;
                expect_arguments(&words, &probe)?;
                expect::equal(
                    "EXEC_WRAPPER",
                    Some(WRAPPER.as_bytes().to_vec()),
                    probe.report.variable("EXEC_WRAPPER"),
                )?;
                socket_number(&probe)?;
                probe.send(&Order::Exit(0))?;
                host.shim.close_terminal(&opened.id)?;
            }
        }
        Ok(())
    })?;
    host.finish()
}

/// A launcher with arguments of its own is executed as it is, and hands what it has to the shell.
fn behind_a_launcher(context: &mut Context) -> Verdict {
    let launcher = ConnectedProgram::new(context, "launcher")?;
    let mut host = Host::new(context)?;
    on_both(|on| {
        let shell = host.shell.text().to_owned();
        for option in ["-c", "-lc"] {
            for own in [&[][..], &["--profile", "read only", "-c", "x", "--"]] {
                let words = [&[launcher.text()], own, &[&shell, option, "the script"]].concat();
                let opening = host.wrapped(on, &words);
                let opened = host.shim.open_terminal(&opening)?;
                let mut probe = launcher.accept("the launcher of a terminal")?;
                expect::equal("wrapped", true, opened.wrapped)?;
                expect_arguments(&words, &probe)?;
                let number = socket_number(&probe)?;
                probe.send(&Order::Execute {
                    file: shell.clone(),
                    arguments: vec![shell.clone(), option.to_owned(), "the script".to_owned()],
                })?;
                let mut probe = host.shell.accept("the shell behind the launcher")?;
                expect::equal("number of the shell's socket", number, socket_number(&probe)?)?;
                probe.take_descriptor(number)?;
                probe.send(&Order::Exit(0))?;
                host.shim.close_terminal(&opened.id)?;
            }
        }
        Ok(())
    })?;
    host.finish()
}

/// Another path is another shell: of the same name, or of the same file.
fn other_shells(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    let path = std::path::PathBuf::from(host.shell.text());
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let folder = context.path("elsewhere");
    std::fs::create_dir(&folder)?;
    let same_name = ConnectedProgram::at(context, &folder.join(&name))?;
    let dotted = format!("{}/./{name}", path.parent().unwrap_or(&path).display());
    let other = ConnectedProgram::new(context, "other")?;
    on_both(|on| {
        expect_direct(&mut host, on, &same_name, &[same_name.text(), "-c", "script"])?;
        expect_direct(&mut host, on, &other, &[other.text(), "-lc", "script"])?;
        expect_direct(
            &mut host,
            on,
            &other,
            &[other.text(), same_name.text(), "-c", "script"],
        )?;
        let opening = host.wrapped(on, &[&dotted, "-c", "script"]);
        let opened = host.shim.open_terminal(&opening)?;
        expect::equal("wrapped, by another spelling of the path", false, opened.wrapped)?;
        let mut probe = host.shell.accept("the process of a terminal")?;
        expect_unwrapped(&probe)?;
        probe.send(&Order::Exit(0))?;
        host.shim.close_terminal(&opened.id)
    })?;
    host.finish()
}

/// The shell without a script, with another option, or with its words in one argument.
fn other_arguments(context: &mut Context) -> Verdict {
    let launcher = ConnectedProgram::new(context, "launcher")?;
    let mut host = Host::new(context)?;
    on_both(|on| {
        let program = host.shell.text().to_owned();
        let together = format!("{program} -c script");
        let behind = [
            vec![launcher.text(), "-c", "script"],
            vec![launcher.text(), &together],
            vec![launcher.text(), &program, "-c"],
            vec![launcher.text(), &program],
        ];
        for words in behind {
            expect_direct(&mut host, on, &launcher, &words)?;
        }
        let calls = [
            vec!["-c"],
            vec!["-lc"],
            vec!["script-file"],
            vec!["-ic", "script"],
            vec!["-cl", "script"],
            vec!["-xc", "script"],
            vec!["-x", "script"],
            vec!["-l", "script"],
            vec!["--command", "script"],
            vec!["c", "script"],
            vec![],
        ];
        for call in calls {
            let words = [vec![&*program], call].concat();
            let opening = host.wrapped(on, &words);
            let opened = host.shim.open_terminal(&opening)?;
            let mut probe = host.shell.accept("the process of a terminal")?;
            expect::with_input(
                format_args!("arguments {words:?}"),
                expect::equal("wrapped", false, opened.wrapped)
                    .and_then(|()| expect_arguments(&words, &probe))
                    .and_then(|()| expect_unwrapped(&probe)),
            )?;
            probe.send(&Order::Exit(0))?;
            host.shim.close_terminal(&opened.id)?;
        }
        Ok(())
    })?;
    host.finish()
}

/// With the direct backend nothing is recognised.
fn unconfigured(context: &mut Context) -> Verdict {
    let mut host = Host::new(context)?;
    on_both(|on| {
        let shell = host.shell.text().to_owned();
        let opening = host.direct(on, &[&shell, "-c", "script"]);
        let opened = host.shim.open_terminal(&opening)?;
        let mut probe = host.shell.accept("the process of a terminal")?;
        expect::equal("wrapped", false, opened.wrapped)?;
        expect_unwrapped(&probe)?;
        probe.send(&Order::Exit(0))
    })?;
    host.finish()
}
