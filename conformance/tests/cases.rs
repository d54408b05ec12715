//! The cases as tests of cargo: one test a case, so that nextest splits, retries and archives them as it does tests.
//!
//! What is judged is named by CONFORMANCE_SHELL, CONFORMANCE_WRAPPER and CONFORMANCE_SERVER; CONFORMANCE_LEVEL and
//! CONFORMANCE_OPTIONS (such as `--timeout-scale 2`) may be set too. With nothing named there are no tests.

use std::process::Command;

use conformance::inside::Case;
use conformance::inside::Implementations;
use conformance::spec::requirements::Level;
use conformance::suite;
use libtest_mimic::{Arguments, Failed, Trial};

fn named(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// The options that name what is judged.
fn options() -> Vec<String> {
    let mut options: Vec<String> = named("CONFORMANCE_OPTIONS")
        .map(|text| text.split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default();
    for (variable, option) in [
        ("CONFORMANCE_SHELL", "--shell"),
        ("CONFORMANCE_WRAPPER", "--wrapper"),
        ("CONFORMANCE_SERVER", "--server"),
    ] {
        options.extend(
            named(variable)
                .into_iter()
                .flat_map(|value| [option.to_owned(), value]),
        );
    }
    options
}

fn judge(case: &Case, options: &[String]) -> Result<(), Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_conformance"))
        .args(["case", case.id])
        .args(options)
        .output()?;
    // 4: the shim doesn't name the capability that the case needs.
    if matches!(output.status.code(), Some(0 | 4)) {
        return Ok(());
    }
    Err(format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}

fn main() {
    let arguments = Arguments::from_args();
    let path = |variable| named(variable).map(std::path::PathBuf::from);
    let implementations = Implementations::named(
        path("CONFORMANCE_SHELL").as_deref(),
        path("CONFORMANCE_WRAPPER").as_deref(),
        named("CONFORMANCE_SERVER").as_deref(),
    )
    .unwrap_or_else(|error| {
        eprintln!("CONFORMANCE_SHELL, CONFORMANCE_WRAPPER or CONFORMANCE_SERVER: {error:#}");
        std::process::exit(2);
    });
    let level: Level = named("CONFORMANCE_LEVEL").map_or(Level::Hardened, |level| {
        level.parse().unwrap_or_else(|error| {
            eprintln!("CONFORMANCE_LEVEL: {error}");
            std::process::exit(2);
        })
    });
    let options = options();
    let roles = implementations.roles();
    let tests = suite::all()
        .into_iter()
        .filter(|case| roles.contains(&case.role) && case.level <= level)
        .map(|case| {
            let options = options.clone();
            Trial::test(case.id, move || judge(&case, &options))
        })
        .collect();
    libtest_mimic::run(&arguments, tests).exit();
}
