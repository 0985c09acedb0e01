//! Which bodies are handed to the ledger, and that they are exactly those of the wire.

use std::time::Duration;

use aiproxy_ledger::capture::{Captured, RawBody};
use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::{ANSWER, CONFIG};

const ASKED: &str = r#"{"model":"m","messages":[]}"#;

/// One user whose key has `key` beside it, and one channel that has `channel`.
fn config(key: &str, channel: &str) -> String {
    format!(
        "users: {{user1: {{channels: [up], proxy_keys: [{{key: pk-1{key}}}]}}}}
channels: {{up: {{kind: openai, base_url: 'http://up.test', api_key: real-key{channel}}}}}"
    )
}

fn answers(count: usize) -> Upstream {
    Upstream::new(vec![vec![Step::Request, Step::json(200, ANSWER)]; count])
}

async fn one(config: &str, request: &str) -> Vec<Captured> {
    let gateway = TestGateway::new(config, &answers(1));
    assert_eq!(gateway.call(request).await.status, 200);
    gateway.captured().await
}

fn text(body: Option<&RawBody>) -> Option<(&str, u64)> {
    body.map(|body| (std::str::from_utf8(&body.bytes).unwrap(), body.length))
}

#[tokio::test(start_paused = true)]
async fn a_captured_call_hands_over_its_bodies_as_they_went_over_the_wire() {
    let gateway = TestGateway::new(&config(", capture: true", ""), &answers(1));
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", ASKED)).await;
    assert_eq!(reply.text(), ANSWER);
    let captured = gateway.captured().await;
    let [call] = &captured[..] else { panic!("{captured:?}") };
    assert_eq!(uuid(call.id), gateway.record().await["id"]);
    assert!(call.started_unix_ms > 0);
    assert_eq!(text(call.request.as_ref()), Some((ASKED, ASKED.len() as u64)));
    assert_eq!(text(call.response.as_ref()), Some((ANSWER, ANSWER.len() as u64)));
    let response = call.response.as_ref().unwrap();
    assert_eq!((&*response.content_type, &*response.content_encoding), ("application/json", ""));
    let secrets: Vec<_> = call.secrets.iter().map(|secret| secret.expose()).collect();
    assert_eq!(secrets, ["pk-1", "real-key"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_captured_where_nobody_says_so() {
    let request = post("/v1/chat/completions", "pk-1", ASKED);
    assert!(one(CONFIG, &request).await.is_empty());
    assert!(one(&config(", capture: false", ", capture: true"), &request).await.is_empty(), "the key comes first");
    assert!(one(&config(", capture: 0", ""), &request).await.is_empty());
    assert_eq!(one(&config("", ", capture: true"), &request).await.len(), 1);
    assert_eq!(one(&config(", capture: true", ", capture: false"), &request).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_share_of_calls_is_captured_with_both_bodies_or_not_at_all() {
    let gateway = TestGateway::new(&config(", capture: 0.5", ""), &answers(100));
    for _ in 0..100 {
        gateway.call(&post("/v1/chat/completions", "pk-1", ASKED)).await;
    }
    let captured = gateway.captured().await;
    assert!((30..70).contains(&captured.len()), "{}", captured.len());
    assert!(captured.iter().all(|call| call.request.is_some() && call.response.is_some()));
}

#[tokio::test(start_paused = true)]
async fn each_body_can_be_left_out_and_is_cut_at_its_size() {
    let body = format!("{{\"model\":\"m\",\"x\":\"{}\"}}", "y".repeat(2_000));
    let request = post("/v1/chat/completions", "pk-1", &body);
    let captured = one(&config(", capture: {max_size: 1KiB}", ""), &request).await;
    assert_eq!(text(captured[0].request.as_ref()), Some((&body[..1024], body.len() as u64)));
    let captured = one(&config(", capture: {request: false}", ""), &request).await;
    assert!(captured[0].request.is_none() && captured[0].response.is_some());
    let captured = one(&config(", capture: {response: false}", ""), &request).await;
    assert!(captured[0].request.is_some() && captured[0].response.is_none());
    let captured = one(&config(", capture: true", ""), &get("/v1/models", "pk-1")).await;
    assert!(captured[0].request.is_none(), "there was none");
}

#[tokio::test(start_paused = true)]
async fn the_rule_of_the_channel_that_serves_the_call_holds() {
    let config = |first: &str, second: &str| {
        format!(
            "users: {{user1: {{proxy_key: pk-1, channels: [one, two]}}}}
channels:
  one: {{kind: openai, base_url: 'http://one.test', api_key: real-one, capture: {first}}}
  two: {{kind: openai, base_url: 'http://two.test', api_key: real-two, capture: {second}, priority: 1}}
system: {{failover: true}}"
        )
    };
    for (first, second, is_captured) in [("true", "false", false), ("false", "true", true)] {
        let scripts = [vec![Step::Request, Step::json(500, "{}")], vec![Step::Request, Step::json(200, ANSWER)]];
        let gateway = TestGateway::new(&config(first, second), &Upstream::new(scripts));
        assert_eq!(gateway.call(&post("/v1/chat/completions", "pk-1", ASKED)).await.status, 200);
        let captured = gateway.captured().await;
        assert_eq!(captured.len(), usize::from(is_captured), "{first}, {second}");
        if let [call] = &captured[..] {
            assert_eq!(text(call.request.as_ref()), Some((ASKED, ASKED.len() as u64)));
            let secrets: Vec<_> = call.secrets.iter().map(|secret| secret.expose()).collect();
            assert_eq!(secrets, ["pk-1", "real-one", "real-two"], "of every attempt");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_made_here_is_captured_too() {
    let script = vec![Step::Request, Step::Reset];
    let gateway = TestGateway::new(&config(", capture: true", ""), &Upstream::new([script]));
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", ASKED)).await;
    let captured = gateway.captured().await;
    assert_eq!(text(captured[0].request.as_ref()).unwrap().0, ASKED);
    assert_eq!(text(captured[0].response.as_ref()), Some((&*reply.text(), reply.body.len() as u64)));
}

#[tokio::test(start_paused = true)]
async fn of_a_stream_the_caller_left_what_it_got_is_captured() {
    let script =
        vec![Step::Request, Step::sse_head(), Step::chunk("data: {\"a\":1}\n\n"), Step::Wait(Duration::from_secs(9))];
    let gateway = TestGateway::new(&config(", capture: true", ""), &Upstream::new([script]));
    let mut client = gateway.connect();
    client.send(post("/v1/chat/completions", "pk-1", ASKED)).await;
    client.read_until("data: {\"a\":1}\n\n").await;
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let captured = gateway.captured().await;
    assert_eq!(text(captured[0].response.as_ref()).unwrap().0, "data: {\"a\":1}\n\n");
    assert_eq!(gateway.gateway().captures_dropped(), 0);
}

fn uuid(id: [u8; 16]) -> String {
    let hexadecimal: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| &hexadecimal[from..to]).join("-")
}
