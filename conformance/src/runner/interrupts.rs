//! The signals that end a run in good order, whenever they come.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const ENDING: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// The last of them that came since [`listen`] was called for the first time; 0 if none came.
static CAME: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Listens from now on; from then on no signal gets lost between one listener and the next, who is told of it here.
///
/// # Errors
/// Of sigaction(2) and of the pipe behind [`Signals`].
pub fn listen() -> std::io::Result<(Signals, Option<i32>)> {
    let came = match CAME.get() {
        Some(came) => came,
        None => {
            let came = Arc::new(AtomicUsize::new(0));
            for signal in ENDING {
                let value = usize::try_from(signal).map_err(std::io::Error::other)?;
                signal_hook::flag::register_usize(signal, Arc::clone(&came), value)?;
            }
            CAME.get_or_init(|| came)
        }
    };
    let signals = Signals::new(ENDING)?;
    let earlier = came.load(Ordering::SeqCst);
    let earlier = i32::try_from(earlier).map_err(std::io::Error::other)?;
    Ok((signals, (earlier != 0).then_some(earlier)))
}
