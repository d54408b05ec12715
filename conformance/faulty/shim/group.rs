//! The process group of the process that made a stream.

use std::os::fd::AsFd;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Pid, getpgid, getsid};

/// Whether that process leads its group.
pub fn is_led(stream: &impl AsFd) -> bool {
    let maker = getsockopt(stream, sockopt::PeerCredentials).map(|maker| Pid::from_raw(maker.pid()));
    maker.is_ok_and(|maker| getpgid(Some(maker)) == Ok(maker))
}

/// None if that process is in another session than this one.
pub fn of(stream: &impl AsFd) -> Option<i32> {
    let maker = Pid::from_raw(getsockopt(stream, sockopt::PeerCredentials).ok()?.pid());
    if maker.as_raw() <= 0 || getsid(Some(maker)).ok()? != getsid(None).ok()? {
        return None;
    }
    getpgid(Some(maker)).ok().map(Pid::as_raw)
}
