//! What passes, byte for byte, however it is cut; and what does not pass: pings, pongs, and goodbyes of their own.

use std::time::Duration;

use aiproxy_llm::websocket::Opcode;
use aiproxy_testkit::frame::fragments;
use aiproxy_testkit::{Frame, Step};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// One message in its fragments, with control frames in between.
fn message() -> impl Strategy<Value = Vec<Frame>> {
    let opening = r#"{"type":"input_audio_buffer.append","audio":""#;
    let payload = prop_oneof![
        vec(any::<u8>(), 0..300).prop_map(|bytes| (Opcode::Binary, [&[0], &bytes[..]].concat())),
        // Nothing that begins like JSON and is none: that is not passed on.
        "(x\\PC{0,90})?".prop_map(|text| (Opcode::Text, text.into_bytes())),
        "[a-z]{0,40}".prop_map(move |text| (Opcode::Text, format!("{opening}{text}\"}}").into_bytes())),
        Just((Opcode::Text, br#"{"type":"session.update","session":{"instructions":"be kind"}}"#.to_vec())),
        Just((Opcode::Text, br#"{"session":{"x":[1,{"type":"y"}]},"type":"response.create"}"#.to_vec())),
        (1000_usize..70_000).prop_map(|size| (Opcode::Binary, vec![0xA5; size])),
        (120_usize..130).prop_map(|size| (Opcode::Text, vec![b'x'; size])),
        Just((Opcode::Text, vec![b' '; 66_000])),
    ];
    (payload, vec(0_usize..300, 0..4), any::<bool>(), any::<bool>()).prop_map(|((opcode, bytes), cuts, empty, ping)| {
        let mut frames = fragments(opcode, &bytes, &cuts);
        if empty && frames.len() > 1 {
            frames.insert(1, Frame::Fragment { opcode: Opcode::Continuation, is_last: false, payload: Vec::new() });
        }
        if ping {
            frames.insert(frames.len() / 2, Frame::Ping(vec![7; bytes.len() % 126]));
            frames.push(Frame::Pong(b"unasked".to_vec()));
        }
        frames
    })
}

fn is_control(frame: &Frame) -> bool {
    matches!(frame, Frame::Ping(_) | Frame::Pong(_) | Frame::Close(_))
}

/// A fragment that is a whole message comes back as what it is.
fn as_read(frame: &Frame) -> Frame {
    match frame.clone() {
        Frame::Fragment { opcode: Opcode::Text, is_last: true, payload } => {
            Frame::Text(String::from_utf8(payload).unwrap())
        }
        Frame::Fragment { opcode: Opcode::Binary, is_last: true, payload } => Frame::Binary(payload),
        frame => frame,
    }
}

/// Everything a client sends arrives as it was sent; everything is sent back, and arrives as it was sent.
async fn passes_both_ways(path: &str, messages: &[Vec<Frame>], sizes: &[usize]) {
    let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Echo]);
    let mut socket = open(&gateway, path).await;
    let frames: Vec<&Frame> = messages.iter().flatten().collect();
    let (mut sent, mut wire, mut back) = (Vec::new(), Vec::new(), Vec::new());
    for frame in &frames {
        let mask = socket.mask();
        let bytes = frame.encode(Some(mask));
        sent.extend_from_slice(&bytes);
        if !is_control(frame) {
            wire.extend_from_slice(&bytes);
            back.extend_from_slice(&frame.encode(None));
        }
    }
    let expected: Vec<Frame> = frames.iter().filter(|frame| !is_control(frame)).map(|frame| as_read(frame)).collect();
    let pings: Vec<Vec<u8>> = frames
        .iter()
        .filter_map(|frame| if let Frame::Ping(payload) = frame { Some(payload.clone()) } else { None })
        .collect();
    let (mut came, mut pongs) = (Vec::new(), Vec::new());
    // Byte by byte only what is not large.
    let sizes: Vec<usize> = sizes.iter().map(|size| (*size).max(sent.len() / 3_000)).collect();
    for chunk in sent.chunks(20_000) {
        // Smaller than what fits into the pipes: nobody reads meanwhile.
        socket.send_split(chunk, &sizes).await;
        while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_millis(1), socket.next()).await {
            if let Frame::Pong(payload) = frame { pongs.push(payload) } else { came.push(frame) }
        }
    }
    assert_eq!(upstream.message_bytes(), wire, "byte for byte, masks included");
    assert_eq!(came, expected);
    assert_eq!(socket.wire().len(), back.len() + pings.iter().map(|ping| ping.len() + 2).sum::<usize>());
    assert_eq!(pongs, pings);
    socket.leave().await;
    let record = only_record(&gateway).await;
    assert_eq!(record["end"], "complete");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_arrive_as_they_were_sent_however_they_are_cut(
        messages in vec(message(), 1..6),
        sizes in vec(prop_oneof![1_usize..4, 1_usize..200, 1000_usize..9000], 1..6),
        path in prop_oneof![Just(REALTIME), Just(UNREAD), Just("/v1/responses"), Just(SPEECH), Just(LIVE)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(passes_both_ways(path, &messages, &sizes));
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_upstream_sends_arrives_as_it_was_sent_however_it_is_cut() {
    let frames = |large: usize| {
        [
            Frame::text("{\"type\":\"session.created\"}"),
            Frame::Fragment { opcode: Opcode::Text, is_last: false, payload: b"{\"type\":\"response.output".to_vec() },
            Frame::Fragment {
                opcode: Opcode::Continuation,
                is_last: false,
                payload: "_text.delta\",\"delta\":\"\u{20AC}".as_bytes()[..23].to_vec(),
            },
            Frame::Fragment { opcode: Opcode::Continuation, is_last: false, payload: Vec::new() },
            Frame::Fragment { opcode: Opcode::Continuation, is_last: true, payload: b"\x82\xAC\"}".to_vec() },
            Frame::Binary(vec![0; 126]),
            Frame::Binary(Vec::new()),
            Frame::text("x".repeat(large)),
            Frame::text(""),
        ]
    };
    let mut random = fastrand::Rng::with_seed(3);
    for (largest, large) in [(1, 300), (2, 300), (7, 300), (1_000, 70_000), (100_000, 70_000)] {
        let frames = frames(large);
        let wire: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(None)).collect();
        let mut script = vec![Step::Upgrade];
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(random.usize(1..=largest).min(rest.len()));
            script.extend([Step::Send(piece.to_vec()), Step::Wait(Duration::from_micros(1))]);
            rest = behind;
        }
        script.push(Step::Listen);
        let (gateway, _) = gateway(CONFIG, script);
        let mut socket = open(&gateway, REALTIME).await;
        let mut came = Vec::new();
        while came.len() < frames.len() {
            came.push(socket.frame().await);
        }
        assert_eq!(came, frames);
        assert_eq!(socket.wire(), wire, "byte for byte, cut into pieces of up to {largest}");
        socket.leave().await;
        only_record(&gateway).await;
    }
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_on_each_leg_and_pass_on_neither() {
    let script =
        vec![Step::Upgrade, Step::ping("from upstream"), Step::Message, Step::ping(""), Step::Message, Step::Echo];
    let (gateway, upstream) = gateway(CONFIG, script);
    let mut socket = open(&gateway, REALTIME).await;
    settle().await;
    assert_eq!(upstream.messages(), [Frame::Pong(b"from upstream".to_vec()), Frame::Pong(Vec::new())]);
    socket.ping("from client").await;
    assert_eq!(socket.frame().await, Frame::Pong(b"from client".to_vec()));
    socket.send(&Frame::Pong(b"unasked".to_vec())).await;
    socket.send_text("a").await;
    assert_eq!(socket.frame().await, Frame::text("a"), "no pong came, and no ping");
    socket.leave().await;
    assert_eq!(upstream.messages()[2..], [Frame::text("a"), Frame::close(1000, "")]);
}

#[tokio::test(start_paused = true)]
async fn a_ping_inside_of_a_message_is_answered_at_once_but_never_inside_of_a_frame() {
    let (gateway, upstream) = gateway(
        CONFIG,
        vec![
            Step::Upgrade,
            Step::Wait(TWO_SECONDS),
            Step::Send(vec![0x82, 4, 1, 2]),
            Step::Wait(TWO_SECONDS),
            Step::Send(vec![3, 4]),
            Step::Listen,
        ],
    );
    let mut socket = open(&gateway, REALTIME).await;
    socket.send_fragment(Opcode::Text, false, b"a").await;
    socket.ping("1").await;
    assert_eq!(socket.frame().await, Frame::Pong(b"1".to_vec()), "between the fragments of its own message");
    // The upstream has begun a frame, and goes on only later.
    tokio::time::sleep(TWO_SECONDS + Duration::from_millis(1)).await;
    socket.ping("2").await;
    socket.ping("3").await;
    assert!(socket.is_quiet_for(Duration::from_secs(1)).await, "half a frame");
    assert_eq!(socket.frame().await, Frame::Binary(vec![1, 2, 3, 4]));
    assert_eq!(
        socket.frame().await,
        Frame::Pong(b"3".to_vec()),
        "of pings that wait only the last is answered (RFC 6455 §5.5.3)"
    );
    socket.send_fragment(Opcode::Continuation, true, b"b").await;
    socket.leave().await;
    assert_eq!(upstream.messages().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn pings_of_an_upstream_are_answered_while_a_message_is_held_or_follows_one_that_was_cut() {
    // The end of a message that passes, and in the same bytes the beginning of one that is held.
    let script = vec![Step::Upgrade, Step::Message, Step::ping("now"), Step::Message, Step::Listen];
    let (gateway, upstream) = gateway(CONFIG, script);
    let mut socket = open(&gateway, REALTIME).await;
    let passing = Frame::text(r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#).encode(Some([1, 2, 3, 4]));
    let held = Frame::text(r#"{"type":"session.update","session":{}}"#).encode(Some([5, 6, 7, 8]));
    let (first, second) = passing.split_at(passing.len() - 5);
    socket.send_raw(first).await;
    settle().await;
    socket.send_raw([second, &held[..30]].concat()).await;
    settle().await;
    assert_eq!(upstream.messages().get(1), Some(&Frame::Pong(b"now".to_vec())), "{:?}", upstream.messages());
    socket.send_raw(&held[30..]).await;
    socket.leave().await;
    assert_eq!(upstream.texts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn large_messages_pass_whole_in_both_directions() {
    let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Echo]);
    let mut socket = open(&gateway, REALTIME).await;
    let audio = format!(r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#, "A".repeat(5 << 20));
    for frame in [Frame::Text(audio), Frame::Binary(vec![9; 3 << 20])] {
        socket.send(&frame).await;
        assert_eq!(socket.frame().await, frame);
    }
    socket.leave().await;
    assert_eq!(upstream.messages().len(), 3);
    let record = only_record(&gateway).await;
    assert!(record["request_bytes"].as_u64().unwrap() > 8 << 20, "{record}");
    assert!(record["response_bytes"].as_u64().unwrap() > 8 << 20, "{record}");
}
