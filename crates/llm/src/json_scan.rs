//! An incremental JSON scanner that captures the raw bytes of a few values and skips the rest at the speed of `memchr`.
//!
//! It exists because a full parse of a 100 KB prompt costs more than everything else the gateway does with a call. It
//! looks only as deep as the paths it was given; what it skips it does not validate (`[}` inside an uninteresting value
//! goes unnoticed). For every valid document the captured values are those `serde_json` would give: last duplicate
//! wins, escaped keys are decoded. It does not know what the values mean.

mod capture;
mod machine;
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
    root_is_array: bool,
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
            root_is_array: false,
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
        self.root_is_array = false;
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

    /// The document begins with `[`.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.root_is_array
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
}
