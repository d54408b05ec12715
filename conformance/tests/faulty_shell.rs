//! Proof of the shell cases: a bash that is broken on purpose fails a case of every requirement that its fault is
//! about, and a shell without the patch is refused at once.
//!
//! One build has all faults (`patches/faulty/`); the name of the executable chooses one. Faults about invalid memory
//! need a build with sanitizers.

mod proof;

use conformance::spec::faults;
use conformance::spec::requirements::Role;
use proof::shells::{Broken, build};
use proof::{Proof, each_at_once, every_fault, failures, outcomes, run, until_caught, words};

/// The fault that makes the shell one without the patch.
const NEVER: &str = "never-wrapped";

/// What is right but unusual: the shell asks its wrapper about paths that it can't execute itself.
const ASKING: [&str; 2] = ["any-path-handed-over", "bad-interpreter-handed-over"];

/// Concurrent runs.
const AT_A_TIME: usize = 4;

#[test]
fn every_fault_is_caught_by_a_case_of_its_requirement() {
    let broken = Broken::at(&build(&["--faulty", "never-wrapped", "bash-5.3"]));
    let sanitized = Broken::at(&build(&["--sanitize", "--faulty", "never-wrapped", "bash-5.3"]));
    // Some faults show with interception off, too, so the broken bash cannot be its own reference.
    let stock = build(&["--stock", "bash-5.3"]);
    let proof = Proof {
        faults: faults::all()
            .iter()
            .filter(|fault| fault.role == Role::Shell)
            .collect(),
        at_least: 25,
        at_a_time: AT_A_TIME,
    };
    every_fault(&proof, |fault| {
        let requirements = fault.of_its_role();
        let memory = requirements.contains(&"shell.memory");
        let shell = if memory { &sanitized } else { &broken }.called(&fault.name);
        // A sanitizer takes seconds to describe what it found; a fault that it shows is not found by waiting.
        let scale = if memory { "4" } else { "0.5" };
        let mut options = words(&format!("--jobs 1 --cases 8 --timeout-scale {scale}"));
        for (option, path) in [("--shell", &shell), ("--stock-shell", &stock)] {
            options.extend([option.into(), path.into()]);
        }
        match until_caught(&options, &requirements) {
            Err(finding) if fault.name == NEVER && finding.contains("is not patched") => Ok(()),
            caught => caught,
        }
    });
}

#[test]
fn a_shell_that_asks_about_paths_which_only_the_outside_may_have_passes() {
    let broken = Broken::at(&build(&["--faulty", "never-wrapped", "bash-5.3"]));
    let stock = build(&["--stock", "bash-5.3"]);
    let wrong = each_at_once(AT_A_TIME, ASKING.to_vec(), |name| {
        // The shell's own tests compare messages with those of a shell without a wrapper.
        let mut options = words("--jobs 4 --cases 4 --timeout-scale 2 --skip shell.own-suite/*");
        for (option, path) in [("--shell", &broken.called(name)), ("--stock-shell", &stock)] {
            options.extend([option.into(), path.into()]);
        }
        let report = run(&options);
        assert!(outcomes(&report, "pass").len() > 80, "{name}");
        let bad = failures(&report);
        (!bad.is_empty()).then(|| format!("{name} fails\n{}", bad.join("\n")))
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
