//! Checks that several kinds of entry share: ids, references, statuses, deadlines, header text.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::context::Context;
use crate::form::{Network, Size, Span};
use crate::problem::Problems;
use crate::snapshot::Status;
use crate::suggest::suggestion;
use crate::tree::Place;

/// Words that plainly mean "switched off". Others do so too, but with a warning, for they may be typing errors.
const DISABLED_WORDS: &[&str] =
    &["disabled", "inactive", "suspended", "revoked", "expired", "blocked", "deleted", "paused", "off"];

/// What a status means: only `active` allows. Not written means active.
pub(super) fn status(place: &Place<'_>, written: Option<&str>, problems: &mut Problems) -> Status {
    let Some(word) = written else {
        return Status::Active;
    };
    if word == "active" {
        return Status::Active;
    }
    if !DISABLED_WORDS.contains(&word) {
        problems.warning(&place.key("status"), "is neither `active` nor `disabled`; it counts as disabled");
    }
    Status::Disabled
}

/// Ids appear in records, headers and metrics.
pub(super) fn check_id(place: &Place<'_>, id: &str, problems: &mut Problems) {
    const LONGEST: usize = 128;
    if id.trim() != id || id.is_empty() || id.contains(char::is_control) {
        problems.error(place, "an id is not empty and has no control characters or spaces around it");
    } else if id.len() > LONGEST {
        problems.error(place, format!("an id has at most {LONGEST} bytes"));
    }
}

/// Indices of the entries named in a list, without repeats. Names that do not exist are reported.
pub(super) fn references(
    place: &Place<'_>,
    names: &[String],
    known: &HashMap<Box<str>, usize>,
    what: &str,
    problems: &mut Problems,
) -> Vec<usize> {
    let mut indices = Vec::with_capacity(names.len());
    for (position, name) in names.iter().enumerate() {
        match known.get(name.as_str()) {
            Some(index) if indices.contains(index) => {}
            Some(index) => indices.push(*index),
            None => {
                let mut all: Vec<&str> = known.keys().map(|id| &**id).collect();
                all.sort_unstable();
                let suggestion = suggestion(name, all, "there are");
                problems.error(&place.index(position), format!("there is no {what} `{name}`{suggestion}"));
            }
        }
    }
    indices
}

/// Model names and patterns: none may be empty.
pub(super) fn model_patterns(place: &Place<'_>, models: Vec<String>, problems: &mut Problems) -> Box<[Box<str>]> {
    for (index, model) in models.iter().enumerate() {
        if model.trim().is_empty() {
            problems.error(&place.index(index), "a model name is not empty; `*` stands for all");
        }
    }
    models.into_iter().map(Into::into).collect()
}

/// The networks themselves.
pub(super) fn networks(networks: Vec<Network>) -> Box<[ipnet::IpNet]> {
    networks.into_iter().map(|network| network.0).collect()
}

/// A deadline or interval: at most a day, which also catches milliseconds written as seconds.
pub(super) fn deadline(
    place: &Place<'_>,
    written: Option<Span>,
    default: Duration,
    problems: &mut Problems,
) -> Duration {
    const DAY: Duration = Duration::from_secs(86_400);
    let Some(Span(duration)) = written else {
        return default;
    };
    if duration > DAY {
        problems.error(place, "is more than 24 h; a plain number counts seconds, milliseconds are written `500ms`");
    }
    duration
}

/// A length of time that must be within `bounds` where it is written.
pub(super) fn within(
    place: &Place<'_>,
    written: Option<Span>,
    default: Duration,
    bounds: RangeInclusive<Duration>,
    problems: &mut Problems,
) -> Duration {
    let Some(Span(duration)) = written else {
        return default;
    };
    if !bounds.contains(&duration) {
        let (least, most) = (as_written(*bounds.start()), as_written(*bounds.end()));
        problems.error(place, format!("must be between {least} and {most}"));
    }
    duration
}

/// A number of bytes that must be within `bounds` where it is written.
pub(super) fn size_within(
    place: &Place<'_>,
    written: Option<Size>,
    default: u64,
    bounds: RangeInclusive<u64>,
    problems: &mut Problems,
) -> u64 {
    let Some(Size(bytes)) = written else {
        return default;
    };
    if !bounds.contains(&bytes) {
        let (least, most) = (bytes_as_written(*bounds.start()), bytes_as_written(*bounds.end()));
        problems.error(place, format!("must be between {least} and {most}"));
    }
    bytes
}

/// A number of bytes as one would write it: `64KiB`, `1GiB`.
fn bytes_as_written(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| bytes.to_string(), |(size, name)| format!("{}{name}", bytes / size))
}

/// A length of time as one would write it: `100ms`, `90s`, `1h`.
pub(super) fn as_written(duration: Duration) -> String {
    match duration.as_secs() {
        _ if duration.subsec_millis() > 0 => format!("{}ms", duration.as_millis()),
        seconds if seconds > 0 && seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        seconds => format!("{seconds}s"),
    }
}

/// Whether `text` may stand in a header as it is: visible ASCII, with spaces only inside (RFC 9110 §5.5).
pub(super) fn is_header_text(text: &str) -> bool {
    text.trim_matches([' ', '\t']) == text && text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

/// Reports a key with characters that no header could carry.
pub(super) fn check_key_text(place: &Place<'_>, key: &str, context: &mut Context<'_>) {
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        context
            .problems
            .error(place, "a key has only visible ASCII characters: no spaces, line breaks or letters beyond");
    }
}
