//! Finds the names in JSON text that arrives in pieces, and replaces them. Where the text stands in what passes is for
//! the caller to say.

use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;

use crate::json_scan::JsonScan;

/// A longer value, quotes included, is no model's name and passes unchanged.
const LONGEST: usize = 4 * 1024;

/// The way of one chunk: what stands before `passed` has been given out, replaced or held.
pub(super) struct Passage<'a> {
    pub(super) chunk: &'a Bytes,
    passed: usize,
    out: &'a mut Vec<Bytes>,
}

impl<'a> Passage<'a> {
    pub(super) fn new(chunk: &'a Bytes, out: &'a mut Vec<Bytes>) -> Self {
        Self { chunk, passed: 0, out }
    }

    fn pass_to(&mut self, end: usize) {
        if self.passed < end {
            self.out.push(self.chunk.slice(self.passed..end));
            self.passed = end;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not in a value that is looked for.
    Outside,
    /// In a string that is to be replaced: it does not pass before its end is seen.
    Inside,
    /// In a string that passes unchanged.
    Passing,
}

/// The names in one text after another.
#[derive(Debug)]
pub(super) struct Names {
    scan: JsonScan,
    replacement: Bytes,
    state: State,
    /// The beginning of the current name, from earlier chunks.
    held: Vec<Bytes>,
    held_length: usize,
}

impl Names {
    pub(super) fn new(scan: JsonScan, asked: &str) -> Self {
        let replacement = Bytes::from(Value::from(asked).to_string());
        Self { scan, replacement, state: State::Outside, held: Vec::new(), held_length: 0 }
    }

    /// Reads JSON text that stands at `range` of the chunk. The scanner is stopped at every quote, because a name
    /// begins and ends at one, and a key may come more than once.
    pub(super) fn read(&mut self, range: Range<usize>, passage: &mut Passage<'_>) {
        let mut at = range.start;
        while at < range.end {
            let text = &passage.chunk[at..range.end];
            let length = memchr::memchr(b'"', text).map_or(text.len(), |quote| quote + 1);
            self.scan.feed(&text[..length]);
            at += length;
            match (self.state, self.is_in_string()) {
                (State::Outside, true) => {
                    passage.pass_to(at - 1);
                    self.state = State::Inside;
                }
                (State::Inside, false) => self.replace(at, passage),
                (State::Passing, false) => self.state = State::Outside,
                _ => {}
            }
        }
    }

    fn is_in_string(&self) -> bool {
        let captures = self.scan.captures();
        captures.get(0).is_none() && captures.so_far(0) == Some(b"\"")
    }

    /// The name ends before `end`, and began at `passed` or in what is held.
    fn replace(&mut self, end: usize, passage: &mut Passage<'_>) {
        self.state = State::Outside;
        if self.held_length + (end - passage.passed) > LONGEST {
            self.release(passage.out);
            return;
        }
        self.held.clear();
        self.held_length = 0;
        passage.out.push(self.replacement.clone());
        passage.passed = end;
    }

    /// The chunk ends here, maybe within a name.
    pub(super) fn end_chunk(&mut self, passage: &mut Passage<'_>) {
        let end = passage.chunk.len();
        if self.state == State::Inside && passage.passed < end {
            self.held_length += end - passage.passed;
            if self.held_length > LONGEST {
                self.give_up(passage);
            } else {
                self.held.push(passage.chunk.slice(passage.passed..));
                passage.passed = end;
            }
        }
        passage.pass_to(end);
    }

    /// A string does not go on behind the end of a line: what looks like it is not JSON, and stays as it is.
    pub(super) fn end_line(&mut self, passage: &mut Passage<'_>) {
        if self.state == State::Inside {
            self.give_up(passage);
        }
        self.scan.feed(b"\n");
    }

    /// The text is over, and another follows.
    pub(super) fn end_event(&mut self) {
        self.scan.reset();
        self.state = State::Outside;
    }

    fn give_up(&mut self, passage: &mut Passage<'_>) {
        self.state = State::Passing;
        self.release(passage.out);
    }

    /// Gives out what is held.
    pub(super) fn release(&mut self, out: &mut Vec<Bytes>) {
        out.append(&mut self.held);
        self.held_length = 0;
    }
}
