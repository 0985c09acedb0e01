//! Each deadline set apart.

use std::time::Duration;

use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::CONFIG;

fn config(timeouts: &str) -> String {
    CONFIG.replace("api_key: real-key", &format!("api_key: real-key, timeouts: {timeouts}"))
}

async fn timed_out(timeouts: &str, script: Vec<Step>) -> (u64, u16, String, serde_json::Value) {
    let gateway = TestGateway::new(&config(timeouts), &Upstream::new([script]));
    let start = tokio::time::Instant::now();
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", "{}")).await;
    let seconds = start.elapsed().as_secs();
    let record = gateway.record().await;
    assert_eq!((&record["end"], &record["error_code"]), (&"timeout".into(), &"upstream_timeout".into()));
    (seconds, reply.status, reply.text(), record)
}

#[tokio::test(start_paused = true)]
async fn connecting_reading_the_head_and_the_whole_call_have_deadlines_of_their_own() {
    let hour = Duration::from_secs(3600);
    for (timeouts, script, seconds, phase) in [
        ("{connect: 3}", vec![Step::SlowConnect(hour)], 3, "connect timeout"),
        ("{first_byte: 7}", vec![Step::Request, Step::Hang], 7, "first byte timeout"),
        (
            "{first_byte: 7}",
            vec![Step::Request, Step::send("HTTP/1.1 200 OK\r\n"), Step::Hang],
            7,
            "first byte timeout",
        ),
        ("{total: 5}", vec![Step::Request, Step::Hang], 5, "total timeout"),
        ("{total: 2, connect: 9}", vec![Step::SlowConnect(hour)], 2, "total timeout"),
    ] {
        let (took, status, text, _) = timed_out(timeouts, script).await;
        assert_eq!((took, status), (seconds, 504), "{timeouts}");
        assert!(text.contains(phase) && text.contains("upstream_timeout"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_takes_no_more_of_the_body_is_given_up() {
    let gateway = TestGateway::new(&config("{idle: 4}"), &Upstream::new([vec![Step::Hang]]));
    let start = tokio::time::Instant::now();
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(2_000_000));
    let mut client = gateway.connect();
    client.send(post("/v1/chat/completions", "pk-1", &body)).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, start.elapsed().as_secs()), (504, 4));
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_last_for_ever_as_long_as_something_comes() {
    let mut script = vec![Step::Request, Step::sse_head()];
    for _ in 0..100 {
        script.extend([Step::chunk("data: x\n\n"), Step::Wait(Duration::from_secs(9))]);
    }
    script.push(Step::last_chunk());
    let gateway = TestGateway::new(&config("{idle: 10, first_byte: 10}"), &Upstream::new([script]));
    let start = tokio::time::Instant::now();
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", "{}")).await;
    assert!(reply.complete);
    assert_eq!(start.elapsed().as_secs(), 900);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_silent_ends_with_an_error_event() {
    let script = vec![Step::Request, Step::sse_head(), Step::chunk("data: x\n\n"), Step::Hang];
    let (took, status, text, record) = timed_out("{idle: 10}", script).await;
    assert_eq!((took, status), (10, 200));
    assert!(text.starts_with("data: x\n\n") && text.contains("upstream_timeout"), "{text}");
    assert_eq!(record["attempts"][0]["why"], "idle timeout");
}

#[tokio::test(start_paused = true)]
async fn a_silent_upstream_of_one_channel_does_not_hold_up_another() {
    let config = format!(
        "{}\n  fast: {{kind: openai, base_url: 'http://fast.test', api_key: k, status: active}}\n",
        config("{first_byte: 5}").trim_end()
    )
    .replace("channels: [up]}", "channels: [up]}\n  user2: {proxy_key: pk-2, status: active, channels: [fast]}");
    let upstream = Upstream::new([vec![Step::Request, Step::Hang], vec![Step::Request, Step::json(200, "{}")]]);
    let gateway = TestGateway::new(&config, &upstream);
    let mut slow = gateway.connect();
    slow.send(get("/v1/x", "pk-1")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    assert_eq!(gateway.call(&get("/v1/x", "pk-2")).await.status, 200);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(slow.reply().await.status, 504);
}
