//! The name by which an escalated program sees itself executed, which programs that are one file with many names go by.

use std::os::unix::fs::symlink;

use crate::case::context::Context;
use crate::case::{Table, case, expect};
use crate::peer::program::Program;
use crate::peer::wire::read_whole;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::server::Stage;
use crate::system::launch::pipe;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.escalate.name/link-to-a-program-of-many-names", link_to_a_program_of_many_names),
    case("server.escalate.name/relative", relative),
    case("server.escalate.name/program-of-the-system", program_of_the_system),
    case("server.escalate.name/interpreter", interpreter),
]);

/// What a program sees of its execution: AT_EXECFN, comm, /proc/self/exe, argv[0].
type Seen = [String; 4];

/// Executes `file` with another argv[0], and compares.
fn expect_seen(stage: &mut Stage, program: &Program, file: &str, comm: &str) -> Verdict {
    let request = stage.request(file, &["another name"]);
    stage.escalate_quietly(&request)?.expect_exit_code(0)?;
    let report = program.only_start()?;
    program.forget_starts()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let seen: Seen = [
        text(&report.executed_name),
        text(&report.name),
        text(&report.executable),
        text(report.arguments.first().map_or(b"", Vec::as_slice)),
    ];
    let expected: Seen = [
        file.to_owned(),
        comm.to_owned(),
        program.text().to_owned(),
        "another name".to_owned(),
    ];
    expect::equal(
        &format!("AT_EXECFN, comm, /proc/self/exe and argv[0] of {file:?}"),
        expected,
        seen,
    )
}

/// Each link to such a program is another command, and it is AT_EXECFN by which some tell.
fn link_to_a_program_of_many_names(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let program = Program::new(context, "many-names", [])?;
    expect_seen(&mut stage, &program, program.text(), "many-names")?;
    for (name, comm) in [("echo", "echo"), ("a-name-longer-than-comm", "a-name-longer-t")] {
        let link = context.path("bin").join(name);
        symlink("many-names", &link)?;
        expect_seen(&mut stage, &program, &link.to_string_lossy(), comm)?;
    }
    stage.finish()
}

/// A relative name is seen as it was written.
fn relative(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let folder = context.work_directory().join("d");
    std::fs::create_dir(&folder)?;
    let program = Program::at(context, &folder.join("many-names"), [])?;
    symlink("many-names", folder.join("true"))?;
    for (file, comm) in [
        ("d/many-names", "many-names"),
        ("./d/../d//true", "true"),
        ("d/./true", "true"),
    ] {
        expect_seen(&mut stage, &program, file, comm)?;
    }
    stage.finish()
}

/// A program that only root could replace may go another way than one of the sandbox.
fn program_of_the_system(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    for file in ["/bin/cat", "/usr/../bin/cat"] {
        let (output, writer) = pipe()?;
        let null = null()?;
        let request = stage.request(file, &["cat", "/proc/self/comm"]);
        let mut requester = stage.escalate_request(&request, &[(0, &null), (1, &writer), (2, &null)])?;
        drop(writer);
        requester.expect_exit_code(0)?;
        let comm = read_whole(output, "standard output is closed at the end", context.patience())?;
        expect::equal(
            &format!("/proc/self/comm of {file}"),
            "cat\n",
            &*String::from_utf8_lossy(&comm),
        )?;
    }
    stage.finish()
}

/// The interpreter of a script has its own path as `argv[0]`, and the script's arguments behind the script; by which path
/// it opens the script is the server's affair.
fn interpreter(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let interpreter = Program::new(context, "interpreter", [])?;
    let first_line = format!("#!{} one word\n", interpreter.text());
    let script = context.write_file("bin/script", first_line.as_bytes(), 0o755)?;
    let request = stage.request(&script.to_string_lossy(), &["another name", "x", "y"]);
    stage.escalate_quietly(&request)?.expect_exit_code(0)?;
    let arguments = interpreter.only_start()?.argument_text();
    let [own, option, _script, rest @ ..] = &*arguments else {
        return Err(violation(
            "argv of an interpreter with one argument",
            format_args!("{arguments:?}"),
        ));
    };
    expect::equal(
        "argv of the interpreter, without the script",
        vec![interpreter.text(), "one word", "x", "y"],
        [own, option]
            .into_iter()
            .chain(rest)
            .map(String::as_str)
            .collect::<Vec<_>>(),
    )?;
    stage.finish()
}
