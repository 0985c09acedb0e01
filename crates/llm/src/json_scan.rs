//! An incremental JSON scanner that captures the raw bytes of a few values and skips the rest at the speed of `memchr`.
//!
//! It exists because a full parse of a 100 KB prompt costs more than everything else the gateway does with a call. It
//! looks only as deep as the paths it was given; what it skips it does not validate (`[}` inside an uninteresting value
//! goes unnoticed). For every valid document the captured values are those `serde_json` would give: last duplicate
//! wins, escaped keys are decoded. It does not know what the values mean.

mod capture;
mod text;

pub use capture::{Capture, Captures};
pub use text::decode_string;

/// The keys that lead from the top-level object to a value of interest. At most [`MAX_DEPTH`] long; an empty path
/// matches nothing and serves as a placeholder that keeps the numbering of a list.
pub type Path = &'static [&'static str];

/// The longest path that is followed.
pub const MAX_DEPTH: usize = 4;

/// How many paths one scan can follow; further ones are never found.
pub const MAX_PATHS: usize = 32;

/// How many bytes of one value are kept unless told otherwise.
pub const DEFAULT_CAPTURE_LIMIT: usize = 64 * 1024;

/// What the bytes seen so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanStatus {
    /// So far it could be the beginning of a JSON object or array.
    Incomplete,
    /// One top-level object or array has been closed, and nothing but white space followed.
    Complete,
    /// Not a JSON object or array, or followed by something else.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    KeyOrEnd,
    Key,
    InKey,
    Colon,
    Value,
    InString,
    InScalar,
    Skip,
    AfterValue,
    ElementOrEnd,
    Element,
    AfterElement,
    Done,
    Broken,
}

/// The scanner. Feed it chunks split anywhere, then read the captures.
#[derive(Clone, Debug)]
pub struct JsonScan {
    paths: &'static [Path],
    per_element: bool,
    /// Per level, the paths that end there.
    ends_at: [u32; MAX_DEPTH + 1],
    all: u32,
    longest_key: usize,

    state: State,
    /// Absolute offset of the chunk being fed.
    offset: usize,
    root: Option<usize>,
    byte_order_mark: u8,
    in_array: bool,
    element_done: bool,
    /// Open objects that a path leads into; deeper ones are skipped as a whole.
    depth: usize,
    masks: [u32; MAX_DEPTH + 1],
    open: [u32; MAX_DEPTH + 1],
    matched: u32,
    skip_depth: usize,
    skip_in_string: bool,
    escaped: bool,
    key: Vec<u8>,
    captures: Captures,
}

impl JsonScan {
    /// A scan for the values at `paths` of a top-level object. A top-level array is skipped as a whole.
    #[must_use]
    pub fn new(paths: &'static [Path]) -> Self {
        let paths = paths.get(..MAX_PATHS).unwrap_or(paths);
        let mut ends_at = [0; MAX_DEPTH + 1];
        let mut all = 0;
        for (index, path) in paths.iter().enumerate() {
            if (1..=MAX_DEPTH).contains(&path.len()) {
                ends_at[path.len()] |= 1 << index;
                all |= 1 << index;
            }
        }
        let longest_key = paths.iter().flat_map(|path| path.iter()).map(|key| key.len()).max().unwrap_or(0);
        Self {
            paths,
            per_element: false,
            ends_at,
            all,
            longest_key,
            state: State::Start,
            offset: 0,
            root: None,
            byte_order_mark: 0,
            in_array: false,
            element_done: false,
            depth: 0,
            masks: [0; MAX_DEPTH + 1],
            open: [0; MAX_DEPTH + 1],
            matched: 0,
            skip_depth: 0,
            skip_in_string: false,
            escaped: false,
            key: Vec::new(),
            captures: Captures::new(paths.len(), DEFAULT_CAPTURE_LIMIT),
        }
    }

    /// Applies the paths to each element of a top-level array (a Gemini stream without `alt=sse`). A top-level object
    /// is then treated as the only element.
    #[must_use]
    pub fn per_element(mut self) -> Self {
        self.per_element = true;
        self
    }

    /// Keeps at most `limit` bytes of each value.
    #[must_use]
    pub fn with_capture_limit(mut self, limit: usize) -> Self {
        self.captures = Captures::new(self.paths.len(), limit);
        self
    }

    /// Forgets everything fed, keeps the memory.
    pub fn reset(&mut self) {
        self.state = State::Start;
        self.offset = 0;
        self.root = None;
        self.byte_order_mark = 0;
        self.in_array = false;
        self.element_done = false;
        self.depth = 0;
        self.open = [0; MAX_DEPTH + 1];
        self.escaped = false;
        self.skip_in_string = false;
        self.captures.clear(u32::MAX);
    }

    /// What the bytes so far amount to.
    #[must_use]
    pub fn status(&self) -> ScanStatus {
        match self.state {
            State::Done => ScanStatus::Complete,
            State::Broken => ScanStatus::Broken,
            _ => ScanStatus::Incomplete,
        }
    }

    /// The absolute offset of the `{` or `[` that opens the document.
    #[must_use]
    pub fn root_offset(&self) -> Option<usize> {
        self.root
    }

    /// What was captured so far; in a per-element scan, of the current or last element.
    #[must_use]
    pub fn captures(&self) -> &Captures {
        &self.captures
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.feed_elements(chunk, |_| {});
    }

    /// Takes the next bytes and calls back after each completed element of a top-level array, or after the top-level
    /// object. The captures are cleared when the next element begins.
    pub fn feed_elements(&mut self, chunk: &[u8], mut on_element: impl FnMut(&Captures)) {
        if self.state == State::Broken {
            return;
        }
        self.captures.begin_chunk();
        let mut at = 0;
        while at < chunk.len() {
            at = self.step(chunk, at);
            if self.element_done {
                self.element_done = false;
                on_element(&self.captures);
            }
        }
        let open = self.open.iter().fold(0, |union, mask| union | mask);
        self.captures.end_chunk(open, chunk);
        self.offset += chunk.len();
    }

    /// One step from `at`, which is inside the chunk; returns where to go on.
    #[inline]
    fn step(&mut self, chunk: &[u8], at: usize) -> usize {
        match self.state {
            State::InKey => return self.step_key(chunk, at),
            State::InString => return self.step_string(chunk, at),
            State::InScalar => return self.step_scalar(chunk, at),
            State::Skip => return self.step_skip(chunk, at),
            State::Broken => return chunk.len(),
            _ => {}
        }
        let byte = chunk[at];
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return at + 1;
        }
        match (self.state, byte) {
            (State::Start, _) => return self.step_start(chunk, at),
            (State::KeyOrEnd | State::Key, b'"') => return self.begin_key(chunk, at + 1),
            (State::KeyOrEnd | State::AfterValue, b'}') => self.close_object(chunk, at + 1),
            (State::Colon, b':') => self.state = State::Value,
            (State::Value, _) => self.begin_value(at, byte),
            (State::AfterValue, b',') => self.state = State::Key,
            (State::ElementOrEnd | State::AfterElement, b']') => self.state = State::Done,
            (State::ElementOrEnd | State::Element, _) => {
                self.captures.clear(u32::MAX);
                self.matched = 0;
                match byte {
                    b'{' => self.open_object(self.all),
                    _ => self.begin_value(at, byte),
                }
            }
            (State::AfterElement, b',') => self.state = State::Element,
            _ => self.state = State::Broken,
        }
        at + 1
    }

    fn step_start(&mut self, chunk: &[u8], at: usize) -> usize {
        const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];
        let byte = chunk[at];
        let inside_mark = self.byte_order_mark as usize;
        let position = self.offset + at;
        if position < MARK.len() && position == inside_mark && byte == MARK[position] {
            self.byte_order_mark += 1;
            return at + 1;
        }
        if matches!(byte, b'{' | b'[') {
            self.root = Some(position);
        }
        match byte {
            _ if matches!(inside_mark, 1 | 2) => self.state = State::Broken,
            b'{' => self.open_object(self.all),
            b'[' if self.per_element => {
                self.in_array = true;
                self.state = State::ElementOrEnd;
            }
            b'[' => self.begin_skip(),
            _ => self.state = State::Broken,
        }
        at + 1
    }

    fn open_object(&mut self, mask: u32) {
        self.depth += 1;
        self.masks[self.depth] = mask;
        self.state = State::KeyOrEnd;
    }

    fn close_object(&mut self, chunk: &[u8], end: usize) {
        self.depth -= 1;
        self.end_value(chunk, end);
    }

    /// The usual key lies in one chunk and has no escapes: it is compared where it stands.
    fn begin_key(&mut self, chunk: &[u8], from: usize) -> usize {
        let rest = &chunk[from..];
        if let Some(length) = text::find_quote_or_backslash(rest)
            && rest[length] == b'"'
        {
            self.matched = self.matching(&rest[..length]);
            self.state = State::Colon;
            return from + length + 1;
        }
        self.key.clear();
        self.state = State::InKey;
        from
    }

    fn step_key(&mut self, chunk: &[u8], at: usize) -> usize {
        let end = self.string_end(chunk, at);
        let raw = &chunk[at..end.map_or(chunk.len(), |end| end - 1)];
        // A character takes at most six bytes escaped: what is longer than that cannot match, and is not kept.
        let limit = self.longest_key * 6 + 1;
        let room = limit.saturating_sub(self.key.len());
        self.key.extend_from_slice(&raw[..raw.len().min(room)]);
        let Some(end) = end else { return chunk.len() };
        let decoded = if self.key.len() < limit { text::unescape(&self.key) } else { None };
        self.matched = decoded.map_or(0, |key| self.matching(&key));
        self.state = State::Colon;
        end
    }

    /// The paths that go on with `key` from the current object.
    fn matching(&self, key: &[u8]) -> u32 {
        let level = self.depth - 1;
        let mut candidates = self.masks[self.depth];
        let mut matched = 0;
        while candidates != 0 {
            let index = candidates.trailing_zeros() as usize;
            if self.paths[index].get(level).is_some_and(|name| name.as_bytes() == key) {
                matched |= 1 << index;
            }
            candidates &= candidates - 1;
        }
        matched
    }

    fn begin_value(&mut self, at: usize, first: u8) {
        let mut deeper = 0;
        if self.matched != 0 {
            let complete = self.matched & self.ends_at[self.depth];
            deeper = self.matched & !complete;
            // A repeated key replaces the earlier value and all that was found beneath it.
            self.captures.clear(self.matched);
            self.captures.start(complete, at, self.offset + at);
            self.open[self.depth] = complete;
        }
        match first {
            b'"' => self.state = State::InString,
            b'{' if deeper != 0 => self.open_object(deeper),
            b'{' | b'[' => self.begin_skip(),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => self.state = State::InScalar,
            _ => self.state = State::Broken,
        }
    }

    fn end_value(&mut self, chunk: &[u8], end: usize) {
        let open = std::mem::take(&mut self.open[self.depth]);
        if open != 0 {
            self.captures.finish(open, chunk, end, self.offset + end);
        }
        if self.depth > 0 {
            self.state = State::AfterValue;
            return;
        }
        self.element_done = true;
        self.state = if self.in_array { State::AfterElement } else { State::Done };
    }

    fn begin_skip(&mut self) {
        self.skip_depth = 1;
        self.skip_in_string = false;
        self.state = State::Skip;
    }

    fn step_skip(&mut self, chunk: &[u8], mut at: usize) -> usize {
        while at < chunk.len() {
            if self.skip_in_string {
                let Some(end) = self.string_end(chunk, at) else { return chunk.len() };
                self.skip_in_string = false;
                at = end;
                continue;
            }
            let Some(found) = text::find_structural(&chunk[at..]) else { return chunk.len() };
            at += found + 1;
            match chunk[at - 1] {
                b'"' => self.skip_in_string = true,
                b'{' | b'[' => self.skip_depth += 1,
                _ => {
                    self.skip_depth -= 1;
                    if self.skip_depth == 0 {
                        self.end_value(chunk, at);
                        return at;
                    }
                }
            }
        }
        at
    }

    fn step_string(&mut self, chunk: &[u8], at: usize) -> usize {
        let Some(end) = self.string_end(chunk, at) else { return chunk.len() };
        self.end_value(chunk, end);
        end
    }

    fn step_scalar(&mut self, chunk: &[u8], at: usize) -> usize {
        let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        let Some(length) = chunk[at..].iter().position(is_end) else { return chunk.len() };
        self.end_value(chunk, at + length);
        at + length
    }

    /// The index behind the quote that closes the string we are in, remembering an escape cut by the chunk's end.
    #[inline]
    fn string_end(&mut self, chunk: &[u8], mut at: usize) -> Option<usize> {
        if self.escaped {
            self.escaped = false;
            at += 1;
        }
        while at < chunk.len() {
            at += text::find_quote_or_backslash(&chunk[at..])?;
            if chunk[at] == b'"' {
                return Some(at + 1);
            }
            at += 2;
        }
        self.escaped = at > chunk.len();
        None
    }
}
