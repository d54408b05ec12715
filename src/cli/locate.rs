//! Finds the patched shell and the wrapper.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// This project's patched shells, in order of preference.
const BUILT: [&str; 3] = ["bash-5.3/bin/bash", "bash-5.2/bin/bash", "zsh-5.9/bin/zsh"];

/// The shell: as given, else from SHELL_ESCALATION_SHELL, else next to this program.
pub(super) fn shell(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    find("shell", "--shell", "SHELL_ESCALATION_SHELL", given, shells_beside)
}

/// Where to look for a shell, given this program's directory.
fn shells_beside(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.join("bash"), folder.join("zsh")];
    // Where `make shells` puts them, relative to `target/release`.
    if let Some(target) = folder.parent() {
        found.extend(BUILT.map(|shell| target.join("shells").join(shell)));
    }
    found
}

fn wrappers_beside(folder: &Path) -> Vec<PathBuf> {
    vec![folder.join("execve-wrapper")]
}

/// The wrapper: as given, else from SHELL_ESCALATION_WRAPPER, else next to this program.
pub(super) fn wrapper(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    find(
        "wrapper",
        "--wrapper",
        "SHELL_ESCALATION_WRAPPER",
        given,
        wrappers_beside,
    )
}

/// The launcher of sandboxes next to this program, if it is there. Without it, this program is its own.
pub(super) fn launcher() -> Option<PathBuf> {
    let program = std::fs::canonicalize(env::current_exe().ok()?).ok()?;
    let beside = program.with_file_name("shell-escalation-sandbox");
    beside.is_file().then_some(beside)
}

fn find(
    what: &str,
    option: &str,
    variable: &str,
    given: Option<PathBuf>,
    beside: impl Fn(&Path) -> Vec<PathBuf>,
) -> anyhow::Result<PathBuf> {
    let named = match given {
        Some(path) => Some((option, path)),
        None => env::var_os(variable).map(|path| (variable, PathBuf::from(path))),
    };
    if let Some((source, path)) = named {
        let path = std::path::absolute(&path).with_context(|| format!("{source} {}", path.display()))?;
        if !path.is_file() {
            bail!("{source} {}: no such {what}", path.display());
        }
        return Ok(path);
    }
    let program = env::current_exe().context("cannot determine this program's own path")?;
    let candidates = beside(
        program
            .parent()
            .context("this program's path has no parent directory")?,
    );
    first(&candidates).with_context(|| format!("no {what} found: name one with {option} or {variable}"))
}

fn first(candidates: &[PathBuf]) -> anyhow::Result<PathBuf> {
    if let Some(found) = candidates.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    bail!("looked for {}", looked.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_and_wrappers_are_looked_for_next_to_the_program() {
        let target = tempfile::tempdir().unwrap();
        let folder = target.path().join("release");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(target.path().join("shells/bash-5.2/bin")).unwrap();
        let error = first(&shells_beside(&folder)).unwrap_err().to_string();
        assert!(
            error.contains("release/bash, ") && error.contains("shells/bash-5.3/bin/bash, "),
            "{error}"
        );
        let built = target.path().join("shells/bash-5.2/bin/bash");
        std::fs::write(&built, "").unwrap();
        assert_eq!(first(&shells_beside(&folder)).unwrap(), built);
        std::fs::write(folder.join("bash"), "").unwrap();
        assert_eq!(first(&shells_beside(&folder)).unwrap(), folder.join("bash"));
        assert!(first(&wrappers_beside(&folder)).is_err());
        std::fs::write(folder.join("execve-wrapper"), "").unwrap();
        assert_eq!(
            first(&wrappers_beside(&folder)).unwrap(),
            folder.join("execve-wrapper")
        );
    }
}
