//! The baseline programs, compiled from `bench/` by the build script and carried in this executable.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Where the baselines lie, as files.
pub struct Programs {
    /// Does nothing.
    pub nothing: PathBuf,
    /// Only executes its argument.
    pub two_exec: PathBuf,
    /// The least that a wrapper can do for a Run.
    pub floor: PathBuf,
}

impl Programs {
    /// Writes the programs into `folder`.
    ///
    /// # Errors
    /// Where they cannot be written, or were not built for this kind of machine.
    pub fn write(folder: &Path) -> anyhow::Result<Programs> {
        let write = |name: &str, bytes: &[u8]| -> anyhow::Result<PathBuf> {
            if bytes.is_empty() {
                bail!("this executable has no baselines: they exist for Linux on x86_64 and aarch64");
            }
            let path = folder.join(name);
            fs::write(&path, bytes).with_context(|| format!("{}: cannot be written", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            Ok(path)
        };
        Ok(Programs {
            nothing: write("nothing", include_bytes!(concat!(env!("OUT_DIR"), "/nothing")))?,
            two_exec: write("two-exec", include_bytes!(concat!(env!("OUT_DIR"), "/two_exec")))?,
            floor: write("floor", include_bytes!(concat!(env!("OUT_DIR"), "/floor")))?,
        })
    }
}
