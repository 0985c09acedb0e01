//! Which records and bodies stand in some lines. Only the head of each line is looked at: the sink wrote it itself.

/// `{"type":"bodies","id":"` and an id.
const HEAD: usize = 64;

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Line {
    /// The record of this id.
    Record([u8; 16]),
    /// The bodies of this id.
    Bodies([u8; 16]),
}

/// Reads lines as they come, cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// How the line begins that is not yet whole.
    head: Vec<u8>,
    read: u64,
    whole: u64,
}

impl Lines {
    /// Reads on, and tells `note` of each whole line that holds something.
    pub(super) fn feed(&mut self, bytes: &[u8], mut note: impl FnMut(Line)) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.keep_head(&rest[..end]);
            if let Some(line) = line(&self.head) {
                note(line);
            }
            self.head.clear();
            self.read += end as u64 + 1;
            self.whole = self.read;
            rest = &rest[end + 1..];
        }
        self.keep_head(rest);
        self.read += rest.len() as u64;
    }

    /// Bytes up to the end of the last whole line.
    pub(super) fn whole(&self) -> u64 {
        self.whole
    }

    /// Whether something stands behind the last whole line.
    pub(super) fn is_torn(&self) -> bool {
        self.read > self.whole
    }

    fn keep_head(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

fn line(head: &[u8]) -> Option<Line> {
    if let Some(rest) = head.strip_prefix(br#"{"id":""#) {
        return id(rest).map(Line::Record);
    }
    head.strip_prefix(br#"{"type":"bodies","id":""#).and_then(id).map(Line::Bodies)
}

fn id(text: &[u8]) -> Option<[u8; 16]> {
    let id = uuid::Uuid::try_parse_ascii(text.get(..36)?).ok()?;
    (text.get(36) == Some(&b'"')).then(|| id.into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sinks::testing::{bodies, entry, id};

    #[test]
    fn the_last_line_counts_once_it_is_whole() {
        let mut text = Vec::new();
        entry(1).write_json(&mut text);
        let first = text.len() as u64;
        bodies(2).write_json(&mut text);
        let mut noted = Vec::new();
        let mut lines = Lines::default();
        lines.feed(&text[..text.len() - 1], |line| noted.push(line));
        assert_eq!((lines.whole(), lines.is_torn()), (first, true));
        lines.feed(b"\n", |line| noted.push(line));
        assert_eq!((lines.whole(), lines.is_torn()), (text.len() as u64, false));
        assert_eq!(noted, [Line::Record(id(1)), Line::Bodies(id(2))]);
    }

    proptest! {
        #[test]
        fn lines_cut_anywhere_hold_the_same(foreign in "[^\n]*", cuts in prop::collection::vec(0usize..2_000, 0..9)) {
            let mut text = Vec::new();
            for number in 0..3 {
                entry(number).write_json(&mut text);
                bodies(number).write_json(&mut text);
                text.extend_from_slice(foreign.as_bytes());
                text.push(b'\n');
            }
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let (mut lines, mut noted) = (Lines::default(), Vec::new());
            for part in cuts.windows(2) {
                lines.feed(&text[part[0]..part[1]], |line| noted.push(line));
            }
            let expected = (0..3).flat_map(|number| [Line::Record(id(number)), Line::Bodies(id(number))]);
            prop_assert_eq!(noted, expected.collect::<Vec<_>>());
            prop_assert_eq!((lines.whole(), lines.is_torn()), (text.len() as u64, false));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let mut lines = Lines::default();
            lines.feed(&bytes, |_| ());
            lines.feed(&bytes, |_| ());
            prop_assert!(lines.whole() <= 2 * bytes.len() as u64);
        }
    }
}
