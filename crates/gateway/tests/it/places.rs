//! The configs that the tests of failover share, and short words for what happens in them.

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Reply, Step, TestGateway, Upstream};
use serde_json::Value;

use crate::ANSWER;

/// The API path of most tests.
pub(crate) const CHAT: &str = "/v1/chat/completions";

/// One channel with one credential.
pub(crate) const ONE_KEY: &str = "
users:
  user1: {proxy_key: pk-1, channels: [first]}
channels:
  first: {kind: openai, base_url: 'http://a.test', api_key: real-1}
";

/// One channel with two credentials.
pub(crate) const TWO_KEYS: &str = "
users:
  user1: {proxy_key: pk-1, channels: [first]}
channels:
  first:
    kind: openai
    base_url: 'http://a.test'
    credentials: [{id: one, api_key: real-1}, {id: two, api_key: real-2}]
";

/// Two channels, the first of them preferred; failover is as it is by default.
pub(crate) const TWO_CHANNELS: &str = "
users:
  user1: {proxy_key: pk-1, channels: [first, second]}
channels:
  first: {kind: openai, base_url: 'http://a.test', api_key: real-1}
  second: {kind: openai, base_url: 'http://b.test', api_key: real-2, priority: 1}
";

/// The same with failover.
pub(crate) fn two_channels_with_failover() -> String {
    TWO_CHANNELS.replace("channels: [first, second]", "channels: [first, second], failover: true")
}

/// One channel that is reached at two places with one credential.
pub(crate) const TWO_ENDPOINTS: &str = "
users:
  user1: {proxy_key: pk-1, channels: [first]}
channels:
  first:
    kind: openai
    endpoints: [{base_url: 'http://a.test'}, {base_url: 'http://b.test'}]
    api_key: real-1
";

/// `config` with more fields for the channel `first`.
pub(crate) fn with(config: &str, fields: &str) -> String {
    assert!(config.contains("kind: openai, ") || config.contains("    kind: openai\n"));
    if config.contains("first: {kind: openai, ") {
        config.replacen("first: {kind: openai, ", &format!("first: {{kind: openai, {fields}, "), 1)
    } else {
        config.replacen("    kind: openai\n", &format!("    kind: openai\n    {fields}\n"), 1)
    }
}

/// A connection that answers each request with a chat completion.
pub(crate) fn answers() -> Vec<Step> {
    vec![Step::Request, Step::json(200, ANSWER), Step::Again]
}

/// A connection that answers one request with an error, and closes.
pub(crate) fn fails(status: u16) -> Vec<Step> {
    vec![Step::Request, Step::json(status, &error_body("some_code"))]
}

/// The body of an error as OpenAI writes it.
pub(crate) fn error_body(code: &str) -> String {
    format!(r#"{{"error":{{"message":"theirs","type":"x","param":null,"code":"{code}"}}}}"#)
}

/// An error with headers of its own (each ending in CRLF).
pub(crate) fn fails_with(status: u16, headers: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n{headers}");
    vec![Step::Request, Step::send(format!("{head}content-length: {length}\r\n\r\n{body}"))]
}

/// Makes one small chat call.
pub(crate) async fn chat(gateway: &TestGateway) -> Reply {
    gateway.call(&post(CHAT, "pk-1", r#"{"model":"m"}"#)).await
}

/// The numbers of the real keys that requests came with, in order.
pub(crate) fn keys(upstream: &Upstream) -> Vec<char> {
    let key = |request: &String| request.split("real-").nth(1).and_then(|rest| rest.chars().next()).unwrap_or('?');
    upstream.requests().iter().map(key).collect()
}

/// The statuses of a record's attempts, 0 where there was none.
pub(crate) fn statuses(record: &Value) -> Vec<u64> {
    let attempts = record["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["status"].as_u64().unwrap_or(0)).collect()
}

/// The machine code of an error.
pub(crate) fn code(reply: &Reply) -> String {
    reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// `Retry-After` in seconds.
pub(crate) fn retry_after(reply: &Reply) -> Option<u64> {
    reply.header("retry-after").map(|seconds| seconds.parse().unwrap())
}
