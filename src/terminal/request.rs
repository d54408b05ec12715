//! What a host wants to execute.

use std::ffi::OsString;
use std::path::PathBuf;

/// A program to execute, and on what.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecRequest {
    /// The program; absolute, or relative to `workdir`. It is not searched in PATH.
    pub program: PathBuf,
    /// Its arguments, `argv[0]` included.
    pub argv: Vec<OsString>,
    /// Absolute working directory.
    pub workdir: PathBuf,
    /// The whole environment. The overlay of a session is merged over it.
    pub env: Vec<(OsString, OsString)>,
    /// What its standard streams are.
    pub streams: Streams,
}

/// What a program's standard streams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// A pseudo-terminal of this size.
    Terminal(Size),
    /// A pipe for standard input, and one for standard output and standard error together.
    Pipes,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Height.
    pub rows: u16,
    /// Width.
    pub columns: u16,
}

impl Default for Size {
    /// 24 rows of 80 characters.
    fn default() -> Self {
        Self {
            rows: 24,
            columns: 80,
        }
    }
}

impl ExecRequest {
    /// A program with its arguments (`argv[0]` included), on pipes, with this process's environment.
    pub fn new<A: Into<OsString>>(
        program: impl Into<PathBuf>,
        argv: impl IntoIterator<Item = A>,
        workdir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            program: program.into(),
            argv: argv.into_iter().map(Into::into).collect(),
            workdir: workdir.into(),
            env: std::env::vars_os().collect(),
            streams: Streams::Pipes,
        }
    }

    /// `SHELL -c SCRIPT` on pipes, with this process's environment.
    pub fn shell(
        shell: impl Into<PathBuf>,
        script: impl Into<OsString>,
        workdir: impl Into<PathBuf>,
    ) -> Self {
        let shell = shell.into();
        let argv = [shell.clone().into(), "-c".into(), script.into()];
        Self::new(shell, argv, workdir)
    }

    /// The same on these streams.
    #[must_use]
    pub fn on(mut self, streams: Streams) -> Self {
        self.streams = streams;
        self
    }

    /// The same with exactly these variables.
    #[must_use]
    pub fn with_env(mut self, env: Vec<(OsString, OsString)>) -> Self {
        self.env = env;
        self
    }
}
