//! What a program of the implementation under test leaves when it ends.

use crate::case::expect;
use crate::system::process::Ended;
use crate::verdict::Verdict;

/// A wrapper or a shell that has ended, and what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What it was, as verdicts name it: "the wrapper", "the shell".
    pub what: &'static str,
    /// How it ended.
    pub ended: Ended,
    /// Its standard output; empty where the suite did not capture it.
    pub output: Vec<u8>,
    /// Its standard error; empty where the suite did not capture it.
    pub error: Vec<u8>,
}

impl Finished {
    /// Its standard output as text.
    pub fn output_text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Its standard error as text.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.error).into_owned()
    }

    /// Demands this exit status.
    pub fn expect_status(&self, status: i32) -> Verdict {
        expect::equal(&format!("{}'s end", self.what), Ended::Exited(status), self.ended)
    }

    /// Demands that standard output is empty.
    pub fn expect_no_output(&self) -> Verdict {
        expect::equal("standard output", "", &*self.output_text())
    }

    /// Demands this standard output and nothing on standard error.
    pub fn expect_output(&self, output: &str) -> Verdict {
        expect::equal(
            "standard output and standard error of the script",
            (output.to_owned(), String::new()),
            (self.output_text(), self.error_text()),
        )
    }

    /// Demands the same end, output and standard error as `stock`'s; process ids in messages aside.
    pub fn expect_as_stock(&self, script: &str, stock: &Finished) -> Verdict {
        let parts = |result: &Finished| {
            (
                result.output_text(),
                without_process_ids(&result.error_text()),
                result.ended,
            )
        };
        expect::equal(
            &format!("output, standard error and end of {script:?} as in the stock shell"),
            parts(stock),
            parts(self),
        )
    }

    /// Demands one line on standard error.
    pub fn expect_one_line(&self) -> Verdict {
        let text = self.error_text();
        let one_line = text.lines().count() == 1 && text.ends_with('\n') && !text.trim().is_empty();
        expect::that(
            one_line && !text.contains("panicked"),
            "one line on standard error that names the cause",
            format_args!("standard error: {text:?}"),
        )
    }

    /// Demands a refusal: an exit status that isn't 0, nothing on standard output, and no denial that the server never sent.
    /// That the status is 126 and the cause is told in one line, `wrapper.fail-closed/status` and `/one-line` ask for.
    pub fn expect_refused(&self) -> Verdict {
        expect::all([
            expect::that(
                matches!(self.ended, Ended::Exited(status) if status != 0),
                format_args!("{} refuses: it exits with a status other than 0", self.what),
                self.ended,
            ),
            self.expect_no_output(),
            expect::that(
                !self.error_text().contains("Execution denied"),
                "no denial, since the server denied nothing",
                format_args!("standard error: {:?}", self.error_text()),
            ),
        ])
    }
}

/// Each run of three digits or more, or that is padded with spaces, as ` #`: process ids are, line numbers of the
/// suite's scripts aren't. Shells print ids in columns, so the padding is another for a shorter one.
pub fn without_process_ids(text: &str) -> String {
    let mut masked = String::new();
    let mut digits = String::new();
    for character in text.chars().chain(['\0']) {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        if digits.len() >= 3 || (!digits.is_empty() && masked.ends_with("  ")) {
            let padded = masked.ends_with(' ');
            masked.truncate(masked.trim_end_matches(' ').len());
            masked.push_str(if padded { " #" } else { "#" });
        } else {
            masked.push_str(&digits);
        }
        digits.clear();
        masked.push(character);
    }
    masked.pop();
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_ids_are_masked_and_line_numbers_are_not() {
        for id in ["   57", "  305", " 4711", "32768", "4194304"] {
            assert_eq!(
                without_process_ids(&format!("bash: line 12: {id} Terminated")),
                "bash: line 12: # Terminated"
            );
        }
        assert_eq!(without_process_ids("[1] 123"), "[1] #");
    }
}
