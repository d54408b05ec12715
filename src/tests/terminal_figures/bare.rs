//! What terminals are compared with: a pseudo-terminal that this process itself reads and writes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::pty::openpty;

use super::{ECHO, flow};

/// A script on a pseudo-terminal of its own, once it is ready.
fn bare(script: &str) -> std::io::Result<(File, Child)> {
    let pty = openpty(None, None)?;
    let stream = || -> std::io::Result<OwnedFd> { pty.slave.try_clone() };
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", script])
        .stdin(stream()?)
        .stdout(stream()?)
        .stderr(stream()?);
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            nix::errno::Errno::result(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            Ok(())
        });
    }
    let child = command.spawn()?;
    drop(command);
    let mut master = File::from(pty.master);
    let mut text = Vec::new();
    while !text.ends_with(b"ready\n") && !text.ends_with(b"ready\r\n") {
        let mut byte = [0];
        master.read_exact(&mut byte)?;
        text.extend(byte);
    }
    Ok((master, child))
}

/// How long each of so many keys takes to come back.
pub(super) fn type_keys(keys: usize) -> std::io::Result<Vec<Duration>> {
    let (mut master, mut child) = bare(ECHO)?;
    let mut times = Vec::new();
    for _ in 0..keys {
        let begun = Instant::now();
        master.write_all(b"k")?;
        let mut byte = [0];
        master.read_exact(&mut byte)?;
        times.push(begun.elapsed());
    }
    child.kill()?;
    child.wait()?;
    Ok(times)
}

/// How long so many bytes of output take.
pub(super) fn read_all(bytes: u64) -> std::io::Result<Duration> {
    let (mut master, mut child) = bare(&flow(bytes))?;
    let begun = Instant::now();
    let mut buffer = vec![0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        left -= master.read(&mut buffer)? as u64;
    }
    let time = begun.elapsed();
    child.wait()?;
    Ok(time)
}
