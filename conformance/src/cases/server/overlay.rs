//! The overlay of a session, and that a session is started without looking at any path.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::{Overlay, Shim};
use crate::spec::requirements::Role;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("session.overlay/names-and-values", names_and_values),
    case("session.overlay/no-environment-of-the-server", no_environment_of_the_server),
    case("session.overlay/wrapper-path-unchanged", wrapper_path_unchanged),
    case("session.overlay/number-in-decimal", number_in_decimal),
    case("session.lazy/paths-that-do-not-exist", paths_that_do_not_exist),
    case("session.lazy/paths-are-not-opened", paths_are_not_opened),
    case("session.lazy/nothing-is-executed", nothing_is_executed),
]);

/// Names that an overlay may have.
const NAMES: [&str; 3] = ["CODEX_ESCALATE_SOCKET", "EXEC_WRAPPER", "BASH_EXEC_WRAPPER"];

fn expect_overlay(overlay: &Overlay, wrapper: &str) -> Verdict {
    for (name, value) in &overlay.variables {
        if !NAMES.contains(&name.as_str()) {
            return Err(violation(
                format_args!("an overlay of {NAMES:?} at most"),
                format_args!("{name}={value:?} in it"),
            ));
        }
    }
    overlay.socket_number()?;
    expect::equal("EXEC_WRAPPER", Some(wrapper), overlay.get("EXEC_WRAPPER"))?;
    match overlay.get("BASH_EXEC_WRAPPER") {
        None => Ok(()),
        alias => expect::equal("BASH_EXEC_WRAPPER, where it is", Some(wrapper), alias),
    }
}

/// The overlay has the two names, at most the alias too, and the caller's wrapper.
fn names_and_values(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let overlay = shim.start_session("main", "/bin/sh", "/opt/wrapper")?;
    expect_overlay(&overlay, "/opt/wrapper")?;
    shim.shutdown()
}

/// Whatever the server's own environment has, the overlay has nothing of it.
fn no_environment_of_the_server(context: &mut Context) -> Verdict {
    let mut shim = Shim::start_with(context, |launch| {
        launch
            .variable("SECRET", "1")
            .variable("LC_ALL", "C.UTF-8")
            .variable("EXEC_WRAPPER", "/of/the/server")
            .variable("CODEX_ESCALATE_SOCKET", "1000")
    })?;
    let overlay = shim.start_session("main", "/bin/sh", "/opt/wrapper")?;
    expect_overlay(&overlay, "/opt/wrapper")?;
    shim.shutdown()
}

/// EXEC_WRAPPER is the path that the caller gave: blanks, `..`, a link and all.
fn wrapper_path_unchanged(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    std::os::unix::fs::symlink("/bin/sh", context.path("a link"))?;
    let link = context.path("a link").to_string_lossy().into_owned();
    let paths = [link.as_str(), "/opt/a b/../w ü", "/opt//w/./x", "/opt/$HOME/~/%s"];
    for (index, path) in paths.into_iter().enumerate() {
        let overlay = shim.start_session(&format!("session {index}"), "/bin/sh", path)?;
        expect_overlay(&overlay, path)?;
    }
    shim.shutdown()
}

/// The socket's number has nothing but decimal digits.
fn number_in_decimal(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    // Several, so that a number with two digits and more is among them.
    for index in 0..12 {
        let overlay = shim.start_session(&format!("session {index}"), "/bin/sh", "/opt/wrapper")?;
        let value = overlay.get("CODEX_ESCALATE_SOCKET").unwrap_or_default();
        let decimal = !value.is_empty()
            && value.bytes().all(|byte| byte.is_ascii_digit())
            && (value == "0" || !value.starts_with('0'));
        expect::that(
            decimal,
            "CODEX_ESCALATE_SOCKET in decimal digits",
            format_args!("{value:?}"),
        )?;
    }
    shim.shutdown()
}

/// A session starts though neither the shell nor the wrapper exists.
fn paths_that_do_not_exist(context: &mut Context) -> Verdict {
    let mut shim = Shim::start(context)?;
    let wrapper = context.path("missing/wrapper").to_string_lossy().into_owned();
    let shell = context.path("missing/shell").to_string_lossy().into_owned();
    let overlay = shim.start_session("main", &shell, &wrapper)?;
    expect_overlay(&overlay, &wrapper)?;
    shim.shutdown()
}

/// Neither path is opened: both are watched fifos, which an open would block on or be seen by.
fn paths_are_not_opened(context: &mut Context) -> Verdict {
    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o755);
    let paths = ["shell", "wrapper"].map(|name| context.path(name));
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    for path in &paths {
        nix::unistd::mkfifo(path, mode)?;
        watch.add_watch(path, AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS)?;
    }
    let [shell, wrapper] = paths.map(|path| path.to_string_lossy().into_owned());
    let mut shim = Shim::start(context)?;
    let overlay = shim.start_session("main", &shell, &wrapper)?;
    expect_overlay(&overlay, &wrapper)?;
    // Whatever the first start does late, it has done when a second one has answered.
    shim.start_session("sentinel", "/bin/sh", "/opt/wrapper")?;
    match watch.read_events() {
        Err(nix::errno::Errno::EAGAIN) => {}
        Err(error) => return Err(error.into()),
        Ok(events) => {
            return Err(violation(
                "neither the shell nor the wrapper is opened at the start of a session",
                format_args!("inotify: {events:?}"),
            ));
        }
    }
    shim.shutdown()
}

/// Neither path is executed.
fn nothing_is_executed(context: &mut Context) -> Verdict {
    use crate::peer::program::Program;
    let shell = Program::new(context, "shell", [])?;
    let wrapper = Program::new(context, "wrapper", [])?;
    let mut shim = Shim::start(context)?;
    shim.start_session("main", shell.text(), wrapper.text())?;
    shim.start_session("sentinel", "/bin/sh", "/opt/wrapper")?;
    shim.close_session("main")?;
    shim.shutdown()?;
    shell.expect_not_started()?;
    wrapper.expect_not_started()
}
