//! Reads what a call consumed, which model served it and whether it ended well, from the response bytes passing by.
//! It changes nothing and keeps only the last usage report and at most one event cut by a chunk's end. It works in the
//! *upstream's* dialect, on decoded bytes, and knows nothing of prices or of who pays.
//!
//! Two ends are told apart. A response is *finished* once its substance is whole: a finish reason counts. It is
//! *terminated* once its client needs no further byte, because the event that closes the stream has passed with its
//! blank line, on which every SDK acts. The usage report comes before that or inside it, in every dialect.

mod delivered;
mod fault;
mod form;
mod gauge;
mod hide;
mod rename;
mod start;

use crate::dialect::{Dialect, Operation};
use crate::json_scan::{JsonScan, ScanStatus};
use crate::sse::SseDecoder;
use crate::usage::{Usage, UsageFlaw};

use delivered::DeliveredText;
use form::Form;
use gauge::Gauge;

pub use delivered::Delivered;
pub use fault::MeterError;
pub use hide::HideUsageChunk;
pub use rename::RenameModel;
pub use start::{Start, StreamStart};

/// How the response is framed, told by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterKind {
    /// One JSON document.
    Json,
    /// Server-sent events.
    Sse,
    /// A JSON array whose elements arrive one by one (Gemini without `alt=sse`).
    JsonArray,
    /// Anything else: sound, text, binary event streams. Nothing is read.
    Other,
}

impl MeterKind {
    /// What a response to `operation` with this `Content-Type` is.
    #[must_use]
    pub fn of(operation: Operation, content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case("text/event-stream") {
            return Self::Sse;
        }
        let is_json = kind.eq_ignore_ascii_case("application/json")
            || kind.len() > 5 && kind.as_bytes()[kind.len() - 5..].eq_ignore_ascii_case(b"+json");
        match (is_json, operation) {
            (true, Operation::StreamGenerateContent) => Self::JsonArray,
            (true, _) => Self::Json,
            (false, _) => Self::Other,
        }
    }
}

/// What a response amounted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// The provider's own numbers.
    pub usage: Option<Usage>,
    /// What came, whether the provider counted it or not.
    pub delivered: Delivered,
    /// The model that the provider says served the call.
    pub model: Option<String>,
    /// An error object, seen in a 200 or in the stream.
    pub error: Option<MeterError>,
    /// The response came to its proper end: a terminal event, `[DONE]`, a finish reason, or a whole JSON document.
    /// Always true for [`MeterKind::Other`], where only the framing can tell.
    pub finished: bool,
    /// Events with data, or elements of an array; 1 for a JSON document.
    pub events: u64,
    /// What was wrong with the usage report.
    pub flaws: Vec<UsageFlaw>,
}

#[derive(Clone, Debug)]
enum Framing {
    Json(JsonScan),
    /// The decoder, and the scanner that every event worth it is read with.
    Sse(SseDecoder, JsonScan),
    Array(JsonScan),
    Other,
}

/// The meter of one response.
#[derive(Clone, Debug)]
pub struct Meter {
    framing: Framing,
    gauge: Gauge,
    text: DeliveredText,
}

impl Meter {
    /// A meter for the response to `operation` as the upstream's `dialect` writes it.
    #[must_use]
    pub fn new(dialect: Dialect, operation: Operation, kind: MeterKind) -> Self {
        let form = Form::of(dialect, operation, kind);
        let framing = match kind {
            MeterKind::Json => Framing::Json(JsonScan::new(form.paths())),
            MeterKind::Sse => Framing::Sse(SseDecoder::default(), JsonScan::new(form.paths())),
            MeterKind::JsonArray => Framing::Array(JsonScan::new(form.paths()).per_element()),
            MeterKind::Other => Framing::Other,
        };
        Self { framing, gauge: Gauge::new(form), text: DeliveredText::new(form, operation, kind) }
    }

    /// Takes the next bytes of the response. Events behind the one that terminates a stream are ignored.
    pub fn feed(&mut self, chunk: &[u8]) {
        let Self { framing, gauge, text } = self;
        match framing {
            Framing::Json(scan) => {
                text.feed_document(chunk);
                scan.feed(chunk);
            }
            Framing::Sse(decoder, scan) => decoder.feed(chunk, |event| gauge.observe_event(event, scan, text)),
            Framing::Array(scan) => {
                text.feed_document(chunk);
                scan.feed_elements(chunk, |captures| gauge.observe_element(captures));
            }
            Framing::Other => {}
        }
    }

    /// Whether the client has everything it waits for, so that the call may be closed with [`Self::finish`] and what
    /// still comes be left unread. Events of a stream that come later would not change the result.
    ///
    /// - A JSON document or array: its last bracket has come.
    /// - An event stream: the blank line has come behind `[DONE]`, `message_stop`, `response.completed`, `.incomplete`
    ///   or `.failed`, `message-end`, the completion of an image, a sound or a transcript, or an error that stands
    ///   alone. A blank line of a lone CR, which nobody sends, is known to be one only with the byte after it.
    /// - Gemini's and DashScope's streams end with their body: never, but for an error.
    /// - What is not read: never.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        match &self.framing {
            Framing::Json(scan) | Framing::Array(scan) => scan.status() == ScanStatus::Complete,
            Framing::Sse(..) => self.gauge.is_terminated(),
            Framing::Other => false,
        }
    }

    /// The substance is whole: a finish reason or the terminal event was seen, or the document is complete.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match &self.framing {
            Framing::Json(scan) | Framing::Array(scan) => scan.status() == ScanStatus::Complete,
            Framing::Sse(..) => self.gauge.is_finished(),
            Framing::Other => false,
        }
    }

    /// What [`Self::finish`] would say if the response ended here; for looking in between, not for every chunk.
    #[must_use]
    pub fn snapshot(&self) -> Metered {
        self.clone().finish()
    }

    /// The sum of what was seen. To be called once, when the response has ended, well or not, or is terminated.
    #[must_use]
    pub fn finish(mut self) -> Metered {
        let Self { framing, gauge, text } = &mut self;
        let finished = match framing {
            Framing::Json(scan) => {
                if scan.root_offset().is_some() {
                    gauge.observe_element(scan.captures());
                }
                scan.status() == ScanStatus::Complete
            }
            Framing::Sse(decoder, scan) => {
                decoder.finish(|event| gauge.observe_event(event, scan, text));
                gauge.is_finished()
            }
            Framing::Array(scan) => scan.status() == ScanStatus::Complete,
            Framing::Other => true,
        };
        let delivered = self.text.delivered();
        self.gauge.finish(finished, delivered)
    }
}
