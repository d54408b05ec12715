//! What a new requirement adds to the files of the source tree. All is made up before the first file is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::spec::requirements::{self, Level, Role};

/// The specification's place in the tree.
pub const SPECIFICATION: &str = "conformance/SPEC.md";

/// The tables of cases.
const CASES: &str = "conformance/src/cases";

/// What everything new is called.
#[derive(Debug)]
pub struct Names {
    /// Id of the requirement.
    pub requirement: String,
    /// Id of the case.
    pub case: String,
    /// The function that is the case.
    pub function: String,
    /// The fault.
    pub fault: String,
    level: Level,
    role: Role,
    /// The version that has it first, unless that is the first of all.
    since: Option<&'static str>,
}

impl Names {
    /// The names that follow from the id of a case.
    ///
    /// # Errors
    /// An id or a name that is not valid.
    pub fn of(id: &str, level: Level, role: Role, fault: Option<&str>) -> anyhow::Result<Names> {
        let (requirement, variation) = id
            .split_once('/')
            .with_context(|| format!("'{id}' is not a valid id of a case; expected REQUIREMENT/VARIATION"))?;
        check_words("requirement", requirement)?;
        check_words("variation", variation)?;
        let (_, rest) = requirement.split_once('.').with_context(|| {
            format!("'{requirement}' is not a valid requirement; expected an area, a dot and a name")
        })?;
        let fault = fault.map_or_else(|| format!("{}-broken", rest.replace('.', "-")), str::to_owned);
        check_words("name of a fault", &fault)?;
        Ok(Names {
            requirement: requirement.to_owned(),
            case: id.to_owned(),
            function: variation.replace(['-', '.'], "_"),
            fault,
            level,
            role,
            since: newer(env!("CARGO_PKG_VERSION")),
        })
    }

    /// The variant of `enum Fault`.
    fn variant(&self) -> String {
        let words = self.fault.split('-').map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        });
        words.collect()
    }
}

/// Where a fault is to be completed.
pub struct FaultPlaces {
    /// The table that says what it does.
    pub table: String,
    /// The code or patch that does it.
    pub code: String,
    /// What is to be done there.
    pub what: String,
}

/// The source tree, with what is to be written into it.
pub struct Tree {
    top: PathBuf,
    changed: BTreeMap<String, String>,
}

impl Tree {
    /// The source tree in a folder.
    pub fn at(top: &Path) -> Tree {
        Tree {
            top: top.to_owned(),
            changed: BTreeMap::new(),
        }
    }

    /// Writes what has been added.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self) -> anyhow::Result<()> {
        for (path, text) in &self.changed {
            std::fs::write(self.top.join(path), text)
                .with_context(|| format!("{path}: cannot be written"))?;
        }
        Ok(())
    }

    fn text(&self, path: &str) -> anyhow::Result<String> {
        match self.changed.get(path) {
            Some(text) => Ok(text.clone()),
            None => read(&self.top.join(path)),
        }
    }

    fn is_there(&self, path: &str) -> bool {
        self.top.join(path).exists()
    }

    /// Adds a section to the specification, behind the requirement that shares the longest beginning with it.
    ///
    /// # Errors
    /// An id that exists, or an area without any requirement.
    pub fn add_requirement(&mut self, names: &Names) -> anyhow::Result<()> {
        let text = self.text(SPECIFICATION)?;
        let known =
            requirements::parse(&text).map_err(|error| anyhow::anyhow!("{SPECIFICATION}: {error}"))?;
        let id = &names.requirement;
        ensure!(
            !known.iter().any(|requirement| requirement.id == *id),
            "'{id}' exists already (see `conformance explain {id}`); add a case to its table"
        );
        let shared = |other: &str| {
            let parts = other.split('.').zip(id.split('.'));
            parts.take_while(|(one, other)| one == other).count()
        };
        // Of several the last, so that a new requirement follows its family.
        let sibling = known.iter().max_by_key(|requirement| shared(&requirement.id));
        let sibling = sibling
            .filter(|requirement| shared(&requirement.id) > 0)
            .with_context(|| {
                let area = id.split('.').next().unwrap_or_default();
                format!("{SPECIFICATION} has no requirement of the area '{area}'")
            })?;
        let heading = format!("\n#### `{}`", sibling.id);
        let start = text.find(&heading).context("a heading that was just read")? + heading.len();
        let end = text[start..].find("\n##").map_or(text.len(), |at| start + at + 1);
        let section = format!(
            "#### `{id}` ({level}; {role}{since})\n\n{actor} MUST (say in one sentence what is demanded).\n\n",
            level = names.level,
            role = names.role,
            since = names
                .since
                .map_or_else(String::new, |version| format!("; since {version}")),
            actor = match names.role {
                Role::Wrapper => "A wrapper",
                Role::Server => "A server",
                Role::Shell => "A shell",
                Role::E2e => "Shell, wrapper and server together",
            },
        );
        let text = format!("{}{section}{}", &text[..end], &text[end..]);
        self.changed.insert(SPECIFICATION.to_owned(), text);
        Ok(())
    }

    /// Adds a case at the address that its id gives, and returns its file.
    ///
    /// # Errors
    /// An id or a function that exists, or an area that has no folder.
    pub fn add_case(&mut self, names: &Names) -> anyhow::Result<String> {
        let (area, base) = self.area(names)?;
        let (_, rest) = names.requirement.split_once('.').unwrap_or_default();
        let parts: Vec<String> = rest.replace('-', "_").split('.').map(str::to_owned).collect();
        let of_the_role = format!("Table::of(Role::{:?},", names.role);
        let existing = (1..=parts.len())
            .rev()
            .map(|number| format!("{base}/{}.rs", parts[..number].join("_")))
            .find(|file| self.text(file).is_ok_and(|text| text.contains(&of_the_role)));
        if let Some(file) = existing {
            self.extend(&file, names)?;
            return Ok(file);
        }
        let folder = format!("{base}/{}", parts[0]);
        let (folder, name) = if self.is_there(&format!("{folder}/mod.rs")) {
            let name = parts.get(1..).filter(|rest| !rest.is_empty());
            (
                folder,
                name.map_or_else(|| parts[0].clone(), |rest| rest.join("_")),
            )
        } else {
            (base, parts.join("_"))
        };
        let file = format!("{folder}/{name}.rs");
        ensure!(
            !self.is_there(&file),
            "{file} exists already and has no table of the role {}",
            names.role
        );
        self.add_module(&folder, &name)?;
        self.add_table(&area, &file)?;
        self.changed.insert(file.clone(), new_file(names));
        Ok(file)
    }

    /// The folder of the area, whose `mod.rs` lists its tables, and the one that the id's first part names.
    fn area(&self, names: &Names) -> anyhow::Result<(String, String)> {
        let first = names.requirement.split('.').next().unwrap_or_default();
        let role = names.role.to_string();
        let candidates = [
            (format!("{CASES}/{first}"), format!("{CASES}/{first}/{role}")),
            (format!("{CASES}/{first}"), format!("{CASES}/{first}")),
            (format!("{CASES}/{role}"), format!("{CASES}/{role}/{first}")),
        ];
        let found = candidates.into_iter().find(|(area, base)| {
            self.is_there(&format!("{area}/mod.rs")) && self.is_there(&format!("{base}/mod.rs"))
        });
        found.with_context(|| {
            format!("{CASES} has no folder for cases of '{first}' that judge the role {role}")
        })
    }

    fn extend(&mut self, file: &str, names: &Names) -> anyhow::Result<()> {
        let text = self.text(file)?;
        ensure!(
            !text.contains(&format!("fn {}(", names.function)),
            "{file} has a function {} already; choose another variation",
            names.function
        );
        let table = text
            .find("Table = Table::of(")
            .with_context(|| format!("{file} has no table"))?;
        let end = text[table..].find("\n]").map(|at| table + at + 1);
        let end = end.with_context(|| format!("{file}: the table has no end"))?;
        let text = format!("{}{}{}", &text[..end], entry(names), &text[end..]);
        let tests = text.find("\n#[cfg(test)]").map_or(text.len(), |at| at + 1);
        let text = format!(
            "{}\n{}{}{}",
            text[..tests].trim_end_matches('\n').to_owned() + "\n",
            function(names),
            if tests < text.len() { "\n" } else { "" },
            &text[tests..]
        );
        self.changed.insert(file.to_owned(), text);
        Ok(())
    }

    fn add_module(&mut self, folder: &str, name: &str) -> anyhow::Result<()> {
        let file = format!("{folder}/mod.rs");
        let text = self.text(&file)?;
        let line = format!("pub mod {name};");
        let mut lines: Vec<&str> = text.lines().collect();
        let mut modules = lines
            .iter()
            .enumerate()
            .filter(|(_, known)| known.starts_with("pub mod "));
        let before = modules
            .clone()
            .find(|(_, known)| **known > line.as_str())
            .map(|(at, _)| at);
        let last = modules.next_back().map(|(at, _)| at + 1);
        let place = before
            .or(last)
            .with_context(|| format!("{file} declares no modules"))?;
        lines.insert(place, &line);
        self.changed.insert(file, lines.join("\n") + "\n");
        Ok(())
    }

    fn add_table(&mut self, area: &str, file: &str) -> anyhow::Result<()> {
        let list = format!("{area}/mod.rs");
        let text = self.text(&list)?;
        let module = file
            .strip_prefix(area)
            .and_then(|rest| rest.strip_suffix(".rs"))
            .with_context(|| format!("{file} is not in {area}"))?;
        let module = module.trim_start_matches('/').replace('/', "::");
        let tables = text
            .find("TABLES")
            .with_context(|| format!("{list} lists no tables"))?;
        let end = text[tables..].find("\n]").map(|at| tables + at + 1);
        let end = end.with_context(|| format!("{list}: the list of tables has no end"))?;
        let text = format!("{}    {module}::CASES,\n{}", &text[..end], &text[end..]);
        self.changed.insert(list, text);
        Ok(())
    }

    /// Adds a fault that the new case must catch.
    ///
    /// # Errors
    /// A fault of that name that exists.
    pub fn add_fault(&mut self, names: &Names) -> anyhow::Result<FaultPlaces> {
        // What binds all three together is proved by a broken one of them; a broken wrapper is the easiest to write.
        let (role, code) = match names.role {
            Role::Wrapper | Role::E2e => (Role::Wrapper, Some("conformance/faulty/wrapper")),
            Role::Server => (Role::Server, Some("conformance/faulty/shim")),
            Role::Shell => (Role::Shell, None),
        };
        let table = format!("conformance/faulty/{role}-faults.toml");
        let text = self.text(&table)?;
        let known: FaultNames = toml::from_str(&text).with_context(|| table.clone())?;
        if known.fault.iter().any(|fault| fault.name == names.fault) {
            bail!(
                "{table} has a fault {} already; name another one with --fault",
                names.fault
            );
        }
        let entry = format!(
            "\n[[fault]]\nname = \"{}\"\nrole = \"{role}\"\nrequirements = [\"{}\"]\nsentence = \"(Say what it does wrong.)\"\n",
            names.fault, names.requirement
        );
        self.changed
            .insert(table.clone(), text.trim_end().to_owned() + "\n" + &entry);
        let Some(folder) = code else {
            return Ok(FaultPlaces {
                table,
                code: "patches/faulty/bash-5.3.patch".to_owned(),
                what: format!("what is to go wrong under the name bash--{}", names.fault),
            });
        };
        let file = format!("{folder}/faults.rs");
        let text = self.text(&file)?;
        let start = text
            .find("pub enum Fault {")
            .with_context(|| format!("{file} has no enum Fault"))?;
        let end = text[start..].find("\n}").map(|at| start + at + 1);
        let end = end.with_context(|| format!("{file}: enum Fault has no end"))?;
        let variant = names.variant();
        let text = format!("{}    {variant},\n{}", &text[..end], &text[end..]);
        self.changed.insert(file, text);
        Ok(FaultPlaces {
            table,
            code: format!("{folder}/"),
            what: format!("`if broken(Fault::{variant})` where it goes wrong"),
        })
    }
}

#[derive(Deserialize)]
struct FaultNames {
    #[serde(default)]
    fault: Vec<FaultName>,
}

#[derive(Deserialize)]
struct FaultName {
    name: String,
}

fn entry(names: &Names) -> String {
    let since = names
        .since
        .map_or_else(String::new, |version| format!(".since(\"{version}\")"));
    format!("    case(\"{}\", {}){since},\n", names.case, names.function)
}

/// The version, unless it is the first: what that has needs no mark.
fn newer(version: &str) -> Option<&str> {
    (version != requirements::FIRST_VERSION).then_some(version)
}

fn function(names: &Names) -> String {
    format!(
        "/// (Say what the case shows.)\nfn {}(_context: &mut Context) -> Verdict {{\n    \
         Err(crate::verdict::harness(\"this case is not written yet\"))\n}}\n",
        names.function
    )
}

fn new_file(names: &Names) -> String {
    format!(
        "//! {}: (say what this file is about).\n\n\
         use crate::case::context::Context;\nuse crate::case::{{Table, case}};\nuse crate::spec::requirements::Role;\n\
         use crate::verdict::Verdict;\n\n\
         /// The cases of this file.\n#[rustfmt::skip]\npub const CASES: Table = Table::of(Role::{:?}, &[\n{}]);\n\n{}",
        names.requirement,
        names.role,
        entry(names),
        function(names)
    )
}

/// What may stand in an id or in the name of a fault, between dots, slash and hyphens.
fn check_words(what: &str, text: &str) -> anyhow::Result<()> {
    let word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_lowercase())
            && word
                .chars()
                .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
    };
    if !text.split(['.', '-']).all(word) {
        bail!(
            "'{text}' is not a valid {what}; expected words of lower-case letters and digits, such as deny.prompt or stays-open"
        );
    }
    Ok(())
}

/// A file's text.
fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!(
            "{}: cannot be read; run this at the top of the source tree of the suite",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_case_carries_the_version_that_has_it_first() {
        let names =
            Names::of("wrapper.deny.prompt/anything", Level::Core, Role::Wrapper, None).expect("names");
        let of = |version| Names {
            since: newer(version),
            requirement: names.requirement.clone(),
            case: names.case.clone(),
            function: names.function.clone(),
            fault: names.fault.clone(),
            ..names
        };
        let line = "    case(\"wrapper.deny.prompt/anything\", anything)";
        assert_eq!(entry(&of("0.1.0")), format!("{line},\n"));
        assert_eq!(entry(&of("0.2.0")), format!("{line}.since(\"0.2.0\"),\n"));

        let top = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(top.path().join("conformance")).expect("a folder");
        let known = "#### `wrapper.deny.status` (core; wrapper)\n\nIt MUST end.\n";
        std::fs::write(top.path().join(SPECIFICATION), format!("\n{known}\n")).expect("a file");
        let heading = |version| {
            let mut tree = Tree::at(top.path());
            tree.add_requirement(&of(version)).expect("a requirement");
            let text = tree.text(SPECIFICATION).expect("a text");
            let all = requirements::parse(&text).expect("requirements");
            all.into_iter()
                .find(|one| one.id == "wrapper.deny.prompt")
                .expect("the new one")
                .since
        };
        assert_eq!(heading("0.1.0"), "0.1.0");
        assert_eq!(heading("0.2.0"), "0.2.0");
    }
}
