//! Reads what a call consumed, which model served it and whether it ended well, from the response bytes passing by.
//! It changes nothing and keeps only the last usage report and at most one event cut by a chunk's end. It works in the
//! *upstream's* dialect, on decoded bytes, and knows nothing of prices or of who pays.

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

use form::Form;
use gauge::Gauge;

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
        Self { framing, gauge: Gauge::new(form) }
    }

    /// Takes the next bytes of the response.
    pub fn feed(&mut self, chunk: &[u8]) {
        let Self { framing, gauge } = self;
        match framing {
            Framing::Json(scan) => scan.feed(chunk),
            Framing::Sse(decoder, scan) => decoder.feed(chunk, |event| gauge.observe_event(event, scan)),
            Framing::Array(scan) => scan.feed_elements(chunk, |captures| gauge.observe_element(captures)),
            Framing::Other => {}
        }
    }

    /// The terminal event was seen, or the document is whole: what follows is of no interest.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match &self.framing {
            Framing::Json(scan) | Framing::Array(scan) => scan.status() == ScanStatus::Complete,
            Framing::Sse(..) => self.gauge.is_finished(),
            Framing::Other => false,
        }
    }

    /// The sum of what was seen. To be called once, when the response has ended, well or not.
    #[must_use]
    pub fn finish(mut self) -> Metered {
        let Self { framing, gauge } = &mut self;
        let finished = match framing {
            Framing::Json(scan) => {
                if scan.root_offset().is_some() {
                    gauge.observe_element(scan.captures());
                }
                scan.status() == ScanStatus::Complete
            }
            Framing::Sse(decoder, scan) => {
                decoder.finish(|event| gauge.observe_event(event, scan));
                gauge.is_finished()
            }
            Framing::Array(scan) => scan.status() == ScanStatus::Complete,
            Framing::Other => true,
        };
        self.gauge.finish(finished)
    }
}
