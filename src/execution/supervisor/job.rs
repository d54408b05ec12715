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

/// What stands for [`Placement::Foreground`] among groups.
const FOREGROUND: i32 = -1;

/// The process group and session of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// A group of its own, in a session without a terminal: signals to its group reach only its own descendants.
    OwnGroup,
    /// A group of the guardian's session, whose terminal is the child's then: the host's own for a shell that stands in for the
    /// host, a wrapper's for what is escalated.
    Group(Pid),
    /// A group of its own in the guardian's session, in the foreground of its terminal, which is the child's standard input.
    Foreground,
}

impl Placement {
    /// The group for setpgid(2): 0 is a new one.
    pub(in crate::execution) fn group(self) -> i32 {
        match self {
            Self::OwnGroup | Self::Foreground => 0,
            Self::Group(group) => group.as_raw(),
        }
    }

    fn to_number(self) -> i32 {
        match self {
            Self::Foreground => FOREGROUND,
            Self::OwnGroup | Self::Group(_) => self.group(),
        }
    }

    fn from_number(number: i32) -> Self {
        match number {
            FOREGROUND => Self::Foreground,
            0 => Self::OwnGroup,
            group => Self::Group(Pid::from_raw(group)),
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
    writer.number(placement.to_number());
    writer.number(error_output.unwrap_or(-1));
    writer.text(error_prefix)
}

impl Job<'_> {
    /// What was packed, in memory that is used for nothing else until the supervisor has no more need of the job.
    pub(super) fn unpack(memory: Mapping, stacks: &StackTops) -> Option<Self> {
        // SAFETY: see above; and any bits are a number.
        let mut reader = Reader::new(unsafe { memory.as_slice() })?;
        let placement = Placement::from_number(reader.number()?);
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
