//! Owned descriptors under the eyes of the runtime.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime. An error closes it.
pub(crate) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd has the same open descriptor from its making to its drop.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(Into::into)
}
