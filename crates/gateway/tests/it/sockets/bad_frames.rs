//! What breaks the rules of RFC 6455, from either side: the right close code for whoever did it, a clean goodbye for the
//! other, and nothing garbled passes.

use aiproxy_llm::websocket::Opcode;
use aiproxy_testkit::frame::fragments;
use aiproxy_testkit::{Frame, Step};

use super::*;

const MASK: [u8; 4] = [1, 2, 3, 4];

/// A masked frame with this first byte and this payload, whatever that means.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = Frame::Binary(payload.to_vec()).encode(Some(MASK));
    wire[0] = first;
    wire
}

/// Violations of a client, with the code that answers them.
fn violations() -> Vec<(&'static str, Vec<u8>, u16)> {
    let control = |opcode: u8, length: usize| {
        let mut wire = vec![0x80 | opcode, 0xFE, (length >> 8) as u8, length as u8, 0, 0, 0, 0];
        wire.resize(8 + length, 0);
        wire
    };
    vec![
        ("not masked", Frame::text("a").encode(None), 1002),
        ("reserved bit 1", raw(0xC1, b"a"), 1002),
        ("reserved bit 2", raw(0xA1, b"a"), 1002),
        ("reserved bit 3", raw(0x91, b"a"), 1002),
        ("reserved opcode 3", raw(0x83, b"a"), 1002),
        ("reserved opcode 7", raw(0x87, b""), 1002),
        ("reserved opcode 11", raw(0x8B, b"a"), 1002),
        ("reserved opcode 15", raw(0x8F, b"a"), 1002),
        ("ping of 126 bytes", control(9, 126), 1002),
        ("close of 200 bytes", control(8, 200), 1002),
        ("ping without FIN", raw(0x09, b"a"), 1002),
        ("close without FIN", raw(0x08, &[3, 0xE8]), 1002),
        ("continuation of nothing", raw(0x80, b"a"), 1002),
        ("a message in a message", [raw(0x01, b"a"), raw(0x81, b"b")].concat(), 1002),
        ("a length that could be shorter", vec![0x82, 0xFE, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5], 1002),
        ("a length of 2^63", vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1002),
        ("close with one byte", raw(0x88, &[3]), 1002),
        ("close with code 1005", raw(0x88, &[3, 0xED]), 1002),
        ("close with code 1006", raw(0x88, &[3, 0xEE]), 1002),
        ("close with code 999", raw(0x88, &[3, 0xE7]), 1002),
        ("close with code 2999", raw(0x88, &[0x0B, 0xB7]), 1002),
        ("close with code 5000", raw(0x88, &[0x13, 0x88]), 1002),
        ("close whose reason is not UTF-8", raw(0x88, &[3, 0xE8, 0xFF]), 1007),
        ("text that is not UTF-8", raw(0x81, b"{\"type\":\"\xFF\"}"), 1007),
        ("text with a surrogate", raw(0x81, b"\xED\xA0\x80"), 1007),
        ("text in overlong form", raw(0x81, b"\xC0\xAF"), 1007),
        ("text cut inside of a character", raw(0x81, b"abc\xE2\x82"), 1007),
        ("fragments that end inside of a character", [raw(0x01, b"\xE2\x82"), raw(0x80, b"")].concat(), 1007),
        ("64 KiB and more, where that is the limit", vec![0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0], 1009),
        ("a frame of 1 GiB", vec![0x82, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0], 1009),
        ("fragments of 64 KiB and more together", [raw(0x02, &[0; 60_000]), raw(0x80, &[0; 6_000])].concat(), 1009),
    ]
}

fn config() -> String {
    format!("system: {{websocket: {{message_limit: 64KiB}}}}{CONFIG}")
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_the_rules_is_told_with_the_right_code() {
    for path in [REALTIME, UNREAD] {
        for (what, wire, code) in violations() {
            for split in [1_000_000, 1] {
                // Byte by byte only what is short.
                if split == 1 && wire.len() > 300 {
                    continue;
                }
                let (gateway, upstream) = gateway(&config(), vec![Step::Upgrade, Step::Listen]);
                let mut socket = open(&gateway, path).await;
                let good = Frame::text(r#"{"type":"good"}"#).encode(Some(MASK));
                socket.send_split(&[good.clone(), wire.clone()].concat(), &[split]).await;
                let rest = socket.rest().await;
                let [Frame::Close(Some((found, reason)))] = &rest[..] else { panic!("{what} on {path}: {rest:?}") };
                assert_eq!(*found, code, "{what}: {reason}");
                assert!(!reason.is_empty());
                drop(socket);
                tokio::time::sleep(3 * TWO_SECONDS).await;
                let texts = upstream.texts();
                assert_eq!(texts, [r#"{"type":"good"}"#], "{what} on {path}, {split}");
                let record = only_record(&gateway).await;
                assert_eq!(
                    (&record["end"], &record["error_code"]),
                    (&json!("client_closed"), &json!("invalid_request")),
                    "{what}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_is_told_goodbye_between_frames_or_not_at_all() {
    for (what, wire, _) in violations() {
        let (gateway, upstream) = gateway(&config(), vec![Step::Upgrade, Step::Listen]);
        let mut socket = open(&gateway, UNREAD).await;
        socket.send_raw(&wire).await;
        socket.rest().await;
        drop(socket);
        tokio::time::sleep(3 * TWO_SECONDS).await;
        // Never whole what was garbled, and never garbled what is ours.
        let is_known = |frame: &Frame| matches!(frame, Frame::Fragment { .. }) || frame.code() == Some(1001);
        assert!(upstream.messages().iter().all(is_known), "{what}: {:?}", upstream.messages());
        only_record(&gateway).await;
    }
}

#[tokio::test(start_paused = true)]
async fn text_that_turns_out_not_to_be_utf8_late_never_arrives_whole() {
    for path in [REALTIME, UNREAD] {
        for last in 3..15 {
            let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Listen]);
            let mut socket = open(&gateway, path).await;
            let mut text = br#"{"type":"input_audio_buffer.append","audio":"AAAAAAAAAAAAAAAAAAAAAAAA"#.to_vec();
            text.extend_from_slice(b"\xFF\"}");
            let wire = raw(0x81, &text);
            let (first, second) = wire.split_at(wire.len() - last);
            socket.send_raw(first).await;
            settle().await;
            socket.send_raw(second).await;
            assert_eq!(socket.frame().await.code(), Some(1007));
            drop(socket);
            tokio::time::sleep(3 * TWO_SECONDS).await;
            assert_eq!(upstream.messages(), [], "{path}: neither whole nor completed by something of ours");
            only_record(&gateway).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_small_fragments_ends_and_honest_ones_pass() {
    for (size, passes) in [(1, false), (0, false), (64, true)] {
        let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Listen]);
        let mut socket = open(&gateway, UNREAD).await;
        let message = vec![b'x'; 20_000 * size];
        let cuts: Vec<usize> = (1..20_000).map(|index| index * size).collect();
        let frames = if size == 0 {
            let fragment = |index: usize| Frame::Fragment {
                opcode: if index == 0 { Opcode::Binary } else { Opcode::Continuation },
                is_last: index == 19_999,
                payload: Vec::new(),
            };
            (0..20_000).map(fragment).collect()
        } else {
            fragments(Opcode::Binary, &message, &cuts)
        };
        let wire: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(Some(MASK))).collect();
        socket.send_raw(&wire).await;
        if passes {
            socket.leave().await;
            assert_eq!(upstream.messages().len(), 20_001);
        } else {
            assert_eq!(socket.frame().await.code(), Some(1008), "{size}");
            drop(socket);
            tokio::time::sleep(3 * TWO_SECONDS).await;
        }
        only_record(&gateway).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_breaks_the_rules_ends_the_session_and_only_that_is_told() {
    for (what, wire, code) in [
        ("masked", Frame::text("a").encode(Some(MASK)), 1002),
        ("reserved bit", vec![0xC1, 1, b'a'], 1002),
        ("reserved opcode", vec![0x83, 0], 1002),
        ("long ping", [vec![0x89, 126, 0, 126], vec![0; 126]].concat(), 1002),
        ("continuation of nothing", vec![0x80, 0], 1002),
        ("close with one byte", vec![0x88, 1, 3], 1002),
        ("close with code 1006", vec![0x88, 2, 3, 0xEE], 1002),
        ("1 GiB", vec![0x82, 127, 0, 0, 0, 0, 0x40, 0, 0, 0], 1009),
        ("no WebSocket at all", b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), 1002),
    ] {
        let script = vec![Step::Upgrade, Step::text("good"), Step::Send(wire), Step::Message, Step::AwaitClose];
        let (gateway, upstream) = gateway(CONFIG, script);
        let mut socket = open(&gateway, REALTIME).await;
        assert_eq!(socket.frame().await, Frame::text("good"));
        assert_eq!(error_code(&socket.frame().await), "upstream_invalid", "{what}");
        assert_eq!(socket.part().await.code(), Some(1011), "{what}");
        settle().await;
        assert_eq!(upstream.messages().last().unwrap().code(), Some(code), "{what}");
        assert_eq!(upstream.closed_at().len(), 1, "{what}");
        let record = only_record(&gateway).await;
        assert_eq!(
            (&record["end"], &record["error_code"]),
            (&json!("upstream_error"), &json!("upstream_invalid")),
            "{what}"
        );
    }
}
