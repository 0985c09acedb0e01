//! Single values of messages: names, ids, errors, each no longer than may be kept.

use crate::json_scan::{Captures, decode_string};
use crate::meter::MeterError;

/// A longer name, in bytes, is no model's; [`crate::models`] leaves it out of lists, too.
pub(super) const LONGEST_NAME: usize = 512;

/// Ids of tasks and responses are kept up to this length in bytes. The longest known are below 64.
pub(super) const LONGEST_ID: usize = 256;

/// The name that was captured at `index`, if there is one that can be a model's.
pub(super) fn name_at(captures: &Captures, index: usize) -> Option<String> {
    decode_string(captures.raw(index)?).filter(|name| (1..=LONGEST_NAME).contains(&name.len()))
}

/// The id that was captured at `index`; one that is too long is cut.
pub(super) fn id_at(captures: &Captures, index: usize) -> Option<String> {
    let mut id = decode_string(captures.raw(index)?).filter(|id| !id.is_empty())?;
    id.truncate(id.floor_char_boundary(LONGEST_ID));
    Some(id)
}

/// As much of a name as is kept.
pub(super) fn kept_name(name: &str) -> String {
    name[..name.floor_char_boundary(LONGEST_NAME)].to_owned()
}

/// Whether something stands at `index` that is not `null`.
pub(super) fn is_there(captures: &Captures, index: usize) -> bool {
    captures.get(index).is_some_and(|capture| capture.bytes != b"null")
}

/// The error in the value at `index`: an object with `code`, `type` and `message`, or a sentence.
pub(super) fn error_at(captures: &Captures, index: usize) -> Option<MeterError> {
    let raw = captures.raw(index)?;
    if raw == b"null" {
        return None;
    }
    MeterError::from_body(raw).or_else(|| {
        let message = decode_string(raw).map(cut_sentence);
        Some(MeterError { message, ..MeterError::default() })
    })
}

/// Long enough for any sentence; as much as [`MeterError`] keeps elsewhere.
pub(super) fn cut_sentence(text: String) -> String {
    text.chars().take(512).collect()
}
