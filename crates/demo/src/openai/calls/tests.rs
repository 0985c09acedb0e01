use std::net::SocketAddr;
use std::time::Duration;

use aiproxy_core::tasks::Tasks;
use futures_util::{SinkExt, StreamExt};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::testing::{Answered, KEY, post, send, upstream};
use crate::webrtc::caller::Caller;
use crate::{DemoUpstream, Options};

const WAIT: Duration = Duration::from_secs(30);
const FORM: &str = "multipart/form-data; boundary=X";

fn form(offer: &str, session: &Value) -> String {
    let part = |name, media_type, value: &str| {
        let head = format!("Content-Disposition: form-data; name=\"{name}\"\r\nContent-Type: {media_type}");
        format!("--X\r\n{head}\r\n\r\n{value}\r\n")
    };
    let session = part("session", "application/json", &session.to_string());
    format!("{}{session}--X--\r\n", part("sdp", "application/sdp", offer))
}

fn send_to(upstream: &DemoUpstream, path: &str, key: &str, media_type: &str, body: String) -> Answered {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("content-type", media_type)];
    send(upstream, Method::POST, path, &headers, body.into_bytes())
}

fn create(upstream: &DemoUpstream, session: &Value, offer: &str) -> Answered {
    send_to(upstream, "/v1/realtime/calls", KEY, FORM, form(offer, session))
}

/// An upstream that serves.
struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    tasks: Tasks,
}

impl Served {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let tasks = Tasks::new();
        let options = Options { api_key: KEY.to_owned(), pace: Duration::from_millis(1) };
        tasks.spawn(crate::serve(listener, options, stopped));
        Self { address, stop, tasks }
    }

    async fn post(&self, path: &str, body: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\nauthorization: Bearer {KEY}\r\ncontent-type: {FORM}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        tokio::time::timeout(WAIT, socket.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    }

    /// Makes a call whose session has begun; gives its id as well.
    async fn call(&self) -> (Caller, String) {
        let (mut caller, offer) = Caller::new().await;
        let session = json!({"type": "realtime", "model": "demo-realtime"});
        let text = self.post("/v1/realtime/calls", &form(&offer, &session)).await;
        let (head, answer) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 201 Created") && head.contains("content-type: application/sdp"), "{head}");
        let id = head.lines().find_map(|line| line.strip_prefix("location: /v1/realtime/calls/")).unwrap();
        caller.take_answer(answer);
        caller.event("session.created").await;
        (caller, id.to_owned())
    }

    /// Attaches to a call.
    async fn sideband(&self, id: &str) -> WebSocketStream<TcpStream> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "GET /v1/realtime?call_id={id} HTTP/1.1\r\nhost: demo\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {KEY}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(tokio::time::timeout(WAIT, stream.read_u8()).await.unwrap().unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        WebSocketStream::from_raw_socket(stream, Role::Client, None).await
    }
}

#[tokio::test]
async fn a_call_is_made_over_http_joined_by_a_sideband_and_hung_up() {
    let served = Served::start().await;
    let (mut caller, id) = served.call().await;
    let mut sideband = served.sideband(&id).await;
    sideband.send(Message::text(json!({"type": "response.create"}).to_string())).await.unwrap();
    let done = caller.event("response.done").await;
    loop {
        let message = tokio::time::timeout(WAIT, sideband.next()).await.unwrap().unwrap().unwrap();
        let event: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        if event["type"] == "response.done" {
            assert_eq!(event, done);
            break;
        }
    }
    assert!(served.post(&format!("/v1/realtime/calls/{id}/hangup"), "").await.starts_with("HTTP/1.1 200"));
    caller.until(|caller| caller.is_closed).await;
    let closed = tokio::time::timeout(WAIT, sideband.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(&closed, Message::Close(Some(close)) if u16::from(close.code) == 1000), "{closed:?}");
}

#[tokio::test]
async fn calls_end_with_the_upstream() {
    let served = Served::start().await;
    let (mut caller, _) = served.call().await;
    served.stop.send(()).unwrap();
    caller.until(|caller| caller.is_closed).await;
    assert!(served.tasks.finished_within(WAIT).await);
}

#[tokio::test]
async fn an_offer_alone_names_its_model_in_the_query() {
    let upstream = upstream();
    let (_, offer) = Caller::new().await;
    let send = |path| send_to(&upstream, path, KEY, "application/sdp; charset=utf-8", offer.clone());
    let answer = send("/v1/realtime/calls?model=demo-realtime");
    assert_eq!((answer.status, answer.header("content-type")), (201, "application/sdp"));
    assert!(answer.text.starts_with("v=0\r\n"));
    assert_eq!(send("/v1/realtime/calls").json()["error"]["param"], "session.model");
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_said_in_the_envelope() {
    let upstream = upstream();
    let (_, offer) = Caller::new().await;
    let session = |model: &str| json!({"type": "realtime", "model": model});
    for (session, offer, status, code, param) in [
        (session("demo-realtime"), "v=0", 400, json!("invalid_offer"), json!("sdp")),
        (session("demo-realtime"), &offer.repeat(50), 400, json!("invalid_offer"), json!("sdp")),
        (json!({"type": "realtime"}), &offer, 400, json!("missing_required_parameter"), json!("session.model")),
        (json!({"type": "else", "model": "m"}), &offer, 400, Value::Null, json!("session")),
        (json!([]), &offer, 400, Value::Null, json!("session")),
        (session("demo-error-429"), &offer, 429, json!("rate_limit_exceeded"), Value::Null),
        (session("demo-missing"), &offer, 404, json!("model_not_found"), Value::Null),
    ] {
        let answer = create(&upstream, &session, offer);
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"], &error["param"]), (status, &code, &param), "{session} {error}");
    }
    let answer = send_to(&upstream, "/v1/realtime/calls", KEY, "application/json", "{}".to_owned());
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_call_can_be_controlled_until_it_is_hung_up() {
    let upstream = upstream();
    let (_, offer) = Caller::new().await;
    let answer = create(&upstream, &json!({"type": "realtime", "model": "demo-realtime"}), &offer);
    let id = answer.header("location").rsplit('/').next().unwrap().to_owned();
    let control = |verb: &str| {
        let path = format!("/v1/realtime/calls/{id}/{verb}");
        send_to(&upstream, &path, KEY, "application/json", String::new())
    };
    assert_eq!(["accept", "refer", "reject"].map(|verb| control(verb).status), [200; 3]);
    let answer = control("hangup");
    assert_eq!((answer.status, answer.text.as_str(), answer.header("content-type")), (200, "", ""));
    for verb in ["hangup", "accept", "refer", "reject"] {
        let answer = control(verb);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("call_id_not_found")), "{verb}");
    }
    assert_eq!(control("else").json()["error"]["code"], "unknown_url");
}

#[tokio::test]
async fn secrets_are_given_and_never_taken() {
    let session = json!({"type": "realtime", "model": "demo-realtime", "instructions": "Be brief."});
    let asked = json!({"expires_after": {"anchor": "created_at", "seconds": 10}, "session": session});
    let answer = post("/v1/realtime/client_secrets", &asked).json();
    let secret = answer["value"].as_str().unwrap();
    let left = answer["expires_at"].as_u64().unwrap() - aiproxy_core::time::unix_ms() / 1000;
    assert!(secret.starts_with("ek_demo_") && (5..=10).contains(&left), "{answer}");
    assert_eq!((&answer["session"]["model"], &answer["session"]["type"]), (&session["model"], &session["type"]));
    assert_eq!(answer["session"]["instructions"], "Be brief.");
    let bad = post("/v1/realtime/client_secrets", &json!({"expires_after": {"seconds": 7201}}));
    assert_eq!((bad.status, &bad.json()["error"]["param"]), (400, &json!("expires_after.seconds")));

    let legacy = post("/v1/realtime/sessions", &session).json();
    assert!(legacy["client_secret"]["value"].as_str().is_some_and(|value| value.starts_with("ek_demo_")));
    assert_eq!(legacy["model"], "demo-realtime");

    let (_, offer) = Caller::new().await;
    let answer = send_to(&upstream(), "/v1/realtime/calls", secret, FORM, form(&offer, &session));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (401, &json!("invalid_api_key")));
}
