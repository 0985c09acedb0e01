//! Hiding secrets in what is stored: those of the call wherever and however they stand, what looks like a key, and what
//! the config's patterns say. Runs on text that is decoded and merged, so that nothing is in two pieces.

mod shapes;
mod verbatim;

use aiproxy_core::Secret;
use regex::Regex;

pub(super) use shapes::is_secret_name;
use verbatim::Verbatim;

/// What stands in place of a secret.
pub(super) const HIDDEN: &str = "***";

/// The patterns of the config, compiled.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns(Vec<Regex>);

impl Patterns {
    /// Compiles `system.redact`. The config was checked; a pattern that does not compile all the same is left out,
    /// loudly.
    pub(super) fn new(patterns: &[Box<str>]) -> Self {
        let compile = |pattern: &str| {
            let compiled = Regex::new(pattern);
            compiled.inspect_err(|error| tracing::error!(%error, "a pattern of system.redact cannot be used")).ok()
        };
        Self(patterns.iter().filter_map(|pattern| compile(pattern)).collect())
    }
}

/// Hides the secrets of one call.
pub(super) struct Redactor<'call> {
    verbatim: Verbatim,
    patterns: &'call Patterns,
}

impl<'call> Redactor<'call> {
    pub(super) fn new(secrets: &[Secret], patterns: &'call Patterns) -> Self {
        Self { verbatim: Verbatim::new(secrets), patterns }
    }

    /// `text` with every secret hidden, also the beginning of one that its end cuts.
    pub(super) fn redact(&self, text: &mut String) {
        self.verbatim.hide(text);
        shapes::hide(text);
        for pattern in &self.patterns.0 {
            if let std::borrow::Cow::Owned(hidden) = pattern.replace_all(text, regex::NoExpand(HIDDEN)) {
                *text = hidden;
            }
        }
    }

    /// Whether there is anything to hide in `bytes`, which are not text.
    pub(super) fn finds_any(&self, bytes: &[u8]) -> bool {
        if self.verbatim.is_in(bytes) {
            return true;
        }
        let text = String::from_utf8_lossy(bytes);
        shapes::are_in(&text) || self.patterns.0.iter().any(|pattern| pattern.is_match(&text))
    }
}
