//! Registers owned descriptors with the runtime.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime. An error closes it.
pub(crate) fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd holds the same open descriptor until it is dropped.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(Into::into)
}

/// The same for one that is used without the runtime, too.
pub(crate) fn watch_shared(
    descriptor: Arc<OwnedFd>,
    interest: Interest,
) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: while there is one reference, the OwnedFd isn't dropped, and holds the same open descriptor.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(Into::into)
}
