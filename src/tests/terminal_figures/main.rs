//! Measures terminals against a bare pseudo-terminal, by turns in the same run: how long a key takes to come back, and how
//! fast output flows. Then many terminals, at once and one after the other, and what is held of them afterwards.
//! `make terminal-figures` builds and runs it.

mod bare;
mod held;
mod many;

use std::error::Error as AnyError;
use std::time::{Duration, Instant};

use clap::Parser;
use shell_escalation::terminal::{
    Config, Error, ExecRequest, ShellBackend, Size, Streams, TerminalId, Terminals,
};

use held::Held;

type Failure = Box<dyn AnyError + Send + Sync>;

/// Measures terminals
#[derive(Parser)]
struct Options {
    /// How often a bare pseudo-terminal and a terminal take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Keys that are typed in each turn
    #[arg(long, default_value_t = 2000, value_parser = at_least_one)]
    keys: usize,
    /// Bytes of output in each turn
    #[arg(long, default_value_t = 1_000_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    bytes: u64,
    /// Terminals that write at once, 64 at most
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u8).range(1..=64))]
    busy: u8,
    /// Bytes that each of those writes
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    busy_bytes: u64,
    /// Terminals that are opened and closed one after the other
    #[arg(long, default_value_t = 1000, value_parser = at_least_one)]
    opened: usize,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// Echoes what is typed, by way of the kernel.
const ECHO: &str = "stty -icanon echo; echo ready; exec cat > /dev/null";

/// Writes so many bytes.
fn flow(bytes: u64) -> String {
    format!("stty raw; echo ready; exec head -c {bytes} /dev/zero")
}

fn on_terminal() -> Streams {
    Streams::Terminal(Size::default())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let terminals = Terminals::new(Config::new(ShellBackend::Direct));
    against_a_bare_one(&terminals, &options).await?;
    many_of_them(&terminals, &options).await
}

async fn against_a_bare_one(terminals: &Terminals, options: &Options) -> Result<(), Failure> {
    let &Options {
        turns, keys, bytes, ..
    } = options;
    let (mut bare_keys, mut terminal_keys) = (Vec::new(), Vec::new());
    let (mut bare_flow, mut terminal_flow) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        bare_keys.extend(tokio::task::spawn_blocking(move || bare::type_keys(keys)).await??);
        terminal_keys.extend(type_in(terminals, keys).await?);
        bare_flow.push(tokio::task::spawn_blocking(move || bare::read_all(bytes)).await??);
        terminal_flow.push(read_in(terminals, bytes).await?);
    }
    println!("a key's echo, median and 99th percentile in microseconds:");
    for (what, times) in [("bare", &mut bare_keys), ("terminal", &mut terminal_keys)] {
        let (median, late) = median_and_late(times);
        println!("  {what}: {} and {}", median.as_micros(), late.as_micros());
    }
    println!("{bytes} bytes of output, best and worst of {turns} in MB/s:");
    for (what, times) in [("bare", &mut bare_flow), ("terminal", &mut terminal_flow)] {
        times.sort_unstable();
        let best = speed(bytes, times[0]);
        let worst = speed(bytes, times[times.len() - 1]);
        println!("  {what}: {best:.0} and {worst:.0}");
    }
    Ok(())
}

async fn many_of_them(terminals: &Terminals, options: &Options) -> Result<(), Failure> {
    // What is set up once is there by then.
    let number = usize::from(options.busy);
    many::open_and_close(terminals, 2).await?;
    many::busy(terminals, number, 1).await?;
    let before = Held::now();
    let time = many::busy(terminals, number, options.busy_bytes).await?;
    let all = options.busy_bytes * u64::from(options.busy);
    println!(
        "{number} terminals, {} bytes of each at once: {:.1} s, {:.0} MB/s in all",
        options.busy_bytes,
        time.as_secs_f64(),
        speed(all, time)
    );
    let mut times = many::open_and_close(terminals, options.opened).await?;
    let (median, late) = median_and_late(&mut times);
    println!(
        "{} terminals opened and closed, median and 99th percentile in microseconds: {} and {}",
        options.opened,
        median.as_micros(),
        late.as_micros()
    );
    println!("held before: {before}");
    println!("held after:  {}", Held::now());
    Ok(())
}

/// The median and the 99th percentile.
fn median_and_late(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100];
    (at(50), at(99))
}

/// In MB/s.
fn speed(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e6
}

/// A script in a terminal, once it is ready, and how many bytes it has written since.
async fn ready(terminals: &Terminals, script: &str) -> Result<(TerminalId, u64), Error> {
    let request = ExecRequest::shell("/bin/sh", script, "/").on(on_terminal());
    let id = terminals.open(request).await?;
    let mut text = Vec::new();
    let mut left_out = 0;
    loop {
        let output = terminals.read(id, Duration::from_secs(10), usize::MAX).await?;
        text.extend(output.bytes);
        left_out += output.left_out;
        if let Some(place) = text
            .windows(6)
            .position(|window| window == b"ready\n" || window == b"ready\r")
        {
            let behind = place + if text[place + 5] == b'\n' { 6 } else { 7 };
            return Ok((id, (text.len() - behind.min(text.len())) as u64 + left_out));
        }
    }
}

/// How long each of so many keys takes to come back from a terminal.
async fn type_in(terminals: &Terminals, keys: usize) -> Result<Vec<Duration>, Error> {
    let (id, _) = ready(terminals, ECHO).await?;
    let mut times = Vec::new();
    for _ in 0..keys {
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

/// How long so many bytes of output of a terminal take.
async fn read_in(terminals: &Terminals, bytes: u64) -> Result<Duration, Error> {
    let begun = Instant::now();
    let (id, mut read) = ready(terminals, &flow(bytes)).await?;
    while read < bytes {
        let output = terminals.read(id, Duration::from_secs(10), usize::MAX).await?;
        // What this reader is too slow for has flowed as well.
        read += output.bytes.len() as u64 + output.left_out;
    }
    let time = begun.elapsed();
    terminals.close(id).await?;
    Ok(time)
}
