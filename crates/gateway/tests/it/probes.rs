//! Active checks: an upstream is asked unasked, for nothing, and left alone while it does not answer.

use std::time::Duration;

use aiproxy_core::tasks::Tasks;
use aiproxy_gateway::probe;
use aiproxy_testkit::gateway::{ADMIN_TOKEN, get};
use aiproxy_testkit::{Step, TestGateway, Upstream};
use serde_json::Value;

use crate::places::{ONE_KEY, TWO_ENDPOINTS, TWO_KEYS, answers, chat, with};

const LIST: &str = r#"{"object":"list","data":[]}"#;

/// A gateway whose checks run.
fn checked(config: &str, upstream: &Upstream) -> (TestGateway, Tasks) {
    let gateway = TestGateway::new(config, upstream);
    let tasks = Tasks::new();
    tasks.spawn(probe::run(gateway.gateway().clone(), tasks.clone()));
    (gateway, tasks)
}

async fn state(gateway: &TestGateway) -> Value {
    gateway.call(&get("/admin/api/v1/status", ADMIN_TOKEN)).await.json()["channels"][0].clone()
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_takes_no_connections_is_left_alone_until_it_does() {
    let config = with(ONE_KEY, "health: {probe: {interval: 10s, timeout: 2s, failures: 3, successes: 2}}");
    let upstream = Upstream::hosts([("a.test", vec![vec![Step::Refuse]])]);
    let (gateway, _tasks) = checked(&config, &upstream);
    seconds(15).await;
    assert_eq!(state(&gateway).await["state"], "healthy", "two failures are not yet three");
    seconds(10).await;
    assert_eq!(state(&gateway).await["state"], "paused");
    assert_eq!(state(&gateway).await["reason"], "probe failed");
    let dials = upstream.dials().len();
    assert_eq!(chat(&gateway).await.status, 503, "no call tries it");
    assert_eq!(upstream.dials().len(), dials);
    seconds(300).await;
    assert_eq!(chat(&gateway).await.status, 503, "for as long as the check fails");

    upstream.now_follows("a.test", vec![answers()]);
    seconds(21).await;
    assert_eq!(chat(&gateway).await.status, 200);
    assert_eq!(state(&gateway).await["state"], "healthy");
}

#[tokio::test(start_paused = true)]
async fn a_check_of_connections_sends_nothing() {
    let config = with(ONE_KEY, "health: {probe: on}");
    let upstream = Upstream::hosts([("a.test", vec![answers()])]);
    let (_gateway, tasks) = checked(&config, &upstream);
    seconds(100).await;
    assert_eq!(upstream.dials().len(), 4, "every 30 s, at once for the first time");
    assert_eq!(upstream.requests(), Vec::<String>::new());
    tasks.stop();
    seconds(100).await;
    assert_eq!(upstream.dials().len(), 4, "stopped");
}

#[tokio::test(start_paused = true)]
async fn calls_go_to_the_endpoint_that_is_there_before_one_of_them_fails() {
    let config = with(TWO_ENDPOINTS, "health: {probe: {interval: 5s, failures: 1, successes: 1}}");
    let upstream = Upstream::hosts([("a.test", vec![vec![Step::Refuse]]), ("b.test", vec![answers()])]);
    let (gateway, _tasks) = checked(&config, &upstream);
    seconds(2).await;
    for _ in 0..10 {
        assert_eq!(chat(&gateway).await.status, 200);
        assert_eq!(gateway.last_record().await["attempts"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_list_of_models_tells_which_credential_was_revoked() {
    let probe = "health: {probe: {kind: models, interval: 5s, timeout: 1s, failures: 1, successes: 1}}";
    let answer = Step::if_asked("real-1", Step::json(401, "{}"), Step::json(200, LIST));
    let upstream = Upstream::hosts([("a.test", vec![vec![Step::Request, answer]])]);
    let (gateway, _tasks) = checked(&with(TWO_KEYS, probe), &upstream);
    seconds(2).await;
    let state = state(&gateway).await;
    let states: Vec<&str> =
        state["credentials"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["paused", "healthy"]);
    assert_eq!(state["state"], "healthy", "one credential is left");
    let requests = upstream.requests();
    assert!(requests.iter().all(|request| request.starts_with("GET /v1/models HTTP/1.1\r\nhost: a.test\r\n")));
    assert!(requests[0].contains("\r\nauthorization: Bearer real-1\r\n"), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn no_list_is_no_failure_and_silence_is_one() {
    let probe = "health: {probe: {kind: models, interval: 5s, timeout: 1s, failures: 2, successes: 1}}";
    for (script, expected) in [
        (vec![Step::Request, Step::json(404, "{}")], "healthy"),
        (vec![Step::Request, Step::json(429, "{}")], "healthy"),
        (vec![Step::Request, Step::json(503, "{}")], "paused"),
        (vec![Step::Request, Step::Hang], "paused"),
        (vec![Step::SlowConnect(Duration::from_secs(3)), Step::Request, Step::json(200, LIST)], "paused"),
    ] {
        let upstream = Upstream::hosts([("a.test", vec![script.clone()])]);
        let (gateway, _tasks) = checked(&with(ONE_KEY, probe), &upstream);
        seconds(9).await;
        assert_eq!(state(&gateway).await["state"], expected, "{script:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_switches_checks_on_and_off() {
    let upstream = Upstream::hosts([("a.test", vec![answers()])]);
    let (gateway, _tasks) = checked(ONE_KEY, &upstream);
    seconds(100).await;
    assert_eq!(upstream.dials().len(), 0, "checks are optional");
    gateway.reload(&with(ONE_KEY, "health: {probe: {interval: 10s}}"));
    seconds(15).await;
    assert_eq!(upstream.dials().len(), 2);
    gateway.reload(&with(ONE_KEY, "status: disabled, health: {probe: {interval: 10s}}"));
    seconds(100).await;
    assert_eq!(upstream.dials().len(), 2, "what is switched off is not asked");
}
