//! What routing needs from a request body, read while the body arrives: the model, whether it streams, and where the
//! few bytes stand that the gateway may rewrite; a thorough peek also tells which conversation a call belongs to, which
//! earlier work it refers to and how much it may answer. It never sees the whole body at once and does not judge it; a
//! body that is not JSON simply has no model.

mod conversation;
mod edit;
mod multipart;

use std::ops::Range;

use crate::json_scan::{Captures, JsonScan, Path, ScanStatus, decode_string};
use crate::work;

pub use conversation::stable_hash;
pub use edit::{Edit, apply_edits, form_model_edit, model_edit, usage_injection};
pub use multipart::{FormPeek, PeekedForm, boundary_of};

const MODEL: usize = 0;
const STREAM: usize = 1;
const STREAM_OPTIONS: usize = 2;
const INCLUDE_USAGE: usize = 3;
const SESSION_MODEL: usize = 4;
/// Everything that can be followed, in groups, in the order in which the members of a group are preferred. As many as
/// one scan can follow.
const ALL_PATHS: &[Path; 32] = &[
    &["model"],
    &["stream"],
    &["stream_options"],
    &["stream_options", "include_usage"],
    // `/realtime/client_secrets`, `/realtime/calls` and `/live/sessions` name it there.
    &["session", "model"],
    &["max_completion_tokens"],
    &["max_tokens"],
    &["max_output_tokens"],
    &["generationConfig", "maxOutputTokens"],
    &["parameters", "max_tokens"],
    &["prompt_cache_key"],
    &["metadata", "user_id"],
    &["safety_identifier"],
    &["user"],
    &["system"],
    &["instructions"],
    &["systemInstruction"],
    &["system_instruction"],
    &["messages"],
    &["input"],
    &["contents"],
    &["input", "messages"],
    &["input", "prompt"],
    &["prompt"],
    &["previous_response_id"],
    &["conversation"],
    &["conversation", "id"],
    &["input_file_id"],
    &["training_file"],
    &["previous_interaction_id"],
    &["cachedContent"],
    // Vertex asks for a video by POST, so that the path does not tell.
    &["operationName"],
];
/// Model and stream.
const PATHS: &[Path] = ALL_PATHS.split_at(5).0;
/// These and the most output tokens.
const LIMIT_PATHS: &[Path] = ALL_PATHS.split_at(10).0;
/// All but what tells the conversation.
const REFERENCE_PATHS: &[Path] = &without_conversation();

/// Empty paths match nothing and keep the numbers of the others.
const fn without_conversation() -> [Path; 32] {
    let mut paths = *ALL_PATHS;
    let mut index = CONVERSATION_NAMES.start;
    while index < WORKS.start {
        paths[index] = &[];
        index += 1;
    }
    paths
}

const OUTPUT_LIMITS: Range<usize> = 5..10;
const CONVERSATION_NAMES: Range<usize> = 10..14;
const SYSTEM_PARTS: Range<usize> = 14..18;
const PROMPTS: Range<usize> = 18..24;
const CONTENTS: usize = 20;
const WORKS: Range<usize> = 24..32;

/// How much is kept of one value. Longer model names are treated as absent.
const CAPTURE_LIMIT: usize = 4 * 1024;
/// The same where prompts are looked at: long enough for the instructions of a coding agent and what follows them.
const PROMPT_CAPTURE_LIMIT: usize = 32 * 1024;

/// Reads a JSON request body in passing.
#[derive(Clone, Debug)]
pub struct RequestPeek {
    scan: JsonScan,
    reads_output_limit: bool,
    reads_references: bool,
    reads_conversation: bool,
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
    /// How many tokens the answer may have, if the body limits it. Only of a thorough peek, like all that follows.
    pub max_output_tokens: Option<u64>,
    /// Which conversation the call belongs to: the same number in every turn, in every process. It comes from
    /// `prompt_cache_key`, `metadata.user_id`, `safety_identifier` or `user`, else from the beginning of the prompt.
    pub conversation: Option<u64>,
    /// Ids of earlier work that the call goes on with, as [`work::WorkIds`] and [`work::ids_in_path`] write them. At
    /// most 8. Where there is one, it says more than `conversation`.
    pub works: Vec<String>,
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
    /// A peek that reads model and stream.
    #[must_use]
    pub fn new() -> Self {
        Self::following(PATHS, CAPTURE_LIMIT)
    }

    /// A peek that also fills `max_output_tokens`.
    #[must_use]
    pub fn with_output_limit() -> Self {
        Self::following(LIMIT_PATHS, CAPTURE_LIMIT)
    }

    /// A peek that also fills `max_output_tokens` and `works`.
    #[must_use]
    pub fn with_references() -> Self {
        Self::following(REFERENCE_PATHS, CAPTURE_LIMIT)
    }

    /// A peek that also fills `max_output_tokens`, `works` and `conversation`, and takes a little longer for it.
    #[must_use]
    pub fn thorough() -> Self {
        Self { reads_conversation: true, ..Self::following(ALL_PATHS, PROMPT_CAPTURE_LIMIT) }
    }

    fn following(paths: &'static [Path], capture_limit: usize) -> Self {
        Self {
            scan: JsonScan::new(paths).with_capture_limit(capture_limit),
            reads_output_limit: paths.len() > PATHS.len(),
            reads_references: paths.len() > LIMIT_PATHS.len(),
            reads_conversation: false,
        }
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
        let mut body = PeekedBody {
            model,
            model_span,
            stream: captures.raw(STREAM) == Some(b"true"),
            stream_options: stream_options(captures),
            open_brace: self.scan.root_offset(),
            complete: self.scan.status() == ScanStatus::Complete,
            ..PeekedBody::default()
        };
        if self.reads_output_limit {
            body.max_output_tokens = OUTPUT_LIMITS.into_iter().find_map(|index| whole_number(captures.raw(index)?));
        }
        if self.reads_references {
            body.works = works(captures);
        }
        // In a broken document, how much of a value was kept depends on how the body was cut.
        if self.reads_conversation && self.scan.status() != ScanStatus::Broken {
            body.conversation = conversation::identify(captures);
        }
        body
    }
}

fn whole_number(raw: &[u8]) -> Option<u64> {
    std::str::from_utf8(raw).ok()?.parse().ok()
}

fn works(captures: &Captures) -> Vec<String> {
    let named = WORKS.filter_map(|index| work::canonical(&decode_string(captures.raw(index)?)?));
    let mut works: Vec<String> = Vec::new();
    for id in named {
        if !works.contains(&id) {
            works.push(id);
        }
    }
    works
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

#[cfg(test)]
mod tests;
