//! What a running case has at hand: the implementations, a directory of its own, patience, a transcript.

use std::cell::{Cell, OnceCell};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::case::implementations::Implementations;
use crate::transcript::Transcript;
use crate::verdict::{CaseError, harness};

/// How long a case waits for one event before it calls it missing, before `--timeout-scale`.
const PATIENCE: Duration = Duration::from_secs(5);

/// The part of that for which cases wait on an implementation that was seen not to do the simplest thing.
const IMPATIENCE: f64 = 0.1;

/// What a running case has at hand.
pub struct Context {
    /// What comes from the run.
    pub settings: Settings,
    /// The wire so far.
    pub transcript: Transcript,
    directory: PathBuf,
    probe: Probe,
    counter: Cell<u32>,
}

/// Which inodes the programs of a case have: see [`Context::link_probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inodes {
    /// One for all programs of the case, each of which is a link. Making another moves its change time.
    OfTheCase,
    /// One for each program, for cases in which a server decides about one program while another is made.
    OfEachProgram,
}

/// The executable that programs are made of.
struct Probe {
    executable: PathBuf,
    inodes: Inodes,
    of_the_case: OnceCell<PathBuf>,
}

impl Probe {
    fn put(&self, path: &Path, directory: &Path) -> Result<(), CaseError> {
        match (self.inodes, self.of_the_case.get()) {
            (Inodes::OfEachProgram, _) => drop(fs::copy(&self.executable, path)?),
            (Inodes::OfTheCase, Some(copy)) => fs::hard_link(copy, path)?,
            (Inodes::OfTheCase, None) => {
                let copy = directory.join("probe");
                fs::copy(&self.executable, &copy)?;
                fs::hard_link(&copy, path)?;
                // Nothing else has set it: a case has one thread that makes programs.
                let _ = self.of_the_case.set(copy);
            }
        }
        Ok(())
    }
}

/// The part of a context that comes from the run.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    /// What is judged.
    pub implementations: Implementations,
    /// Seed of property cases.
    pub seed: u64,
    /// How many examples a property case tries.
    pub property_cases: u32,
    /// Multiplies every deadline.
    pub timeout_scale: f64,
    /// Whether what is judged was seen not to do the simplest thing, so that most of what cases wait for never comes.
    #[serde(default)]
    pub impatient: bool,
}

impl Context {
    /// A context for a case in its empty `directory`, on whose file system `probe_executable` is a copy of this executable.
    ///
    /// # Errors
    /// Where the directory's layout cannot be made.
    pub fn new(
        settings: Settings,
        probe_executable: PathBuf,
        inodes: Inodes,
        directory: &Path,
        transcript: Transcript,
    ) -> Result<Context, CaseError> {
        for name in ["bin", "tmp", "work"] {
            fs::create_dir_all(directory.join(name))?;
        }
        Ok(Context {
            settings,
            transcript,
            directory: directory.to_owned(),
            probe: Probe {
                executable: probe_executable,
                inodes,
                of_the_case: OnceCell::new(),
            },
            counter: Cell::new(0),
        })
    }

    /// How long to wait for one event.
    pub fn patience(&self) -> Duration {
        let part = if self.settings.impatient { IMPATIENCE } else { 1.0 };
        PATIENCE.mul_f64(self.settings.timeout_scale * part)
    }

    /// `duration`, multiplied by `--timeout-scale`.
    pub fn scaled(&self, duration: Duration) -> Duration {
        duration.mul_f64(self.settings.timeout_scale)
    }

    /// The case's own directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path in the case's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The directory in which commands run.
    pub fn work_directory(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// TMPDIR of the implementation. Must be empty again at the end of the case.
    pub fn temporary_directory(&self) -> PathBuf {
        self.directory.join("tmp")
    }

    /// A number that this case has not used yet.
    pub fn next_number(&self) -> u32 {
        self.counter.set(self.counter.get() + 1);
        self.counter.get()
    }

    /// The wrapper under test.
    ///
    /// # Errors
    /// A harness error where none is judged.
    pub fn wrapper(&self) -> Result<&Path, CaseError> {
        self.settings
            .implementations
            .wrapper
            .as_deref()
            .ok_or_else(|| harness("this case needs --wrapper"))
    }

    /// The shell under test.
    ///
    /// # Errors
    /// A harness error where none is judged.
    pub fn shell(&self) -> Result<&Path, CaseError> {
        self.settings
            .implementations
            .shell
            .as_deref()
            .ok_or_else(|| harness("this case needs --shell"))
    }

    /// The shim command line of the server under test.
    ///
    /// # Errors
    /// A harness error where none is judged.
    pub fn server(&self) -> Result<&[String], CaseError> {
        self.settings
            .implementations
            .server
            .as_deref()
            .ok_or_else(|| harness("this case needs --server"))
    }

    /// Whether the shim names this capability.
    pub fn has_capability(&self, name: &str) -> bool {
        self.settings
            .implementations
            .capabilities
            .iter()
            .any(|capability| capability == name)
    }

    /// A new file for a standard error of the implementation; a failed case shows its tail.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn error_log(&self, name: &str) -> Result<(File, PathBuf), CaseError> {
        let path = self.path(&format!("{name}-{}.stderr", self.next_number()));
        let file = File::options().create_new(true).append(true).open(&path)?;
        Ok((file, path))
    }

    /// The probe as an executable `bin/NAME`, with an inode that no other case has.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn link_probe(&self, name: &str) -> Result<PathBuf, CaseError> {
        let path = self.directory.join("bin").join(name);
        self.link_probe_at(&path)?;
        Ok(path)
    }

    /// The probe as an executable at `path`, likewise.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn link_probe_at(&self, path: &Path) -> Result<(), CaseError> {
        self.probe.put(path, &self.directory)
    }

    /// Writes a file with these bytes and mode in the case's directory.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write_file(&self, name: &str, bytes: &[u8], mode: u32) -> Result<PathBuf, CaseError> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(path)
    }
}
