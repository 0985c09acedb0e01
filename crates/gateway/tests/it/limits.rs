//! How many calls a key, a user, a group, a channel and a credential let through, and what the others are told.

use std::time::Duration;

use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Reply, Step, TestGateway, Upstream};

use crate::{ANSWER, CONFIG};

mod own;
mod tokens;

const CHAT: &str = "/v1/chat/completions";
/// Everything that may have limits.
const SCOPES: [&str; 5] = ["key", "user", "group", "channel", "credential"];

/// User `one` has the keys `pk-1` and `pk-2`, user `two` of the same group has `pk-3`; user `apart` has `pk-4` and a
/// channel of its own. `limits` are those of `scope`.
fn config(scope: &str, limits: &str) -> String {
    let of = |place: &str| if place == scope { format!(", limits: {limits}") } else { String::new() };
    let [key, user, group, channel, credential] = SCOPES.map(of);
    format!(
        "
users:
  one: {{groups: [team], proxy_keys: [{{id: first, key: pk-1{key}}}, {{id: second, key: pk-2}}]{user}}}
  two: {{groups: [team], proxy_key: pk-3}}
  apart: {{channels: [own], proxy_key: pk-4}}
groups:
  team: {{channels: [up]{group}}}
channels:
  up: {{kind: openai, base_url: 'http://up.test', credentials: [{{id: a, api_key: real-a{credential}}}]{channel}}}
  own: {{kind: openai, base_url: 'http://own.test', api_key: real-own}}
"
    )
}

/// `connections` that answer `calls` calls each, taking their `time` about it.
fn answering(connections: usize, calls: usize, time: Duration) -> Upstream {
    let call = [Step::Request, Step::Wait(time), Step::json(200, ANSWER)];
    let script: Vec<Step> = (0..calls).flat_map(|_| call.clone()).collect();
    Upstream::new(vec![script; connections])
}

fn chat(key: &str) -> String {
    post(CHAT, key, r#"{"model":"m","messages":[]}"#)
}

/// Sends `count` calls at once, each on a connection of its own, and waits for all answers.
async fn at_once(gateway: &TestGateway, count: usize, request: &str) -> Vec<Reply> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = gateway.connect();
        client.send(request).await;
        clients.push(client);
    }
    let mut replies = Vec::new();
    for mut client in clients {
        replies.push(client.reply().await);
    }
    replies
}

fn count(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

fn retry_after(reply: &Reply) -> Duration {
    Duration::from_secs(reply.header("retry-after").unwrap().parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn of_a_hundred_calls_at_once_exactly_five_reach_the_upstream() {
    for scope in SCOPES {
        let upstream = answering(5, 2, Duration::from_secs(10));
        let gateway = TestGateway::new(&config(scope, "{concurrent: 5}"), &upstream);
        for round in 1..=2 {
            let replies = at_once(&gateway, 100, &chat("pk-1")).await;
            assert_eq!((count(&replies, 200), count(&replies, 429)), (5, 95), "{scope}");
            for refused in replies.iter().filter(|reply| reply.status == 429) {
                assert_eq!(refused.json()["error"]["code"], "too_many_concurrent");
                assert!(refused.header("retry-after").is_some(), "{}", refused.head);
                assert_eq!(refused.header("x-ratelimit-limit-concurrent"), Some("5"));
                assert_eq!(refused.header("x-ratelimit-remaining-concurrent"), Some("0"));
            }
            assert_eq!(upstream.requests().len(), 5 * round, "{scope}: when they have ended, five more may run");
        }
        assert_eq!(gateway.records().await.len(), 200);
        assert_eq!(gateway.gateway().calls_in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_per_minute_are_exact_and_the_wait_told_is_the_truth() {
    for scope in SCOPES {
        let gateway = TestGateway::new(&config(scope, "{requests_per_minute: 3}"), &answering(20, 20, Duration::ZERO));
        for _ in 0..3 {
            assert_eq!(gateway.call(&chat("pk-1")).await.status, 200);
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        tokio::time::advance(Duration::from_millis(500)).await;
        for refused in at_once(&gateway, 50, &chat("pk-1")).await {
            assert_eq!((refused.status, refused.header("retry-after")), (429, Some("30")), "{scope}");
            assert_eq!(refused.json()["error"]["code"], "rate_limited");
            assert_eq!(refused.header("x-ratelimit-limit-requests"), Some("3"));
            assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
            assert_eq!(refused.header("x-ratelimit-reset-requests"), Some("29500ms"));
        }
        tokio::time::advance(Duration::from_millis(29_499)).await;
        assert_eq!(gateway.call(&chat("pk-1")).await.status, 429, "{scope}: a moment too early");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(gateway.call(&chat("pk-1")).await.status, 200, "{scope}: refused calls cost nothing");
        let next = gateway.call(&chat("pk-1")).await;
        assert_eq!(
            (next.status, next.header("retry-after")),
            (429, Some("10")),
            "{scope}: the second call was 10 s later"
        );
        tokio::time::advance(retry_after(&next)).await;
        assert_eq!(gateway.call(&chat("pk-1")).await.status, 200, "{scope}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_limited_together_counts_together_and_nobody_else_is_affected() {
    let status = async |gateway: &TestGateway, key| gateway.call(&chat(key)).await.status;
    for (scope, others) in [
        ("key", [("pk-2", 200), ("pk-3", 200)]),
        ("user", [("pk-2", 429), ("pk-3", 200)]),
        ("group", [("pk-2", 429), ("pk-3", 429)]),
        ("channel", [("pk-2", 429), ("pk-3", 429)]),
        ("credential", [("pk-2", 429), ("pk-3", 429)]),
    ] {
        for limits in ["{requests_per_minute: 1}", "{tokens_per_minute: 25}"] {
            let gateway = TestGateway::new(&config(scope, limits), &answering(9, 9, Duration::ZERO));
            assert_eq!(status(&gateway, "pk-1").await, 200);
            assert_eq!(status(&gateway, "pk-1").await, 429);
            for (key, expected) in others {
                assert_eq!(status(&gateway, key).await, expected, "{scope} {limits} {key}");
            }
            assert_eq!(status(&gateway, "pk-4").await, 200, "{scope} {limits}");
        }
        let gateway = TestGateway::new(&config(scope, "{concurrent: 1}"), &answering(9, 9, Duration::from_secs(1)));
        let mut running = gateway.connect();
        running.send(chat("pk-1")).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        for (key, expected) in others {
            assert_eq!(status(&gateway, key).await, expected, "{scope} {key}");
            running.reply().await;
            running.send(chat("pk-1")).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(status(&gateway, "pk-4").await, 200, "{scope}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_speaks_the_callers_dialect() {
    let config = CONFIG.replace("status: active, channels", "limits: {requests_per_minute: 1}, channels");
    let gateway = TestGateway::new(&config, &answering(1, 1, Duration::ZERO));
    assert_eq!(gateway.call(&chat("pk-1")).await.status, 200);
    let refused = async |path| {
        let reply = gateway.call(&post(path, "pk-1", "{}")).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, Some("60")), "{path}");
        assert_eq!(reply.header("x-ratelimit-reset-requests"), Some("60000ms"), "{path}");
        assert_eq!(reply.header("x-should-retry"), None, "{path}: a minute is worth waiting for");
        reply.json()
    };
    let openai = refused(CHAT).await;
    assert_eq!(openai["error"]["code"], "rate_limited");
    assert!(openai["error"]["message"].as_str().unwrap().contains("1 per minute"), "{openai}");
    let anthropic = refused("/v1/messages").await;
    assert_eq!((&anthropic["type"], &anthropic["error"]["type"]), (&"error".into(), &"rate_limit_error".into()));
    let gemini = refused("/v1beta/models/g:generateContent").await;
    assert_eq!((&gemini["error"]["code"], &gemini["error"]["status"]), (&429.into(), &"RESOURCE_EXHAUSTED".into()));
    let dashscope = refused("/api/v1/services/aigc/text-generation/generation").await;
    assert!(dashscope["code"].is_string() && dashscope["message"].is_string() && dashscope["request_id"].is_string());
    let record = &gateway.records().await[1];
    assert_eq!(
        (&record["status"], &record["error_code"], &record["end"]),
        (&429.into(), &"rate_limited".into(), &"complete".into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_refused_by_one_limit_takes_nothing_from_any_other() {
    // The key's limit is asked first and would have been used up by the refused calls.
    for (limits_of_key, scope, limits) in [
        ("{requests_per_minute: 10}", "user", "{concurrent: 1}"),
        ("{tokens_per_minute: 90}", "group", "{concurrent: 1}"),
        ("{concurrent: 10}", "group", "{concurrent: 1}"),
        ("{requests_per_minute: 10}", "channel", "{concurrent: 1}"),
        ("{tokens_per_minute: 90}", "channel", "{concurrent: 1}"),
        ("{requests_per_minute: 10}", "credential", "{concurrent: 1}"),
        ("{concurrent: 10}", "credential", "{concurrent: 1}"),
    ] {
        let limited = config(scope, limits).replace("key: pk-1", &format!("key: pk-1, limits: {limits_of_key}"));
        let gateway = TestGateway::new(&limited, &answering(1, 9, Duration::from_secs(1)));
        let mut running = gateway.connect();
        running.send(chat("pk-1")).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let refused = at_once(&gateway, 50, &chat("pk-1")).await;
        assert_eq!(count(&refused, 429), 50);
        for reply in refused {
            // Not by the key, whose limit would be reached if these calls counted there.
            let whose = if scope == "credential" { "channel" } else { scope };
            assert!(reply.text().contains(&format!("{whose} may have 1 running")), "{limits_of_key}: {}", reply.text());
        }
        running.reply().await;
        let next = gateway.call(&chat("pk-1")).await;
        assert_eq!(next.status, 200, "{limits_of_key}, {scope} {limits}: {}", next.text());
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_of_models_is_a_call_like_any_other_whoever_makes_it() {
    // The second of these keys may use certain models only, so that the gateway makes its list itself.
    for models in ["", ", models: [m]"] {
        let limited = CONFIG
            .replace(", channels: [up]", &format!(", limits: {{requests_per_minute: 2}}, channels: [up]{models}"));
        let list = vec![Step::Request, Step::json(200, r#"{"object":"list","data":[{"id":"m"}]}"#), Step::Again];
        let gateway = TestGateway::new(&limited, &Upstream::hosts([("up.test", vec![list])]));
        let status = async || gateway.call(&get("/v1/models", "pk-1")).await.status;
        assert_eq!([status().await, status().await, status().await], [200, 200, 429], "{models}");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_changed_by_a_reload_take_effect_and_what_was_counted_still_counts() {
    for scope in SCOPES {
        let gateway =
            TestGateway::new(&config(scope, "{requests_per_minute: 2}"), &answering(9, 9, Duration::from_secs(1)));
        let status = async || gateway.call(&chat("pk-1")).await.status;
        assert_eq!([status().await, status().await, status().await], [200, 200, 429]);
        gateway.reload(&config(scope, "{requests_per_minute: 3}"));
        assert_eq!([status().await, status().await], [200, 429], "{scope}: one more, not three");
        gateway.reload(&config(scope, "{requests_per_minute: 1}"));
        assert_eq!(status().await, 429, "{scope}");
        gateway.reload(&config(scope, "{concurrent: 3}"));
        assert_eq!(count(&at_once(&gateway, 9, &chat("pk-1")).await, 200), 3, "{scope}: another limit of the same");
        let mut running = gateway.connect();
        running.send(chat("pk-1")).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        gateway.reload(&config(scope, "{concurrent: 2}"));
        assert_eq!(count(&at_once(&gateway, 9, &chat("pk-1")).await, 200), 1, "{scope}: one is running already");
        gateway.reload(&config("nothing", ""));
        assert_eq!(count(&at_once(&gateway, 9, &chat("pk-1")).await, 200), 9, "{scope}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_taken_away_and_put_back_still_knows_what_is_running() {
    for scope in SCOPES {
        let gateway = TestGateway::new(&config(scope, "{concurrent: 2}"), &answering(9, 9, Duration::from_secs(9)));
        let mut running = gateway.connect();
        running.send(chat("pk-1")).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        gateway.reload(&config("nothing", ""));
        gateway.reload(&config(scope, "{concurrent: 2}"));
        assert_eq!(count(&at_once(&gateway, 9, &chat("pk-1")).await, 200), 1, "{scope}: one is running already");
    }
}
