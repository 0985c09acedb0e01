//! Given a payload, when it is written as a frame, then those bytes stand on the wire.

use super::*;

#[test]
fn a_frame_is_written_as_the_standard_draws_it() {
    let (first, byte) = (0x82, 0xA5);
    for length in [0, 1, 7, 8, 9, 125, 126, 127, 65_535, 65_536] {
        let payload = vec![byte; length];
        for mask in [None, Some(MASK)] {
            let mut out = b"before".to_vec();
            encode(Opcode::Binary, &payload, mask, &mut out);
            assert_eq!(out, [b"before", &frame(first, &payload, mask)[..]].concat(), "{length}");
        }
    }
}

#[test]
fn every_opcode_is_written_as_its_number() {
    use Opcode::*;
    for (opcode, number) in [(Continuation, 0), (Text, 1), (Binary, 2), (Close, 8), (Ping, 9), (Pong, 10)] {
        let mut out = Vec::new();
        encode(opcode, b"", None, &mut out);
        assert_eq!(out, [0x80 | number, 0]);
        assert_eq!(Opcode::from_bits(number), Some(opcode));
    }
}

#[test]
fn a_control_frame_is_never_written_too_long() {
    let mut out = Vec::new();
    encode(Opcode::Pong, &[5; 126], Some(MASK), &mut out);
    let (seen, violation) = read(Sender::Client, &out);
    assert_eq!((seen, violation), (vec![Seen::Control(Control::Pong([5; 125].into()))], None));
}

#[test]
fn a_close_frame_is_written_with_its_reason_cut_between_characters() {
    let written = |close: Option<&Close>| {
        let mut out = Vec::new();
        encode_close(close, None, &mut out);
        out
    };
    assert_eq!(written(None), [0x88, 0]);
    assert_eq!(written(Some(&close(1008, ""))), [0x88, 2, 0x03, 0xF0]);
    let reason = |bytes: &[u8]| String::from_utf8(bytes[4..].to_vec()).unwrap();
    assert_eq!(reason(&written(Some(&close(1008, &"a".repeat(124))))), "a".repeat(123));
    assert_eq!(reason(&written(Some(&close(1008, &"名".repeat(41))))), "名".repeat(41));
    assert_eq!(reason(&written(Some(&close(1008, &"é".repeat(62))))), "é".repeat(61));
    assert_eq!(reason(&written(Some(&close(1008, &"😀".repeat(1000))))), "😀".repeat(30));
}
