//! Tells from the first bytes of a successful response whether it really began, before anything of it is handed on:
//! providers answer 200 and then report an error as the first event, or as the whole document. It does not decide what
//! follows from that. What it waits for is bounded, and in doubt a response has begun.

use serde_json::Value;

use crate::dialect::{Dialect, Operation};
use crate::json_scan::{Captures, JsonScan, Path, ScanStatus, decode_string};
use crate::sse::{SseDecoder, SseEvent};

use super::form::Form;
use super::{MeterError, MeterKind};

/// A document that reports an error does so within its first bytes.
const LONGEST_DOCUMENT: usize = 4 * 1024;

/// How much of a stream may pass by without anything of substance. The first event of a response repeats its
/// instructions and tools.
const LONGEST_STREAM: usize = 64 * 1024;

const ERROR: usize = 0;
const INNER_ERROR: usize = 1;
const CODE: usize = 2;
const MESSAGE: usize = 3;
const KIND: usize = 4;
const OBJECT: usize = 5;
const OUTPUT: usize = 6;
const CHOICES: usize = 7;
const USAGE: usize = 8;

const PATHS: &[Path] = &[
    &["error"],
    &["response", "error"],
    &["code"],
    &["message"],
    &["type"],
    &["object"],
    &["output"],
    &["choices"],
    &["usage"],
];

/// Whether a response has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing of substance has come yet.
    Waiting,
    /// It has begun, or cannot be judged.
    Content,
    /// It is an error in spite of its status.
    Error(MeterError),
}

#[derive(Clone, Debug)]
enum Framing {
    Document(JsonScan),
    Stream(SseDecoder, JsonScan),
}

/// The judge of one response.
#[derive(Clone, Debug)]
pub struct StreamStart {
    framing: Framing,
    is_dashscope: bool,
    seen: usize,
    start: Start,
}

impl StreamStart {
    /// A judge of the response to `operation` as the upstream's `dialect` writes it.
    #[must_use]
    pub fn new(dialect: Dialect, operation: Operation, kind: MeterKind) -> Self {
        let scan = JsonScan::new(PATHS);
        let framing = match kind {
            MeterKind::Sse => Framing::Stream(SseDecoder::new(LONGEST_STREAM), scan),
            // Google puts its error into an array where a stream was asked for.
            _ => Framing::Document(scan.per_element()),
        };
        let start = if kind == MeterKind::Other || reads_stored(operation) { Start::Content } else { Start::Waiting };
        let is_dashscope = Form::of(dialect, operation, kind) == Form::Dashscope;
        Self { framing, is_dashscope, seen: 0, start }
    }

    /// Looks at the next decoded bytes. What is once decided stays so.
    pub fn feed(&mut self, chunk: &[u8]) -> Start {
        if self.start == Start::Waiting {
            self.start = match &mut self.framing {
                Framing::Document(scan) => {
                    let room = LONGEST_DOCUMENT - self.seen;
                    let chunk = chunk.get(..room).unwrap_or(chunk);
                    self.seen += chunk.len();
                    judge_document(chunk, scan, self.is_dashscope)
                        .unwrap_or_else(|| waiting_until(self.seen >= LONGEST_DOCUMENT))
                }
                Framing::Stream(decoder, scan) => {
                    self.seen += chunk.len();
                    let mut start = None;
                    decoder.feed(chunk, |event| start = start.take().or_else(|| judge_event(event, scan)));
                    start.unwrap_or_else(|| waiting_until(self.seen > LONGEST_STREAM))
                }
            };
        }
        self.start.clone()
    }

    /// The response has ended here: never [`Start::Waiting`]. An end without any event is for others to judge.
    pub fn finish(&mut self) -> Start {
        if self.start == Start::Waiting {
            let mut start = None;
            if let Framing::Stream(decoder, scan) = &mut self.framing {
                decoder.finish(|event| start = judge_event(event, scan));
            }
            self.start = start.unwrap_or(Start::Content);
        }
        self.start.clone()
    }
}

/// What is read was made by an earlier call, and the error of that call is the content of this one.
fn reads_stored(operation: Operation) -> bool {
    matches!(operation, Operation::ResponsesRetrieve | Operation::Batches | Operation::Files | Operation::Videos)
}

fn waiting_until(over: bool) -> Start {
    if over { Start::Content } else { Start::Waiting }
}

/// Nothing if the document goes on and has not shown an error so far.
fn judge_document(chunk: &[u8], scan: &mut JsonScan, is_dashscope: bool) -> Option<Start> {
    // Between members stands a comma: stopping there, the first of two members of one name decides, however the bytes
    // are cut.
    for piece in chunk.split_inclusive(|byte| *byte == b',') {
        let mut whole = None;
        scan.feed_elements(piece, |captures| whole = Some(error_of_document(captures, is_dashscope, true)));
        let is_over = whole.is_some() || scan.status() != ScanStatus::Incomplete;
        let error = whole.unwrap_or_else(|| error_of_document(scan.captures(), is_dashscope, false));
        if error.is_some() || is_over {
            return Some(error.map_or(Start::Content, Start::Error));
        }
    }
    None
}

/// The error of a document or of the first element, as far as it has been seen.
fn error_of_document(captures: &Captures, is_dashscope: bool, is_whole: bool) -> Option<MeterError> {
    if let Some(error) = captures.raw(ERROR).and_then(MeterError::from_value) {
        return Some(error);
    }
    // `code` beside the output is an error even with status 200; the sentence to it may still be on its way.
    let is_told = is_dashscope && (is_whole || captures.get(MESSAGE).is_some());
    is_told.then(|| MeterError::from_members(captures.raw(CODE), captures.raw(MESSAGE))).flatten()
}

/// Nothing if the stream has not really begun with this event.
fn judge_event(event: &SseEvent<'_>, scan: &mut JsonScan) -> Option<Start> {
    if event.range.end > LONGEST_STREAM as u64 {
        return Some(Start::Content);
    }
    let data = event.data().filter(|data| !data.trim_ascii().is_empty())?;
    scan.reset();
    scan.feed(&data);
    let captures = scan.captures();
    let kind = captures.raw(KIND).and_then(decode_string).unwrap_or_default();
    if let Some(error) = error_of_event(captures, kind.as_bytes(), event.name(), &data) {
        return Some(Start::Error(error));
    }
    let is_complete = scan.status() == ScanStatus::Complete && !scan.is_array();
    let is_preamble = is_complete
        && (is_announcement(kind.as_bytes()) || is_announcement(event.name()) || has_empty_choices(captures));
    (!is_preamble).then_some(Start::Content)
}

/// Any family's error, whichever family was called: gateways on the way put in their own.
fn error_of_event(captures: &Captures, kind: &[u8], name: &[u8], data: &[u8]) -> Option<MeterError> {
    let members = [ERROR, INNER_ERROR];
    if let Some(error) = members.into_iter().find_map(|index| MeterError::from_value(captures.raw(index)?)) {
        return Some(error);
    }
    let is_stated = [kind, name].iter().any(|kind| matches!(*kind, b"error" | b"response.failed"))
        || captures.raw(OBJECT) == Some(b"\"error\"");
    if is_stated {
        return Some(MeterError::from_body(data).unwrap_or_default());
    }
    // DashScope's shape. Others put `"code":0` beside their results.
    let is_absent = |index| captures.get(index).is_none_or(|capture| capture.bytes == b"null");
    let is_bare = is_absent(OUTPUT) && is_absent(CHOICES) && !is_absent(MESSAGE);
    let code = captures.raw(CODE).filter(|code| code.starts_with(b"\""));
    if is_bare { MeterError::from_members(code, captures.raw(MESSAGE)) } else { None }
}

/// Events that say only that the call was accepted.
fn is_announcement(kind: &[u8]) -> bool {
    matches!(kind, b"message_start" | b"ping" | b"response.created" | b"response.queued" | b"response.in_progress")
}

/// A chat's chunk without choices (Azure's verdict on the prompt comes first), or with nothing in them but the role.
fn has_empty_choices(captures: &Captures) -> bool {
    let Some(raw) = captures.raw(CHOICES) else { return false };
    let Ok(choices) = serde_json::from_slice::<Option<Vec<Value>>>(raw) else { return false };
    let choices = choices.unwrap_or_default();
    let has_usage = captures.get(USAGE).is_some_and(|usage| usage.bytes != b"null");
    choices.is_empty() || !has_usage && choices.iter().all(is_role_only)
}

fn is_role_only(choice: &Value) -> bool {
    let is_going_on = choice.get("finish_reason").is_none_or(is_empty);
    let Some(Value::Object(delta)) = choice.get("delta") else { return false };
    is_going_on && delta.iter().all(|(name, value)| name == "role" || is_empty(value))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
