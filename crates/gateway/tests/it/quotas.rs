//! How much keys, users, groups, departments, channels and credentials may use, what the others are told, and that it is
//! the ledger's numbers that count.

use std::time::Duration;

use aiproxy_config::snapshot::{QuotaPeriod, Scope};
use aiproxy_ledger::tally::{Amounts, Periods};
use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Reply, Step, TestGateway, Upstream};
use serde_json::Value;

use crate::ANSWER;

const CHAT: &str = "/v1/chat/completions";
/// Everything that may have quotas, by its id in `config`.
const ENTITIES: [(Scope, &str); 6] = [
    (Scope::Key, "first"),
    (Scope::User, "one"),
    (Scope::Group, "team"),
    (Scope::Department, "lab"),
    (Scope::Channel, "up"),
    (Scope::Credential, "up/a"),
];

/// User `one` has the key `pk-1`; `quotas` are those of `scope`. A million tokens of the model `m` cost one.
fn config(scope: Scope, quotas: &str) -> String {
    let of = |(place, _)| if place == scope { format!(", quotas: {quotas}") } else { String::new() };
    let [key, user, group, department, channel, credential] = ENTITIES.map(of);
    format!(
        "
system: {{timezone: Asia/Shanghai, prices: {{models: {{m: {{input: 1, output: 1}}, m-served: {{input: 1, output: 1}}}}}}}}
departments: {{lab: {{limits: {{}}{department}}}}}
users:
  one: {{department: lab, groups: [team], proxy_keys: [{{id: first, key: pk-1{key}}}]{user}}}
groups:
  team: {{channels: [up]{group}}}
channels:
  up: {{kind: openai, base_url: 'http://up.test', health: false, credentials: [{{id: a, api_key: real-a{credential}}}]{channel}}}
"
    )
}

/// `connections` that answer `calls` calls each, taking their `time` about it.
fn answering(connections: usize, calls: usize, time: Duration) -> Upstream {
    let call = [Step::Request, Step::Wait(time), Step::json(200, ANSWER)];
    let script: Vec<Step> = (0..calls).flat_map(|_| call.clone()).collect();
    Upstream::new(vec![script; connections])
}

fn chat() -> String {
    post(CHAT, "pk-1", r#"{"model":"m","max_tokens":10,"messages":[]}"#)
}

/// Sends `count` calls at once, each on a connection of its own, and waits for all answers.
async fn at_once(gateway: &TestGateway, count: usize) -> Vec<Reply> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = gateway.connect();
        client.send(chat()).await;
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

/// What an entity used so far.
fn used(gateway: &TestGateway, scope: Scope, id: &str) -> Amounts {
    let tally = gateway.gateway().quotas().used(scope, id).unwrap_or_default();
    tally.used(QuotaPeriod::Total, &Periods::default())
}

/// What the records say that all calls used.
async fn recorded(gateway: &TestGateway) -> Amounts {
    let of = |record: &Value| Amounts {
        requests: u64::from(record["error_code"] != "quota_exceeded"),
        tokens: ["input", "output"].map(|part| record["usage"][part].as_u64().unwrap_or(0)).iter().sum(),
        cost: record["cost"].as_i64().unwrap_or(0),
    };
    gateway.records().await.iter().map(of).fold(Amounts::default(), Amounts::plus)
}

#[tokio::test(start_paused = true)]
async fn of_a_hundred_calls_at_once_exactly_those_within_the_quota_are_served() {
    for (scope, id) in ENTITIES {
        let upstream = answering(5, 1, Duration::from_secs(10));
        let gateway = TestGateway::new(&config(scope, "[{unit: requests, per: total, amount: 5}]"), &upstream);
        let replies = at_once(&gateway, 100).await;
        assert_eq!((count(&replies, 200), count(&replies, 429), upstream.requests().len()), (5, 95, 5), "{scope:?}");
        for refused in replies.iter().filter(|reply| reply.status == 429) {
            assert_eq!(refused.json()["error"]["code"], "quota_exceeded");
            assert_eq!(refused.header("x-should-retry"), Some("false"), "{}", refused.head);
            assert_eq!(refused.header("retry-after"), None, "a total never begins anew");
            assert!(refused.text().contains("5 calls in total"), "{}", refused.text());
        }
        assert_eq!(used(&gateway, scope, id), recorded(&gateway).await, "{scope:?}");
        assert_eq!(used(&gateway, scope, id).requests, 5, "{scope:?}: refused calls use nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_and_cost_are_counted_as_the_records_have_them() {
    for unit in ["tokens, per: month, amount: 50", "cost, per: month, amount: 0.00005"] {
        for (scope, id) in ENTITIES {
            let gateway =
                TestGateway::new(&config(scope, &format!("[{{unit: {unit}}}]")), &answering(1, 9, Duration::ZERO));
            assert_eq!(gateway.call(&chat()).await.status, 200, "{scope:?}");
            assert_eq!(gateway.call(&chat()).await.status, 200, "{scope:?}: 29 of 50 are used");
            let refused = gateway.call(&chat()).await;
            assert_eq!((refused.status, refused.header("x-should-retry")), (429, Some("false")), "{scope:?} {unit}");
            let all = used(&gateway, scope, id);
            assert_eq!((all, all.tokens, all.cost), (recorded(&gateway).await, 58, 58), "{scope:?}");
            for (scope, id) in ENTITIES {
                assert_eq!(used(&gateway, scope, id).tokens, 58, "{scope:?}: with quotas or without");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_when_the_quota_begins_anew() {
    for (per, longest_s) in [("hour", 3_600), ("day", 86_400), ("month", 31 * 86_400)] {
        let quotas = format!("[{{unit: tokens, per: {per}, amount: 29}}]");
        let gateway = TestGateway::new(&config(Scope::User, &quotas), &answering(1, 1, Duration::ZERO));
        assert_eq!(gateway.call(&chat()).await.status, 200);
        let refused = gateway.call(&chat()).await;
        let text = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(text.contains(&format!("this user may use 29 tokens per {per}.")), "{text}");
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=longest_s).contains(&wait), "{per} {wait}");
        let moment = text.rsplit_once("until ").unwrap().1.trim_end_matches('.');
        assert!(moment.ends_with(":00:00+08:00"), "in the config's time zone: {moment}");
        let moment: jiff::Timestamp = moment.parse().unwrap();
        let told_ms = moment.as_millisecond() as u64 - aiproxy_core::time::unix_ms();
        assert_eq!(told_ms.div_ceil(1_000), wait, "{per}");
        tokio::time::advance(Duration::from_secs(wait - 1)).await;
        assert_eq!(gateway.call(&chat()).await.status, 429, "{per}");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_ne!(gateway.call(&chat()).await.status, 429, "{per}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_running_calls_hold_may_come_back_in_a_moment() {
    // 10 tokens of the prompt and 10 of the answer are held.
    let quotas = "[{unit: tokens, per: day, amount: 20}]";
    let gateway = TestGateway::new(&config(Scope::Group, quotas), &answering(1, 9, Duration::from_secs(5)));
    let mut running = gateway.connect();
    running.send(chat()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = gateway.call(&chat()).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (429, Some("quota_exceeded")));
    assert_eq!((refused.header("x-should-retry"), refused.header("retry-after")), (None, Some("1")));
    drop(running);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(used(&gateway, Scope::Group, "team"), recorded(&gateway).await, "left early: an estimate");
}

#[tokio::test(start_paused = true)]
async fn a_soft_quota_lets_calls_through_and_says_so() {
    let quotas = "[{unit: tokens, per: month, amount: 50, soft: true}]";
    for (scope, said) in [(Scope::Key, Some("key tokens/month 116% of 50")), (Scope::Channel, None)] {
        let gateway = TestGateway::new(&config(scope, quotas), &answering(1, 9, Duration::ZERO));
        let warning = async || {
            let reply = gateway.call(&chat()).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            reply.header("x-aiproxy-quota-warning").map(ToOwned::to_owned)
        };
        assert_eq!([warning().await, warning().await], [None, None]);
        assert_eq!(warning().await.as_deref(), said, "{scope:?}: a channel is not the caller's");
    }
}

/// Channels `first` (credentials `a` and `b`) and, behind it, `second`.
fn channels(failover: bool, of_credentials: &str, of_first: &str) -> String {
    format!(
        "
users:
  one: {{channels: [first, second], proxy_key: pk-1, failover: {failover}}}
channels:
  first:
    kind: openai
    base_url: 'http://first.test'
    health: false
    quotas: {of_first}
    credentials:
      - {{id: a, api_key: real-a, quotas: {of_credentials}}}
      - {{id: b, api_key: real-b, quotas: {of_credentials}}}
  second: {{kind: openai, base_url: 'http://second.test', api_key: real-c, priority: 1}}
"
    )
}

#[tokio::test(start_paused = true)]
async fn a_credential_or_channel_without_quota_makes_room_for_the_next() {
    let two = "[{unit: requests, per: total, amount: 2}]";
    for (failover, of_credentials, of_first, passed) in
        [(false, two, "[]", 4), (true, two, "[]", 9), (false, "[]", two, 2), (true, "[]", two, 9)]
    {
        let gateway = TestGateway::new(&channels(failover, of_credentials, of_first), &answering(9, 9, Duration::ZERO));
        let replies = at_once(&gateway, 9).await;
        assert_eq!((count(&replies, 200), count(&replies, 429)), (passed, 9 - passed), "{failover} {of_first}");
        let of_first = used(&gateway, Scope::Channel, "first").requests as usize;
        let of_second = used(&gateway, Scope::Channel, "second").requests as usize;
        assert_eq!(of_first + of_second, passed);
        assert_eq!(used(&gateway, Scope::User, "one").requests as usize, passed);
        for refused in replies.iter().filter(|reply| reply.status == 429) {
            assert_eq!(refused.header("x-should-retry"), Some("false"));
            assert!(refused.text().contains("the channel may make 2 calls in total"), "{}", refused.text());
        }
    }
}

/// The request counts where the call was served last, so what a failed attempt held is free for the next.
#[tokio::test(start_paused = true)]
async fn a_call_does_not_stand_in_its_own_way_and_counts_once() {
    let upstream =
        Upstream::new([vec![Step::Request, Step::json(503, "{}")], vec![Step::Request, Step::json(200, ANSWER)]]);
    let one = "[{unit: requests, per: total, amount: 1}]";
    let gateway = TestGateway::new(&channels(false, "[]", one), &upstream);
    let reply = gateway.call(&chat()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(used(&gateway, Scope::Channel, "first").requests, 1);
    let credentials = ["first/a", "first/b"].map(|id| used(&gateway, Scope::Credential, id).requests);
    assert_eq!(credentials.iter().sum::<u64>(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail_count_and_never_more_of_them_than_the_quota() {
    let failing = vec![Step::Request, Step::Wait(Duration::from_secs(1)), Step::json(500, "{}")];
    for scope in [Scope::Key, Scope::Channel, Scope::Credential] {
        let upstream = Upstream::new(vec![failing.clone(); 20]);
        let gateway = TestGateway::new(&config(scope, "[{unit: requests, per: total, amount: 5}]"), &upstream);
        let replies = at_once(&gateway, 50).await;
        assert_eq!((count(&replies, 500), count(&replies, 429)), (5, 45), "{scope:?}");
        assert_eq!(count(&at_once(&gateway, 5).await, 429), 5, "{scope:?}: used");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_comes_with_a_reload_finds_what_was_used_before() {
    for (scope, _) in ENTITIES {
        let gateway = TestGateway::new(&config(scope, "[]"), &answering(1, 9, Duration::ZERO));
        for _ in 0..3 {
            assert_eq!(gateway.call(&chat()).await.status, 200);
        }
        gateway.reload(&config(scope, "[{unit: requests, per: month, amount: 4}]"));
        let status = async || gateway.call(&chat()).await.status;
        assert_eq!([status().await, status().await], [200, 429], "{scope:?}");
        gateway.reload(&config(scope, "[{unit: requests, per: month, amount: 5}]"));
        assert_eq!([status().await, status().await], [200, 429], "{scope:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_tokens_goes_on_when_they_are_used_up() {
    let list = [Step::Request, Step::json(200, r#"{"object":"list","data":[{"id":"m"}]}"#)];
    let script = [vec![Step::Request, Step::json(200, ANSWER)], list.to_vec()].concat();
    let gateway = TestGateway::new(
        &config(Scope::User, "[{unit: tokens, per: day, amount: 1}, {unit: requests, per: day, amount: 2}]"),
        &Upstream::new([script]),
    );
    assert_eq!(gateway.call(&chat()).await.status, 200);
    assert_eq!(gateway.call(&chat()).await.status, 429);
    assert_eq!(gateway.call(&get("/v1/models", "pk-1")).await.status, 200);
    assert_eq!(gateway.call(&get("/v1/models", "pk-1")).await.status, 429, "but it is a call");
}
