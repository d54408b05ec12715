//! The descriptors of the guardian, its keepers and their supervisors: nothing else is open there, and each has the same number
//! in all of them. So the host knows which number each descriptor of a job will get.

use std::os::fd::RawFd;

/// A pidfd of the host.
pub(crate) const HOST: RawFd = 0;
/// A pidfd of the guardian.
pub(crate) const GUARDIAN: RawFd = 1;
/// The guardian's end of the socket on which the host gives it trees.
pub(crate) const CONTROL: RawFd = 2;
/// A pidfd of the keeper, in the keeper and its supervisor.
pub(crate) const KEEPER: RawFd = 2;
/// Readable when a child has ended or stopped: a signalfd, which is about the process that reads it. It is for all other signals
/// as well: those that a tree sends would stay pending otherwise, and count against its user's limit when it is over.
pub(crate) const CHILD_CHANGES: RawFd = 3;
/// The channel to the host, in a keeper and its supervisor.
pub(crate) const CHANNEL: RawFd = 4;
/// The first of the descriptors that come with a job, which have consecutive numbers; a file with the job itself.
pub(crate) const JOB: RawFd = 5;
