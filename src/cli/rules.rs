//! Which files make up a policy.

use std::path::{Path, PathBuf};

use clap::Args;
use shell_escalation::PolicyFile;

/// `.rules` files, beside a policy file.
#[derive(Args)]
pub(super) struct Rules {
    /// File with prefix rules in Starlark, or a folder of files `*.rules` (repeatable); of two rules that match, the stricter
    /// decides
    #[arg(long, value_name = "FILE", hide = cfg!(not(feature = "rules")))]
    rules: Vec<PathBuf>,
}

impl Rules {
    /// The policy of all files; without a policy file, one that runs everything.
    pub(super) fn policy(&self, policy: Option<&Path>) -> anyhow::Result<PolicyFile> {
        let policy = match policy {
            Some(path) => PolicyFile::read(path)?,
            None => PolicyFile::run_everything(),
        };
        self.added_to(policy)
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.rules.iter()
    }

    #[cfg(feature = "rules")]
    fn added_to(&self, policy: PolicyFile) -> anyhow::Result<PolicyFile> {
        let mut rules = self.rules.iter();
        Ok(rules.try_fold(policy, |policy, path| policy.with_rules(path))?)
    }

    #[cfg(not(feature = "rules"))]
    fn added_to(&self, policy: PolicyFile) -> anyhow::Result<PolicyFile> {
        anyhow::ensure!(
            self.rules.is_empty(),
            "--rules: this program was built without Starlark; build it with `cargo build --release --features rules`"
        );
        Ok(policy)
    }
}
