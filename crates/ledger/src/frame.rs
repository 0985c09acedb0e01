//! How entries lie in a segment, one after the other:
//!
//! ```text
//! marker  4 bytes  where a frame begins, should what is before it be damaged
//! length  u32 LE   of kind and payload
//! check   u32 LE   CRC-32 (IEEE 802.3) of kind and payload
//! kind    u8       1: a record, 2: bodies
//! payload
//! ```
//!
//! A process that is killed leaves at most one torn frame at the end of a segment.

/// Length of what precedes kind and payload.
pub const HEAD: usize = 12;
/// Not UTF-8, so that no text looks like it.
const MARKER: [u8; 4] = [0xf5, b'A', b'I', 0xf6];
/// Longest frame: bodies of a call are cut long before.
pub const LONGEST: usize = 64 << 20;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An [`crate::Entry`].
    Record,
    /// [`crate::Bodies`].
    Bodies,
    /// Something that a later version writes. Passed over.
    Unknown(u8),
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Record => 1,
            Self::Bodies => 2,
            Self::Unknown(byte) => byte,
        }
    }

    fn of(byte: u8) -> Self {
        match byte {
            1 => Self::Record,
            2 => Self::Bodies,
            other => Self::Unknown(other),
        }
    }
}

/// Appends a frame whose payload is what `write` appends.
pub fn append(bytes: &mut Vec<u8>, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&MARKER);
    bytes.extend_from_slice(&[0; HEAD - MARKER.len()]);
    bytes.push(kind.byte());
    write(bytes);
    let length = (bytes.len() - start - HEAD) as u32;
    let check = crc32fast::hash(&bytes[start + HEAD..]);
    bytes[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    bytes[start + 8..start + HEAD].copy_from_slice(&check.to_le_bytes());
}

/// What stands at the beginning of some bytes of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'bytes> {
    /// A whole frame.
    Frame {
        /// What it holds.
        kind: Kind,
        /// Its payload.
        payload: &'bytes [u8],
        /// Length of the whole frame.
        length: usize,
    },
    /// The beginning of a frame, or nothing: more may come.
    Unfinished,
    /// No frame: the bytes were damaged.
    Damaged,
}

/// Reads the frame that `bytes` begin with.
#[must_use]
pub fn next(bytes: &[u8]) -> Next<'_> {
    if !MARKER.starts_with(&bytes[..bytes.len().min(MARKER.len())]) {
        return Next::Damaged;
    }
    let (Some(length), Some(check)) = (word(bytes, 4), word(bytes, 8)) else { return Next::Unfinished };
    let length = length as usize;
    if length == 0 || length > LONGEST {
        return Next::Damaged;
    }
    let Some(content) = bytes.get(HEAD..HEAD + length) else { return Next::Unfinished };
    if crc32fast::hash(content) != check {
        return Next::Damaged;
    }
    Next::Frame { kind: Kind::of(content[0]), payload: &content[1..], length: HEAD + length }
}

/// How many damaged bytes stand before the next whole frame; `None` if there is none in `bytes`.
#[must_use]
pub fn resynchronise(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(bytes.get(1..)?, &MARKER)
        .map(|at| at + 1)
        .find(|at| matches!(next(&bytes[*at..]), Next::Frame { .. }))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        append(&mut bytes, Kind::Record, |bytes| bytes.extend_from_slice(payload));
        bytes
    }

    #[test]
    fn a_frame_reads_back_and_a_torn_one_is_unfinished() {
        let bytes = frame(b"payload");
        assert_eq!(next(&bytes), Next::Frame { kind: Kind::Record, payload: b"payload", length: bytes.len() });
        for cut in 0..bytes.len() {
            assert_eq!(next(&bytes[..cut]), Next::Unfinished);
        }
    }

    #[test]
    fn a_damaged_frame_is_passed_over() {
        let mut bytes = frame(b"damaged");
        let damaged = bytes.len();
        bytes[HEAD + 3] ^= 1;
        bytes.extend(frame(b"whole"));
        assert_eq!(next(&bytes), Next::Damaged);
        assert_eq!(resynchronise(&bytes), Some(damaged));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            if let Some(at) = resynchronise(&bytes) {
                let is_frame = matches!(next(&bytes[at..]), Next::Frame { .. });
                proptest::prop_assert!(is_frame);
            }
            if let Next::Frame { payload, length, .. } = next(&bytes) {
                proptest::prop_assert_eq!(length, HEAD + 1 + payload.len());
            }
        }
    }
}
