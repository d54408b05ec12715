//! shell.own-suite: the shell's own tests print the same under a pass-through wrapper.
//!
//! The tests are those that the shell was built with: a folder `suite` beside the folder of the executable, in which
//! `tests` (bash) or `Test` (zsh) is the folder of that name of the shell's source. Whether a test passes is no
//! matter; that the wrapper changes nothing is. The case runs the part of a suite that starts many commands, tells
//! no process ids or times, and is quick; `make shell-suites` runs all of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::dialect::{Dialect, no_such_syntax};
use crate::peer::finished::Finished;
use crate::peer::recording_wrapper::RecordedShell;
use crate::spec::requirements::Role;
use crate::verdict::{CaseError, Verdict};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Shell, &[
    case("shell.own-suite/chosen-tests", chosen_tests).within_seconds(120),
]);

/// A shell's suite: where its tests are, which are run, and by what script.
struct Suite {
    folder: &'static str,
    tests: &'static [&'static str],
    script: &'static str,
}

// run-posixpipe is not among them: it prints how long a pipeline took.
const BASH: Suite = Suite {
    folder: "tests",
    tests: &[
        "run-comsub",
        "run-comsub-posix",
        "run-exportfunc",
        "run-heredoc",
        "run-ifs",
        "run-lastpipe",
        "run-procsub",
        "run-quote",
        "run-redir",
        "run-set-e",
    ],
    script: "unset BASH_ENV; export PATH=.:$PATH; cd suite/tests; sh ./$TEST",
};

const ZSH: Suite = Suite {
    folder: "Test",
    tests: &[
        "A04redirect.ztst",
        "A06assign.ztst",
        "B13whence.ztst",
        "D03procsubst.ztst",
        "D08cmdsubst.ztst",
    ],
    // Differences are shown with the name of a temporary folder and with times.
    script: "export ZTST_srcdir=. ZTST_exe=$THIS_SH ZTST_continue=1; cd suite/Test\n\
             $THIS_SH +Z -f ./ztst.zsh ./$TEST >output; end=$?\n\
             sed -e '/^[-+*]\\{3\\} .*zsh\\.ztst/d' output; exit $end",
};

/// Chosen tests, each without and with a wrapper that runs every command.
fn chosen_tests(context: &mut Context) -> Verdict {
    let suite = match Dialect::of(context) {
        Dialect::Bash => BASH,
        Dialect::Zsh => ZSH,
        Dialect::Other => return Err(no_such_syntax("the tests of another shell")),
    };
    // One copy for all tests: as in a run of the suite, a test does not depend on what earlier ones left behind.
    furnish(
        &context.work_directory(),
        &beside(context.shell()?)?,
        suite.folder,
    )?;
    for test in suite.tests {
        let mut shell = RecordedShell::new(context)?;
        shell.be_patient(6);
        let path = shell.shell_path()?;
        shell.set_variable("THIS_SH", Some(path.as_ref()));
        shell.set_variable("TEST", Some(test.as_ref()));
        shell.set_variable("BASH_TSTOUT", Some("output".as_ref()));
        let run = |wrapped: bool| -> Result<Finished, CaseError> {
            let arguments = shell.command_arguments(suite.script);
            let launch = if wrapped {
                shell.launch(arguments)?
            } else {
                shell.launch_unwrapped(arguments)?
            };
            shell.start(launch)?.finish()
        };
        let plain = run(false)?;
        let wrapped = run(true)?;
        shell.some_calls()?;
        shell.wrapper.forget_starts()?;
        wrapped.expect_as_stock(test, &plain)?;
    }
    Ok(())
}

/// The suite of a shell that was built with it.
fn beside(shell: &Path) -> Result<PathBuf, CaseError> {
    let folder = shell.parent().and_then(Path::parent);
    folder
        .map(|folder| folder.join("suite"))
        .filter(|suite| suite.is_dir())
        .ok_or_else(|| {
            CaseError::NotApplicable(format!(
                "the shell's own tests are not beside it (../suite, seen from the folder of {})",
                shell.display()
            ))
        })
}

/// Puts a copy of the tests, for they write beside themselves, and links to the rest into the work directory.
fn furnish(work: &Path, suite: &Path, tests: &str) -> Verdict {
    let copy = work.join("suite");
    fs::create_dir_all(&copy)?;
    for entry in fs::read_dir(suite)? {
        let entry = entry?;
        let target = copy.join(entry.file_name());
        if entry.file_name() == tests {
            copy_folder(&entry.path(), &target)?;
        } else {
            symlink(entry.path(), target)?;
        }
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Verdict {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
