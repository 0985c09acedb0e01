//! Record ids as the databases keep them: 16 bytes that sort by time.

/// The lowest id that a record begun at `unix_ms` can have: a range of time is a range of ids. Times beyond the 48 bits
/// of a UUID version 7 (the year 10889) count as the last one.
#[must_use]
pub fn id_floor(unix_ms: u64) -> [u8; 16] {
    let milliseconds = unix_ms.min((1 << 48) - 1).to_be_bytes();
    let mut id = [0; 16];
    id[..6].copy_from_slice(&milliseconds[2..]);
    id
}

/// When the record with this id began, in milliseconds since 1970-01-01 UTC.
#[must_use]
pub fn id_unix_ms(id: &[u8; 16]) -> u64 {
    let mut milliseconds = [0; 8];
    milliseconds[2..].copy_from_slice(&id[..6]);
    u64::from_be_bytes(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aiproxy_core::id::RecordId;

    #[test]
    fn ids_of_a_millisecond_lie_between_its_floor_and_the_next() {
        let id: uuid::Uuid = RecordId::new(1_700_000_000_123, [0; 10]).to_string().parse().unwrap();
        assert!(id_floor(1_700_000_000_123) <= id.into_bytes());
        assert!(id.into_bytes() < id_floor(1_700_000_000_124));
        assert_eq!(id_unix_ms(id.as_bytes()), 1_700_000_000_123);
        assert_eq!(id_floor(u64::MAX)[..6], [0xff; 6]);
    }
}
