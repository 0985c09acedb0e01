//! Loads a config given as text and returns what is said about it.

use std::path::Path;

use aiproxy_config::snapshot::{Snapshot, System};
use aiproxy_config::{Loaded, load_text};

/// 2026-01-01T00:00:00Z.
pub(crate) const NOW_MS: u64 = 1_767_225_600_000;

/// Loads `text` as `name`, with `CANARY_KEY` and a few others in the environment.
pub(crate) fn load_as(name: &str, text: &str) -> Loaded {
    load_text(Path::new(name), text.to_owned(), &environment, NOW_MS)
}

pub(crate) fn environment(name: &str) -> Option<String> {
    match name {
        "REAL_KEY" => Some("sk-real".to_owned()),
        "PASSWORD" => Some("p@ss".to_owned()),
        "CANARY_KEY" => Some("canary with space".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// What is said about `text`, a line for each problem.
pub(crate) fn problems(text: &str) -> String {
    lines(&load_as("aiproxy.yaml", text))
}

pub(crate) fn lines(loaded: &Loaded) -> String {
    loaded.problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// The meaning of `text`, which must be without errors.
pub(crate) fn snapshot(text: &str) -> Snapshot {
    let loaded = load_as("aiproxy.yaml", text);
    let lines = lines(&loaded);
    loaded.snapshot.unwrap_or_else(|| panic!("{lines}"))
}

/// The meaning of `system` with these fields.
pub(crate) fn system(fields: &str) -> System {
    snapshot(&format!("system: {{{fields}}}")).system
}

/// What is said about `system` with these fields.
pub(crate) fn system_problems(fields: &str) -> String {
    problems(&format!("system: {{{fields}}}"))
}
