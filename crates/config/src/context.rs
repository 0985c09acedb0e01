//! What every step from tree to snapshot needs at hand: where to report, what to fill secrets in from, what time it is,
//! which limits there are.

use std::io;
use std::path::{Path, PathBuf};

use aiproxy_core::Secret;
use aws_lc_rs::digest::{Context as Digest, SHA256};

use crate::problem::Problems;
use crate::snapshot::Limited;
use crate::tree::Place;

/// Looks up an environment variable. Only the `aiproxy` binary knows the real ones.
pub type Environment<'run> = &'run dyn Fn(&str) -> Option<String>;

/// Reads at most so many bytes of a file; more is an error.
pub(crate) type ReadFile<'run> = &'run dyn Fn(&Path, usize) -> io::Result<Vec<u8>>;

/// The largest file a secret or certificate is read from.
const MAX_SIDE_FILE_BYTES: usize = 1 << 20;

/// One run of the loader.
pub(crate) struct Context<'run> {
    pub(crate) problems: Problems,
    pub(crate) now_ms: u64,
    /// Everything with limits so far; they are written in many places, and the snapshot has them in one.
    pub(crate) limited: Vec<Limited>,
    environment: Environment<'run>,
    read_file: ReadFile<'run>,
    /// What relative paths are relative to.
    directory: PathBuf,
    /// Every file asked for, whether it was there or not.
    files: Vec<PathBuf>,
    digest: Digest,
}

impl<'run> Context<'run> {
    pub(crate) fn new(
        directory: &Path,
        environment: Environment<'run>,
        read_file: ReadFile<'run>,
        now_ms: u64,
    ) -> Self {
        Self {
            problems: Problems::default(),
            now_ms,
            limited: Vec::new(),
            environment,
            read_file,
            directory: directory.to_owned(),
            files: Vec::new(),
            digest: Digest::new(&SHA256),
        }
    }

    /// Reads a file and remembers that it matters.
    pub(crate) fn read(&mut self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let is_new = !self.files.iter().any(|known| known == path);
        if is_new {
            self.files.push(path.to_owned());
        }
        let bytes = (self.read_file)(path, limit)?;
        if is_new {
            // Once each, in this order: so the digest can be made again from the list alone.
            self.digest.update(path.as_os_str().as_encoded_bytes());
            self.digest.update(&(bytes.len() as u64).to_le_bytes());
            self.digest.update(&bytes);
        }
        Ok(bytes)
    }

    /// Reads a file named in the config. A failure is reported at `place`.
    pub(crate) fn read_side_file(&mut self, place: &Place<'_>, name: &str) -> Option<String> {
        let path = self.resolve(name);
        let bytes = match self.read(&path, MAX_SIDE_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => {
                let why = match error.kind() {
                    io::ErrorKind::NotFound => "there is no such file".to_owned(),
                    _ => error.to_string(),
                };
                self.problems.error(place, format!("cannot read `{}`: {why}", path.display()));
                return None;
            }
        };
        let text = String::from_utf8(bytes).ok();
        if text.is_none() {
            self.problems.error(place, format!("`{}` is not text", path.display()));
        }
        text
    }

    /// A path as meant: relative ones start at the config's directory.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// Fills in `${NAME}`, `env:NAME` and `file:PATH`. What is missing or empty is reported at `place`.
    pub(crate) fn expand(&mut self, place: &Place<'_>, written: &Secret) -> Option<Secret> {
        let text = written.expose();
        let expanded = if let Some(path) = text.strip_prefix("file:") {
            self.read_side_file(place, path.strip_prefix("//").unwrap_or(path))?.trim().to_owned()
        } else if let Some(name) = text.strip_prefix("env:") {
            self.variable(place, name)?
        } else {
            self.substitute(place, text)?
        };
        if expanded.is_empty() {
            let what = if text.is_empty() { "is empty" } else { "is empty after its variable or file was filled in" };
            self.problems.error(place, what);
            return None;
        }
        Some(Secret::from(expanded))
    }

    /// Replaces each `${NAME}`; `$${` stands for `${` itself.
    fn substitute(&mut self, place: &Place<'_>, text: &str) -> Option<String> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let before = &rest[..at];
            let after = &rest[at + 2..];
            if let Some(before) = before.strip_suffix('$') {
                expanded.push_str(before);
                expanded.push_str("${");
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}') else {
                self.problems.error(place, "`${` without `}`; write `$${` for the characters themselves");
                return None;
            };
            expanded.push_str(before);
            expanded.push_str(&self.variable(place, name)?);
            rest = after;
        }
        expanded.push_str(rest);
        Some(expanded)
    }

    fn variable(&mut self, place: &Place<'_>, name: &str) -> Option<String> {
        let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            self.problems.error(place, "the name of an environment variable has only letters, digits and `_`");
            return None;
        }
        let value = (self.environment)(name);
        if value.is_none() {
            self.problems.error(place, format!("the environment variable `{name}` is not set"));
        }
        value
    }

    /// Everything reported, every file that matters, and a digest of what they held.
    pub(crate) fn finish(self) -> (Problems, Vec<PathBuf>, [u8; 32]) {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.digest.finish().as_ref());
        (self.problems, self.files, digest)
    }
}
