//! Who presents unknown keys again and again waits longer each time, and is then refused for a while.

use super::*;

async fn status(gateway: &TestGateway, ip: &str, key: &str) -> u16 {
    call_from(gateway, ip, &get("/v1/models", key)).await.status
}

/// Presents `count` unknown keys, each one answered 401; how long each answer took, in milliseconds.
async fn guess(gateway: &TestGateway, ip: &str, count: usize) -> Vec<u128> {
    let mut times = Vec::new();
    for number in 0..count {
        let start = Instant::now();
        assert_eq!(status(gateway, ip, &format!("guess-{number}")).await, 401, "{number}");
        times.push(start.elapsed().as_millis());
    }
    times
}

#[tokio::test(start_paused = true)]
async fn guessing_gets_slower_then_ends_for_a_while_and_nobody_else_notices() {
    let gateway = TestGateway::new(CONFIG, &answering());
    let times = guess(&gateway, HERE, 30).await;
    assert_eq!(times[..9], [0; 9]);
    assert_eq!(times[9..12], [50, 100, 150]);
    assert_eq!(times[28..], [1_000, 1_000]);
    for key in ["pk-1", "guess"] {
        let refused = call_from(&gateway, HERE, &post("/v1/messages", key, "{}")).await;
        assert_eq!((refused.status, refused.header("x-should-retry")), (429, Some("false")), "{key}");
        assert_eq!(refused.header("retry-after"), Some("59"), "the last answer took a second of the minute");
        assert_eq!(refused.json()["type"], "error", "in the caller's dialect");
    }
    assert!(is_healthy(&gateway, HERE).await);
    let start = Instant::now();
    assert_eq!(status(&gateway, ELSEWHERE, "pk-1").await, 200);
    assert_eq!(status(&gateway, ELSEWHERE, "guess").await, 401);
    assert_eq!(start.elapsed(), Duration::ZERO);
    tokio::time::advance(Duration::from_millis(58_999)).await;
    assert_eq!(status(&gateway, HERE, "pk-1").await, 429);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(status(&gateway, HERE, "pk-1").await, 200, "it ends");
    assert_eq!(guess(&gateway, HERE, 9).await, [0; 9], "and the count begins anew");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_worked_under_observation_goes_on_working() {
    let system = with("rate_limit: {bad_credentials: {limit: 5, window: 60, block: 300}}");
    let gateway = TestGateway::new(&system, &answering());
    assert_eq!(status(&gateway, HERE, "pk-2").await, 200, "before anything was wrong: not remembered");
    guess(&gateway, HERE, 2).await;
    assert_eq!(status(&gateway, HERE, "pk-1").await, 200);
    guess(&gateway, HERE, 3).await;
    assert_eq!(status(&gateway, HERE, "pk-1").await, 200, "one broken script does not lock out an office");
    assert_eq!(status(&gateway, HERE, "pk-2").await, 429);
    assert_eq!(status(&gateway, HERE, "guess").await, 429);
    tokio::time::advance(Duration::from_secs(300)).await;
    assert_eq!(status(&gateway, HERE, "pk-2").await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_few_mistakes_now_and_then_are_never_punished() {
    let gateway = TestGateway::new(CONFIG, &answering());
    for _ in 0..50 {
        assert_eq!(guess(&gateway, HERE, 9).await, [0; 9]);
        assert_eq!(status(&gateway, HERE, "pk-1").await, 200);
        tokio::time::advance(Duration::from_secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_can_be_switched_off_and_a_reload_sets_an_address_free() {
    let gateway = TestGateway::new(CONFIG, &answering());
    guess(&gateway, HERE, 30).await;
    assert_eq!(status(&gateway, HERE, "pk-1").await, 429);
    gateway.reload(&with("rate_limit: {bad_credentials: false}"));
    assert_eq!(status(&gateway, HERE, "pk-1").await, 200);
    assert_eq!(guess(&gateway, HERE, 100).await, [0; 100]);
}
