//! Which conversation a call belongs to, as a number that stays the same from its first turn to its last. What the
//! client names is believed; otherwise the prompt tells: later turns only append to it, so its beginning up to the
//! first message of the user does not change. Only the texts count, because clients write the same message in several
//! ways: as a string or as a list of parts, with a cache mark while it is the last one and without it afterwards.
//!
//! The trade-off: only the first few KiB are looked at, so conversations whose list of messages opens with the same
//! longer system message are one to us. They share their upstream's prompt cache, too.

mod texts;

use crate::json_scan::{Captures, decode_string};

use super::{ALL_PATHS, CONTENTS, CONVERSATION_NAMES, PROMPT_CAPTURE_LIMIT, PROMPTS, SYSTEM_PARTS};
use texts::Texts;

/// How many bytes of text count in one value: less than is kept of it, so that brackets and keys around a long text do
/// not shift where it is cut.
const TEXT_LIMIT: usize = PROMPT_CAPTURE_LIMIT - 1024;

/// A hash of `parts` and of where one ends and the next begins. It is the same in every process, on every machine and
/// in every version. It is not made to withstand someone who looks for collisions.
#[must_use]
pub fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hash = StableHash::default();
    for part in parts {
        hash.write(part);
    }
    hash.finish()
}

/// The number of the conversation, from the captures of a thorough peek. Nothing if the body names none and has no
/// text.
pub(super) fn identify(captures: &Captures) -> Option<u64> {
    for index in CONVERSATION_NAMES {
        if let Some(name) = captures.raw(index).and_then(decode_string).filter(|name| !name.is_empty()) {
            // Not the index, which changes when paths are added.
            let field = ALL_PATHS[index].last().copied().unwrap_or_default();
            return Some(stable_hash(&[b"name", field.as_bytes(), name.as_bytes()]));
        }
    }
    let mut hash = StableHash::default();
    hash.write(b"system");
    for part in SYSTEM_PARTS.filter_map(|index| captures.so_far(index)) {
        hash.write_texts(Texts::of(part));
    }
    hash.write(b"prompt");
    let mut prompts = PROMPTS.filter_map(|index| Some((index, captures.so_far(index)?)));
    let has_text = prompts.any(|(index, prompt)| match prompt.first() {
        Some(b'"' | b'[') => hash.write_texts(Texts::up_to_first_user(prompt)),
        // Gemini takes a single content for a list of one. Any other object is DashScope's `input`, whose members are
        // looked at instead, or a prompt template of Responses.
        Some(b'{') if index == CONTENTS => hash.write_texts(Texts::of(prompt)),
        _ => false,
    });
    has_text.then(|| hash.finish())
}

/// Eight bytes at a time: xor, multiply to 128 bits, fold.
#[derive(Clone, Debug)]
struct StableHash(u64);

impl Default for StableHash {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl StableHash {
    fn write(&mut self, part: &[u8]) {
        for chunk in part.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(part.len() as u64);
    }

    /// Hashes texts up to the limit; whether there were any.
    fn write_texts<'a>(&mut self, texts: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut room = TEXT_LIMIT;
        for text in texts {
            let text = &text[..text.len().min(room)];
            self.write(text);
            room -= text.len();
            if room == 0 {
                break;
            }
        }
        room < TEXT_LIMIT
    }

    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    /// The final mix of SplitMix64: every bit of the state reaches every bit of the result.
    fn finish(&self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        hash ^ (hash >> 31)
    }
}

#[cfg(test)]
mod tests;
