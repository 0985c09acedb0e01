//! A prompt goes to another channel only if the caller's config says so: never by default, never past a channel that
//! was asked for by name.

use std::time::Duration;

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::places::*;

const RATE_LIMIT_OFF: &str = "\nsystem: {rate_limit: {bad_credentials: false}}";

/// Ways in which the first channel does not serve a call.
fn troubles() -> Vec<Vec<Step>> {
    let mut troubles: Vec<_> = [401, 402, 403, 429, 500, 503, 529].into_iter().map(fails).collect();
    troubles.extend([
        vec![Step::Refuse],
        vec![Step::FailLookup],
        vec![Step::FailTls],
        vec![Step::SlowConnect(Duration::from_secs(3600))],
        vec![Step::Request, Step::Hang],
        vec![Step::Request, Step::Reset],
        vec![Step::Request, Step::json(200, &error_body("server_error"))],
    ]);
    troubles
}

fn second_is_fine(first: Vec<Step>) -> Upstream {
    Upstream::hosts([("a.test", vec![first]), ("b.test", vec![answers()])])
}

#[tokio::test(start_paused = true)]
async fn without_failover_nothing_ever_reaches_another_channel() {
    let key_says_no =
        two_channels_with_failover().replace("proxy_key: pk-1", "proxy_keys: [{key: pk-1, failover: false}]");
    let user_says_no = TWO_CHANNELS.replace("channels: [first, second]", "channels: [first, second], failover: false")
        + "\nsystem: {failover: true}";
    for config in [TWO_CHANNELS, &key_says_no, &user_says_no, &with(TWO_CHANNELS, "retry_ambiguous: true")] {
        for trouble in troubles() {
            let upstream = second_is_fine(trouble.clone());
            let gateway = TestGateway::new(config, &upstream);
            // Enough for every breaker to open.
            for _ in 0..7 {
                chat(&gateway).await;
            }
            assert!(upstream.dials().iter().all(|authority| authority == "a.test"), "{trouble:?}");
            for record in gateway.records().await {
                assert!(record["channel_id"].is_null() || record["channel_id"] == "first", "{record}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn not_one_of_a_thousand_calls_reaches_another_channel_than_the_dead_one() {
    for trouble in [vec![Step::Refuse], fails(500), fails(429)] {
        let upstream = second_is_fine(trouble);
        let gateway = TestGateway::new(TWO_CHANNELS, &upstream);
        let mut client = gateway.connect();
        for _ in 0..1_000 {
            assert_ne!(client.call(&post(CHAT, "pk-1", r#"{"model":"m"}"#)).await.status, 200);
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(upstream.requests_to("b.test").len(), 0);
        assert!(upstream.dials().len() < 100, "and the dead one is mostly left alone");
    }
}

#[tokio::test(start_paused = true)]
async fn without_failover_a_channel_at_its_own_limit_is_no_reason_to_use_another() {
    for limits in ["{requests_per_minute: 1}", "{tokens_per_minute: 1}"] {
        let upstream = second_is_fine(answers());
        let gateway = TestGateway::new(&with(TWO_CHANNELS, &format!("limits: {limits}")), &upstream);
        chat(&gateway).await;
        let reply = chat(&gateway).await;
        assert_eq!((reply.status, code(&reply).as_str()), (429, "rate_limited"), "{limits}");
        assert_eq!(upstream.requests_to("b.test").len(), 0);
    }
    let upstream = second_is_fine(vec![Step::Request, Step::Hang]);
    let gateway = TestGateway::new(&with(TWO_CHANNELS, "limits: {concurrent: 1}"), &upstream);
    let mut running = gateway.connect();
    running.send(post(CHAT, "pk-1", "{}")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reply = chat(&gateway).await;
    assert_eq!((reply.status, code(&reply).as_str()), (429, "too_many_concurrent"));
    assert_eq!(upstream.requests_to("b.test").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_failover_a_disabled_credential_is_no_reason_to_use_another_channel() {
    let both = "credentials: [{api_key: real-1, status: disabled}, {api_key: real-3, status: active}]";
    let upstream = second_is_fine(fails(500));
    let gateway = TestGateway::new(&TWO_CHANNELS.replace("api_key: real-1", both), &upstream);
    assert_eq!(chat(&gateway).await.status, 500);
    assert_eq!(keys(&upstream), ['3']);
}

#[tokio::test(start_paused = true)]
async fn failover_may_be_allowed_by_the_system_the_user_or_the_key() {
    let system = format!("{TWO_CHANNELS}\nsystem: {{failover: true}}");
    let key = TWO_CHANNELS.replace("proxy_key: pk-1", "proxy_keys: [{key: pk-1, failover: true}]");
    for config in [system, two_channels_with_failover(), key] {
        for status in [401, 429, 500] {
            let upstream = second_is_fine(fails(status));
            let gateway = TestGateway::new(&config, &upstream);
            assert_eq!(chat(&gateway).await.status, 200);
            assert_eq!(keys(&upstream), ['1', '2']);
            assert_eq!(gateway.record().await["channel_id"], "second");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_failover_a_channel_that_is_full_left_alone_or_off_gives_way() {
    let config = two_channels_with_failover();
    let upstream = second_is_fine(answers());
    let gateway = TestGateway::new(&with(&config, "limits: {requests_per_minute: 1}"), &upstream);
    for _ in 0..3 {
        assert_eq!(chat(&gateway).await.status, 200);
    }
    assert_eq!(keys(&upstream), ['1', '2', '2']);
    assert_eq!(statuses(&gateway.last_record().await), [200], "what is full was not tried");

    let upstream = second_is_fine(fails(500));
    let gateway = TestGateway::new(&config, &upstream);
    for _ in 0..7 {
        assert_eq!(chat(&gateway).await.status, 200);
    }
    assert_eq!(upstream.requests_to("a.test").len(), 5, "then its breaker is open");
    assert_eq!(statuses(&gateway.last_record().await), [200]);

    let off = config.replace("api_key: real-1", "credentials: [{api_key: real-1, status: disabled}]");
    let upstream = second_is_fine(answers());
    assert_eq!(chat(&TestGateway::new(&off, &upstream)).await.status, 200);
    assert_eq!(keys(&upstream), ['2']);
}

#[tokio::test(start_paused = true)]
async fn a_channel_asked_for_by_name_is_never_left() {
    let ask = |channel: &str| {
        post(CHAT, "pk-1", r#"{"model":"m"}"#).replacen("\r\n", &format!("\r\nX-AIProxy-Channel: {channel}\r\n"), 1)
    };
    let config = two_channels_with_failover() + RATE_LIMIT_OFF;
    for trouble in troubles() {
        let upstream = second_is_fine(trouble.clone());
        let gateway = TestGateway::new(&config, &upstream);
        for _ in 0..7 {
            gateway.call(&ask("first")).await;
        }
        assert!(upstream.dials().iter().all(|authority| authority == "a.test"), "{trouble:?}");
        let reply = gateway.call(&ask("second")).await;
        assert_eq!(
            (reply.status, upstream.requests_to("b.test").len()),
            (200, 1),
            "a lower priority can be named, too"
        );
    }
    let gateway = TestGateway::new(&config, &second_is_fine(answers()));
    let reply = gateway.call(&ask("third")).await;
    assert_eq!((reply.status, code(&reply).as_str()), (403, "channel_not_allowed"));
}

#[tokio::test(start_paused = true)]
async fn a_channel_asked_for_by_name_still_has_its_own_credentials() {
    let upstream = Upstream::hosts([("a.test", vec![fails(429), answers()])]);
    let gateway = TestGateway::new(TWO_KEYS, &upstream);
    let call = post(CHAT, "pk-1", "{}").replacen("\r\n", "\r\nx-aiproxy-channel: first\r\n", 1);
    assert_eq!(gateway.call(&call).await.status, 200);
    assert_eq!(keys(&upstream).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_call_is_tried_ten_times_and_no_more() {
    let credentials: Vec<String> = (10..30).map(|number| format!("{{api_key: real-{number}}}")).collect();
    let config = TWO_KEYS.replace("{id: one, api_key: real-1}, {id: two, api_key: real-2}", &credentials.join(", "));
    let upstream = Upstream::hosts([("a.test", vec![fails(429)])]);
    let gateway = TestGateway::new(&config, &upstream);
    assert_eq!(chat(&gateway).await.status, 429);
    assert_eq!(upstream.requests().len(), 10);
}
