//! The gateway's own socket to a call: attached, metered, lost and found again.

use std::time::Duration;

use aiproxy_testkit::{Frame, Step};
use serde_json::json;

use super::{
    CONFIG, SESSION, closed, done, gateway, hung_up, minted, not_found, offer, socket, taken, with, with_system,
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_call_is_open_until_its_socket_closes_and_its_use_is_summed() {
    let says = [
        Step::text(r#"{"type":"session.created","session":{"id":"s","model":"m-2026"}}"#),
        Step::Wait(10 * SECOND),
        done("r1", 20, 10),
        Step::Wait(20 * SECOND),
        done("r2", 200, 100),
        Step::close(1000, ""),
    ];
    let (gateway, upstream) = gateway(CONFIG, [taken(), socket(says)]);
    let secret = minted(&gateway, SESSION).await;
    assert_eq!(gateway.call(&offer(&secret)).await.status, 201);
    assert_eq!((gateway.gateway().open_webrtc_calls(), gateway.gateway().calls_in_flight()), (1, 1));
    let (record, took) = closed(&gateway).await;
    assert!((30 * SECOND..31 * SECOND).contains(&took), "{took:?}");
    assert_eq!((&record["usage"]["input"], &record["usage"]["output"]), (&json!(220), &json!(110)));
    assert_eq!(
        (&record["usage_source"], &record["end"], &record["status"]),
        (&json!("provider"), &json!("complete"), &json!(201))
    );
    assert_eq!((&record["model_asked"], &record["model_served"]), (&json!("m"), &json!("m-2026")));
    assert_eq!(record["upstream_request_id"], "req_1");
    assert!((30_000.0..31_000.0).contains(&record["duration_ms"].as_f64().unwrap()));
    assert_eq!((gateway.gateway().open_webrtc_calls(), gateway.gateway().calls_in_flight()), (0, 0));
    let requests = upstream.requests();
    assert!(
        requests[1]
            .starts_with("GET /v1/realtime?call_id=rtc_1 HTTP/1.1\r\nhost: up.test\r\nauthorization: Bearer real-")
    );
    assert_eq!(requests.len(), 2, "nothing is left to hang up");
}

#[tokio::test(start_paused = true)]
async fn what_a_running_call_used_is_kept_once_a_second_at_most() {
    let mut says = vec![];
    for number in 0..20 {
        says.extend([done(&format!("r{number}"), 1, 1), Step::Wait(SECOND / 5)]);
    }
    says.push(Step::close(1000, ""));
    let (gateway, _upstream) = gateway(CONFIG, [taken(), socket(says)]);
    let secret = minted(&gateway, SESSION).await;
    gateway.call(&offer(&secret)).await;
    let (record, _) = closed(&gateway).await;
    assert_eq!(record["usage"]["input"], 20);
    let kept = gateway.checkpoints().await;
    assert!((4..=5).contains(&kept.len()), "{}", kept.len());
    assert!(kept.windows(2).all(|pair| pair[1].0 - pair[0].0 >= SECOND));
    assert_eq!((&kept[0].1["usage"]["input"], &kept[0].1["protocol"]), (&json!(1), &json!("webrtc")));
    assert_eq!(gateway.forgotten().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_known_everywhere_yet_is_asked_for_again() {
    let (gateway, upstream) = gateway(
        CONFIG,
        [taken(), not_found(), vec![Step::Refuse], not_found(), socket([done("r", 2, 1), Step::close(1000, "")])],
    );
    let secret = minted(&gateway, SESSION).await;
    gateway.call(&offer(&secret)).await;
    let (record, took) = closed(&gateway).await;
    assert_eq!((&record["usage"]["input"], &record["end"]), (&json!(2), &json!("complete")));
    assert!((Duration::from_millis(600)..SECOND).contains(&took), "100, 200 and 400 ms of pauses: {took:?}");
    assert_eq!(upstream.requests().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_can_read_is_hung_up() {
    let lost = (0..20).map(|_| not_found()).collect::<Vec<_>>();
    for tries in [lost, vec![vec![Step::Request, Step::json(401, "{}")]]] {
        let upstream = aiproxy_testkit::Upstream::default();
        let script = vec![
            Step::Request,
            Step::if_asked(
                "/hangup ",
                Step::json(200, ""),
                Step::if_asked("call_id=", tries[0][1].clone(), taken().pop().unwrap()),
            ),
            Step::Again,
        ];
        upstream.now_follows("up.test", vec![script]);
        let gateway = aiproxy_testkit::TestGateway::new(CONFIG, &upstream);
        let secret = minted(&gateway, SESSION).await;
        gateway.call(&offer(&secret)).await;
        let (record, took) = closed(&gateway).await;
        assert!(took <= 11 * SECOND, "{took:?}");
        assert_eq!((&record["end"], &record["error_code"]), (&json!("upstream_error"), &json!("upstream_invalid")));
        assert_eq!(record["price_version"], "unpriced", "what it used is not known");
        let last = upstream.requests().pop().unwrap();
        assert!(last.starts_with("POST /v1/realtime/calls/rtc_1/hangup HTTP/1.1\r\n"), "{last}");
        assert!(
            last.contains("\r\nauthorization: Bearer real-") && last.contains("\r\ncontent-length: 0\r\n"),
            "{last}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_can_read_goes_on_where_the_config_says_so() {
    let config = with_system("realtime: {attach_timeout: 2s, unattached: unmetered}");
    let (gateway, upstream) =
        gateway(&config, [taken(), not_found(), not_found(), not_found(), not_found(), not_found()]);
    let secret = minted(&gateway, SESSION).await;
    gateway.call(&offer(&secret)).await;
    let (record, took) = closed(&gateway).await;
    assert!(took <= 3 * SECOND, "{took:?}");
    assert_eq!(
        (&record["usage_flaw"], &record["end"], &record["error_code"]),
        (&json!("unmetered"), &json!("complete"), &json!(null))
    );
    assert!(upstream.requests().iter().all(|request| !request.contains("hangup")));
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_gets_lost_is_attached_again_and_the_sum_goes_on() {
    let first = socket([done("r1", 20, 10), Step::Reset]);
    let second = socket([done("r2", 20, 10), Step::close(1012, "restart")]);
    let third = socket([done("r3", 20, 10), Step::close(1000, "")]);
    let (gateway, _upstream) = gateway(CONFIG, [taken(), first, second, third]);
    let secret = minted(&gateway, SESSION).await;
    gateway.call(&offer(&secret)).await;
    let (record, _) = closed(&gateway).await;
    assert_eq!((&record["usage"]["input"], &record["end"]), (&json!(60), &json!("complete")));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_gone_when_its_socket_is_lost_is_over() {
    let (gateway, upstream) = gateway(CONFIG, [taken(), socket([done("r1", 20, 10), Step::Reset]), not_found()]);
    let secret = minted(&gateway, SESSION).await;
    gateway.call(&offer(&secret)).await;
    let (record, _) = closed(&gateway).await;
    assert_eq!((&record["usage"]["input"], &record["end"]), (&json!(20), &json!("complete")));
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_cannot_be_attached_again_ends_the_call() {
    let refused = (0..20).map(|_| vec![Step::Refuse]);
    let connections = [taken(), socket([done("r1", 20, 10), Step::Reset])].into_iter().chain(refused);
    let (gateway, _upstream) = gateway(&with_system("realtime: {attach_timeout: 5s}"), connections);
    let secret = minted(&gateway, SESSION).await;
    gateway.call(&offer(&secret)).await;
    let (record, took) = closed(&gateway).await;
    assert_eq!((&record["usage"]["input"], &record["end"]), (&json!(20), &json!("upstream_error")));
    assert!(took < 8 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_lost_again_and_again_ends_the_call() {
    let upstream = aiproxy_testkit::Upstream::hosts([
        ("up.test", vec![taken(), hung_up(200)]),
        ("sockets.test", vec![socket([done("r", 1, 1), Step::Reset])]),
    ]);
    let config = with("kind: openai,", "kind: openai, websocket_url: 'wss://sockets.test',");
    let gateway = aiproxy_testkit::TestGateway::new(&config, &upstream);
    let secret = minted(&gateway, SESSION).await;
    gateway.call(&offer(&secret)).await;
    let (record, took) = closed(&gateway).await;
    assert_eq!((&record["usage"]["input"], &record["end"]), (&json!(1), &json!("upstream_error")), "it was told once");
    assert!((3 * SECOND..5 * SECOND).contains(&took), "with growing pauses: {took:?}");
    assert_eq!(upstream.requests_to("sockets.test").len(), 6);
    assert!(upstream.requests_to("up.test").pop().unwrap().contains("/hangup "));
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_and_sockets_go_where_the_channel_says() {
    let config = with(
        "kind: openai,",
        "kind: openai, websocket_url: 'wss://sockets.test/base', websocket_endpoints: {/v1/realtime: /rt},",
    );
    let upstream = aiproxy_testkit::Upstream::hosts([
        ("up.test", vec![taken()]),
        ("sockets.test", vec![socket([Step::ping("p"), Step::Message, Step::close(1000, "")])]),
    ]);
    let gateway = aiproxy_testkit::TestGateway::new(&config, &upstream);
    let secret = minted(&gateway, SESSION).await;
    gateway.call(&offer(&secret)).await;
    closed(&gateway).await;
    let sideband = upstream.requests_to("sockets.test").pop().unwrap();
    assert!(sideband.starts_with("GET /base/rt?call_id=rtc_1 HTTP/1.1\r\nhost: sockets.test\r\n"), "{sideband}");
    assert_eq!(upstream.messages()[0], Frame::Pong("p".into()));
}

#[tokio::test(start_paused = true)]
async fn a_call_holds_a_place_for_as_long_as_it_runs() {
    let config = with("pk-1, channels: [up]", "pk-1, channels: [up], limits: {concurrent: 1}");
    let (gateway, _upstream) = gateway(&config, [taken(), socket([Step::Wait(30 * SECOND), Step::close(1000, "")])]);
    let secret = minted(&gateway, SESSION).await;
    assert_eq!(gateway.call(&offer(&secret)).await.status, 201);
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(gateway.call(&offer(&secret)).await.status, 429);
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(gateway.call(&offer(&secret)).await.status, 502, "nobody listens there any more, but it may be asked");
}
