//! Measures terminals against a bare pseudo-terminal, by turns in the same run: how long a key takes to come back, and how
//! fast output flows. To be built with optimisations: `cargo run --release --example terminal-figures`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::pty::openpty;
use shell_escalation::terminal::{Config, ExecRequest, ShellBackend, Size, Streams, TerminalId, Terminals};

const ROUNDS: usize = 5;
const KEYS: usize = 2000;
const BYTES: u64 = 1_000_000_000;

/// Echoes what is typed, by way of the kernel.
const ECHO: &str = "stty -icanon echo; echo ready; exec cat > /dev/null";

fn flow() -> String {
    format!("stty raw; echo ready; exec head -c {BYTES} /dev/zero")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let terminals = Terminals::new(Config::new(ShellBackend::Direct));
    let (mut bare_keys, mut keys) = (Vec::new(), Vec::new());
    let (mut bare_flow, mut flows) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare_keys.extend(tokio::task::spawn_blocking(type_bare).await??);
        keys.extend(type_in(&terminals).await?);
        bare_flow.push(tokio::task::spawn_blocking(read_bare).await??);
        flows.push(read_in(&terminals).await?);
    }
    println!("a key's echo, median and 99th percentile in microseconds:");
    for (what, times) in [("bare", &mut bare_keys), ("terminal", &mut keys)] {
        times.sort_unstable();
        let at = |part: usize| times[times.len() * part / 100].as_micros();
        println!("  {what}: {} and {}", at(50), at(99));
    }
    println!("{BYTES} bytes of output, best and worst of {ROUNDS} in MB/s:");
    for (what, times) in [("bare", &mut bare_flow), ("terminal", &mut flows)] {
        times.sort_unstable();
        let speed = |time: Duration| BYTES as f64 / time.as_secs_f64() / 1e6;
        println!(
            "  {what}: {:.0} and {:.0}",
            speed(times[0]),
            speed(times[ROUNDS - 1])
        );
    }
    Ok(())
}

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

fn type_bare() -> std::io::Result<Vec<Duration>> {
    let (mut master, mut child) = bare(ECHO)?;
    let mut times = Vec::new();
    for _ in 0..KEYS {
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

fn read_bare() -> std::io::Result<Duration> {
    let (mut master, mut child) = bare(&flow())?;
    let begun = Instant::now();
    let mut buffer = vec![0; 64 * 1024];
    let mut left = BYTES;
    while left > 0 {
        left -= master.read(&mut buffer)? as u64;
    }
    let time = begun.elapsed();
    child.wait()?;
    Ok(time)
}

/// The same in a terminal.
async fn ready(
    terminals: &Terminals,
    script: &str,
) -> Result<(TerminalId, u64), shell_escalation::terminal::Error> {
    let request = ExecRequest::shell("/bin/sh", script, "/").on(Streams::Terminal(Size::default()));
    let id = terminals.open(request).await?;
    let mut text = Vec::new();
    loop {
        let output = terminals.read(id, Duration::from_secs(10), usize::MAX).await?;
        text.extend(output.bytes);
        if let Some(place) = text
            .windows(6)
            .position(|window| window == b"ready\n" || window == b"ready\r")
        {
            let behind = place + if text[place + 5] == b'\n' { 6 } else { 7 };
            return Ok((id, (text.len() - behind.min(text.len())) as u64));
        }
    }
}

async fn type_in(terminals: &Terminals) -> Result<Vec<Duration>, shell_escalation::terminal::Error> {
    let (id, _) = ready(terminals, ECHO).await?;
    let mut times = Vec::new();
    for _ in 0..KEYS {
        let begun = Instant::now();
        terminals.write(id, b"k").await?;
        while terminals
            .read(id, Duration::from_secs(10), usize::MAX)
            .await?
            .bytes
            .is_empty()
        {}
        times.push(begun.elapsed());
    }
    terminals.close(id).await?;
    Ok(times)
}

async fn read_in(terminals: &Terminals) -> Result<Duration, shell_escalation::terminal::Error> {
    let begun = Instant::now();
    let (id, mut read) = ready(terminals, &flow()).await?;
    while read < BYTES {
        let output = terminals.read(id, Duration::from_secs(10), usize::MAX).await?;
        // What this reader is too slow for has flowed as well.
        read += output.bytes.len() as u64 + output.left_out;
    }
    let time = begun.elapsed();
    terminals.close(id).await?;
    Ok(time)
}
