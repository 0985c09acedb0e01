//! With affinity a conversation stays with one credential while that is healthy; the shares hold over many of them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::ANSWER;

mod turns;

const CHAT: &str = "/v1/chat/completions";

/// One channel with four credentials of the weights 1 to 4.
fn config(affinity: bool) -> String {
    format!(
        "
users:
  user1: {{proxy_key: pk-1, channels: [up]}}
channels:
  up:
    kind: custom
    base_url: 'http://up.test'
    affinity: {affinity}
    credentials:
      - {{id: a, api_key: real-a, weight: 1}}
      - {{id: b, api_key: real-b, weight: 2}}
      - {{id: c, api_key: real-c, weight: 3}}
      - {{id: d, api_key: real-d, weight: 4}}
"
    )
}

fn answering() -> Upstream {
    let answers = vec![vec![Step::Request, Step::json(200, ANSWER), Step::Again]];
    Upstream::hosts([("up.test", answers.clone()), ("one.test", answers.clone()), ("two.test", answers)])
}

/// The real key a request came with: `a`, `b` …
fn credential(request: &str) -> char {
    request.split_once("real-").and_then(|(_, rest)| rest.chars().next()).unwrap()
}

/// Sends `calls` in this order on one connection; the credential of each.
async fn credentials(gateway: &TestGateway, upstream: &Upstream, calls: &[String]) -> Vec<char> {
    let before = upstream.requests().len();
    let mut client = gateway.connect();
    for call in calls {
        assert_eq!(client.call(call).await.status, 200);
    }
    upstream.requests()[before..].iter().map(|request| credential(request)).collect()
}

/// Five calls of each of 200 conversations, in a wild order; `call` writes one from conversation and turn.
async fn stays(call: impl Fn(usize, usize) -> String) {
    let mut turns = [0; 200];
    let mut order: Vec<usize> = (0..1_000).map(|number| number % 200).collect();
    fastrand::Rng::with_seed(4).shuffle(&mut order);
    let calls: Vec<String> = order
        .iter()
        .map(|&conversation| {
            turns[conversation] += 1;
            call(conversation, turns[conversation])
        })
        .collect();
    let upstream = answering();
    let gateway = TestGateway::new(&config(true), &upstream);
    let found = credentials(&gateway, &upstream, &calls).await;
    let mut homes = HashMap::new();
    for (conversation, credential) in order.iter().zip(found) {
        let home = *homes.entry(conversation).or_insert(credential);
        assert_eq!(credential, home, "conversation {conversation}: {}", call(*conversation, 2));
    }
    let used: HashSet<_> = homes.values().collect();
    assert_eq!(used.len(), 4, "all credentials are used");
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_a_header_names_stays() {
    for header in ["x-session-id", "x-aiproxy-session", "session-id", "session_id"] {
        stays(|conversation, turn| {
            let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"turn {turn}"}}]}}"#);
            post(CHAT, "pk-1", &body).replace("host:", &format!("{header}: session-{conversation}\r\nhost:"))
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_the_body_names_stays() {
    for (path, name) in [
        (CHAT, r#""prompt_cache_key":"#),
        ("/v1/responses", r#""prompt_cache_key":"#),
        (CHAT, r#""user":"#),
        (CHAT, r#""safety_identifier":"#),
        ("/v1/messages", r#""metadata":{"user_id":"#),
    ] {
        stays(|conversation, turn| {
            let end = if name.contains('{') { "}" } else { "" };
            let body = format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":"turn {turn}"}}],{name}"name-{conversation}"{end}}}"#
            );
            post(path, "pk-1", &body)
        })
        .await;
    }
}

fn shares(found: &[char]) -> Vec<f64> {
    "abcd".chars().map(|key| found.iter().filter(|&&found| found == key).count() as f64 / found.len() as f64).collect()
}

fn in_session(number: usize) -> String {
    post(CHAT, "pk-1", "{}").replace("host:", &format!("x-session-id: s-{number}\r\nhost:"))
}

#[tokio::test(start_paused = true)]
async fn over_many_conversations_the_weights_hold() {
    let upstream = answering();
    let gateway = TestGateway::new(&config(true), &upstream);
    let calls: Vec<String> = (0..4_000).map(in_session).collect();
    for (share, weight) in shares(&credentials(&gateway, &upstream, &calls).await).iter().zip([0.1, 0.2, 0.3, 0.4]) {
        assert!((share / weight - 1.0).abs() < 0.1, "{share} for {weight}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_affinity_the_calls_of_one_conversation_are_shared_by_weight() {
    for config in [config(false), config(true).replace("    affinity: true\n", "")] {
        let upstream = answering();
        let gateway = TestGateway::new(&config, &upstream);
        let calls = vec![in_session(1); 1_000];
        for (share, weight) in shares(&credentials(&gateway, &upstream, &calls).await).iter().zip([0.1, 0.2, 0.3, 0.4])
        {
            assert!((share / weight - 1.0).abs() < 0.05, "{share} for {weight}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_names_no_conversation_is_shared_by_weight() {
    let upstream = answering();
    let gateway = TestGateway::new(&config(true), &upstream);
    let calls = vec![post(CHAT, "pk-1", r#"{"model":"m"}"#); 1_000];
    for (share, weight) in shares(&credentials(&gateway, &upstream, &calls).await).iter().zip([0.1, 0.2, 0.3, 0.4]) {
        assert!((share / weight - 1.0).abs() < 0.05, "{share} for {weight}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_leaves_a_credential_that_fails_and_comes_back_and_no_other_moves() {
    // The first call of the first session meets a 429 at its credential.
    let limited = "HTTP/1.1 429 Too Many\r\nretry-after: 30\r\ncontent-length: 2\r\n\r\n{}";
    let mut script: Vec<Step> = (0..100).flat_map(|_| [Step::Request, Step::json(200, ANSWER)]).collect();
    script.extend([Step::Request, Step::send(limited)]);
    let upstream = answering();
    upstream.now_follows("up.test", vec![script, vec![Step::Request, Step::json(200, ANSWER), Step::Again]]);
    let gateway = TestGateway::new(&config(true), &upstream);
    let sessions: Vec<String> = (0..100).map(in_session).collect();
    let homes = credentials(&gateway, &upstream, &sessions).await;

    let tried = credentials(&gateway, &upstream, &sessions[..1]).await;
    assert_eq!((tried.len(), tried[0]), (2, homes[0]), "first where it lives");
    assert_ne!(tried[1], homes[0], "then elsewhere");
    let meanwhile = credentials(&gateway, &upstream, &sessions).await;
    assert_eq!(meanwhile[0], tried[1], "and it stays there, too");
    for (now, home) in meanwhile.iter().zip(&homes) {
        assert!(now == home && *home != homes[0] || *home == homes[0] && *now != homes[0]);
    }
    assert_eq!(credentials(&gateway, &upstream, &sessions).await, meanwhile);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(credentials(&gateway, &upstream, &sessions).await, homes, "all is as before");
}

#[tokio::test(start_paused = true)]
async fn a_credential_at_its_own_limit_is_left_for_as_long_as_that_lasts() {
    let slow = vec![Step::Request, Step::Wait(Duration::from_secs(1)), Step::json(200, ANSWER), Step::Again];
    let upstream = Upstream::hosts([("up.test", vec![slow])]);
    let limited = config(true).replace(", weight", ", limits: {concurrent: 1}, weight");
    let gateway = TestGateway::new(&limited, &upstream);
    let home = credentials(&gateway, &upstream, &[in_session(1)]).await;
    for _ in 0..3 {
        let mut running = gateway.connect();
        running.send(in_session(1)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let elsewhere = credentials(&gateway, &upstream, &[in_session(1)]).await;
        assert_ne!(elsewhere, home);
        running.reply().await;
        assert_eq!(credentials(&gateway, &upstream, &[in_session(1)]).await, home);
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_added_takes_its_share_and_leaves_the_rest_where_it_is() {
    let upstream = answering();
    let gateway = TestGateway::new(&config(true), &upstream);
    let sessions: Vec<String> = (0..1_000).map(in_session).collect();
    let before = credentials(&gateway, &upstream, &sessions).await;
    gateway.reload(&format!("{}      - {{id: e, api_key: real-e, weight: 2}}\n", config(true)));
    let after = credentials(&gateway, &upstream, &sessions).await;
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *after == 'e'));
    let moved = after.iter().filter(|credential| **credential == 'e').count();
    assert!((120..220).contains(&moved), "a sixth: {moved}");
    gateway.reload(&config(true));
    assert_eq!(credentials(&gateway, &upstream, &sessions).await, before);
}

/// Channels `one` (credentials `a` and `b`) and `two` (credential `c`), alike in priority and weight.
fn two_channels(failover: bool) -> String {
    format!(
        "
users:
  user1: {{proxy_key: pk-1, channels: [one, two], failover: {failover}}}
channels:
  one:
    kind: custom
    base_url: 'http://one.test'
    affinity: true
    credentials: [{{id: a, api_key: real-a}}, {{id: b, api_key: real-b}}]
  two: {{kind: custom, base_url: 'http://two.test', affinity: true, api_key: real-c}}
"
    )
}

#[tokio::test(start_paused = true)]
async fn a_conversation_stays_with_one_of_two_channels() {
    for failover in [false, true] {
        let upstream = answering();
        let gateway = TestGateway::new(&two_channels(failover), &upstream);
        let sessions: Vec<String> = (0..400).map(in_session).collect();
        let first = credentials(&gateway, &upstream, &sessions).await;
        assert_eq!(credentials(&gateway, &upstream, &sessions).await, first);
        let [a, b, c, _] = shares(&first)[..] else { unreachable!() };
        assert!((a + b - 0.5).abs() < 0.05 && (a - b).abs() < 0.05 && (c - 0.5).abs() < 0.05, "{a} {b} {c}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_conversation_leaves_a_channel_that_is_down_and_comes_back() {
    let upstream = answering();
    let gateway = TestGateway::new(&two_channels(true), &upstream);
    let sessions: Vec<String> = (0..40).map(in_session).collect();
    let homes = credentials(&gateway, &upstream, &sessions).await;
    // Idle connections are given up, new ones are refused.
    tokio::time::advance(Duration::from_secs(60)).await;
    upstream.now_follows("one.test", vec![vec![Step::Refuse]]);
    assert!(credentials(&gateway, &upstream, &sessions).await.iter().all(|credential| *credential == 'c'));
    upstream.now_follows("one.test", vec![vec![Step::Request, Step::json(200, ANSWER), Step::Again]]);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(credentials(&gateway, &upstream, &sessions).await, homes);
}
