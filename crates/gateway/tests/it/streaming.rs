//! Streams leave as they come, and a client that leaves takes the upstream call with it.

use std::time::Duration;

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Step, TestGateway, Upstream};
use tokio::time::Instant;

use crate::CONFIG;

#[tokio::test(start_paused = true)]
async fn each_event_leaves_the_moment_it_comes() {
    let pause = Duration::from_millis(200);
    let mut script = vec![Step::Request, Step::sse_head()];
    for number in 0..10 {
        script.extend([Step::Wait(pause), Step::chunk(&format!("data: {number}\n\n"))]);
    }
    script.push(Step::last_chunk());
    let gateway = TestGateway::new(CONFIG, &Upstream::new([script]));
    let mut client = gateway.connect();
    let start = Instant::now();
    client.send(post("/v1/chat/completions", "pk-1", r#"{"stream":true}"#)).await;
    for number in 0..10 {
        client.read_until(&format!("data: {number}\n\n")).await;
        assert_eq!(start.elapsed(), pause * (number + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_passed_with_every_byte_of_its_form() {
    let odd =
        ": comment\r\nevent: x\r\nid: 7\r\nretry: 5\r\ndata:no space\r\ndata: two\r\n\r\n\r\ndata: [DONE]\n\nrest";
    let script = vec![Step::Request, Step::sse_head(), Step::chunk(odd), Step::last_chunk()];
    let gateway = TestGateway::new(CONFIG, &Upstream::new([script]));
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", r#"{"stream":true}"#)).await;
    assert_eq!(reply.text(), odd);
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
}

#[tokio::test(start_paused = true)]
async fn an_error_with_an_event_stream_keeps_its_status() {
    let script = vec![
        Step::Request,
        Step::send("HTTP/1.1 429 Too Many\r\ncontent-type: text/event-stream\r\ncontent-length: 9\r\n\r\ndata: x\n\n"),
    ];
    let gateway = TestGateway::new(CONFIG, &Upstream::new([script]));
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", r#"{"stream":true}"#)).await;
    assert_eq!((reply.status, reply.text().as_str()), (429, "data: x\n\n"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_cancels_the_upstream_call_at_every_stage() {
    for (stage, script) in [
        ("before the first byte", vec![Step::Request, Step::AwaitClose]),
        ("in the stream", vec![Step::Request, Step::sse_head(), Step::chunk("data: x\n\n"), Step::AwaitClose]),
        (
            "in a body",
            vec![Step::Request, Step::send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"), Step::AwaitClose],
        ),
    ] {
        let upstream = Upstream::new([script]);
        let gateway = TestGateway::new(CONFIG, &upstream);
        let mut client = gateway.connect();
        client.send(post("/v1/chat/completions", "pk-1", "{}")).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let left = Instant::now();
        drop(client);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let closed = upstream.closed_at();
        assert!(closed.len() == 1 && closed[0] - left < Duration::from_secs(1), "{stage}");
        assert_eq!(gateway.record().await["end"], "client_closed", "{stage}");
        assert_eq!(gateway.gateway().calls_in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_early_still_has_a_record_with_what_was_seen() {
    let first = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude\",\"usage\":{\"input_tokens\":12,\"output_tokens\":1}}}\n\n";
    let upstream = Upstream::new([vec![Step::Request, Step::sse_head(), Step::chunk(first), Step::AwaitClose]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let mut client = gateway.connect();
    client.send(post("/v1/messages", "pk-1", r#"{"stream":true}"#)).await;
    client.read_until("\n\n").await;
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let record = gateway.record().await;
    assert_eq!((&record["end"], &record["model_served"]), (&"client_closed".into(), &"claude".into()));
    assert_eq!(record["usage"]["input"], 12);
}
