//! What routing needs from a request body, read while the body arrives: the model, whether it streams, and where the
//! few bytes stand that the gateway may rewrite. It never sees the whole body at once and does not judge it; a body
//! that is not JSON simply has no model.

mod edit;
mod multipart;

use std::ops::Range;

use crate::json_scan::{Captures, JsonScan, Path, ScanStatus, decode_string};

pub use edit::{Edit, apply_edits, form_model_edit, model_edit, usage_injection};
pub use multipart::{FormPeek, PeekedForm, boundary_of};

const MODEL: usize = 0;
const STREAM: usize = 1;
const STREAM_OPTIONS: usize = 2;
const INCLUDE_USAGE: usize = 3;
const SESSION_MODEL: usize = 4;
const PATHS: &[Path] = &[
    &["model"],
    &["stream"],
    &["stream_options"],
    &["stream_options", "include_usage"],
    // `/realtime/client_secrets`, `/realtime/calls` and `/live/sessions` name it there.
    &["session", "model"],
];

/// Longer model names are treated as absent.
const LONGEST_MODEL: usize = 4 * 1024;

/// Reads a JSON request body in passing.
#[derive(Clone, Debug)]
pub struct RequestPeek {
    scan: JsonScan,
}

/// What a JSON request body asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeekedBody {
    /// The text of `model`, or of `session.model`.
    pub model: Option<String>,
    /// Where the model's raw value stands, quotes included.
    pub model_span: Option<Range<usize>>,
    /// `"stream": true` was asked for.
    pub stream: bool,
    /// What stands at `stream_options`.
    pub stream_options: StreamOptions,
    /// Where the `{` that opens the body stands.
    pub open_brace: Option<usize>,
    /// The body is one whole JSON object (or array), as far as a peek can tell.
    pub complete: bool,
}

/// The `stream_options` of a body; spans include the whole raw value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StreamOptions {
    /// Not there.
    #[default]
    Absent,
    /// `null`, or `false`, which some clients write for it.
    Null(Range<usize>),
    /// An object.
    Object {
        /// Where it stands.
        span: Range<usize>,
        /// It has no members.
        empty: bool,
        /// Its member `include_usage`.
        include_usage: IncludeUsage,
    },
    /// Something that is none of these; the upstream will say so.
    Other,
}

/// The member `include_usage` of `stream_options`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncludeUsage {
    /// Not there.
    Absent,
    /// `true`.
    Yes,
    /// `false` or `null`, and where it stands.
    No(Range<usize>),
    /// Something that is none of these.
    Other,
}

impl Default for RequestPeek {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestPeek {
    /// A peek that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { scan: JsonScan::new(PATHS).with_capture_limit(LONGEST_MODEL) }
    }

    /// Takes the next bytes of the body.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.scan.feed(chunk);
    }

    /// What was found in all that was fed.
    #[must_use]
    pub fn finish(&self) -> PeekedBody {
        let captures = self.scan.captures();
        let (model, model_span) = [MODEL, SESSION_MODEL]
            .into_iter()
            .find_map(|index| {
                let raw = captures.raw(index)?;
                Some((decode_string(raw)?, captures.get(index)?.span.clone()))
            })
            .unzip();
        PeekedBody {
            model,
            model_span,
            stream: captures.raw(STREAM) == Some(b"true"),
            stream_options: stream_options(captures),
            open_brace: self.scan.root_offset(),
            complete: self.scan.status() == ScanStatus::Complete,
        }
    }
}

fn stream_options(captures: &Captures) -> StreamOptions {
    let Some(options) = captures.get(STREAM_OPTIONS) else { return StreamOptions::Absent };
    let span = options.span.clone();
    match options.bytes.first() {
        Some(b'n' | b'f') => StreamOptions::Null(span),
        Some(b'{') => StreamOptions::Object {
            span,
            empty: options.bytes[1..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}'),
            include_usage: include_usage(captures),
        },
        _ => StreamOptions::Other,
    }
}

fn include_usage(captures: &Captures) -> IncludeUsage {
    let Some(capture) = captures.get(INCLUDE_USAGE) else { return IncludeUsage::Absent };
    match capture.bytes.as_slice() {
        b"true" => IncludeUsage::Yes,
        b"false" | b"null" => IncludeUsage::No(capture.span.clone()),
        _ => IncludeUsage::Other,
    }
}
