//! Preflight checks of the implementations under test, once before all cases: whether the shell calls wrappers at all,
//! which extensions the wrapper uses, and the shim's `initialize`, for its name and capabilities. The doctor tries the
//! wrapper, too.
//!
//! What is judged is executed by `trials` only, never by this process: the worst that it gets is that nothing was
//! seen of it. Whatever was started ends with its trial, also where a signal interrupts the suite.

use anyhow::bail;
use serde_json::Value;

use crate::case::implementations::Implementations;
use crate::exit::{HarnessFailure, Interrupted};
use crate::peer::harness::PROTOCOL;
use crate::printable::printable;
use crate::runner::{census, interrupts, trials};
use crate::trial::shell::Calls;
use crate::trial::{Found, Trial};
use crate::verdict::CaseError;

/// Asks all that is named for its version or its capabilities, and a shell for a wrapped command. Says whether what a
/// wrapper should do came in time.
///
/// # Errors
/// What `try_shell` and `initialize_server` say, or that a signal came.
pub fn check(implementations: &mut Implementations, timeout_scale: f64) -> anyhow::Result<bool> {
    leaving_nothing(|| {
        let mut in_time = true;
        if implementations.shell.is_some() {
            ask_shell_version(implementations, timeout_scale)?;
        }
        if implementations.server.is_some() {
            initialize_server(implementations, timeout_scale)?;
        }
        if implementations.wrapper.is_some() {
            in_time = observe_wrapper(implementations, timeout_scale)?;
            // A signal has ended that trial as a hostile wrapper would have.
            if let (_, Some(signal)) = interrupts::listen()? {
                return Err(Interrupted(signal).into());
            }
        }
        if implementations.shell.is_some() {
            try_shell(implementations, timeout_scale)?;
        }
        Ok(in_time)
    })
}

/// Runs `trial`, and ends whatever it has started and not waited for.
///
/// # Errors
/// What `trial` says, or [`Interrupted`] where a signal came meanwhile.
pub fn leaving_nothing<T>(trial: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    // Orphans come to this process, which can then end them.
    nix::sys::prctl::set_child_subreaper(true)?;
    let (mut signals, earlier) = interrupts::listen()?;
    if let Some(signal) = earlier {
        return Err(Interrupted(signal).into());
    }
    let handle = signals.handle();
    let watch = std::thread::spawn(move || {
        let signal = signals.forever().next()?;
        // The trial sees the end of what it waits for.
        let ended = census::kill_all_descendants();
        Some((signal, ended))
    });
    let outcome = trial();
    handle.close();
    let came = watch
        .join()
        .map_err(|_| anyhow::anyhow!("the signal thread panicked"))?;
    census::kill_all_descendants().map_err(in_words)?;
    match came {
        Some((signal, ended)) => {
            ended.map_err(in_words)?;
            Err(Interrupted(signal).into())
        }
        None => outcome,
    }
}

/// What went wrong, for an error outside of any case.
fn in_words(error: CaseError) -> HarnessFailure {
    HarnessFailure(error.to_string())
}

/// What a trial found; `Err` is what `option` did instead.
fn attempt(
    trial: Trial,
    option: &str,
    implementations: &Implementations,
    timeout_scale: f64,
) -> anyhow::Result<Result<Found, CaseError>> {
    trials::attempt(trial, implementations, timeout_scale)
        .map_err(|error| HarnessFailure(format!("{option}: {error:#}")).into())
}

/// A trial that gave what another should.
fn mistaken(found: &Found) -> HarnessFailure {
    HarnessFailure(format!("the suite took one trial for another: {found:?}"))
}

/// How `--shell`, `--wrapper` or `--server` is named in a message.
fn option(name: &str, path: Option<&std::path::PathBuf>) -> String {
    format!(
        "{name} {}",
        path.map(|path| path.display().to_string()).unwrap_or_default()
    )
}

/// Asks the shell for its version, which the report shows. One that does not tell has none.
fn ask_shell_version(implementations: &mut Implementations, timeout_scale: f64) -> anyhow::Result<()> {
    let shell = option("--shell", implementations.shell.as_ref());
    match attempt(Trial::ShellVersion, &shell, implementations, timeout_scale)? {
        Ok(Found::Version(version)) => implementations.shell_version = version,
        Ok(other) => return Err(mistaken(&other).into()),
        Err(error) => {
            return Err(HarnessFailure(format!("{shell}: cannot be asked for its version: {error}")).into());
        }
    }
    Ok(())
}

/// Demands that the wrapper asks before it acts: a handshake, a request, and status 1 after a denial.
///
/// # Errors
/// What it did instead, with its standard error.
pub fn try_wrapper(implementations: &Implementations, timeout_scale: f64) -> anyhow::Result<()> {
    let wrapper = option("--wrapper", implementations.wrapper.as_ref());
    match attempt(Trial::WrapperDenied, &wrapper, implementations, timeout_scale)? {
        Ok(Found::Denied) => Ok(()),
        Ok(other) => Err(mistaken(&other).into()),
        Err(error) => Err(HarnessFailure(format!("{wrapper}: {error}")).into()),
    }
}

/// Sees which extensions the wrapper uses. Of one that gets in the way of that nothing is seen, and why is kept. Returns
/// whether it did something within the time that it had.
fn observe_wrapper(implementations: &mut Implementations, timeout_scale: f64) -> anyhow::Result<bool> {
    let mut in_time = true;
    let wrapper = option("--wrapper", implementations.wrapper.as_ref());
    match attempt(Trial::WrapperExtensions, &wrapper, implementations, timeout_scale) {
        Ok(Ok(Found::Extensions { seen, in_vain })) => {
            implementations.wrapper_extensions = seen;
            in_time = !in_vain;
        }
        Ok(Ok(other)) => return Err(mistaken(&other).into()),
        Ok(Err(error)) => implementations.not_observed = Some(printable(&error.to_string())),
        Err(error) => implementations.not_observed = Some(printable(&format!("{error:#}"))),
    }
    if let Some(why) = &implementations.not_observed {
        eprintln!("conformance: {wrapper}: none of its extensions could be seen: {why}");
    }
    Ok(in_time)
}

/// Whether the server, if it has sessions, gives each decision and a result. If not, says why: most cases fail then, and
/// need not wait long.
///
/// # Errors
/// That a signal came, or that the suite could not do its part.
pub fn serves(implementations: &Implementations, timeout_scale: f64) -> anyhow::Result<bool> {
    if implementations.server.is_none() {
        return Ok(true);
    }
    if !implementations.capabilities.iter().any(|name| name == "session") {
        return Ok(true);
    }
    let command = implementations.server_command.as_deref().unwrap_or_default();
    let server = format!("--server {command:?}");
    let tried = leaving_nothing(|| attempt(Trial::ServerServes, &server, implementations, timeout_scale))?;
    match tried {
        Ok(Found::Served) => Ok(true),
        Ok(other) => Err(mistaken(&other).into()),
        Err(error) => {
            let why = printable(&error.to_string());
            eprintln!(
                "conformance: {server}: the simplest requests fail, so cases wait a tenth of the usual time: {why}"
            );
            Ok(false)
        }
    }
}

/// Demands that a shell that runs some commands calls its wrapper for at least one of them.
///
/// # Errors
/// A usage error where it does not: cases of a stock shell would fail one by one, and say less.
fn try_shell(implementations: &Implementations, timeout_scale: f64) -> anyhow::Result<()> {
    let shell = option("--shell", implementations.shell.as_ref());
    match attempt(Trial::ShellCallsWrapper, &shell, implementations, timeout_scale)? {
        Ok(Found::Calls(Calls::ByPath)) => Ok(()),
        Ok(Found::Calls(Calls::OnlyByName)) => {
            eprintln!(
                "conformance: {shell}: uname, which PATH leads to, went to the wrapper, and /bin/true, named by its path, did not"
            );
            Ok(())
        }
        Ok(Found::Calls(Calls::None)) => bail!(
            "{shell}: this shell is not patched: with {} set, none of its commands went to the wrapper, neither /bin/true nor \
             uname, which PATH leads to (if it reads another variable, name that by --wrapper-variable, such as \
             BASH_EXEC_WRAPPER)",
            implementations
                .wrapper_variable
                .as_deref()
                .unwrap_or("EXEC_WRAPPER")
        ),
        Ok(other) => Err(mistaken(&other).into()),
        Err(error) => Err(HarnessFailure(format!("{shell}: no script runs in it: {error}")).into()),
    }
}

/// Asks the server for its name, version and capabilities.
///
/// # Errors
/// A harness failure (exit status 3) where the shim does not answer as the harness protocol says.
fn initialize_server(implementations: &mut Implementations, timeout_scale: f64) -> anyhow::Result<()> {
    let command = implementations.server_command.clone().unwrap_or_default();
    let server = format!("--server {command:?}");
    let found = attempt(Trial::ServerInitialize, &server, implementations, timeout_scale)?;
    let result = match found {
        Ok(Found::Initialized(result)) => result,
        Ok(other) => return Err(mistaken(&other).into()),
        Err(error) => {
            let text = format!("{server}: the shim does not answer `initialize`: {error}");
            return Err(HarnessFailure(text).into());
        }
    };
    if result["protocol"].as_u64() != Some(PROTOCOL) {
        let protocol = &result["protocol"];
        let text = format!("{server}: the shim speaks protocol {protocol}; this suite speaks {PROTOCOL}");
        return Err(HarnessFailure(text).into());
    }
    let text = |value: &Value| value.as_str().map(printable);
    implementations.server_name = text(&result["implementation"]["name"]);
    implementations.server_version = text(&result["implementation"]["version"]);
    implementations.capabilities = result["capabilities"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(text)
        .collect();
    Ok(())
}
