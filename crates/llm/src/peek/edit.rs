//! The few rewrites of a request body, as edits at known offsets, and how they are applied without copying the body.
//! Knows nothing of where the body goes.

use std::borrow::Cow;

use bytes::Bytes;

use super::{IncludeUsage, PeekedBody, PeekedForm, StreamOptions};

/// Replace `remove` bytes at offset `at` of the body by `insert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Offset from the beginning of the body.
    pub at: usize,
    /// How many bytes go.
    pub remove: usize,
    /// What comes in their place.
    pub insert: Cow<'static, [u8]>,
}

/// The edit that makes a streamed OpenAI chat carry `stream_options.include_usage: true`, so that the upstream reports
/// usage. Nothing if it does not stream, asks for usage already, or is not a shape we understand.
#[must_use]
pub fn usage_injection(body: &PeekedBody) -> Option<Edit> {
    if !body.stream || !body.complete {
        return None;
    }
    let (at, remove, insert): (usize, usize, &'static [u8]) = match &body.stream_options {
        StreamOptions::Absent => (body.open_brace? + 1, 0, br#""stream_options":{"include_usage":true},"#),
        StreamOptions::Null(span) => (span.start, span.len(), br#"{"include_usage":true}"#),
        StreamOptions::Object { span, empty, include_usage } => match include_usage {
            IncludeUsage::Absent if *empty => (span.start + 1, 0, br#""include_usage":true"#),
            IncludeUsage::Absent => (span.start + 1, 0, br#""include_usage":true,"#),
            IncludeUsage::No(span) => (span.start, span.len(), b"true"),
            IncludeUsage::Yes | IncludeUsage::Other => return None,
        },
        StreamOptions::Other => return None,
    };
    Some(Edit { at, remove, insert: Cow::Borrowed(insert) })
}

/// The edit that gives a JSON body another model (an alias resolved). Nothing if the body names none.
#[must_use]
pub fn model_edit(body: &PeekedBody, new_name: &str) -> Option<Edit> {
    let span = body.model_span.as_ref()?;
    let insert = serde_json::to_vec(new_name).ok()?;
    Some(Edit { at: span.start, remove: span.len(), insert: Cow::Owned(insert) })
}

/// The edit that gives a multipart form another model. Nothing if the form names none, or if the new name could not
/// stand in a form field.
#[must_use]
pub fn form_model_edit(form: &PeekedForm, new_name: &str) -> Option<Edit> {
    let span = form.model_span.as_ref()?;
    if new_name.contains(['\r', '\n']) {
        return None;
    }
    Some(Edit { at: span.start, remove: span.len(), insert: Cow::Owned(new_name.as_bytes().to_vec()) })
}

/// Applies edits to a body held in chunks; the untouched parts are slices of them, not copies. Edits may come in any
/// order; one that overlaps an earlier one, or lies behind the end, is left out.
#[must_use]
pub fn apply_edits(edits: &[Edit], body: &[Bytes]) -> Vec<Bytes> {
    let mut ordered: Vec<&Edit> = edits.iter().collect();
    ordered.sort_by_key(|edit| edit.at);
    let mut source = Source { chunks: body, inside: 0, position: 0 };
    let mut edited = Vec::with_capacity(body.len() + 2 * edits.len());
    let total: usize = body.iter().map(Bytes::len).sum();
    for edit in ordered {
        let fits = edit.at.checked_add(edit.remove).is_some_and(|end| end <= total);
        if !fits || edit.at < source.position {
            continue;
        }
        source.take(edit.at - source.position, |slice| edited.push(slice));
        source.take(edit.remove, |_| {});
        if !edit.insert.is_empty() {
            edited.push(match &edit.insert {
                Cow::Borrowed(insert) => Bytes::from_static(insert),
                Cow::Owned(insert) => Bytes::copy_from_slice(insert),
            });
        }
    }
    source.take(usize::MAX, |slice| edited.push(slice));
    edited
}

/// A place in the chunked body.
struct Source<'a> {
    chunks: &'a [Bytes],
    /// How much of the first chunk is behind us.
    inside: usize,
    position: usize,
}

impl Source<'_> {
    fn take(&mut self, mut count: usize, mut with: impl FnMut(Bytes)) {
        while count > 0 {
            let Some((first, rest)) = self.chunks.split_first() else { return };
            let length = count.min(first.len() - self.inside);
            if length > 0 {
                with(first.slice(self.inside..self.inside + length));
            }
            self.inside += length;
            self.position += length;
            count -= length;
            if self.inside == first.len() {
                self.chunks = rest;
                self.inside = 0;
            }
        }
    }
}
