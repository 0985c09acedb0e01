//! From a path to a snapshot: which files there are, what they say together, and every problem in them.
//!
//! The only place of this crate that touches the disk. It blocks; call it away from the data plane.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::compile::compile;
use crate::context::{Context, Environment};
use crate::merge::merge;
use crate::parse::{MAX_FILE_BYTES, parse};
use crate::problem::{Problem, Severity};
use crate::snapshot::Snapshot;
use crate::tree::Mark;

/// What came of loading a config.
#[derive(Debug)]
pub struct Loaded {
    /// The config's meaning; `None` if there is any error.
    pub snapshot: Option<Snapshot>,
    /// Everything wrong, errors and warnings, in the order of the text.
    pub problems: Vec<Problem>,
    /// Every file that was read or looked for: config files, `file:` secrets, certificates. To be watched.
    pub files: Vec<PathBuf>,
    /// SHA-256 over the names and contents of those files: equal means nothing changed.
    pub digest: [u8; 32],
}

/// Loads a config file, or a directory whose `*.yaml`, `*.yml` and `*.json` files are one config together.
///
/// `environment` looks up variables for `${NAME}`; `now_ms` is the time in milliseconds since 1970-01-01 UTC, against
/// which expiry is judged.
pub fn load(path: &Path, environment: Environment<'_>, now_ms: u64) -> Loaded {
    let is_directory = path.is_dir();
    let directory = if is_directory { path } else { path.parent().unwrap_or(Path::new("")) };
    let mut context = Context::new(directory, environment, &read_file, now_ms);
    let names = if is_directory { config_files(path, &mut context) } else { vec![path.to_owned()] };
    let mut texts = Vec::new();
    for name in names {
        let file = context.problems.add_file(&name);
        match read_text(&name, &mut context) {
            Ok(text) => texts.push((name, file, Some(text))),
            Err((line, message)) => {
                let column = u32::from(line > 0);
                context.problems.error_at(Mark { file, line, column }, message);
                texts.push((name, file, None));
            }
        }
    }
    finish(texts, context)
}

/// [`Loaded::digest`] of `path` as it is now, if loading it read these `files`: equal means that there is no need to
/// load again. Takes a small part of the time that loading takes.
pub fn digest_of(path: &Path, files: &[PathBuf]) -> [u8; 32] {
    let environment = |_: &str| None;
    let mut context = Context::new(Path::new(""), &environment, &read_file, 0);
    // A file that came to a directory changes the digest, too.
    let listed = if path.is_dir() { config_files(path, &mut context) } else { Vec::new() };
    for file in listed.iter().chain(files) {
        // What cannot be read adds nothing, as it did when it was loaded.
        context.read(file, MAX_FILE_BYTES).ok();
    }
    context.finish().2
}

/// Loads a config from its text, as if it stood in the file `name`; files it refers to are read.
pub fn load_text(name: &Path, text: String, environment: Environment<'_>, now_ms: u64) -> Loaded {
    let mut context = Context::new(name.parent().unwrap_or(Path::new("")), environment, &read_file, now_ms);
    let file = context.problems.add_file(name);
    finish(vec![(name.to_owned(), file, Some(text))], context)
}

/// Parses what was read; `None` stands for a file that could not be.
fn finish(texts: Vec<(PathBuf, u16, Option<String>)>, mut context: Context<'_>) -> Loaded {
    let count = texts.len();
    let mut trees = Vec::with_capacity(count);
    for (name, file, text) in texts {
        let tree = text.and_then(|text| parse(&name, file, &text, &mut context.problems));
        trees.extend(tree.map(|tree| (file, tree)));
    }
    // With a file missing, every reference into it would be reported too: say only what is broken first.
    let is_complete = trees.len() == count;
    let sections = merge(trees, &mut context.problems).filter(|_| is_complete);
    let snapshot = sections.map(|sections| compile(sections, &mut context));
    let (problems, files, digest) = context.finish();
    let problems = problems.into_sorted();
    let is_valid = problems.iter().all(|problem| problem.severity == Severity::Warning);
    Loaded { snapshot: snapshot.filter(|_| is_valid), problems, files, digest }
}

/// The config files of a directory, sorted. Hidden files and templates (`*.example`) are not among them.
fn config_files(directory: &Path, context: &mut Context<'_>) -> Vec<PathBuf> {
    let is_config = |path: &PathBuf| {
        let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        !is_hidden
            && ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
            && !path.is_dir()
    };
    let mut files: Vec<PathBuf> = match std::fs::read_dir(directory) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_config).collect(),
        Err(error) => {
            let file = context.problems.add_file(directory);
            context.problems.error_at(Mark { file, ..Mark::default() }, format!("cannot read the directory: {error}"));
            return Vec::new();
        }
    };
    files.sort();
    if files.is_empty() {
        let file = context.problems.add_file(directory);
        let message = format!("the directory has no *.yaml, *.yml or *.json file; {HOW_TO_START}");
        context.problems.error_at(Mark { file, ..Mark::default() }, message);
    }
    files
}

/// What somebody without a config can do.
pub(crate) const HOW_TO_START: &str =
    "`aiproxy demo` runs without any config; to write one, start from examples/minimal.yaml";

/// The text of a config file, or the line of the trouble (0: the whole file) and what it is.
fn read_text(path: &Path, context: &mut Context<'_>) -> Result<String, (u32, String)> {
    let bytes = context.read(path, MAX_FILE_BYTES).map_err(|error| {
        let message = match error.kind() {
            io::ErrorKind::NotFound => missing(path),
            _ => format!("cannot be read: {error}"),
        };
        (0, message)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        (u32::try_from(line).unwrap_or(u32::MAX), "not UTF-8 text; save the file as UTF-8".to_owned())
    })
}

fn missing(path: &Path) -> String {
    let mut template = path.as_os_str().to_owned();
    template.push(".example");
    if Path::new(&template).exists() {
        let (template, path) = (Path::new(&template).display(), path.display());
        return format!("does not exist; copy its template: cp {template} {path}");
    }
    format!("does not exist; {HOW_TO_START}")
}

fn read_file(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::other(format!("larger than {} MiB", limit >> 20)));
    }
    Ok(bytes)
}
