//! One parser that is tried.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use proptest::prelude::RngExt;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::mutation::mutated;
use crate::probe::{Bounds, Probe};

/// Inputs that an ordinary test tries.
const USUAL_INPUTS: u64 = 3000;

/// The seed of an ordinary test.
const USUAL_SEED: u64 = 1;

/// Accepted inputs that are kept to make others of.
const MOST_KEPT: usize = 400;

/// How long a failing input is made smaller.
const SHRINKING: Duration = Duration::from_secs(3);

/// A parser, and what its inputs are made of.
#[derive(Debug)]
pub struct Target {
    /// Its name, which the folder of saved inputs has, too.
    pub name: &'static str,
    /// Good and bad inputs; new ones are made of them.
    pub corpus: Vec<Vec<u8>>,
    /// Words of its format.
    pub words: &'static [&'static [u8]],
    /// What it may take.
    pub bounds: Bounds,
}

/// What became of all inputs.
#[derive(Default)]
struct Counts {
    inputs: u64,
    accepted: u64,
    longest: usize,
}

impl Target {
    /// Tries inputs. `judge` parses one, compares what comes out with what should, and says whether the parser has accepted
    /// it.
    ///
    /// # Panics
    /// When an input fails: `judge` panics or returns an error, or a bound is exceeded. Also when no input was accepted, or
    /// none refused, since nothing would have been tried then.
    pub fn run(&self, mut judge: impl FnMut(&[u8], &mut Probe) -> Result<bool, String>) {
        let mut judge = |input: &[u8]| {
            let mut probe = Probe::new(self.bounds, input.len());
            let judged = catch_unwind(AssertUnwindSafe(|| judge(input, &mut probe)));
            let accepted = judged.unwrap_or_else(|panic| Err(format!("it panics: {}", words_of(&*panic))))?;
            probe.verdict().map(|()| accepted)
        };
        if let Some(path) = env::var_os("FUZZ_INPUT") {
            let input = fs::read(&path)
                .unwrap_or_else(|error| panic!("cannot read FUZZ_INPUT {}: {error}", path.display()));
            match judge(&input) {
                Ok(accepted) => println!("{}: {}", self.name, if accepted { "accepted" } else { "refused" }),
                Err(why) => panic!("{}: {why}", self.name),
            }
            return;
        }
        let seconds: Option<f64> = variable("FUZZ_SECONDS");
        let seed = variable("FUZZ_SEED")
            .unwrap_or_else(|| seconds.map_or(USUAL_SEED, |_| RandomState::new().build_hasher().finish()));
        let until = seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut corpus = [saved_before(self.name), self.corpus.clone()].concat();
        let mut counts = Counts::default();
        let started = Instant::now();
        for input in corpus.clone() {
            self.judge(&mut judge, &input, seed, &mut counts);
        }
        let first_kept = corpus.len();
        while until.map_or(counts.inputs < USUAL_INPUTS, |until| Instant::now() < until) {
            let input = mutated(&mut random, &corpus, self.words);
            if self.judge(&mut judge, &input, seed, &mut counts) && input.len() < 4096 {
                if corpus.len() - first_kept < MOST_KEPT {
                    corpus.push(input);
                } else {
                    corpus[first_kept + random.random_range(0..MOST_KEPT)] = input;
                }
            }
        }
        let Counts {
            inputs,
            accepted,
            longest,
        } = counts;
        println!(
            "{}: {inputs} inputs in {:.1} s, {accepted} accepted, longest {longest} bytes, seed {seed}",
            self.name,
            started.elapsed().as_secs_f64(),
        );
        assert!(
            0 < accepted && accepted < inputs,
            "{}: of {inputs} inputs {accepted} were accepted",
            self.name
        );
    }

    fn judge(
        &self,
        judge: &mut impl FnMut(&[u8]) -> Result<bool, String>,
        input: &[u8],
        seed: u64,
        counts: &mut Counts,
    ) -> bool {
        counts.inputs += 1;
        counts.longest = counts.longest.max(input.len());
        match judge(input) {
            Ok(accepted) => {
                counts.accepted += u64::from(accepted);
                accepted
            }
            Err(why) => {
                let (input, why) = smaller(judge, input.to_vec(), why);
                let path = save(self.name, &input);
                panic!(
                    "{}: input {} of seed {seed} fails: {why}\nsaved as {} ({} bytes); FUZZ_INPUT={} repeats it",
                    self.name,
                    counts.inputs,
                    path.display(),
                    input.len(),
                    path.display()
                );
            }
        }
    }
}

/// A variable's value.
fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is not a number")),
    )
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
}

/// Removes what a failure does not need, for a few seconds.
fn smaller(
    judge: &mut impl FnMut(&[u8]) -> Result<bool, String>,
    mut input: Vec<u8>,
    mut why: String,
) -> (Vec<u8>, String) {
    let until = Instant::now() + SHRINKING;
    let mut size = input.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < input.len() && Instant::now() < until {
            let mut less = input.clone();
            drop(less.drain(at..(at + size).min(input.len())));
            match judge(&less) {
                Err(reason) => (input, why) = (less, reason),
                Ok(_) => at += size,
            }
        }
        size /= 2;
    }
    (input, why)
}

/// Inputs that failed once, by their files' names.
fn saved_before(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/hostile")).join(name);
    let Ok(entries) = fs::read_dir(&folder) else {
        return Vec::new();
    };
    let files: BTreeSet<PathBuf> = entries
        .map(|entry| entry.expect("a folder that can be read").path())
        .collect();
    files
        .iter()
        .map(|file| fs::read(file).expect("a file that can be read"))
        .collect()
}

/// Saves an input in the folder of what was built, under a name of its content.
fn save(name: &str, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let program = env::current_exe().expect("the test's own path");
    // PROFILE/deps/TEST
    let target = program.ancestors().nth(3).expect("a test in a target folder");
    let folder = target.join("fuzz").join(name);
    let path = folder.join(format!("{:016x}", hasher.finish()));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, input))
        .unwrap_or_else(|error| panic!("cannot save {}: {error}", path.display()));
    path
}
