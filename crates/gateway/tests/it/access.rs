//! Who may in, and what a refusal looks like.

use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::{ANSWER, CONFIG};

const MANY: &str = "
users:
  off: {proxy_key: pk-off-user, status: disabled, channels: [up]}
  keys:
    status: active
    channels: [up, other, closed]
    proxy_keys:
      - {id: key-off, key: pk-off, status: disabled}
      - {id: old, key: pk-old, expires_at: '2020-01-01T00:00:00Z'}
      - {id: home, key: pk-home, ip_allow: [10.0.0.0/8]}
      - {id: narrow, key: pk-narrow, models: ['gpt-*'], channels: [up]}
      - {id: closed, key: pk-closed, channels: [closed]}
      - {id: wide, key: pk-wide, channels: [up, other]}
channels:
  up: {kind: openai, base_url: 'http://up.test', api_key: real-key, status: active}
  other: {kind: anthropic, base_url: 'http://other.test', api_key: other-key, status: active}
  closed: {kind: openai, base_url: 'http://closed.test', api_key: closed-key, status: disabled}
";

async fn refusal(request: &str) -> (u16, String, serde_json::Value) {
    let upstream = Upstream::new([]);
    let gateway = TestGateway::new(MANY, &upstream);
    let reply = gateway.call(request).await;
    assert!(upstream.dials().is_empty(), "nothing goes upstream");
    let record = gateway.record().await;
    assert_eq!(record["status"], reply.status);
    assert_eq!(record["end"], "complete");
    let code = reply.json()["error"]["code"].as_str().unwrap_or_default().to_string();
    assert_eq!(record["error_code"], code);
    (reply.status, code, record)
}

#[tokio::test(start_paused = true)]
async fn each_reason_to_refuse_has_its_status_and_code() {
    let chat = "/v1/chat/completions";
    for (key, status, code) in [
        ("pk-off-user", 403, "user_disabled"),
        ("pk-off", 403, "key_disabled"),
        ("pk-old", 403, "key_expired"),
        ("pk-home", 403, "ip_not_allowed"),
        ("pk-closed", 503, "no_channel_available"),
        ("nobody", 401, "invalid_credential"),
    ] {
        let (found, found_code, record) = refusal(&get(chat, key)).await;
        assert_eq!((found, found_code.as_str()), (status, code), "{key}");
        assert!(!record.to_string().contains(key), "{key} stands in its record");
    }
    let narrow = post(chat, "pk-narrow", r#"{"model":"o1"}"#);
    assert_eq!(refusal(&narrow).await.1, "model_not_allowed");
    let (status, code, record) = refusal("GET /v1/x HTTP/1.1\r\nhost: g\r\n\r\n").await;
    assert_eq!((status, code.as_str(), &record["user_id"]), (401, "missing_credential", &serde_json::Value::Null));
    let basic = "GET /v1/x HTTP/1.1\r\nhost: g\r\nauthorization: Basic abc\r\n\r\n";
    assert_eq!(refusal(basic).await.1, "invalid_credential");
    let elsewhere = get(chat, "pk-wide").replace("host: gateway", "host: g\r\nx-aiproxy-channel: closed");
    assert_eq!(refusal(&elsewhere).await.1, "channel_not_allowed");
}

#[tokio::test(start_paused = true)]
async fn unknown_and_garbled_keys_are_indistinguishable() {
    let gateway = TestGateway::new(CONFIG, &Upstream::new([]));
    let mut bodies = Vec::new();
    for key in ["pk-2", "pk-1x", "", "\u{e4}", &"x".repeat(5000), "pk-1 pk-1"] {
        let mut reply = gateway.call(&get("/v1/x", key)).await;
        let id = reply.header("x-request-id").unwrap().to_string();
        reply.head = reply.head.replace(&id, "-");
        if key.is_empty() {
            continue; // "Bearer" without a key is no credential at all; it is refused in other words
        }
        bodies.push((reply.status, reply.head.clone(), reply.text()));
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
}

#[tokio::test(start_paused = true)]
async fn errors_speak_the_callers_dialect() {
    let gateway = TestGateway::new(CONFIG, &Upstream::new([]));
    let openai = gateway.call(&get("/v1/chat/completions", "x")).await.json();
    assert_eq!(openai["error"]["code"], "invalid_credential");
    assert!(openai["error"]["message"].as_str().unwrap().starts_with("Invalid proxy key"));
    let anthropic = gateway.call(&get("/v1/messages", "x")).await.json();
    assert_eq!((&anthropic["type"], &anthropic["error"]["type"]), (&"error".into(), &"authentication_error".into()));
    let gemini = gateway.call(&get("/v1beta/models/g:generateContent", "x")).await.json();
    assert_eq!((&gemini["error"]["code"], &gemini["error"]["status"]), (&401.into(), &"UNAUTHENTICATED".into()));
    let dashscope = gateway.call(&get("/api/v1/services/aigc/text-generation/generation", "x")).await.json();
    assert!(dashscope["code"].is_string() && dashscope["request_id"].is_string(), "{dashscope}");
}

#[tokio::test(start_paused = true)]
async fn a_key_with_several_channels_reaches_the_one_that_speaks_its_dialect() {
    for (request, host, key_header) in [
        (post("/v1/messages", "pk-wide", "{}"), "other.test", "x-api-key: other-key"),
        (post("/v1/chat/completions", "pk-wide", "{}"), "up.test", "authorization: Bearer real-key"),
        (
            post("/v1/anything", "pk-wide", "{}").replace("host: gateway", "host: g\r\nx-aiproxy-channel: other"),
            "other.test",
            "x-api-key: other-key",
        ),
    ] {
        let upstream = Upstream::new([vec![Step::Request, Step::json(200, ANSWER)]]);
        let gateway = TestGateway::new(MANY, &upstream);
        assert_eq!(gateway.call(&request).await.status, 200);
        let seen = &upstream.requests()[0];
        assert!(seen.contains(&format!("host: {host}\r\n")) && seen.contains(key_header), "{seen}");
        assert!(!seen.contains("pk-wide") && !seen.contains("x-aiproxy"), "{seen}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_carrier_is_accepted_and_none_reaches_the_upstream() {
    for request in [
        "GET /v1/x HTTP/1.1\r\nauthorization: bearer pk-1\r\n",
        "GET /v1/x HTTP/1.1\r\nx-api-key: pk-1\r\n",
        "GET /v1/x HTTP/1.1\r\nx-goog-api-key: pk-1\r\n",
        "GET /v1/x HTTP/1.1\r\napi-key: pk-1\r\n",
        "GET /v1/x?key=pk-1 HTTP/1.1\r\n",
        "GET /v1/x?a=1&access_token=pk-1 HTTP/1.1\r\n",
        "GET /v1/x?api-key=pk-1&Authorization=Bearer%20pk-1 HTTP/1.1\r\n",
        "GET /v1/x?key=pk-1 HTTP/1.1\r\nauthorization: Token pk-1\r\napi-key: pk-1\r\nx-api-key: pk-1\r\n\
         cookie: k=pk-1\r\nproxy-authorization: Bearer pk-1\r\n",
    ] {
        let upstream = Upstream::new([vec![Step::Request, Step::json(200, "{}")]]);
        let gateway = TestGateway::new(CONFIG, &upstream);
        let reply = gateway.call(&format!("{request}host: g\r\nx-forwarded-for: 1.2.3.4\r\n\r\n")).await;
        assert_eq!(reply.status, 200, "{request}");
        let seen = &upstream.requests()[0];
        assert!(!seen.contains("pk-1") && !seen.contains("1.2.3.4"), "{seen}");
        assert_eq!(seen.matches("real-key").count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_decides_about_new_calls_and_leaves_running_ones_alone() {
    let upstream = Upstream::new([vec![
        Step::Request,
        Step::sse_head(),
        Step::chunk("data: 1\n\n"),
        Step::Wait(std::time::Duration::from_secs(5)),
        Step::chunk("data: [DONE]\n\n"),
        Step::last_chunk(),
    ]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let mut running = gateway.connect();
    running.send(post("/v1/chat/completions", "pk-1", "{}")).await;
    running.read_until("data: 1\n\n").await;
    gateway.reload(&CONFIG.replacen("status: active", "status: disabled", 1));
    assert_eq!(gateway.call(&get("/v1/x", "pk-1")).await.json()["error"]["code"], "user_disabled");
    running.read_until("data: [DONE]\n\n").await;
    running.read_until("0\r\n\r\n").await;
    let ends: Vec<_> = gateway.records().await.iter().map(|record| record["end"].clone()).collect();
    assert_eq!(ends, ["complete", "complete"]);
}

#[tokio::test(start_paused = true)]
async fn a_model_that_cannot_be_seen_does_not_pass_a_limit_on_models() {
    let chat = "/v1/chat/completions";
    let encoded =
        post(chat, "pk-narrow", "not readable").replace("content-type", "content-encoding: gzip\r\ncontent-type");
    for request in [encoded, post(chat, "pk-narrow", "{}"), post(chat, "pk-narrow", "{not json")] {
        let (status, code, _) = refusal(&request).await;
        assert_eq!((status, code.as_str()), (400, "model_required"), "{request}");
    }
    let upstream = Upstream::new([vec![Step::Request, Step::json(200, "{}")]]);
    let listing = TestGateway::new(MANY, &upstream).call(&get("/v1/models", "pk-narrow")).await;
    assert_eq!(listing.status, 200, "a call that names no model by nature is no way around the limit");
}
