//! A session is started without a look at the paths of its shell and its wrapper.

use crate::case::context::Context;
use crate::case::{Table, case};
use crate::peer::harness::Shim;
use crate::spec::requirements::Role;
use crate::stage::overlay::expect_overlay;
use crate::verdict::{Verdict, violation};

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("session.lazy/paths-that-do-not-exist", paths_that_do_not_exist),
    case("session.lazy/paths-are-not-opened", paths_are_not_opened),
    case("session.lazy/nothing-is-executed", nothing_is_executed),
]);

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
    // When a second start has answered, the first one has done all that it would do late.
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
