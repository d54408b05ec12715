//! The memory of one request, given back to the system after a large one.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::stream::{Share, StreamError};

/// From this size on, what a request leaves behind is worth a walk through the heap.
const LARGE: usize = 1024 * 1024;

/// What a request uses of its session's memory, until it is dropped.
#[derive(Debug)]
pub(super) struct RequestMemory {
    share: Share,
    /// The most that it has been.
    peak: usize,
}

impl RequestMemory {
    pub(super) fn new(share: Share) -> Self {
        let peak = share.bytes();
        Self { share, peak }
    }

    /// Uses that many bytes from now on.
    ///
    /// # Errors
    /// When fewer are left.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<(), StreamError> {
        self.peak = self.peak.max(bytes);
        if self.share.resize(bytes) {
            Ok(())
        } else {
            Err(StreamError::NoMemory(bytes))
        }
    }
}

impl Drop for RequestMemory {
    fn drop(&mut self) {
        if self.peak >= LARGE {
            return_free_memory();
        }
    }
}

/// Gives unused pages back to the system, on a thread of its own. Without that the C library keeps what small allocations
/// have used: hundreds of megabytes after a few requests.
fn return_free_memory() {
    static UNDER_WAY: AtomicBool = AtomicBool::new(false);
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    if !UNDER_WAY.swap(true, Ordering::AcqRel) {
        runtime.spawn_blocking(|| {
            // Before the walk: what is freed during it may need another one.
            UNDER_WAY.store(false, Ordering::Release);
            #[cfg(target_env = "gnu")]
            // SAFETY: malloc_trim(3) touches only what is free.
            unsafe {
                libc::malloc_trim(0);
            }
        });
    }
}
