//! Given any sequence of frames, cut anywhere, then it is read to the byte; given any bytes, then nothing panics.

use proptest::prelude::*;

use super::super::payload::apply_mask;
use super::*;

/// One frame to be: whether it is a control frame, which, what is in it, and whether it ends its message.
type Plan = (bool, usize, usize, u8, [u8; 4], bool);

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let length = prop_oneof![
        8 => 0..20_usize,
        4 => prop::sample::select(vec![0, 4, 7, 8, 9, 124, 125, 126, 127, 128, 300]),
        1 => prop::sample::select(vec![65_535, 65_536]),
    ];
    let plan = (prop::bool::weighted(0.3), 0..3_usize, length, any::<u8>(), any::<[u8; 4]>(), any::<bool>());
    prop::collection::vec(plan, 0..12)
}

/// The frames as they are on the wire, and as they should be seen.
fn build(sender: Sender, plans: &[Plan]) -> (Vec<u8>, Vec<Seen>) {
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    let mut open = None;
    for (index, (is_control, which, length, seed, mask, ends)) in plans.iter().enumerate() {
        let mask = (sender == Sender::Client).then_some(*mask);
        let plain: Vec<u8> = (0..*length).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
        if *is_control {
            let plain = &plain[..plain.len().min(125)];
            let is_last = index + 1 == plans.len();
            let (first, payload, control) = match which {
                0 if is_last => {
                    let reason = "é".repeat(plain.len() / 3);
                    let payload = [&1000_u16.to_be_bytes()[..], reason.as_bytes()].concat();
                    (0x88, payload, closed(1000, &reason))
                }
                0 | 1 => (0x89, plain.to_vec(), ping(plain)),
                _ => (0x8A, plain.to_vec(), Seen::Control(Control::Pong(plain.into()))),
            };
            bytes.extend(frame(first, &payload, mask));
            expected.push(control);
            continue;
        }
        let new = if *which == 0 { Kind::Text } else { Kind::Binary };
        let (opcode, kind) = match (open, new) {
            (Some(kind), _) => (0, kind),
            (None, Kind::Text) => (1, new),
            (None, Kind::Binary) => (2, new),
        };
        let wire = frame(opcode | if *ends { 0x80 } else { 0 }, &plain, mask);
        bytes.extend_from_slice(&wire);
        expected.push(Seen::Data { kind, starts: open.is_none(), ends: *ends, wire, plain });
        open = (!ends).then_some(kind);
    }
    (bytes, expected)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn valid_frames_are_read_to_the_byte_wherever_they_are_cut(plans in plans(), seed: u8) {
        for sender in [Sender::Client, Sender::Server] {
            let (bytes, expected) = build(sender, &plans);
            let expected = (expected, None);
            prop_assert_eq!(&read_pieces(&mut Decoder::new(sender, LIMIT), [&bytes[..]]), &expected);
            prop_assert_eq!(&read_pieces(&mut Decoder::new(sender, LIMIT), bytes.chunks(1)), &expected);
            let input = [&[seed][..], &bytes].concat();
            let (_, pieces) = crate::fuzzing::cut(&input);
            prop_assert_eq!(&read_pieces(&mut Decoder::new(sender, LIMIT), pieces), &expected);
        }
    }

    #[test]
    fn frames_with_a_wrong_byte_are_judged_the_same_wherever_they_are_cut(
        plans in plans(),
        seed: u8,
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        for sender in [Sender::Client, Sender::Server] {
            let mut input = [&[seed][..], &build(sender, &plans).0].concat();
            crate::fuzzing::websocket(&input);
            let at = at.index(input.len());
            input[at] = byte;
            crate::fuzzing::websocket(&input);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_trouble(input in prop::collection::vec(any::<u8>(), 0..300)) {
        crate::fuzzing::websocket(&input);
    }

    #[test]
    fn what_is_masked_in_pieces_at_any_offset_is_what_was_meant(
        plain in prop::collection::vec(any::<u8>(), 0..200),
        mask: [u8; 4],
        start in any::<u64>().prop_map(|start| start / 2),
        cut in any::<prop::sample::Index>(),
    ) {
        let keys = (0..plain.len() as u64).map(|at| mask[((start + at) % 4) as usize]);
        let wire: Vec<u8> = plain.iter().zip(keys).map(|(byte, key)| byte ^ key).collect();
        let mut masked = plain.clone();
        apply_mask(&mut masked, mask, start);
        prop_assert_eq!(&masked, &wire);

        let cut = if wire.is_empty() { 0 } else { cut.index(wire.len()) };
        let mut scratch = b"of the piece before".to_vec();
        let mut unmasked = Vec::new();
        for (wire, offset) in [(&wire[..cut], start), (&wire[cut..], start + cut as u64)] {
            let payload = Payload {
                wire,
                offset,
                mask: Some(mask),
                kind: Kind::Binary,
                ends_frame: true,
                ends_message: true,
            };
            unmasked.extend_from_slice(payload.unmask_into(&mut scratch));
        }
        prop_assert_eq!(unmasked, plain);
    }

    #[test]
    fn a_text_is_judged_as_std_does_wherever_it_is_cut(
        text in "[a-z]{0,20}(\\PC|[é名😀\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}]|[a-z]){0,40}",
        seed: u8,
        wrong in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut input = [&[seed][..], text.as_bytes()].concat();
        if let Some((at, byte)) = wrong {
            let at = at.index(input.len());
            input[at] = byte;
        }
        crate::fuzzing::websocket(&input);
    }
}
