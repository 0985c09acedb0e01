//! An offer on its way to the provider, and the answer on its way back.

use aiproxy_testkit::Step;
use aiproxy_testkit::gateway::post;
use serde_json::json;

use super::{
    ANSWER, CALLS, OFFER, begun, closed, find, form, gateway, minted, offer, offer_to, parts, refusal, socket, taken,
    with,
};

#[tokio::test(start_paused = true)]
async fn a_browser_begins_a_call_without_ever_seeing_a_real_key() {
    let (gateway, upstream) = gateway(super::CONFIG, [taken(), socket([Step::close(1000, "")])]);
    let secret = minted(&gateway, r#"{"session":{"model":"m","audio":{"output":{"voice":"marin"}}}}"#).await;
    assert!(secret.starts_with("ek_") && secret.len() == 46, "{}", secret.len());
    let reply = gateway.call(&offer(&secret)).await;
    assert_eq!((reply.status, reply.body.as_slice()), (201, ANSWER.as_bytes()));
    assert_eq!(reply.header("content-type"), Some("application/sdp"));
    assert_eq!(reply.header("location"), Some("/v1/realtime/calls/rtc_1"));
    assert_eq!(reply.header("server"), None);
    assert!(reply.header("x-request-id").is_some());

    let sent = &upstream.raw_requests()[0];
    let text = String::from_utf8_lossy(sent);
    assert!(text.starts_with("POST /v1/realtime/calls HTTP/1.1\r\n"), "{text}");
    assert!(text.contains("\r\nauthorization: Bearer real-"), "{text}");
    for private in [&*secret, "pk-1", "page.test", "sec-fetch"] {
        assert!(!text.contains(private), "{private}: {text}");
    }
    assert!(!text.contains("filename"), "{text}");
    let (sdp, session) = parts(sent);
    assert_eq!(sdp, OFFER.as_bytes());
    assert_eq!(session, json!({"type": "realtime", "model": "m", "audio": {"output": {"voice": "marin"}}}));

    let (record, _) = closed(&gateway).await;
    assert_eq!(
        (&record["status"], &record["protocol"], &record["end"]),
        (&json!(201), &json!("webrtc"), &json!("complete"))
    );
    assert_eq!((&record["user_id"], &record["model_asked"]), (&json!("one"), &json!("m")));
    assert!(!gateway.records().await.iter().any(|record| record.to_string().contains(&secret)));
}

#[tokio::test(start_paused = true)]
async fn a_server_sends_offer_and_session_as_a_form() {
    let (gateway, upstream) = gateway(super::CONFIG, [taken(), socket([Step::close(1000, "")])]);
    let session = r#"{"model":"first","tools":[],"mod\u0065l":"m","type":"realtime"}"#;
    let reply = gateway.call(&form("/openai/v1/realtime/calls?api-version=preview&key=pk-1", "pk-1", session)).await;
    assert_eq!((reply.status, reply.header("location")), (201, Some("/openai/v1/realtime/calls/rtc_1")));
    let sent = &upstream.raw_requests()[0];
    assert!(sent.starts_with(b"POST /openai/v1/realtime/calls?api-version=preview HTTP/1.1\r\n"));
    assert_eq!(parts(sent), (OFFER.as_bytes().to_vec(), json!({"model": "m", "tools": [], "type": "realtime"})));
    assert_eq!(find(sent, b"first"), None, "what was not checked is not sent");
    closed(&gateway).await;
    let sideband = &upstream.requests()[1];
    assert!(
        sideband.starts_with("GET /openai/v1/realtime?call_id=rtc_1&api-version=preview HTTP/1.1\r\n"),
        "{sideband}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_raw_offer_has_its_model_in_the_query() {
    let (gateway, upstream) = gateway(super::CONFIG, [taken(), socket([Step::close(1000, "")])]);
    let reply = gateway.call(&offer_to("/v1/realtime/calls?model=a%2Fb", "pk-1", OFFER)).await;
    assert_eq!(reply.status, 201);
    let sent = &upstream.raw_requests()[0];
    assert!(sent.starts_with(b"POST /v1/realtime/calls HTTP/1.1\r\n"));
    assert_eq!(parts(sent).1, json!({"type": "realtime", "model": "a/b"}));
    assert_eq!(closed(&gateway).await.0["model_asked"], "a/b");
}

#[tokio::test(start_paused = true)]
async fn the_session_of_a_secret_wins_over_whatever_the_browser_sends() {
    let (gateway, upstream) = gateway(super::CONFIG, [taken(), socket([Step::close(1000, "")])]);
    let secret = minted(&gateway, super::SESSION).await;
    let path = format!("{CALLS}?model=other");
    assert_eq!(gateway.call(&form(&path, &secret, r#"{"model":"dearer","instructions":"x"}"#)).await.status, 201);
    assert_eq!(parts(&upstream.raw_requests()[0]).1, json!({"type": "realtime", "model": "m"}));
}

#[tokio::test(start_paused = true)]
async fn aliases_are_resolved_for_the_model_and_for_its_transcription() {
    let config = with("kind: openai,", "kind: openai, models: {voice: real-voice, ears: real-ears},");
    let (gateway, upstream) = gateway(&config, [taken(), socket([Step::close(1000, "")])]);
    let session = r#"{"session":{"model":"voice","audio":{"input":{"transcription":{"model":"ears"}}}}}"#;
    let secret = minted(&gateway, session).await;
    assert_eq!(gateway.call(&offer(&secret)).await.status, 201);
    let sent = &upstream.raw_requests()[0];
    let (sdp, session) = parts(sent);
    assert_eq!(sdp, OFFER.as_bytes());
    assert_eq!(session["model"], "real-voice");
    assert_eq!(session["audio"]["input"]["transcription"]["model"], "real-ears");
    let text = String::from_utf8_lossy(sent);
    let body = text.split_once("\r\n\r\n").unwrap().1.len();
    assert!(text.contains(&format!("content-length: {body}\r\n")), "{text}");
}

#[tokio::test(start_paused = true)]
async fn every_model_of_a_session_must_be_allowed() {
    let config = with("one: {proxy_key: pk-1,", "one: {proxy_key: pk-1, models: [m, t],");
    let (gateway, upstream) = gateway(&config, []);
    for (session, code) in [
        (r#"{"model":"x"}"#, "model_not_allowed"),
        (r#"{"model":"m","audio":{"input":{"transcription":{"model":"x"}}}}"#, "model_not_allowed"),
        (r#"{"model":"m","input_audio_transcription":{"model":"x"}}"#, "model_not_allowed"),
        (r#"{"model":"m","model":"x"}"#, "model_not_allowed"),
        (r#"{"instructions":"model"}"#, "model_required"),
        (r#"{"model":["m"]}"#, "invalid_request"),
        ("[]", "invalid_request"),
    ] {
        let mint = gateway.call(&post(super::SECRETS, "pk-1", &format!(r#"{{"session":{session}}}"#))).await;
        let call = gateway.call(&form(CALLS, "pk-1", session)).await;
        assert_eq!((refusal(&mint).1, refusal(&call).1), (code.into(), code.into()), "{session}");
    }
    assert_eq!(refusal(&gateway.call(&offer("pk-1")).await).1, "model_required");
    assert!(upstream.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_is_too_large_or_no_offer_is_refused_at_once() {
    let (gateway, upstream) = gateway(super::CONFIG, []);
    let large = offer_to(CALLS, "pk-1", "").replace("content-length: 0", "content-length: 10485760");
    assert_eq!(refusal(&gateway.call(&large).await), (413, "body_too_large".into()));
    let streamed = offer_to(CALLS, "pk-1", "").replace("content-length: 0", "transfer-encoding: chunked");
    let mut client = gateway.connect();
    client.send(streamed + &format!("20000\r\n{}", "v".repeat(0x20000))).await;
    assert_eq!(refusal(&client.reply().await), (413, "body_too_large".into()));
    let sdp = "v".repeat(70_000);
    let in_form = form(CALLS, "pk-1", r#"{"model":"m"}"#).replace(OFFER, &sdp);
    let length = in_form.split_once("\r\n\r\n").unwrap().1.len();
    let in_form = in_form.split("content-length: ").next().unwrap().to_owned()
        + &format!("content-length: {length}\r\n\r\n{}", in_form.split_once("\r\n\r\n").unwrap().1);
    assert_eq!(refusal(&gateway.call(&in_form).await), (413, "body_too_large".into()));
    for wrong in [
        offer_to(CALLS, "pk-1", ""),
        post(CALLS, "pk-1", r#"{"sdp":"v=0"}"#),
        offer("pk-1").replace("content-type", "content-encoding: gzip\r\ncontent-type"),
        form(CALLS, "pk-1", r#"{"model":"m"}"#).replace("name=\"sdp\"", "name=\"xxx\""),
        form(CALLS, "pk-1", r#"{"model":"m"}"#).replace("--b--", "--b..."),
    ] {
        assert_eq!(refusal(&gateway.call(&wrong).await), (400, "invalid_request".into()), "{wrong}");
    }
    assert!(upstream.requests().is_empty());
    let records = gateway.records().await;
    assert!(records.iter().all(|record| record["end"] == "complete"), "{records:#?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_call_is_not_taken_for_one() {
    let redirect = "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://elsewhere.test/\r\ncontent-length: 0\r\n\r\n";
    let nameless = begun("https://up.test/v1/realtime/calls/");
    let cut =
        format!("HTTP/1.1 201 Created\r\nlocation: /v1/realtime/calls/rtc_9\r\ncontent-length: 99\r\n\r\n{ANSWER}");
    let (gateway, upstream) = gateway(
        super::CONFIG,
        [
            vec![Step::Request, Step::send(redirect)],
            vec![Step::Request, nameless],
            vec![Step::Request, Step::send(cut)],
            super::hung_up(200),
        ],
    );
    for _ in 0..3 {
        let reply = gateway.call(&offer_to(&format!("{CALLS}?model=m"), "pk-1", OFFER)).await;
        assert_eq!(refusal(&reply), (502, "upstream_invalid".into()));
        assert_eq!(reply.header("location"), None);
    }
    let records = gateway.records().await;
    assert_eq!(records.len(), 3);
    let last = upstream.requests().pop().unwrap();
    assert!(last.starts_with("POST /v1/realtime/calls/rtc_9/hangup HTTP/1.1\r\n"), "what began is ended: {last}");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_s_own_error_passes_and_uses_no_call_up() {
    let refused = vec![Step::Request, Step::json(400, r#"{"error":{"code":"invalid_offer"}}"#)];
    let (gateway, _upstream) = gateway(super::CONFIG, [refused, taken(), socket([Step::close(1000, "")])]);
    let reply = gateway
        .call(
            &post(super::SECRETS, "pk-1", super::SESSION)
                .replace("host: gateway", "host: gateway\r\nx-aiproxy-max-calls: 1"),
        )
        .await;
    let secret = reply.json()["value"].as_str().unwrap().to_owned();
    assert_eq!(refusal(&gateway.call(&offer(&secret)).await), (400, "invalid_offer".into()));
    assert_eq!(gateway.call(&offer(&secret)).await.status, 201);
    assert_eq!(refusal(&gateway.call(&offer(&secret)).await), (401, "invalid_credential".into()));
}

#[tokio::test(start_paused = true)]
async fn an_offer_moves_on_to_another_account_that_takes_it() {
    let busy = vec![Step::Request, Step::json(429, r#"{"error":{"code":"rate_limit_exceeded"}}"#)];
    let (gateway, upstream) = gateway(super::CONFIG, [busy, taken(), socket([Step::close(1000, "")])]);
    assert_eq!(gateway.call(&offer_to(&format!("{CALLS}?model=m"), "pk-1", OFFER)).await.status, 201);
    let (record, _) = closed(&gateway).await;
    assert_eq!(record["attempts"].as_array().unwrap().len(), 2);
    let requests = upstream.requests();
    let key = |request: &str| request.split("Bearer ").nth(1).unwrap()[..6].to_owned();
    assert_ne!(key(&requests[0]), key(&requests[1]));
    assert_eq!(key(&requests[1]), key(&requests[2]), "the socket goes where the call is");
    assert_eq!(parts(requests[0].as_bytes()).0, OFFER.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_page_of_another_origin_may_begin_calls_and_read_the_answer() {
    let (gateway, _upstream) = gateway(super::CONFIG, [taken(), socket([Step::close(1000, "")])]);
    let ask = |path: &str| {
        format!(
            "OPTIONS {path} HTTP/1.1\r\nhost: gateway\r\norigin: https://page.test\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type,x-stainless-os\r\n\r\n"
        )
    };
    let reply = gateway.call(&ask("/v1/realtime/calls?model=m")).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, Some("*")));
    assert!(reply.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert!(reply.header("access-control-allow-headers").unwrap().contains("x-stainless-os"));
    assert_eq!(reply.header("access-control-allow-methods"), Some("POST, OPTIONS"));
    assert!(gateway.records().await.is_empty(), "that was no call");

    let secret = minted(&gateway, super::SESSION).await;
    for (key, status) in [(&*secret, 201), ("ek_nobody", 401)] {
        let reply = gateway.call(&offer(key)).await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (status, Some("*")));
        assert_eq!(reply.header("access-control-expose-headers"), Some("Location, X-Request-Id"));
    }
    for request in [ask(super::SECRETS), post(super::SECRETS, "pk-1", super::SESSION)] {
        let reply = gateway.call(&request).await;
        assert_eq!(reply.header("access-control-allow-origin"), None, "secrets are not for pages");
    }
}
