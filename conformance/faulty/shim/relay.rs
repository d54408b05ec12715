//! What a fault puts before a child's standard output: a process that passes on what comes through a pipe, up to a point.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::unistd::{ForkResult, fork, pipe2, read, write};

/// So much is passed on.
const MOST: usize = 128 << 20;

/// Replaces the standard output among `descriptors` by a pipe to a process that writes to it. The calling process must have one
/// thread.
pub fn take_output(descriptors: &mut [OwnedFd], numbers: &[i32]) -> nix::Result<()> {
    let Some(index) = numbers.iter().position(|number| *number == 1) else {
        return Ok(());
    };
    let (source, sink) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => {
            descriptors[index] = sink;
            Ok(())
        }
        ForkResult::Child => {
            let target = &descriptors[index];
            for number in
                (0..1024).filter(|number| ![source.as_raw_fd(), target.as_raw_fd()].contains(number))
            {
                // SAFETY: close(2) takes an integer; this process uses none of these any more.
                unsafe { libc::close(number) };
            }
            pass_on(&source, target);
            // SAFETY: _exit(2) takes an integer.
            unsafe { libc::_exit(0) }
        }
    }
}

fn pass_on(source: &OwnedFd, target: &OwnedFd) {
    let mut buffer = vec![0; 1 << 16];
    let mut passed = 0;
    while passed < MOST {
        let Ok(length @ 1..) = read(source, &mut buffer) else {
            return;
        };
        let mut rest = &buffer[..length];
        while let Ok(written @ 1..) = write(target, rest) {
            rest = &rest[written..];
        }
        if !rest.is_empty() {
            return;
        }
        passed += length;
    }
}
