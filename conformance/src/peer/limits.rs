//! The resources of getrlimit(2), by the names of the protocol.

/// The names; the place is the number on Linux.
pub const NAMES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// Limits below these, soft and hard, by the number of the resource: each differs from the others where it can, and a program still
/// starts under them.
pub fn below(resource: usize, (soft, hard): (u64, u64)) -> (u64, u64) {
    // More than 53 bits hold, so that none goes through a floating point number; and seconds, of which the kernel counts nanoseconds.
    const HUGE: u64 = (1 << 60) + 1;
    const SECONDS: u64 = 1_000_000;
    const FILES: u64 = 50;
    // The kernel lays out a program's memory by it.
    const STACK: u64 = 8 << 20;
    let place = resource as u64;
    let most = match NAMES[resource] {
        "cpu" => SECONDS,
        "nofile" => FILES,
        _ => HUGE + 2 * place,
    };
    let hard = hard.saturating_sub(1).min(most);
    match NAMES[resource] {
        "stack" => (soft.min(STACK).min(hard), hard),
        _ => (hard.saturating_sub(1), hard),
    }
}
