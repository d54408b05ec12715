//! What a probe does on account of its arguments, so that a script can say at each place what a command does.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

use super::{own, signals, terminal};

/// Follows the arguments after `argv[0]` in their order; gives the status of an `exit:`.
///
/// - `out:TEXT` and `err:TEXT` write TEXT and a newline to standard output or error;
/// - `copy` copies standard input to standard output until its end, `line` its first line;
/// - `flood` writes lines until that fails;
/// - `pattern:N` writes N bytes of a fixed pattern, `sum` reads to the end and prints a checksum and a count;
/// - `pause` sleeps until a signal ends it, and says `continued` whenever it has been continued;
/// - `size` prints the terminal's size, `resized` waits until it has changed and prints the new one;
/// - `ignore:N` ignores signal N, `stop` stops this process, `stop-group` its process group;
/// - `catch:N` says `caught` for each SIGINT, N times; `await:FILE` blocks all signals, makes FILE, and prints the number
///   of the first signal that comes; `touch:FILE` makes FILE;
/// - `ask` asks on /dev/tty and prints the answer; `inherited` prints limits, niceness and ignored signals;
/// - `signal-group:N` sends signal N, which it catches, to its process group, says `sent`, and when signal 60 comes it prints
///   how often N has come;
/// - `executed` prints AT_EXECFN, comm, /proc/self/exe and argv[0];
/// - `exit:N` exits, `die:N` dies by signal N.
///
/// # Errors
/// A word that is none of these, and what reading or writing says.
pub fn follow(arguments: &[Vec<u8>]) -> io::Result<Option<i32>> {
    let mut output = io::stdout().lock();
    if arguments.iter().any(|argument| argument == b"pause") {
        // Before any output that another process may wait for.
        terminal::hold_continuations()?;
    }
    for argument in arguments.iter().skip(1) {
        let (word, rest) = match argument.iter().position(|byte| *byte == b':') {
            Some(colon) => (&argument[..colon], &argument[colon + 1..]),
            None => (argument.as_slice(), &[][..]),
        };
        match word {
            b"out" => {
                output.write_all(rest)?;
                output.write_all(b"\n")?;
            }
            b"err" => {
                let mut line = rest.to_vec();
                line.push(b'\n');
                io::stderr().write_all(&line)?;
            }
            b"copy" => {
                let mut bytes = [0; 1 << 16];
                loop {
                    let length = io::stdin().lock().read(&mut bytes)?;
                    if length == 0 {
                        break;
                    }
                    output.write_all(&bytes[..length])?;
                }
            }
            b"line" => {
                // Byte by byte: what follows belongs to the next reader.
                let mut byte = [0];
                while io::stdin().lock().read(&mut byte)? == 1 {
                    output.write_all(&byte)?;
                    if byte == *b"\n" {
                        break;
                    }
                }
            }
            b"flood" => loop {
                output.write_all(&b"y\n".repeat(4096))?;
            },
            b"pattern" => {
                for block in pattern(number(rest)? as usize) {
                    output.write_all(&block)?;
                }
            }
            b"sum" => {
                let mut sum = Checksum::default();
                let mut bytes = [0; 1 << 16];
                loop {
                    let length = io::stdin().lock().read(&mut bytes)?;
                    if length == 0 {
                        break;
                    }
                    sum.add(&bytes[..length]);
                }
                writeln!(output, "{sum}")?;
            }
            b"executed" => {
                let name = own::executed_name().unwrap_or_default();
                let comm = std::fs::read_to_string("/proc/self/comm")?;
                let executable = std::fs::read_link("/proc/self/exe")?;
                let zeroth = OsStr::from_bytes(&arguments[0]);
                writeln!(output, "{name:?} {:?} {executable:?} {zeroth:?}", comm.trim_end())?;
            }
            b"pause" => terminal::pause(&mut output)?,
            b"size" => writeln!(output, "{}", terminal::size()?)?,
            b"resized" => terminal::wait_for_resize(&mut output)?,
            b"ignore" => {
                let signal = nix::sys::signal::Signal::try_from(number(rest)?)?;
                // SAFETY: SIG_IGN runs no code.
                unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigIgn)? };
            }
            b"stop" => {
                output.flush()?;
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP)?;
            }
            b"stop-group" => {
                output.flush()?;
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(0), nix::sys::signal::Signal::SIGTSTP)?;
            }
            b"signal-group" => signals::signal_group(number(rest)?, &mut output)?,
            b"catch" => signals::catch_interrupts(number(rest)?, &mut output)?,
            b"await" => signals::await_any(OsStr::from_bytes(rest), &mut output)?,
            b"touch" => drop(std::fs::File::create(OsStr::from_bytes(rest))?),
            b"ask" => terminal::ask(&mut output)?,
            b"inherited" => signals::print_inherited(&mut output)?,
            b"exit" => {
                output.flush()?;
                return Ok(Some(number(rest)?));
            }
            b"die" => {
                output.flush()?;
                own::die_by(number(rest)?);
            }
            _ => {
                let word = String::from_utf8_lossy(argument);
                return Err(io::Error::other(format!("no instruction: {word:?}")));
            }
        }
    }
    output.flush()?;
    Ok(None)
}

/// The blocks of a pattern of so many bytes, none of which equals its neighbours.
fn pattern(length: usize) -> impl Iterator<Item = Vec<u8>> {
    const BLOCK: usize = 1 << 16;
    (0..length.div_ceil(BLOCK)).map(move |block| {
        let size = BLOCK.min(length - block * BLOCK);
        (0..size)
            .map(|index| (index as u8).wrapping_mul(31) ^ block as u8)
            .collect()
    })
}

/// What `sum` prints for a pattern of so many bytes that has arrived whole and in order.
pub fn checksum_of_pattern(length: usize) -> String {
    let mut sum = Checksum::default();
    for block in pattern(length) {
        sum.add(&block);
    }
    sum.to_string()
}

/// A checksum that knows the order of bytes (FNV-1a), and their number.
struct Checksum {
    hash: u64,
    count: u64,
}

impl Default for Checksum {
    fn default() -> Self {
        Checksum {
            hash: 0xcbf2_9ce4_8422_2325,
            count: 0,
        }
    }
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        self.count += bytes.len() as u64;
        self.hash = bytes.iter().fold(self.hash, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:016x} {}", self.hash, self.count)
    }
}

fn number(text: &[u8]) -> io::Result<i32> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no number: {:?}", String::from_utf8_lossy(text))))
}
