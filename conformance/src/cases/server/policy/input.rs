//! What the policy is asked: the program, argv and working directory of the request.

use serde_json::json;

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::fake_wrapper::RequestMessage;
use crate::peer::harness::Answer;
use crate::spec::requirements::{Level, Role};
use crate::stage::server::Stage;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("server.policy.input/absolute-file", absolute_file),
    case("server.policy.input/relative-file", relative_file),
    case("server.policy.input/dot-components", dot_components),
    case("server.policy.input/no-search-in-path", no_search_in_path),
    case("server.policy.input/argv-verbatim", argv_verbatim),
    case("server.policy.input/ten-thousand-arguments", ten_thousand_arguments),
    case("server.policy.input/workdir-verbatim", workdir_verbatim),
    case("server.policy.input/workdir-above-a-link", workdir_above_a_link).at(Level::Hardened),
    case("server.policy.input/missing-file", missing_file),
]);

/// Sends a request and demands that the policy gets `program`, and argv and workdir as sent.
fn expect_question(stage: &mut Stage, request: &RequestMessage, program: &str) -> Verdict {
    let sent = request.value();
    let mut requester = stage.session.socket.open()?;
    requester.request(request)?;
    let decision = stage.shim.next_decision()?;
    let what = format!("program, for file {} in {}", sent["file"], sent["workdir"]);
    expect::equal(&what, program, &*decision.question.program)?;
    expect::equal("argv", &sent["argv"], &json!(decision.question.arguments))?;
    expect::equal("workdir", &sent["workdir"], &json!(decision.question.directory))?;
    decision.answer(&Answer::Deny(None))?;
    requester.expect_action(&json!({"Deny": {"reason": null}}))
}

/// An absolute file without dots and links arrives as it is, whatever argv says.
fn absolute_file(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let file = context.write_file("programs/tool", b"#!/bin/sh\n", 0o755)?;
    let file = file.to_string_lossy().into_owned();
    for arguments in [&["tool"][..], &["-other", "a", "b"], &["/bin/sh", "-c", "x"]] {
        let request = stage.request(&file, arguments);
        expect_question(&mut stage, &request, &file)?;
    }
    stage.finish()
}

/// A relative file is resolved against the request's working directory, not the server's.
fn relative_file(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let directory = stage.directory.clone();
    for (name, place) in [("p", "work"), ("s/p", "work"), ("p", "."), ("s/p", ".")] {
        context.write_file(&format!("{place}/{name}"), b"#!/bin/sh\n", 0o755)?;
    }
    for file in ["p", "s/p"] {
        let request = stage.request(file, &["p"]);
        expect_question(&mut stage, &request, &format!("{directory}/{file}"))?;
    }
    // The same file name in another directory of the same session.
    let other = format!("{directory}/s");
    let request = RequestMessage::new("p", &["p"], &other);
    expect_question(&mut stage, &request, &format!("{other}/p"))?;
    stage.finish()
}

/// Components that are `.` are removed, wherever they are.
fn dot_components(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let directory = stage.directory.clone();
    context.write_file("work/s/p", b"#!/bin/sh\n", 0o755)?;
    context.write_file("work/p", b"#!/bin/sh\n", 0o755)?;
    let table = [
        ("./p", "p"),
        ("././p", "p"),
        ("s/./p", "s/p"),
        ("./s/././p", "s/p"),
    ];
    for (file, program) in table {
        let request = stage.request(file, &["p"]);
        expect_question(&mut stage, &request, &format!("{directory}/{program}"))?;
    }
    let request = stage.request(&format!("{directory}/./s/./p"), &["p"]);
    expect_question(&mut stage, &request, &format!("{directory}/s/p"))?;
    stage.finish()
}

/// A file without a slash is one of the working directory, even if PATH has one of that name.
fn no_search_in_path(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let directory = stage.directory.clone();
    context.write_file("work/sh", b"#!/bin/sh\n", 0o755)?;
    let request = stage.request("sh", &["sh"]).variable("PATH", "/usr/bin:/bin");
    expect_question(&mut stage, &request, &format!("{directory}/sh"))?;
    stage.finish()
}

/// Each argument as it was sent: empty ones, blanks, newlines, Unicode.
fn argv_verbatim(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let file = "/bin/sh";
    let lists: [&[&str]; 5] = [
        &["sh"],
        &["", "", ""],
        &[
            "-sh",
            " leading and trailing ",
            "a\nb\tc\r",
            "\u{1}\u{7f}\u{2028}",
        ],
        &["sh", "*", "~", "$HOME", "--", "\\", "\"quoted\"", "'"],
        &["sh", "ü–😀", "\u{feff}", "é", "e\u{301}", "\u{fffd}"],
    ];
    for arguments in lists {
        let mut requester = stage.session.socket.open()?;
        requester.request(&stage.request(file, arguments))?;
        let decision = stage.shim.next_decision()?;
        expect::equal("argv", arguments, &*decision.question.arguments)?;
        decision.answer(&Answer::Deny(None))?;
        requester.expect_action(&json!({"Deny": {"reason": null}}))?;
    }
    stage.finish()
}

/// All of ten thousand arguments, in order.
fn ten_thousand_arguments(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let words: Vec<String> = (0..10_000).map(|number| format!("argument {number}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut requester = stage.session.socket.open()?;
    requester.request(&stage.request("/bin/sh", &words))?;
    let decision = stage.shim.next_decision()?;
    expect::equal("argv", &*words, &*decision.question.arguments)?;
    decision.answer(&Answer::Deny(None))?;
    requester.expect_action(&json!({"Deny": {"reason": null}}))?;
    stage.finish()
}

/// The working directory as it was sent: through a link, with blanks.
fn workdir_verbatim(context: &mut Context) -> Verdict {
    workdirs_arrive(context, &["a b ü", "link"])
}

/// `..` behind a link is the parent of what the link leads to, so it must not be taken out of the text.
fn workdir_above_a_link(context: &mut Context) -> Verdict {
    workdirs_arrive(context, &["link/..", "a b ü/.."])
}

fn workdirs_arrive(context: &mut Context, names: &[&str]) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let directory = stage.directory.clone();
    std::fs::create_dir(format!("{directory}/a b ü"))?;
    std::os::unix::fs::symlink(format!("{directory}/a b ü"), format!("{directory}/link"))?;
    for name in names {
        let workdir = format!("{directory}/{name}");
        let mut requester = stage.session.socket.open()?;
        requester.request(&RequestMessage::new("/bin/sh", &["sh"], &workdir))?;
        let decision = stage.shim.next_decision()?;
        expect::equal("workdir", &*workdir, &*decision.question.directory)?;
        decision.answer(&Answer::Deny(None))?;
        requester.expect_action(&json!({"Deny": {"reason": null}}))?;
    }
    stage.finish()
}

/// The policy is asked about a file that doesn't exist too: the policy decides first, and 127 comes after that.
fn missing_file(context: &mut Context) -> Verdict {
    let mut stage = Stage::new(context)?.decide_by_hand();
    let directory = stage.directory.clone();
    let request = stage.request("missing", &["missing"]);
    expect_question(&mut stage, &request, &format!("{directory}/missing"))?;
    stage.finish()
}
