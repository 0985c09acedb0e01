//! Walks over JSON text, cut anywhere, and hands out the strings that somebody wishes for. It looks at quotes, brackets
//! and colons only and never refuses: of broken JSON it makes something, always the same, and of half a document the
//! half. It keeps no more than one short key.

/// A longer key is nobody's wish.
const LONGEST_KEY: usize = 32;

/// What is to be done with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Look for keys inside it; as a string it does not matter.
    Look,
    /// As a string it is text; otherwise as [`Self::Look`].
    Text,
    /// All strings and numbers inside it are text, keys as well.
    Whole,
    /// Nothing inside it matters.
    Skip,
}

/// Who says what is wished for, and takes it.
pub(crate) trait Listener {
    /// A member of an object, `level` objects or arrays deep: 1 in the top-level object, or in each object of a
    /// top-level array.
    fn wish(&mut self, key: &[u8], level: u32) -> Wish;

    /// The value is an object or array.
    fn enter(&mut self) {}

    /// The next bytes of a text, raw, without its quotes.
    fn text(&mut self, raw: &[u8]);

    /// The text is over.
    fn end_text(&mut self);

    /// A number stood where everything is text.
    fn number(&mut self) {}
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    /// In a string: whether it is text, and whether it may turn out to be a key.
    InString {
        is_text: bool,
        may_be_key: bool,
    },
    InNumber,
    /// The value is over.
    Done,
}

/// A part of the document that is treated as a whole.
#[derive(Clone, Copy, Debug)]
struct Region {
    is_text: bool,
    /// It ends when the walk comes out of here.
    depth: u32,
}

/// The walk over one value.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    state: State,
    /// Outside of every region all strings are text.
    all_text: bool,
    region: Option<Region>,
    depth: u32,
    /// 1 if the document is an array.
    outermost: u32,
    /// What is wished of the value behind the colon.
    wish: Option<Wish>,
    /// The string that will be a key if a colon follows.
    key: [u8; LONGEST_KEY],
    key_length: usize,
    has_key: bool,
    escaped: bool,
}

impl Walk {
    /// At the beginning of a document; `wish` is for all of it.
    pub(crate) fn new(wish: Wish) -> Self {
        Self {
            state: State::Between,
            all_text: wish == Wish::Whole,
            region: None,
            depth: 0,
            outermost: 0,
            wish: Some(wish),
            key: [0; LONGEST_KEY],
            key_length: 0,
            has_key: false,
            escaped: false,
        }
    }

    /// At the beginning of another value.
    pub(crate) fn restart(&mut self, wish: Wish) {
        self.state = State::Between;
        self.all_text = wish == Wish::Whole;
        self.region = None;
        self.depth = 0;
        self.outermost = 0;
        self.wish = Some(wish);
        self.has_key = false;
        self.escaped = false;
    }

    /// Takes the next bytes. What follows the value is ignored.
    pub(crate) fn feed(&mut self, chunk: &[u8], listener: &mut impl Listener) {
        let mut at = 0;
        while at < chunk.len() {
            at = match self.state {
                State::Between => self.step(chunk, at, listener),
                State::InString { is_text, may_be_key } => {
                    self.go_on_in_string(chunk, at, is_text, may_be_key, listener)
                }
                State::InNumber => {
                    let is_over = |byte: &u8| !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                    let length = chunk[at..].iter().position(is_over);
                    if length.is_some() {
                        self.state = State::Between;
                    }
                    length.map_or(chunk.len(), |length| at + length)
                }
                State::Done => return,
            };
        }
    }

    #[inline]
    fn step(&mut self, chunk: &[u8], at: usize, listener: &mut impl Listener) -> usize {
        match chunk[at] {
            b'"' => return self.begin_string(chunk, at + 1, listener),
            b'{' | b'[' => {
                self.open(chunk[at]);
                listener.enter();
            }
            b'}' | b']' => self.close(),
            b':' if self.has_key => {
                self.has_key = false;
                let key = self.key;
                self.follow(key.get(..self.key_length).unwrap_or_default(), listener);
            }
            b',' => {
                self.wish = None;
                self.has_key = false;
                self.end_if_outside();
            }
            b'0'..=b'9' | b'-' if self.counts_everything() && self.wish != Some(Wish::Skip) => {
                listener.number();
                self.state = State::InNumber;
            }
            _ => {}
        }
        at + 1
    }

    fn counts_everything(&self) -> bool {
        self.region.map_or(self.all_text, |region| region.is_text)
    }

    fn open(&mut self, bracket: u8) {
        if self.depth == 0 && bracket == b'[' {
            self.outermost = 1;
        }
        self.depth = self.depth.saturating_add(1);
        self.has_key = false;
        let wish = self.wish.take();
        if self.region.is_none() && self.depth > 1 && matches!(wish, Some(Wish::Skip | Wish::Whole)) {
            self.region = Some(Region { is_text: wish == Some(Wish::Whole), depth: self.depth });
        }
    }

    fn close(&mut self) {
        self.wish = None;
        self.has_key = false;
        if self.region.is_some_and(|region| region.depth >= self.depth) {
            self.region = None;
        }
        self.depth = self.depth.saturating_sub(1);
        self.end_if_outside();
    }

    fn end_if_outside(&mut self) {
        if self.depth == 0 {
            self.state = State::Done;
        }
    }

    /// The member's key is known.
    fn follow(&mut self, key: &[u8], listener: &mut impl Listener) {
        if self.region.is_none() {
            self.wish = Some(listener.wish(key, self.depth.saturating_sub(self.outermost)));
        }
    }

    fn begin_string(&mut self, chunk: &[u8], from: usize, listener: &mut impl Listener) -> usize {
        let wish = self.wish.take();
        let is_text = match wish {
            Some(Wish::Skip) => false,
            Some(Wish::Text | Wish::Whole) => true,
            Some(Wish::Look) | None => self.counts_everything(),
        };
        // A value is no key, and in a region no key matters.
        let may_be_key = wish.is_none() && self.region.is_none();
        self.key_length = 0;
        self.has_key = false;
        if may_be_key
            && let Some(length) = find_quote(&chunk[from..])
            && chunk.get(from + length + 1) == Some(&b':')
            && (length == 0 || chunk[from + length - 1] != b'\\')
        {
            // The usual key lies in one chunk, and a colon follows at once.
            let key = &chunk[from..from + length];
            if is_text {
                listener.text(key);
                listener.end_text();
            }
            self.follow(key.get(..LONGEST_KEY).unwrap_or(key), listener);
            return from + length + 2;
        }
        self.state = State::InString { is_text, may_be_key };
        from
    }

    fn go_on_in_string(
        &mut self,
        chunk: &[u8],
        at: usize,
        is_text: bool,
        may_be_key: bool,
        listener: &mut impl Listener,
    ) -> usize {
        let end = self.string_end(chunk, at);
        let raw = &chunk[at..end.unwrap_or(chunk.len())];
        if is_text && !raw.is_empty() {
            listener.text(raw);
        }
        if may_be_key {
            // What does not fit is cut: no key that is looked for is as long.
            let kept = raw.len().min(LONGEST_KEY - self.key_length);
            self.key[self.key_length..self.key_length + kept].copy_from_slice(&raw[..kept]);
            self.key_length += kept;
        }
        let Some(end) = end else { return chunk.len() };
        if is_text {
            listener.end_text();
        }
        self.has_key = may_be_key;
        self.state = State::Between;
        self.end_if_outside();
        end + 1
    }

    /// The index of the quote that closes the string we are in, remembering an escape cut by the chunk's end.
    fn string_end(&mut self, chunk: &[u8], at: usize) -> Option<usize> {
        let mut from = at + usize::from(std::mem::take(&mut self.escaped));
        loop {
            let rest = chunk.get(from..)?;
            let found = find_quote(rest);
            let before = &rest[..found.unwrap_or(rest.len())];
            let is_escaped = before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
            let Some(length) = found else {
                self.escaped = is_escaped;
                return None;
            };
            if !is_escaped {
                return Some(from + length);
            }
            from += length + 1;
        }
    }
}

/// Most strings are short: calling into `memchr` costs more there.
#[inline]
fn find_quote(bytes: &[u8]) -> Option<usize> {
    const SHORT: usize = 16;
    let short = bytes.len().min(SHORT);
    if let Some(found) = bytes[..short].iter().position(|byte| *byte == b'"') {
        return Some(found);
    }
    memchr::memchr(b'"', &bytes[short..]).map(|found| short + found)
}
