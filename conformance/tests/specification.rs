//! The suite agrees with itself: SPEC.md, the case tables and the fault tables.

use std::collections::BTreeSet;

use conformance::spec::faults;
use conformance::spec::requirements::{self, Level, Role};
use conformance::spec::version::Version;
use conformance::suite;

/// Requirements of higher levels that have no case yet for one of their roles. This list may only shrink.
const OPEN: &[(&str, Role)] = &[];

/// Requirements that have cases, but no fault yet that proves them. This list may only shrink.
const UNPROVED: &[(&str, Role)] = &[];

#[test]
fn every_requirement_has_an_id_of_its_own_and_a_sentence_that_binds() {
    let mut ids = BTreeSet::new();
    for requirement in requirements::all() {
        assert!(ids.insert(&requirement.id), "{} has two headings", requirement.id);
        assert!(!requirement.roles.is_empty(), "{} binds no role", requirement.id);
        assert!(
            requirement.sentence.contains("MUST"),
            "{}: no MUST in its sentence",
            requirement.id
        );
    }
    assert!(ids.len() >= 105, "{} requirements", ids.len());
}

#[test]
fn every_case_names_a_requirement_of_its_role_and_no_id_repeats() {
    let mut ids = BTreeSet::new();
    for case in suite::all() {
        assert!(ids.insert(case.id), "{} stands twice in the tables", case.id);
        let requirement = requirements::find(case.requirement_id());
        let requirement = requirement.unwrap_or_else(|| panic!("{} names an unknown requirement", case.id));
        assert!(
            requirement.roles.contains(&case.role),
            "{} judges {}, which its requirement does not",
            case.id,
            case.role
        );
        assert!(
            case.level >= requirement.level,
            "{} is below the level of its requirement",
            case.id
        );
        let variation = case
            .id
            .split_once('/')
            .map(|(_, variation)| variation)
            .unwrap_or_default();
        assert!(!variation.is_empty(), "{} has no variation", case.id);
    }
}

#[test]
fn no_case_and_no_requirement_is_newer_than_the_suite() {
    let suite: Version = env!("CARGO_PKG_VERSION").parse().expect("a version");
    for requirement in requirements::all() {
        let since: Version = requirement
            .since
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", requirement.id));
        assert!(
            since <= suite,
            "{} is of {since}, and the suite of {suite}",
            requirement.id
        );
    }
    for case in suite::all() {
        let since = case
            .version()
            .unwrap_or_else(|error| panic!("{}: {error}", case.id));
        assert!(
            since <= suite,
            "{} is of {since}, and the suite of {suite}",
            case.id
        );
    }
}

#[test]
fn every_requirement_has_a_case_for_each_of_its_roles() {
    let covered: BTreeSet<_> = suite::all()
        .into_iter()
        .filter(|case| case.level == case.requirement().level)
        .map(|case| (case.requirement_id(), case.role))
        .collect();
    assert_holes(OPEN, "has no case", |id, role| covered.contains(&(id, role)));
    assert!(
        OPEN.iter()
            .all(|(id, _)| requirements::find(id).is_some_and(|found| found.level > Level::Core)),
        "core has no holes"
    );
}

#[test]
fn every_requirement_is_proved_by_a_broken_implementation_of_each_of_its_roles() {
    // An end-to-end requirement is proved by a broken implementation of whichever role.
    assert_holes(UNPROVED, "is proved by no fault", |id, role| {
        faults::proving(id).any(|fault| fault.role == role || role == Role::E2e)
    });
}

fn assert_holes(known: &[(&str, Role)], what: &str, filled: impl Fn(&str, Role) -> bool) {
    let mut wrong = Vec::new();
    for requirement in requirements::all() {
        for role in &requirement.roles {
            let listed = known.contains(&(requirement.id.as_str(), *role));
            match (filled(&requirement.id, *role), listed) {
                (false, false) => wrong.push(format!("{} {what} for {role}", requirement.id)),
                (true, true) => wrong.push(format!(
                    "{} is listed for {role} and done: strike it off",
                    requirement.id
                )),
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_end_to_end_case_is_named_by_a_fault() {
    let named: BTreeSet<&str> = faults::all()
        .iter()
        .flat_map(|fault| fault.cases.iter().map(String::as_str))
        .collect();
    let unnamed: Vec<_> = suite::all()
        .into_iter()
        .filter(|case| case.role == Role::E2e && !named.contains(case.id))
        .map(|case| case.id)
        .collect();
    assert!(
        unnamed.is_empty(),
        "no fault shows that these cases can fail: name each in `cases` of one: {unnamed:?}"
    );
}

#[test]
fn a_fault_that_names_an_end_to_end_case_names_one_of_each_end_to_end_requirement() {
    // What is named is tried alone; a requirement beside it, case by case until one fails, which takes long.
    let mixed: Vec<_> = faults::all()
        .iter()
        .filter(|fault| {
            let wanted = fault.end_to_end();
            wanted.iter().any(|id| id.contains('/')) && !wanted.iter().all(|id| id.contains('/'))
        })
        .map(|fault| format!("{} {}: {:?}", fault.role, fault.name, fault.end_to_end()))
        .collect();
    assert!(mixed.is_empty(), "{}", mixed.join("\n"));
}

#[test]
fn every_fault_names_known_requirements_of_its_role() {
    let mut names = BTreeSet::new();
    for fault in faults::all() {
        assert!(
            names.insert((fault.role, &fault.name)),
            "{} {} stands twice",
            fault.role,
            fault.name
        );
        assert!(!fault.requirements.is_empty(), "{} proves nothing", fault.name);
        for id in &fault.requirements {
            assert!(
                requirements::find(id).is_some(),
                "{} names the unknown requirement {id}",
                fault.name
            );
        }
        for id in &fault.cases {
            let case = suite::all().into_iter().find(|case| case.id == id);
            let of = case.map(|case| case.requirement().id.to_owned());
            assert!(
                of.is_some_and(|requirement| fault.requirements.contains(&requirement)),
                "{} names {id}, which is not a case of its requirements",
                fault.name
            );
        }
    }
}

#[test]
fn the_table_of_coverage_is_current() {
    let committed = include_str!("../evidence/COVERAGE.md");
    assert!(
        committed == conformance::inside::list::coverage(),
        "conformance/evidence/COVERAGE.md is stale: make coverage"
    );
}

#[test]
fn core_has_at_least_110_cases() {
    let core = suite::all()
        .into_iter()
        .filter(|case| case.level == Level::Core)
        .count();
    assert!(core >= 110, "{core} core cases");
}

#[test]
fn shards_are_disjoint_and_complete() {
    for count in 1..=7 {
        for case in suite::all() {
            let holders = (1..=count)
                .filter(|index| suite::selection::Shard { index: *index, count }.contains(case.id))
                .count();
            assert_eq!(holders, 1, "{} is in {holders} of {count} shards", case.id);
        }
    }
}
