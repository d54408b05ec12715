//! System calls about terminals, ioctl_tty(2).

use std::os::fd::RawFd;
use std::ptr;

use super::arch::{Result, syscall};

/// TIOCSCTTY: the terminal becomes this session leader's own, and its process group the foreground.
pub(crate) fn become_controlling_terminal(terminal: RawFd) -> Result<()> {
    // SAFETY: integers; 0 takes the terminal from no other session.
    unsafe { syscall(libc::SYS_ioctl, [terminal as usize, libc::TIOCSCTTY as usize, 0]) }.map(drop)
}

/// TIOCSPGRP: that process group of this session becomes the foreground. With SIGTTOU blocked, whoever asks for it.
pub(crate) fn set_foreground(terminal: RawFd, group: i32) -> Result<()> {
    let group = ptr::from_ref(&group) as usize;
    // SAFETY: the kernel reads one integer.
    unsafe {
        syscall(
            libc::SYS_ioctl,
            [terminal as usize, libc::TIOCSPGRP as usize, group],
        )
    }
    .map(drop)
}
