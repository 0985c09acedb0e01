//! The weight of a text, byte by byte: what kind of character comes after which. It is a plain sum, so it does not
//! matter how a text is cut.
//!
//! Tokenizers first cut a text into words, groups of digits, runs of punctuation and of white space, and then know most
//! short words by heart: hence so much for the beginning of a word and a little for each of its letters. A space before
//! a word is part of its token and free.

use std::num::NonZeroU8;

/// What a byte is, as far as its weight goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// Nothing yet: the beginning of a text.
    #[default]
    Start,
    Lower,
    Upper,
    Digit,
    Punctuation,
    Newline,
    Space,
    /// Begins a character of two bytes: accents, Greek, Cyrillic, Hebrew, Arabic.
    TwoBytes,
    /// Begins a character of the Indian scripts or of Thai.
    Indic,
    /// Begins a character of Georgian up to the dashes, arrows and box lines: U+1000 to U+2FFF.
    Symbol,
    /// Begins a Chinese character or a Japanese sign, full-width punctuation included.
    Ideograph,
    /// Begins a Korean syllable.
    Hangul,
    /// Begins a character of four bytes: emoji mostly.
    FourBytes,
    /// Goes on with a character.
    Inside,
}

/// How many kinds there are, rounded up to a power of two so that no index needs a check.
const KINDS: usize = 16;

/// A token, in the unit of the weights.
const TOKEN: u64 = 1000;

/// The weights in thousandths of a token, by the kind before and the kind itself.
static WEIGHTS: [[u16; KINDS]; KINDS] = weights();

static KIND_OF_BYTE: [Kind; 256] = kinds();

/// The sum of a text's weight so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TextTally {
    thousandths: u64,
    previous: Kind,
    escape: Escape,
}

/// Where in an escape of a JSON string the bytes were cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// Behind the backslash.
    Begun,
    /// Inside `\uXXXX`: how many digits are missing, and the value so far.
    Unicode { missing: NonZeroU8, value: u16 },
}

impl TextTally {
    /// Takes the next bytes of a plain text.
    pub(crate) fn add(&mut self, text: &[u8]) {
        let mut sum = 0;
        let mut previous = self.previous;
        for byte in text {
            let kind = KIND_OF_BYTE[*byte as usize];
            sum += u64::from(weight(previous, kind));
            previous = kind;
        }
        self.previous = previous;
        self.thousandths = self.thousandths.saturating_add(sum);
    }

    /// Takes the next bytes from inside a JSON string, escapes and all.
    pub(crate) fn add_raw(&mut self, raw: &[u8]) {
        let mut rest = raw;
        while let Some((first, after)) = rest.split_first() {
            if self.escape != Escape::None {
                self.go_on_with_escape(*first);
                rest = after;
                continue;
            }
            let length = find_backslash(rest).unwrap_or(rest.len());
            let (plain, escaped) = rest.split_at(length);
            self.add(plain);
            if let Some((_, after)) = escaped.split_first() {
                self.escape = Escape::Begun;
                rest = after;
            } else {
                rest = escaped;
            }
        }
    }

    /// The text ends here; what comes next is another.
    pub(crate) fn end(&mut self) {
        self.previous = Kind::Start;
        self.escape = Escape::None;
    }

    /// Adds whole tokens that are not text.
    pub(crate) fn add_tokens(&mut self, tokens: u64) {
        self.thousandths = self.thousandths.saturating_add(tokens.saturating_mul(TOKEN));
    }

    /// The weight so far; 1000 are a token.
    pub(crate) fn thousandths(&self) -> u64 {
        self.thousandths
    }

    /// The tokens so far, rounded up.
    pub(crate) fn tokens(&self) -> u64 {
        tokens(self.thousandths)
    }

    fn go_on_with_escape(&mut self, byte: u8) {
        self.escape = match self.escape {
            Escape::Begun if byte == b'u' => {
                const DIGITS: NonZeroU8 = NonZeroU8::MIN.saturating_add(3);
                Escape::Unicode { missing: DIGITS, value: 0 }
            }
            Escape::Unicode { missing, value } => {
                let digit = char::from(byte).to_digit(16).and_then(|digit| u16::try_from(digit).ok()).unwrap_or(0);
                let value = value << 4 | digit;
                match NonZeroU8::new(missing.get() - 1) {
                    Some(missing) => Escape::Unicode { missing, value },
                    None => {
                        self.add_kind(kind_of_unit(value));
                        Escape::None
                    }
                }
            }
            Escape::Begun | Escape::None => {
                self.add_kind(match byte {
                    b'n' | b'r' => Kind::Newline,
                    b't' => Kind::Space,
                    _ => Kind::Punctuation,
                });
                Escape::None
            }
        };
    }

    fn add_kind(&mut self, kind: Kind) {
        self.thousandths = self.thousandths.saturating_add(u64::from(weight(self.previous, kind)));
        self.previous = kind;
    }
}

/// Whole tokens, rounded up: where anything came, there is at least one.
pub(crate) fn tokens(thousandths: u64) -> u64 {
    thousandths.div_ceil(TOKEN)
}

#[inline]
fn weight(previous: Kind, kind: Kind) -> u16 {
    WEIGHTS[previous as usize % KINDS][kind as usize % KINDS]
}

/// Most texts in a stream are a few bytes long: calling into `memchr` costs more.
fn find_backslash(bytes: &[u8]) -> Option<usize> {
    if bytes.len() <= 16 { bytes.iter().position(|byte| *byte == b'\\') } else { memchr::memchr(b'\\', bytes) }
}

/// The kind of a UTF-16 unit, the same as that of its first byte in UTF-8.
fn kind_of_unit(unit: u16) -> Kind {
    match unit {
        0..0x80 => KIND_OF_BYTE[usize::from(unit)],
        0x80..0x800 => Kind::TwoBytes,
        0x800..0x1000 => Kind::Indic,
        0x1000..0x3000 => Kind::Symbol,
        0xD800..0xDC00 => Kind::FourBytes,
        0xDC00..0xE000 => Kind::Inside,
        0xA000..0xD800 => Kind::Hangul,
        _ => Kind::Ideograph,
    }
}

const fn kinds() -> [Kind; 256] {
    let mut kinds = [Kind::Punctuation; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'a'..=b'z' => Kind::Lower,
            b'A'..=b'Z' => Kind::Upper,
            b'0'..=b'9' => Kind::Digit,
            b'\n' | b'\r' => Kind::Newline,
            b' ' | b'\t' => Kind::Space,
            0..0x80 => Kind::Punctuation,
            0x80..0xC0 => Kind::Inside,
            0xC0..0xE0 => Kind::TwoBytes,
            0xE0 => Kind::Indic,
            0xE1 | 0xE2 => Kind::Symbol,
            0xEA..=0xED => Kind::Hangul,
            0xE3..=0xEF => Kind::Ideograph,
            0xF0..=0xFF => Kind::FourBytes,
        };
        byte += 1;
    }
    kinds
}

const fn weights() -> [[u16; KINDS]; KINDS] {
    const LETTER: u16 = 50;
    const WORD: u16 = 870;
    let mut weights = [[0; KINDS]; KINDS];
    let mut previous = 0;
    while previous < KINDS {
        let after_lower = previous == Kind::Lower as usize;
        let after_upper = previous == Kind::Upper as usize;
        let after_digit = previous == Kind::Digit as usize;
        let after_punctuation = previous == Kind::Punctuation as usize;
        let after_space = previous == Kind::Space as usize || previous == Kind::Newline as usize;
        let row = &mut weights[previous];
        // A name in camelCase is several words.
        row[Kind::Lower as usize] = if after_lower || after_upper { LETTER } else { WORD + LETTER };
        row[Kind::Upper as usize] = if after_upper { LETTER } else { WORD + LETTER };
        row[Kind::Digit as usize] = if after_digit { 400 } else { 900 };
        row[Kind::Punctuation as usize] = if after_punctuation { 230 } else { 680 };
        row[Kind::Newline as usize] = 550;
        row[Kind::Space as usize] = if after_space { 50 } else { 0 };
        row[Kind::TwoBytes as usize] = 270;
        row[Kind::Indic as usize] = 370;
        row[Kind::Symbol as usize] = 600;
        row[Kind::Ideograph as usize] = 720;
        row[Kind::Hangul as usize] = 770;
        row[Kind::FourBytes as usize] = 1700;
        previous += 1;
    }
    weights
}
