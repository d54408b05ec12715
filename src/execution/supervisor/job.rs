//! What the host wants of a supervisor, as its keeper reads it.

use std::os::fd::RawFd;

use crate::execution::child::ChildSetup;
use crate::execution::parcel::{Reader, Writer};
use crate::execution::raw::Mapping;
use crate::execution::stacks::StackTops;

/// What the supervisor needs until its child runs.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) placement: Placement,
    /// Where a line about a failed start goes.
    pub(super) error_output: Option<RawFd>,
    /// Start of that line: the speaker, and what the line is about.
    pub(super) error_prefix: &'a [u8],
    pub(super) child: ChildSetup<'a>,
    /// What all this points to.
    pub(super) memory: Mapping,
}

/// The process group and session of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The host's group and session: for a shell that stands in for the host on its terminal.
    HostGroup,
    /// A group of its own, in a session without a terminal: signals to its group reach only its own descendants.
    OwnGroup,
    /// A group of its own in the foreground of the terminal that the guardian's session has, which is its standard input.
    Foreground,
}

impl Placement {
    const ALL: [Self; 3] = [Self::HostGroup, Self::OwnGroup, Self::Foreground];

    /// Whether the child leads a process group.
    pub(in crate::execution) fn has_own_group(self) -> bool {
        self != Self::HostGroup
    }
}

/// Packs what the supervisor itself is told; the child comes behind.
pub(in crate::execution) fn pack(
    writer: &mut Writer,
    placement: Placement,
    error_output: Option<RawFd>,
    error_prefix: Vec<u8>,
) -> Result<(), std::ffi::NulError> {
    writer.number(placement as i32);
    writer.number(error_output.unwrap_or(-1));
    writer.text(error_prefix)
}

impl Job<'_> {
    /// What was packed, in memory that is used for nothing else until the supervisor has no more need of the job.
    pub(super) fn unpack(memory: Mapping, stacks: &StackTops) -> Option<Self> {
        // SAFETY: see above; and any bits are a number.
        let mut reader = Reader::new(unsafe { memory.as_slice() })?;
        let placement = usize::try_from(reader.number()?).ok()?;
        let placement = *Placement::ALL.get(placement)?;
        let error_output = Some(reader.number()?).filter(|&output| output >= 0);
        Some(Self {
            placement,
            error_output,
            error_prefix: reader.text()?.to_bytes(),
            child: ChildSetup::unpack(&mut reader, stacks.child)?,
            memory,
        })
    }
}
