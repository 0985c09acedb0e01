//! Over real sockets on the loopback interface, with a handshake written by hand.

use std::net::SocketAddr;
use std::time::Duration;

use aiproxy_core::tasks::Tasks;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::Options;
use crate::testing::KEY;

const BEARER: &str = "authorization: Bearer sk-test";
const PATIENCE: Duration = Duration::from_secs(20);

/// An upstream that serves.
struct Upstream {
    address: SocketAddr,
    tasks: Tasks,
    stop: Option<oneshot::Sender<()>>,
}

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let tasks = Tasks::new();
        tasks.spawn(crate::serve(listener, Options { api_key: KEY.to_owned(), pace: Duration::ZERO }, stopped));
        Self { address, tasks, stop: Some(stop) }
    }

    async fn stop(&mut self) -> bool {
        self.stop.take().unwrap().send(()).unwrap();
        self.tasks.stop();
        self.tasks.finished_within(PATIENCE).await
    }

    /// Sends a handshake with exactly these headers beside the necessary ones; the head and body of the answer.
    async fn ask(&self, path: &str, headers: &[&str]) -> (TcpStream, String) {
        let needed = [
            "connection: keep-alive, Upgrade",
            "upgrade: WebSocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            "host: demo",
        ];
        let given = |needed: &&&str| {
            let name = needed.split(':').next().unwrap();
            !headers.iter().any(|header| header.split(':').next() == Some(name))
        };
        let lines: Vec<&str> = needed.iter().filter(given).chain(headers).copied().collect();
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        // Byte by byte, so that nothing of the first frame is taken.
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        (stream, head + std::str::from_utf8(&body).unwrap())
    }

    async fn open(&self, path: &str, headers: &[&str]) -> Client {
        let (stream, head) = self.ask(path, headers).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        let config = WebSocketConfig::default().max_frame_size(None);
        Client(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await)
    }

    /// The status of a refused handshake and the code within its body.
    async fn refused(&self, path: &str, headers: &[&str]) -> (u16, Value) {
        let (_, answer) = self.ask(path, headers).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        let code = [&body["error"]["code"], &body["code"]].into_iter().find(|code| !code.is_null());
        (head[9..12].parse().unwrap(), code.cloned().unwrap_or_default())
    }
}

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).await.unwrap();
    }

    async fn say(&mut self, event: Value) {
        self.send(event.to_string()).await;
    }

    async fn next(&mut self) -> Option<Result<Message, Error>> {
        tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap()
    }

    async fn message(&mut self) -> Message {
        self.next().await.unwrap().unwrap()
    }

    /// The JSON of the next message that has some.
    async fn event(&mut self) -> Value {
        loop {
            match self.message().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Binary(bytes) if bytes.starts_with(b"{") => return serde_json::from_slice(&bytes).unwrap(),
                Message::Binary(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads on until an event has `value` at `pointer`.
    async fn until(&mut self, pointer: &str, value: &str) -> Value {
        loop {
            let event = self.event().await;
            if event.pointer(pointer).is_some_and(|found| found == value) {
                return event;
            }
        }
    }

    async fn close(&mut self) -> Option<(u16, String)> {
        loop {
            match self.next().await? {
                Ok(Message::Close(Some(CloseFrame { code, reason }))) => {
                    return Some((code.into(), reason.to_string()));
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

#[tokio::test]
async fn openai_realtime_answers_on_every_path() {
    let upstream = Upstream::start().await;
    for (path, header) in [
        ("/v1/realtime?model=demo-realtime", BEARER),
        ("/openai/realtime?api-version=v&deployment=demo-realtime", "api-key: sk-test"),
        ("/openai/v1/realtime?model=demo-realtime", "api-key: sk-test"),
    ] {
        let mut client = upstream.open(path, &[header]).await;
        assert_eq!(client.event().await["session"]["model"], "demo-realtime", "{path}");
        client.say(json!({"type": "response.create", "response": {"output_modalities": ["text"]}})).await;
        let done = client.until("/type", "response.done").await;
        assert_eq!(done["response"]["usage"]["output_tokens"], 14, "{path}");
        client.0.close(None).await.unwrap();
        let answer = client.next().await;
        assert!(matches!(answer, Some(Ok(Message::Close(None)))), "{path}: {answer:?}");
    }
    let mut listening = upstream.open("/v1/realtime?intent=transcription", &[BEARER]).await;
    assert_eq!(listening.event().await["session"]["type"], "transcription");
    let mut translating = upstream.open("/v1/realtime/translations?model=demo-realtime", &[BEARER]).await;
    assert_eq!(translating.event().await["session"]["type"], "translation");
    let mut beta = upstream.open("/v1/realtime?model=m", &[BEARER, "openai-beta: realtime=v1"]).await;
    assert_eq!(beta.event().await["error"]["code"], "beta_api_shape_disabled");
    assert_eq!(beta.close().await.unwrap().0, 4000);
}

#[tokio::test]
async fn responses_answer_several_times_on_one_socket() {
    let upstream = Upstream::start().await;
    let mut client = upstream.open("/v1/responses", &[BEARER]).await;
    for stream in ["a", "b"] {
        client
            .say(json!({"type": "response.create", "model": "demo-chat", "input": "hello", "stream_id": stream}))
            .await;
    }
    for _ in 0..2 {
        let done = client.until("/type", "response.completed").await;
        assert_eq!(done["response"]["usage"]["total_tokens"], 19);
    }
}

#[tokio::test]
async fn openai_live_starts_and_closes() {
    let upstream = Upstream::start().await;
    let mut client = upstream.open("/v1/live/sessions", &[BEARER]).await;
    client.say(json!({"type": "session.start", "session": {"model": "demo-live"}})).await;
    client.say(json!({"type": "session.close"})).await;
    client.until("/type", "session.started").await;
    assert_eq!(client.until("/type", "session.closed").await["usage"], json!({"seconds": 0.0}));
    assert_eq!(client.close().await, Some((1000, String::new())));
}

#[tokio::test]
async fn dashscope_speaks_and_listens_on_one_socket() {
    let upstream = Upstream::start().await;
    let mut client = upstream.open("/api-ws/v1/inference/", &[BEARER]).await;
    client.say(super::run("t1", "tts", "demo-cosyvoice", json!({}))).await;
    client.say(super::act("t1", "continue-task", json!({"text": "hello"}))).await;
    client.until("/header/event", "result-generated").await;
    assert!(matches!(client.message().await, Message::Binary(_)));
    client.say(super::act("t1", "finish-task", json!({}))).await;
    let finished = client.until("/header/event", "task-finished").await;
    assert_eq!(finished["payload"]["usage"], json!({"characters": 5}));
    client.say(super::run("t2", "asr", "demo-paraformer", json!({}))).await;
    client.until("/header/event", "task-started").await;
    client.send(vec![0; 32_000]).await;
    client.say(super::act("t2", "finish-task", json!({}))).await;
    client.until("/header/event", "result-generated").await;
    let whole = client.until("/header/event", "result-generated").await;
    assert_eq!(whole["payload"]["usage"], json!({"duration": 1}));
    client.until("/header/event", "task-finished").await;
}

#[tokio::test]
async fn qwen_omni_answers_and_finishes() {
    let upstream = Upstream::start().await;
    let mut client = upstream.open("/api-ws/v1/realtime?model=demo-omni-realtime", &[BEARER]).await;
    client.say(json!({"type": "response.create"})).await;
    let done = client.until("/type", "response.done").await;
    assert!(done["response"]["usage"]["output_tokens_details"]["audio_tokens"].as_u64() > Some(0));
    client.say(json!({"type": "session.finish"})).await;
    client.until("/type", "session.finished").await;
    assert_eq!(client.close().await, Some((1000, String::new())));
}

#[tokio::test]
async fn gemini_live_answers_in_binary_messages() {
    let upstream = Upstream::start().await;
    for (path, header) in [
        ("//ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent", "x-goog-api-key: sk-test"),
        ("/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent", BEARER),
    ] {
        let mut client = upstream.open(path, &[header]).await;
        let config = json!({"responseModalities": ["TEXT"]});
        client.say(json!({"setup": {"model": "models/demo-gemini-live", "generationConfig": config}})).await;
        let complete = client.message().await;
        assert_eq!(complete, Message::Binary("{\"setupComplete\":{}}".into()), "{path}");
        client.send(json!({"clientContent": super::turn("hello")}).to_string().into_bytes()).await;
        let end = loop {
            let event = client.event().await;
            if event["serverContent"]["turnComplete"] == true {
                break event;
            }
        };
        assert_eq!(end["usageMetadata"]["totalTokenCount"], 19, "{path}");
    }
}

#[tokio::test]
async fn an_echo_gives_back_large_and_small_messages_and_answers_pings() {
    let upstream = Upstream::start().await;
    for path in ["/v1/echo-websocket", "/any/echo", "/v1/realtime?model=demo-echo"] {
        let mut client = upstream.open(path, &[BEARER]).await;
        for message in [Message::text(""), Message::text("你好"), Message::binary(vec![7; 20 * 1024 * 1024])] {
            client.send(message.clone()).await;
            assert!(client.message().await == message, "{path}");
        }
        client.send(Message::Ping("p".into())).await;
        assert_eq!(client.message().await, Message::Pong("p".into()), "{path}");
    }
}

#[tokio::test]
async fn sockets_fail_on_demand() {
    let upstream = Upstream::start().await;
    for path in ["/close/4001", "/v1/realtime?model=demo-close-4001"] {
        let mut client = upstream.open(path, &[BEARER]).await;
        let expected = (4001, "the demo closes with 4001 on purpose".to_owned());
        assert_eq!(client.close().await, Some(expected), "{path}");
    }
    for path in ["/upgrade-wrong", "/v1/realtime?model=demo-upgrade-wrong"] {
        let (_, head) = upstream.ask(path, &[BEARER]).await;
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: h2c\r\n"), "{head}");
    }
    let mut broken = upstream.open("/v1/realtime?model=demo-break", &[BEARER]).await;
    broken.say(json!({"type": "response.create"})).await;
    broken.until("/type", "response.output_audio.delta").await;
    assert_eq!(broken.close().await, None);
    let hanging = upstream.ask("/v1/realtime?model=demo-hang", &[BEARER]);
    assert!(tokio::time::timeout(Duration::from_millis(300), hanging).await.is_err());
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_is_told_why() {
    let upstream = Upstream::start().await;
    // Unmasked, a reserved opcode, text that is not UTF-8, a frame of 65 MiB.
    for (bytes, code) in [
        (b"\x81\x01a".as_slice(), 1002),
        (b"\x83\x80\0\0\0\0".as_slice(), 1002),
        (b"\x81\x81\0\0\0\0\xff".as_slice(), 1007),
        (b"\x82\xff\0\0\0\0\x04\x10\0\0\0\0\0\0".as_slice(), 1009),
    ] {
        let mut client = upstream.open("/v1/echo-websocket", &[BEARER]).await;
        client.0.get_mut().write_all(bytes).await.unwrap();
        assert_eq!(client.close().await.map(|(code, _)| code), Some(code));
    }
}

#[tokio::test]
async fn handshakes_are_refused_in_the_dialect() {
    let upstream = Upstream::start().await;
    let realtime = "/v1/realtime?model=m";
    let gemini = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";
    for (path, headers, status, code) in [
        (realtime, &[][..], 401, json!("invalid_api_key")),
        (realtime, &["authorization: Bearer wrong"], 401, json!("invalid_api_key")),
        (realtime, &["api-key: sk-test"], 401, json!("invalid_api_key")),
        ("/v1/realtime", &[BEARER], 400, json!("missing_model")),
        ("/v1/realtime?call_id=rtc_none", &[BEARER], 404, json!("call_id_not_found")),
        ("/v1/realtime?model=demo-error-429", &[BEARER], 429, json!("rate_limit_exceeded")),
        ("/v1/realtime?model=demo-missing", &[BEARER], 404, json!("model_not_found")),
        ("/openai/realtime?deployment=demo-error-503", &["api-key: sk-test"], 503, json!("503")),
        ("/api-ws/v1/inference", &["authorization: Bearer wrong"], 401, json!("InvalidApiKey")),
        ("/api-ws/v1/realtime?model=demo-error-429", &[BEARER], 429, json!("Throttling.RateQuota")),
        (gemini, &["x-goog-api-key: wrong"], 400, json!(400)),
        (gemini, &[], 403, json!(403)),
        ("/v1/nowhere", &[BEARER], 404, json!("unknown_url")),
        (realtime, &[BEARER, "sec-websocket-version: 12"], 426, Value::Null),
        (realtime, &[BEARER, "sec-websocket-key: c2hvcnQ="], 400, Value::Null),
        (realtime, &[BEARER, "connection: keep-alive"], 400, Value::Null),
    ] {
        assert_eq!(upstream.refused(path, headers).await, (status, code), "{path} {headers:?}");
    }
    let (_, answer) = upstream.ask(realtime, &[BEARER, "sec-websocket-version: 8"]).await;
    assert!(answer.contains("sec-websocket-version: 13\r\n"), "{answer}");
}

#[tokio::test]
async fn leaks_are_refused_and_not_repeated() {
    let upstream = Upstream::start().await;
    let path = "/v1/realtime?model=m";
    for header in [
        "sec-websocket-protocol: realtime,openai-insecure-api-key.pk-secret",
        "sec-websocket-protocol: realtime, openai-organization.org-secret",
        "sec-websocket-extensions: permessage-deflate",
        "x-goog-api-key: pk-secret",
        "openai-organization: org-secret",
        "origin: https://secret.example",
        "x-aiproxy-channel: c",
        "cookie: a=secret",
    ] {
        let (_, answer) = upstream.ask(path, &[BEARER, header]).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"leaked_header\""), "{header}: {answer}");
        assert!(!answer.contains("secret"), "{header}: {answer}");
    }
    let (_, answer) = upstream.ask(path, &["sec-websocket-protocol: realtime,openai-insecure-api-key.sk-test"]).await;
    assert!(answer.contains("\"leaked_header\"") && !answer.contains("sk-test"), "{answer}");
    let gemini = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=pk-secret";
    let (_, answer) = upstream.ask(gemini, &["x-goog-api-key: sk-test"]).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("leaked_header"), "{answer}");
    let (_, answer) = upstream.ask(path, &[BEARER, "sec-websocket-protocol: realtime"]).await;
    assert!(answer.contains("sec-websocket-protocol: realtime\r\n"), "{answer}");
    assert!(answer.contains("set-cookie: ") && answer.contains("openai-organization: org-demo"), "{answer}");
}

#[tokio::test]
async fn sockets_are_told_when_the_upstream_stops() {
    let mut upstream = Upstream::start().await;
    let mut client = upstream.open("/v1/realtime?model=demo-realtime", &[BEARER]).await;
    client.event().await;
    let (stopped, close) = tokio::join!(upstream.stop(), async { client.close().await });
    assert!(stopped);
    assert_eq!(close.map(|(code, _)| code), Some(1001));
}
