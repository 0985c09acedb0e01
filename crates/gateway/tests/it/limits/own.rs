//! Limits of channels and credentials: a credential at its limit makes room for the next one, a channel at its limit
//! for another channel if the caller has failover.

use super::*;

/// Channels `first` (credentials `a` and `b`) and, behind it, `second`.
fn config(failover: bool, of_credentials: &str, of_first: &str) -> String {
    format!(
        "
users:
  one: {{channels: [first, second], proxy_key: pk-1, failover: {failover}}}
  two: {{channels: [first], proxy_key: pk-2}}
channels:
  first:
    kind: openai
    base_url: 'http://first.test'
    limits: {of_first}
    credentials:
      - {{id: a, api_key: real-a, limits: {of_credentials}}}
      - {{id: b, api_key: real-b, limits: {of_credentials}}}
  second: {{kind: openai, base_url: 'http://second.test', api_key: real-c, priority: 1}}
"
    )
}

/// How many of the requests so far came with each of the real keys.
fn by_key(upstream: &Upstream) -> [usize; 3] {
    ["real-a", "real-b", "real-c"].map(|key| upstream.requests().iter().filter(|request| request.contains(key)).count())
}

#[tokio::test(start_paused = true)]
async fn a_credential_at_its_limit_makes_room_for_the_next_and_the_last_says_429() {
    for (limits, code) in [
        ("{concurrent: 3}", "too_many_concurrent"),
        ("{requests_per_minute: 3}", "rate_limited"),
        ("{tokens_per_minute: 18}", "rate_limited"),
    ] {
        let upstream = answering(9, 9, Duration::from_secs(1));
        let gateway = TestGateway::new(&config(false, limits, "{}"), &upstream);
        let replies = at_once(&gateway, 20, &chat("pk-2")).await;
        assert_eq!((count(&replies, 200), count(&replies, 429)), (6, 14), "{limits}");
        assert_eq!(by_key(&upstream), [3, 3, 0], "{limits}");
        let refused = replies.iter().find(|reply| reply.status == 429).unwrap();
        assert_eq!(refused.json()["error"]["code"], code, "{limits}");
        let passes = if code == "rate_limited" { retry_after(refused) } else { Duration::ZERO };
        tokio::time::advance(passes).await;
        assert_eq!(gateway.call(&chat("pk-2")).await.status, 200, "{limits}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_told_is_that_of_the_credential_that_is_free_first() {
    let upstream = answering(9, 9, Duration::ZERO);
    let gateway = TestGateway::new(&config(false, "{requests_per_minute: 1}", "{}"), &upstream);
    for _ in 0..2 {
        assert_eq!(gateway.call(&chat("pk-2")).await.status, 200);
        tokio::time::advance(Duration::from_secs(20)).await;
    }
    for _ in 0..20 {
        let refused = gateway.call(&chat("pk-2")).await;
        assert_eq!(
            (refused.status, refused.header("retry-after")),
            (429, Some("20")),
            "one is free in 20 s, the other in 40 s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_at_its_limit_is_left_only_with_failover() {
    for limits in ["{concurrent: 2}", "{requests_per_minute: 2}", "{tokens_per_minute: 12}"] {
        for failover in [false, true] {
            let upstream = answering(9, 9, Duration::from_secs(1));
            let gateway = TestGateway::new(&config(failover, "{}", limits), &upstream);
            let replies = at_once(&gateway, 5, &chat("pk-1")).await;
            let passed = if failover { 5 } else { 2 };
            assert_eq!((count(&replies, 200), count(&replies, 429)), (passed, 5 - passed), "{limits} {failover}");
            let [a, b, c] = by_key(&upstream);
            assert_eq!((a + b, c), (2, passed - 2), "{limits} {failover}");
            let attempts: Vec<_> =
                gateway.records().await.iter().map(|record| record["attempts"].as_array().unwrap().len()).collect();
            assert!(attempts.iter().all(|tried| *tried <= 1), "a channel that was full was not tried: {attempts:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn full_credentials_move_a_call_to_another_channel_only_with_failover() {
    for (failover, passed) in [(false, 2), (true, 5)] {
        let upstream = answering(9, 9, Duration::from_secs(1));
        let gateway = TestGateway::new(&config(failover, "{concurrent: 1}", "{}"), &upstream);
        assert_eq!(count(&at_once(&gateway, 5, &chat("pk-1")).await, 200), passed);
        assert_eq!(by_key(&upstream), [1, 1, passed - 2]);
    }
}

/// The upstream refused the first attempt: what that attempt held is free for the second.
#[tokio::test(start_paused = true)]
async fn a_call_does_not_stand_in_its_own_way() {
    let upstream = Upstream::new([
        vec![Step::Request, Step::json(429, "{}"), Step::Request, Step::json(200, ANSWER)],
        vec![Step::Request, Step::json(200, ANSWER)],
    ]);
    let gateway = TestGateway::new(&config(false, "{}", "{concurrent: 1}"), &upstream);
    let reply = gateway.call(&chat("pk-2")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let record = gateway.record().await;
    assert_eq!(record["attempts"].as_array().unwrap().len(), 2, "{record}");
}

/// While a call waits for its second credential, the first one serves others.
#[tokio::test(start_paused = true)]
async fn a_credential_that_refused_has_its_place_back_at_once() {
    let config = config(false, "{concurrent: 1}", "{}\n    health: false");
    let slow = [Step::Request, Step::Wait(Duration::from_secs(9)), Step::json(200, ANSWER)];
    let slowly = [slow.clone(), slow].concat();
    let refusing = [vec![Step::Request, Step::json(503, "{}")], slowly.clone()].concat();
    let upstream = Upstream::new([refusing, slowly.clone(), slowly]);
    let gateway = TestGateway::new(&config, &upstream);
    let mut waiting = gateway.connect();
    waiting.send(chat("pk-2")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(gateway.call(&chat("pk-2")).await.status, 200, "one credential is busy, the other is not");
    assert_eq!(waiting.reply().await.status, 200);
}
