//! A socket as one stream of an HTTP/2 connection (RFC 8441), beside other calls on it. The client is a few frames by
//! hand: all that is needed of HTTP/2.

use std::collections::VecDeque;

use aiproxy_testkit::{Client, Frame, Step, TestGateway, Upstream};
use tokio::io::AsyncReadExt;

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3).
const ENABLE_CONNECT: [u8; 6] = [0, 8, 0, 0, 0, 1];

/// A connection.
struct Http2 {
    client: Client,
    waiting: VecDeque<(u8, u8, u32, Vec<u8>)>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Literals without indexing (RFC 7541 §6.2.2).
fn header_block(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in pairs {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

impl Http2 {
    /// Connects; the settings that the gateway sends first.
    async fn connect(gateway: &TestGateway) -> (Self, Vec<u8>) {
        let mut client = gateway.connect();
        client.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat()).await;
        let mut connection = Self { client, waiting: VecDeque::new() };
        let (kind, _, _, settings) = connection.next().await;
        assert_eq!(kind, SETTINGS);
        connection.client.send(frame(SETTINGS, ACK, 0, &[])).await;
        (connection, settings)
    }

    async fn next(&mut self) -> (u8, u8, u32, Vec<u8>) {
        if let Some(waiting) = self.waiting.pop_front() {
            return waiting;
        }
        let mut head = [0; 9];
        self.client.0.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.client.0.read_exact(&mut payload).await.unwrap();
        (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
    }

    /// The next frame of this stream that is of this kind; pings are answered.
    async fn expect(&mut self, wanted: u8, stream: u32) -> (u8, Vec<u8>) {
        loop {
            let (kind, flags, of, payload) = self.next().await;
            if kind == PING && flags & ACK == 0 {
                self.client.send(frame(PING, ACK, 0, &payload)).await;
            }
            if (kind, of) == (wanted, stream) {
                return (flags, payload);
            }
            assert!(of != stream || kind == 8, "{kind} on {stream}: {payload:?}");
        }
    }

    async fn ask(&mut self, stream: u32, flags: u8, pairs: &[(&str, &str)]) {
        self.client.send(frame(HEADERS, END_HEADERS | flags, stream, &header_block(pairs))).await;
    }

    async fn connect_socket(&mut self, stream: u32, more: &[(&str, &str)]) {
        let pairs = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", "gateway"),
            (":path", REALTIME),
            ("authorization", "Bearer pk-1"),
        ];
        self.ask(stream, 0, &[&pairs[..], more].concat()).await;
    }

    async fn send(&mut self, stream: u32, bytes: &[u8]) {
        self.client.send(frame(DATA, 0, stream, bytes)).await;
    }
}

/// `:status: 200` in HPACK's static table; all others that are asked for here are literals.
const OK: u8 = 0x88;

#[tokio::test(start_paused = true)]
async fn a_socket_opens_in_a_stream_and_passes_frames() {
    let upstream =
        Upstream::new([vec![Step::UpgradeAs("realtime"), Step::Echo], vec![Step::Request, Step::json(200, "{}")]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let (mut connection, settings) = Http2::connect(&gateway).await;
    assert!(settings.chunks(6).any(|setting| setting == ENABLE_CONNECT), "{settings:?}");
    connection.connect_socket(1, &[("sec-websocket-version", "13"), ("sec-websocket-protocol", "realtime")]).await;
    let (flags, block) = connection.expect(HEADERS, 1).await;
    assert_eq!((flags & END_STREAM, block[0]), (0, OK), "{block:?}");
    let request = upstream.requests().pop().unwrap();
    assert!(request.starts_with("GET /v1/realtime?model=m HTTP/1.1\r\nhost: up.test\r\n"), "{request}");
    assert!(request.contains("\r\nupgrade: websocket\r\n") && request.contains("\r\nsec-websocket-key: "), "{request}");

    let hello = Frame::text("hello");
    connection.send(1, &hello.encode(Some([1, 2, 3, 4]))).await;
    assert_eq!(connection.expect(DATA, 1).await.1, hello.encode(None));
    // Another call on the same connection meanwhile.
    let pairs =
        [(":method", "GET"), (":scheme", "https"), (":authority", "g"), (":path", "/v1/x"), ("x-api-key", "pk-1")];
    connection.ask(3, END_STREAM, &pairs).await;
    assert_eq!(connection.expect(HEADERS, 3).await.1[0], OK);
    assert_eq!(gateway.gateway().open_sockets(), 1);

    let close = Frame::close(1000, "");
    connection.send(1, &close.encode(Some([1, 2, 3, 4]))).await;
    let (mut flags, mut bytes) = connection.expect(DATA, 1).await;
    while flags & END_STREAM == 0 {
        let (more_flags, more) = connection.expect(DATA, 1).await;
        (flags, bytes) = (more_flags, [bytes, more].concat());
    }
    assert_eq!(bytes, close.encode(None));
    settle().await;
    nothing_is_left(&gateway);
    let records = gateway.records().await;
    let socket = records.iter().find(|record| record["protocol"] == "websocket").unwrap();
    assert_eq!(
        (records.len(), &socket["status"], &socket["end"], &socket["method"]),
        (2, &json!(101), &json!("complete"), &json!("GET"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_socket_in_a_stream_is_refused_like_any_call() {
    let upstream = Upstream::new([]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let (mut connection, _) = Http2::connect(&gateway).await;
    connection.connect_socket(1, &[]).await;
    let (_, block) = connection.expect(HEADERS, 1).await;
    assert_ne!(block[0], OK, "without a version");
    let body = connection.expect(DATA, 1).await.1;
    assert!(String::from_utf8_lossy(&body).contains("Sec-WebSocket-Version"));
    connection.connect_socket(3, &[("sec-websocket-version", "13")]).await;
    assert_ne!(connection.expect(HEADERS, 3).await.1[0], OK, "nobody is there");
    settle().await;
    let codes: Vec<Value> = gateway.records().await.iter().map(|record| record["error_code"].clone()).collect();
    assert_eq!(codes, ["invalid_request", "upstream_unreachable"]);
    nothing_is_left(&gateway);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_idle_once_its_last_socket_has_ended_and_not_before() {
    let upstream = Upstream::new([vec![Step::Upgrade, Step::Echo]]);
    let gateway = TestGateway::new(&format!("system: {{timeouts: {{keep_alive: 10s}}}}{CONFIG}"), &upstream);
    let (mut connection, _) = Http2::connect(&gateway).await;
    connection.connect_socket(1, &[("sec-websocket-version", "13")]).await;
    assert_eq!(connection.expect(HEADERS, 1).await.1[0], OK);
    tokio::time::sleep(Duration::from_secs(25)).await;
    let hello = Frame::text("still here");
    connection.send(1, &hello.encode(Some([1, 2, 3, 4]))).await;
    assert_eq!(connection.expect(DATA, 1).await.1, hello.encode(None));
    connection.send(1, &Frame::close(1000, "").encode(Some([1, 2, 3, 4]))).await;
    while connection.expect(DATA, 1).await.0 & END_STREAM == 0 {}
    let ended = tokio::time::timeout(Duration::from_secs(15), connection.client.read_to_end()).await;
    assert!(ended.is_ok(), "nobody says anything on it any more");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_ends_the_sockets_in_its_streams() {
    let echo = vec![Step::Upgrade, Step::Echo];
    let upstream = Upstream::new([echo.clone(), echo]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let (mut connection, _) = Http2::connect(&gateway).await;
    for stream in [1, 3] {
        connection.connect_socket(stream, &[("sec-websocket-version", "13")]).await;
        assert_eq!(connection.expect(HEADERS, stream).await.1[0], OK);
    }
    assert_eq!(gateway.gateway().open_sockets(), 2);
    drop(connection);
    tokio::time::sleep(3 * TWO_SECONDS).await;
    nothing_is_left(&gateway);
    assert!(gateway.records().await.iter().all(|record| record["end"] == "client_closed"));
    assert_eq!(upstream.messages(), [Frame::close(1001, ""), Frame::close(1001, "")]);
}
