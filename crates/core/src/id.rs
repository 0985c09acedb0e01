//! Record ids.

use std::fmt;

/// The id of one call: a UUID of version 7 (RFC 9562 §5.7), so that ids sort by the time they were made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(uuid::Uuid);

impl RecordId {
    /// A new id from the wall clock `unix_ms` and fresh random bits.
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// Its 16 bytes, in the order of the text.
    pub fn bytes(&self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// Writes the usual 36 characters into `buffer` and returns them.
    pub fn encode<'buffer>(&self, buffer: &'buffer mut [u8; 36]) -> &'buffer str {
        self.0.hyphenated().encode_lower(buffer)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(formatter)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::RecordId;

    #[test]
    fn ids_are_version_seven_and_sort_by_time() {
        let earlier = RecordId::new(1_000, [0xff; 10]);
        let later = RecordId::new(1_001, [0; 10]);
        assert!(earlier < later);
        assert_eq!(earlier.to_string(), "00000000-03e8-7fff-bfff-ffffffffffff");
        assert_eq!(earlier.encode(&mut [0; 36]), earlier.to_string());
    }
}
