//! Descriptors that the wrapper's side hands over or keeps.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::case::context::Context;
use crate::peer::fake_wrapper::AsFdObject;
use crate::system::clock::Moment;
use crate::system::holders::still_open;
use crate::system::launch::pipe;
use crate::system::poll::readable_until;
use crate::verdict::{CaseError, Verdict, violation};

/// Descriptors of a request: the number in the child, and what it is.
pub type Placements<'a> = [(i64, &'a dyn AsFdObject)];

/// /dev/null, for reading and writing.
pub fn null() -> Result<File, CaseError> {
    Ok(File::options().read(true).write(true).open("/dev/null")?)
}

/// A file of the case with this text, for reading and writing, at its beginning.
pub fn file(context: &Context, name: &str, text: &str) -> Result<File, CaseError> {
    let path = context.write_file(name, text.as_bytes(), 0o644)?;
    Ok(File::options().read(true).write(true).open(path)?)
}

/// References to descriptors, as the senders want them.
pub fn objects(descriptors: &[OwnedFd]) -> Vec<&dyn AsFdObject> {
    descriptors
        .iter()
        .map(|descriptor| descriptor as &dyn AsFdObject)
        .collect()
}

/// The writing ends of `count` pipes, and the watch over them.
pub fn watched_pipes(count: usize) -> Result<(PipeWatch, Vec<OwnedFd>), CaseError> {
    let mut readers = Vec::new();
    let mut writers = Vec::new();
    for _ in 0..count {
        let (reader, writer) = pipe()?;
        readers.push(reader);
        writers.push(writer.into());
    }
    Ok((PipeWatch(readers), writers))
}

/// Reading ends of pipes: their end of file proves that no process holds a writing end any more.
pub struct PipeWatch(Vec<File>);

impl PipeWatch {
    /// Demands that every writing end is closed within `patience`; `who` is to have closed them. What a server says there about a
    /// failure doesn't matter.
    pub fn expect_closed(&self, who: &str, patience: Duration) -> Verdict {
        let deadline = Moment::now() + patience;
        for (index, reader) in self.0.iter().enumerate() {
            let what = format!("{who} closes descriptor {} of {}", index + 1, self.0.len());
            loop {
                if !readable_until(reader, deadline)? {
                    return Err(violation(what, still_open(reader, patience)));
                }
                if (&*reader).read(&mut [0; 512])? == 0 {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// A pipe whose writer blocks: it is full.
pub fn full_pipe() -> Result<(File, File), CaseError> {
    let (reader, writer) = pipe()?;
    let size = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETPIPE_SZ)?;
    let bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    (&writer).write_all(&bytes)?;
    Ok((reader, writer))
}
