//! Given bytes, then the check says at each of them what `std` says of all so far.

use super::*;

/// What `std` says: whether this is the beginning of a valid text, and whether it is one.
fn judged_by_std(bytes: &[u8]) -> (bool, bool) {
    match std::str::from_utf8(bytes) {
        Ok(_) => (true, true),
        Err(error) => (error.error_len().is_none(), false),
    }
}

#[test]
fn every_sequence_of_two_bytes_is_judged_as_std_does() {
    for first in 0..=255 {
        for second in 0..=255 {
            let mut check = Utf8Check::default();
            assert_eq!((check.feed(&[first]), check.is_whole()), judged_by_std(&[first]), "{first:02X}");
            let judged = (check.feed(&[second]), check.is_whole());
            assert_eq!(judged, judged_by_std(&[first, second]), "{first:02X} {second:02X}");
            let mut whole = Utf8Check::default();
            assert_eq!((whole.feed(&[first, second]), whole.is_whole()), judged);
        }
    }
}

#[test]
fn long_characters_are_judged_as_std_does_at_each_of_their_bytes() {
    let edges = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xE0, 0xFF];
    for first in 0xDF..=0xFF {
        for second in edges {
            for third in edges {
                for fourth in edges {
                    let bytes = [first, second, third, fourth, b'x'];
                    let mut check = Utf8Check::default();
                    for (at, byte) in bytes.iter().enumerate() {
                        let judged = (check.feed(&[*byte]), check.is_whole());
                        assert_eq!(judged, judged_by_std(&bytes[..=at]), "{bytes:02X?} at {at}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_text_stays_broken_until_a_reset() {
    let mut check = Utf8Check::default();
    assert!(check.feed("名".as_bytes()) && check.feed(b"") && check.is_whole());
    assert!(!check.feed(b"ok\x80"));
    assert!(!check.feed(b"ok") && !check.feed(b"") && !check.is_whole());
    check.reset();
    assert!(check.feed(b"ok") && check.is_whole());
    assert!(check.feed(&[0xE5]) && !check.is_whole());
    check.reset();
    assert!(check.is_whole());
}
