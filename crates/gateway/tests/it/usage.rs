//! The numbers in the record, however the answer is framed and cut.

use std::io::Write;

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Step, TestGateway, Upstream};
use serde_json::{Value, json};

use crate::{ANSWER, CONFIG};

const STREAM: &str = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"h\\\"usage\\\"i\"}}],\"usage\":null}\n\n\
    data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\n\n\
    data: [DONE]\n\n";

async fn streamed(asked: &str, pieces: &[&str]) -> (String, String, Value) {
    let mut script = vec![Step::Request, Step::sse_head()];
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        script.push(Step::chunk(piece));
        script.push(Step::Wait(std::time::Duration::from_millis(1)));
    }
    script.push(Step::last_chunk());
    let upstream = Upstream::new([script]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", asked)).await;
    assert!(reply.complete && reply.status == 200);
    (upstream.requests()[0].clone(), reply.text(), gateway.record().await)
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_asked_for_usage_and_the_extra_chunk_is_hidden_wherever_it_is_cut() {
    let events: Vec<&str> = STREAM.split_inclusive("\n\n").collect();
    let visible = [events[0], events[2]].concat();
    for cut in 0..STREAM.len() {
        let asked = r#"{"model":"m","stream":true}"#;
        let (request, seen, record) = streamed(asked, &[&STREAM[..cut], &STREAM[cut..]]).await;
        assert!(
            request.ends_with(r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#),
            "{request}"
        );
        assert!(request.contains("\r\naccept-encoding: identity\r\n"));
        assert_eq!(seen, visible, "cut at {cut}");
        assert_eq!(record["usage"], json!({"input": 7, "output": 3}), "cut at {cut}");
        assert_eq!((&record["protocol"], &record["usage_source"]), (&json!("sse"), &json!("provider")));
        assert_eq!(record["response_bytes"], visible.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_asks_for_usage_gets_the_stream_untouched() {
    let asked = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
    let (request, seen, record) = streamed(asked, &[STREAM]).await;
    assert!(request.ends_with(asked));
    assert_eq!(seen, STREAM);
    assert_eq!(record["usage"], json!({"input": 7, "output": 3}));
}

#[tokio::test(start_paused = true)]
async fn usage_is_read_through_every_content_coding() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let body = encode(coding, ANSWER.as_bytes());
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let script = vec![Step::Request, Step::send(head), Step::Send(body.clone())];
        let gateway = TestGateway::new(CONFIG, &Upstream::new([script]));
        let reply = gateway.call(&post("/v1/chat/completions", "pk-1", "{}")).await;
        assert_eq!((reply.header("content-encoding"), &reply.body), (Some(coding), &body));
        let record = gateway.record().await;
        assert_eq!(record["usage"], json!({"input": 19, "output": 10, "cached": 4}), "{coding}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_coding_passes_as_it_is_and_only_the_usage_is_missing() {
    let mut body = encode("gzip", ANSWER.as_bytes());
    body[12] ^= 0xff;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let script = vec![Step::Request, Step::send(head), Step::Send(body.clone())];
    let gateway = TestGateway::new(CONFIG, &Upstream::new([script]));
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", "{}")).await;
    assert_eq!((reply.status, &reply.body), (200, &body));
    let record = gateway.record().await;
    assert_eq!(
        (&record["usage"], &record["usage_source"], &record["end"]),
        (&Value::Null, &json!("none"), &json!("complete"))
    );
}

#[tokio::test(start_paused = true)]
async fn injection_can_be_switched_off() {
    let upstream = Upstream::new([vec![Step::Request, Step::json(200, "{}")]]);
    let gateway = TestGateway::new(&format!("{CONFIG}\nsystem: {{usage_injection: false}}\n"), &upstream);
    gateway.call(&post("/v1/chat/completions", "pk-1", r#"{"stream":true}"#)).await;
    assert!(upstream.requests()[0].ends_with("\r\n\r\n{\"stream\":true}"));
}

fn encode(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoded = Vec::new();
            brotli::CompressorWriter::new(&mut encoded, 4096, 5, 20).write_all(plain).unwrap();
            encoded
        }
        _ => zstd::stream::encode_all(plain, 3).unwrap(),
    }
}
