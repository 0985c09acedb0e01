//! The text of one file to a tree, whatever syntax it is in.
//!
//! Shared by both syntaxes: what bounds a file, what duplicate keys do, and that keys starting with `_` are comments.

mod json;
mod yaml;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::problem::Problems;
use crate::tree::{Entry, Mark, Node, Value};

/// The largest file that is read: 100,000 users take some 20 MiB.
pub(crate) const MAX_FILE_BYTES: usize = 64 << 20;
/// How deep lists and maps may lie in each other. The forms need 6.
const MAX_DEPTH: usize = 32;
/// How many values aliases (`*name`) may add to a file, so that a small file cannot become a huge tree.
const MAX_ALIASED_NODES: usize = 100_000;

/// Parses `text`, which came from `path`. `None` if its syntax is broken; what was wrong is in `problems` then.
pub(crate) fn parse(path: &Path, file: u16, text: &str, problems: &mut Problems) -> Option<Node> {
    let start = Mark { file, line: 0, column: 0 };
    if text.len() > MAX_FILE_BYTES {
        problems.error_at(start, format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20));
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let parsed = if is_json && !text.trim().is_empty() {
        json::parse(text, file, problems)
    } else {
        yaml::parse(text, file, problems)
    };
    match parsed {
        Ok(node) => Some(node),
        Err((mark, message)) => {
            problems.error_at(mark, message);
            None
        }
    }
}

/// What stops a parser: where, and why.
type Stop = (Mark, String);

/// Puts a map together: reports duplicate keys, keeping the first, and drops comments (`_…`).
pub(crate) struct MapBuilder {
    mark: Mark,
    entries: Vec<Entry>,
    /// Only made once a map is too large to look through each time.
    seen: Option<HashSet<Arc<str>>>,
}

impl MapBuilder {
    pub(crate) fn new(mark: Mark) -> Self {
        Self { mark, entries: Vec::new(), seen: None }
    }

    /// Adds an entry. A key seen before is an error that names both places.
    fn add(&mut self, entry: Entry, problems: &mut Problems) {
        if entry.key.starts_with('_') {
            return;
        }
        if self.has(&entry.key) {
            let first = self.entries.iter().find(|other| other.key == entry.key).map_or(self.mark, |e| e.key_mark);
            let first = problems.describe(first, entry.key_mark);
            problems.error_at(entry.key_mark, format!("`{}` is written twice; first at {first}", shown(&entry.key)));
            return;
        }
        if let Some(seen) = &mut self.seen {
            seen.insert(Arc::clone(&entry.key));
        }
        self.entries.push(entry);
    }

    /// Adds all entries of another map: a section continued in another file.
    pub(crate) fn extend(&mut self, other: Node, problems: &mut Problems) {
        if self.entries.is_empty() {
            self.mark = other.mark;
        }
        for entry in other.into_entries() {
            self.add(entry, problems);
        }
    }

    /// Adds what is not there yet: YAML's merge key `<<`.
    fn merge(&mut self, other: Node) {
        for entry in other.into_entries() {
            if !self.has(&entry.key) {
                self.entries.push(entry);
            }
        }
    }

    fn has(&mut self, key: &str) -> bool {
        const SMALL: usize = 32;
        if self.entries.len() < SMALL {
            return self.entries.iter().any(|entry| *entry.key == *key);
        }
        let entries = &self.entries;
        self.seen.get_or_insert_with(|| entries.iter().map(|entry| Arc::clone(&entry.key)).collect()).contains(key)
    }

    pub(crate) fn finish(self) -> Node {
        Node { mark: self.mark, value: Value::Map(self.entries.into_boxed_slice()) }
    }
}

/// A key as a message may show it. `api_key:sk-…` with its space forgotten is one long key: only its name is shown.
pub(crate) fn shown(key: &str) -> String {
    let name = key.split([':', '=', '\n']).next().unwrap_or_default();
    if name.chars().count() > 64 { name.chars().take(64).chain(['…']).collect() } else { name.to_owned() }
}

/// Keys are the same few names over and over: each is kept once.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    /// `name`, shared with its other uses unless it is an id (`depth` < 3), which occurs once.
    fn share(&mut self, name: &str, depth: usize) -> Arc<str> {
        if depth < 3 {
            return name.into();
        }
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}
