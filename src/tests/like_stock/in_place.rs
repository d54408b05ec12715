//! Scripts that look for their own file, or for what lies beside it, escalated by a rule that executes them in place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use super::names::without_notice;
use super::shells::{escalating, is_installed, stock};
use super::support::chain::script;

/// What each script says of itself. `#!` lines as people write them, and a text that has none.
const SCRIPTS: &[(&str, &str)] = &[
    (
        "bin/plain",
        "#!/bin/sh\necho \"$0 in $(dirname \"$0\"): $# $*\"; cat /proc/$$/comm; . \"$(dirname \"$0\")/../lib/part.sh\"\n",
    ),
    (
        "bin/with-bash",
        "#!/usr/bin/env bash\necho \"$0 ${BASH_SOURCE[0]}\"; here=$(cd \"$(dirname \"${BASH_SOURCE[0]}\")\" && pwd -P)\n\
         echo \"$here $*\"; . \"$here/../lib/part.sh\"\n",
    ),
    (
        "bin/bare",
        "echo \"$0: $*\"; . \"$(dirname \"$0\")/../lib/part.sh\"\n",
    ),
    // As those of Autoconf look for their sources.
    (
        "configure",
        "#!/bin/sh\nsrcdir=$(dirname \"$0\")\ntest -r \"$srcdir/shell.h\" || {\n  \
         echo \"configure: error: cannot find sources (shell.h) in $srcdir or ..\" >&2; exit 1; }\n\
         echo \"srcdir is $srcdir\"; exec \"$srcdir/build-aux/missing\" \"$@\"\n",
    ),
    ("build-aux/missing", "#!/bin/sh\necho \"$0 $*\"; exit 3\n"),
];

const PYTHON: (&str, &str) = (
    "bin/with-python",
    "#!/usr/bin/python3\nimport ctypes, os, sys\nsys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'lib'))\n\
     import part\ngetauxval = ctypes.CDLL(None).getauxval\ngetauxval.restype = ctypes.c_char_p\n\
     print(__file__, sys.argv, getauxval(31).decode(), open('/proc/self/comm').read().strip(), part.NAME)\n",
);

/// As npm finds its own modules.
const NODE: (&str, &str) = (
    "bin/node-tool",
    "#!/usr/bin/env node\nconsole.log(require('../lib/cli.js'), __filename, __dirname, process.argv.slice(1))\n",
);

const PARTS: &[(&str, &str)] = &[
    ("lib/part.sh", "echo beside it\n"),
    ("lib/part.py", "NAME = 'beside it'\n"),
    ("lib/cli.js", "module.exports = 'beside it';\n"),
    ("shell.h", ""),
];

/// Calls `NAME` in every way: relative, absolute, from another folder, by links to the file and to its folder, by PATH.
const CALLS: &str = "bin/NAME a 'b c'; ./bin/NAME; \"$PWD/bin/NAME\" d; ./links/NAME e; linked/NAME f; \
    cd lib; ../bin/NAME g; ../lib/.././bin/NAME; cd ..; (PATH=$PWD/bin:$PATH; NAME h); (PATH=bin:$PATH; NAME i); \
    (PATH=$PWD/links:$PATH; NAME j); (exec bin/NAME k); ./bin/NAME | cat /dev/fd/0; ";

const CONFIGURE: &str =
    "./configure --prefix=/x; echo $?; $PWD/configure; mkdir -p build; cd build; ../configure; cd ..; ";

fn project(folder: &Path, scripts: &[(&str, &str)]) {
    for name in ["bin", "lib", "links", "build-aux", "build"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    symlink("bin", folder.join("linked")).unwrap();
    for (name, content) in scripts {
        script(&folder.join(name), content);
        let linked = Path::new("..").join(name);
        symlink(
            linked,
            folder.join("links").join(Path::new(name).file_name().unwrap()),
        )
        .unwrap();
    }
    for (name, content) in PARTS {
        fs::write(folder.join(name), content).unwrap();
    }
}

fn output(mut command: Command, line: &str, folder: &Path) -> Output {
    command.arg(line).current_dir(folder).env("HOME", folder);
    command
        .env("PATH", path())
        .env_remove("TMPDIR")
        .env("LC_ALL", "C");
    command.output().unwrap()
}

/// The system's programs, and where node is.
fn path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    format!("/usr/bin:/bin:{own}")
}

/// The line of shell says the same in stock and in patched shells, where `more` is in the rule that escalates all that it starts.
fn assert_as_in_stock_shells(scripts: &[(&str, &str)], line: &str, sandbox: &str, more: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let outside = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = fs::canonicalize(folder.path()).unwrap();
    project(&folder, scripts);
    let policy = outside.path().join("policy.toml");
    // What no rule escalates is not executed at all.
    let rules = format!(
        "default = \"deny\"\n[[rule]]\nprogram = \"{}/**\"\naction = \"escalate\"\nreplaceable = true\nin_place = true\n{more}\n\
         [[rule]]\nprogram = \"/usr/bin/{{cat,mkdir}}\"\naction = \"run\"\n",
        folder.display()
    );
    fs::write(&policy, rules).unwrap();
    let mut said = String::new();
    for name in ["bash-5.3", "zsh-5.9"] {
        let mut shell = stock(name);
        shell.arg("-c");
        let expected = output(shell, line, &folder);
        let mut run = escalating("run", name, &policy);
        run.args(["--quiet", "--sandbox", sandbox, "--"]);
        let escalated = output(run, line, &folder);
        assert_eq!(text(&escalated.stdout), text(&expected.stdout), "{name}");
        let mut complaints = text(&escalated.stderr);
        if sandbox == "full-access" {
            complaints = without_notice(&complaints);
        }
        assert_eq!(complaints, text(&expected.stderr), "{name}");
        assert_eq!(escalated.status, expected.status, "{name}");
        said = text(&expected.stdout);
    }
    said
}

fn calls(names: &[&str]) -> String {
    names.iter().map(|name| CALLS.replace("NAME", name)).collect()
}

#[test]
fn a_script_in_place_finds_itself_and_what_lies_beside_it() {
    let line = calls(&["plain", "with-bash", "bare"]) + CONFIGURE;
    let said = assert_as_in_stock_shells(SCRIPTS, &line, "full-access", "");
    assert_eq!(said.matches("beside it").count(), 3 * 12, "{said}");
    assert!(
        said.contains("srcdir is .\n./build-aux/missing --prefix=/x\n3\n"),
        "{said}"
    );
    assert!(said.contains("srcdir is ..\n../build-aux/missing"), "{said}");
}

#[test]
fn a_script_in_place_finds_itself_in_the_shell_s_sandbox_too() {
    let line = calls(&["plain", "with-bash", "bare"]) + CONFIGURE;
    for profile in ["profile = \"same\"", "profile = \"read-only\""] {
        let said = assert_as_in_stock_shells(SCRIPTS, &line, "workspace-write", profile);
        assert_eq!(said.matches("beside it").count(), 3 * 12, "{said}");
    }
}

#[test]
fn programs_of_python_and_node_in_place_find_their_modules() {
    for (tool, own) in [("python3", PYTHON), ("node", NODE)] {
        if !is_installed(tool) {
            eprintln!("{tool} is not installed, so its scripts are NOT TESTED");
            continue;
        }
        let name = Path::new(own.0).file_name().unwrap().to_str().unwrap();
        let said = assert_as_in_stock_shells(&[own], &calls(&[name]), "full-access", "");
        assert_eq!(said.matches("beside it").count(), 12, "{said}");
    }
}
