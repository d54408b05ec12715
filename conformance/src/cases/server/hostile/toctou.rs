//! What was decided on is what runs: a file put in its place between decision and execution never does.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::{RequestMessage, Requester};
use crate::peer::harness::Answer;
use crate::peer::wire::{Received, read_whole};
use crate::shown::shown;
use crate::spec::requirements::Role;
use crate::stage::server::Stage;
use crate::system::launch::pipe;
use crate::system::tiny::{self, Kind};
use crate::verdict::{CaseError, Verdict, harness, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.toctou/renamed-over", renamed_over),
    case("server.toctou/link-changed", link_changed),
    case("server.toctou/link-to-a-directory-changed", directory_link_changed),
    case("server.toctou/directory-renamed", directory_renamed),
    case("server.toctou/workdir-renamed", workdir_renamed),
    case("server.toctou/workdir-link-changed", workdir_link_changed),
    case("server.toctou/missing-then-there", missing_then_there),
    case("server.toctou/script", script),
    case("server.toctou/bare-script", bare_script),
    case("server.toctou/rewritten-in-place", rewritten_in_place),
    case("server.toctou/bare-script-called-like-an-option", bare_script_called_like_an_option),
    case("server.toctou/exchanged-again-and-again", exchanged_again_and_again).within_seconds(60),
    case("server.toctou/scripts-exchanged-again-and-again", scripts_exchanged_again_and_again).within_seconds(60),
]);

/// What the program that is decided on says and exits with.
const DECIDED: (u8, u8) = (b'A', 11);

/// The same for the program that is put in its place.
const SWAPPED: (u8, u8) = (b'B', 22);

/// When the swap happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// While the policy is thinking.
    Pending,
    /// After Escalate has arrived, before the descriptor message.
    Escalated,
}

/// A request, and how its path comes to name another file.
struct Swap {
    file: String,
    directory: String,
    swap: Box<dyn FnOnce() -> std::io::Result<()>>,
}

/// The two programs at `decided` and `swapped`.
fn write_both(decided: &Path, swapped: &Path, kind: Kind) -> Result<(), CaseError> {
    tiny::write(decided, kind, DECIDED.0, DECIDED.1)?;
    tiny::write(swapped, kind, SWAPPED.0, SWAPPED.1)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A directory of its own for each attempt.
fn fresh_directory(context: &Context) -> Result<PathBuf, CaseError> {
    let path = context.path(&format!("swap-{}", context.next_number()));
    fs::create_dir(&path)?;
    Ok(path)
}

/// The outcome of an escalation: the letters on standard output, and the result if there was one.
fn outcome(context: &Context, requester: &mut Requester) -> Result<(Vec<u8>, Option<i64>), CaseError> {
    let (reader, writer) = pipe()?;
    let null = File::options().write(true).open("/dev/null")?;
    // A server that has noticed the swap may have closed the stream already.
    let sent = crate::peer::wire::frame(b"{\"fds\":[1,2]}");
    let numbers = [
        std::os::fd::AsRawFd::as_raw_fd(&writer),
        std::os::fd::AsRawFd::as_raw_fd(&null),
    ];
    let _ = requester.frames.try_send_bytes(&sent, &numbers);
    drop(writer);
    let result = match requester.frames.receive()? {
        Received::Frame(frame) => Some(frame.json()?["exit_code"].as_i64().unwrap_or(-1)),
        Received::End { bytes: 0 } => None,
        other => {
            return Err(violation("a result or the end of the stream", shown(&other)));
        }
    };
    let output = read_whole(reader, "standard output is closed at the end", context.patience())?;
    Ok((output, result))
}

/// Demands that the program that was put in place did not run.
fn expect_not_swapped(output: &[u8], result: Option<i64>) -> Verdict {
    let decided = (vec![DECIDED.0], Some(i64::from(DECIDED.1)));
    let refused = output.is_empty() && result != Some(0);
    expect::that(
        (output.to_vec(), result) == decided || refused,
        "the program that was decided on runs (output A, exit_code 11), or nothing runs and the status isn't 0",
        format_args!(
            "output {:?}, exit_code {result:?}",
            String::from_utf8_lossy(output)
        ),
    )
}

/// Tries a swap at one moment; unswapped, the request must run what was decided on.
fn attempt(
    context: &Context,
    stage: &mut Stage,
    moment: Option<Moment>,
    prepare: &dyn Fn(&Path) -> Result<Swap, CaseError>,
) -> Verdict {
    context.transcript.note(format_args!("swap: {moment:?}"));
    let directory = fresh_directory(context)?;
    let Swap {
        file,
        directory,
        swap,
    } = prepare(&directory)?;
    stage.shim.decide_by_hand();
    let mut requester = stage.session.socket.open()?;
    requester.request(&RequestMessage::new(&file, &["program"], &directory))?;
    let decision = stage.shim.next_decision()?;
    if moment == Some(Moment::Pending) {
        swap()?;
        decision.answer(&Answer::Escalate)?;
        // The server may fail closed at once.
        match requester.frames.receive()? {
            Received::End { bytes: 0 } => return Ok(()),
            Received::Frame(frame) => {
                let message = frame.json()?;
                if message["action"]["Deny"].is_object() {
                    return Ok(());
                }
                expect::equal("the decision", &json!("Escalate"), &message["action"])?;
            }
            other => return Err(violation("a decision", shown(&other))),
        }
    } else {
        decision.answer(&Answer::Escalate)?;
        requester.expect_action(&json!("Escalate"))?;
        if moment == Some(Moment::Escalated) {
            swap()?;
        }
    }
    let (output, result) = outcome(context, &mut requester)?;
    if moment.is_none() {
        return expect::equal(
            "output and exit_code without a swap",
            (vec![DECIDED.0], Some(i64::from(DECIDED.1))),
            (output, result),
        );
    }
    expect_not_swapped(&output, result)?;
    // The same request, decided on anew, is about the new file.
    stage.shim.decide_by(|_| Answer::Escalate);
    let mut again = stage.granted(&RequestMessage::new(&file, &["program"], &directory))?;
    let (output, result) = outcome(context, &mut again)?;
    expect::equal(
        "output and exit_code of the swapped program when it is decided on",
        (vec![SWAPPED.0], Some(i64::from(SWAPPED.1))),
        (output, result),
    )
}

/// No swap, then one at each moment.
fn attempts(context: &Context, prepare: &dyn Fn(&Path) -> Result<Swap, CaseError>) -> Verdict {
    let mut stage = Stage::new(context)?;
    for moment in [None, Some(Moment::Pending), Some(Moment::Escalated)] {
        attempt(context, &mut stage, moment, prepare)?;
    }
    stage.shim.decide_by(|_| Answer::Escalate);
    stage.sentinel()?;
    stage.finish()
}

fn prepare_renaming(directory: &Path, kind: Kind) -> Result<Swap, CaseError> {
    let (decided, other) = (directory.join("program"), directory.join("other"));
    write_both(&decided, &other, kind)?;
    Ok(Swap {
        file: text(&decided),
        directory: text(directory),
        swap: Box::new(move || fs::rename(other, decided)),
    })
}

/// Another file is renamed over the program.
fn renamed_over(context: &mut Context) -> Verdict {
    attempts(context, &|directory| prepare_renaming(directory, Kind::Binary))
}

/// A script with `#!`, whose interpreter opens it a second time.
fn script(context: &mut Context) -> Verdict {
    attempts(context, &|directory| prepare_renaming(directory, Kind::Script))
}

/// A script without `#!`, which is opened a second time too.
fn bare_script(context: &mut Context) -> Verdict {
    attempts(context, &|directory| {
        prepare_renaming(directory, Kind::BareScript)
    })
}

/// Writes `other`'s content into the program's own file, and leaves no trace in its size and time of modification.
fn rewrite(program: &Path, other: &Path) -> std::io::Result<()> {
    let modified = fs::metadata(program)?.modified()?;
    let content = fs::read(other)?;
    let mut file = File::options().write(true).open(program)?;
    file.write_all(&content)?;
    file.set_modified(modified)
}

/// The program stays the same file, but other content is written into it.
fn rewritten_in_place(context: &mut Context) -> Verdict {
    for kind in [Kind::Binary, Kind::Script, Kind::BareScript] {
        attempts(context, &|directory| {
            let (decided, other) = (directory.join("program"), directory.join("other"));
            write_both(&decided, &other, kind)?;
            Ok(Swap {
                file: text(&decided),
                directory: text(directory),
                swap: Box::new(move || rewrite(&decided, &other)),
            })
        })?;
    }
    Ok(())
}

/// A script without `#!` whose name a shell could take for an option, and its argument for the commands.
fn bare_script_called_like_an_option(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    stage.shim.decide_by(|_| Answer::Escalate);
    let directory = fresh_directory(context)?;
    for name in ["c", "-c", "--", "-", "-sc", "+c"] {
        tiny::write(&directory.join(name), Kind::BareScript, DECIDED.0, DECIDED.1)?;
        let commands = format!("printf {}; exit {}", char::from(SWAPPED.0), SWAPPED.1);
        let request = RequestMessage::new(name, &[name, &commands], &text(&directory));
        let mut requester = stage.granted(&request)?;
        let (output, result) = outcome(context, &mut requester)?;
        context.transcript.note(format_args!("called {name}"));
        expect_not_swapped(&output, result)?;
    }
    stage.sentinel()?;
    stage.finish()
}

/// Puts a symbolic link in the place of another, in one step.
fn relink(target: &Path, link: &Path) -> std::io::Result<()> {
    let new = link.with_extension("new");
    symlink(target, &new)?;
    fs::rename(new, link)
}

/// The program's path is a symbolic link that is changed.
fn link_changed(context: &mut Context) -> Verdict {
    attempts(context, &|directory| {
        let (decided, other, link) = (
            directory.join("decided"),
            directory.join("other"),
            directory.join("link"),
        );
        write_both(&decided, &other, Kind::Binary)?;
        symlink(&decided, &link)?;
        Ok(Swap {
            file: text(&link),
            directory: text(directory),
            swap: Box::new(move || relink(&other, &link)),
        })
    })
}

/// Two directories with a program each, below `directory`.
fn two_directories(directory: &Path, kind: Kind) -> Result<(PathBuf, PathBuf), CaseError> {
    let (decided, other) = (directory.join("decided"), directory.join("other"));
    fs::create_dir(&decided)?;
    fs::create_dir(&other)?;
    write_both(&decided.join("program"), &other.join("program"), kind)?;
    Ok((decided, other))
}

/// A symbolic link in the middle of the path is changed.
fn directory_link_changed(context: &mut Context) -> Verdict {
    attempts(context, &|directory| {
        let (decided, other) = two_directories(directory, Kind::Binary)?;
        let link = directory.join("link");
        symlink(&decided, &link)?;
        Ok(Swap {
            file: text(&link.join("program")),
            directory: text(directory),
            swap: Box::new(move || relink(&other, &link)),
        })
    })
}

/// Moves `other` to where `decided` was.
fn move_over(decided: &Path, other: &Path) -> std::io::Result<()> {
    fs::rename(decided, decided.with_extension("moved"))?;
    fs::rename(other, decided)
}

/// The directory of the program is moved away and another is put in its place.
fn directory_renamed(context: &mut Context) -> Verdict {
    attempts(context, &|directory| {
        let (decided, other) = two_directories(directory, Kind::Binary)?;
        Ok(Swap {
            file: text(&decided.join("program")),
            directory: text(directory),
            swap: Box::new(move || move_over(&decided, &other)),
        })
    })
}

/// The same with the working directory, in which the program is named relatively.
fn workdir_renamed(context: &mut Context) -> Verdict {
    attempts(context, &|directory| {
        let (decided, other) = two_directories(directory, Kind::Binary)?;
        Ok(Swap {
            file: "./program".to_owned(),
            directory: text(&decided),
            swap: Box::new(move || move_over(&decided, &other)),
        })
    })
}

/// The working directory is named by a symbolic link that is changed.
fn workdir_link_changed(context: &mut Context) -> Verdict {
    attempts(context, &|directory| {
        let (decided, other) = two_directories(directory, Kind::Binary)?;
        let link = directory.join("link");
        symlink(&decided, &link)?;
        Ok(Swap {
            file: "program".to_owned(),
            directory: text(&link),
            swap: Box::new(move || relink(&other, &link)),
        })
    })
}

/// A program that wasn't there when it was decided on, and is there afterwards, is another file.
fn missing_then_there(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?;
    for moment in [Moment::Pending, Moment::Escalated] {
        let prepare = |directory: &Path| {
            let (missing, other) = (directory.join("missing"), directory.join("other"));
            tiny::write(&other, Kind::Binary, SWAPPED.0, SWAPPED.1)?;
            Ok(Swap {
                file: text(&missing),
                directory: text(directory),
                swap: Box::new(move || fs::rename(other, missing)),
            })
        };
        attempt(context, &mut stage, Some(moment), &prepare)?;
    }
    stage.finish()
}

/// After the decision two files, or the directories that they are in, are exchanged again and again: whenever the server
/// looks and whenever it executes, the other one never runs. Sixty times.
fn exchanged_again_and_again(context: &mut Context) -> Verdict {
    exchanged(context, &[Kind::Binary])
}

/// The same with texts, which an interpreter opens after the server has compared them.
fn scripts_exchanged_again_and_again(context: &mut Context) -> Verdict {
    exchanged(context, &[Kind::Script, Kind::BareScript])
}

/// Files of these kinds in turn, exchanged with others without pause from the decision to the end.
fn exchanged(context: &Context, kinds: &[Kind]) -> Verdict {
    let mut stage = Stage::new(context)?;
    let (mut ran, mut refused) = (0, 0);
    for round in 0..60 {
        let directory = fresh_directory(context)?;
        let kind = kinds[round % kinds.len()];
        // A file's own new name changes the time of its last change, which gives the exchange away. A directory's doesn't.
        let (program, decided, other) = if round % 3 == 0 {
            let (program, other) = (directory.join("program"), directory.join("other"));
            write_both(&program, &other, kind)?;
            (program.clone(), program, other)
        } else {
            let (decided, other) = two_directories(&directory, kind)?;
            (decided.join("program"), decided, other)
        };
        let mut requester = stage.granted(&stage.request_for(&text(&program)))?;
        let over = Arc::new(AtomicBool::new(false));
        let exchanger = std::thread::spawn({
            let over = over.clone();
            move || {
                while !over.load(Ordering::Relaxed) {
                    exchange(&decided, &other)?;
                }
                Ok::<_, CaseError>(())
            }
        });
        let outcome = outcome(context, &mut requester);
        over.store(true, Ordering::Relaxed);
        exchanger
            .join()
            .map_err(|_| harness("the thread that exchanges the files panicked"))??;
        let (output, result) = outcome?;
        expect_not_swapped(&output, result)?;
        if output.is_empty() { refused += 1 } else { ran += 1 }
    }
    context.transcript.note(format_args!(
        "the program that was decided on ran {ran} times and was refused {refused} times"
    ));
    stage.sentinel()?;
    stage.finish()
}

/// Exchanges the names of two files atomically (renameat2 with RENAME_EXCHANGE).
fn exchange(first: &Path, second: &Path) -> Result<(), CaseError> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    Ok(renameat2(
        AT_FDCWD,
        first,
        AT_FDCWD,
        second,
        RenameFlags::RENAME_EXCHANGE,
    )?)
}
