//! Clients that are broken, slow or hostile: a clear error, and nothing else breaks.

use std::time::Duration;

use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::CONFIG;

/// The refusal of raw bytes that never become a call, or are refused as one.
async fn refused(request: impl AsRef<[u8]>) -> (u16, String) {
    let upstream = Upstream::new([vec![Step::Request, Step::json(200, "{}")]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let mut client = gateway.connect();
    client.send(request).await;
    let reply = client.reply().await;
    assert!(reply.header("x-request-id").is_some(), "{}", reply.head);
    assert_eq!(gateway.call(&get("/v1/x", "pk-1")).await.status, 200, "others are served as ever");
    (reply.status, reply.json()["error"]["code"].as_str().unwrap().to_string())
}

#[tokio::test(start_paused = true)]
async fn smuggling_forms_are_refused() {
    let key = "host: g\r\nauthorization: Bearer pk-1\r\n";
    for request in [
        format!("POST /x HTTP/1.1\r\n{key}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST /x HTTP/1.1\r\n{key}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"),
        format!("POST /x HTTP/1.1\r\n{key}content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
        format!("POST /x HTTP/1.1\r\n{key}content-length: 5\r\ncontent-length: 5\r\n\r\nhello"),
        format!("POST /x HTTP/1.1\r\n{key}content-length: +5\r\n\r\nhello"),
        format!("POST /x HTTP/1.1\r\n{key}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\n{key}x-folded: a\r\n b\r\n\r\n"),
        format!("GET /x HTTP/1.1\nhost: g\n{}\n", "authorization: Bearer pk-1\n"),
        format!("GET /x HTTP/1.1\r\n{key}x: a\nb: c\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\n{key}bad header: a\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\n{key}x : a\r\n\r\n"),
        format!("GET /\u{0} HTTP/1.1\r\n{key}\r\n"),
        "complete nonsense\r\n\r\n".to_string(),
        "GET /x HTTP/9.9\r\n\r\n".to_string(),
    ] {
        assert_eq!(refused(&request).await, (400, "invalid_request".into()), "{request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn heads_that_are_too_large_are_a_431() {
    let long = format!("GET /x HTTP/1.1\r\nhost: g\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    assert_eq!(refused(long).await, (431, "headers_too_large".into()));
    let many = format!("GET /x HTTP/1.1\r\nhost: g\r\n{}\r\n", "x: y\r\n".repeat(200));
    assert_eq!(refused(many).await, (431, "headers_too_large".into()));
}

#[tokio::test(start_paused = true)]
async fn invalid_utf8_in_a_key_or_header_is_no_key_and_no_crash() {
    let request = [b"GET /x HTTP/1.1\r\nhost: g\r\nauthorization: Bearer \xff\xfe\r\n\r\n".as_slice()].concat();
    assert_eq!(refused(request).await, (401, "invalid_credential".into()));
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_a_413_declared_or_not() {
    let config = format!("{CONFIG}\nsystem: {{body_limit: 1000}}\n");
    for (path, framing, body) in [
        ("/v1/chat/completions", "content-length: 2000", "x".repeat(2000)),
        ("/v1/chat/completions", "transfer-encoding: chunked", format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000))),
        ("/v1/upload", "transfer-encoding: chunked", format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000))),
    ] {
        let gateway = TestGateway::new(&config, &Upstream::new([vec![Step::Head, Step::AwaitClose]]));
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer pk-1\r\n{framing}\r\n\r\n{body}");
        let reply = gateway.call(&request).await;
        assert_eq!(
            (reply.status, reply.json()["error"]["code"].as_str()),
            (413, Some("body_too_large")),
            "{path} {framing}"
        );
        assert_eq!(gateway.record().await["error_code"], "body_too_large");
    }
}

#[tokio::test(start_paused = true)]
async fn headers_that_come_too_slowly_are_a_408() {
    let gateway = TestGateway::new(CONFIG, &Upstream::new([]));
    let mut client = gateway.connect();
    let start = tokio::time::Instant::now();
    client.send("GET /x HTTP/1.1\r\nhost: g\r\nx-slow: ").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (408, Some("request_timeout")));
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(client.read_to_end().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_does_not_extend_the_deadline_of_a_head() {
    let gateway = TestGateway::new(CONFIG, &Upstream::new([]));
    let mut client = gateway.connect();
    let start = tokio::time::Instant::now();
    client.send("GET /x HTTP/1.1\r\nx: ").await;
    for _ in 0..30 {
        client.send("y").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(client.reply().await.status, 408);
    assert!(start.elapsed().as_secs() <= 31);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_a_408() {
    let upstream = Upstream::new([]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let mut client = gateway.connect();
    let start = tokio::time::Instant::now();
    client.send(post("/v1/chat/completions", "pk-1", "{}").replace("content-length: 2", "content-length: 20")).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (408, Some("request_timeout")));
    assert_eq!(start.elapsed().as_secs(), 60);
    let record = gateway.record().await;
    assert_eq!((&record["end"], &record["request_bytes"]), (&"timeout".into(), &2.into()));
    assert!(upstream.dials().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_without_a_word() {
    let gateway = TestGateway::new(CONFIG, &Upstream::new([vec![Step::Request, Step::json(200, "{}")]]));
    let mut client = gateway.connect();
    assert_eq!(client.call(&get("/v1/x", "pk-1")).await.status, 200);
    let start = tokio::time::Instant::now();
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(start.elapsed().as_secs(), 75);
    let mut silent = gateway.connect();
    let start = tokio::time::Instant::now();
    assert_eq!(silent.read_to_end().await, "");
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut() {
    let big = format!("HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n{}", "x".repeat(10_000_000));
    let gateway = TestGateway::new(CONFIG, &Upstream::new([vec![Step::Request, Step::send(big)]]));
    let mut client = gateway.connect();
    client.send(get("/v1/x", "pk-1")).await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    let record = gateway.record().await;
    assert_eq!(record["end"], "client_closed");
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::new([vec![Step::Request, Step::json(200, "1"), Step::Request, Step::json(200, "2")]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let mut client = gateway.connect();
    client.send([get("/v1/a", "pk-1"), get("/v1/b", "pk-1")].concat()).await;
    assert_eq!((client.reply().await.text(), client.reply().await.text()), ("1".into(), "2".into()));
}

#[tokio::test(start_paused = true)]
async fn the_gateway_is_no_forward_proxy() {
    for request in ["CONNECT up.test:443 HTTP/1.1\r\nhost: up.test\r\n\r\n", "OPTIONS * HTTP/1.1\r\nhost: g\r\n\r\n"] {
        assert_eq!(refused(request).await, (400, "invalid_request".into()), "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_to_something_unknown_is_an_ordinary_call_and_half_a_handshake_is_refused_clearly() {
    let upstream = Upstream::new([vec![Step::Request, Step::json(200, "{}")]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let h2c = get("/v1/x", "pk-1").replace("host: gateway", "host: g\r\nconnection: upgrade\r\nupgrade: h2c");
    assert_eq!(gateway.call(&h2c).await.status, 200);
    assert!(!upstream.requests()[0].contains("upgrade"));
    let websocket =
        get("/v1/realtime", "pk-1").replace("host: gateway", "host: g\r\nconnection: Upgrade\r\nupgrade: websocket");
    let reply = gateway.call(&websocket).await;
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (426, Some("invalid_request")));
}

#[tokio::test(start_paused = true)]
async fn a_pipelined_head_is_judged_like_any_other() {
    let slow = vec![Step::Request, Step::Wait(Duration::from_secs(1)), Step::json(200, "1")];
    let gateway = TestGateway::new(CONFIG, &Upstream::new([slow]));
    let mut client = gateway.connect();
    client.send(get("/v1/a", "pk-1")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.send("GET /v1/b HTTP/1.1\nhost: g\n\n").await;
    assert_eq!(client.reply().await.text(), "1");
    assert_eq!(client.reply().await.status, 400);
}
