//! Upstreams that fail again and again are left alone, and one live call finds out when they are well again.

use std::time::Duration;

use aiproxy_testkit::gateway::{Client, get, post};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::ANSWER;
use crate::places::*;

const SECOND: Duration = Duration::from_secs(1);
const FIRST_EVENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"h\"}}]}\n\n";

/// A gateway whose only credential has just failed for the fifth time in a row.
async fn opened(upstream: &Upstream) -> TestGateway {
    upstream.now_follows("a.test", vec![fails(500)]);
    let gateway = TestGateway::new(ONE_KEY, upstream);
    for _ in 0..5 {
        assert_eq!(chat(&gateway).await.text(), error_body("some_code"), "theirs");
    }
    gateway
}

/// The statuses of many calls made at the same moment, sorted.
async fn at_once(gateway: &TestGateway, calls: usize) -> Vec<u16> {
    let mut clients: Vec<Client> = (0..calls).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(post(CHAT, "pk-1", r#"{"model":"m"}"#)).await;
    }
    let mut statuses = Vec::new();
    for client in &mut clients {
        statuses.push(client.reply().await.status);
    }
    statuses.sort_unstable();
    statuses
}

/// Whether the call is refused here, and for how long.
async fn left_alone(gateway: &TestGateway) -> Option<u64> {
    let reply = chat(gateway).await;
    let is_ours = reply.status == 503 && code(&reply) == "no_channel_available";
    is_ours.then(|| retry_after(&reply).unwrap())
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_and_no_more_calls_come() {
    let upstream = Upstream::hosts([]);
    let gateway = opened(&upstream).await;
    let start = tokio::time::Instant::now();
    assert_eq!(left_alone(&gateway).await, Some(5));
    assert_eq!(start.elapsed(), Duration::ZERO, "at once");
    assert_eq!(upstream.dials().len(), 5);
    let record = gateway.last_record().await;
    assert_eq!((&record["error_code"], statuses(&record)), (&"no_channel_available".into(), vec![]));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_a_failure_counts_as_one() {
    let breaks = vec![Step::Request, Step::sse_head(), Step::chunk(FIRST_EVENT), Step::Reset];
    let silent = vec![Step::Request, Step::sse_head(), Step::chunk("data: x\n\n"), Step::Hang];
    let cut = vec![
        Step::Request,
        Step::send("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{"),
    ];
    for script in [
        breaks,
        silent,
        cut,
        fails(408),
        fails(502),
        fails(504),
        fails(529),
        vec![Step::Refuse],
        vec![Step::FailTls],
        vec![Step::FailLookup],
        vec![Step::SlowConnect(SECOND * 3600)],
        vec![Step::Request, Step::Hang],
        vec![Step::Request, Step::Reset],
        vec![Step::Request, Step::json(200, &error_body("server_error"))],
    ] {
        let upstream = Upstream::hosts([("a.test", vec![script.clone()])]);
        let gateway = TestGateway::new(&with(ONE_KEY, "timeouts: {first_byte: 2, idle: 2, connect: 2}"), &upstream);
        for _ in 0..5 {
            assert_eq!(left_alone(&gateway).await, None, "{script:?}");
        }
        assert_eq!(left_alone(&gateway).await, Some(5), "{script:?}");
        assert_eq!(upstream.dials().len(), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_or_a_call_that_was_wrong_itself_ends_the_row() {
    for good in [200, 400, 404, 422] {
        let row = [vec![500; 4], vec![good]].concat().repeat(3);
        let scripts = row.iter().map(|status| vec![Step::Request, Step::json(*status, "{}")]).collect();
        let upstream = Upstream::hosts([("a.test", scripts)]);
        let gateway = TestGateway::new(&with(ONE_KEY, "health: {error_rate: 1}"), &upstream);
        for status in row {
            assert_eq!(chat(&gateway).await.status, status);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_says_nothing_about_the_upstream() {
    let silent = vec![Step::Request, Step::AwaitClose];
    let streaming = vec![Step::Request, Step::sse_head(), Step::chunk(FIRST_EVENT), Step::AwaitClose];
    for script in [silent, streaming] {
        let upstream = Upstream::hosts([("a.test", vec![script])]);
        let gateway = TestGateway::new(ONE_KEY, &upstream);
        for _ in 0..30 {
            let mut client = gateway.connect();
            client.send(post(CHAT, "pk-1", r#"{"model":"m"}"#)).await;
            tokio::time::sleep(SECOND / 10).await;
            drop(client);
            tokio::time::sleep(SECOND / 10).await;
        }
        upstream.now_follows("a.test", vec![answers()]);
        assert_eq!(chat(&gateway).await.text(), ANSWER);
        assert!(gateway.records().await[..30].iter().all(|record| record["end"] == "client_closed"));
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_pause_exactly_one_call_finds_out_and_a_success_opens_the_way() {
    let upstream = Upstream::hosts([]);
    let gateway = opened(&upstream).await;
    upstream.now_follows("a.test", vec![vec![Step::Request, Step::Wait(SECOND), Step::json(200, ANSWER)]]);
    tokio::time::advance(5 * SECOND).await;
    let mut expected = vec![503; 29];
    expected.insert(0, 200);
    assert_eq!(at_once(&gateway, 30).await, expected);
    assert_eq!(upstream.requests().len(), 6);
    assert_eq!(at_once(&gateway, 30).await, [200; 30]);
}

#[tokio::test(start_paused = true)]
async fn after_the_pause_exactly_one_call_finds_out_and_a_failure_makes_the_next_pause_longer() {
    let upstream = Upstream::hosts([]);
    let gateway = opened(&upstream).await;
    let mut requests = 5;
    for (pause, next) in [(5, 10), (10, 20), (20, 40), (40, 60), (60, 60)] {
        tokio::time::advance(pause * SECOND).await;
        let statuses = at_once(&gateway, 30).await;
        requests += 1;
        assert_eq!((upstream.requests().len(), statuses[0]), (requests, 500), "one of 30");
        assert_eq!(left_alone(&gateway).await, Some(next));
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_whose_caller_leaves_holds_up_the_next_for_ten_seconds_at_most() {
    let upstream = Upstream::hosts([]);
    let gateway = opened(&upstream).await;
    upstream.now_follows("a.test", vec![vec![Step::Request, Step::AwaitClose], answers()]);
    tokio::time::advance(5 * SECOND).await;
    let mut client = gateway.connect();
    client.send(post(CHAT, "pk-1", r#"{"model":"m"}"#)).await;
    tokio::time::sleep(SECOND).await;
    drop(client);
    tokio::time::sleep(9 * SECOND).await;
    assert_eq!(chat(&gateway).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn half_of_all_calls_failing_is_enough_where_they_are_many() {
    let scripts: Vec<_> =
        [200, 500].repeat(20).into_iter().map(|status| vec![Step::Request, Step::json(status, "{}")]).collect();
    let upstream = Upstream::hosts([("a.test", scripts)]);
    let gateway = TestGateway::new(ONE_KEY, &upstream);
    for _ in 0..20 {
        assert_eq!(left_alone(&gateway).await, None);
    }
    assert_eq!(left_alone(&gateway).await, Some(5));
    assert_eq!(upstream.requests().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn with_health_off_nothing_is_ever_left_alone() {
    for script in [fails(500), fails(401), fails_with(429, "retry-after: 60\r\n", "{}"), vec![Step::Refuse]] {
        let upstream = Upstream::hosts([("a.test", vec![script])]);
        let gateway = TestGateway::new(&with(ONE_KEY, "health: false"), &upstream);
        for _ in 0..50 {
            assert_eq!(left_alone(&gateway).await, None);
        }
        assert_eq!(upstream.dials().len(), 50);
    }
}

#[tokio::test(start_paused = true)]
async fn dead_credentials_do_not_take_a_healthy_one_of_their_channel_with_them() {
    let config = TWO_KEYS.replace(
        "{id: one, api_key: real-1}, {id: two, api_key: real-2}",
        "{api_key: real-1}, {api_key: real-2}, {api_key: real-3}, {api_key: real-4}",
    );
    let by_key = Step::if_asked("real-4", Step::json(200, "{}"), Step::json(500, "{}"));
    let upstream = Upstream::hosts([("a.test", vec![vec![Step::Request, by_key]])]);
    let gateway = TestGateway::new(&config, &upstream);
    for call in 0..200 {
        assert_eq!(gateway.call(&get("/v1/models", "pk-1")).await.status, 200, "call {call}");
        tokio::time::advance(SECOND / 2).await;
    }
}
