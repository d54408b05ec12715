//! A sandbox profile: what may be read, written and reached.

use std::path::{Path, PathBuf};

/// What a sandboxed process may do. Relative paths are relative to the sandbox's workspace, whatever directory a process is in.
///
/// All profiles but [`full_access`](Self::full_access) refuse tracing, signalling and reading the memory of processes
/// outside, injecting input into terminals, mounting, new namespaces, kernel keys, io_uring, new privileges, and all sockets
/// but pairs of connected ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub(crate) confines: bool,
    pub(crate) read: Vec<PathBuf>,
    pub(crate) write: Vec<PathBuf>,
    pub(crate) network: bool,
    pub(crate) temporary: bool,
}

impl Profile {
    /// Reads everything, writes nothing but a few devices, has no network.
    #[must_use]
    pub fn read_only() -> Self {
        Self {
            confines: true,
            read: vec![PathBuf::from("/")],
            write: Vec::new(),
            network: false,
            temporary: false,
        }
    }

    /// As [`read_only`](Self::read_only), but the workspace is writable, except for its `.git`, and there is a writable folder
    /// for temporary files, which TMPDIR names and which is removed afterwards.
    #[must_use]
    pub fn workspace_write() -> Self {
        Self {
            write: vec![PathBuf::from(".")],
            temporary: true,
            ..Self::read_only()
        }
    }

    /// No sandbox at all.
    #[must_use]
    pub fn full_access() -> Self {
        Self {
            confines: false,
            network: true,
            ..Self::read_only()
        }
    }

    /// The profile that has this name without being defined: `read-only`, `workspace-write` or `full-access`.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        match name {
            "read-only" => Some(Self::read_only()),
            "workspace-write" => Some(Self::workspace_write()),
            "full-access" => Some(Self::full_access()),
            _ => None,
        }
    }

    /// Makes a file or everything in a folder writable as well. A `.git` directly in it isn't, unless it is named itself.
    #[must_use]
    pub fn with_write(mut self, path: impl Into<PathBuf>) -> Self {
        self.write.push(path.into());
        self
    }

    /// Lets only these files and folders be read and executed, beside what is writable, /proc and a few devices. Programs need their
    /// libraries and settings: at least /usr, /lib, /lib64, /bin and /etc.
    #[must_use]
    pub fn with_read(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.read = paths.into_iter().collect();
        self
    }

    /// Allows IPv4 and IPv6 sockets, or not. UNIX sockets other than pairs are never allowed: what listens on them outside of
    /// the sandbox (an agent, a container engine) does what it is told.
    #[must_use]
    pub fn with_network(mut self, network: bool) -> Self {
        self.network = network;
        self
    }

    /// Whether IPv4 and IPv6 sockets are allowed.
    #[must_use]
    pub fn allows_network(&self) -> bool {
        self.network
    }

    /// Whether there is a writable folder for temporary files, which TMPDIR names.
    #[must_use]
    pub fn has_temporary(&self) -> bool {
        self.temporary
    }

    /// Whether this confines anything.
    #[must_use]
    pub fn confines(&self) -> bool {
        self.confines
    }

    /// Paths that may be read, as given; beside them what is writable, /proc and a few devices.
    pub fn readable(&self) -> impl Iterator<Item = &Path> {
        self.read.iter().map(PathBuf::as_path)
    }

    /// Paths that may be written, as given.
    pub fn writable(&self) -> impl Iterator<Item = &Path> {
        self.write.iter().map(PathBuf::as_path)
    }
}
