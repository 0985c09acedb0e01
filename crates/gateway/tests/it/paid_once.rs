//! No call is paid for twice by surprise: what may have arrived is sent again only where that is wanted, and an upstream
//! that is down is not asked twice as often as one that is up.

use std::time::Duration;

use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::ANSWER;
use crate::places::*;

/// Ways in which an upstream falls silent after it was sent a call, and what the caller is told.
fn silences() -> [(Vec<Step>, u16); 5] {
    let head = Step::send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n");
    [
        (vec![Step::Request, Step::Hang], 504),
        (vec![Step::Request, Step::Reset], 502),
        (vec![Step::Request], 502),
        (vec![Step::Request, head.clone(), Step::Hang], 504),
        (vec![Step::Request, head, Step::Reset], 502),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_may_have_arrived_is_not_sent_again() {
    for (script, status) in silences() {
        for config in [TWO_KEYS.to_owned(), two_channels_with_failover(), TWO_ENDPOINTS.to_owned()] {
            let upstream =
                Upstream::hosts([("a.test", vec![script.clone(), answers()]), ("b.test", vec![script.clone()])]);
            let gateway = TestGateway::new(&config, &upstream);
            let reply = chat(&gateway).await;
            assert_eq!(reply.status, status, "{script:?}");
            assert_eq!(upstream.requests().len(), 1, "{script:?}");
            let record = gateway.record().await;
            assert_eq!(statuses(&record), [0]);
            assert_eq!(record["end"], if status == 504 { "timeout" } else { "upstream_error" });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_channel_wants_it_it_is_and_the_record_says_so() {
    let config = with(TWO_KEYS, "retry_ambiguous: true");
    for (script, _) in silences() {
        let upstream = Upstream::hosts([("a.test", vec![script.clone(), answers()])]);
        let gateway = TestGateway::new(&config, &upstream);
        let reply = chat(&gateway).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER), "{script:?}");
        assert_eq!(keys(&upstream).len(), 2);
        let record = gateway.record().await;
        let why = record["attempts"][0]["why"].as_str().unwrap();
        assert!(why.ends_with("; sent again although it may have arrived"), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_as_good_twice_as_once_is_sent_again() {
    for (script, _) in silences() {
        let upstream = Upstream::hosts([("a.test", vec![script.clone(), answers()])]);
        let gateway = TestGateway::new(TWO_KEYS, &upstream);
        assert_eq!(gateway.call(&get("/v1/models", "pk-1")).await.status, 200, "{script:?}");
        assert_eq!(keys(&upstream).len(), 2);
        assert!(!gateway.record().await.to_string().contains("sent again although"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_for_the_whole_call_ends_it_wherever_it_is() {
    let config = with(TWO_KEYS, "retry_ambiguous: true")
        .replace("retry_ambiguous: true", "retry_ambiguous: true\n    timeouts: {total: 5, first_byte: 3}");
    let upstream = Upstream::hosts([("a.test", vec![vec![Step::Request, Step::Hang]])]);
    let gateway = TestGateway::new(&config, &upstream);
    let start = tokio::time::Instant::now();
    assert_eq!((chat(&gateway).await.status, start.elapsed().as_secs()), (504, 5));
    assert_eq!(keys(&upstream).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_nothing_sends_nothing_again() {
    let config = format!("{TWO_KEYS}\nsystem: {{retry_budget: {{share: 0, per_second: 0}}}}");
    let upstream = Upstream::hosts([("a.test", vec![fails(429), answers()])]);
    let gateway = TestGateway::new(&config, &upstream);
    let reply = chat(&gateway).await;
    assert_eq!((reply.status, reply.text()), (429, error_body("some_code")));
    assert_eq!(statuses(&gateway.record().await), [429]);
    tokio::time::advance(Duration::from_secs(600)).await;
    upstream.now_follows("a.test", vec![fails(500), answers()]);
    assert_eq!(chat(&gateway).await.status, 500, "nor is anything saved up");
}

#[tokio::test(start_paused = true)]
async fn a_budget_of_nothing_holds_for_connections_as_well() {
    let config = two_channels_with_failover() + "\nsystem: {retry_budget: {share: 0, per_second: 0}}";
    let upstream = Upstream::hosts([("a.test", vec![]), ("b.test", vec![answers()])]);
    let gateway = TestGateway::new(&config, &upstream);
    assert_eq!(chat(&gateway).await.status, 502);
    assert_eq!(upstream.dials(), ["a.test"]);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_failures_is_not_doubled() {
    let config = with(TWO_KEYS, "health: false");
    let upstream = Upstream::hosts([("a.test", vec![fails(500)])]);
    let gateway = TestGateway::new(&config, &upstream);
    let mut client = gateway.connect();
    for _ in 0..1_000 {
        assert_eq!(client.call(&post(CHAT, "pk-1", "{}")).await.status, 500);
    }
    let again = upstream.requests().len() - 1_000;
    // Ten seconds' worth of 10 per second, and a fifth of the calls.
    assert!((290..=300).contains(&again), "{again}");
}
