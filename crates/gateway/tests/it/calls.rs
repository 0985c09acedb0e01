//! Calls by WebRTC by bytes: secrets for browsers, offers and answers, the socket that meters them, and all ways to end.

mod control;
mod endings;
mod offers;
mod secrets;
mod sideband;

use std::time::Duration;

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Reply, Step, TestGateway, Upstream};
use serde_json::Value;

/// Two users with one key each, on a channel with two accounts.
const CONFIG: &str = "
users:
  one: {proxy_key: pk-1, channels: [up]}
  two: {proxy_key: pk-2, channels: [up]}
channels:
  up: {kind: openai, base_url: 'http://up.test', credentials: [{id: a, api_key: real-a}, {id: b, api_key: real-b}]}
system: {}
";
/// What a browser offers; the odd bytes must arrive as they are.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\na=x: \u{e9} \n\r\n";
/// What the provider answers.
const ANSWER: &str = "v=0\r\no=- 3 4 IN IP4 192.0.2.1\r\ns=-\r\na=y:  \n\r\n";
const CALLS: &str = "/v1/realtime/calls";
const SECRETS: &str = "/v1/realtime/client_secrets";
const SESSION: &str = r#"{"session":{"type":"realtime","model":"m"}}"#;

/// The provider takes the offer: the call `rtc_1` begins.
fn taken() -> Vec<Step> {
    vec![Step::Request, begun("https://up.test/v1/realtime/calls/rtc_1")]
}

/// The answer that begins a call.
fn begun(location: &str) -> Step {
    Step::send(format!(
        "HTTP/1.1 201 Created\r\ncontent-type: application/sdp\r\nlocation: {location}\r\nserver: x\r\n\
         x-request-id: req_1\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    ))
}

/// A response is done that used so many tokens.
fn done(id: &str, input: u64, output: u64) -> Step {
    Step::text(format!(
        r#"{{"type":"response.done","response":{{"id":"{id}","object":"realtime.response","status":"completed","usage":{{"total_tokens":{},"input_tokens":{input},"output_tokens":{output}}}}}}}"#,
        input + output
    ))
}

/// The provider's socket to a call, and what it says.
fn socket(says: impl IntoIterator<Item = Step>) -> Vec<Step> {
    [Step::Upgrade].into_iter().chain(says).collect()
}

/// The provider hangs up, or says that there is nothing to hang up.
fn hung_up(status: u16) -> Vec<Step> {
    vec![Step::Request, Step::json(status, "{}")]
}

fn not_found() -> Vec<Step> {
    vec![Step::Request, Step::json(404, r#"{"error":{"code":"call_id_not_found"}}"#)]
}

/// A gateway in front of these connections, one after the other.
fn gateway(config: &str, connections: impl IntoIterator<Item = Vec<Step>>) -> (TestGateway, Upstream) {
    let upstream = Upstream::new(connections);
    let gateway = TestGateway::new(config, &upstream);
    gateway.look_after_sessions();
    (gateway, upstream)
}

/// `CONFIG` with something else in it.
fn with(from: &str, to: &str) -> String {
    assert!(CONFIG.contains(from), "{from}");
    CONFIG.replace(from, to)
}

fn with_system(fields: &str) -> String {
    with("system: {}", &format!("system: {{{fields}}}"))
}

/// A browser's offer.
fn offer(key: &str) -> String {
    offer_to(CALLS, key, OFFER)
}

fn offer_to(path: &str, key: &str, sdp: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\norigin: https://page.test\r\nsec-fetch-mode: cors\r\n\
         authorization: Bearer {key}\r\ncontent-type: application/sdp\r\ncontent-length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

/// A server's offer, as the official SDKs write it.
fn form(path: &str, key: &str, session: &str) -> String {
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\nContent-Type: application/sdp\r\n\r\n{OFFER}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"session\"\r\nContent-Type: application/json\r\n\r\n{session}\r\n--b--\r\n"
    );
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\naccept: application/sdp\r\n\
         content-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A secret for a browser.
async fn minted(gateway: &TestGateway, body: &str) -> String {
    let reply = gateway.call(&post(SECRETS, "pk-1", body)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["value"].as_str().unwrap().to_owned()
}

/// The status and the code of a refusal.
fn refusal(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// The parts of the form that a request has: the offer and the session.
fn parts(request: &[u8]) -> (Vec<u8>, Value) {
    let text = String::from_utf8_lossy(request);
    let boundary = text.split("boundary=").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
    let part = |name: &str| {
        let kind = if name == "sdp" { "application/sdp" } else { "application/json" };
        let head =
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\nContent-Type: {kind}\r\n\r\n");
        let start = find(request, head.as_bytes()).unwrap() + head.len();
        let length = find(&request[start..], format!("\r\n--{boundary}").as_bytes()).unwrap();
        request[start..start + length].to_vec()
    };
    (part("sdp"), serde_json::from_slice(&part("session")).unwrap())
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Waits until a record was written; the time that took.
async fn closed(gateway: &TestGateway) -> (Value, Duration) {
    let start = tokio::time::Instant::now();
    loop {
        let records = gateway.records().await;
        if let Some(record) = records.into_iter().find(|record| record["endpoint"] == CALLS) {
            return (record, start.elapsed());
        }
        assert!(start.elapsed() < Duration::from_secs(24 * 3600), "the call never ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
