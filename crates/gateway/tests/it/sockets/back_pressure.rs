//! A peer that takes nothing makes the other one wait, within bounds; one that takes nothing for too long is given up.

use std::time::Duration;

use aiproxy_core::time;
use aiproxy_testkit::{Frame, Step};

use super::*;

/// The pipe of each side holds up to 256 KiB, the gateway as much and one read.
const BOUND: usize = 1024 * 1024;

#[tokio::test(start_paused = true)]
async fn an_upstream_waits_for_a_client_that_does_not_read() {
    let flood = Frame::Binary(vec![1; 10_000]).encode(None).repeat(2_000);
    let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Send(flood.clone()), Step::Listen]);
    let mut socket = open(&gateway, REALTIME).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let sent = upstream.sent();
    assert!(sent < BOUND, "{sent} bytes were read of the upstream");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(upstream.sent(), sent, "nothing moves");
    // It begins to read in time, and has lost nothing.
    for _ in 0..2_000 {
        assert_eq!(socket.frame().await, Frame::Binary(vec![1; 10_000]));
    }
    socket.leave().await;
    assert_eq!(only_record(&gateway).await["end"], "complete");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_given_up() {
    let flood = Frame::Binary(vec![1; 10_000]).encode(None).repeat(2_000);
    let config = format!("system: {{timeouts: {{write: 20s}}}}{CONFIG}");
    let (gateway, upstream) = gateway(&config, vec![Step::Upgrade, Step::Send(flood), Step::Listen]);
    let socket = open(&gateway, REALTIME).await;
    let start = time::now();
    tokio::time::sleep(Duration::from_secs(19)).await;
    assert!(upstream.sent() < BOUND, "until then it waits");
    while gateway.gateway().calls_in_flight() > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(start.elapsed() < Duration::from_secs(60), "never given up");
    }
    assert!((20..28).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(upstream.messages().last(), Some(&Frame::close(1001, "")), "the upstream is told");
    assert_eq!(only_record(&gateway).await["end"], "client_closed");
    drop(socket);
}

#[tokio::test(start_paused = true)]
async fn a_client_waits_for_an_upstream_that_does_not_read() {
    let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Wait(Duration::from_secs(30)), Step::Listen]);
    let mut socket = open(&gateway, REALTIME).await;
    let message = Frame::Binary(vec![2; 10_000]);
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_secs(5), socket.send(&message)).await.is_ok() {
        sent += 1;
        assert!(sent * 10_000 < BOUND, "the client never had to wait");
    }
    // It waits for 60 s at most, and the upstream reads after 30.
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(upstream.messages().len() >= sent);
    drop(socket);
    tokio::time::sleep(3 * TWO_SECONDS).await;
    only_record(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_never_reads_is_given_up() {
    let config = format!("system: {{timeouts: {{write: 20s}}}}{CONFIG}");
    let (gateway, _) = gateway(&config, vec![Step::Upgrade, Step::Hang]);
    let mut socket = open(&gateway, REALTIME).await;
    let message = Frame::Binary(vec![2; 10_000]);
    while tokio::time::timeout(Duration::from_secs(1), socket.send(&message)).await.is_ok() {}
    let start = time::now();
    let frames = socket.rest().await;
    assert_eq!(frames.last().and_then(Frame::code), Some(1011), "{frames:?}");
    assert!(start.elapsed() < Duration::from_secs(28), "{:?}", start.elapsed());
    drop(socket);
    settle().await;
    assert_eq!(only_record(&gateway).await["end"], "upstream_error");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_without_end_and_never_reads_is_bounded() {
    // Each ping is answered, but nobody may make the gateway gather pongs: of those that wait too long the last will do.
    let (gateway, _) = gateway(CONFIG, vec![Step::Upgrade, Step::Listen]);
    let mut socket = open(&gateway, REALTIME).await;
    let pings = Frame::Ping(vec![0; 100]).encode(Some([1, 2, 3, 4])).repeat(600);
    let mut sent = 0;
    while sent < 4 * BOUND {
        socket.send_raw(&pings).await;
        sent += pings.len();
    }
    socket.send_raw(&Frame::Ping(b"last".to_vec()).encode(Some([1, 2, 3, 4]))).await;
    let mut gathered = 0;
    loop {
        match socket.frame().await {
            Frame::Pong(payload) if payload == b"last" => break,
            Frame::Pong(payload) => gathered += payload.len(),
            other => panic!("{other:?}"),
        }
    }
    assert!(gathered < BOUND, "{gathered} bytes of pongs waited");
    drop(socket);
    tokio::time::sleep(3 * TWO_SECONDS).await;
    only_record(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn pings_of_the_other_side_are_answered_while_one_side_does_not_read() {
    let flood = Frame::Binary(vec![1; 10_000]).encode(None).repeat(100);
    let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Send(flood), Step::Listen]);
    let mut socket = open(&gateway, REALTIME).await;
    tokio::time::sleep(TWO_SECONDS).await;
    assert!(upstream.sent() < BOUND);
    // The client does not read, but it may still send.
    socket.send_text(r#"{"type":"x"}"#).await;
    for _ in 0..100 {
        assert!(matches!(socket.frame().await, Frame::Binary(_)));
    }
    settle().await;
    assert_eq!(upstream.texts(), [r#"{"type":"x"}"#]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_still_gets_its_pongs_and_its_end() {
    // So much waits that no read of the upstream ends between two frames.
    let flood = Frame::Binary(vec![1; 100_000]).encode(None).repeat(200);
    let (gateway, _) = gateway(CONFIG, vec![Step::Upgrade, Step::Send(flood), Step::Listen]);
    gateway.look_after_sessions();
    let mut socket = open(&gateway, REALTIME).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    socket.ping("there?").await;
    let mut before = 0;
    while !matches!(socket.frame().await, Frame::Pong(_)) {
        before += 1;
    }
    assert!(before < 12, "behind {before} frames of 100 kB");
    gateway.reload(&with("proxy_key: pk-1", "proxy_keys: [{key: pk-1, status: disabled}]"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rest = socket.rest().await;
    assert_eq!(rest.last().and_then(Frame::code), Some(1008));
    assert!(rest.len() < 12, "{} frames came before it", rest.len());
    drop(socket);
    tokio::time::sleep(3 * TWO_SECONDS).await;
    assert_eq!(only_record(&gateway).await["error_code"], "key_disabled");
}
