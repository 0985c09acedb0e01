//! The string values in a piece of JSON that may be cut anywhere, as they stand there, escapes and all. No recursion,
//! no allocation, and no judgement: on what is not JSON it gives something, and always the same.

/// What the key before a value says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Role,
    /// What comes and goes while the message stays the same: cache marks, ids the client learned later, and the names
    /// of types, which a message written as a plain string lacks.
    Ignored,
    Other,
}

impl Key {
    fn of(raw: &[u8]) -> Self {
        match raw {
            b"role" => Self::Role,
            b"type" | b"id" | b"status" | b"cache_control" => Self::Ignored,
            _ => Self::Other,
        }
    }
}

/// The texts of a value, in order; empty ones are left out.
#[derive(Clone, Debug)]
pub(super) struct Texts<'a> {
    rest: &'a [u8],
    /// The value is a list of messages, to be read up to and including the first of the user.
    is_messages: bool,
    depth: usize,
    key: Key,
    /// The depth at which an ignored list or object began.
    ignored_at: Option<usize>,
    /// The current message is from someone else than the user. One that does not say is the user's (Gemini).
    is_from_other: bool,
}

impl<'a> Texts<'a> {
    /// All texts of a value.
    pub(super) fn of(value: &'a [u8]) -> Self {
        Self { rest: value, is_messages: false, depth: 0, key: Key::Other, ignored_at: None, is_from_other: false }
    }

    /// The texts of a list of messages up to and including the first of the user; of any other value all texts.
    pub(super) fn up_to_first_user(value: &'a [u8]) -> Self {
        Self { is_messages: value.first() == Some(&b'['), ..Self::of(value) }
    }

    /// Takes a string, whose opening quote is behind us, and gives it if it is a text.
    fn step_string(&mut self) -> Option<&'a [u8]> {
        let end = string_end(self.rest);
        let raw = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        if self.rest.trim_ascii_start().first() == Some(&b':') {
            self.key = Key::of(raw);
            return None;
        }
        let key = std::mem::replace(&mut self.key, Key::Other);
        if self.ignored_at.is_some() {
            return None;
        }
        match key {
            Key::Role if self.depth == 2 => self.is_from_other = raw != b"user",
            Key::Other => {
                self.end_message();
                return (!raw.is_empty()).then_some(raw);
            }
            Key::Role | Key::Ignored => {}
        }
        None
    }

    fn step_open(&mut self) {
        if self.key == Key::Ignored && self.ignored_at.is_none() {
            self.ignored_at = Some(self.depth);
        }
        self.key = Key::Other;
        self.depth += 1;
    }

    fn step_close(&mut self) {
        self.key = Key::Other;
        self.depth = self.depth.saturating_sub(1);
        if self.ignored_at == Some(self.depth) {
            self.ignored_at = None;
        }
        self.end_message();
        if self.depth == 0 {
            self.rest = &[];
        }
    }

    /// Ends the reading behind the first message of the user, if a message ends here.
    fn end_message(&mut self) {
        if self.is_messages && self.depth == 1 && !std::mem::take(&mut self.is_from_other) {
            self.rest = &[];
        }
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let (byte, after) = self.rest.split_first()?;
            self.rest = after;
            match byte {
                b'"' => {
                    if let Some(text) = self.step_string() {
                        return Some(text);
                    }
                }
                b'{' | b'[' => self.step_open(),
                b'}' | b']' => self.step_close(),
                _ => {}
            }
        }
    }
}

/// The index of the quote that closes a string, or the end of the bytes.
fn string_end(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return at;
        }
        at += 2;
    }
    bytes.len()
}
