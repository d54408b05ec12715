//! Programs that are one file with many names.

use std::path::Path;
use std::process::{Command, Output};

use super::shells::{escalating, is_installed, stock};

/// Which command it is it tells by AT_EXECFN, as uutils coreutils do.
const MANY_NAMES: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

static const char *last(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int main(int count, char **arguments) {
    const char *executed = (const char *)getauxval(AT_EXECFN);
    const char *name = last(executed);
    char comm[17] = "";
    FILE *file = fopen("/proc/self/comm", "r");
    if (file == NULL || fscanf(file, "%16s", comm) != 1)
        return 99;
    if (strcmp(name, "true") == 0)
        return 0;
    if (strcmp(name, "false") == 0)
        return 1;
    if (strcmp(name, "echo") == 0) {
        for (int index = 1; index < count; index++)
            printf("%s%c", arguments[index], index + 1 < count ? ' ' : '\n');
        return 0;
    }
    printf("unknown program '%s' (executed as %s, comm %s, argv[0] %s)\n", name, executed, comm, arguments[0]);
    return 127;
}
"#;

/// Every way of naming them: by a path, by PATH, from another folder, by another argv[0], from another program, in a pipeline.
const SCRIPT: &str = "./echo one; ./true; echo $?; ./false; echo $?; PATH=$PWD:$PATH; command echo two; env echo three; \
    env false; echo $?; mkdir sub; cd sub; ../echo four; ../sub/.././echo five; cd ..; ./many-names; echo $?; \
    (exec -a other ./echo six); (exec -a false ./unknown | ./cat-or-not; exit 7); echo $?; sh -c './echo seven'; \
    ./echo a | xargs ./echo eight; find . -name many-names -exec ./echo nine {} \\;";

/// Commands that many of these programs have, with output that is the same every time.
const TOOLS: &str = "./echo one two; ./true; echo $?; ./false; echo $?; ./printf '%s-%s\\n' a b; ./seq 3 | ./sort -r | ./tr 1-3 a-c; \
    ./seq 20 | ./head -n 3 | ./wc -l; ./basename /a/b/c; ./dirname /a/b/c; ./expr 2 + 3; ./test a = b; echo $?; ./env -i A=1 ./env; \
    ./mkdir d; ./touch d/f; ./ls d; ./cp d/f d/g; ./mv d/g d/h; ./ln -s f d/l; ./readlink d/l; ./ls d; ./rm -r d; ./ls; \
    echo text > t; ./cat t; ./cut -c2-3 t; ./tail -n 1 t; ./uniq t; ./tee u < t; ./sha256sum t; ./base64 t; ./sleep 0; \
    PATH=$PWD:$PATH; command echo by PATH; ./timeout 5 ./echo in time; ./yes | ./head -n 2; ./cat missing; echo $?";

const NAMES: &[&str] = &[
    "echo",
    "true",
    "false",
    "printf",
    "seq",
    "sort",
    "tr",
    "head",
    "wc",
    "basename",
    "dirname",
    "expr",
    "test",
    "env",
    "mkdir",
    "touch",
    "ls",
    "cp",
    "mv",
    "ln",
    "readlink",
    "rm",
    "cat",
    "cut",
    "tail",
    "uniq",
    "tee",
    "sha256sum",
    "base64",
    "sleep",
    "timeout",
    "yes",
];

/// What `command` says of the script in a new folder where the names are links to `program`.
fn output(mut command: Command, program: &Path, names: &[&str], script: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("many-names");
    std::fs::copy(program, &copy).unwrap();
    for name in names {
        std::os::unix::fs::symlink("many-names", folder.path().join(name)).unwrap();
    }
    let home = folder.path().to_owned();
    command.arg(script).current_dir(&home).env("HOME", &home);
    command.env("LC_ALL", "C").env_remove("TMPDIR").output().unwrap()
}

fn as_in_the_stock_shell(program: &Path, names: &[&str], script: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut said = String::new();
    for name in ["bash-5.3", "zsh-5.9"] {
        let mut shell = stock(name);
        shell.arg("-c");
        let expected = output(shell, program, names, script);
        let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/policies/escalate.toml");
        let mut run = escalating("run", name, Path::new(policy));
        run.args(["--sandbox", "full-access", "--"]);
        let escalated = output(run, program, names, script);
        assert_eq!(text(&escalated.stdout), text(&expected.stdout), "{name}");
        assert_eq!(
            without_notice(&text(&escalated.stderr)),
            text(&expected.stderr),
            "{name}"
        );
        assert_eq!(escalated.status, expected.status, "{name}");
        said = text(&expected.stdout);
    }
    said
}

/// Without the line which says that there is no sandbox.
pub fn without_notice(said: &str) -> String {
    let (notice, rest) = said.split_once('\n').unwrap();
    assert!(notice.contains("sandbox"), "{said}");
    rest.to_owned()
}

#[test]
fn a_program_with_many_names_is_called_by_the_right_one() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("many-names");
    let source = folder.path().join("many-names.c");
    std::fs::write(&source, MANY_NAMES).unwrap();
    let compiled = Command::new("cc").arg("-o").arg(&program).arg(&source).status();
    assert!(compiled.unwrap().success());
    let said = as_in_the_stock_shell(
        &program,
        &["echo", "true", "false", "unknown", "cat-or-not"],
        SCRIPT,
    );
    assert!(said.contains("nine ./many-names"), "{said}");
    assert!(
        said.contains("executed as ./cat-or-not, comm cat-or-not"),
        "{said}"
    );
}

#[test]
fn multi_call_binaries_of_the_system_work() {
    for tool in ["coreutils", "busybox"] {
        let found = Command::new("sh")
            .args(["-c", "command -v \"$0\"", tool])
            .output()
            .unwrap();
        if !is_installed(tool) {
            eprintln!("{tool} is not installed, so it is NOT TESTED as a program with many names");
            continue;
        }
        let path = String::from_utf8(found.stdout).unwrap();
        let said = as_in_the_stock_shell(Path::new(path.trim()), NAMES, TOOLS);
        assert!(said.contains("c\nb\na\n") && said.contains("in time\n"), "{said}");
    }
}
