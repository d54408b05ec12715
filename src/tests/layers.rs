//! The floors of server and suite: which module may use which, and that no files use each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Spacing, TokenStream, TokenTree};

/// A crate, its floors, and the rooms of one floor that know nothing of each other.
struct House {
    /// Its sources.
    root: &'static str,
    /// What its binary calls it.
    package: &'static str,
    /// Each floor with those that it uses, all of which stand below it. What isn't listed is forbidden.
    floors: &'static [(&'static str, &'static str)],
    /// The floor whose files import none of each other.
    apart: Option<&'static str>,
}

/// Policies and executions know no sessions, sessions no server, and only the command line knows which sandbox there is.
const SERVER: House = House {
    root: concat!(env!("CARGO_MANIFEST_DIR"), "/src"),
    package: "shell_escalation",
    floors: &[
        (
            "cli",
            "terminal server session audit policy sandbox confinement execution protocol limits",
        ),
        ("launcher", "sandbox"),
        ("terminal", "server session execution watch"),
        ("server", "session audit policy execution limits"),
        (
            "session",
            "audit policy execution files stream protocol clock confinement limits watch",
        ),
        ("audit", "policy protocol confinement"),
        ("policy", "files protocol clock confinement"),
        ("sandbox", "execution confinement"),
        ("execution", "files protocol confinement watch"),
        ("confinement", ""),
        ("files", ""),
        ("stream", "watch"),
        ("protocol", ""),
        ("clock", ""),
        ("limits", ""),
        ("watch", ""),
    ],
    apart: None,
};

/// Cases know neither each other nor the suite, peers and stages know no case, reports no suite.
const SUITE: House = House {
    root: concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/src"),
    package: "conformance",
    floors: &[
        ("command_line", "commands runner printable exit"),
        (
            "commands",
            "runner trial report bench suite peer case system spec verdict printable exit",
        ),
        (
            "runner",
            "trial suite case system spec transcript verdict printable exit",
        ),
        ("trial", "peer case system transcript verdict printable"),
        ("report", "case spec"),
        ("bench", "stage peer case system transcript verdict printable"),
        ("suite", "cases case spec"),
        (
            "cases",
            "stage peer case system spec transcript verdict probe shown",
        ),
        ("stage", "peer case system transcript verdict probe shown"),
        ("peer", "case system transcript verdict probe shown"),
        ("case", "spec transcript verdict shown"),
        ("system", "verdict shown"),
        ("spec", ""),
        ("transcript", ""),
        ("verdict", ""),
        ("printable", ""),
        ("exit", ""),
        ("probe", "shown"),
        ("shown", ""),
    ],
    apart: Some("cases"),
};

const HOUSES: [House; 2] = [SERVER, SUITE];

#[test]
fn each_floor_uses_only_floors_below_it() {
    for house in HOUSES {
        let mut allowed = BTreeSet::new();
        for (index, (floor, below)) in house.floors.iter().enumerate() {
            for used in below.split_whitespace() {
                let stands_below = house.floors[index + 1..].iter().any(|(name, _)| *name == used);
                assert!(stands_below, "{used} does not stand below {floor}");
                allowed.insert((*floor, used));
            }
        }
        let mut uses = house.uses();
        // The crate itself, above all floors, only declares them and names what hosts may use.
        uses.retain(|(user, used)| !user.is_empty() && user.first() != used.first());
        uses.retain(|(user, used)| {
            let used = used.first().map_or("", String::as_str);
            !allowed.contains(&(&*user[0], used))
        });
        assert!(uses.is_empty(), "forbidden:\n{}", shown(&uses));
    }
}

#[test]
fn each_floor_uses_all_that_its_line_says() {
    for house in HOUSES {
        let uses = house.uses();
        for (floor, below) in house.floors {
            for allowed in below.split_whitespace() {
                let is_used = uses.iter().any(|(user, used)| {
                    user.first().is_some_and(|user| user == floor)
                        && used.first().is_some_and(|used| used == allowed)
                });
                assert!(is_used, "{floor} no longer uses {allowed}");
            }
        }
    }
}

#[test]
fn files_that_are_apart_use_nothing_of_each_other() {
    for house in HOUSES {
        let mut uses = house.uses();
        // A folder's own file declares what is in it, and gathers it.
        uses.retain(|(user, used)| {
            let within = |module: &Module| module.first().map(String::as_str) == house.apart;
            within(user) && within(used) && !used.starts_with(user)
        });
        assert!(uses.is_empty(), "forbidden:\n{}", shown(&uses));
    }
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    for house in HOUSES {
        let mut uses = house.uses();
        loop {
            let users: BTreeSet<Module> = uses.iter().map(|(user, _)| user.clone()).collect();
            let used: BTreeSet<Module> = uses.iter().map(|(_, used)| used.clone()).collect();
            let before = uses.len();
            // A file that nothing else here uses is on no circle, nor is one that uses nothing else here.
            uses.retain(|(from, to)| used.contains(from) && users.contains(to));
            if uses.len() == before {
                break;
            }
        }
        assert!(uses.is_empty(), "circles among:\n{}", shown(&uses));
    }
}

impl House {
    fn uses(&self) -> BTreeSet<(Module, Module)> {
        uses(&source(self.root), self.package)
    }
}

/// Path of a module, and so of its file, below the crate; the crate itself is empty.
type Module = Vec<String>;

/// What a module's file says, without its unit tests.
#[derive(Default)]
struct File {
    /// Every path, in `use` declarations and in bodies; mere names among them.
    paths: Vec<Vec<String>>,
    /// Names that lead on to another module.
    reexports: Vec<Vec<String>>,
}

/// Reads a package's sources, without the folders and files of tests.
fn source(root: &str) -> BTreeMap<Module, File> {
    let mut files = BTreeMap::new();
    read(Path::new(root), &Module::new(), &mut files);
    files.retain(|module, _| !module.iter().any(|name| name == "tests"));
    files
}

fn read(folder: &Path, module: &Module, files: &mut BTreeMap<Module, File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let child = join(module, name);
        if path.is_dir() {
            read(&path, &child, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let stands_for_folder = ["lib", "main", "mod"].contains(&name);
            let module = if stands_for_folder { module.clone() } else { child };
            let tokens = fs::read_to_string(&path).unwrap().parse().unwrap();
            sort(tokens, files.entry(module).or_default());
        }
    }
}

/// Tells re-exports from what a file itself uses, and leaves out its unit tests.
fn sort(tokens: TokenStream, file: &mut File) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let (mut own, mut reexports) = (Vec::new(), Vec::new());
    let mut rest = &tokens[..];
    while !rest.is_empty() {
        let words: Vec<String> = rest.iter().take(3).map(ToString::to_string).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (part, length) = match words[..] {
            ["mod", "tests", _] => (None, 3),
            ["pub", "use", _] | ["pub", _, "use"] => {
                let end = rest.iter().position(|token| token.to_string() == ";");
                (Some(&mut reexports), end.expect("a `use` ends with `;`"))
            }
            _ => (Some(&mut own), 1),
        };
        if let Some(part) = part {
            part.extend_from_slice(&rest[..length]);
        }
        rest = &rest[length..];
    }
    paths(own, &[], &mut file.paths);
    paths(reexports, &[], &mut file.reexports);
}

/// Collects all paths, those within braces behind `stem::` as well.
fn paths(tokens: impl IntoIterator<Item = TokenTree>, stem: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = stem.to_vec();
    // Whether the next name goes on with `path`, and whether the first of two colons was there.
    let (mut open, mut colon) = (true, false);
    for token in tokens {
        let second_colon = std::mem::take(&mut colon);
        let name = match &token {
            TokenTree::Ident(name) => Some(name.to_string()),
            TokenTree::Punct(sign) if sign.as_char() == '*' && open && !path.is_empty() => {
                Some("*".to_owned())
            }
            TokenTree::Punct(sign) if sign.as_char() == ':' && second_colon => {
                open = true;
                continue;
            }
            TokenTree::Punct(sign) if sign.as_char() == ':' && sign.spacing() == Spacing::Joint => {
                colon = true;
                continue;
            }
            _ => None,
        };
        let goes_on = open && (name.is_some() || matches!(token, TokenTree::Group(_)));
        if !goes_on && path.len() > stem.len() {
            found.push(path.clone());
        }
        if !goes_on {
            path = stem.to_vec();
        }
        if let TokenTree::Group(group) = token {
            paths(group.stream(), if goes_on { &path } else { &[] }, found);
            path = stem.to_vec();
        }
        open = name.is_none();
        path.extend(name);
    }
    if path.len() > stem.len() {
        found.push(path);
    }
}

/// Pairs of different modules: the first one's file uses what the second one's defines.
fn uses(files: &BTreeMap<Module, File>, package: &str) -> BTreeSet<(Module, Module)> {
    let mut pairs = BTreeSet::new();
    for (module, file) in files {
        // A mere name is something local, even if a module of that name exists; or it is what a `pub use` brought.
        let names: BTreeSet<&String> = file.paths.iter().map(|path| &path[0]).collect();
        let imports = file
            .reexports
            .iter()
            .filter(|path| path.last().is_some_and(|name| names.contains(name)));
        let paths = file.paths.iter().chain(imports).filter(|path| path.len() > 1);
        let used = paths.filter_map(|path| definer(files, package, module, path));
        pairs.extend(used.map(|used| (module.clone(), used)));
    }
    pairs.retain(|(user, used)| user != used);
    pairs
}

/// The module that defines what `path` names in `module`, behind all re-exports; `None` for other crates and local names.
fn definer(
    files: &BTreeMap<Module, File>,
    package: &str,
    module: &Module,
    path: &[String],
) -> Option<Module> {
    let (mut at, mut rest) = match path[0].as_str() {
        name if name == "crate" || name == package => (Module::new(), &path[1..]),
        "self" => (module.clone(), &path[1..]),
        "super" => {
            let levels = path.iter().take_while(|name| *name == "super").count();
            (module[..module.len() - levels].to_vec(), &path[levels..])
        }
        name if files.contains_key(&join(module, name)) => (module.clone(), path),
        _ => return None,
    };
    while let [name, behind @ ..] = rest {
        let child = join(&at, name);
        if !files.contains_key(&child) {
            let mut reexports = files[&at].reexports.iter();
            let reexport = reexports.find(|reexport| reexport.last() == Some(name));
            return reexport
                .and_then(|reexport| definer(files, package, &at, reexport))
                .or(Some(at));
        }
        (at, rest) = (child, behind);
    }
    Some(at)
}

fn join(module: &Module, child: &str) -> Module {
    module.iter().cloned().chain([child.to_owned()]).collect()
}

fn shown(uses: &BTreeSet<(Module, Module)>) -> String {
    let lines = uses
        .iter()
        .map(|(user, used)| format!("{} uses {}\n", user.join("::"), used.join("::")));
    lines.collect()
}
