//! Where a sandboxed root doesn't write.

use std::path::Path;

/// Where only root of the whole system writes, even if a sandboxed process is root, too: no sandbox lets it.
pub(crate) const SYSTEM: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/nix/store",
    "/gnu/store",
];

/// Whether owners and modes say who can write to what is there. If this server isn't root, they do: then the sandboxed side
/// isn't root, either.
pub(crate) fn is_of_system(path: &Path) -> bool {
    !nix::unistd::geteuid().is_root() || SYSTEM.iter().any(|system| path.starts_with(system))
}
