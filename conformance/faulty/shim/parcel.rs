//! What a keeper is told to start: encoded between two of our own processes, so any encoding will do.

use std::io;

/// A child to start.
#[derive(Clone, Debug, Default)]
pub struct Parcel {
    /// What execve(2) gets: as the requester wrote it, relative to the directory.
    pub file: Vec<u8>,
    /// The name in messages.
    pub shown: Vec<u8>,
    /// Where it runs.
    pub directory: Vec<u8>,
    /// argv.
    pub arguments: Vec<Vec<u8>>,
    /// `NAME=value` entries.
    pub environment: Vec<Vec<u8>>,
    /// The number of each descriptor that is sent along.
    pub numbers: Vec<i32>,
    /// Device and inode of the directory and the file, once for each that must be the same at the start.
    pub identities: Vec<(u64, u64)>,
    /// The umask, if the request has one.
    pub umask: Option<u32>,
    /// The errno of a file that could not be opened before.
    pub doomed: Option<i32>,
    /// The process group that the child joins, if it is another's.
    pub group: Option<i32>,
    /// Signals that the child ignores.
    pub ignored: Vec<i32>,
    /// Resource, soft limit and hard limit.
    pub limits: Vec<(u32, u64, u64)>,
    /// The niceness.
    pub nice: Option<i32>,
    /// What it is to its keeper.
    pub kind: Kind,
}

/// What a keeper starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// An escalated child, or the shell of a one-shot: its keeper goes with the last process of its tree.
    #[default]
    Command,
    /// The process of a terminal on pipes: its keeper stays until it is told to go.
    OnPipes,
    /// The same on a pseudo-terminal, its descriptor 0: the keeper leads the terminal's session, since what has not been read
    /// yet would be lost with the leader.
    OnPseudoTerminal,
}

impl Parcel {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [&self.file, &self.shown, &self.directory] {
            put(&mut bytes, part);
        }
        for list in [&self.arguments, &self.environment] {
            number(&mut bytes, list.len() as u64);
            for item in list {
                put(&mut bytes, item);
            }
        }
        number(&mut bytes, self.numbers.len() as u64);
        for item in &self.numbers {
            number(&mut bytes, *item as u64);
        }
        number(&mut bytes, self.identities.len() as u64);
        for (device, inode) in &self.identities {
            number(&mut bytes, *device);
            number(&mut bytes, *inode);
        }
        number(&mut bytes, self.umask.map_or(u64::MAX, u64::from));
        number(&mut bytes, self.doomed.map_or(0, |errno| errno as u64));
        number(&mut bytes, self.group.map_or(0, |group| group as u64));
        number(&mut bytes, self.ignored.len() as u64);
        for item in &self.ignored {
            number(&mut bytes, *item as u64);
        }
        number(&mut bytes, self.limits.len() as u64);
        for (resource, soft, hard) in &self.limits {
            number(&mut bytes, (*resource).into());
            number(&mut bytes, *soft);
            number(&mut bytes, *hard);
        }
        number(&mut bytes, self.nice.map_or(u64::MAX, |nice| (nice + 100) as u64));
        number(&mut bytes, self.kind as u64);
        bytes
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> io::Result<Parcel> {
        let mut reader = Reader(bytes);
        Ok(Parcel {
            file: reader.bytes()?,
            shown: reader.bytes()?,
            directory: reader.bytes()?,
            arguments: reader.list(Reader::bytes)?,
            environment: reader.list(Reader::bytes)?,
            numbers: reader.list(|reader| Ok(reader.number()? as i32))?,
            identities: reader.list(|reader| Ok((reader.number()?, reader.number()?)))?,
            umask: u32::try_from(reader.number()?).ok(),
            doomed: Some(reader.number()? as i32).filter(|errno| *errno != 0),
            group: Some(reader.number()? as i32).filter(|group| *group != 0),
            ignored: reader.list(|reader| Ok(reader.number()? as i32))?,
            limits: reader
                .list(|reader| Ok((reader.number()? as u32, reader.number()?, reader.number()?)))?,
            nice: i32::try_from(reader.number()?).ok().map(|nice| nice - 100),
            kind: match reader.number()? {
                1 => Kind::OnPipes,
                2 => Kind::OnPseudoTerminal,
                _ => Kind::Command,
            },
        })
    }
}

fn number(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    number(bytes, part.len() as u64);
    bytes.extend_from_slice(part);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> io::Result<u64> {
        let (head, rest) = self.0.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*head))
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.number()? as usize;
        let (head, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(head.to_vec())
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> io::Result<T>) -> io::Result<Vec<T>> {
        let length = self.number()?;
        (0..length).map(|_| item(self)).collect()
    }
}
