//! Whether a text message is UTF-8 (RFC 6455 §8.1), told while it comes. It keeps three bytes and no text.

/// Checks text that is cut anywhere, also inside a character.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Check {
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Between two characters.
    #[default]
    Between,
    /// Inside one that needs so many more bytes, the next of which must lie in this range.
    Inside { missing: u8, lowest: u8, highest: u8 },
    /// Behind a byte that cannot stand where it stood.
    Broken,
}

impl Utf8Check {
    /// Takes the next bytes; false from the first byte on that cannot continue a valid text, until a reset.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while let (State::Inside { .. }, Some((byte, after))) = (self.state, rest.split_first()) {
            self.state = self.state.after(*byte);
            rest = after;
        }
        if !matches!(self.state, State::Between) {
            return !matches!(self.state, State::Broken);
        }
        let Err(error) = std::str::from_utf8(rest) else { return true };
        if error.error_len().is_some() {
            self.state = State::Broken;
            return false;
        }
        // The text ends inside a character that is right as far as it goes.
        for byte in rest.get(error.valid_up_to()..).unwrap_or_default() {
            self.state = self.state.after(*byte);
        }
        true
    }

    /// The text was right and may end here: it does not stop inside a character.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self.state, State::Between)
    }

    /// A new text begins.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

impl State {
    /// The well-formed sequences of RFC 3629 §4: overlong forms, surrogates and what lies above U+10FFFF show in the
    /// second byte.
    const fn after(self, byte: u8) -> Self {
        let (missing, lowest, highest) = match self {
            Self::Between => match byte {
                0x00..=0x7F => return Self::Between,
                0xC2..=0xDF => (1, 0x80, 0xBF),
                0xE0 => (2, 0xA0, 0xBF),
                0xED => (2, 0x80, 0x9F),
                0xE1..=0xEF => (2, 0x80, 0xBF),
                0xF0 => (3, 0x90, 0xBF),
                0xF1..=0xF3 => (3, 0x80, 0xBF),
                0xF4 => (3, 0x80, 0x8F),
                _ => return Self::Broken,
            },
            Self::Inside { lowest, highest, .. } if byte < lowest || byte > highest => return Self::Broken,
            Self::Inside { missing: 1, .. } => return Self::Between,
            Self::Inside { missing, .. } => (missing - 1, 0x80, 0xBF),
            Self::Broken => return Self::Broken,
        };
        Self::Inside { missing, lowest, highest }
    }
}
