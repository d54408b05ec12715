//! Known failures: a strict list, in which a stale entry is as wrong as a missing one.

use std::path::Path;

use anyhow::{Context as _, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::outcome::{CaseResult, Outcome};
use crate::suite;

/// One known failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The exact case id.
    pub case: String,
    /// Why it fails.
    pub reason: String,
    /// Where that is followed up: a link or a number.
    pub issue: String,
}

/// A baseline file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The known failures.
    #[serde(default)]
    pub known: Vec<Known>,
}

impl Baseline {
    /// Reads a baseline and checks it against the suite.
    ///
    /// # Errors
    /// An unreadable file, an unknown member, an empty reason or issue, an id twice or unknown.
    pub fn read(path: &Path) -> anyhow::Result<Baseline> {
        let shown = path.display();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("--baseline {shown}: cannot be read"))?;
        let baseline: Baseline = toml::from_str(&text).with_context(|| format!("--baseline {shown}"))?;
        let cases = suite::all();
        for (index, known) in baseline.known.iter().enumerate() {
            let id = &known.case;
            if !cases.iter().any(|case| case.id == id) {
                let nearest = suite::nearest(id, cases.iter().map(|case| case.id)).unwrap_or("none");
                bail!("--baseline {shown}: no case '{id}'; the nearest is '{nearest}'");
            }
            if baseline.known[..index].iter().any(|earlier| earlier.case == *id) {
                bail!("--baseline {shown}: '{id}' is listed twice; keep one entry");
            }
            for (member, value) in [("reason", &known.reason), ("issue", &known.issue)] {
                if value.trim().is_empty() {
                    bail!(
                        "--baseline {shown}: '{id}' has an empty {member}; say why it fails and where that is followed up"
                    );
                }
            }
        }
        Ok(baseline)
    }

    /// Changes the outcome of a listed case: a failure is expected, a pass is not.
    pub fn apply(&self, result: &mut CaseResult) {
        let Some(known) = self.known.iter().find(|known| known.case == result.id) else {
            return;
        };
        match result.outcome {
            Outcome::Fail => result.outcome = Outcome::ExpectedFail,
            Outcome::Pass => {
                result.outcome = Outcome::UnexpectedPass;
                result.expected = Some(format!("fails, as the baseline says: {}", known.reason));
                result.observed = Some("it passes; take the entry out of the baseline".to_owned());
            }
            _ => {}
        }
    }

    /// A baseline of what failed in `results`, with the reasons of this one where it had them.
    pub fn of_failures(&self, results: &[CaseResult]) -> Baseline {
        let known = results
            .iter()
            .filter(|result| matches!(result.outcome, Outcome::Fail | Outcome::ExpectedFail))
            .map(|result| {
                self.known
                    .iter()
                    .find(|known| known.case == result.id)
                    .cloned()
                    .unwrap_or_else(|| Known {
                        case: result.id.clone(),
                        reason: String::new(),
                        issue: String::new(),
                    })
            })
            .collect();
        Baseline { known }
    }

    /// Writes the baseline.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let head = "# Known failures. Fill in each reason and issue: an empty one is refused.\n\n";
        let text = head.to_owned() + &toml::to_string(self)?;
        std::fs::write(path, text).with_context(|| format!("--write-baseline {}", path.display()))
    }
}
