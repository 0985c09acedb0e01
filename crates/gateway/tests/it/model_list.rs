//! `GET /v1/models` answers with exactly what this key may use.

use std::time::Duration;

use aiproxy_testkit::gateway::get;
use aiproxy_testkit::{Reply, Step, TestGateway, Upstream};

const THEIRS: &str = r#"{"object":"list","data":[
 {"id":"gpt-a","object":"model","created":7,"owned_by":"them"},
 {"id":"gpt-b","object":"model","created":8,"owned_by":"them"},
 {"id":"text-c","object":"model","created":9,"owned_by":"them"}]}"#;

/// A channel that lists nothing, one that lists a name, a pattern and an alias, and one that names all it has.
const CONFIG: &str = "
users:
  all: {proxy_key: pk-all, channels: [open, mixed, named]}
  some: {proxy_key: pk-some, channels: [open, mixed, named], models: ['text-*', fast]}
  mixed: {proxy_key: pk-mixed, channels: [mixed]}
  named: {proxy_keys: [{key: pk-named, models: [claude-x]}], channels: [named]}
  open: {proxy_key: pk-open, channels: [open]}
channels:
  open: {kind: openai, base_url: 'http://open.test', api_key: real-1, priority: 1}
  mixed: {kind: openai, base_url: 'http://mixed.test', api_key: real-2, models: [gpt-z, 'gpt-*', {fast: gpt-b}]}
  named: {kind: openai, base_url: 'http://named.test', api_key: real-3, priority: 2, models: [claude-x, claude-y]}
";

fn lists(body: &str) -> Vec<Vec<Step>> {
    vec![vec![Step::Request, Step::json(200, body), Step::Again]]
}

fn upstream() -> Upstream {
    Upstream::hosts([("open.test", lists(THEIRS)), ("mixed.test", lists(THEIRS)), ("named.test", vec![])])
}

async fn list(gateway: &TestGateway, key: &str) -> Reply {
    let reply = gateway.call(&get("/v1/models", key)).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    reply
}

fn ids(reply: &Reply) -> Vec<String> {
    let list = reply.json();
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_key_sees_what_it_may_use_and_nothing_else() {
    let gateway = TestGateway::new(CONFIG, &upstream());
    for (key, expected) in [
        ("pk-all", &["gpt-z", "fast", "gpt-a", "gpt-b", "text-c", "claude-x", "claude-y"][..]),
        ("pk-some", &["fast", "text-c"]),
        ("pk-mixed", &["gpt-z", "fast", "gpt-a", "gpt-b"]),
        ("pk-named", &["claude-x"]),
    ] {
        assert_eq!(ids(&list(&gateway, key).await), expected, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_restricted_passes_byte_for_byte() {
    let upstream = upstream();
    let gateway = TestGateway::new(CONFIG, &upstream);
    assert_eq!(list(&gateway, "pk-open").await.text(), THEIRS);
    assert_eq!(list(&gateway, "pk-open").await.text(), THEIRS);
    assert_eq!(upstream.requests_to("open.test").len(), 2, "each call is one to the provider, as ever");
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_asked_once_a_minute_with_its_own_key_and_one_that_names_its_models_never() {
    let upstream = upstream();
    let gateway = TestGateway::new(CONFIG, &upstream);
    for _ in 0..5 {
        list(&gateway, "pk-all").await;
        list(&gateway, "pk-mixed").await;
    }
    assert_eq!(upstream.requests_to("mixed.test").len(), 1);
    assert!(upstream.requests_to("mixed.test")[0].contains("authorization: Bearer real-2\r\n"));
    assert_eq!(upstream.requests_to("named.test").len(), 0);
    tokio::time::sleep(Duration::from_secs(61)).await;
    list(&gateway, "pk-all").await;
    assert_eq!(upstream.requests_to("mixed.test").len(), 2);
    assert_eq!(gateway.records().await.len(), 11, "each of them is a call");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_answer_is_left_out_unless_nothing_else_is_known() {
    let upstream = Upstream::hosts([
        ("open.test", vec![vec![Step::Request, Step::json(500, "{}")]]),
        ("mixed.test", lists("<html>")),
        ("named.test", vec![]),
    ]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    assert_eq!(ids(&list(&gateway, "pk-all").await), ["gpt-z", "fast", "claude-x", "claude-y"]);
    let only = CONFIG.replace("models: [gpt-z, 'gpt-*', {fast: gpt-b}]", "models: ['gpt-*']");
    let gateway = TestGateway::new(&only, &upstream);
    let reply = gateway.call(&get("/v1/models", "pk-mixed")).await;
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (502, Some("upstream_invalid")));
}

#[tokio::test(start_paused = true)]
async fn one_model_is_described_or_not_found() {
    let gateway = TestGateway::new(CONFIG, &upstream());
    let fast = gateway.call(&get("/v1/models/fast", "pk-some")).await.json();
    assert_eq!((&fast["id"], &fast["object"], &fast["created"]), (&"fast".into(), &"model".into(), &8.into()));
    for hidden in ["gpt-a", "nothing", "claude-x"] {
        let reply = gateway.call(&get(&format!("/v1/models/{hidden}"), "pk-some")).await;
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (404, Some("no_such_route")), "{hidden}");
    }
}

#[tokio::test(start_paused = true)]
async fn anthropics_and_geminis_callers_get_their_own_form() {
    let config = "
users: {u: {proxy_key: pk-1, channels: [claude, gemini]}}
channels:
  claude: {kind: anthropic, base_url: 'http://a.test', api_key: real-1, models: ['claude-*']}
  gemini: {kind: gemini, base_url: 'http://g.test', api_key: real-2, models: ['gemini-*']}
";
    let upstream = Upstream::hosts([
        (
            "a.test",
            lists(
                r#"{"data":[{"type":"model","id":"claude-x","display_name":"X","created_at":"2026-01-02T00:00:00Z"}],"has_more":false,"first_id":"claude-x","last_id":"claude-x"}"#,
            ),
        ),
        ("g.test", lists(r#"{"models":[{"name":"models/gemini-y","displayName":"Y"},{"name":"models/other"}]}"#)),
    ]);
    let gateway = TestGateway::new(config, &upstream);
    let request = get("/v1/models", "pk-1").replace("\r\n\r\n", "\r\nanthropic-version: 2023-06-01\r\n\r\n");
    let list = gateway.call(&request).await.json();
    assert_eq!((&list["first_id"], &list["has_more"]), (&"claude-x".into(), &false.into()));
    assert_eq!(list["data"][0]["display_name"], "X");
    assert_eq!(upstream.requests_to("a.test")[0].lines().next(), Some("GET /v1/models?limit=1000 HTTP/1.1"));
    let list = gateway.call(&get("/v1beta/models", "pk-1")).await.json();
    assert_eq!(list["models"][0]["name"], "models/gemini-y");
    assert_eq!(list["models"].as_array().unwrap().len(), 1, "neither what no channel serves nor another dialect's");
    assert!(upstream.requests_to("g.test")[0].starts_with("GET /v1beta/models?pageSize=1000 HTTP/1.1\r\n"));
}
