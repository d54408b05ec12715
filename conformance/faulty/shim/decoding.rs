//! How requests are decoded: many at a time, and large ones one after the other.

use std::sync::Mutex;
use std::time::Duration;

use crate::events::lock;
use crate::faults::{Fault, broken};
use crate::members::Malformed;
use crate::messages::{self, Request};

/// From this size on, in bytes, requests are decoded one after the other.
const LARGE: usize = 256 << 10;

/// Reads a request, which takes its payload. Large ones leave a processor for the others, and no memory behind.
pub fn decoded(payload: Vec<u8>) -> Result<Request, (Malformed, Vec<u8>)> {
    static DECODING: Mutex<()> = Mutex::new(());
    let is_large = payload.len() > LARGE;
    let _alone = (is_large || broken(Fault::DecodedOneByOne)).then(|| lock(&DECODING));
    if is_large && broken(Fault::DecodedOneByOne) {
        // As on a slower machine, and longer than a case of the proofs waits: what this machine has to do doesn't decide.
        std::thread::sleep(Duration::from_secs(3));
    }
    let request = messages::request(&payload).map_err(|malformed| (malformed, payload));
    #[cfg(target_env = "gnu")]
    if is_large {
        // SAFETY: malloc_trim(3) touches only what is free.
        unsafe {
            libc::malloc_trim(0);
        }
    }
    request
}
