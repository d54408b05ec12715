//! What a command costs in a shell: under a launcher such as `shell-escalation run --policy FILE --`, and in a stock shell, which
//! is the baseline.
//!
//! A launcher is a command line that takes a script as its last argument, so any product can be measured by it. Its start and
//! its end are measured by a script without commands, and subtracted.

use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::Serialize;

use super::quantile;
use crate::printable::printable;

/// Subshells that execute commands at once.
const AT_ONCE: [usize; 3] = [1, 8, 64];
/// Commands of a sample, and of one without a process, which costs a hundredth.
const COMMANDS: usize = 64;
const BUILTINS: usize = 6_400;
/// Samples of each kind of command, at most: each is many commands.
const MOST_SAMPLES: usize = 40;
/// Bytes of the standard error of a launcher that has failed.
const MOST_SHOWN: u64 = 1024;
/// Rounds before the measured ones.
const WARM_UP: usize = 1;

/// What one kind of command costs one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the subject.
    pub subject: String,
    /// What is executed.
    pub work: &'static str,
    /// Subshells at once.
    pub at_once: usize,
    /// Median wall time of one command, microseconds.
    pub median_us: f64,
    /// The ninth decile, microseconds.
    pub p90_us: f64,
    /// Median of the quotients of a round's time and the stock shell's in the same round.
    pub ratio: f64,
    /// Processor time of the launcher's own process for one command, microseconds.
    pub own_cpu_us: f64,
}

/// All measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub format: u32,
    /// Samples of each subject.
    pub runs: usize,
    /// Name and command line of what was measured.
    pub subjects: Vec<(String, String)>,
    /// In the order of works, and of the subjects for each.
    pub rows: Vec<Row>,
}

/// A kind of command, as a shell executes it.
struct Work {
    name: &'static str,
    text: String,
    /// Commands of a sample, of all subshells together.
    commands: usize,
}

/// A command line that takes a script as its last argument.
struct Subject {
    name: String,
    words: Vec<String>,
}

/// One run of a script.
#[derive(Clone, Copy)]
struct Sample {
    wall_us: f64,
    own_cpu_us: f64,
}

/// Measures the stock shell and the launchers. `nothing` is a static program that does nothing.
///
/// # Errors
/// What can't be started, or doesn't end with status 0.
pub fn measure(stock: &Path, launchers: &[String], runs: usize, nothing: &Path) -> anyhow::Result<Report> {
    let mut subjects = vec![Subject {
        name: "stock".to_owned(),
        words: vec![stock.display().to_string(), "-c".to_owned()],
    }];
    for (index, launcher) in launchers.iter().enumerate() {
        let name = if index == 0 {
            "launcher".to_owned()
        } else {
            format!("launcher-{}", index + 1)
        };
        let words = shlex::split(launcher).filter(|words| !words.is_empty());
        let words = words.with_context(|| format!("--launcher {launcher:?}: not a command line"))?;
        subjects.push(Subject { name, words });
    }
    let works = [
        ("dynamic", "/bin/true".to_owned(), COMMANDS),
        ("static", format!("'{}'", nothing.display()), COMMANDS),
        ("builtin", ":".to_owned(), BUILTINS),
        (
            "pipeline",
            "/bin/true | /bin/true | /bin/true".to_owned(),
            COMMANDS,
        ),
    ]
    .map(|(name, text, commands)| Work { name, text, commands });
    let runs = runs.min(MOST_SAMPLES);
    let mut rows = Vec::new();
    for work in &works {
        for at_once in AT_ONCE {
            rows.extend(rows_of(&subjects, work, at_once, runs)?);
        }
    }
    let command_line = |subject: &Subject| (subject.name.clone(), subject.words.join(" "));
    Ok(Report {
        format: 1,
        runs,
        subjects: subjects.iter().map(command_line).collect(),
        rows,
    })
}

/// One sample of each subject, again and again, so that what else the machine does hits all alike.
fn rows_of(subjects: &[Subject], work: &Work, at_once: usize, runs: usize) -> anyhow::Result<Vec<Row>> {
    let (script, without) = (
        script(&work.text, at_once, work.commands / at_once),
        script(":", at_once, 0),
    );
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); subjects.len()];
    for round in 0..WARM_UP + runs {
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            let (with, without) = (subject.run(&script)?, subject.run(&without)?);
            if round >= WARM_UP {
                let of_one = |all: f64, start: f64| (all - start) / work.commands as f64;
                samples.push(Sample {
                    wall_us: of_one(with.wall_us, without.wall_us),
                    own_cpu_us: of_one(with.own_cpu_us, without.own_cpu_us),
                });
            }
        }
    }
    let walls = |samples: &[Sample]| samples.iter().map(|sample| sample.wall_us).collect::<Vec<_>>();
    let stock = walls(&samples[0]);
    let row = |(subject, samples): (&Subject, &Vec<Sample>)| {
        let walls = walls(samples);
        let ratios: Vec<f64> = walls.iter().zip(&stock).map(|(own, stock)| own / stock).collect();
        Row {
            subject: subject.name.clone(),
            work: work.name,
            at_once,
            median_us: quantile(&walls, 0.5),
            p90_us: quantile(&walls, 0.9),
            ratio: quantile(&ratios, 0.5),
            own_cpu_us: samples.iter().map(|sample| sample.own_cpu_us).sum::<f64>() / samples.len() as f64,
        }
    };
    Ok(subjects.iter().zip(&samples).map(row).collect())
}

/// A script of so many subshells, each of which executes `work` so often.
fn script(work: &str, subshells: usize, times: usize) -> String {
    let many = format!("i=0; while [ $i -lt {times} ]; do {work}; i=$((i+1)); done");
    if subshells == 1 {
        return many;
    }
    format!("k=0; while [ $k -lt {subshells} ]; do ({many}) & k=$((k+1)); done; wait")
}

impl Subject {
    fn run(&self, script: &str) -> anyhow::Result<Sample> {
        // What a launcher says each time is of interest only if it fails.
        let mut complaints = tempfile::tempfile()?;
        let stderr = complaints.try_clone()?;
        let started = Instant::now();
        let mut child = Command::new(&self.words[0])
            .args(&self.words[1..])
            .arg(script)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("{}: cannot be started", self.words[0]))?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        // While it isn't reaped, the kernel still knows its processor time.
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
        let wall_us = started.elapsed().as_secs_f64() * 1e6;
        let own_cpu_us = own_cpu_us(pid)?;
        let status = child.wait()?;
        if !status.success() {
            let mut said = Vec::new();
            complaints.rewind()?;
            complaints.take(MOST_SHOWN).read_to_end(&mut said)?;
            bail!(
                "`{} '{script}'` ended with {status}: its policy must let the commands run. Its standard error: {}",
                self.words.join(" "),
                printable(&String::from_utf8_lossy(&said))
            );
        }
        Ok(Sample { wall_us, own_cpu_us })
    }
}

/// Processor time of all threads of a process, without its children: proc_pid_stat(5), `utime` and `stime`.
fn own_cpu_us(pid: Pid) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has no name")?;
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<_, _>>()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel has no clock ticks")?;
    Ok(ticks as f64 * 1e6 / per_second as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subshell_executes_its_share() {
        for (subshells, times) in [(1, 6), (3, 2), (3, 0)] {
            let script = script("echo x", subshells, times);
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            let lines = String::from_utf8(output.stdout).unwrap().lines().count();
            assert_eq!(lines, subshells * times);
        }
    }

    #[test]
    fn a_stock_shell_and_a_launcher_are_measured_by_the_same_commands() {
        let report = measure(
            Path::new("/bin/sh"),
            &["sh -c".to_owned()],
            1,
            Path::new("/bin/true"),
        )
        .unwrap();
        assert_eq!(report.rows.len(), 4 * AT_ONCE.len() * 2);
        for rows in report.rows.chunks(2) {
            assert_eq!((rows[0].subject.as_str(), rows[0].ratio), ("stock", 1.0));
            assert_eq!(
                (rows[1].subject.as_str(), rows[1].work),
                ("launcher", rows[0].work)
            );
        }
        let fails = measure(
            Path::new("/bin/sh"),
            &["false".to_owned()],
            1,
            Path::new("/bin/true"),
        );
        let message = fails.unwrap_err().to_string();
        assert!(message.contains("ended with exit status: 1"), "{message}");
    }
}
