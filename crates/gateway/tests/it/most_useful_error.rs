//! When nothing is left to try, the caller gets the upstream error that says most, as it came: nothing gathered,
//! nothing cut.

use std::time::Duration;

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::places::*;

/// Three credentials, so that three errors can meet.
const THREE_KEYS: &str = "
users:
  user1: {proxy_key: pk-1, channels: [first]}
channels:
  first:
    kind: openai
    base_url: 'http://a.test'
    credentials: [{api_key: real-1}, {api_key: real-2}, {api_key: real-3}]
";

/// An error that can be told from others of its status.
fn told(status: u16) -> String {
    error_body(&format!("code_{status}"))
}

#[tokio::test(start_paused = true)]
async fn the_error_that_helps_the_caller_most_wins_whatever_the_order() {
    for (errors, expected) in [
        ([401, 401, 429], 429),
        ([429, 401, 403], 429),
        ([500, 429, 503], 429),
        ([503, 500, 401], 503),
        ([401, 500, 402], 500),
        ([401, 403, 402], 402),
        ([401, 403, 401], 403),
        ([401, 401, 401], 401),
        ([401, 529, 500], 529),
    ] {
        let scripts = errors.map(|status| vec![Step::Request, Step::json(status, &told(status))]);
        let upstream = Upstream::hosts([("a.test", scripts.to_vec())]);
        let gateway = TestGateway::new(THREE_KEYS, &upstream);
        let reply = chat(&gateway).await;
        assert_eq!((reply.status, reply.text()), (expected, told(expected)), "{errors:?}");
        let record = gateway.record().await;
        assert_eq!(statuses(&record), errors.map(u64::from));
        assert_eq!((&record["status"], &record["end"]), (&expected.into(), &"complete".into()));
        assert!(record["error_code"].is_null(), "it is not ours");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstreams_error_is_worth_more_than_that_another_could_not_be_reached() {
    let upstream = Upstream::hosts([("a.test", vec![fails(401)]), ("b.test", vec![])]);
    let gateway = TestGateway::new(&two_channels_with_failover(), &upstream);
    let reply = chat(&gateway).await;
    assert_eq!((reply.status, reply.text()), (401, error_body("some_code")));
    assert_eq!(statuses(&gateway.record().await), [401, 0]);
}

#[tokio::test(start_paused = true)]
async fn where_none_was_reached_the_caller_is_told_so() {
    let gateway = TestGateway::new(&two_channels_with_failover(), &Upstream::hosts([]));
    let reply = chat(&gateway).await;
    assert_eq!((reply.status, code(&reply).as_str()), (502, "upstream_unreachable"));
    assert!(!reply.text().contains(".test"), "hosts are nobody's business");
    let record = gateway.record().await;
    assert_eq!((statuses(&record), &record["end"]), (vec![0, 0], &"upstream_error".into()));
}

#[tokio::test(start_paused = true)]
async fn head_and_body_are_those_that_a_single_candidate_would_give() {
    let headers = "retry-after: 7\r\nx-ratelimit-remaining-tokens: 0\r\nx-custom: a\r\nx-custom: b\r\n";
    let odd = "{ \"error\" :\t{\"message\":\"\u{1f980} \\u00e9\"} }\n\n";
    let mut heads = Vec::new();
    for config in [ONE_KEY, TWO_KEYS] {
        let upstream = Upstream::hosts([("a.test", vec![fails_with(429, headers, odd), fails(401)])]);
        let gateway = TestGateway::new(config, &upstream);
        let reply = chat(&gateway).await;
        assert_eq!((reply.status, reply.text().as_str()), (429, odd));
        let own = |line: &&str| !line.starts_with("x-request-id: ") && !line.starts_with("date: ");
        heads.push(reply.head.lines().filter(own).map(str::to_owned).collect::<Vec<_>>());
    }
    assert_eq!(heads[0], heads[1]);
    assert!(heads[0].contains(&"x-custom: b".to_owned()) && heads[0].contains(&"retry-after: 7".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn long_errors_pass_whole_whatever_their_framing() {
    for length in [0, 1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 300_000] {
        let body = "e".repeat(length);
        let sized = format!("HTTP/1.1 429 E\r\ncontent-length: {length}\r\n\r\n{body}");
        let chunk = if length == 0 { String::new() } else { format!("{length:x}\r\n{body}\r\n") };
        let chunked = format!("HTTP/1.1 429 E\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
        let closed = format!("HTTP/1.1 429 E\r\n\r\n{body}");
        for framed in [sized, chunked, closed] {
            let upstream = Upstream::hosts([("a.test", vec![vec![Step::Request, Step::send(framed)], fails(401)])]);
            let gateway = TestGateway::new(TWO_KEYS, &upstream);
            let reply = chat(&gateway).await;
            assert_eq!((reply.status, reply.complete, reply.body.len()), (429, true, length));
            assert!(reply.body == body.as_bytes());
            assert_eq!(keys(&upstream).len(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_ten_megabytes_is_neither_gathered_nor_cut() {
    const LENGTH: usize = 10_000_000;
    let body = "0123456789".repeat(LENGTH / 10);
    let slow = vec![Step::Request, Step::Wait(Duration::from_secs(20)), Step::json(401, "{}")];
    let upstream = Upstream::hosts([("a.test", vec![fails_with(429, "", &body), slow])]);
    let gateway = TestGateway::new(TWO_KEYS, &upstream);
    let mut client = gateway.connect();
    client.send(post(CHAT, "pk-1", "{}")).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(upstream.finished(), 0, "while the other is asked, the upstream cannot get rid of its error");
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.body.len(), reply.complete), (429, LENGTH, true));
    assert!(reply.body == body.as_bytes());
    assert_eq!(gateway.record().await["response_bytes"], LENGTH);
}
