//! `conformance bench`: measures wrappers against baselines and against each other, servers against each other, and commands in
//! shells against those in a stock shell.

use clap::Args;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use nix::unistd::{ForkResult, Pid};

use crate::bench::calls;
use crate::bench::instructions::Instructions;
use crate::bench::measure::{Size, Start};
use crate::bench::peer::Peer;
use crate::bench::programs::Programs;
use crate::bench::{Decision, Growth, Latency, Report, quantile, server, shells, table};
use crate::case::implementations::Implementations;
use crate::exit::{self, HarnessFailure};
use crate::runner::census;
use crate::system::process::{Ended, wait_for};

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// The wrapper
    #[arg(long, value_name = "PATH", required_unless_present_any = ["server", "launcher"])]
    pub wrapper: Option<PathBuf>,
    /// The server: a shim's command line
    #[arg(long, value_name = "COMMAND", conflicts_with = "wrapper")]
    pub server: Option<String>,
    /// A command line that executes a script, its last argument, in a shell under a server, such as
    /// `shell-escalation run --policy FILE --`; repeatable
    #[arg(long, value_name = "COMMAND", requires = "stock_shell", conflicts_with_all = ["wrapper", "server", "compare"])]
    pub launcher: Vec<String>,
    /// The shell that launchers are compared with, unpatched
    #[arg(long, value_name = "PATH", requires = "launcher")]
    pub stock_shell: Option<PathBuf>,
    /// Another one of the same kind, measured in the same rounds; repeatable
    #[arg(long, value_name = "PATH|COMMAND")]
    pub compare: Vec<String>,
    /// Samples of each subject
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = at_least_one)]
    pub runs: usize,
    /// Write the measurements as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("expected a number from 1 on".to_owned()),
    }
}

/// Rounds before the measured ones: caches are filled, files are mapped.
const WARM_UP: usize = 10;

/// Bytes of environment and numbers of arguments that growth is measured at, the smallest first.
const ENVIRONMENTS: [usize; 4] = [1 << 10, 16 << 10, 128 << 10, 1 << 20];
const ARGUMENTS: [usize; 4] = [1, 100, 1_000, 10_000];

/// One line of measurements to come.
struct Row {
    subject: String,
    decision: Option<Decision>,
    start: Start,
    samples: Vec<f64>,
}

/// Measures and prints, in a process of its own: what is measured may stop or kill its parent.
///
/// # Errors
/// What cannot be started, what does not do what it should while it is measured, or that it ended the measuring.
pub fn bench(arguments: &BenchArguments) -> anyhow::Result<i32> {
    nix::sys::prctl::set_child_subreaper(true)?;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            measure(arguments)
        }
        ForkResult::Parent { child } => status_of_measuring(child),
    }
}

/// The exit status of the process that measures, which has said what it had to say. It is not stopped but by what it
/// measures.
fn status_of_measuring(child: Pid) -> anyhow::Result<i32> {
    let waited = loop {
        let waited = wait_for(libc::P_PID, child.as_raw(), libc::WEXITED | libc::WSTOPPED)?;
        let waited = waited.context("waitid gave nothing")?;
        // A terminal's Ctrl-Z stops all of us.
        if waited.code != libc::CLD_STOPPED || waited.status == libc::SIGSTOP {
            break waited;
        }
    };
    census::kill_all_descendants().map_err(|error| HarnessFailure(error.to_string()))?;
    match waited.ended() {
        Some(Ended::Exited(status)) => Ok(status),
        Some(ended) => Err(HarnessFailure(format!(
            "the process that measured was ended ({ended}): judge what it measured with `conformance run` first"
        ))
        .into()),
        None => Err(HarnessFailure(
            "the process that measured was stopped: judge what it measured with `conformance run` first".to_owned(),
        )
        .into()),
    }
}

fn measure(arguments: &BenchArguments) -> anyhow::Result<i32> {
    let folder = tempfile::Builder::new().prefix("conformance-").tempdir()?;
    let json = arguments
        .json
        .as_ref()
        .map(|path| Ok::<_, std::io::Error>((path, fs::File::create(path)?)));
    let json = json.transpose().context("--json: the file cannot be written")?;
    if let Some(server) = &arguments.server {
        let commands: Vec<_> = std::iter::once(server)
            .chain(&arguments.compare)
            .cloned()
            .collect();
        let report = server::measure(&commands, arguments.runs, folder.path())?;
        return print(&report, &table::of_servers(&report), json);
    }
    let programs = Programs::write(folder.path())?;
    if let Some(stock) = &arguments.stock_shell {
        let report = shells::measure(stock, &arguments.launcher, arguments.runs, &programs.nothing)?;
        return print(&report, &table::of_shells(&report), json);
    }
    let mut wrappers = Vec::new();
    let others = arguments.compare.iter().map(PathBuf::from);
    for path in arguments.wrapper.iter().cloned().chain(others) {
        let named = Implementations::named(None, Some(&path), None)?;
        wrappers.push((name_of(&path, &wrappers), named.wrapper.context("a wrapper")?));
    }
    let peer = Peer::start()?;
    let latency = latency(&programs, &wrappers, &peer, arguments.runs)?;
    let growth = growth(&programs, &wrappers, &peer, arguments.runs.div_ceil(4))?;
    peer.finish()?;
    let subjects = wrappers
        .iter()
        .map(|(name, path)| (name.clone(), path.display().to_string()))
        .collect();
    let report = Report {
        format: 1,
        runs: arguments.runs,
        subjects,
        latency,
        growth,
    };
    print(&report, &table::text(&report), json)
}

/// The table to standard output, the measurements to the file.
fn print(
    report: &impl serde::Serialize,
    table: &str,
    json: Option<(&PathBuf, fs::File)>,
) -> anyhow::Result<i32> {
    if let Some((path, mut file)) = json {
        writeln!(file, "{}", serde_json::to_string_pretty(report)?)
            .with_context(|| format!("--json {}", path.display()))?;
    }
    std::io::stdout().lock().write_all(table.as_bytes())?;
    Ok(exit::EXPECTED)
}

/// A short name that no other subject has.
fn name_of(path: &std::path::Path, taken: &[(String, PathBuf)]) -> String {
    let name: String = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .chars()
        .take(10)
        .collect();
    if taken.is_empty() {
        "wrapper".to_owned()
    } else {
        format!("{}-{name}", taken.len() + 1)
    }
}

fn latency(
    programs: &Programs,
    wrappers: &[(String, PathBuf)],
    peer: &Peer,
    runs: usize,
) -> anyhow::Result<Vec<Latency>> {
    let nothing = &programs.nothing;
    let row = |subject: &str, decision, start| Row {
        subject: subject.to_owned(),
        decision,
        start,
        samples: Vec::new(),
    };
    let mut rows = vec![
        row("direct", None, Start::new(None, nothing, None, Size::SMALL)?),
        row(
            "two-exec",
            None,
            Start::new(Some(&programs.two_exec), nothing, None, Size::SMALL)?,
        ),
        row(
            "floor",
            Some(Decision::Run),
            Start::new(Some(&programs.floor), nothing, Some(peer), Size::SMALL)?,
        ),
    ];
    for (name, path) in wrappers {
        for decision in Decision::ALL {
            let status = i32::from(decision == Decision::Deny);
            let start = Start::new(Some(path), nothing, Some(peer), Size::SMALL)?.expecting(status);
            rows.push(row(name, Some(decision), start));
        }
    }
    interleave(&mut rows, peer, runs)?;
    let mut counter = Instructions::available();
    let direct = quantile(&rows[0].samples, 0.5);
    let floor = quantile(&rows[2].samples, 0.5);
    rows.iter()
        .map(|row| {
            let median_us = quantile(&row.samples, 0.5);
            if let Some(decision) = row.decision {
                peer.decide(decision);
            }
            Ok(Latency {
                subject: row.subject.clone(),
                decision: row.decision,
                median_us,
                p90_us: quantile(&row.samples, 0.9),
                ratio_to_direct: median_us / direct,
                ratio_to_floor: (row.decision == Some(Decision::Run)).then_some(median_us / floor),
                system_calls: Some(calls::count(&row.start, peer)?),
                instructions: counter
                    .as_mut()
                    .map(|counter| counter.of(&row.start))
                    .transpose()?,
            })
        })
        .collect()
}

/// One sample of each row, again and again, so that what else the machine does hits all alike.
fn interleave(rows: &mut [Row], peer: &Peer, runs: usize) -> anyhow::Result<()> {
    for round in 0..WARM_UP + runs {
        for row in &mut *rows {
            if let Some(decision) = row.decision {
                peer.decide(decision);
            }
            let sample = row.start.sample()?;
            if round >= WARM_UP {
                row.samples.push(sample);
            }
        }
    }
    Ok(())
}

fn growth(
    programs: &Programs,
    wrappers: &[(String, PathBuf)],
    peer: &Peer,
    runs: usize,
) -> anyhow::Result<Vec<Growth>> {
    let environments = ENVIRONMENTS.map(|size| {
        (
            "environment",
            size,
            Size {
                environment: size,
                ..Size::SMALL
            },
        )
    });
    let arguments = ARGUMENTS.map(|count| {
        (
            "arguments",
            count,
            Size {
                arguments: count,
                ..Size::SMALL
            },
        )
    });
    let mut growth: Vec<Growth> = Vec::new();
    for (dimension, size, dimensions) in environments.into_iter().chain(arguments) {
        let run = Some(Decision::Run);
        let mut rows = vec![Row {
            subject: "direct".to_owned(),
            decision: None,
            start: Start::new(None, &programs.nothing, None, dimensions)?,
            samples: Vec::new(),
        }];
        let floor = ("floor".to_owned(), programs.floor.clone());
        for (name, path) in std::iter::once(&floor).chain(wrappers) {
            let start = Start::new(Some(path), &programs.nothing, Some(peer), dimensions)?;
            rows.push(Row {
                subject: name.clone(),
                decision: run,
                start,
                samples: Vec::new(),
            });
        }
        interleave(&mut rows, peer, runs)?;
        let direct = quantile(&rows[0].samples, 0.5);
        let first = |growth: &[Growth], subject: &str| {
            growth
                .iter()
                .find(|row| row.dimension == dimension && row.subject == subject)
                .cloned()
        };
        let direct_first = first(&growth, "direct").map_or(direct, |row| row.median_us);
        let mut floor_added = None;
        for row in rows {
            let median_us = quantile(&row.samples, 0.5);
            let smallest = first(&growth, &row.subject).map_or(median_us, |row| row.median_us);
            let added_us = if row.subject == "direct" {
                median_us - smallest
            } else {
                (median_us - direct) - (smallest - direct_first)
            };
            let is_first = first(&growth, &row.subject).is_none();
            if row.subject == "floor" && !is_first {
                floor_added = Some(added_us);
            }
            let ratio_to_floor = floor_added.filter(|added| *added > 0.0 && row.subject != "direct");
            let ratio_to_floor = ratio_to_floor.map(|added| added_us / added);
            growth.push(Growth {
                dimension,
                size,
                subject: row.subject,
                median_us,
                added_us,
                ratio_to_floor,
            });
        }
    }
    Ok(growth)
}
