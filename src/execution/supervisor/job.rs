//! What the host wants of a supervisor, as its keeper reads it.

use std::os::fd::RawFd;

use nix::unistd::Pid;

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
    /// A group of its own, in a session without a terminal: signals to its group reach only its own descendants.
    OwnGroup,
    /// A group of the host's session, whose terminal is the child's then: the host's own for a shell that stands in for the
    /// host, a wrapper's for what is escalated.
    Group(Pid),
}

impl Placement {
    /// The group for setpgid(2): 0 is a new one.
    pub(in crate::execution) fn number(self) -> i32 {
        match self {
            Self::OwnGroup => 0,
            Self::Group(group) => group.as_raw(),
        }
    }
}

/// Packs what the supervisor itself is told; the child comes behind.
pub(in crate::execution) fn pack(
    writer: &mut Writer,
    placement: Placement,
    error_output: Option<RawFd>,
    error_prefix: Vec<u8>,
) -> Result<(), std::ffi::NulError> {
    writer.number(placement.number());
    writer.number(error_output.unwrap_or(-1));
    writer.text(error_prefix)
}

impl Job<'_> {
    /// What was packed, in memory that is used for nothing else until the supervisor has no more need of the job.
    pub(super) fn unpack(memory: Mapping, stacks: &StackTops) -> Option<Self> {
        // SAFETY: see above; and any bits are a number.
        let mut reader = Reader::new(unsafe { memory.as_slice() })?;
        let placement = match reader.number()? {
            0 => Placement::OwnGroup,
            group => Placement::Group(Pid::from_raw(group)),
        };
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
