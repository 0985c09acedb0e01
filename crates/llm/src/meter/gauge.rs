//! The rules of each family: which event's usage counts, which event ends the stream, what is an error. The usual
//! event is told from its raw bytes alone; only one that may matter is scanned as JSON.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json_scan::{Captures, JsonScan, decode_string};
use crate::sse::SseEvent;
use crate::usage::{UsageFlaw, parse_overlaid};

use super::delivered::{Delivered, DeliveredText};
use super::form::{CODE, ERROR, Form, INNER_ERROR, KIND, LATER_USAGE, MESSAGE, MODEL, USAGE};
use super::{MeterError, Metered};

static QUOTED_USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"usage\""));
static QUOTED_ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"error\""));
static FINISH_REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"finish_reason\""));
static GEMINI_FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"finishReason\""));
static GEMINI_BLOCKED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"blockReason\""));

/// What has been seen so far.
#[derive(Clone, Debug)]
pub(super) struct Gauge {
    form: Form,
    /// Raw reports: parsed once, at the end, because cumulative ones come with every event.
    usage: Vec<u8>,
    later_usage: Vec<u8>,
    model: Option<String>,
    error: Option<MeterError>,
    finished: bool,
    /// The event that closes the stream was seen, with its blank line or the stream's end behind it.
    terminated: bool,
    events: u64,
    too_large: bool,
}

impl Gauge {
    pub(super) fn new(form: Form) -> Self {
        Self {
            form,
            usage: Vec::new(),
            later_usage: Vec::new(),
            model: None,
            error: None,
            finished: false,
            terminated: false,
            events: 0,
            too_large: false,
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    pub(super) fn is_terminated(&self) -> bool {
        self.terminated
    }

    pub(super) fn observe_event(&mut self, event: &SseEvent<'_>, scan: &mut JsonScan, text: &mut DeliveredText) {
        // The result must not depend on how much came behind the end before somebody looked.
        if self.terminated {
            return;
        }
        if event.oversize {
            self.events += 1;
            return;
        }
        if !may_have_data(event.raw) {
            return;
        }
        text.feed_event(event.raw);
        if self.model.is_some() && self.is_plain(event.raw) {
            self.events += 1;
            return;
        }
        let Some(data) = event.data() else { return };
        self.events += 1;
        if data.trim_ascii() == b"[DONE]" {
            self.finished = true;
            self.terminated = true;
            return;
        }
        self.finished |= self.ends_stream(event.raw);
        scan.reset();
        scan.feed(&data);
        let captures = scan.captures();
        let had_error = self.error.is_some();
        self.observe(captures, event.name());
        if self.is_last_event(captures, event.name()) {
            self.finished = true;
            self.terminated = true;
        }
        self.terminated |= !had_error && self.error.is_some() && stands_alone(event.raw);
    }

    /// One JSON document, or one element of an array.
    pub(super) fn observe_element(&mut self, captures: &Captures) {
        self.events += 1;
        self.observe(captures, b"");
    }

    /// An event that changes nothing, told without reading it. Quotes inside JSON strings are escaped, so a quoted name
    /// is found only where it is a key (or a whole string).
    fn is_plain(&self, raw: &[u8]) -> bool {
        match self.form {
            Form::Openai => {
                has_no_usage(raw)
                    && QUOTED_ERROR.find(raw).is_none()
                    && !ends_with_done(raw)
                    && !has_finish_reason(raw)
                    && !raw.starts_with(b"event:")
            }
            Form::AnthropicStream => raw.starts_with(b"event: content_block_") && QUOTED_ERROR.find(raw).is_none(),
            Form::ResponsesStream => {
                raw.starts_with(b"event: response.")
                    && raw.get(..64).unwrap_or(raw).split(|byte| *byte == b'\n').next().is_some_and(is_partial_name)
            }
            // Cumulative usage on every event.
            Form::Gemini | Form::Dashscope => false,
            Form::Anthropic | Form::Cohere | Form::CohereStream | Form::Bedrock => false,
        }
    }

    /// Told from the raw bytes because the reason stands inside an array.
    fn ends_stream(&self, raw: &[u8]) -> bool {
        match self.form {
            Form::Openai | Form::Dashscope => has_finish_reason(raw),
            Form::Gemini => GEMINI_FINISH.find(raw).is_some() || GEMINI_BLOCKED.find(raw).is_some(),
            _ => false,
        }
    }

    fn observe(&mut self, captures: &Captures, event_name: &[u8]) {
        self.too_large |= keep_usage(captures, USAGE, &mut self.usage);
        self.too_large |= keep_usage(captures, LATER_USAGE, &mut self.later_usage);
        if self.model.is_none() {
            self.model = captures.raw(MODEL).and_then(decode_string).filter(|model| !model.is_empty());
        }
        if self.error.is_none() {
            self.error = self.error_in(captures, event_name);
        }
    }

    /// The event behind which nothing comes; all but `[DONE]`.
    fn is_last_event(&self, captures: &Captures, event_name: &[u8]) -> bool {
        let kind = captures.raw(KIND).unwrap_or_default();
        let kind = kind.strip_prefix(b"\"").and_then(|kind| kind.strip_suffix(b"\"")).unwrap_or(event_name);
        match self.form {
            Form::ResponsesStream => {
                matches!(kind, b"response.completed" | b"response.incomplete" | b"response.failed")
            }
            Form::AnthropicStream => kind == b"message_stop",
            Form::CohereStream => kind == b"message-end",
            Form::Openai => matches!(
                kind,
                b"image_generation.completed"
                    | b"image_edit.completed"
                    | b"speech.audio.done"
                    | b"transcript.text.done"
            ),
            _ => false,
        }
    }

    fn error_in(&self, captures: &Captures, event_name: &[u8]) -> Option<MeterError> {
        if let Some(error) =
            [ERROR, INNER_ERROR].into_iter().find_map(|index| MeterError::from_value(captures.raw(index)?))
        {
            return Some(error);
        }
        let stated = event_name == b"error" || captures.raw(KIND) == Some(b"\"error\"");
        match self.form {
            // `code` beside the output is an error even with status 200.
            Form::Dashscope => MeterError::from_members(captures.raw(CODE), captures.raw(MESSAGE)),
            Form::ResponsesStream if stated => MeterError::from_members(captures.raw(CODE), captures.raw(MESSAGE)),
            _ => None,
        }
        .or_else(|| stated.then(MeterError::default))
    }

    pub(super) fn finish(self, finished: bool, delivered: Delivered) -> Metered {
        let (first, later) = match self.form {
            Form::AnthropicStream if !self.usage.is_empty() => (&self.usage, Some(self.later_usage.as_slice())),
            _ if self.usage.is_empty() => (&self.later_usage, None),
            _ => (&self.usage, None),
        };
        let mut metered = Metered {
            delivered,
            model: self.model,
            error: self.error,
            finished,
            events: self.events,
            ..Metered::default()
        };
        if self.too_large {
            metered.flaws.push(UsageFlaw::TooLarge);
        }
        if !first.is_empty() {
            let form = match self.form {
                // `meta` holds Cohere's shape wherever it stands.
                Form::Openai if self.usage.is_empty() => crate::usage::UsageForm::Cohere,
                form => form.usage_form(),
            };
            let report = parse_overlaid(form, first, later.filter(|later| !later.is_empty()));
            metered.usage = report.usage;
            metered.flaws.extend(report.flaws);
        }
        metered
    }
}

/// Keeps the last report that is not `null`. True if it was too large to be kept.
fn keep_usage(captures: &Captures, index: usize, kept: &mut Vec<u8>) -> bool {
    let Some(capture) = captures.get(index) else { return false };
    if capture.truncated {
        return true;
    }
    if capture.bytes != b"null" {
        kept.clear();
        kept.extend_from_slice(&capture.bytes);
    }
    false
}

/// An error without a part of the answer beside it: every SDK raises it and reads no further. Some providers put a
/// warning beside what they go on to send, usage and all.
fn stands_alone(raw: &[u8]) -> bool {
    const ANSWERS: [&[u8]; 3] = [b"\"choices\"", b"\"candidates\"", b"\"output\""];
    ANSWERS.iter().all(|answer| memchr::memmem::find(raw, answer).is_none())
}

/// The usual event begins with its data, or names its type and the data follows; a lone comment has neither.
fn may_have_data(raw: &[u8]) -> bool {
    !matches!(raw.first(), None | Some(b'\n' | b'\r'))
        && (raw[0] != b':' || memchr::memmem::find(raw, b"data").is_some())
}

fn ends_with_done(raw: &[u8]) -> bool {
    raw.len() < 64 && memchr::memmem::find(raw, b"[DONE]").is_some()
}

/// No `"usage"` but `"usage":null`.
pub(super) fn has_no_usage(raw: &[u8]) -> bool {
    QUOTED_USAGE.find_iter(raw).all(|at| value_after(raw, at + b"\"usage\"".len()).starts_with(b"null"))
}

/// A `finish_reason` that is a string, and not DashScope's string `"null"`.
fn has_finish_reason(raw: &[u8]) -> bool {
    FINISH_REASON.find_iter(raw).any(|at| {
        let value = value_after(raw, at + b"\"finish_reason\"".len());
        value.starts_with(b"\"") && !value.starts_with(b"\"null\"") && !value.starts_with(b"\"\"")
    })
}

/// What follows the colon after a key that ends at `at`.
fn value_after(raw: &[u8], at: usize) -> &[u8] {
    let rest = raw.get(at..).unwrap_or_default().trim_ascii_start();
    rest.strip_prefix(b":").unwrap_or_default().trim_ascii_start()
}

/// The name of a Responses event that is only a part of what its terminal event repeats.
fn is_partial_name(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    line.ends_with(b".delta") || line.ends_with(b".added") || line.ends_with(b".done")
}
