//! What is wrong with a config and where, in the words shown to its author. Never a secret's value.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::tree::{Mark, Place};

/// Whether a problem stops the config from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The config cannot be used.
    Error,
    /// The config works, but perhaps not as its author thinks.
    Warning,
}

/// One thing wrong with a config. Prints as `file:line:column: error: message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether it stops the config from being used.
    pub severity: Severity,
    /// The file it is in.
    pub file: PathBuf,
    /// Line from 1; 0 if the problem is the file itself.
    pub line: u32,
    /// Column from 1, in characters; 0 if the problem is the file itself.
    pub column: u32,
    /// Where in the config, e.g. `channels.openai.base_url`; empty if the file could not be read as far as that.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(formatter, "{}:{}:", self.line, self.column)?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(formatter, " {severity}: ")?;
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Collects problems; knows the names of the files that marks point into.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    files: Vec<PathBuf>,
    found: Vec<(Mark, Problem)>,
    errors: usize,
}

impl Problems {
    /// Makes `file` known and returns the number marks refer to it by.
    pub(crate) fn add_file(&mut self, file: &Path) -> u16 {
        self.files.push(file.to_owned());
        u16::try_from(self.files.len() - 1).unwrap_or(u16::MAX)
    }

    /// Something at `place` makes the config unusable.
    pub(crate) fn error(&mut self, place: &Place<'_>, message: impl Into<String>) {
        self.push(Severity::Error, place.mark(), place.path(), message.into());
    }

    /// Something at `place` is probably not meant.
    pub(crate) fn warning(&mut self, place: &Place<'_>, message: impl Into<String>) {
        self.push(Severity::Warning, place.mark(), place.path(), message.into());
    }

    /// Something at `mark`, which has no config path, makes the file unusable.
    pub(crate) fn error_at(&mut self, mark: Mark, message: impl Into<String>) {
        self.push(Severity::Error, mark, String::new(), message.into());
    }

    /// A problem with all its parts.
    pub(crate) fn push(&mut self, severity: Severity, mark: Mark, path: String, message: String) {
        let file = self.file(mark).to_owned();
        self.errors += usize::from(severity == Severity::Error);
        self.found.push((mark, Problem { severity, file, line: mark.line, column: mark.column, path, message }));
    }

    /// `file:line:column`, for messages that name a second place. The file only where it is another one than
    /// `seen_from`'s.
    pub(crate) fn describe(&self, mark: Mark, seen_from: Mark) -> String {
        if mark.file == seen_from.file {
            return format!("line {}, column {}", mark.line, mark.column);
        }
        format!("{}:{}:{}", self.file(mark).display(), mark.line, mark.column)
    }

    /// How many errors there are so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// All problems in the order of the text.
    pub(crate) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(mark, problem)| (mark.file, mark.line, mark.column, problem.severity));
        self.found.into_iter().map(|(_, problem)| problem).collect()
    }

    fn file(&self, mark: Mark) -> &Path {
        self.files.get(usize::from(mark.file)).map_or(Path::new("config"), PathBuf::as_path)
    }
}
