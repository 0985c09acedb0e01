//! Upstreams that fail, lie or talk nonsense: a clear error, and nothing else breaks.

use std::time::Duration;

use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::{ANSWER, CONFIG};

async fn failing(script: Vec<Step>) -> (u16, String, serde_json::Value) {
    let upstream = Upstream::new([script]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", "{}")).await;
    assert!(!reply.text().contains("up.test"), "the upstream's host is nobody's business: {}", reply.text());
    assert_eq!(upstream.dials().len(), 1, "a request that may have arrived is not sent again");
    (reply.status, reply.json()["error"]["code"].as_str().unwrap().to_string(), gateway.record().await)
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_cannot_be_reached_is_a_502() {
    for (step, why) in
        [(Step::Refuse, "connect failed"), (Step::FailLookup, "name lookup failed"), (Step::FailTls, "TLS failed")]
    {
        let (status, code, record) = failing(vec![step]).await;
        assert_eq!((status, code.as_str()), (502, "upstream_unreachable"));
        assert_eq!((&record["end"], &record["error_code"]), (&"upstream_error".into(), &"upstream_unreachable".into()));
        assert!(record["attempts"][0]["why"].as_str().unwrap().starts_with(why), "{record}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_closes_or_resets_without_an_answer_is_a_502() {
    for script in
        [vec![Step::Request], vec![Step::Request, Step::Reset], vec![Step::Request, Step::send("HTTP/1.1 20")]]
    {
        assert_eq!(failing(script).await.1, "upstream_unreachable");
    }
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_a_502_upstream_invalid() {
    for nonsense in [
        "hello\r\n\r\n".to_string(),
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n".into(),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".into(),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(20),
        format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(200_000)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(500)),
    ] {
        let (status, code, record) = failing(vec![Step::Request, Step::send(nonsense.clone()), Step::Hang]).await;
        assert_eq!((status, code.as_str()), (502, "upstream_invalid"), "{}", &nonsense[..nonsense.len().min(60)]);
        assert_eq!(record["end"], "upstream_error");
    }
}

#[tokio::test(start_paused = true)]
async fn interim_responses_are_skipped_even_when_they_drip() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
    let script = vec![
        Step::Request,
        Step::Drip(interim.into(), Duration::from_millis(1)),
        Step::send(interim),
        Step::json(200, ANSWER),
    ];
    let gateway = TestGateway::new(CONFIG, &Upstream::new([script]));
    assert_eq!(gateway.call(&get("/v1/x", "pk-1")).await.text(), ANSWER);
}

#[tokio::test(start_paused = true)]
async fn a_head_and_body_that_drip_arrive_whole() {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x};a=b\r\n{ANSWER}\r\n0\r\nx-t: 1\r\n\r\n",
        ANSWER.len()
    );
    let script = vec![Step::Request, Step::Drip(answer.into(), Duration::from_millis(1))];
    let gateway = TestGateway::new(CONFIG, &Upstream::new([script]));
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", "{}")).await;
    assert_eq!((reply.text().as_str(), reply.complete), (ANSWER, true));
    assert_eq!(gateway.record().await["usage"]["input"], 19);
}

#[tokio::test(start_paused = true)]
async fn a_204_with_a_body_is_a_204_and_its_connection_is_not_used_again() {
    let odd = vec![Step::Request, Step::send("HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc"), Step::Hang];
    let upstream = Upstream::new([odd, vec![Step::Request, Step::json(200, ANSWER)]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let first = gateway.call(&get("/v1/x", "pk-1")).await;
    assert_eq!((first.status, first.body.len()), (204, 0));
    assert_eq!(gateway.call(&get("/v1/x", "pk-1")).await.text(), ANSWER);
    assert_eq!(upstream.dials().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn bytes_behind_an_answer_never_become_the_next_answer() {
    let smuggled = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let upstream = Upstream::new([
        vec![Step::Request, Step::send(smuggled), Step::Hang],
        vec![Step::Request, Step::json(200, "{}")],
    ]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    assert_eq!(gateway.call(&get("/v1/x", "pk-1")).await.text(), "ok");
    assert_eq!(gateway.call(&get("/v1/x", "pk-1")).await.text(), "{}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_cut_so_that_nobody_takes_it_for_whole() {
    for broken in [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{\"a\":",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\":X",
    ] {
        let gateway = TestGateway::new(CONFIG, &Upstream::new([vec![Step::Request, Step::send(broken)]]));
        let reply = gateway.call(&get("/v1/x", "pk-1")).await;
        assert!(!reply.complete && reply.status == 200, "{broken}");
        let record = gateway.record().await;
        assert_eq!((&record["end"], &record["error_code"]), (&"upstream_error".into(), &"upstream_invalid".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_ends_with_an_error_event_of_the_dialect() {
    for (path, expected) in [
        ("/v1/chat/completions", "data: {\"error\":"),
        ("/v1/messages", "event: error\ndata: {"),
        ("/api/v1/services/aigc/text-generation/generation", "event:error\n"),
        ("/v1beta/models/g:streamGenerateContent?alt=sse", "data: {\"error\":"),
    ] {
        let script = vec![Step::Request, Step::sse_head(), Step::chunk("data: {\"a\":1}\n\ndata: {\"b"), Step::Reset];
        let gateway = TestGateway::new(CONFIG, &Upstream::new([script]));
        let reply = gateway.call(&post(path, "pk-1", "{}")).await;
        assert!(reply.complete, "the client's framing ends properly");
        let text = reply.text();
        let (before, event) = text.split_at(text.find("{\"b").unwrap() + 3);
        assert_eq!(before, "data: {\"a\":1}\n\ndata: {\"b");
        assert!(event.starts_with(&format!("\n\n{expected}")), "{path}: {event}");
        let record = gateway.record().await;
        assert_eq!((&record["end"], &record["status"]), (&"upstream_error".into(), &200.into()));
        assert!(record["attempts"][0]["why"].is_string());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_whole_request_was_taken_is_passed_on() {
    let upstream = Upstream::new([vec![Step::Head, Step::json(413, r#"{"error":"too big"}"#)]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let mut client = gateway.connect();
    client
        .send("POST /v1/upload HTTP/1.1\r\nhost: g\r\nauthorization: Bearer pk-1\r\ncontent-length: 50000000\r\n\r\n")
        .await;
    client.send(vec![b'x'; 10_000]).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.text().as_str()), (413, r#"{"error":"too big"}"#));
}

#[tokio::test(start_paused = true)]
async fn connecting_is_tried_again_as_often_as_the_channel_says() {
    let config = CONFIG.replace("api_key: real-key", "api_key: real-key, max_retries: 2");
    let upstream =
        Upstream::new([vec![Step::Refuse], vec![Step::Refuse], vec![Step::Request, Step::json(200, ANSWER)]]);
    let gateway = TestGateway::new(&config, &upstream);
    assert_eq!(gateway.call(&post("/v1/chat/completions", "pk-1", "{}")).await.status, 200);
    let record = gateway.record().await;
    let statuses: Vec<_> =
        record["attempts"].as_array().unwrap().iter().map(|attempt| attempt["status"].clone()).collect();
    assert_eq!(statuses, [serde_json::Value::Null, serde_json::Value::Null, 200.into()]);
}

#[tokio::test(start_paused = true)]
async fn an_error_inside_a_200_passes_and_is_seen() {
    let in_stream = [
        Step::Request,
        Step::sse_head(),
        Step::chunk("data: {\"choices\":[{\"delta\":{\"content\":\"h\"}}]}\n\n"),
        Step::chunk("data: {\"error\":{\"message\":\"about the prompt\",\"code\":\"server_error\"}}\n\n"),
        Step::last_chunk(),
    ];
    let in_json = [Step::Request, Step::json(200, r#"{"error":{"message":"about the prompt","code":"server_error"}}"#)];
    for script in [in_stream.to_vec(), in_json.to_vec()] {
        let gateway = TestGateway::new(CONFIG, &Upstream::new([script]));
        let reply = gateway.call(&post("/v1/chat/completions", "pk-1", r#"{"stream":true}"#)).await;
        assert!(reply.status == 200 && reply.text().contains("server_error"));
        let record = gateway.record().await;
        assert_eq!((&record["end"], &record["attempts"][0]["why"]), (&"upstream_error".into(), &"server_error".into()));
        assert!(!record.to_string().contains("prompt"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstreams_own_error_passes_through_untouched() {
    for status in [400, 401, 403, 404, 422, 429, 500, 503, 529] {
        let body = r#"{"error":{"message":"theirs","type":"x","param":null,"code":"c"}}"#;
        let gateway = TestGateway::new(CONFIG, &Upstream::new([vec![Step::Request, Step::json(status, body)]]));
        let reply = gateway.call(&post("/v1/chat/completions", "pk-1", "{}")).await;
        assert_eq!((reply.status, reply.text().as_str()), (status, body));
        let record = gateway.record().await;
        assert_eq!((&record["end"], &record["error_code"]), (&"complete".into(), &serde_json::Value::Null));
    }
}
