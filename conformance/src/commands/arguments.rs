//! The arguments that several commands share.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::case::implementations::{CAPABILITIES, EXTENSIONS, Implementations};
use crate::exit::Lacking;
use crate::spec::requirements::Role;

/// What is judged.
#[derive(Debug, Args)]
pub struct Judged {
    /// The patched shell
    #[arg(long, value_name = "PATH")]
    pub shell: Option<PathBuf>,
    /// The stock shell of the same version, with which the patched one is compared; without it, the
    /// patched shell with interception off
    #[arg(long, value_name = "PATH")]
    pub stock_shell: Option<PathBuf>,
    /// The variable that the patched shell reads, if it only knows another than EXEC_WRAPPER, such as
    /// BASH_EXEC_WRAPPER; it is set beside EXEC_WRAPPER
    #[arg(long, value_name = "NAME", requires = "shell")]
    pub wrapper_variable: Option<String>,
    /// The wrapper
    #[arg(long, value_name = "PATH")]
    pub wrapper: Option<PathBuf>,
    /// The server: its shim's command line, split into words as a shell does, but not expanded
    #[arg(long, value_name = "COMMAND")]
    pub server: Option<String>,
}

/// How cases are tried.
#[derive(Debug, Args)]
pub struct Trying {
    /// Seed of the property cases [default: random, and always printed]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How many examples each property case tries
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub cases: u32,
    /// Multiplies every deadline
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = positive)]
    pub timeout_scale: f64,
    /// Fail where what is judged lacks this extension or capability, such as signals; repeatable [default: cases that
    /// need one that isn't there are not applicable]
    #[arg(long, value_name = "EXTENSION")]
    pub require: Vec<String>,
    /// Keep the cases' temporary directories
    #[arg(long)]
    pub keep: bool,
    /// Run each case under this command, such as "strace -f -o FILE"; {case} becomes the case's id
    #[arg(long, value_name = "COMMAND")]
    pub under: Option<String>,
}

/// The options that name what a role's cases judge.
pub fn options_that_name(role: Role) -> String {
    match role {
        Role::E2e => "--shell, --wrapper and --server".to_owned(),
        role => format!("--{role}"),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| "expected a number such as 2 or 0.5".to_owned())?;
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err("expected a number greater than 0".to_owned())
    }
}

/// Checks that everything that is judged has what `--require` names.
///
/// # Errors
/// An unknown name is a usage error; [`Lacking`] says what isn't there.
pub fn check_required(implementations: &Implementations, required: &[String]) -> anyhow::Result<()> {
    for name in required {
        let is_extension = EXTENSIONS.contains(&name.as_str());
        if !is_extension && !CAPABILITIES.contains(&name.as_str()) {
            bail!(
                "--require {name}: not an extension or a capability; expected one of {}",
                CAPABILITIES.join(", ")
            );
        }
        let wrapper = implementations.wrapper.is_some() && is_extension;
        if !wrapper && implementations.server.is_none() {
            bail!(
                "--require {name}: nothing that could have it is judged; add --server{}",
                if is_extension { " or --wrapper" } else { "" }
            );
        }
        if wrapper && !implementations.wrapper_extensions.contains(name) {
            return Err(Lacking(format!(
                "--require {name}: the wrapper does not have this extension"
            ))
            .into());
        }
        if implementations.server.is_some() && !implementations.capabilities.contains(name) {
            return Err(Lacking(format!(
                "--require {name}: the shim does not name this capability"
            ))
            .into());
        }
    }
    Ok(())
}
