//! All ways in which a socket ends by itself: who says goodbye, who just leaves, and what the other one is told.

use std::time::Duration;

use aiproxy_llm::websocket::Opcode;
use aiproxy_testkit::{Frame, Step};

use super::*;

#[tokio::test(start_paused = true)]
async fn code_and_reason_of_a_goodbye_go_to_the_other_side_and_back() {
    for close in
        [Some((1000, "")), Some((1001, "going \u{20AC}")), Some((3000, "x")), Some((4999, &*"r".repeat(123))), None]
    {
        let close = Frame::Close(close.map(|(code, reason)| (code, reason.into())));
        let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Listen]);
        let mut socket = open(&gateway, REALTIME).await;
        socket.send(&close).await;
        let answer = socket.rest().await;
        settle().await;
        assert_eq!((&answer, upstream.messages()), (&vec![close], answer.clone()), "and then the connection is closed");
        drop(socket);
        assert_eq!(only_record(&gateway).await["end"], "complete");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstreams_goodbye_is_the_clients() {
    for (code, end) in [(1000, "complete"), (1001, "complete"), (1011, "upstream_error"), (4000, "upstream_error")] {
        let close = Frame::close(code, "session_expired");
        let (gateway, upstream) =
            gateway(CONFIG, vec![Step::Upgrade, Step::frame(&close), Step::Message, Step::AwaitClose]);
        let socket = open(&gateway, REALTIME).await;
        assert_eq!(socket.part().await, close);
        settle().await;
        assert_eq!(upstream.messages(), [close], "its answer");
        assert_eq!(upstream.closed_at().len(), 1);
        let record = only_record(&gateway).await;
        assert_eq!((&record["end"], &record["error_code"]), (&json!(end), &json!(null)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_without_a_code_stays_without_one() {
    let (gateway, upstream) =
        gateway(CONFIG, vec![Step::Upgrade, Step::frame(&Frame::Close(None)), Step::Message, Step::AwaitClose]);
    let socket = open(&gateway, REALTIME).await;
    assert_eq!(socket.part().await, Frame::Close(None));
    settle().await;
    assert_eq!(upstream.messages(), [Frame::Close(None)]);
    assert_eq!(only_record(&gateway).await["end"], "complete");
}

#[tokio::test(start_paused = true)]
async fn both_may_say_goodbye_at_once() {
    let (gateway, upstream) = gateway(
        CONFIG,
        vec![
            Step::Upgrade,
            Step::Wait(Duration::from_millis(10)),
            Step::close(1001, "a"),
            Step::Message,
            Step::AwaitClose,
        ],
    );
    let mut socket = open(&gateway, REALTIME).await;
    tokio::time::sleep(Duration::from_millis(9)).await;
    socket.close(1000, "b").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let rest = socket.rest().await;
    assert!(matches!(&rest[..], [Frame::Close(Some((1000 | 1001, _)))]), "{rest:?}");
    drop(socket);
    settle().await;
    assert_eq!(upstream.messages().len(), 1);
    only_record(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_just_leaves_is_said_for_and_recorded() {
    for half in [false, true] {
        let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Listen]);
        let mut socket = open(&gateway, REALTIME).await;
        if half {
            let wire = Frame::text(r#"{"type":"x"}"#).encode(Some([1, 2, 3, 4]));
            socket.send_raw(&wire[..wire.len() - 1]).await;
            settle().await;
        }
        drop(socket);
        tokio::time::sleep(TWO_SECONDS).await;
        let expected = if half { vec![] } else { vec![Frame::close(1001, "")] };
        assert_eq!(upstream.messages(), expected, "nothing can be said inside of a frame");
        assert_eq!(only_record(&gateway).await["end"], "client_closed");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_breaks_off_is_told_of_and_recorded() {
    for last in [Step::Wait(Duration::ZERO), Step::Reset] {
        let script = vec![Step::Upgrade, created("r1"), done("r1", 5, 2), last];
        let (gateway, _) = gateway(CONFIG, script);
        let mut socket = open(&gateway, REALTIME).await;
        for _ in 0..2 {
            socket.frame().await;
        }
        assert_eq!(error_code(&socket.frame().await), "upstream_invalid");
        let close = socket.part().await;
        assert_eq!(close.code(), Some(1011));
        let record = only_record(&gateway).await;
        assert_eq!((&record["end"], &record["error_code"]), (&json!("upstream_error"), &json!("upstream_invalid")));
        assert_eq!(record["usage"]["input"], 5, "what it told counts");
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_dialect_has_no_error_message_the_close_frame_says_it_all() {
    let (gateway, _) = gateway(CONFIG, vec![Step::Upgrade]);
    let socket = open(&gateway, LIVE).await;
    let close = socket.part().await;
    assert!(matches!(&close, Frame::Close(Some((1011, reason))) if !reason.is_empty()), "{close:?}");
    only_record(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_breaks_off_inside_of_a_frame_or_message_leaves_no_broken_one() {
    // Inside of a frame nothing can be said any more; between fragments a goodbye can.
    let inside = vec![Step::Upgrade, Step::Send(vec![0x82, 9, 1, 2, 3])];
    let (gateway, _) = gateway(CONFIG, inside);
    let mut socket = open(&gateway, REALTIME).await;
    let start = tokio::time::Instant::now();
    assert_eq!(socket.next().await, None);
    assert!(
        start.elapsed() < TWO_SECONDS,
        "nobody waits for the rest of a frame that cannot come: {:?}",
        start.elapsed()
    );
    assert_eq!(socket.wire(), [0x82, 9, 1, 2, 3], "what came was passed on");
    drop(socket);
    assert_eq!(only_record(&gateway).await["end"], "upstream_error");

    let fragment = Frame::Fragment { opcode: Opcode::Text, is_last: false, payload: b"abc".to_vec() };
    let (gateway, _) = super::gateway(CONFIG, vec![Step::Upgrade, Step::frame(&fragment)]);
    let mut socket = open(&gateway, REALTIME).await;
    assert_eq!(socket.frame().await, fragment);
    assert_eq!(socket.part().await.code(), Some(1011), "no text of ours in the middle of theirs");
    assert_eq!(only_record(&gateway).await["end"], "upstream_error");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_a_goodbye_is_left() {
    // The client never does.
    let (gateway, upstream) =
        gateway(CONFIG, vec![Step::Upgrade, Step::close(1000, ""), Step::Message, Step::AwaitClose]);
    let mut socket = open(&gateway, REALTIME).await;
    assert_eq!(socket.frame().await, Frame::close(1000, ""));
    let start = tokio::time::Instant::now();
    assert_eq!(socket.next().await, None);
    assert!((4..=6).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(only_record(&gateway).await["end"], "complete");
    assert_eq!(upstream.closed_at().len(), 1);

    // The upstream never does.
    let (gateway, upstream) = super::gateway(CONFIG, vec![Step::Upgrade, Step::Message, Step::AwaitClose]);
    let mut socket = open(&gateway, REALTIME).await;
    let start = tokio::time::Instant::now();
    socket.close(1000, "").await;
    let rest = socket.rest().await;
    assert!(matches!(rest[..], [Frame::Close(Some((1000, _)))]), "{rest:?}");
    assert!((4..=6).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    drop(socket);
    assert_eq!(only_record(&gateway).await["end"], "complete");
    assert_eq!(upstream.closed_at().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_still_delivered_before_the_goodbye() {
    let texts: Vec<String> = (0..2_000).map(|number| format!("{number:0300}")).collect();
    let mut script = vec![Step::Upgrade];
    script.extend(texts.iter().map(Step::text));
    script.extend([Step::close(1000, "done"), Step::Message, Step::AwaitClose]);
    let (gateway, _) = gateway(CONFIG, script);
    let mut socket = open(&gateway, REALTIME).await;
    // It begins to read late: most of it waits in the gateway and in the pipes.
    tokio::time::sleep(TWO_SECONDS).await;
    for text in &texts {
        assert_eq!(socket.frame().await.as_text(), text);
    }
    assert_eq!(socket.part().await, Frame::close(1000, "done"));
    assert_eq!(only_record(&gateway).await["end"], "complete");
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_delivered_although_it_is_read_slowly() {
    for goes in [vec![Step::close(1000, "done"), Step::Message, Step::AwaitClose], vec![]] {
        let message = Frame::Binary(vec![5; 10_000]);
        let mut script = vec![Step::Upgrade, Step::Send(message.encode(None).repeat(30))];
        script.extend(goes.clone());
        let (gateway, _) = gateway(CONFIG, script);
        let mut socket = open(&gateway, LIVE).await;
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(socket.frame().await, message);
        }
        let code = if goes.is_empty() { 1011 } else { 1000 };
        assert_eq!(socket.part().await.code(), Some(code));
        settle().await;
        nothing_is_left(&gateway);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_process_cuts_at_its_end_is_recorded_as_that() {
    let (gateway, _) = gateway(CONFIG, vec![Step::Upgrade, Step::Listen]);
    let socket = open(&gateway, REALTIME).await;
    gateway.gateway().cut_off();
    drop(socket);
    tokio::time::sleep(TWO_SECONDS).await;
    assert_eq!(only_record(&gateway).await["end"], "shutdown");
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_behind_a_goodbye() {
    let both = [Frame::close(1000, "").encode(None), Frame::text("late").encode(None)].concat();
    let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Send(both), Step::Message, Step::AwaitClose]);
    let socket = open(&gateway, REALTIME).await;
    socket.part().await;
    assert_eq!(upstream.messages(), [Frame::close(1000, "")]);

    let (gateway, upstream) = super::gateway(CONFIG, vec![Step::Upgrade, Step::Listen]);
    let mut socket = open(&gateway, REALTIME).await;
    let late = Frame::text(r#"{"type":"x"}"#).encode(Some([1, 2, 3, 4]));
    socket.send_raw([Frame::close(1000, "").encode(Some([0; 4])), late.clone()].concat()).await;
    socket.send_raw(late).await;
    assert_eq!(socket.rest().await, [Frame::close(1000, "")]);
    settle().await;
    assert_eq!(upstream.messages(), [Frame::close(1000, "")]);
    drop(socket);
    only_record(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_leaves_while_the_goodbye_is_exchanged_does_no_harm() {
    // The client's goodbye is on its way: the answer is missing, the client gets one.
    let (gateway, _) = gateway(CONFIG, vec![Step::Upgrade, Step::Message]);
    let mut socket = open(&gateway, REALTIME).await;
    socket.close(3001, "bye").await;
    let rest = socket.rest().await;
    assert!(matches!(rest[..], [Frame::Close(Some((1000 | 3001, _)))]), "{rest:?}");
    drop(socket);
    let record = only_record(&gateway).await;
    assert_eq!((&record["end"], &record["error_code"]), (&json!("complete"), &json!(null)));
}
