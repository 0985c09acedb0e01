//! WebSocket calls by bytes: the handshake, what passes and what does not, what it is counted as, and all ways to end.

mod back_pressure;
mod bad_frames;
mod endings;
mod handshake;
mod http2;
mod limits;
mod models;
mod passing;
mod revocation;
mod storm;
mod timeouts;
mod usage;

use std::time::Duration;

use aiproxy_testkit::{Frame, Reply, Socket, Step, TestGateway, Upstream};
use serde_json::{Value, json};

/// One user with one key, and one channel.
const CONFIG: &str = "
users:
  one: {proxy_key: pk-1, channels: [up]}
channels:
  up: {kind: openai, base_url: 'http://up.test', api_key: real-key}
";
/// A conversation with the model `m`.
const REALTIME: &str = "/v1/realtime?model=m";
/// A path whose messages nobody reads.
const UNREAD: &str = "/v1/unknown";
/// DashScope's speech.
const SPEECH: &str = "/api-ws/v1/inference";
/// Gemini Live.
const LIVE: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";
/// The caller's key.
const KEY: (&str, &str) = ("authorization", "Bearer pk-1");

/// `CONFIG` with other prices, quotas and so on.
fn with(from: &str, to: &str) -> String {
    assert!(CONFIG.contains(from), "{from}");
    CONFIG.replace(from, to)
}

/// `CONFIG` with more fields for its channel.
fn with_channel(fields: &str) -> String {
    with("api_key: real-key}", &format!("api_key: real-key, {fields}}}"))
}

/// A gateway in front of one upstream connection.
fn gateway(config: &str, script: Vec<Step>) -> (TestGateway, Upstream) {
    let upstream = Upstream::new([script]);
    (TestGateway::new(config, &upstream), upstream)
}

/// Opens a socket that must open.
async fn open(gateway: &TestGateway, path: &str) -> Socket {
    opened(gateway.socket(path, &[KEY]).await)
}

fn opened(result: Result<Socket, Reply>) -> Socket {
    result.map_err(|reply| format!("refused: {} {}", reply.head, reply.text())).unwrap()
}

fn refused(result: Result<Socket, Reply>) -> Reply {
    result.err().unwrap()
}

/// Lets everything happen that needs no time.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Nothing is left open, and there is one record.
async fn only_record(gateway: &TestGateway) -> Value {
    settle().await;
    nothing_is_left(gateway);
    let record = gateway.record().await;
    assert_eq!((&record["protocol"], &record["status"]), (&json!("websocket"), &json!(101)), "{record}");
    record
}

fn nothing_is_left(gateway: &TestGateway) {
    let gateway = gateway.gateway();
    let left = (gateway.calls_in_flight(), gateway.open_sockets(), gateway.connections());
    assert_eq!(left, (0, 0, 0), "calls, sockets and connections");
}

/// The code of an error event in OpenAI's form.
fn error_code(frame: &Frame) -> String {
    let event = frame.json();
    assert_eq!(event["type"], "error", "{frame:?}");
    event["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// A response has begun.
fn created(id: &str) -> Step {
    Step::text(json!({"type": "response.created", "response": {"id": id}}).to_string())
}

/// A response is done, with its tokens.
fn done(id: &str, input: u64, output: u64) -> Step {
    Step::text(done_text(id, input, output))
}

fn done_text(id: &str, input: u64, output: u64) -> String {
    let usage = json!({"total_tokens": input + output, "input_tokens": input, "output_tokens": output});
    json!({"type": "response.done", "response": {"id": id, "status": "completed", "usage": usage}}).to_string()
}

/// Half a second, a few times over.
const TWO_SECONDS: Duration = Duration::from_secs(2);
