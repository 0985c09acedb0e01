//! Puts the name that the caller asked for into a passing response, when the gateway resolved an alias. Held back is
//! only the old name while a chunk's end cuts it; all other bytes pass untouched and at once, however large the
//! document or the event is. It knows where each family names its model and nothing else of what passes.

mod names;

use std::ops::Range;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::dialect::{Dialect, Operation};
use crate::json_scan::JsonScan;
use crate::sse::EventSplitter;

use super::MeterKind;
use super::form::{Form, MODEL};

use names::{Names, Passage};

/// Every key looked for begins like this, or is written with escapes: all its letters are ASCII.
static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"model"));
static ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\\u00"));

/// The rewriter of one response.
#[derive(Debug)]
pub struct RenameModel {
    names: Names,
    /// Where in the stream of events we are; nothing if the response is one document.
    events: Option<Events>,
}

impl RenameModel {
    /// A rewriter that puts `asked` where the response to `operation`, as `dialect` writes it, names its model.
    /// `None` where it names none.
    #[must_use]
    pub fn new(dialect: Dialect, operation: Operation, kind: MeterKind, asked: &str) -> Option<Self> {
        let form = Form::of(dialect, operation, kind);
        if !names_model(form, operation) {
            return None;
        }
        // One byte tells a string from anything else; the value itself is held here.
        let scan = JsonScan::new(form.paths().get(MODEL..=MODEL)?).with_capture_limit(1);
        let (scan, events) = match kind {
            MeterKind::Json => (scan, None),
            MeterKind::JsonArray => (scan.per_element(), None),
            MeterKind::Sse => (scan, Some(Events::new())),
            MeterKind::Other => return None,
        };
        Some(Self { names: Names::new(scan, asked), events })
    }

    /// Takes the next bytes and gives out what may pass, as slices of what came in wherever nothing changed.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        let mut passage = Passage::new(&chunk, out);
        match &mut self.events {
            None => self.names.read(0..chunk.len(), &mut passage),
            Some(events) => events.read(&mut self.names, &mut passage),
        }
        self.names.end_chunk(&mut passage);
    }

    /// The response has ended: gives out what was held. A name cut off by the end stays as it is.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        self.names.release(out);
    }
}

/// Cohere, Bedrock and DashScope's native answers name no model, and neither do these operations.
fn names_model(form: Form, operation: Operation) -> bool {
    !matches!(form, Form::Bedrock | Form::Cohere | Form::CohereStream | Form::Dashscope)
        && !matches!(
            operation,
            Operation::CountTokens | Operation::Files | Operation::Models | Operation::ResponsesInputTokens
        )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So many bytes of a byte order mark have been seen, at the beginning of the stream.
    Mark(usize),
    /// So many bytes of `data:` have been seen.
    Field(usize),
    /// Inside the data.
    Data,
    /// Inside a line that is not data.
    Skipped,
}

/// Finds the data in a stream of events.
#[derive(Debug)]
struct Events {
    splitter: EventSplitter,
    line: Line,
    /// The current event began in an earlier chunk.
    is_cut: bool,
}

impl Events {
    fn new() -> Self {
        Self { splitter: EventSplitter::new(), line: Line::Mark(0), is_cut: false }
    }

    fn read(&mut self, names: &mut Names, passage: &mut Passage<'_>) {
        let chunk = passage.chunk;
        let mut at = 0;
        while at < chunk.len() {
            let length = self.splitter.next_end(&chunk[at..]);
            let end = length.map_or(chunk.len(), |length| at + length);
            if self.is_cut || length.is_none() || may_name_model(&chunk[at..end]) {
                self.read_lines(at..end, names, passage);
            }
            self.is_cut = length.is_none();
            if !self.is_cut {
                names.end_event();
                self.line = Line::Field(0);
            }
            at = end;
        }
    }

    fn read_lines(&mut self, range: Range<usize>, names: &mut Names, passage: &mut Passage<'_>) {
        let mut at = range.start;
        while at < range.end {
            let rest = &passage.chunk[at..range.end];
            match self.line {
                Line::Mark(seen) if b"\xEF\xBB\xBF".get(seen) == rest.first() => {
                    at += 1;
                    self.line = if seen == 2 { Line::Field(0) } else { Line::Mark(seen + 1) };
                }
                Line::Mark(0) => self.line = Line::Field(0),
                Line::Field(seen) if b"data:".get(seen) == rest.first() => {
                    at += 1;
                    self.line = if seen == 4 { Line::Data } else { Line::Field(seen + 1) };
                }
                Line::Mark(_) | Line::Field(_) => self.line = Line::Skipped,
                Line::Data | Line::Skipped => {
                    let length = memchr::memchr2(b'\n', b'\r', rest);
                    let end = length.map_or(range.end, |length| at + length);
                    let is_data = self.line == Line::Data;
                    if is_data {
                        // A space after the colon is white space to the scanner, too.
                        names.read(at..end, passage);
                    }
                    at = end;
                    if length.is_some() {
                        at += 1;
                        self.line = Line::Field(0);
                        if is_data {
                            names.end_line(passage);
                        }
                    }
                }
            }
        }
    }
}

/// The usual event is told apart by a search for the key.
fn may_name_model(raw: &[u8]) -> bool {
    KEY.find(raw).is_some() || ESCAPE.find(raw).is_some()
}
