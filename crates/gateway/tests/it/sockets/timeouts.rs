//! How long a socket may be silent and how long it may last, and what becomes of it when the gateway stops.

use std::time::Duration;

use aiproxy_core::time;
use aiproxy_testkit::{Frame, Step};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_socket_on_which_nothing_is_said_ends() {
    let (gateway, upstream) = gateway(&with_channel("timeouts: {idle: 30s}"), vec![Step::Upgrade, Step::Listen]);
    let mut socket = open(&gateway, REALTIME).await;
    for _ in 0..3 {
        assert!(socket.is_quiet_for(Duration::from_secs(29)).await);
        socket.send_text(r#"{"type":"x"}"#).await;
    }
    let start = time::now();
    assert_eq!(error_code(&socket.frame().await), "upstream_timeout");
    assert_eq!(socket.part().await.code(), Some(1008));
    assert_eq!(start.elapsed().as_secs(), 30);
    settle().await;
    assert_eq!(upstream.messages().last().unwrap().code(), Some(1001));
    let record = only_record(&gateway).await;
    assert_eq!((&record["end"], &record["error_code"]), (&json!("timeout"), &json!("upstream_timeout")));
}

#[tokio::test(start_paused = true)]
async fn a_socket_lasts_as_long_as_its_channel_allows_and_no_longer() {
    let mut script = vec![Step::Upgrade, created("r1")];
    script.extend((0..40).flat_map(|_| [Step::Wait(Duration::from_secs(2)), Step::text("{}")]));
    let script = [script, vec![Step::Listen]].concat();
    let (gateway, _) = gateway(&with_channel("timeouts: {idle: 30s, total: 60s}"), script);
    let mut socket = open(&gateway, REALTIME).await;
    let start = time::now();
    let last = loop {
        let frame = socket.frame().await;
        if frame.as_text().contains("error") {
            break frame;
        }
    };
    assert_eq!(error_code(&last), "upstream_timeout");
    assert_eq!(socket.part().await.code(), Some(1008));
    assert_eq!(start.elapsed().as_secs(), 60);
    tokio::time::sleep(5 * TWO_SECONDS).await;
    assert_eq!(only_record(&gateway).await["end"], "timeout");
}

#[tokio::test(start_paused = true)]
async fn an_idle_socket_is_told_to_come_back_when_the_gateway_stops() {
    let (gateway, upstream) = gateway(CONFIG, vec![Step::Upgrade, Step::Listen]);
    gateway.look_after_sessions();
    let socket = open(&gateway, REALTIME).await;
    let start = time::now();
    gateway.stop();
    let Frame::Close(Some((1012, reason))) = socket.part().await else { panic!("another goodbye") };
    assert!(!reason.is_empty());
    assert!(start.elapsed() < TWO_SECONDS);
    assert!(gateway.finished_within(TWO_SECONDS).await);
    assert_eq!(upstream.messages().last().unwrap().code(), Some(1001));
    assert_eq!(only_record(&gateway).await["end"], "shutdown");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_runs_is_finished_before_the_gateway_stops() {
    let script = vec![Step::Upgrade, created("r1"), Step::Wait(Duration::from_secs(8)), done("r1", 5, 6), Step::Listen];
    let (gateway, upstream) = gateway(CONFIG, script);
    gateway.look_after_sessions();
    let mut socket = open(&gateway, REALTIME).await;
    socket.frame().await;
    let start = time::now();
    gateway.stop();
    assert!(socket.frame().await.as_text().contains("response.done"));
    assert_eq!(socket.part().await.code(), Some(1012));
    assert_eq!(start.elapsed().as_secs(), 8);
    assert!(gateway.finished_within(TWO_SECONDS).await);
    assert!(upstream.texts().is_empty(), "nothing was cancelled");
    let record = only_record(&gateway).await;
    assert_eq!((&record["end"], &record["usage"]["output"]), (&json!("shutdown"), &json!(6)));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_does_not_end_is_cancelled_before_the_grace_period_is_over() {
    let script = vec![Step::Upgrade, created("r1"), Step::Message, done("r1", 5, 6), Step::Listen];
    let (gateway, _) = gateway(&format!("system: {{shutdown_timeout: 20s}}{CONFIG}"), script);
    gateway.look_after_sessions();
    let mut socket = open(&gateway, REALTIME).await;
    socket.frame().await;
    let start = time::now();
    gateway.stop();
    assert_eq!(socket.part().await.code(), Some(1012));
    assert!(gateway.finished_within(TWO_SECONDS).await);
    assert!((14..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let record = only_record(&gateway).await;
    assert_eq!((&record["end"], &record["usage"]["output"]), (&json!("shutdown"), &json!(6)));
}
