//! `conformance bench`: what a wrapper costs, against baselines in the same run.
//!
//! Machines are shared and noisy, so every round takes one sample of every subject (A B C A B C …), and what is
//! reported are medians and their ratios. [`programs`] are the baselines, [`measure`] takes samples with the
//! [`peer`] that answers at once, [`calls`] counts system calls, [`table`] shows it all. [`server`] measures the
//! other side in the same way, and [`shells`] what a command costs in a shell under both.

pub mod calls;
pub mod instructions;
pub mod measure;
pub mod peer;
pub mod programs;
pub mod server;
pub mod shells;
pub mod table;

use serde::Serialize;

/// What a peer answers at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// The command runs in the wrapper's place.
    Run,
    /// The command is denied.
    Deny,
    /// The command runs elsewhere, where it ends at once with 0.
    Escalate,
}

impl Decision {
    /// All decisions.
    pub const ALL: [Decision; 3] = [Decision::Run, Decision::Deny, Decision::Escalate];
}

/// The cost of one decision of one subject.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Name of the subject.
    pub subject: String,
    /// The decision; none for a baseline without a peer.
    pub decision: Option<Decision>,
    /// Median wall time from the spawn to the end, microseconds.
    pub median_us: f64,
    /// The ninth decile, microseconds.
    pub p90_us: f64,
    /// Median divided by the median of *direct* in the same rounds.
    pub ratio_to_direct: f64,
    /// Median divided by the median of *floor* in the same rounds; only for Run.
    pub ratio_to_floor: Option<f64>,
    /// System calls of one run, from the wrapper's start to the command's.
    pub system_calls: Option<u64>,
    /// Median of instructions of one run, where the machine counts them.
    pub instructions: Option<u64>,
}

/// The cost of a Run as environment or arguments grow.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// `environment` (bytes) or `arguments` (number).
    pub dimension: &'static str,
    /// How much of it.
    pub size: usize,
    /// Name of the subject.
    pub subject: String,
    /// Median wall time, microseconds.
    pub median_us: f64,
    /// Median over that of *direct* with the same size, minus the same at the smallest size: what growth costs.
    pub added_us: f64,
    /// `added_us` divided by that of *floor*; none at the smallest size.
    pub ratio_to_floor: Option<f64>,
}

/// All measurements of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub format: u32,
    /// Samples of each subject.
    pub runs: usize,
    /// Name and path of what was measured.
    pub subjects: Vec<(String, String)>,
    /// Cost of each decision.
    pub latency: Vec<Latency>,
    /// Cost of growth.
    pub growth: Vec<Growth>,
}

/// The value at `share` (0 to 1) of the sorted samples.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}
