//! Given the bytes of a socket, cut anywhere, when they are read, then those frames come out of them, or that refusal.

mod encode;
mod properties;
mod refused;
mod utf8;

use super::*;

/// The key of the examples in RFC 6455 §5.7.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

const MASKED_HELLO: [u8; 5] = [0x7F, 0x9F, 0x4D, 0x51, 0x58];

const LIMIT: u64 = 64 * 1024 * 1024;

/// A frame as it was handed over, its pieces put together.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Data { kind: Kind, starts: bool, ends: bool, wire: Vec<u8>, plain: Vec<u8> },
    Control(Control),
}

fn text(plain: &str) -> Seen {
    Seen::Data { kind: Kind::Text, starts: true, ends: true, wire: Vec::new(), plain: plain.into() }
}

fn binary(plain: &[u8]) -> Seen {
    Seen::Data { kind: Kind::Binary, starts: true, ends: true, wire: Vec::new(), plain: plain.into() }
}

fn ping(payload: &[u8]) -> Seen {
    Seen::Control(Control::Ping(payload.into()))
}

fn close(code: u16, reason: &str) -> Close {
    Close { code, reason: reason.into() }
}

fn closed(code: u16, reason: &str) -> Seen {
    Seen::Control(Control::Close(Some(close(code, reason))))
}

/// Frames with what they were on the wire, and the violation that ended them.
fn read_pieces<'a>(
    decoder: &mut Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Seen>, Option<Violation>) {
    let mut seen = Vec::new();
    let mut scratch = Vec::new();
    for mut bytes in pieces {
        loop {
            match decoder.next(&mut bytes) {
                Ok(None) => break,
                Err(violation) => return (seen, Some(violation)),
                Ok(Some(Piece::Control(control))) => seen.push(Seen::Control(control)),
                Ok(Some(Piece::Head(head))) => seen.push(Seen::Data {
                    kind: head.kind(),
                    starts: head.starts_message(),
                    ends: head.ends_message(),
                    wire: head.wire().to_vec(),
                    plain: Vec::new(),
                }),
                Ok(Some(Piece::Payload(payload))) => {
                    let Some(Seen::Data { wire, plain, .. }) = seen.last_mut() else { panic!("a payload has a head") };
                    wire.extend_from_slice(payload.wire);
                    plain.extend_from_slice(payload.unmask_into(&mut scratch));
                }
            }
        }
        assert!(bytes.is_empty(), "all bytes were taken");
    }
    (seen, None)
}

/// The frames in these bytes, without what they were on the wire.
fn read(sender: Sender, bytes: &[u8]) -> (Vec<Seen>, Option<Violation>) {
    let (mut seen, violation) = read_pieces(&mut Decoder::new(sender, LIMIT), [bytes]);
    for frame in &mut seen {
        if let Seen::Data { wire, .. } = frame {
            wire.clear();
        }
    }
    (seen, violation)
}

/// What these bytes are refused for: at once, and byte by byte.
fn refusal(sender: Sender, bytes: &[u8]) -> Option<Violation> {
    let violation = read(sender, bytes).1;
    assert_eq!(read_pieces(&mut Decoder::new(sender, LIMIT), bytes.chunks(1)).1, violation, "{bytes:02X?} cut");
    violation
}

/// A frame written bit by bit after the figure in RFC 6455 §5.2.
fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = match payload.len() {
        length @ 0..=125 => vec![first, masked | length as u8],
        length @ 126..=65_535 => vec![first, masked | 126, (length >> 8) as u8, length as u8],
        length => [&[first, masked | 127][..], &(length as u64).to_be_bytes()].concat(),
    };
    frame.extend(mask.iter().flatten());
    let mask = mask.unwrap_or_default();
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

fn close_frame(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes()[..], reason].concat(), None)
}

// The examples of RFC 6455 §5.7, in their order.

#[test]
fn a_single_frame_unmasked_text_message_is_read() {
    assert_eq!(read(Sender::Server, b"\x81\x05Hello"), (vec![text("Hello")], None));
}

#[test]
fn a_single_frame_masked_text_message_is_read() {
    let bytes = [&[0x81, 0x85][..], &MASK, &MASKED_HELLO].concat();
    assert_eq!(read(Sender::Client, &bytes), (vec![text("Hello")], None));
}

#[test]
fn a_fragmented_unmasked_text_message_is_read() {
    let first = Seen::Data { kind: Kind::Text, starts: true, ends: false, wire: Vec::new(), plain: "Hel".into() };
    let last = Seen::Data { kind: Kind::Text, starts: false, ends: true, wire: Vec::new(), plain: "lo".into() };
    assert_eq!(read(Sender::Server, b"\x01\x03Hel\x80\x02lo"), (vec![first, last], None));
}

#[test]
fn an_unmasked_ping_and_a_masked_pong_are_read() {
    assert_eq!(read(Sender::Server, b"\x89\x05Hello"), (vec![ping(b"Hello")], None));
    let bytes = [&[0x8A, 0x85][..], &MASK, &MASKED_HELLO].concat();
    assert_eq!(read(Sender::Client, &bytes), (vec![Seen::Control(Control::Pong((*b"Hello").into()))], None));
}

#[test]
fn a_binary_message_of_256_bytes_is_read() {
    let payload = vec![7; 256];
    let bytes = [&[0x82, 0x7E, 0x01, 0x00][..], &payload].concat();
    assert_eq!(read(Sender::Server, &bytes), (vec![binary(&payload)], None));
}

#[test]
fn a_binary_message_of_64_kib_is_read() {
    let payload = vec![7; 65_536];
    let bytes = [&[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0][..], &payload].concat();
    assert_eq!(read(Sender::Server, &bytes), (vec![binary(&payload)], None));
}

// What is handed over, and when.

#[test]
fn a_head_comes_before_its_payload_and_tells_what_was_carried() {
    let mut decoder = Decoder::new(Sender::Client, LIMIT);
    let bytes = frame(0x82, &[1; 300], Some(MASK));
    let (first, mut second) = bytes.split_at(5);
    let mut first = first;
    assert_eq!(decoder.next(&mut first), Ok(None));
    assert!(first.is_empty() && decoder.is_between_frames() && decoder.is_between_messages());

    let Ok(Some(Piece::Head(head))) = decoder.next(&mut second) else { panic!("a head") };
    assert_eq!(head.wire(), &bytes[..8]);
    assert_eq!(head.carried(), 5);
    assert_eq!((head.kind(), head.length(), head.mask()), (Kind::Binary, 300, Some(MASK)));
    assert!(head.starts_message() && head.ends_message() && !head.ends_frame());
    assert_eq!(second.len(), 300);
    assert!(!decoder.is_between_frames() && !decoder.is_between_messages());

    let mut most = &second[..299];
    let Ok(Some(Piece::Payload(payload))) = decoder.next(&mut most) else { panic!("a payload") };
    assert_eq!((payload.wire, payload.offset, payload.mask), (&second[..299], 0, Some(MASK)));
    assert_eq!((payload.kind, payload.ends_frame, payload.ends_message), (Kind::Binary, false, true));
    assert_eq!(decoder.next(&mut most), Ok(None));
    assert!(!decoder.is_between_frames());

    let mut last = &second[299..];
    let Ok(Some(Piece::Payload(payload))) = decoder.next(&mut last) else { panic!("a payload") };
    assert_eq!((payload.offset, payload.ends_frame, payload.ends_message), (299, true, true));
    assert_eq!(payload.unmask_into(&mut Vec::new()), [1]);
    assert!(decoder.is_between_frames() && decoder.is_between_messages());
}

#[test]
fn a_payload_is_handed_over_where_it_stands() {
    let bytes = b"\x81\x05Hello";
    let mut rest = &bytes[..];
    let mut decoder = Decoder::new(Sender::Server, LIMIT);
    assert!(matches!(decoder.next(&mut rest), Ok(Some(Piece::Head(_)))));
    let Ok(Some(Piece::Payload(payload))) = decoder.next(&mut rest) else { panic!("a payload") };
    let mut scratch = Vec::new();
    assert!(std::ptr::eq(payload.wire, &raw const bytes[2..]));
    assert!(std::ptr::eq(payload.unmask_into(&mut scratch), &raw const bytes[2..]));
    assert_eq!(scratch.capacity(), 0);
}

#[test]
fn a_frame_without_payload_is_its_head() {
    let mut decoder = Decoder::new(Sender::Client, LIMIT);
    let bytes = [frame(0x01, b"", Some(MASK)), frame(0x00, b"", Some(MASK)), frame(0x80, b"", Some(MASK))].concat();
    let mut rest = &bytes[..];
    for (starts, ends) in [(true, false), (false, false), (false, true)] {
        let Ok(Some(Piece::Head(head))) = decoder.next(&mut rest) else { panic!("a head") };
        assert!(head.ends_frame());
        assert_eq!((head.kind(), head.starts_message(), head.ends_message()), (Kind::Text, starts, ends));
        assert!(decoder.is_between_frames());
        assert_eq!(decoder.is_between_messages(), ends);
    }
    assert_eq!(decoder.next(&mut rest), Ok(None));
}

#[test]
fn control_frames_may_stand_between_fragments() {
    let bytes = [frame(0x02, b"a", None), frame(0x89, b"p", None), frame(0x8A, b"", None), frame(0x80, b"b", None)];
    let (seen, violation) = read(Sender::Server, &bytes.concat());
    assert_eq!(violation, None);
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[1], ping(b"p"));
    assert_eq!(seen[2], Seen::Control(Control::Pong([].into())));
    assert!(matches!(&seen[3], Seen::Data { kind: Kind::Binary, starts: false, ends: true, .. }));
}

#[test]
fn a_control_frame_that_is_cut_is_not_handed_out_and_lies_between_frames() {
    let mut decoder = Decoder::new(Sender::Client, LIMIT);
    let bytes = frame(0x89, &[9; 125], Some(MASK));
    let (mut first, mut second) = bytes.split_at(60);
    assert_eq!(decoder.next(&mut first), Ok(None));
    assert!(decoder.is_between_frames() && decoder.is_between_messages());
    assert_eq!(decoder.next(&mut second), Ok(Some(Piece::Control(Control::Ping([9; 125].into())))));
}

#[test]
fn a_close_frame_tells_code_and_reason_or_neither() {
    assert_eq!(read(Sender::Server, &[0x88, 0]), (vec![Seen::Control(Control::Close(None))], None));
    assert_eq!(read(Sender::Server, &close_frame(1000, b"")), (vec![closed(1000, "")], None));
    let reason = "é".repeat(61) + "!";
    assert_eq!(read(Sender::Server, &close_frame(4000, reason.as_bytes())), (vec![closed(4000, &reason)], None));
}

#[test]
fn the_close_codes_that_may_be_sent_are_those_of_the_registry() {
    for code in 0..=u16::MAX {
        let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let violation = read(Sender::Server, &close_frame(code, b"")).1;
        assert_eq!(violation, if allowed { None } else { Some(Violation::BadClose) }, "{code}");
    }
}

#[test]
fn what_follows_a_close_frame_is_dropped() {
    let bytes = [close_frame(1001, b"bye"), frame(0x89, b"", None), vec![0xFF; 1000]].concat();
    assert_eq!(read(Sender::Server, &bytes), (vec![closed(1001, "bye")], None));
    assert_eq!(refusal(Sender::Server, &bytes), None);
}
