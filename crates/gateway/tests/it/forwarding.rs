//! What an upstream sees of a call, and what the caller sees of the answer.

use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::{ANSWER, CONFIG};

fn answering(count: usize) -> Upstream {
    Upstream::new((0..count).map(|_| vec![Step::Request, Step::json(200, ANSWER)]))
}

#[tokio::test(start_paused = true)]
async fn the_proxy_key_goes_in_and_the_real_key_goes_out() {
    let upstream = answering(1);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let body = r#"{"model":"m","messages":[]}"#;
    let reply = gateway.call(&post("/v1/chat/completions?a=1&a=%2F&b", "pk-1", body)).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER));
    assert_eq!(
        upstream.requests(),
        [format!(
            "POST /v1/chat/completions?a=1&a=%2F&b HTTP/1.1\r\nhost: up.test\r\nauthorization: Bearer real-key\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )]
    );
    let record = gateway.record().await;
    assert_eq!(reply.header("x-request-id"), record["id"].as_str());
    for (field, expected) in [
        ("user_id", "user1"),
        ("key_id", "user1"),
        ("department", "Research"),
        ("client_ip", "198.51.100.7"),
        ("method", "POST"),
        ("path", "/v1/chat/completions"),
        ("dialect", "openai"),
        ("protocol", "http"),
        ("channel_id", "up"),
        ("credential_id", "default"),
        ("model_asked", "m"),
        ("model_served", "m-served"),
        ("end", "complete"),
        ("usage_source", "provider"),
    ] {
        assert_eq!(record[field], expected, "{field}");
    }
    assert_eq!(record["status"], 200);
    assert_eq!(record["request_bytes"], body.len());
    assert_eq!(record["response_bytes"], ANSWER.len());
    assert_eq!(record["usage"], serde_json::json!({"input": 19, "output": 10, "cached": 4}));
    assert_eq!(record["attempts"][0]["status"], 200);
    assert!(!record.to_string().contains("pk-1") && !record.to_string().contains("real-key"));
}

#[tokio::test(start_paused = true)]
async fn any_method_path_and_query_pass_byte_for_byte() {
    for (line, expected) in [
        ("GET //v1//files/%2F%2e/?q=a+b&q=&&x=%E4%BD%A0", "GET //v1//files/%2F%2e/?q=a+b&q=&&x=%E4%BD%A0"),
        ("DELETE /v1/files/f-1/", "DELETE /v1/files/f-1/"),
        ("PATCH /x?", "PATCH /x?"),
        ("OPTIONS /anything", "OPTIONS /anything"),
        ("PUT /a;b=c/d,e'()*!$", "PUT /a;b=c/d,e'()*!$"),
        ("GET /v1/x?key=unknown&b=2", "GET /v1/x?b=2"),
    ] {
        let upstream = answering(1);
        let gateway = TestGateway::new(CONFIG, &upstream);
        let reply = gateway
            .call(&format!("{line} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer pk-1\r\ncontent-length: 0\r\n\r\n"))
            .await;
        assert_eq!(reply.status, 200, "{line}");
        assert_eq!(upstream.requests()[0].split(" HTTP/1.1").next(), Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_of_any_bytes_and_framing_arrive_whole() {
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for chunked in [false, true] {
        let upstream = Upstream::new([vec![Step::Request, Step::json(200, "{}")]]);
        let gateway = TestGateway::new(CONFIG, &upstream);
        let mut client = gateway.connect();
        let framing =
            if chunked { "transfer-encoding: chunked".into() } else { format!("content-length: {}", bytes.len()) };
        client
            .send(format!("POST /v1/upload HTTP/1.1\r\nhost: g\r\nauthorization: Bearer pk-1\r\n{framing}\r\n\r\n"))
            .await;
        let sending = async {
            if chunked {
                for piece in bytes.chunks(70_000) {
                    client.send(format!("{:x}\r\n", piece.len())).await;
                    client.send(piece).await;
                    client.send("\r\n").await;
                }
                client.send("0\r\n\r\n").await;
            } else {
                client.send(&bytes).await;
            }
            client.reply().await
        };
        assert_eq!(sending.await.status, 200, "chunked: {chunked}");
        let request = &upstream.requests()[0];
        let coding = if chunked { "transfer-encoding: chunked\r\n" } else { "content-length: 300000\r\n" };
        assert!(request.contains(coding), "{}", &request[..300]);
        assert_eq!(gateway.record().await["request_bytes"], 300_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_json_passes_where_the_route_needs_no_model() {
    let upstream = answering(1);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", "{not json")).await;
    assert_eq!(reply.status, 200);
    assert!(upstream.requests()[0].ends_with("\r\n\r\n{not json"));
    assert_eq!(gateway.record().await["model_asked"], serde_json::Value::Null);
}

#[tokio::test(start_paused = true)]
async fn an_answer_keeps_its_status_headers_and_bytes() {
    let head = "HTTP/1.1 418 Teapot\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\nx-custom: a\r\nx-custom: b\r\n\
                set-cookie: c=1\r\nserver: up\r\nopenai-organization: org-1\r\nx-request-id: req-9\r\n\
                location: http://up.test/next\r\ncontent-length: 3\r\n\r\n";
    let bytes = [head.as_bytes(), &[0, 159, 146]].concat();
    let gateway = TestGateway::new(CONFIG, &Upstream::new([vec![Step::Request, Step::Send(bytes)]]));
    let reply = gateway.call(&get("/v1/x", "pk-1")).await;
    assert_eq!((reply.status, reply.body.as_slice()), (418, &[0, 159, 146][..]));
    assert_eq!(reply.head.matches("x-custom: ").count(), 2);
    assert_eq!(reply.header("content-encoding"), Some("gzip"));
    assert_eq!(reply.header("location"), Some("/next"));
    assert_eq!(reply.header("x-upstream-request-id"), Some("req-9"));
    for gone in ["set-cookie", "server", "openai-organization"] {
        assert_eq!(reply.header(gone), None, "{gone}");
    }
    assert_eq!(gateway.record().await["upstream_request_id"], "req-9");
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_have_none() {
    for (method, head, status) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 200),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n", 304),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
    ] {
        let gateway = TestGateway::new(CONFIG, &Upstream::new([vec![Step::Request, Step::send(head)]]));
        let mut client = gateway.connect();
        client.send(format!("{method} /v1/x HTTP/1.1\r\nhost: g\r\nauthorization: Bearer pk-1\r\n\r\n")).await;
        let reply = aiproxy_testkit::Reply::read_for(&mut client.0, method == "HEAD").await.unwrap();
        assert_eq!((reply.status, reply.body.len()), (status, 0), "{method} {head}");
        assert_eq!(gateway.record().await["end"], "complete");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_the_callers_to_follow() {
    let upstream = Upstream::new([vec![
        Step::Request,
        Step::send("HTTP/1.1 302 Found\r\nlocation: https://elsewhere.test/\r\ncontent-length: 0\r\n\r\n"),
    ]]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    let reply = gateway.call(&get("/v1/x", "pk-1")).await;
    assert_eq!((reply.status, reply.header("location")), (302, Some("https://elsewhere.test/")));
    assert_eq!(upstream.dials().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn connections_to_an_upstream_are_used_again() {
    let twice = vec![Step::Request, Step::json(200, ANSWER), Step::Request, Step::json(200, ANSWER)];
    let upstream = Upstream::new([twice]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    for _ in 0..2 {
        assert_eq!(gateway.call(&get("/v1/models", "pk-1")).await.status, 200);
    }
    assert_eq!((upstream.dials().len(), upstream.requests().len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_died_is_replaced_for_free() {
    let once = vec![Step::Request, Step::json(200, ANSWER)];
    let upstream = Upstream::new([once.clone(), once]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    for _ in 0..2 {
        let reply = gateway.call(&post("/v1/chat/completions", "pk-1", "{}")).await;
        assert_eq!(reply.status, 200, "the first connection closed after its answer");
    }
    assert_eq!((upstream.dials().len(), upstream.requests().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_predecessors_path_without_a_version_finds_the_openai_root() {
    for (kind, path) in [
        ("openai", "/v1/chat/completions"),
        ("dashscope", "/compatible-mode/v1/chat/completions"),
        ("gemini", "/v1beta/openai/chat/completions"),
    ] {
        let upstream = answering(1);
        let gateway = TestGateway::new(&CONFIG.replace("kind: openai", &format!("kind: {kind}")), &upstream);
        gateway.call(&post("/chat/completions", "pk-1", "{}")).await;
        assert!(upstream.requests()[0].starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_alias_is_resolved_for_the_upstream_in_the_body_and_in_the_path() {
    let config = CONFIG.replace("api_key: real-key", "api_key: real-key, models: {fast: real-model}");
    let upstream = answering(2);
    let gateway = TestGateway::new(&config, &upstream);
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", r#"{"messages":[],"model":"fast"}"#)).await;
    assert_eq!(reply.status, 200);
    assert!(upstream.requests()[0].ends_with(r#"{"messages":[],"model":"real-model"}"#));
    gateway.call(&post("/openai/deployments/fast/chat/completions?api-version=1", "pk-1", "{}")).await;
    assert!(upstream.requests()[1].starts_with("POST /openai/deployments/real-model/chat/completions?api-version=1 "));
    let reply = gateway.call(&post("/v1/chat/completions", "pk-1", r#"{"model":"other"}"#)).await;
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (404, Some("no_such_route")));
}
