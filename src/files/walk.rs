//! Walks along a path as the kernel would for the requester, one name at a time, and looks at everything on the way.
//!
//! So one walk says which path the policy is asked about, which file that is, and who could change where it leads. The whole walk is
//! bounded as the kernel's is: by the length of a path and the number of symbolic links.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::readlinkat;

use super::identity::{Place, Status};
use super::pinned::{PinnedFile, Wait, is_on_procfs, nowhere, open_path, status_of};
use super::trust::{Trust, only_root_renames, only_root_writes};

/// As many symbolic links as path_resolution(7) allows.
const MAX_LINKS: usize = 40;

/// What a path leads to.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// Absolute path without `.` and `..`, to the same file; symbolic links are resolved only before a `..`. A `..` after
    /// something that does not exist stays, and the kernel will refuse it.
    pub(crate) requested: PathBuf,
    /// The file, or why there is none.
    pub(crate) file: io::Result<PinnedFile>,
    /// The file's absolute path without symbolic links.
    pub(crate) canonical: Option<PathBuf>,
    /// `None` if that wasn't looked at.
    pub(crate) trust: Option<Trust>,
}

/// Why a path can't be decided on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unclear {
    /// procfs's links lead to something else in each process.
    #[error("{} leads to another file in each process", .0.display())]
    DependsOnProcess(PathBuf),
    #[error("the path to the program changed while it was being resolved")]
    Changed,
    #[error("cannot look at the program: {0}")]
    System(#[from] io::Error),
}

/// Finds the file that the kernel would execute as `file` in the absolute `workdir`, if possible by one system call; then
/// without a verdict about trust.
///
/// # Errors
/// As for [`look_up`].
pub(crate) fn find(workdir: &Path, file: &OsStr, wait: Wait) -> Result<Lookup, Unclear> {
    let path = workdir.join(file);
    let goes_up = path
        .components()
        .any(|component| component == Component::ParentDir);
    // What leads to another file in each process has a `..` or is an error here: nothing else leads out of procfs.
    if !goes_up && let Ok(file) = PinnedFile::open(nowhere(), path.as_os_str(), wait) {
        return Ok(Lookup {
            requested: path.components().collect(),
            canonical: Some(file.canonical()?),
            file: Ok(file),
            trust: None,
        });
    }
    look_up(workdir, file, wait)
}

/// Looks at the file that the kernel would execute as `file` in the absolute `workdir`, and at everything on the way.
///
/// # Errors
/// When the path means something else in each process, or changes during the walk. A file that doesn't exist is no error.
pub(crate) fn look_up(workdir: &Path, file: &OsStr, wait: Wait) -> Result<Lookup, Unclear> {
    walk(workdir, file, wait, &|_| false).map(|(found, _)| found)
}

/// The first place for which `is_such` on the way to the file that the kernel would execute as `file` in the absolute `workdir`:
/// the path without symbolic links of a link, folder or file that the way leads through or leaves by a `..`. Blocks as long as the
/// file systems do.
///
/// # Errors
/// As for [`look_up`].
pub(crate) fn first_on_the_way(
    workdir: &Path,
    file: &OsStr,
    is_such: &dyn Fn(&Path) -> bool,
) -> Result<Option<PathBuf>, Unclear> {
    walk(workdir, file, Wait::Allowed, is_such).map(|(_, first)| first)
}

fn walk(
    workdir: &Path,
    file: &OsStr,
    wait: Wait,
    is_such: &dyn Fn(&Path) -> bool,
) -> Result<(Lookup, Option<PathBuf>), Unclear> {
    let mut walk = Walk::from_root(wait, is_such)?;
    if !file.as_bytes().starts_with(b"/") {
        walk.add(workdir.as_os_str(), true);
    }
    // Last in, first out: what comes first on the way is added last.
    let start = std::mem::take(&mut walk.ahead);
    walk.add(file, true);
    walk.ahead.extend(start);
    let ended = match walk.go_all_the_way() {
        Ok(()) => Ok(()),
        Err(Stop::Unclear(unclear)) => return Err(unclear),
        Err(Stop::Failed(error)) => Err(error),
    };
    walk.finish(ended)
}

/// Why a walk ends before its end.
enum Stop {
    Failed(io::Error),
    Unclear(Unclear),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Unclear> for Stop {
    fn from(unclear: Unclear) -> Self {
        Self::Unclear(unclear)
    }
}

/// A name on the way: of the request itself, or of a symbolic link's target.
struct Name {
    text: OsString,
    requested: bool,
}

/// A directory on the way from the root to where the walk is.
struct Level {
    place: Place,
    /// Only root can change which directory this is.
    safe: bool,
}

/// A walk: where it is, how it came there, and what is still ahead.
struct Walk<'a> {
    here: OwnedFd,
    status: Status,
    /// The directories above `here`, and `here` itself if it is one; the root is first.
    levels: Vec<Level>,
    /// Path without symbolic links.
    real: PathBuf,
    requested: PathBuf,
    /// Only root could have changed any step.
    safe: bool,
    /// Only root could change the last step.
    last_safe: bool,
    links: usize,
    /// The names ahead, the next one last.
    ahead: Vec<Name>,
    wait: Wait,
    is_such: &'a dyn Fn(&Path) -> bool,
    /// The first place that is such.
    first: Option<PathBuf>,
}

impl Lookup {
    /// Whether nothing is open that only waiting would tell.
    pub(crate) fn is_settled(&self) -> bool {
        !matches!(&self.file, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl<'a> Walk<'a> {
    fn from_root(wait: Wait, is_such: &'a dyn Fn(&Path) -> bool) -> io::Result<Self> {
        let here = open_path(nowhere(), OsStr::new("/"), libc::O_DIRECTORY, wait)?;
        let status = status_of(here.as_fd(), wait)?;
        Ok(Self {
            here,
            status,
            levels: vec![Level {
                place: status.identity.place(),
                safe: true,
            }],
            real: PathBuf::from("/"),
            requested: PathBuf::from("/"),
            safe: true,
            last_safe: true,
            links: 0,
            ahead: Vec::new(),
            wait,
            is_such,
            first: None,
        })
    }

    /// Puts the names of `path` before all others.
    fn add(&mut self, path: &OsStr, requested: bool) {
        let name = |text: &[u8]| Name {
            text: OsStr::from_bytes(text).to_owned(),
            requested,
        };
        // What a slash follows must be a directory, as if there were a dot.
        if path.as_bytes().ends_with(b"/") {
            self.ahead.push(name(b"."));
        }
        let names = path.as_bytes().split(|&byte| byte == b'/').rev();
        self.ahead.extend(names.filter(|text| !text.is_empty()).map(name));
    }

    fn go_all_the_way(&mut self) -> Result<(), Stop> {
        while let Some(name) = self.ahead.pop() {
            let went = self.go(&name);
            if let Err(Stop::Failed(error)) = went {
                self.ahead.push(name);
                return Err(error.into());
            }
            went?;
        }
        Ok(())
    }

    fn go(&mut self, name: &Name) -> Result<(), Stop> {
        if !self.status.is_directory() {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR).into());
        }
        match name.text.as_bytes() {
            b"." => Ok(()),
            b".." => {
                self.go_up()?;
                if name.requested {
                    self.requested.clone_from(&self.real);
                }
                Ok(())
            }
            _ => self.enter(name),
        }
    }

    fn go_up(&mut self) -> Result<(), Stop> {
        if self.levels.len() == 1 {
            return Ok(());
        }
        self.levels.pop();
        self.note_place();
        self.real.pop();
        let here = open_path(self.here.as_fd(), OsStr::new(".."), libc::O_DIRECTORY, self.wait)?;
        let status = status_of(here.as_fd(), self.wait)?;
        let parent = self
            .levels
            .last()
            .filter(|parent| parent.place == status.identity.place());
        self.safe &= parent.ok_or(Unclear::Changed)?.safe;
        (self.here, self.status) = (here, status);
        Ok(())
    }

    fn enter(&mut self, name: &Name) -> Result<(), Stop> {
        let (found, status) = self.open(&name.text)?;
        let safe = only_root_renames(self.status, status);
        self.last_safe = safe;
        self.safe &= safe;
        if name.requested {
            self.requested.push(&name.text);
        }
        self.real.push(&name.text);
        self.note_place();
        if status.is_link() {
            self.real.pop();
            return self.follow(&found, &name.text, status);
        }
        if status.is_directory() {
            let safe = safe && self.levels.last().is_some_and(|above| above.safe);
            let place = status.identity.place();
            self.levels.push(Level { place, safe });
        }
        (self.here, self.status) = (found, status);
        Ok(())
    }

    fn note_place(&mut self) {
        if self.first.is_none() && (self.is_such)(&self.real) {
            self.first = Some(self.real.clone());
        }
    }

    /// Opens an entry of the directory where the walk is; a symbolic link itself, not its target.
    fn open(&self, name: &OsStr) -> io::Result<(OwnedFd, Status)> {
        let open = |flags| open_path(self.here.as_fd(), name, libc::O_NOFOLLOW | flags, self.wait);
        let found = if self.ahead.is_empty() {
            open(0)?
        } else {
            // O_DIRECTORY lets an automounter mount what belongs there.
            match open(libc::O_DIRECTORY) {
                Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => open(0)?,
                opened => opened?,
            }
        };
        let status = status_of(found.as_fd(), self.wait)?;
        Ok((found, status))
    }

    fn follow(&mut self, link: &OwnedFd, name: &OsStr, status: Status) -> Result<(), Stop> {
        // A link may have to be read from its file system. One that only root could have mounted there answers.
        if self.wait == Wait::Never && !self.safe {
            return Err(Unclear::from(io::Error::from(Errno::EAGAIN)).into());
        }
        if is_on_procfs(link.as_fd())? {
            return Err(Unclear::DependsOnProcess(self.real.join(name)).into());
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(io::Error::from_raw_os_error(libc::ELOOP).into());
        }
        self.safe &= status.user == 0;
        let target = OsString::from_vec(readlinkat(link, "").map_err(io::Error::from)?.into_vec());
        if target.as_bytes().starts_with(b"/") {
            let root = Self::from_root(self.wait, self.is_such)?;
            (self.here, self.status, self.real) = (root.here, root.status, root.real);
            self.levels = root.levels;
        }
        self.add(&target, false);
        Ok(())
    }

    fn finish(mut self, ended: io::Result<()>) -> Result<(Lookup, Option<PathBuf>), Unclear> {
        let first = self.first.take();
        let place = self.levels.last().is_some_and(|own| own.safe);
        let Err(error) = ended else {
            let file = PinnedFile::of(self.here, self.wait)?;
            let canonical = file.canonical()?;
            if canonical != self.real && !leads_to(&self.real, &file, self.wait) {
                return Err(Unclear::Changed);
            }
            // A directory's own level says the same of its last step.
            let trust = Trust {
                content: only_root_writes(file.status()),
                place: place && self.last_safe,
                name: self.safe,
            };
            let found = Lookup {
                requested: self.requested,
                canonical: Some(canonical),
                file: Ok(file),
                trust: Some(trust),
            };
            return Ok((found, first));
        };
        // Where only the last name is missing, who could create it decides.
        let is_missing = error.raw_os_error() == Some(libc::ENOENT) && self.ahead.len() == 1;
        let trust = if is_missing && only_root_writes(self.status) {
            Trust {
                content: true,
                place,
                name: self.safe && place,
            }
        } else {
            Trust::default()
        };
        while let Some(name) = self.ahead.pop() {
            if name.requested && name.text != "." {
                self.requested.push(name.text);
            }
        }
        let found = Lookup {
            requested: self.requested,
            file: Err(error),
            canonical: None,
            trust: Some(trust),
        };
        Ok((found, first))
    }
}

/// Whether that path without symbolic links leads to that file, although the kernel spells it otherwise (as on a file system
/// that ignores case).
fn leads_to(real: &Path, file: &PinnedFile, wait: Wait) -> bool {
    PinnedFile::open(nowhere(), real.as_os_str(), wait).is_ok_and(|other| other.identity() == file.identity())
}

#[cfg(test)]
mod tests;
