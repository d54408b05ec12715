//! The reports that go to files, or one of them to standard output, when the run is over.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};

use super::{Reporter, html, json, junit, tap};
use crate::case::run::{Run, RunEvent};

/// The form of a report.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// JSON.
    Json,
    /// JUnit XML.
    Junit,
    /// TAP 14.
    Tap,
    /// One HTML page.
    Html,
}

impl Form {
    /// The option that asks for it.
    fn option(self) -> &'static str {
        match self {
            Form::Json => "--json",
            Form::Junit => "--junit",
            Form::Tap => "--tap",
            Form::Html => "--html",
        }
    }

    fn text(self, run: &Run) -> anyhow::Result<String> {
        self.text_of(&json::report(run))
    }

    fn text_of(self, report: &json::Report) -> anyhow::Result<String> {
        Ok(match self {
            Form::Json => serde_json::to_string_pretty(report)?,
            Form::Junit => junit::report(report)?,
            Form::Tap => tap::report(report),
            Form::Html => html::report(report)?,
        })
    }
}

/// The reports of a run, each in a file of its own.
pub struct ReportFiles {
    files: Vec<(Form, ReportFile)>,
    failed: Option<anyhow::Error>,
}

impl ReportFiles {
    /// Creates the files that are wanted: that a report cannot be written must not be found out after the run.
    ///
    /// # Errors
    /// A file that cannot be written, or two reports in one place.
    pub fn create(wanted: impl IntoIterator<Item = (Form, PathBuf)>) -> anyhow::Result<ReportFiles> {
        let files = wanted
            .into_iter()
            .map(|(form, path)| Ok((form, ReportFile::create(form.option(), path)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let on_standard_output = files.iter().filter(|(_, file)| file.is_standard_output());
        if on_standard_output.count() > 1 {
            bail!("only one report can go to standard output (-); name files for the others");
        }
        for (index, (_, file)) in files.iter().enumerate() {
            for (_, other) in &files[..index] {
                if file.is_same(other)? {
                    bail!(
                        "{}: two reports would overwrite each other there; name a file for each",
                        file.shown()
                    );
                }
            }
        }
        Ok(ReportFiles { files, failed: None })
    }

    /// Writes `report`, which was read from files.
    ///
    /// # Errors
    /// The first that cannot be written.
    pub fn write(self, report: &json::Report) -> anyhow::Result<()> {
        self.files
            .into_iter()
            .try_for_each(|(form, file)| file.write(&form.text_of(report)?))
    }

    /// Whether standard output is a report, so that what people read has to go elsewhere.
    pub fn take_standard_output(&self) -> bool {
        self.files.iter().any(|(_, file)| file.is_standard_output())
    }
}

impl Reporter for ReportFiles {
    fn hear(&mut self, event: &RunEvent) {
        let RunEvent::RunFinished(run) = event else {
            return;
        };
        for (form, file) in self.files.drain(..) {
            if let Err(error) = form.text(run).and_then(|text| file.write(&text)) {
                self.failed.get_or_insert(error);
            }
        }
    }

    fn close(&mut self) -> anyhow::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

/// A report's destination: a file, or standard output for `-`.
enum ReportFile {
    StandardOutput,
    File(PathBuf, File),
}

impl ReportFile {
    fn create(option: &str, path: PathBuf) -> anyhow::Result<ReportFile> {
        if path == Path::new("-") {
            return Ok(ReportFile::StandardOutput);
        }
        let file =
            File::create(&path).with_context(|| format!("{option} {}: cannot be written", path.display()))?;
        Ok(ReportFile::File(path, file))
    }

    fn shown(&self) -> std::path::Display<'_> {
        match self {
            ReportFile::StandardOutput => Path::new("-").display(),
            ReportFile::File(path, _) => path.display(),
        }
    }

    fn is_standard_output(&self) -> bool {
        matches!(self, ReportFile::StandardOutput)
    }

    /// Whether both are one file, by whatever names. What isn't kept, as in a pipe or /dev/null, isn't overwritten.
    fn is_same(&self, other: &ReportFile) -> anyhow::Result<bool> {
        let (ReportFile::File(_, file), ReportFile::File(_, other)) = (self, other) else {
            return Ok(false);
        };
        let (file, other) = (file.metadata()?, other.metadata()?);
        Ok(file.is_file() && (file.dev(), file.ino()) == (other.dev(), other.ino()))
    }

    fn write(self, text: &str) -> anyhow::Result<()> {
        match self {
            ReportFile::StandardOutput => writeln!(std::io::stdout().lock(), "{text}")?,
            ReportFile::File(path, mut file) => {
                writeln!(file, "{text}")
                    .map_err(|error| anyhow!("{}: cannot be written: {error}", path.display()))?;
            }
        }
        Ok(())
    }
}
