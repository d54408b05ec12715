//! The broken implementations as data: which fault is caught by a case of which requirement.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::spec::requirements::Role;

/// One way of being wrong, built into a broken implementation of `conformance/faulty/`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Name of the fault: the switch of the broken implementation.
    pub name: String,
    /// Which of the broken implementations has it.
    pub role: Role,
    /// The requirements, a case of each of which must fail.
    pub requirements: Vec<String>,
    /// Cases of these requirements that must fail, each: those that no other fault would prove, and end-to-end cases, each of which
    /// some fault names.
    #[serde(default)]
    pub cases: Vec<String>,
    /// What proving it takes of the machine, where not every machine has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Need>,
    /// What is broken, in a sentence.
    pub sentence: String,
}

/// What a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// A process may give itself a niceness below 0, which takes a capability or a limit.
    #[serde(rename = "niceness-below-0")]
    NicenessBelow0,
}

impl Fault {
    /// What must fail of the broken role alone: cases, and requirements, by any case, of which no case is named.
    pub fn of_its_role(&self) -> Vec<&str> {
        self.requirements_where(|id| !id.starts_with("e2e."))
    }

    /// What must fail of shell, wrapper and server together: as above.
    pub fn end_to_end(&self) -> Vec<&str> {
        self.requirements_where(|id| id.starts_with("e2e."))
    }

    fn requirements_where(&self, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
        let unnamed = self.requirements.iter().filter(|requirement| {
            let is_of_it = |case: &String| case.split('/').next() == Some(requirement);
            !self.cases.iter().any(is_of_it)
        });
        unnamed
            .chain(&self.cases)
            .map(String::as_str)
            .filter(|id| wanted(id))
            .collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultFile {
    #[serde(default)]
    fault: Vec<Fault>,
}

static FAULTS: LazyLock<Vec<Fault>> = LazyLock::new(|| {
    let files = [
        include_str!("../../faulty/wrapper-faults.toml"),
        include_str!("../../faulty/server-faults.toml"),
        include_str!("../../faulty/shell-faults.toml"),
    ];
    files
        .iter()
        .flat_map(|text| {
            let file: FaultFile = toml::from_str(text).expect("the fault tables are checked by a test");
            file.fault
        })
        .collect()
});

/// All faults.
pub fn all() -> &'static [Fault] {
    &FAULTS
}

/// The faults that prove cases of that requirement.
pub fn proving(requirement: &str) -> impl Iterator<Item = &'static Fault> {
    all()
        .iter()
        .filter(move |fault| fault.requirements.iter().any(|id| id == requirement))
}
