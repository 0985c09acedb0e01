//! What happens to connections: keep-alive, HTTP/2, draining, overload.

use std::time::Duration;

use aiproxy_gateway::server::connection::Port;
use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::CONFIG;

#[tokio::test(start_paused = true)]
async fn one_connection_serves_many_calls() {
    let upstream = Upstream::new([(0..3).flat_map(|_| [Step::Request, Step::json(200, "{}")]).collect()]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let mut client = gateway.connect();
    for _ in 0..3 {
        assert_eq!(client.call(&get("/v1/x", "pk-1")).await.status, 200);
    }
    assert_eq!(gateway.records().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn draining_finishes_running_calls_and_closes_idle_connections() {
    let upstream = Upstream::new([vec![
        Step::Request,
        Step::sse_head(),
        Step::chunk("data: 1\n\n"),
        Step::Wait(Duration::from_secs(3)),
        Step::chunk("data: 2\n\n"),
        Step::last_chunk(),
    ]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let mut idle = gateway.connect();
    assert_eq!(idle.call("GET /health HTTP/1.1\r\nhost: g\r\n\r\n").await.status, 200);
    let mut running = gateway.connect();
    running.send(post("/v1/chat/completions", "pk-1", "{}")).await;
    running.read_until("data: 1\n\n").await;
    gateway.stop();
    assert_eq!(idle.read_to_end().await, "");
    assert!(!gateway.finished_within(Duration::from_secs(1)).await);
    running.read_until("data: 2\n\n").await;
    running.read_to_end().await;
    assert!(gateway.finished_within(Duration::from_secs(1)).await);
    assert_eq!(gateway.record().await["end"], "complete");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_while_draining_is_still_served_and_told_to_leave() {
    let upstream = Upstream::new([vec![Step::Request, Step::json(200, "{}")]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let mut fresh = gateway.connect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    gateway.stop();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let reply = fresh.call(&get("/v1/x", "pk-1")).await;
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert_eq!(fresh.read_to_end().await, "");
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_at_the_end_of_the_grace_period_says_so() {
    let upstream = Upstream::new([vec![Step::Request, Step::Hang]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let mut client = gateway.connect();
    client.send(get("/v1/x", "pk-1")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    gateway.gateway().cut_off();
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(gateway.record().await["end"], "shutdown");
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_gateway_answers_quickly_and_health_checks_as_ever() {
    let gateway = TestGateway::new(CONFIG, &Upstream::new([]));
    let mut client = gateway.connect_from("198.51.100.7:1", Port::Both, true);
    let reply = client.call(&get("/v1/messages", "pk-1")).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(reply.json()["type"], "error", "in the caller's dialect");
    assert_eq!(client.call("GET /health HTTP/1.1\r\nhost: g\r\n\r\n").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn http2_is_spoken_with_prior_knowledge() {
    let gateway = TestGateway::new(CONFIG, &Upstream::new([]));
    let mut client = gateway.connect();
    // Preface and an empty SETTINGS frame (RFC 9113 §3.4).
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await;
    let mut frame = [0; 9];
    tokio::io::AsyncReadExt::read_exact(&mut client.0, &mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "the gateway answers with SETTINGS");
}
