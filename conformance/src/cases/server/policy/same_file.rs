//! The policy is asked about the very file that the kernel would execute for the requester, and that one runs.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{AsFdObject, RequestMessage};
use crate::peer::harness::Answer;
use crate::peer::wire::{Received, read_whole};
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::descriptors::null;
use crate::stage::server::Stage;
use crate::system::launch::pipe;
use crate::system::tiny::{self, Kind};
use crate::verdict::{CaseError, Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.policy.same-file/tilde", tilde),
    case("server.policy.same-file/dotdot-across-a-link", dotdot_across_a_link),
    case("server.policy.same-file/dotdot-across-several-links", dotdot_across_several_links),
    case("server.policy.same-file/workdir-through-a-link", workdir_through_a_link),
    case("server.policy.same-file/dotdot-without-links", dotdot_without_links),
    case("server.policy.same-file/links-to-programs", links_to_programs),
    case("server.policy.same-file/dotdot-through-what-is-no-directory", dotdot_through_what_is_no_directory),
    case("server.policy.same-file/links-in-a-circle", links_in_a_circle),
    case("server.policy.same-file/characters-of-shells", characters_of_shells),
    case("server.policy.same-file/own-executable", own_executable),
    case("server.policy.same-file/own-directory", own_directory),
    case("server.policy.same-file/own-descriptors", own_descriptors),
    case("server.policy.same-file/directory-of-the-server", directory_of_the_server),
]);

/// The status of the program that the kernel would execute.
const RIGHT: u8 = 11;

/// The status of each program that it would not execute.
const DECOY: u8 = 22;

/// Writes a program, and the directories that lead to it.
fn program(path: PathBuf, status: u8) -> Result<PathBuf, CaseError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    tiny::write(&path, Kind::Binary, b'x', status)?;
    Ok(path)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn identity(path: impl AsRef<Path>) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn request(file: &str, directory: &str) -> RequestMessage {
    RequestMessage::new(file, &["program", file], directory)
}

/// Demands that the policy is asked about `right`, and that this is what runs after Escalate.
fn expect_right(stage: &mut Stage, request: &RequestMessage, right: &Path) -> Verdict {
    let sent = request.value();
    let (mut requester, decision) = stage.ask(request)?;
    let program = decision.question.program.clone();
    let what = format!("file {} in {}", sent["file"], sent["workdir"]);
    expect::that(
        program.starts_with('/'),
        format_args!("an absolute program for {what}"),
        &program,
    )?;
    expect::that(
        identity(&program) == identity(right) && identity(right).is_some(),
        format_args!("for {what}: program names the file {}", right.display()),
        format_args!(
            "program: {program:?}, which is {}",
            shown(&fs::canonicalize(&program).ok())
        ),
    )?;
    decision.answer(&Answer::Escalate)?;
    requester.expect_action(&json!("Escalate"))?;
    let null = null()?;
    requester.send_descriptors(&[(0, &null), (1, &null), (2, &null)])?;
    requester.expect_exit_code(RIGHT.into())
}

/// The outcome of a request that names no file, or one that the server cannot know.
enum Outcome {
    /// Closed, denied, or answered with 126 or 127.
    Refused,
    /// A program ran: the one that the policy was asked about, and its status.
    Ran(String, i64),
}

/// Sends the request, has it escalated with these descriptors, and sees what happens.
fn outcome(
    stage: &mut Stage,
    request: &RequestMessage,
    placements: &[(i64, &dyn AsFdObject)],
) -> Result<Outcome, CaseError> {
    let mut requester = stage.session.socket.open()?;
    requester.request(request)?;
    let Some(decision) = stage.asked_or_refused(&mut requester)? else {
        return Ok(Outcome::Refused);
    };
    let program = decision.question.program.clone();
    decision.answer(&Answer::Escalate)?;
    match requester.frames.receive()? {
        Received::End { bytes: 0 } => return Ok(Outcome::Refused),
        Received::Frame(frame) => {
            let action = frame.json()?["action"].clone();
            if action["Deny"].is_object() {
                return Ok(Outcome::Refused);
            }
            expect::equal("the decision", &json!("Escalate"), &action)?;
        }
        other => return Err(violation("a decision", shown(&other))),
    }
    let numbers: Vec<i64> = placements.iter().map(|(number, _)| *number).collect();
    let descriptors: Vec<i32> = placements.iter().map(|(_, object)| object.number()).collect();
    let payload = json!({"fds": numbers}).to_string();
    // A server that refuses only now may have closed the stream already.
    let bytes = crate::peer::wire::frame(payload.as_bytes());
    let _ = requester.frames.try_send_bytes(&bytes, &descriptors);
    match requester.frames.receive()? {
        Received::End { bytes: 0 } => Ok(Outcome::Refused),
        Received::Frame(frame) => match frame.json()?["exit_code"].as_i64() {
            Some(126 | 127) => Ok(Outcome::Refused),
            Some(status) => Ok(Outcome::Ran(program, status)),
            None => Err(violation("a result", crate::transcript::shown(&frame.payload))),
        },
        other => Err(violation("a result, or the end of the stream", shown(&other))),
    }
}

/// Demands that nothing runs for a request that names no executable file.
fn expect_nothing(stage: &mut Stage, request: &RequestMessage) -> Verdict {
    let null = null()?;
    let outcome = outcome(stage, request, &[(0, &null), (1, &null), (2, &null)])?;
    let sent = request.value();
    match outcome {
        Outcome::Refused => stage.sentinel(),
        Outcome::Ran(program, status) => Err(violation(
            format_args!("nothing runs for file {} in {}", sent["file"], sent["workdir"]),
            format_args!("asked about {program:?}, the server ran a program that exited with {status}"),
        )),
    }
}

/// `~` is an ordinary name: shells expand it before they call the wrapper.
fn tilde(context: &mut Context) -> Verdict {
    // HOME of the server is the case's directory, that of the request another one.
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    for decoy in ["p", "home/p"] {
        program(context.path(decoy), DECOY)?;
    }
    let home = text(&context.path("home"));
    for name in ["~/p", "~root/p", "~+/p", "~x", "a/~/p"] {
        let right = program(work.join(name), RIGHT)?;
        let request = request(name, &text(&work)).variable("HOME", &home);
        expect_right(&mut stage, &request, &right)?;
    }
    // The same in the name of the working directory.
    let right = program(work.join("~/q"), RIGHT)?;
    expect_right(&mut stage, &request("q", &text(&work.join("~"))), &right)?;
    stage.finish()
}

/// `..` after a symbolic link is the parent of what the link leads to.
fn dotdot_across_a_link(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    let right = program(context.path("other/p"), RIGHT)?;
    fs::create_dir_all(context.path("other/d"))?;
    program(work.join("p"), DECOY)?;
    symlink(context.path("other/d"), work.join("link"))?;
    symlink("../other/d", work.join("relative"))?;
    for link in ["link", "relative"] {
        for file in [
            format!("{link}/../p"),
            format!("./{link}/.././p"),
            format!("{}/{link}/../p", text(&work)),
        ] {
            expect_right(&mut stage, &request(&file, &text(&work)), &right)?;
        }
    }
    stage.finish()
}

/// Links that lead through links, and several `..` after them.
fn dotdot_across_several_links(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    let right = program(context.path("far/p"), RIGHT)?;
    fs::create_dir_all(context.path("far/a/b"))?;
    fs::create_dir_all(work.join("s/t"))?;
    for decoy in ["p", "s/p", "s/t/p"] {
        program(work.join(decoy), DECOY)?;
    }
    program(context.path("p"), DECOY)?;
    symlink(context.path("far/a/b"), work.join("first"))?;
    symlink("../../first", work.join("s/t/second"))?;
    let directory = text(&work);
    for file in ["s/t/second/../../p", "first/../../p", "s/../s/t/second/.././../p"] {
        expect_right(&mut stage, &request(file, &directory), &right)?;
    }
    stage.finish()
}

/// A working directory that is a link, or has one in it, and a file that leaves it.
fn workdir_through_a_link(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    let right = program(context.path("other/p"), RIGHT)?;
    fs::create_dir_all(context.path("other/d"))?;
    program(work.join("p"), DECOY)?;
    symlink(context.path("other/d"), work.join("link"))?;
    let link = text(&work.join("link"));
    for (file, directory) in [
        ("../p", link.clone()),
        ("./../p", link.clone()),
        ("../d/../p", link.clone()),
        ("p", format!("{link}/..")),
        ("./p", format!("{link}/../.")),
        ("../p", format!("{link}/.")),
    ] {
        expect_right(&mut stage, &request(file, &directory), &right)?;
    }
    stage.finish()
}

/// Without links `..` leads to the parent by name, and the parent of the root is the root.
fn dotdot_without_links(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    fs::create_dir_all(work.join("s/t"))?;
    let right = program(work.join("p"), RIGHT)?;
    program(work.join("s/p"), DECOY)?;
    let directory = text(&work);
    let above_root = format!("/../../..{directory}/p");
    let slashes = format!("//{directory}///s//..//p");
    for file in ["s/../p", "s/t/../../p", "./s/./../p", &above_root, &slashes] {
        expect_right(&mut stage, &request(file, &directory), &right)?;
    }
    expect_right(
        &mut stage,
        &request("../../p", &format!("{directory}/s/t")),
        &right,
    )?;
    stage.finish()
}

/// A file that is a link is the program that it leads to.
fn links_to_programs(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    let right = program(context.path("other/d/p"), RIGHT)?;
    fs::create_dir_all(context.path("other/e"))?;
    program(work.join("d/p"), DECOY)?;
    // Relative to where the link is, not to where the request is.
    symlink("../d/p", context.path("other/e/link"))?;
    symlink(context.path("other/e/link"), work.join("chain"))?;
    symlink(context.path("other/e"), work.join("e"))?;
    for file in ["chain", "./chain", "e/link", "e/../d/p"] {
        expect_right(&mut stage, &request(file, &text(&work)), &right)?;
    }
    stage.finish()
}

/// A path through a file, or through what isn't there, leads nowhere, whatever the rest of the path would name.
fn dotdot_through_what_is_no_directory(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    program(work.join("p"), DECOY)?;
    program(work.join("q"), DECOY)?;
    symlink("nowhere", work.join("dangling"))?;
    let directory = text(&work);
    let absolute = format!("{directory}/missing/../p");
    for file in ["missing/../p", "q/../p", "dangling/../p", "p/", "p/.", &absolute] {
        expect_nothing(&mut stage, &request(file, &directory))?;
    }
    for workdir in ["missing/..", "q/..", "dangling/.."] {
        expect_nothing(&mut stage, &request("p", &format!("{directory}/{workdir}")))?;
    }
    stage.finish()
}

/// Links that lead to each other lead nowhere.
fn links_in_a_circle(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    program(work.join("p"), DECOY)?;
    symlink("b", work.join("a"))?;
    symlink("a", work.join("b"))?;
    let directory = text(&work);
    for file in ["a", "b", "a/../p", "./a/p"] {
        expect_nothing(&mut stage, &request(file, &directory))?;
    }
    expect_nothing(&mut stage, &request("../p", &format!("{directory}/a")))?;
    stage.finish()
}

/// Variables, patterns, quotes and blanks are parts of names.
fn characters_of_shells(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    for decoy in ["p", "value", "x p", "home/p"] {
        program(work.join(decoy), DECOY)?;
    }
    let names = [
        "$K", "${K}", "%K%", "?", "*", "[p]", "{p,q}", "\\p", "'p'", "\"p\"", " p", "p ", "p\n", "x\\ p",
        "file:p", "-p", "$HOME/p",
    ];
    for name in names {
        let right = program(work.join(name), RIGHT)?;
        let request = request(name, &text(&work)).variable("K", "value");
        expect_right(&mut stage, &request, &right)?;
    }
    stage.finish()
}

/// Demands that a request for a name that means something else in each process is refused, or decided on under a
/// name that means one file, which is what runs.
fn expect_refused_or_one_file(
    stage: &mut Stage,
    request: &RequestMessage,
    placements: &[(i64, &dyn AsFdObject)],
    right: Option<&Path>,
) -> Verdict {
    let sent = request.value();
    let Outcome::Ran(program, status) = outcome(stage, request, placements)? else {
        return stage.sentinel();
    };
    let names_one_file = !program.starts_with("/proc/") && !program.starts_with("/dev/");
    let is_right =
        right.is_some_and(|right| identity(right) == identity(&program)) && status == i64::from(RIGHT);
    expect::that(
        names_one_file && is_right,
        format_args!(
            "file {} in {} is refused, or decided on under a name that means the same file in every process, which then runs",
            sent["file"], sent["workdir"]
        ),
        format_args!("asked about {program:?}, the server ran a program that exited with {status}"),
    )
}

/// `/proc/self/exe` is another file in each process: a requester never means the server's own.
fn own_executable(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    symlink("/proc/self/exe", work.join("link"))?;
    symlink("/proc/self", work.join("self"))?;
    let directory = text(&work);
    let null = null()?;
    for file in [
        "/proc/self/exe",
        "/proc/thread-self/exe",
        "/proc/./self/../self/exe",
        "link",
        "self/exe",
    ] {
        let placements: [(i64, &dyn AsFdObject); 3] = [(0, &null), (1, &null), (2, &null)];
        expect_refused_or_one_file(&mut stage, &request(file, &directory), &placements, None)?;
    }
    stage.finish()
}

/// `/proc/self/cwd` is another directory in each process, as a working directory and in a file.
fn own_directory(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    let right = program(work.join("p"), RIGHT)?;
    // The server's own working directory is the case's.
    program(context.path("p"), DECOY)?;
    symlink("/proc/self/cwd", context.path("work/link"))?;
    let directory = text(&work);
    let null = null()?;
    let placements: [(i64, &dyn AsFdObject); 3] = [(0, &null), (1, &null), (2, &null)];
    // In the file alone, it means the working directory of the request.
    for (file, workdir, right) in [
        ("/proc/self/cwd/p", &*directory, Some(&*right)),
        ("link/p", &*directory, Some(&*right)),
        ("p", "/proc/self/cwd", None),
        ("./p", "/proc/thread-self/cwd", None),
        ("p", &*format!("{directory}/link"), None),
    ] {
        expect_refused_or_one_file(&mut stage, &request(file, workdir), &placements, right)?;
    }
    expect_right(&mut stage, &request("p", &directory), &right)?;
    stage.finish()
}

/// `/dev/fd/N` is another file in each process: not what happens to be mapped to that number in the child.
fn own_descriptors(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    let decoy = program(context.path("decoy"), DECOY)?;
    let decoy: OwnedFd = fs::File::open(decoy)?.into();
    let null = null()?;
    let placements: [(i64, &dyn AsFdObject); 5] =
        [(0, &decoy), (1, &null), (2, &null), (3, &decoy), (9, &decoy)];
    symlink("/dev/fd/3", work.join("link"))?;
    let directory = text(&work);
    for file in [
        "/dev/fd/0",
        "/dev/stdin",
        "/proc/self/fd/3",
        "/dev/fd/9",
        "link",
        "/proc/self/fd/0",
    ] {
        expect_refused_or_one_file(&mut stage, &request(file, &directory), &placements, None)?;
    }
    stage.finish()
}

/// `/proc/self` is a directory of the process that looks: however it is spelled, no program is started in the server's own,
/// where it could read the server's environment.
fn directory_of_the_server(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let work = context.work_directory();
    symlink("/proc/self", work.join("own"))?;
    let link = text(&work.join("own"));
    for directory in [
        "/proc/self",
        "//proc/self",
        "/proc/./self",
        "/proc/self/",
        "/usr/../proc/self",
        "/proc/self/task/..",
        "/proc/thread-self/../..",
        &link,
    ] {
        let (reader, writer) = pipe()?;
        let null = null()?;
        let request = RequestMessage::new("/bin/cat", &["cat", "status"], directory);
        let outcome = outcome(&mut stage, &request, &[(0, &null), (1, &writer), (2, &null)])?;
        drop(writer);
        let output = read_whole(reader, "standard output is closed at the end", context.patience())?;
        let output = String::from_utf8_lossy(&output);
        let of_requester = format!("Pid:\t{}", std::process::id());
        let is_right = output.lines().any(|line| line == of_requester);
        expect::that(
            matches!(outcome, Outcome::Refused) || output.is_empty() || is_right,
            format_args!(
                "a program with workdir {directory:?} is refused, or sees the requester's directory"
            ),
            format_args!(
                "it sees {:?}",
                output.lines().find(|line| line.starts_with("Pid:"))
            ),
        )?;
    }
    stage.sentinel()?;
    stage.finish()
}
