//! Who gets how many calls: lower priority numbers first, within one priority by weight.

use std::collections::BTreeMap;

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{TestGateway, Upstream};

use crate::places::*;

/// Of so many calls, how many came to each host with each key.
async fn spread(config: &str, calls: usize) -> BTreeMap<(String, char), usize> {
    let upstream = Upstream::hosts(["a.test", "b.test", "c.test"].map(|host| (host, vec![answers()])));
    let gateway = TestGateway::new(config, &upstream);
    let mut client = gateway.connect();
    let call = post(CHAT, "pk-1", r#"{"model":"m"}"#);
    for _ in 0..calls {
        assert_eq!(client.call(&call).await.status, 200);
    }
    let mut counts = BTreeMap::new();
    for host in ["a.test", "b.test", "c.test"] {
        for request in upstream.requests_to(host) {
            let key = request.split("real-").nth(1).and_then(|rest| rest.chars().next()).unwrap();
            *counts.entry((host.to_owned(), key)).or_default() += 1;
        }
    }
    counts
}

/// Asserts that the counts are within two percent (and of small ones, within five calls) of what `weights` promise.
fn assert_shares(counts: BTreeMap<(String, char), usize>, weights: &[usize]) {
    let (calls, total) = (counts.values().sum::<usize>(), weights.iter().sum::<usize>());
    let expected: Vec<usize> = weights.iter().map(|weight| calls * weight / total).collect();
    let is_close = |(count, expected): (&usize, &usize)| count.abs_diff(*expected) <= (expected / 50).max(5);
    let all_close = counts.values().zip(&expected).all(is_close);
    assert!(counts.len() == weights.len() && all_close, "{counts:?}, expected {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn channels_credentials_and_endpoints_share_calls_by_weight_each_on_their_own() {
    let config = "
users:
  user1: {proxy_key: pk-1, channels: [last, first, second]}
channels:
  first:
    kind: openai
    priority: 3
    weight: 3
    base_url: 'http://a.test'
    credentials: [{api_key: real-1, weight: 4}, {api_key: real-2}, {api_key: real-3, weight: 9, status: disabled}]
  second:
    kind: openai
    priority: 3
    endpoints: [{base_url: 'http://b.test', weight: 3}, {base_url: 'http://c.test'}]
    api_key: real-4
  last: {kind: openai, base_url: 'http://d.test', api_key: real-5, priority: 4, weight: 100}
";
    // Of 20: 15 for the first channel, shared 4 to 1; 5 for the second, shared 3 to 1.
    assert_shares(spread(config, 10_000).await, &[48, 12, 15, 5]);
    let with_failover = config.replace("second]", "second], failover: true");
    assert_shares(spread(&with_failover, 1_600).await, &[48, 12, 15, 5]);
}

/// Two channels of the best priority, one below, one at the bottom.
const TIERS: &str = "
users:
  user1: {proxy_key: pk-1, channels: [bottom, first, second, third], failover: true}
channels:
  first: {kind: openai, base_url: 'http://a.test', api_key: real-1, priority: 1}
  second: {kind: openai, base_url: 'http://b.test', api_key: real-2, priority: 1}
  third: {kind: openai, base_url: 'http://c.test', api_key: real-3, priority: 2}
  bottom: {kind: openai, base_url: 'http://d.test', api_key: real-4, priority: 9}
";

#[tokio::test(start_paused = true)]
async fn a_lower_tier_is_used_only_when_the_whole_higher_one_fails() {
    let fine = || vec![answers()];
    let down = || vec![fails(503)];
    for (hosts, used, expected) in [
        ([fine(), fine(), fine(), fine()], &['1', '2'][..], 200),
        ([down(), fine(), fine(), fine()], &['1', '2'], 200),
        ([fine(), vec![], fine(), fine()], &['1'], 200),
        ([down(), down(), fine(), fine()], &['1', '2', '3'], 200),
        ([down(), down(), down(), fine()], &['1', '2', '3', '4'], 200),
        ([down(), down(), down(), down()], &['1', '2', '3', '4'], 503),
    ] {
        let [a, b, c, d] = hosts;
        let upstream = Upstream::hosts([("a.test", a), ("b.test", b), ("c.test", c), ("d.test", d)]);
        let gateway = TestGateway::new(TIERS, &upstream);
        for _ in 0..20 {
            assert_eq!(chat(&gateway).await.status, expected);
        }
        let mut seen = keys(&upstream);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, used);
    }
}

#[tokio::test(start_paused = true)]
async fn the_order_of_attempts_is_that_of_priorities() {
    let upstream = Upstream::hosts(["a.test", "b.test", "c.test", "d.test"].map(|host| (host, vec![fails(429)])));
    let gateway = TestGateway::new(TIERS, &upstream);
    chat(&gateway).await;
    let mut keys = keys(&upstream);
    keys[..2].sort_unstable();
    assert_eq!(keys, ['1', '2', '3', '4']);
}

#[tokio::test(start_paused = true)]
async fn calls_that_go_on_are_spread_over_all_that_are_left() {
    let config = TWO_KEYS.replace(
        "{id: one, api_key: real-1}, {id: two, api_key: real-2}",
        "{api_key: real-1}, {api_key: real-2}, {api_key: real-3}, {api_key: real-4}",
    );
    // Each call's first attempt fails, whoever it is made with.
    let scripts = (0..2_000)
        .map(|number| if number % 2 == 0 { fails(408) } else { vec![answers()[0].clone(), answers()[1].clone()] });
    let upstream = Upstream::hosts([("a.test", scripts.collect())]);
    let gateway =
        TestGateway::new(&(with(&config, "health: false") + "\nsystem: {retry_budget: {share: 1}}"), &upstream);
    for _ in 0..500 {
        assert_eq!(chat(&gateway).await.status, 200);
    }
    let mut pairs: BTreeMap<(char, char), usize> = BTreeMap::new();
    for pair in keys(&upstream).chunks(2) {
        *pairs.entry((pair[0], pair[1])).or_default() += 1;
    }
    assert_eq!(pairs.len(), 12, "any other credential may be next: {pairs:?}");
    assert!(pairs.values().all(|count| (20..=70).contains(count)), "{pairs:?}");
}
