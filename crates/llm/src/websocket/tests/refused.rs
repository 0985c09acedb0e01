//! Given bytes that break a rule, then they are refused as soon as that shows, with the right close code.

use super::*;

#[test]
fn every_violation_is_found_and_has_its_close_code() {
    use Sender::{Client, Server};
    use Violation::*;
    let long_ping = [&[0x89, 126, 0, 126][..], &[0; 126]].concat();
    let masked = frame(0x81, b"Hello", Some(MASK));
    let cases: [(Sender, &[u8], Violation, u16); 27] = [
        (Server, &[0xC1], ReservedBits, 1002),
        (Server, &[0xA1], ReservedBits, 1002),
        (Server, &[0x91], ReservedBits, 1002),
        (Server, &[0x83], ReservedOpcode, 1002),
        (Server, &[0x87], ReservedOpcode, 1002),
        (Server, &[0x8B], ReservedOpcode, 1002),
        (Server, &[0x8F], ReservedOpcode, 1002),
        (Server, &masked, Masked, 1002),
        (Server, &[0x89, 0x80], Masked, 1002),
        (Client, b"\x81\x05Hello", Unmasked, 1002),
        (Client, &[0x88, 0], Unmasked, 1002),
        (Server, &long_ping, ControlTooLong, 1002),
        (Server, &[0x88, 127], ControlTooLong, 1002),
        (Server, &[0x09], ControlFragmented, 1002),
        (Server, &[0x08, 0], ControlFragmented, 1002),
        (Server, &[0x80, 0], UnexpectedContinuation, 1002),
        (Server, &[0x81, 0, 0x00], UnexpectedContinuation, 1002),
        (Server, b"\x01\x03Hel\x81\x02lo", InterruptedMessage, 1002),
        (Server, &[0x02, 0, 0x82, 0], InterruptedMessage, 1002),
        (Server, &[0x82, 126, 0, 125], LengthTooBig, 1002),
        (Server, &[0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], LengthTooBig, 1002),
        (Server, &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], LengthTooBig, 1002),
        (Server, &[0x82, 127, 0, 0, 0, 0, 0x40, 0, 0, 0], MessageTooBig, 1009),
        (Server, &[0x88, 1, 3], BadClose, 1002),
        (Server, &[0x88, 2, 0x03, 0xED], BadClose, 1002),
        (Server, b"\x88\x04\x03\xE8\xC3(", NotUtf8, 1007),
        (Server, b"\x88\x03\x03\xE8\xC3", NotUtf8, 1007),
    ];
    for (sender, bytes, violation, code) in cases {
        assert_eq!(refusal(sender, bytes), Some(violation), "{bytes:02X?}");
        assert_eq!(violation.close_code(), code, "{violation}");
    }
    assert_eq!(TooManyFragments.close_code(), 1008);
}

#[test]
fn the_sentences_fit_into_the_reason_of_a_close_frame() {
    use Violation::*;
    let all = [
        ReservedBits,
        ReservedOpcode,
        Unmasked,
        Masked,
        ControlTooLong,
        ControlFragmented,
        UnexpectedContinuation,
        InterruptedMessage,
        LengthTooBig,
        MessageTooBig,
        BadClose,
        NotUtf8,
        TooManyFragments,
    ];
    for violation in all {
        let mut bytes = Vec::new();
        encode_close(Some(&close(violation.close_code(), violation.as_str())), None, &mut bytes);
        assert_eq!(read(Sender::Server, &bytes).0, [closed(violation.close_code(), violation.as_str())]);
        assert!(violation.as_str().len() < 120 && violation.as_str().is_ascii());
        assert_eq!(violation.to_string(), violation.as_str());
    }
}

#[test]
fn a_head_of_one_gib_is_refused_before_any_payload() {
    let mut decoder = Decoder::new(Sender::Client, LIMIT);
    let head = [&[0x82, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0][..], &MASK].concat();
    let mut rest = &head[..];
    assert_eq!(decoder.next(&mut rest), Err(Violation::MessageTooBig));
    assert!(decoder.is_between_frames() && decoder.is_between_messages());
    assert_eq!(decoder.next(&mut &b"more"[..]), Err(Violation::MessageTooBig));
}

#[test]
fn the_longest_lengths_do_not_overflow() {
    let longest = [0x02, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    let mut decoder = Decoder::new(Sender::Server, u64::MAX);
    let (seen, violation) = read_pieces(&mut decoder, [&longest[..], b"payload"]);
    assert_eq!((seen.len(), violation), (1, None));
    assert!(!decoder.is_between_frames());
}

#[test]
fn the_limit_counts_all_fragments_of_a_message_and_starts_anew_with_the_next() {
    let mut decoder = Decoder::new(Sender::Server, 10);
    let message = [frame(0x02, &[0; 6], None), frame(0x80, &[0; 4], None)].concat();
    for _ in 0..3 {
        assert_eq!(read_pieces(&mut decoder, [&message[..]]).1, None);
    }
    let first = frame(0x02, &[0; 6], None);
    assert_eq!(read_pieces(&mut decoder, [&first[..]]).1, None);
    assert_eq!(decoder.next(&mut &[0x80, 5][..]), Err(Violation::MessageTooBig));
    assert!(!decoder.is_between_messages(), "of this message a part has been handed out");
}

#[test]
fn a_flood_of_small_fragments_is_refused_and_large_ones_are_not() {
    let after = |size: usize, fragments: usize| {
        let mut decoder = Decoder::new(Sender::Server, LIMIT);
        let (begin, more) = (frame(0x02, &vec![0; size], None), frame(0x00, &vec![0; size], None));
        let all = std::iter::once(&begin[..]).chain(std::iter::repeat_n(&more[..], fragments - 1));
        read_pieces(&mut decoder, all).1
    };
    assert_eq!(after(0, 16_384), None);
    assert_eq!(after(0, 16_385), Some(Violation::TooManyFragments));
    assert_eq!(after(63, 16_385), Some(Violation::TooManyFragments));
    assert_eq!(after(64, 20_000), None);
}

#[test]
fn many_messages_of_one_small_frame_are_no_flood() {
    let mut decoder = Decoder::new(Sender::Server, LIMIT);
    let bytes = frame(0x81, b"x", None).repeat(20_000);
    let (seen, violation) = read_pieces(&mut decoder, [&bytes[..]]);
    assert_eq!((seen.len(), violation), (20_000, None));
}

#[test]
fn an_idle_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 128, "{}", size_of::<Decoder>());
}
