//! One event of a stream: its raw bytes, its fields read on demand, and how to write one. Most events of a chat are
//! never parsed beyond a search in their raw bytes, so nothing is read before it is asked for.

use std::borrow::Cow;
use std::ops::Range;

/// One event as it stood in the stream, up to and including its blank line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// Its bytes; empty if it is oversize.
    pub raw: &'a [u8],
    /// Which bytes of the stream it is.
    pub range: Range<u64>,
    /// It was larger than the limit; its data is gone.
    pub oversize: bool,
    /// It ended with a blank line, not with the stream.
    pub terminated: bool,
}

impl<'a> SseEvent<'a> {
    /// The data, lines joined by LF. Nothing if the event has no `data` field: a comment, or a blank line.
    #[must_use]
    pub fn data(&self) -> Option<Cow<'a, [u8]>> {
        let mut lines = self.fields().filter(|(name, _)| *name == b"data").map(|(_, value)| value);
        let first = lines.next()?;
        let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
        let mut joined = [first, second].join(&b'\n');
        for line in lines {
            joined.push(b'\n');
            joined.extend_from_slice(line);
        }
        Some(Cow::Owned(joined))
    }

    /// The event's type; empty means `message`.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.last(b"event").unwrap_or_default()
    }

    /// The `id` field, unless it contains a NUL.
    #[must_use]
    pub fn id(&self) -> Option<&'a [u8]> {
        self.fields().filter(|(name, value)| *name == b"id" && !value.contains(&0)).map(|(_, value)| value).last()
    }

    /// The `retry` field in milliseconds, if it is digits only.
    #[must_use]
    pub fn retry(&self) -> Option<u64> {
        let is_number = |value: &&[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let value =
            self.fields().filter(|(name, _)| *name == b"retry").map(|(_, value)| value).filter(is_number).last()?;
        std::str::from_utf8(value).ok()?.parse().ok()
    }

    fn last(&self, wanted: &[u8]) -> Option<&'a [u8]> {
        self.fields().filter(|(name, _)| *name == wanted).map(|(_, value)| value).last()
    }

    /// The fields in order. Comments and blank lines are left out.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.raw;
        if self.range.start == 0 {
            rest = rest.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(rest);
        }
        std::iter::from_fn(move || {
            loop {
                if rest.is_empty() {
                    return None;
                }
                let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                let line = &rest[..end];
                // Between CR and LF stands an empty line, which has no field.
                rest = rest.get(end + 1..).unwrap_or_default();
                if !line.is_empty() && line[0] != b':' {
                    return Some(split_field(line));
                }
            }
        })
    }
}

fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = memchr::memchr(b':', line) else { return (line, b"") };
    let value = &line[colon + 1..];
    (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
}

/// Writes an event the way every SDK reads it: `event: name`, then `data: ` lines with a space, LF line ends.
pub fn encode(name: Option<&str>, data: &[u8], out: &mut Vec<u8>) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend(name.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')));
        out.push(b'\n');
    }
    let mut rest = data;
    loop {
        let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&rest[..end]);
        out.push(b'\n');
        let Some(after) = rest.get(end..).filter(|after| !after.is_empty()) else { break };
        rest = after.strip_prefix(b"\r\n").unwrap_or(&after[1..]);
    }
    out.push(b'\n');
}
