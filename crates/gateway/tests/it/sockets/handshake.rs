//! Until the 101: what goes upstream, what comes back, and every way in which it is refused.

use aiproxy_testkit::gateway::get;
use aiproxy_testkit::socket::handshake;
use aiproxy_testkit::{Frame, Socket, Step, TestGateway, Upstream};
use serde_json::json;

use super::*;

/// The nonce in a handshake as it went upstream.
fn nonce(request: &str) -> &str {
    request.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap()
}

fn echoes() -> Vec<Step> {
    vec![Step::Upgrade, Step::Echo]
}

async fn talks(mut socket: Socket) {
    socket.send_text("hello").await;
    assert_eq!(socket.frame().await, Frame::text("hello"));
    socket.leave().await;
}

#[tokio::test(start_paused = true)]
async fn what_goes_upstream_is_the_callers_with_key_nonce_and_extensions_exchanged() {
    let (gateway, upstream) = gateway(CONFIG, echoes());
    let headers = [
        KEY,
        ("user-agent", "sdk/1"),
        ("origin", "http://page.test"),
        ("cookie", "a=b"),
        ("openai-organization", "theirs"),
        ("openai-beta", "realtime=v1"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-trace", "1"),
    ];
    let socket = opened(gateway.socket(REALTIME, &headers).await);
    assert_eq!(socket.reply.header("sec-websocket-extensions"), None, "nothing is negotiated");
    assert_eq!(socket.reply.header("sec-websocket-protocol"), None);
    assert!(socket.reply.header("x-request-id").is_some());
    let request = upstream.requests().pop().unwrap();
    let ours = nonce(&request).to_owned();
    assert_eq!(
        request,
        format!(
            "GET /v1/realtime?model=m HTTP/1.1\r\nhost: up.test\r\nauthorization: Bearer real-key\r\n\
             user-agent: sdk/1\r\nx-trace: 1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: {ours}\r\n\r\n"
        )
    );
    talks(socket).await;
    let record = only_record(&gateway).await;
    assert_eq!((&record["end"], &record["model_asked"]), (&json!("complete"), &json!("m")));
    assert_eq!(record["attempts"][0]["status"], 101);
}

#[tokio::test(start_paused = true)]
async fn each_handshake_has_a_nonce_of_its_own_that_is_not_the_clients() {
    let upstream = Upstream::new([echoes(), echoes()]);
    let gateway = TestGateway::new(CONFIG, &upstream);
    for _ in 0..2 {
        open(&gateway, REALTIME).await.leave().await;
    }
    let requests = upstream.requests();
    let client = handshake(REALTIME, "", &[]);
    assert_ne!(nonce(&requests[0]), nonce(&requests[1]));
    assert!(!client.contains(nonce(&requests[0])));
}

#[tokio::test(start_paused = true)]
async fn a_key_in_any_place_lets_in_and_reaches_no_upstream() {
    for (path, headers) in [
        (REALTIME, vec![("authorization", "Bearer pk-1")]),
        (REALTIME, vec![("x-api-key", "pk-1")]),
        (REALTIME, vec![("api-key", "pk-1"), ("authorization", "Bearer not-needed")]),
        (REALTIME, vec![("sec-websocket-protocol", "realtime,openai-insecure-api-key.pk-1,openai-organization.o")]),
        (
            REALTIME,
            vec![("sec-websocket-protocol", "realtime"), ("sec-websocket-protocol", "openai-insecure-api-key.pk-1")],
        ),
        ("/v1/realtime?api-key=pk-1&model=m", vec![]),
        ("/v1/realtime?model=m&Authorization=Bearer%20pk-1", vec![]),
        ("/v1/realtime?key=pk-1&model=m", vec![]),
        ("/v1/realtime?access_token=pk-1&model=m", vec![("authorization", "Token pk-1")]),
    ] {
        let (gateway, upstream) = gateway(CONFIG, echoes());
        talks(opened(gateway.socket(path, &headers).await)).await;
        let request = &upstream.requests()[0];
        assert!(request.starts_with("GET /v1/realtime?model=m HTTP/1.1\r\n"), "{request}");
        assert!(!request.contains("pk-1") && !request.contains("not-needed"), "{request}");
        assert_eq!(request.matches("real-key").count(), 1, "{request}");
        assert!(!request.contains("openai-"), "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn realtime_is_echoed_whether_the_upstream_picks_it_or_not_and_the_key_never() {
    let offer = [("sec-websocket-protocol", "realtime, openai-insecure-api-key.pk-1, openai-beta.realtime-v1")];
    for first in [Step::Upgrade, Step::UpgradeAs("realtime")] {
        let (gateway, upstream) = gateway(CONFIG, vec![first, Step::Echo]);
        let socket = opened(gateway.socket(REALTIME, &offer).await);
        assert_eq!(socket.reply.header("sec-websocket-protocol"), Some("realtime"));
        assert!(upstream.requests()[0].contains("\r\nsec-websocket-protocol: realtime\r\n"));
        talks(socket).await;
    }
    let (gateway, upstream) = gateway(CONFIG, vec![Step::UpgradeAs("other"), Step::Echo]);
    let offer = [KEY, ("sec-websocket-protocol", "one,other")];
    let socket = opened(gateway.socket(REALTIME, &offer).await);
    assert_eq!(socket.reply.header("sec-websocket-protocol"), Some("other"), "the upstream's choice");
    assert!(upstream.requests()[0].contains("\r\nsec-websocket-protocol: one, other\r\n"));
}

#[tokio::test(start_paused = true)]
async fn the_upstreams_headers_come_back_without_those_of_its_own_leg() {
    let lines = "server: nginx\r\nset-cookie: a=b\r\nx-request-id: req_1\r\nopenai-processing-ms: 5\r\n\
                 openai-organization: ours\r\ncontent-length: 0\r\n";
    let (gateway, _) = gateway(CONFIG, vec![Step::UpgradeWith(lines, Vec::new()), Step::Echo]);
    let socket = open(&gateway, REALTIME).await;
    assert_eq!(socket.reply.header("openai-processing-ms"), Some("5"));
    assert_eq!(socket.reply.header("x-upstream-request-id"), Some("req_1"));
    for private in ["server", "set-cookie", "openai-organization", "content-length", "transfer-encoding"] {
        assert_eq!(socket.reply.header(private), None, "{private}");
    }
    assert_eq!(socket.reply.head.matches("sec-websocket-accept").count(), 1);
    let id = socket.reply.header("x-request-id").unwrap().to_owned();
    talks(socket).await;
    let record = only_record(&gateway).await;
    assert_eq!((&record["id"], &record["upstream_request_id"]), (&json!(id), &json!("req_1")));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_cannot_work_is_refused_before_anybody_is_asked() {
    let good = handshake(REALTIME, "dGhlIHNhbXBsZSBub25jZQ==", &[KEY]);
    for (change, status, code) in [
        (("sec-websocket-version: 13", "sec-websocket-version: 8"), 426, "invalid_request"),
        (("sec-websocket-version: 13\r\n", ""), 426, "invalid_request"),
        (("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400, "invalid_request"),
        (("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), 400, "invalid_request"),
        (("authorization: Bearer pk-1\r\n", ""), 401, "missing_credential"),
        (("pk-1", "pk-2"), 401, "invalid_credential"),
    ] {
        let (gateway, upstream) = gateway(CONFIG, vec![]);
        let reply = gateway.call(&good.replace(change.0, change.1)).await;
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (status, Some(code)), "{change:?}");
        assert_eq!(reply.header("sec-websocket-version"), (status == 426).then_some("13"), "RFC 6455 §4.2.2");
        assert!(upstream.dials().is_empty());
        let record = gateway.record().await;
        assert_eq!((&record["protocol"], &record["error_code"]), (&json!("http"), &json!(code)));
        nothing_is_left(&gateway);
    }
}

#[tokio::test(start_paused = true)]
async fn another_upgrade_and_another_method_are_ordinary_calls() {
    let good = handshake(REALTIME, "dGhlIHNhbXBsZSBub25jZQ==", &[KEY]);
    for (from, to) in [("upgrade: websocket", "upgrade: h2c"), ("connection: Upgrade\r\n", ""), ("GET ", "DELETE ")] {
        let (gateway, upstream) = gateway(CONFIG, vec![Step::Request, Step::json(200, "{}")]);
        assert_eq!(gateway.call(&good.replace(from, to)).await.status, 200, "{to}");
        let request = &upstream.requests()[0];
        assert!(!request.contains("upgrade") && !request.contains("sec-websocket"), "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_key_and_its_channels_do_not_allow_is_refused_in_the_dialect_of_the_path() {
    let narrow = with("channels: [up]", "channels: [up], models: [m]");
    let other = with_channel("models: [m]");
    let closed = with_channel("supports_websocket: false");
    for (config, path, status, code) in [
        (&narrow, "/v1/realtime?model=x", 403, "model_not_allowed"),
        (&narrow, "/openai/realtime?api-version=1&deployment=x", 403, "model_not_allowed"),
        (&other, "/v1/realtime?model=x", 404, "no_such_route"),
        (&narrow, "/v1/realtime", 400, "model_required"),
        (&narrow, "/v1/realtime?x=intent=transcription", 400, "model_required"),
        // However it is written, and however often: an upstream might read it.
        (&narrow, "/v1/realtime?mod%65l=x", 403, "model_not_allowed"),
        (&narrow, "/v1/realtime?Model=%78", 403, "model_not_allowed"),
        (&narrow, "/v1/realtime?model=m&model=x", 400, "invalid_request"),
        (&narrow, "/v1/realtime?model=m&deployment=x", 400, "invalid_request"),
        (&closed, REALTIME, 400, "websocket_not_supported"),
    ] {
        let (gateway, upstream) = gateway(config, vec![]);
        let reply = refused(gateway.socket(path, &[KEY]).await);
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (status, Some(code)), "{path}");
        assert!(upstream.dials().is_empty());
        assert_eq!(gateway.record().await["error_code"], code);
        nothing_is_left(&gateway);
    }
    let (gateway, _) = gateway(&closed, vec![]);
    let reply = refused(gateway.socket(SPEECH, &[KEY]).await).json();
    assert_eq!(reply["code"], "websocket_not_supported", "DashScope's own form: {reply}");
    let reply = refused(gateway.socket(LIVE, &[KEY]).await).json();
    assert_eq!(reply["error"]["status"], "INVALID_ARGUMENT", "Google's own form: {reply}");
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_takes_no_sockets_leaves_them_to_another() {
    let config = "
users:
  one: {proxy_key: pk-1, channels: [a, b]}
channels:
  a: {kind: openai, base_url: 'http://a.test', api_key: real-a, supports_websocket: false}
  b: {kind: openai, base_url: 'http://b.test', api_key: real-b, priority: 9}
";
    let (gateway, upstream) = gateway(config, echoes());
    talks(open(&gateway, REALTIME).await).await;
    assert_eq!(upstream.dials(), ["b.test"]);
}

/// An upstream that answers a handshake like this. `ACCEPT` stands for the right value.
fn answering(lines: &'static str) -> Vec<Step> {
    vec![Step::UpgradeWith(lines, Vec::new()), Step::AwaitClose]
}

/// What is no handshake although it is no error.
fn wrong_answers() -> Vec<Vec<Step>> {
    let plain = |text: &str| vec![Step::Request, Step::send(text), Step::AwaitClose];
    vec![
        plain("HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: Upgrade\r\n\r\n"),
        plain(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        ),
        plain("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n"),
        answering("sec-websocket-extensions: permessage-deflate\r\n"),
        answering("sec-websocket-protocol: nobody-asked\r\n"),
        vec![Step::Request, Step::json(200, r#"{"hello":"there"}"#), Step::AwaitClose],
        vec![
            Step::Request,
            Step::send("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"),
            Step::AwaitClose,
        ],
    ]
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_to_something_else_is_an_invalid_upstream() {
    for (number, script) in wrong_answers().into_iter().enumerate() {
        let (gateway, upstream) = gateway(CONFIG, script);
        let reply = refused(gateway.socket(REALTIME, &[KEY]).await);
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (502, Some("upstream_invalid")), "{number}");
        settle().await;
        assert_eq!(upstream.closed_at().len(), 1, "{number}: the connection is not kept");
        let record = gateway.record().await;
        assert_eq!((&record["end"], &record["status"]), (&json!("upstream_error"), &json!(502)), "{number}");
        nothing_is_left(&gateway);
    }
}

const TWO: &str = "
users:
  one: {proxy_key: pk-1, channels: [a, b], failover: true}
channels:
  a: {kind: openai, base_url: 'http://a.test', api_key: real-a}
  b: {kind: openai, base_url: 'http://b.test', api_key: real-b, priority: 1}
";

#[tokio::test(start_paused = true)]
async fn before_the_101_another_channel_helps_out() {
    let failing = [
        vec![Step::Refuse],
        vec![Step::FailTls],
        vec![Step::FailLookup],
        vec![Step::Request, Step::json(503, "{}")],
        vec![Step::Request, Step::json(401, "{}")],
        vec![Step::Request, Step::json(429, "{}")],
        vec![Step::Request],
    ];
    for (number, script) in failing.into_iter().chain(wrong_answers()).enumerate() {
        let upstream = Upstream::new([script, echoes()]);
        let gateway = TestGateway::new(TWO, &upstream);
        talks(open(&gateway, REALTIME).await).await;
        assert_eq!(upstream.dials(), ["a.test", "b.test"], "{number}");
        let record = only_record(&gateway).await;
        assert_eq!((record["attempts"].as_array().unwrap().len(), &record["channel_id"]), (2, &json!("b")), "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstreams_own_refusal_passes_with_its_words() {
    for status in [400, 403, 404, 429, 500] {
        let theirs = r#"{"error":{"message":"theirs","code":"their_code"}}"#;
        let (gateway, _) = gateway(CONFIG, vec![Step::Request, Step::json(status, theirs)]);
        let reply = refused(gateway.socket(REALTIME, &[KEY]).await);
        assert_eq!((reply.status, reply.text()), (status, theirs.into()));
        assert_eq!(reply.header("upgrade"), None);
        let record = gateway.record().await;
        assert_eq!(
            (&record["protocol"], &record["status"], &record["end"]),
            (&json!("http"), &json!(status), &json!("complete"))
        );
        nothing_is_left(&gateway);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_the_connection_serves_another_call() {
    let refusing = vec![Step::Request, Step::json(403, "{}")];
    let upstream = Upstream::new([refusing, vec![Step::Request, Step::json(200, "{}")], echoes()]);
    let gateway = TestGateway::new(&with_channel("health: false"), &upstream);
    let mut client = gateway.connect();
    let nonce = "dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(client.call(&handshake(REALTIME, nonce, &[KEY])).await.status, 403);
    assert_eq!(client.call(&get("/v1/x", "pk-1")).await.status, 200);
    talks(opened(Socket::open(client.0, REALTIME, &[KEY]).await)).await;
}

#[tokio::test(start_paused = true)]
async fn a_path_is_mapped_like_any_other_and_repeated_slashes_count_as_one() {
    for (channel, path, expected) in [
        (
            "kind: gemini, base_url: 'http://up.test'",
            "//ws/google.ai.x/Bidi?key=pk-1&alt=1",
            "/ws/google.ai.x/Bidi?alt=1",
        ),
        ("kind: gemini, base_url: 'http://up.test'", "/ws//google.ai.x", "/ws/google.ai.x"),
        ("kind: openai, base_url: 'http://up.test/prefix'", "/v1/realtime?model=m", "/prefix/v1/realtime?model=m"),
        ("kind: dashscope, base_url: 'http://up.test/api/v1'", "/api-ws/v1/inference", "/api/v1/api-ws/v1/inference"),
        (
            "kind: dashscope, base_url: 'http://up.test/api/v1', websocket_url: 'ws://up.test/api-ws/v1/inference'",
            "/api-ws/v1/inference/",
            "/api-ws/v1/inference/",
        ),
        (
            "kind: openai, base_url: 'http://up.test', websocket_endpoints: {/v1/realtime: /speech/socket}",
            "/v1/%72ealtime?model=m",
            "/speech/socket?model=m",
        ),
        (
            "kind: openai, base_url: 'http://up.test', path_rewrite: {/v1/other: /rewritten}, websocket_endpoints: {/v1/x: /y}",
            "/v1//x",
            "/y",
        ),
        (
            "kind: openai, base_url: 'http://up.test', models: {nice: real-model}",
            "/v1/realtime?model=nice",
            "/v1/realtime?model=real-model",
        ),
        (
            "kind: azure, base_url: 'http://up.test', models: {nice: real}",
            "/openai/realtime?api-version=1&deployment=nice&x",
            "/openai/realtime?api-version=1&deployment=real&x",
        ),
    ] {
        let config = with("kind: openai, base_url: 'http://up.test'", channel);
        let (gateway, upstream) = gateway(&config, echoes());
        open(&gateway, path).await.leave().await;
        let line = upstream.requests()[0].lines().next().unwrap().to_owned();
        assert_eq!(line, format!("GET {expected} HTTP/1.1"), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn sockets_have_a_place_of_their_own_where_the_channel_has_one() {
    for (url, expected) in [
        ("ws://rt.test", "http://rt.test:80"),
        ("http://rt.test:81", "http://rt.test:81"),
        ("wss://rt.test", "https://rt.test:443"),
        ("https://rt.test:444/x", "https://rt.test:444"),
    ] {
        let config = with_channel(&format!("websocket_url: '{url}'"));
        let upstream = Upstream::new([echoes(), vec![Step::Request, Step::json(200, "{}")]]);
        let gateway = TestGateway::new(&config, &upstream);
        open(&gateway, REALTIME).await.leave().await;
        assert_eq!(gateway.call(&get("/v1/x", "pk-1")).await.status, 200);
        assert_eq!(upstream.dialled_urls(), [expected, "http://up.test:80"], "other calls go where they always go");
        let prefix = if url.ends_with("/x") { "/x" } else { "" };
        assert!(upstream.requests()[0].starts_with(&format!("GET {prefix}/v1/realtime?model=m ")));
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_right_behind_the_handshake_is_not_lost_on_either_leg() {
    let hello = Frame::text("early").encode(None);
    let script = vec![
        Step::UpgradeWith("", [hello, Frame::Ping(b"p".to_vec()).encode(None)].concat()),
        Step::Message,
        Step::Message,
        Step::Listen,
    ];
    let (gateway, upstream) = gateway(CONFIG, script);
    let mut client = gateway.connect();
    let early = Frame::text("hasty").encode(Some([1, 2, 3, 4]));
    let request = handshake(REALTIME, "dGhlIHNhbXBsZSBub25jZQ==", &[KEY]);
    client.send([request.as_bytes(), &early].concat()).await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.read_until("early").await;
    settle().await;
    let messages = upstream.messages();
    assert!(messages.contains(&Frame::text("hasty")) && messages.contains(&Frame::Pong(b"p".to_vec())), "{messages:?}");
    drop(client);
    settle().await;
    tokio::time::sleep(TWO_SECONDS).await;
    only_record(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_stops_takes_no_new_sockets() {
    let (gateway, upstream) = gateway(CONFIG, echoes());
    let client = gateway.connect();
    settle().await;
    gateway.stop();
    let reply = refused(Socket::open(client.0, REALTIME, &[KEY]).await);
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{}", reply.text());
    assert!(upstream.dials().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_during_the_handshake_leaves_nothing_behind() {
    for script in
        [vec![Step::Request, Step::AwaitClose], vec![Step::SlowConnect(TWO_SECONDS), Step::Upgrade, Step::AwaitClose]]
    {
        let (gateway, upstream) = gateway(CONFIG, script);
        let mut client = gateway.connect();
        client.send(handshake(REALTIME, "dGhlIHNhbXBsZSBub25jZQ==", &[KEY])).await;
        settle().await;
        drop(client);
        tokio::time::sleep(2 * TWO_SECONDS).await;
        nothing_is_left(&gateway);
        let record = gateway.record().await;
        assert_eq!((&record["end"], &record["status"]), (&json!("client_closed"), &json!(499)));
        assert!(upstream.closed_at().len() <= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn settings_for_other_calls_do_no_harm_to_sockets() {
    for (config, headers) in [
        (format!("system: {{client_abort: drain}}{CONFIG}"), vec![KEY]),
        (with_channel("capture: true"), vec![KEY]),
        (with_channel("affinity: true, health: false"), vec![KEY, ("content-length", "0")]),
    ] {
        let (gateway, upstream) = gateway(&config, echoes());
        talks(opened(gateway.socket(REALTIME, &headers).await)).await;
        assert_eq!(upstream.texts(), ["hello"], "{config}");
        only_record(&gateway).await;
    }
}
