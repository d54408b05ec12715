//! The overlay of a session: the names and values that it has, and no others.

use crate::case::context::Context;
use crate::case::expect;
use crate::case::{Table, case};
use crate::peer::harness::Shim;
use crate::spec::requirements::Role;
use crate::stage::overlay::expect_overlay;
use crate::verdict::Verdict;

/// The cases of this file.
#[rustfmt::skip]
pub const CASES: Table = Table::of(Role::Server, &[
    case("session.overlay/names-and-values", names_and_values),
    case("session.overlay/no-environment-of-the-server", no_environment_of_the_server),
    case("session.overlay/wrapper-path-unchanged", wrapper_path_unchanged),
    case("session.overlay/number-in-decimal", number_in_decimal),
]);

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
    // Several, so that some numbers have two digits or more.
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
