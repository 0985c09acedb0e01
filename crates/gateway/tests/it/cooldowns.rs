//! What an upstream refuses for a while is not asked of it again before that while is over, and the caller hears at once
//! how long that is.

use std::time::Duration;

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::places::*;

/// A moment as HTTP writes it.
fn http_date(seconds_from_now: i64) -> String {
    let now = jiff::Timestamp::from_millisecond(aiproxy_core::time::unix_ms() as i64).unwrap();
    let moment = now + jiff::SignedDuration::from_secs(seconds_from_now);
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&moment).unwrap()
}

fn ask(model: &str) -> String {
    post(CHAT, "pk-1", &format!(r#"{{"model":"{model}"}}"#))
}

/// What the call after one that was refused like this is told: status, code and wait; nothing if it goes upstream.
async fn told_after(refusal: Vec<Step>) -> Option<(u16, String, u64)> {
    let upstream = Upstream::hosts([("a.test", vec![refusal, answers()])]);
    let gateway = TestGateway::new(ONE_KEY, &upstream);
    chat(&gateway).await;
    let reply = chat(&gateway).await;
    if reply.status == 200 {
        return None;
    }
    let wait = retry_after(&reply).unwrap();
    assert_eq!(upstream.requests().len(), 1, "the upstream hears nothing of it");
    assert_eq!(reply.header("x-should-retry"), (wait > 60).then_some("false"), "SDKs would sleep for {wait} s");
    let told = (reply.status, code(&reply), wait);
    // Whole seconds are told, so the pause may end up to one earlier.
    tokio::time::advance(Duration::from_millis(wait * 1000 - 999)).await;
    assert_eq!(chat(&gateway).await.status, told.0, "not yet");
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(chat(&gateway).await.status, 200, "it is over when it was said to be");
    assert_eq!(chat(&gateway).await.status, 200);
    Some(told)
}

#[tokio::test(start_paused = true)]
async fn a_429_is_left_alone_for_as_long_as_it_says() {
    for (headers, body, wait) in [
        ("", "{}", 1),
        ("retry-after: 30\r\n", "{}", 30),
        ("Retry-After: 1.2\r\n", "{}", 2),
        ("retry-after: IN 40 SECONDS\r\n", "{}", 40),
        ("retry-after-ms: 2500\r\n", "{}", 3),
        ("retry-after: 1\r\nretry-after-ms: 9000\r\n", "{}", 9),
        ("retry-after: 90\r\n", "{}", 90),
        ("retry-after: 0\r\n", "{}", 1),
        ("retry-after: 31536000\r\n", "{}", 3600),
        ("retry-after: banana\r\n", "{}", 1),
        ("retry-after: -5\r\n", "{}", 1),
        ("", r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"17s"}]}}"#, 17),
        // Money that is used up does not come back within a second.
        ("", &error_body("insufficient_quota"), 60),
        ("retry-after: 300\r\n", &error_body("insufficient_quota"), 300),
    ] {
        let headers = headers.replace("IN 40 SECONDS", &http_date(40));
        let told = told_after(fails_with(429, &headers, body)).await.unwrap();
        let (status, code, seconds) = (told.0, told.1.as_str(), told.2);
        assert_eq!((status, code), (429, "rate_limited"), "{headers}{body}");
        // A date has no parts of a second.
        let least = if headers.contains("GMT") { wait - 1 } else { wait };
        assert!((least..=wait).contains(&seconds), "{headers}{body}: {seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_refusals_are_left_alone_by_their_kind() {
    let limited = |wait| Some((429, "rate_limited".to_owned(), wait));
    let unavailable = |wait| Some((503, "no_channel_available".to_owned(), wait));
    for (status, headers, expected) in [
        (400, "", None),
        (400, "retry-after: 30\r\n", None),
        (404, "", None),
        (401, "", unavailable(60)),
        (402, "", limited(60)),
        (403, "", unavailable(60)),
        (408, "", None),
        (500, "", None),
        (502, "", None),
        (504, "", None),
        (529, "", None),
        (503, "", None),
        (503, "retry-after: 7\r\n", unavailable(7)),
        (529, "retry-after: 7200\r\n", unavailable(3600)),
    ] {
        assert_eq!(told_after(fails_with(status, headers, "{}")).await, expected, "{status} {headers}");
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_in_a_row_double_and_the_longer_of_own_and_asked_for_wins() {
    for (headers, waits) in [("", [1, 2, 4, 8, 16, 32, 60, 60]), ("retry-after: 3\r\n", [3, 3, 4, 8, 16, 32, 60, 60])] {
        let upstream = Upstream::hosts([("a.test", vec![fails_with(429, headers, "{}")])]);
        let gateway = TestGateway::new(ONE_KEY, &upstream);
        for wait in waits {
            assert_eq!(chat(&gateway).await.text(), "{}", "theirs");
            assert_eq!(retry_after(&chat(&gateway).await), Some(wait));
            tokio::time::advance(Duration::from_secs(wait)).await;
        }
        assert_eq!(upstream.requests().len(), waits.len());
        upstream.now_follows("a.test", vec![answers(), answers(), fails(429)]);
        assert_eq!(chat(&gateway).await.status, 200, "well again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_makes_the_next_pause_short_again() {
    let one = |status| vec![Step::Request, Step::json(status, "{}")];
    let upstream = Upstream::hosts([("a.test", vec![one(429), one(429), one(200), one(429), answers()])]);
    let gateway = TestGateway::new(ONE_KEY, &upstream);
    for (status, wait) in [(429, Some(1)), (429, Some(2)), (200, None), (429, Some(1)), (200, None)] {
        assert_eq!(chat(&gateway).await.status, status);
        if let Some(wait) = wait {
            assert_eq!(retry_after(&chat(&gateway).await), Some(wait));
            tokio::time::advance(Duration::from_secs(wait)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_or_403_is_about_one_model_and_a_401_or_402_about_the_credential() {
    for (status, others) in [(429, 200), (403, 200), (401, 503), (402, 429)] {
        let upstream = Upstream::hosts([("a.test", vec![fails(status), answers()])]);
        let gateway = TestGateway::new(ONE_KEY, &upstream);
        gateway.call(&ask("m")).await;
        assert!([429, 503].contains(&gateway.call(&ask("m")).await.status));
        assert_eq!(gateway.call(&ask("other")).await.status, others, "{status}");
        assert!([429, 503].contains(&gateway.call(&ask("m")).await.status), "a success of another changes nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_left_alone_is_passed_over_in_silence() {
    for status in [401, 402, 403, 429] {
        let refusal = fails_with(status, "retry-after: 60\r\n", "{}");
        let upstream = Upstream::hosts([("a.test", vec![refusal, answers()])]);
        let gateway = TestGateway::new(TWO_KEYS, &upstream);
        for _ in 0..20 {
            assert_eq!(chat(&gateway).await.status, 200);
        }
        let keys = keys(&upstream);
        assert_eq!(keys.len(), 21);
        assert!(keys[1..].iter().all(|key| *key != keys[0]), "{status}: {keys:?}");
        assert!(gateway.records().await[1..].iter().all(|record| statuses(record) == [200]));
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_are_rate_limited_the_shortest_true_wait_is_told() {
    let refusals = [25, 20].map(|wait| fails_with(429, &format!("retry-after: {wait}\r\n"), "{}"));
    let upstream = Upstream::hosts([("a.test", refusals.to_vec())]);
    let gateway = TestGateway::new(TWO_KEYS, &upstream);
    assert_eq!(chat(&gateway).await.header("retry-after"), Some("20"), "that of the later upstream");
    for left in [20, 15, 10] {
        let reply = chat(&gateway).await;
        assert_eq!((reply.status, code(&reply).as_str(), retry_after(&reply)), (429, "rate_limited", Some(left)));
        assert_eq!(reply.header("x-should-retry"), None);
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    let record = gateway.last_record().await;
    assert_eq!((&record["status"], &record["error_code"]), (&429.into(), &"rate_limited".into()));
    assert_eq!((statuses(&record), &record["channel_id"]), (vec![], &serde_json::Value::Null));
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn where_one_is_ill_and_the_other_rate_limited_it_is_no_rate_limit() {
    let refusals = [fails_with(429, "retry-after: 25\r\n", "{}"), fails_with(503, "retry-after: 20\r\n", "{}")];
    let upstream = Upstream::hosts([("a.test", refusals.to_vec())]);
    let gateway = TestGateway::new(TWO_KEYS, &upstream);
    assert_eq!(chat(&gateway).await.status, 429);
    let reply = chat(&gateway).await;
    assert_eq!((reply.status, code(&reply).as_str(), retry_after(&reply)), (503, "no_channel_available", Some(20)));
}
