//! The verdict table: which outcomes of an attempt go on to the next credential, place or channel, and which are the
//! answer.

use std::time::Duration;

use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::ANSWER;
use crate::places::*;

/// Ways not to get a connection.
fn no_connection() -> [Vec<Step>; 4] {
    let never = Step::SlowConnect(Duration::from_secs(3600));
    [vec![Step::Refuse], vec![Step::FailLookup], vec![Step::FailTls], vec![never]]
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_another_credential_may_not_meet_goes_on_to_it() {
    for status in [401, 402, 403, 408, 429, 500, 501, 502, 503, 504, 505, 529] {
        let upstream = Upstream::hosts([("a.test", vec![fails(status), answers()])]);
        let gateway = TestGateway::new(TWO_KEYS, &upstream);
        let reply = chat(&gateway).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER), "{status}");
        let mut keys = keys(&upstream);
        keys.sort_unstable();
        assert_eq!(keys, ['1', '2'], "{status}: each credential once");
        assert_eq!(statuses(&gateway.record().await), [status.into(), 200]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_without_a_body_or_with_nonsense_in_it_goes_on_as_well() {
    for refusal in [
        "HTTP/1.1 500 E\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 429 E\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<p>\0",
        "HTTP/1.1 503 E\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 502 E\r\n\r\nuntil the connection closes",
    ] {
        let upstream = Upstream::hosts([("a.test", vec![vec![Step::Request, Step::send(refusal)], answers()])]);
        let gateway = TestGateway::new(TWO_KEYS, &upstream);
        assert_eq!(chat(&gateway).await.status, 200, "{refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_whose_body_breaks_off_or_never_ends_goes_on_by_its_status() {
    let head = "HTTP/1.1 429 E\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{\"error\":";
    for (end, seconds) in [(Step::Reset, 0), (Step::Hang, 10)] {
        let script = vec![Step::Request, Step::send(head), end.clone()];
        let upstream = Upstream::hosts([("a.test", vec![script, answers()])]);
        let gateway = TestGateway::new(TWO_KEYS, &upstream);
        let start = tokio::time::Instant::now();
        assert_eq!((chat(&gateway).await.status, start.elapsed().as_secs()), (200, seconds), "{end:?}");
        assert_eq!(keys(&upstream).len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_call_itself_never_goes_anywhere_else() {
    for status in [400, 404, 405, 409, 413, 415, 422, 451] {
        let upstream = Upstream::hosts([("a.test", vec![fails(status), answers()]), ("b.test", vec![answers()])]);
        for config in [TWO_KEYS.to_owned(), two_channels_with_failover(), TWO_ENDPOINTS.to_owned()] {
            for host in ["a.test", "b.test"] {
                upstream.now_follows(host, vec![fails(status)]);
            }
            let before = upstream.requests().len();
            let gateway = TestGateway::new(&config, &upstream);
            let reply = chat(&gateway).await;
            assert_eq!((reply.status, reply.text()), (status, error_body("some_code")));
            assert_eq!(upstream.requests().len() - before, 1, "{status}");
            assert_eq!(statuses(&gateway.record().await), [u64::from(status)]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_gives_no_connection_is_left_for_the_next_channel() {
    for script in no_connection() {
        let upstream = Upstream::hosts([("a.test", vec![script.clone()]), ("b.test", vec![answers()])]);
        let gateway = TestGateway::new(&two_channels_with_failover(), &upstream);
        assert_eq!(chat(&gateway).await.status, 200, "{script:?}");
        assert_eq!(keys(&upstream), ['2']);
        assert_eq!(upstream.dials(), ["a.test", "b.test"]);
        assert_eq!(statuses(&gateway.record().await), [0, 200]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_gives_no_connection_is_left_for_the_next_endpoint_with_the_same_credential() {
    for script in no_connection() {
        let upstream = Upstream::hosts([("a.test", vec![script.clone()]), ("b.test", vec![answers()])]);
        let gateway = TestGateway::new(TWO_ENDPOINTS, &upstream);
        for _ in 0..4 {
            assert_eq!(chat(&gateway).await.status, 200, "{script:?}");
        }
        assert_eq!(keys(&upstream), ['1'; 4]);
        assert!(upstream.dials().contains(&"a.test".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn another_credential_does_not_help_where_the_only_place_gives_no_connection() {
    for script in no_connection() {
        let upstream = Upstream::hosts([("a.test", vec![script.clone()])]);
        let gateway = TestGateway::new(TWO_KEYS, &upstream);
        let start = tokio::time::Instant::now();
        let status = chat(&gateway).await.status;
        let expected = if matches!(script[0], Step::SlowConnect(_)) { (504, 10) } else { (502, 0) };
        assert_eq!((status, start.elapsed().as_secs()), expected, "{script:?}");
        assert_eq!(upstream.dials().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_ill_is_left_for_the_other_with_the_same_credential() {
    for status in [500, 502, 503, 504, 529] {
        let upstream = Upstream::hosts([("a.test", vec![fails(status)]), ("b.test", vec![answers()])]);
        let gateway = TestGateway::new(TWO_ENDPOINTS, &upstream);
        for _ in 0..4 {
            assert_eq!(chat(&gateway).await.status, 200);
        }
        assert!(keys(&upstream).iter().all(|key| *key == '1'));
        let tried = upstream.requests_to("a.test").len();
        assert!((1..=4).contains(&tried), "{tried}");
        for record in gateway.records().await {
            assert!([vec![status.into(), 200], vec![200]].contains(&statuses(&record)), "{record}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_refused_at_every_endpoint() {
    for status in [401, 403, 429] {
        let upstream = Upstream::hosts([("a.test", vec![fails(status)]), ("b.test", vec![fails(status)])]);
        let gateway = TestGateway::new(TWO_ENDPOINTS, &upstream);
        assert_eq!(chat(&gateway).await.status, status);
        assert_eq!(keys(&upstream), ['1']);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_is_stepped_over_soon_and_silently() {
    let upstream = Upstream::hosts([("a.test", vec![]), ("b.test", vec![answers()])]);
    let gateway = TestGateway::new(TWO_ENDPOINTS, &upstream);
    for _ in 0..100 {
        assert_eq!(gateway.call(&get("/v1/models", "pk-1")).await.status, 200);
    }
    let dead = upstream.dials().iter().filter(|authority| *authority == "a.test").count();
    assert_eq!(dead, 5, "until its breaker opened");
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_in_the_record_in_order() {
    let slow = |status, seconds| {
        let body = error_body("some_code");
        vec![Step::Request, Step::Wait(Duration::from_secs(seconds)), Step::json(status, &body)]
    };
    let upstream = Upstream::hosts([("a.test", vec![slow(429, 1), slow(401, 2)]), ("b.test", vec![slow(503, 3)])]);
    let config = "
users:
  user1: {proxy_key: pk-1, channels: [first, second, third], failover: true}
channels:
  first:
    kind: openai
    base_url: 'http://a.test'
    credentials: [{id: one, api_key: real-1}, {id: two, api_key: real-2}]
  second: {kind: openai, base_url: 'http://b.test', api_key: real-3, priority: 1}
  third: {kind: openai, endpoints: [{base_url: 'http://c.test'}], api_key: real-4, priority: 2}
  fourth: {kind: openai, base_url: 'http://d.test', api_key: real-5, priority: 3}
"
    .replace("second, third]", "second, third, fourth]");
    upstream.now_follows("d.test", vec![answers()]);
    let gateway = TestGateway::new(&config, &upstream);
    let reply = gateway.call(&post(CHAT, "pk-1", r#"{"model":"m"}"#)).await;
    assert_eq!(reply.status, 200);
    let record = gateway.record().await;
    assert_eq!(statuses(&record), [429, 401, 503, 0, 200]);
    let all = |name: &str| -> Vec<serde_json::Value> {
        record["attempts"].as_array().unwrap().iter().map(|attempt| attempt[name].clone()).collect()
    };
    assert_eq!(all("channel_id"), ["first", "first", "second", "third", "fourth"]);
    assert_eq!(all("ms"), [1000, 2000, 3000, 0, 0]);
    let mut credentials = all("credential_id");
    credentials[..2].sort_by_key(ToString::to_string);
    assert_eq!(credentials[..2], ["one", "two"]);
    let why = all("why");
    assert!(why[..3].iter().all(|why| why == "some_code"), "{why:?}");
    assert!(why[3].as_str().unwrap().starts_with("connect failed") && why[4].is_null(), "{why:?}");
    assert_eq!((&record["channel_id"], &record["credential_id"]), (&all("channel_id")[4], &all("credential_id")[4]));
    assert_eq!((&record["status"], &record["end"]), (&200.into(), &"complete".into()));
    assert!(record["error_code"].is_null());
}
