//! The inner loops over JSON text: finding the next byte that matters, and undoing string escapes. No state.

use std::borrow::Cow;

/// Strings up to this long are searched byte by byte: calling into `memchr` costs more.
const SHORT: usize = 16;

/// The index of the first quote.
#[inline]
pub(super) fn find_quote(bytes: &[u8]) -> Option<usize> {
    let short = bytes.len().min(SHORT);
    if let Some(found) = bytes[..short].iter().position(|byte| *byte == b'"') {
        return Some(found);
    }
    memchr::memchr(b'"', &bytes[short..]).map(|found| short + found)
}

/// An odd number of backslashes at the end: what follows is escaped.
#[inline]
pub(super) fn ends_in_escape(bytes: &[u8]) -> bool {
    bytes.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The index of the first quote, brace or bracket.
#[inline]
pub(super) fn find_structural(bytes: &[u8]) -> Option<usize> {
    let short = bytes.len().min(SHORT);
    if let Some(found) = bytes[..short].iter().position(is_structural) {
        return Some(found);
    }
    // A long run without structure is a list of numbers (an embedding): look at 32 bytes at once. The loop has no
    // early exit, so that the compiler makes vector code of it.
    let mut at = short;
    while let Some(block) = bytes.get(at..at + 32) {
        if block.iter().fold(false, |any, byte| any | is_structural(byte)) {
            break;
        }
        at += 32;
    }
    bytes[at..].iter().position(is_structural).map(|found| at + found)
}

/// `|0x20` makes `[` a `{` and `]` a `}`, and nothing else either of them.
#[inline]
fn is_structural(byte: &u8) -> bool {
    let folded = *byte | 0x20;
    (*byte == b'"') | (folded == b'{') | (folded == b'}')
}

/// The text of a raw JSON string value, quotes included. Nothing if it is not a string, or not valid.
#[must_use]
pub fn decode_string(raw: &[u8]) -> Option<String> {
    let inside = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    String::from_utf8(unescape(inside)?.into_owned()).ok()
}

/// The bytes that the inside of a JSON string stands for. Nothing if an escape is not valid.
pub(super) fn unescape(raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Some(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            decoded.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        match escape {
            b'"' | b'\\' | b'/' => decoded.push(escape),
            b'b' => decoded.push(8),
            b'f' => decoded.push(12),
            b'n' => decoded.push(b'\n'),
            b'r' => decoded.push(b'\r'),
            b't' => decoded.push(b'\t'),
            b'u' => {
                let (character, after) = unescape_unicode(rest)?;
                rest = after;
                decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    Some(Cow::Owned(decoded))
}

/// The character of `XXXX` or `XXXX\uXXXX` (a surrogate pair), and what follows it.
fn unescape_unicode(raw: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = hexadecimal(raw)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, rest));
    }
    let (second, rest) = hexadecimal(rest.strip_prefix(b"\\u")?)?;
    if !(0xD800..0xDC00).contains(&first) || !(0xDC00..0xE000).contains(&second) {
        return None;
    }
    let combined = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
    Some((char::from_u32(combined)?, rest))
}

fn hexadecimal(raw: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = raw.split_at_checked(4)?;
    let value = digits.iter().try_fold(0, |value, digit| Some((value << 4) | char::from(*digit).to_digit(16)?))?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        assert_eq!(decode_string(br#""mod\u0065l""#).as_deref(), Some("model"));
        assert_eq!(decode_string(br#""\ud83d\ude00 \"\\\/\b\f\n\r\t""#).as_deref(), Some("😀 \"\\/\u{8}\u{c}\n\r\t"));
        assert_eq!(decode_string("\"名\"".as_bytes()).as_deref(), Some("名"));
    }

    #[test]
    fn broken_strings_are_refused() {
        for raw in [&br#""\ud83d""#[..], br#""\ude00\ud83d""#, br#""\u00g0""#, br#""\x""#, b"\"", b"12", b"\"\xff\""] {
            assert_eq!(decode_string(raw), None, "{}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn structure_is_found_behind_long_runs() {
        for length in 0..100 {
            let mut text = vec![b'1'; length];
            assert_eq!(find_structural(&text), None);
            assert_eq!(find_quote(&text), None);
            text.push(b']');
            text.push(b'"');
            assert_eq!(find_structural(&text), Some(length));
            assert_eq!(find_quote(&text), Some(length + 1));
        }
    }
}
