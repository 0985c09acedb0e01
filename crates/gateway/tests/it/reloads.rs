//! What calls have taught outlives a reload, for whatever is still the same.

use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::places::*;

/// A gateway with two credentials, of which the first that was used is refused for a minute, and the number of the
/// other.
async fn one_left_alone(refusal: Vec<Step>) -> (TestGateway, Upstream, char) {
    let upstream = Upstream::hosts([("a.test", vec![refusal, answers()]), ("b.test", vec![answers()])]);
    let gateway = TestGateway::new(TWO_KEYS, &upstream);
    assert_eq!(chat(&gateway).await.status, 200);
    let other = keys(&upstream)[1];
    (gateway, upstream, other)
}

/// The numbers of the keys that twenty more calls come with.
async fn then_used(gateway: &TestGateway, upstream: &Upstream) -> Vec<char> {
    let before = upstream.requests().len();
    for _ in 0..20 {
        assert_eq!(chat(gateway).await.status, 200);
    }
    let mut used = keys(upstream).split_off(before);
    used.sort_unstable();
    used.dedup();
    used
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_still_the_same_stays_left_alone() {
    for status in [401, 429] {
        let (gateway, upstream, other) = one_left_alone(fails_with(status, "retry-after: 60\r\n", "{}")).await;
        for config in [
            TWO_KEYS.to_owned(),
            with(TWO_KEYS, "weight: 3"),
            TWO_KEYS.replace("{id: one,", "{id: new, api_key: real-9, status: disabled}, {id: one, weight: 5,"),
            TWO_KEYS.replace("http://a.test", "http://b.test"),
            format!("{TWO_KEYS}  aaa: {{kind: openai, base_url: 'http://c.test', api_key: x}}\n"),
        ] {
            gateway.reload(&config);
            assert_eq!(then_used(&gateway, &upstream).await, [other], "{config}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_whose_key_was_exchanged_begins_anew() {
    let (gateway, upstream, other) = one_left_alone(fails(401)).await;
    let refused = if other == '1' { '2' } else { '1' };
    gateway.reload(&TWO_KEYS.replace(&format!("real-{refused}"), "real-7"));
    assert_eq!(then_used(&gateway, &upstream).await, [other, '7']);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_stays_open_and_a_new_place_is_tried() {
    let upstream = Upstream::hosts([("a.test", vec![]), ("b.test", vec![answers()])]);
    let gateway = TestGateway::new(ONE_KEY, &upstream);
    for _ in 0..5 {
        assert_eq!(chat(&gateway).await.status, 502);
    }
    for config in [ONE_KEY.to_owned(), with(ONE_KEY, "weight: 2"), ONE_KEY.replace("real-1", "real-2")] {
        gateway.reload(&config);
        let reply = chat(&gateway).await;
        assert_eq!((reply.status, retry_after(&reply)), (503, Some(5)), "{config}");
    }
    gateway.reload(&ONE_KEY.replace("a.test", "b.test"));
    assert_eq!(chat(&gateway).await.status, 200);
    gateway.reload(ONE_KEY);
    assert_eq!(chat(&gateway).await.status, 502, "what was gone from the config is forgotten");
}

#[tokio::test(start_paused = true)]
async fn switching_health_off_lets_calls_through_at_once() {
    let upstream = Upstream::hosts([("a.test", vec![fails(401), answers()])]);
    let gateway = TestGateway::new(ONE_KEY, &upstream);
    chat(&gateway).await;
    assert_eq!(chat(&gateway).await.status, 503);
    gateway.reload(&with(ONE_KEY, "health: false"));
    assert_eq!(chat(&gateway).await.status, 200);
}
