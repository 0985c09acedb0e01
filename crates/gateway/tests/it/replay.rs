//! Bodies that are sent a second time are the same, byte for byte; those too long to be kept are never sent twice.

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Reply, Step, TestGateway, Upstream};

use crate::places::*;

/// `config` with a small `replay_limit`.
fn limited(config: &str) -> String {
    format!("{config}\nsystem: {{replay_limit: 64KiB}}")
}

/// A chat of about `length` bytes.
fn long_chat(length: usize) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "é0123456".repeat(length / 9))
}

/// The same call with the chunked coding, cut anywhere.
fn chunked(body: &str) -> Vec<u8> {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer pk-1\r\n\
                content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut call = head.as_bytes().to_vec();
    for (number, chunk) in body.as_bytes().chunks(1013).enumerate() {
        call.extend(format!("{:x};part={number}\r\n", chunk.len()).bytes());
        call.extend_from_slice(chunk);
        call.extend(b"\r\n");
    }
    call.extend(b"0\r\n\r\n");
    call
}

/// A form with a file of every byte there is.
fn form() -> (Vec<u8>, Vec<u8>) {
    let file: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    let mut body = b"--BB\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--BB\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n".to_vec();
    body.extend(file);
    body.extend(b"\r\n--BB--\r\n");
    let head = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer pk-1\r\ncontent-length: {}\r\n\
         content-type: multipart/form-data; boundary=BB\r\n\r\n",
        body.len()
    );
    ([head.as_bytes(), &body].concat(), body)
}

async fn send(gateway: &TestGateway, call: &[u8]) -> Reply {
    let mut client = gateway.connect();
    client.send(call).await;
    client.reply().await
}

fn body_of(request: &[u8]) -> &[u8] {
    &request[request.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4..]
}

/// Both requests as they would be with one and the same key.
fn without_key(request: &[u8]) -> Vec<u8> {
    let at = request.windows(5).position(|window| window == b"real-").unwrap();
    [&request[..at], b"key", &request[at + 6..]].concat()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_kept_is_sent_again_byte_for_byte() {
    let small = long_chat(100);
    let near = long_chat(64 * 1024 - 200);
    let big = long_chat(1_000_000);
    let (form_call, form_body) = form();
    for (config, call, body) in [
        (limited(TWO_KEYS), post(CHAT, "pk-1", &small).into_bytes(), small.clone().into_bytes()),
        (limited(TWO_KEYS), post(CHAT, "pk-1", &near).into_bytes(), near.clone().into_bytes()),
        (TWO_KEYS.to_owned(), post(CHAT, "pk-1", &big).into_bytes(), big.clone().into_bytes()),
        (limited(TWO_KEYS), chunked(&near), near.into_bytes()),
        (TWO_KEYS.to_owned(), chunked(&big), big.into_bytes()),
        (limited(TWO_KEYS), form_call, form_body),
    ] {
        let upstream = Upstream::hosts([("a.test", vec![fails(429), answers()])]);
        let gateway = TestGateway::new(&config, &upstream);
        assert_eq!(send(&gateway, &call).await.status, 200);
        let [first, second] = &upstream.raw_requests()[..] else { panic!("two requests") };
        assert!(without_key(first) == without_key(second));
        assert!(first != second, "but for the key");
        assert!(body_of(second) == body);
        assert_eq!(gateway.record().await["request_bytes"], body.len(), "counted once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_too_long_to_be_kept_is_never_sent_twice() {
    let body = long_chat(200_000);
    for call in [post(CHAT, "pk-1", &body).into_bytes(), chunked(&body)] {
        for script in [fails(429), fails(500), vec![Step::Request, Step::Reset]] {
            for config in [TWO_KEYS, &two_channels_with_failover()] {
                let config = limited(&with(config, "retry_ambiguous: true"));
                let upstream =
                    Upstream::hosts([("a.test", vec![script.clone(), answers()]), ("b.test", vec![answers()])]);
                let gateway = TestGateway::new(&config, &upstream);
                let status = send(&gateway, &call).await.status;
                assert!([429, 500, 502].contains(&status), "{status}");
                assert_eq!(upstream.requests().len(), 1);
                assert_eq!(statuses(&gateway.record().await).len(), 1);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_too_long_to_be_kept_streams_through_unchanged() {
    let body = long_chat(3_000_000);
    let upstream = Upstream::hosts([("a.test", vec![answers()])]);
    let gateway = TestGateway::new(&limited(TWO_KEYS), &upstream);
    assert_eq!(send(&gateway, post(CHAT, "pk-1", &body).as_bytes()).await.status, 200);
    assert!(body_of(&upstream.raw_requests()[0]) == body.as_bytes());
    assert_eq!(gateway.record().await["request_bytes"], body.len());
}

#[tokio::test(start_paused = true)]
async fn a_connection_refused_before_any_byte_of_it_moves_on_whatever_its_length() {
    let body = long_chat(300_000);
    for script in [vec![Step::Refuse], vec![Step::FailTls], vec![Step::FailLookup]] {
        for config in [two_channels_with_failover(), TWO_ENDPOINTS.to_owned()] {
            let upstream = Upstream::hosts([("a.test", vec![script.clone()]), ("b.test", vec![answers()])]);
            let gateway = TestGateway::new(&limited(&config), &upstream);
            for _ in 0..3 {
                assert_eq!(send(&gateway, post(CHAT, "pk-1", &body).as_bytes()).await.status, 200);
            }
            for request in upstream.raw_requests() {
                assert!(body_of(&request) == body.as_bytes());
            }
            assert_eq!(upstream.requests_to("b.test").len(), 3);
        }
    }
}
