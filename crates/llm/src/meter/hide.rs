//! Takes the usage chunk out of a streamed chat again, when the gateway asked for it and the caller did not. All other
//! bytes pass untouched and at once; held back is only an event cut by a chunk's end that may still be that chunk.

use bytes::Bytes;

use crate::json_scan::{JsonScan, Path, ScanStatus};
use crate::sse::EventSplitter;

use super::gauge::has_no_usage;

const CHOICES: usize = 0;
const USAGE: usize = 1;
const PATHS: &[Path] = &[&["choices"], &["usage"]];

/// A usage chunk is a few hundred bytes; a larger event is none.
const LARGEST: usize = 16 * 1024;

/// The filter for one stream.
#[derive(Debug)]
pub struct HideUsageChunk {
    splitter: EventSplitter,
    state: State,
    held: Vec<Bytes>,
    held_length: usize,
    suspect: Suspect,
    hidden: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between events.
    Between,
    /// Inside an event whose bytes are held.
    Holding,
    /// Inside an event that cannot be the usage chunk.
    Passing,
}

impl Default for HideUsageChunk {
    fn default() -> Self {
        Self::new()
    }
}

impl HideUsageChunk {
    /// A filter at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self {
            splitter: EventSplitter::new(),
            state: State::Between,
            held: Vec::new(),
            held_length: 0,
            suspect: Suspect::new(),
            hidden: 0,
        }
    }

    /// How many events were hidden.
    #[must_use]
    pub fn hidden(&self) -> u64 {
        self.hidden
    }

    /// Takes the next bytes and gives out what may pass, as slices of what came in.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        // Bytes between `passed` and the current place may pass; they are given out in one piece.
        let mut passed = 0;
        let mut at = 0;
        while let Some(length) = self.splitter.next_end(&chunk[at..]) {
            let end = at + length;
            let hide = match self.state {
                State::Between => is_usage_event(&chunk[at..end]),
                State::Passing => false,
                State::Holding => {
                    self.held_length + length <= LARGEST
                        && self.suspect.feed(&chunk[at..end])
                        && self.suspect.is_usage_chunk()
                }
            };
            if hide {
                self.hidden += 1;
                self.held.clear();
                pass(&chunk, passed, at, out);
                passed = end;
            } else {
                self.release(out);
            }
            self.held_length = 0;
            self.state = State::Between;
            at = end;
        }
        self.push_rest(&chunk, passed, at, out);
    }

    /// The stream has ended: gives out what was held. An event cut off by the end is hidden only if it is whole.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        if self.state == State::Holding && self.suspect.is_usage_chunk() {
            self.hidden += 1;
            self.held.clear();
        }
        self.release(out);
        self.state = State::Between;
    }

    /// The beginning of an event that goes on in the next chunk.
    fn push_rest(&mut self, chunk: &Bytes, passed: usize, at: usize, out: &mut Vec<Bytes>) {
        if at == chunk.len() {
            pass(chunk, passed, at, out);
            return;
        }
        if self.state == State::Between {
            self.suspect.reset();
            self.state = State::Holding;
        }
        self.held_length += chunk.len() - at;
        let hold = self.state == State::Holding && self.held_length <= LARGEST && self.suspect.feed(&chunk[at..]);
        if hold {
            pass(chunk, passed, at, out);
            self.held.push(chunk.slice(at..));
        } else {
            self.state = State::Passing;
            self.release(out);
            pass(chunk, passed, chunk.len(), out);
        }
    }

    fn release(&mut self, out: &mut Vec<Bytes>) {
        out.append(&mut self.held);
    }
}

fn pass(chunk: &Bytes, from: usize, to: usize, out: &mut Vec<Bytes>) {
    if from < to {
        out.push(chunk.slice(from..to));
    }
}

/// The usual event is told apart by a search for one word.
fn is_usage_event(raw: &[u8]) -> bool {
    if raw.len() > LARGEST || has_no_usage(raw) {
        return false;
    }
    let mut suspect = Suspect::new();
    suspect.feed(raw) && suspect.is_usage_chunk()
}

/// Reads an event piece by piece, and says as early as possible that it is not the usage chunk.
#[derive(Debug)]
struct Suspect {
    scan: JsonScan,
    line: Line,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// So many bytes of `data:` have been seen.
    Name(usize),
    /// Inside the data.
    Data,
    /// Inside a line that is not data.
    Skipped,
}

impl Suspect {
    fn new() -> Self {
        Self { scan: JsonScan::new(PATHS).with_capture_limit(LARGEST), line: Line::Name(0) }
    }

    fn reset(&mut self) {
        self.scan.reset();
        self.line = Line::Name(0);
    }

    /// Takes the next bytes of the event. False if it cannot be the usage chunk.
    fn feed(&mut self, mut rest: &[u8]) -> bool {
        const NAME: &[u8] = b"data:";
        while let Some(&next) = rest.first() {
            let end = memchr::memchr2(b'\n', b'\r', rest);
            match self.line {
                Line::Name(seen) if NAME.get(seen) == Some(&next) => {
                    rest = &rest[1..];
                    self.line = if seen + 1 == NAME.len() { Line::Data } else { Line::Name(seen + 1) };
                    continue;
                }
                Line::Name(_) => self.line = Line::Skipped,
                // A space after the colon is white space to the scanner, too.
                Line::Data => self.scan.feed(&rest[..end.unwrap_or(rest.len())]),
                Line::Skipped => {}
            }
            let Some(end) = end else { break };
            rest = &rest[end + 1..];
            self.line = Line::Name(0);
        }
        self.scan.status() != ScanStatus::Broken && !self.scan.is_array() && self.choices_may_be_empty()
    }

    fn choices_may_be_empty(&self) -> bool {
        let captures = self.scan.captures();
        let Some(so_far) = captures.so_far(CHOICES) else { return true };
        let mut significant = so_far.iter().filter(|byte| !byte.is_ascii_whitespace());
        matches!((significant.next(), significant.next()), (None, _) | (Some(b'['), None | Some(b']')))
    }

    fn is_usage_chunk(&self) -> bool {
        let captures = self.scan.captures();
        self.scan.status() == ScanStatus::Complete
            && captures.get(CHOICES).is_some()
            && self.choices_may_be_empty()
            && captures.get(USAGE).is_some_and(|usage| usage.bytes.first() == Some(&b'{'))
    }
}
