//! Server-sent events as the WHATWG standard has them, read in passing: CR, LF or CRLF, a byte order mark, comments,
//! data over several lines, chunks cut anywhere. Every event tells which bytes of the stream it came from, so that a
//! caller can pass those bytes on untouched and leave out a single event. It does not know what the data means.

mod event;
mod splitter;

use std::ops::Range;

pub use event::{SseEvent, encode};
pub use splitter::EventSplitter;

/// How large one event may be unless told otherwise.
pub const DEFAULT_EVENT_LIMIT: usize = 1024 * 1024;

/// A buffer that grew beyond this for one large event is given back after it: an idle stream stays small.
const KEPT_CAPACITY: usize = 16 * 1024;

/// Cuts a stream into events. An event inside one chunk is handed over where it stands; only one cut by the end of a
/// chunk is copied, up to the limit.
#[derive(Clone, Debug)]
pub struct SseDecoder {
    splitter: EventSplitter,
    limit: usize,
    /// The bytes of the current event from earlier chunks, unless it is oversize.
    carry: Vec<u8>,
    /// Where in the stream the current event begins, and how much of it earlier chunks held.
    start: u64,
    length: usize,
}

impl Default for SseDecoder {
    fn default() -> Self {
        Self::new(DEFAULT_EVENT_LIMIT)
    }
}

impl SseDecoder {
    /// A decoder that keeps at most `limit` bytes; a larger event is reported as oversize, without its bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { splitter: EventSplitter::new(), limit, carry: Vec::new(), start: 0, length: 0 }
    }

    /// Takes the next bytes and hands over each event that ends in them. Together the ranges of the events cover the
    /// stream without gaps: comments and blank lines come as events that have no data.
    pub fn feed(&mut self, chunk: &[u8], mut on_event: impl FnMut(&SseEvent<'_>)) {
        let mut rest = chunk;
        while let Some(length) = self.splitter.next_end(rest) {
            let (last, after) = rest.split_at(length);
            rest = after;
            self.complete(last, true, &mut on_event);
        }
        self.hold(rest);
    }

    /// The stream has ended. An event that lacks its blank line is handed over as not terminated: a browser would drop
    /// it, but its usage was spent all the same.
    pub fn finish(&mut self, mut on_event: impl FnMut(&SseEvent<'_>)) {
        if self.length > 0 {
            let terminated = self.splitter.is_after_blank_line();
            self.complete(&[], terminated, &mut on_event);
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        if self.length > self.limit {
            self.carry = Vec::new();
        } else {
            self.carry.extend_from_slice(bytes);
        }
    }

    fn complete(&mut self, last: &[u8], terminated: bool, on_event: &mut impl FnMut(&SseEvent<'_>)) {
        let length = self.length + last.len();
        let range: Range<u64> = self.start..self.start.saturating_add(length as u64);
        let oversize = length > self.limit;
        self.start = range.end;
        let whole = self.length == 0;
        self.length = 0;
        if oversize {
            on_event(&SseEvent { raw: &[], range, oversize, terminated });
        } else if whole {
            on_event(&SseEvent { raw: last, range, oversize, terminated });
        } else {
            self.carry.extend_from_slice(last);
            on_event(&SseEvent { raw: &self.carry, range, oversize, terminated });
        }
        self.carry.clear();
        self.carry.shrink_to(KEPT_CAPACITY);
    }
}
