//! From a request to a child: the file that the decision was about is the file that runs.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::attributes::Attributes;
use super::descriptor_map::{MapError, check_numbers, open_file_limit};
use super::executable::{BUSY, Executable, Origin, Texts, is_being_written, is_local, only_root_changes};
use super::executor::PreparedExec;
use super::failure::{SWAPPED, Stage, StartFailure, failure};
use super::guardian::{Inheritance, Keeper, SessionLeader};
use super::job::{Spawn, SpawnError};
use super::launch::{Launcher, Opened, Target};
use super::procfs::check_proc;
use super::supervisor::Placement;
use super::tree::Tree;
use crate::confinement::Execution;
use crate::files::{
    Identity, Judgement, PinnedFile, Place, Unclear, Wait, find, is_elf, look_up, nowhere, open_directory,
};
use crate::protocol::Request;

/// Only waiting for a file system would tell.
const WOULD_WAIT: StartFailure = StartFailure {
    stage: Stage::Execute,
    errno: Errno::EAGAIN,
};

/// The files of a request as they were before the policy was asked.
#[derive(Clone, Debug)]
pub(crate) struct FilesAtDecision {
    file: OsString,
    workdir: OsString,
    program: Result<Identity, StartFailure>,
    directory: Result<Place, StartFailure>,
    /// The program's absolute path, see [`Lookup::requested`].
    pub(crate) requested: PathBuf,
    /// The program's path without symbolic links.
    pub(crate) canonical: Option<PathBuf>,
    /// Who could put another program there.
    pub(crate) judgement: Judgement,
    /// The working directory's path without symbolic links.
    pub(crate) canonical_workdir: Option<PathBuf>,
}

/// Why an escalated command isn't started at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Descriptors(#[from] MapError),
    #[error("{0}")]
    Unclear(#[from] Unclear),
    #[error("the decision is to execute this in a sandbox ({0:?}), and this server's executor has none")]
    NoSandbox(Execution),
    #[error("{0}")]
    Spawn(#[from] SpawnError),
    #[error("{0}")]
    System(#[from] io::Error),
}

impl FilesAtDecision {
    /// Looks at a request's program and working directory. Blocks as long as the file systems do.
    ///
    /// # Errors
    /// When the program's path changes while it is looked at, or leads to another file in each process.
    pub(crate) fn look(request: &Request) -> Result<Self, Refusal> {
        Self::look_and(request, Wait::Allowed)
    }

    /// The same where no file system has to be waited for, else `None`.
    ///
    /// # Errors
    /// As for [`Self::look`].
    pub(crate) fn look_at_once(request: &Request) -> Result<Option<Self>, Refusal> {
        match Self::look_and(request, Wait::Never) {
            Ok(files) if files.is_settled() => Ok(Some(files)),
            Err(Refusal::Unclear(Unclear::System(error))) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(None)
            }
            Ok(_) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    fn look_and(request: &Request, wait: Wait) -> Result<Self, Refusal> {
        let requested_in = Path::new(&request.workdir);
        let found = find(requested_in, &request.file, wait)?;
        let program = found
            .file
            .as_ref()
            .map_err(|error| failure(Stage::Execute, error));
        let program = program.and_then(|program| {
            if only_root_changes(program, found.canonical.as_deref()) {
                return Ok(program.identity());
            }
            // Leases are the file system's affair.
            if wait == Wait::Never && !is_local(program) {
                return Err(WOULD_WAIT);
            }
            if is_being_written(program) {
                return Err(BUSY);
            }
            Ok(program.identity())
        });
        let workdir = open_workdir(&request.workdir, wait);
        Ok(Self {
            file: request.file.clone(),
            workdir: request.workdir.clone(),
            program,
            canonical_workdir: workdir
                .as_ref()
                .ok()
                .and_then(|directory| directory.canonical().ok()),
            directory: workdir.map(|directory| directory.identity().place()),
            judgement: Judgement::about(requested_in, &request.file, &found),
            requested: found.requested,
            canonical: found.canonical,
        })
    }

    fn is_settled(&self) -> bool {
        let waits = |failure: StartFailure| failure.errno == WOULD_WAIT.errno;
        !self.program.is_err_and(waits) && !self.directory.is_err_and(waits)
    }

    /// Which file the program was; `None` if there was none to execute.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.program.ok()
    }

    /// Looks up what a start will need. That takes a while, which the wrapper needs for its descriptors, too.
    pub(crate) fn foresee(&self) -> Foresight {
        // It remembers the verdict.
        let _ = self.judgement.trust(Wait::Never);
        let inherited = check_proc()
            .ok()
            .and_then(|()| Inheritance::of_this_thread().ok());
        Foresight { inherited }
    }

    /// Opens the files of the decision again; a different file under the same name is a failed start. `None` if that has to wait
    /// and may not.
    fn reopen(&self, exec: &PreparedExec, wait: Wait) -> Option<Reopened> {
        if exec.file != self.file || exec.workdir.as_os_str() != self.workdir {
            return (wait == Wait::Allowed).then(|| open_of_host(exec));
        }
        let origin = self.origin(wait)?;
        // How the name of a script in place leads to it has to be looked at.
        let looks = exec.in_place && origin != Origin::System;
        if wait == Wait::Never && (origin == Origin::Changeable || looks) {
            return None;
        }
        let workdir = open_workdir(exec.workdir.as_os_str(), wait).and_then(|directory| {
            if directory.identity().place() == self.directory? {
                Ok(directory)
            } else {
                Err(SWAPPED)
            }
        });
        let program = workdir
            .as_ref()
            .map_err(|failure| *failure)
            .and_then(|directory| {
                let pinned = PinnedFile::open(directory.descriptor(), &exec.file, wait);
                match (pinned, self.program) {
                    (Ok(_), Err(BUSY)) => Err(BUSY),
                    (Ok(pinned), Ok(decided)) if pinned.identity() == decided => {
                        let texts = texts(exec, &pinned, self.canonical.as_deref());
                        Executable::new(pinned, origin, texts, &exec.file)
                    }
                    (Ok(_), _) => Err(SWAPPED),
                    (Err(error), _) => Err(failure(Stage::Execute, &error)),
                }
            });
        let waits = |failure: &StartFailure| failure.errno == WOULD_WAIT.errno;
        if wait == Wait::Never && (workdir.as_ref().is_err_and(waits) || program.as_ref().is_err_and(waits)) {
            return None;
        }
        Some((program, workdir.map(PinnedFile::into_descriptor)))
    }

    fn origin(&self, wait: Wait) -> Option<Origin> {
        let trust = self.judgement.trust(wait)?;
        Some(Origin::new(trust, &self.requested, self.canonical.as_deref()))
    }
}

/// What was known of this process when it decided to start a command.
#[derive(Debug)]
pub(crate) struct Foresight {
    /// What the command is to inherit; `None` where /proc doesn't tell, or is not fit for supervising.
    inherited: Option<Inheritance>,
}

/// The program and the working directory, or why there is none.
type Reopened = (Result<Executable, StartFailure>, Result<OwnedFd, StartFailure>);

/// What the host has decided to execute instead of what was asked for.
fn open_of_host(exec: &PreparedExec) -> Reopened {
    let workdir = open_workdir(exec.workdir.as_os_str(), Wait::Allowed);
    let found = look_up(&exec.workdir, &exec.file, Wait::Allowed).map_err(|error| match error {
        Unclear::System(error) => failure(Stage::Execute, &error),
        Unclear::DependsOnProcess(_) | Unclear::Changed => SWAPPED,
    });
    let program = found.and_then(|found| {
        let origin = Origin::of(&found);
        let file = found.file.map_err(|error| failure(Stage::Execute, &error))?;
        let texts = texts(exec, &file, found.canonical.as_deref());
        Executable::new(file, origin, texts, &exec.file)
    });
    (program, workdir.map(PinnedFile::into_descriptor))
}

/// Where a text is executed, and which path it has without symbolic links.
fn texts(exec: &PreparedExec, file: &PinnedFile, canonical: Option<&Path>) -> Texts {
    let Some(writers) = exec.writers.as_ref().filter(|_| exec.in_place) else {
        return Texts::new(exec.in_place);
    };
    if file.open_to_read().is_ok_and(|content| is_elf(&content)) {
        // Which is none.
        return Texts::Fixed;
    }
    Texts::new(canonical.is_some_and(|path| writers.let_in_place(path, &exec.workdir, &exec.file)))
}

fn open_workdir(path: &OsStr, wait: Wait) -> Result<PinnedFile, StartFailure> {
    open_directory(path, wait).map_err(|error| failure(Stage::Workdir, &error))
}

/// An escalated command that is to be started with the descriptors that came with its request.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) exec: PreparedExec,
    pub(crate) files: FilesAtDecision,
    pub(crate) foresight: Foresight,
    /// The descriptors' numbers in the child, as the wrapper says.
    pub(crate) numbers: Vec<i64>,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Soft and hard limit of open files, if they differ from the host's.
    pub(crate) open_files: Option<(u64, u64)>,
    pub(crate) attributes: Attributes,
    pub(crate) placement: Placement,
    /// The leader of the session on whose terminal it is started, if that isn't the host's.
    pub(crate) leader: Option<SessionLeader>,
}

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) tree: Tree,
    /// Whether the program finds `/dev/fd/N` as its name: a script as its `$0`.
    pub(crate) by_descriptor: bool,
}

/// What came of an attempt to start without waiting.
#[derive(Debug)]
pub(crate) enum AtOnce {
    Started(Started),
    /// [`Start::run`] is needed, which may wait.
    NotYet(Box<Start>),
}

impl Start {
    /// Starts the command if no file system and no other process has to be waited for: so mostly programs of the system. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// When the descriptor numbers are invalid, or the system can't create another process: nothing was started.
    pub(crate) fn at_once(self) -> Result<AtOnce, Refusal> {
        if self.exec.launcher.is_none()
            && let Some(inherited) = &self.foresight.inherited
            && let Some(opened) = self.files.reopen(&self.exec, Wait::Never)
            && let Some(keeper) = match &self.leader {
                Some(leader) => leader.waiting_keeper(self.placement),
                None => Keeper::waiting(inherited, self.placement),
            }
        {
            let by_descriptor = self.is_by_descriptor(&opened);
            let tree = Tree::spawn_below(keeper, self.into_spawn(opened)?)?;
            return Ok(AtOnce::Started(Started { tree, by_descriptor }));
        }
        Ok(AtOnce::NotYet(Box::new(self)))
    }

    /// Starts the command. Blocks as long as the file systems do, and for the start of a process.
    ///
    /// # Errors
    /// As for [`Self::at_once`].
    pub(crate) fn run(self) -> Result<Started, Refusal> {
        let opened = self.files.reopen(&self.exec, Wait::Allowed);
        let opened = opened.expect("nothing is left undone if waiting is allowed");
        let leader = self.leader.clone();
        let by_descriptor = self.is_by_descriptor(&opened);
        let tree = Tree::spawn_in(self.into_spawn(opened)?, leader.as_ref())?;
        Ok(Started { tree, by_descriptor })
    }

    /// Whether the program won't be executed by its name. A launcher traces nothing.
    fn is_by_descriptor(&self, (program, _): &Reopened) -> bool {
        let is_traced = |program: &Executable| program.may_be_traced() && self.exec.launcher.is_none();
        program
            .as_ref()
            .is_ok_and(|program| program.is_nameless() && !is_traced(program))
    }

    fn into_spawn(self, (program, workdir): Reopened) -> Result<Spawn, Refusal> {
        let Self {
            exec,
            numbers,
            descriptors,
            open_files,
            attributes,
            placement,
            ..
        } = self;
        if descriptors.len() > crate::protocol::MAX_DESCRIPTORS {
            return Err(MapError::TooMany(descriptors.len()).into());
        }
        // The child must be able to use the numbers under its own limit, even if this process has a higher one.
        let limit = open_file_limit()?;
        let limit = open_files.map_or(limit, |(soft, _)| soft.min(limit));
        let numbers = check_numbers(&numbers, descriptors.len(), limit)?;
        let about = match (&program, &workdir) {
            (_, Err(failure)) if failure.stage == Stage::Workdir => exec.workdir.as_os_str(),
            _ => &exec.file,
        };
        let error_prefix = [b"shell-escalation: ", about.as_bytes(), b": "].concat();
        let mut spawn = Spawn {
            program,
            path: exec.file,
            argv: exec.argv,
            env: exec.env,
            workdir,
            umask: exec.umask,
            attributes,
            descriptors: descriptors.into_iter().zip(numbers).collect(),
            placement,
            error_prefix,
        };
        match (exec.execution, exec.launcher) {
            (_, Some(launcher)) => launch(&mut spawn, &launcher, limit)?,
            (Execution::Unsandboxed, None) => {}
            (execution, None) => return Err(Refusal::NoSandbox(execution)),
        }
        Ok(spawn)
    }
}

/// Puts the launcher in the program's place, and lets it inherit what it is to execute.
fn launch(spawn: &mut Spawn, launcher: &Launcher, limit: u64) -> Result<(), Refusal> {
    let of_launcher = PinnedFile::of_host(nowhere(), launcher.program.as_os_str())?;
    let of_launcher = Ok(Executable::of_host(of_launcher));
    let program = match std::mem::replace(&mut spawn.program, of_launcher) {
        Ok(program) => program,
        Err(failure) => {
            // Reported as without a launcher.
            spawn.program = Err(failure);
            return Ok(());
        }
    };
    let identity = program.identity();
    let (program, scripts, lease) = program.into_parts();
    let keep: Vec<RawFd> = spawn.descriptors.iter().map(|&(_, number)| number).collect();
    let mut free = (3..).filter(|number| !keep.contains(number));
    let mut inherit = |descriptor: OwnedFd| -> Result<RawFd, MapError> {
        let number = free.next().filter(|&number| (number as u64) < limit);
        let number = number.ok_or(MapError::NoRoom)?;
        spawn.descriptors.push((descriptor, number));
        Ok(number)
    };
    let program = inherit(program)?;
    let lease = lease.map(&mut inherit).transpose()?;
    let opened = Opened::new(program, scripts, lease, identity);
    let path = std::mem::replace(&mut spawn.path, launcher.program.clone().into());
    let target = Target {
        file: path,
        opened: Some(opened),
        keep,
    };
    spawn.argv = launcher.arguments(
        &target,
        std::mem::take(&mut spawn.env),
        std::mem::take(&mut spawn.argv),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    fn request(file: &Path, workdir: &Path) -> Request {
        Request {
            file: file.into(),
            argv: vec!["program".into()],
            workdir: workdir.into(),
            env: Vec::new(),
            umask: None,
        }
    }

    #[test]
    fn programs_of_the_system_and_of_local_file_systems_are_looked_at_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("program");
        std::fs::write(&own, "").unwrap();
        std::os::unix::fs::chown(&own, Some(1), None).ok();
        let is_own_local = is_local(&PinnedFile::open(nowhere(), own.as_os_str(), Wait::Allowed).unwrap());
        for (file, at_once) in [(Path::new("/usr/bin/env"), true), (&own, is_own_local)] {
            let request = request(file, folder.path());
            // The kernel knows these names from now on.
            let slowly = FilesAtDecision::look(&request).unwrap();
            let found = FilesAtDecision::look_at_once(&request).unwrap();
            assert_eq!(found.is_some(), at_once, "{file:?}");
            if let Some(found) = found {
                assert_eq!(
                    (found.program, found.directory, found.canonical_workdir),
                    (slowly.program, slowly.directory, slowly.canonical_workdir)
                );
            }
        }
    }

    #[test]
    fn a_program_that_is_being_written_is_busy_however_it_is_looked_at() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let request = request(file.path(), Path::new("/"));
        let slowly = FilesAtDecision::look(&request).unwrap();
        assert_eq!(slowly.program, Err(BUSY));
        if let Some(found) = FilesAtDecision::look_at_once(&request).unwrap() {
            assert_eq!(found.program, Err(BUSY));
        }
    }

    #[test]
    fn a_program_that_a_writer_holds_by_a_lease_is_busy() {
        const F_SETSIG: libc::c_int = 10; // asm-generic/fcntl.h
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        // Other processes that open the file wait for its holder, which may write to it.
        let held = std::fs::File::open(&path).unwrap();
        for (command, argument) in [(F_SETSIG, libc::SIGURG), (libc::F_SETLEASE, libc::F_WRLCK)] {
            // SAFETY: these commands take an integer.
            Errno::result(unsafe { libc::fcntl(held.as_raw_fd(), command, argument) }).unwrap();
        }
        let slowly = FilesAtDecision::look(&request(&path, Path::new("/"))).unwrap();
        assert_eq!(slowly.program, Err(BUSY));
    }

    #[test]
    fn only_file_systems_that_ask_nobody_are_local() {
        let of_host = |path: &str| PinnedFile::of_host(nowhere(), OsStr::new(path)).unwrap();
        let in_memory = memfd_create(c"local", MFdFlags::MFD_CLOEXEC).unwrap();
        let path = format!("/proc/self/fd/{}", in_memory.as_raw_fd());
        assert!(is_local(&of_host(&path)));
        for other in ["/proc/version", "/sys/kernel"] {
            assert!(!is_local(&of_host(other)), "{other}");
        }
    }
}
