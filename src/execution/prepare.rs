//! From a request to a child: the file that the decision was about is the file that runs.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;

use super::descriptor_map::{MapError, check_numbers, open_file_limit};
use super::executor::PreparedExec;
use super::failure::{Stage, StartFailure};
use super::identity::Identity;
use super::job::{Spawn, SpawnError};
use super::program::{PinnedFile, canonical, identity_of, open_directory};
use super::supervisor::Placement;
use super::tree::Tree;
use crate::protocol::Request;

/// The files of a request as they were before the policy was asked.
#[derive(Clone, Debug)]
pub(crate) struct FilesAtDecision {
    file: std::ffi::OsString,
    workdir: std::ffi::OsString,
    program: Result<Identity, StartFailure>,
    /// Device and inode; the rest of a directory may change.
    directory: Result<((u32, u32), u64), StartFailure>,
    /// The program's path without symbolic links.
    pub(crate) canonical: Option<PathBuf>,
    /// What stat(2) says about the program.
    pub(crate) status: Option<Metadata>,
    /// The working directory's path without symbolic links.
    pub(crate) canonical_workdir: Option<PathBuf>,
}

/// Why an escalated command isn't started at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Descriptors(#[from] MapError),
    #[error("{0}")]
    Spawn(#[from] SpawnError),
    #[error("{0}")]
    System(#[from] io::Error),
}

impl FilesAtDecision {
    /// Looks at a request's program and working directory. Blocks as long as the file systems do.
    ///
    /// `resolved` is the absolute path that the policy will be asked about.
    ///
    /// # Errors
    /// When `resolved` and the request's own path lead to different files: the directory tree changed concurrently.
    pub(crate) fn look(request: &Request, resolved: &OsStr) -> Result<Self, Refusal> {
        let workdir = open_workdir(&request.workdir);
        let program = workdir
            .as_ref()
            .map_err(|failure| *failure)
            .and_then(|directory| open_program(directory, &request.file));
        if let (Ok(program), Ok(directory)) = (&program, &workdir)
            && resolved != request.file
        {
            let by_path = PinnedFile::open(directory.as_fd(), resolved);
            if !by_path.is_ok_and(|other| other.identity() == program.identity()) {
                return Err(
                    io::Error::other("the path to the program changed while it was being resolved").into(),
                );
            }
        }
        Ok(Self {
            file: request.file.clone(),
            workdir: request.workdir.clone(),
            canonical: program.as_ref().ok().and_then(|program| program.canonical().ok()),
            status: program.as_ref().ok().and_then(|program| status(program).ok()),
            canonical_workdir: workdir
                .as_ref()
                .ok()
                .and_then(|directory| canonical(directory.as_fd()).ok()),
            program: program.map(|program| program.identity()),
            directory: workdir.and_then(|directory| place(&directory)),
        })
    }

    /// Opens the files of the decision again; a different file under the same name is a failed start.
    fn reopen(
        &self,
        exec: &PreparedExec,
    ) -> (Result<PinnedFile, StartFailure>, Result<OwnedFd, StartFailure>) {
        let changed = StartFailure {
            stage: Stage::Swapped,
            errno: Errno::ESTALE,
        };
        let as_decided = exec.file == self.file && exec.workdir.as_os_str() == self.workdir;
        let workdir = open_workdir(exec.workdir.as_os_str()).and_then(|directory| {
            if as_decided && place(&directory)? != self.directory? {
                Err(changed)
            } else {
                Ok(directory)
            }
        });
        let program = workdir
            .as_ref()
            .map_err(|failure| *failure)
            .and_then(
                |directory| match (open_program(directory, &exec.file), self.program) {
                    (Ok(pinned), _) if !as_decided => Ok(pinned),
                    (Ok(pinned), Ok(decided)) if pinned.identity() == decided => Ok(pinned),
                    (Ok(_), _) => Err(changed),
                    (Err(failure), _) => Err(failure),
                },
            );
        (program, workdir)
    }
}

fn status(program: &PinnedFile) -> io::Result<Metadata> {
    // fstat(2) takes a descriptor that was opened with O_PATH.
    File::from(program.descriptor().try_clone_to_owned()?).metadata()
}

fn open_workdir(path: &OsStr) -> Result<OwnedFd, StartFailure> {
    open_directory(path).map_err(|error| failure(Stage::Workdir, &error))
}

fn open_program(directory: &OwnedFd, file: &OsStr) -> Result<PinnedFile, StartFailure> {
    PinnedFile::open(directory.as_fd(), file).map_err(|error| failure(Stage::Execute, &error))
}

fn place(directory: &OwnedFd) -> Result<((u32, u32), u64), StartFailure> {
    let identity = identity_of(directory.as_fd()).map_err(|error| failure(Stage::Workdir, &error))?;
    Ok((identity.device, identity.inode))
}

fn failure(stage: Stage, error: &io::Error) -> StartFailure {
    StartFailure {
        stage,
        errno: error.raw_os_error().map_or(Errno::EIO, Errno::from_raw),
    }
}

/// Starts an escalated command with the descriptors that came with its request. Blocks for the start of a process.
///
/// # Errors
/// When the descriptor numbers are invalid, or the system can't create another process: nothing was started.
pub(crate) fn spawn_escalated(
    exec: PreparedExec,
    files: &FilesAtDecision,
    numbers: &[i64],
    descriptors: Vec<OwnedFd>,
    open_files: Option<(u64, u64)>,
) -> Result<Tree, Refusal> {
    if descriptors.len() > crate::protocol::MAX_DESCRIPTORS {
        return Err(MapError::TooMany(descriptors.len()).into());
    }
    // The child must be able to use the numbers under its own limit, even if this process has a higher one.
    let limit = open_file_limit()?;
    let limit = open_files.map_or(limit, |(soft, _)| soft.min(limit));
    let numbers = check_numbers(numbers, descriptors.len(), limit)?;
    let (program, workdir) = files.reopen(&exec);
    let about = match (&program, &workdir) {
        (_, Err(failure)) if failure.stage == Stage::Workdir => exec.workdir.as_os_str(),
        _ => &exec.file,
    };
    let error_prefix = [b"shell-escalation: ", about.as_bytes(), b": "].concat();
    Ok(Tree::spawn(Spawn {
        program,
        path: exec.file,
        argv: exec.argv,
        env: exec.env,
        workdir,
        umask: exec.umask,
        open_files,
        descriptors: descriptors.into_iter().zip(numbers).collect(),
        placement: Placement::OwnGroup,
        error_prefix,
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolved_path_that_leads_to_another_file_than_the_request_is_refused() {
        let request = Request {
            file: "true".into(),
            argv: vec!["true".into()],
            workdir: "/bin".into(),
            env: Vec::new(),
            umask: None,
        };
        let look = |resolved: &str| FilesAtDecision::look(&request, OsStr::new(resolved));
        assert!(look("/bin/true").is_ok());
        let refusal = look("/bin/false").expect_err("another file");
        assert!(
            refusal
                .to_string()
                .contains("changed while it was being resolved")
        );
    }
}
