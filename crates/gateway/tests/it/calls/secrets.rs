//! Client secrets: made, used, and refused.

use std::time::Duration;

use aiproxy_testkit::Step;
use aiproxy_testkit::gateway::{get, post};
use serde_json::json;

use super::{CONFIG, SECRETS, SESSION, gateway, minted, offer, refusal, socket, taken, with, with_system};

#[tokio::test(start_paused = true)]
async fn a_secret_is_made_here_and_told_once() {
    let (gateway, upstream) = gateway(CONFIG, []);
    let now = aiproxy_core::time::unix_ms() / 1000;
    let body = r#"{"expires_after":{"anchor":"created_at","seconds":60},"session":{"type":"realtime","model":"m"}}"#;
    let reply = gateway.call(&post(SECRETS, "pk-1", body)).await.json();
    assert!(reply["value"].as_str().unwrap().starts_with("ek_"));
    assert!((now + 60..=now + 61).contains(&reply["expires_at"].as_u64().unwrap()));
    assert_eq!(reply["session"]["model"], "m");
    for (path, model) in [("/v1/realtime/sessions", "m"), ("/v1/realtime/transcription_sessions", "t")] {
        let body = format!(r#"{{"model":"{model}","voice":"verse"}}"#);
        let reply = gateway.call(&post(path, "pk-1", &body)).await.json();
        assert!(reply["client_secret"]["value"].as_str().unwrap().starts_with("ek_"), "{reply}");
        assert!(reply["client_secret"]["expires_at"].is_u64());
        assert_eq!((&reply["model"], &reply["voice"]), (&json!(model), &json!("verse")));
    }
    assert!(upstream.dials().is_empty(), "the provider hears nothing of it");
    for record in gateway.records().await {
        assert_eq!(
            (&record["status"], &record["end"], &record["channel_id"]),
            (&json!(200), &json!("complete"), &json!(null))
        );
        assert!(!record.to_string().contains("ek_"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_made_is_refused_in_the_provider_s_words() {
    let (gateway, _upstream) = gateway(CONFIG, []);
    let large = format!(r#"{{"session":{{"instructions":"{}"}}}}"#, "x".repeat(70_000));
    for body in [r#"{"expires_after":{"seconds":5}}"#, r#"{"expires_after":{"seconds":7201}}"#, "[]", "{", &large] {
        let reply = gateway.call(&post(SECRETS, "pk-1", body)).await;
        assert_eq!(refusal(&reply), (400, "invalid_request".into()));
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    }
    let huge = post(SECRETS, "pk-1", "").replace("content-length: 0", "content-length: 10485760");
    assert_eq!(refusal(&gateway.call(&huge).await), (413, "body_too_large".into()));
    assert_eq!(gateway.call(&post(SECRETS, "pk-3", SESSION)).await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn a_secret_opens_nothing_but_calls() {
    let (gateway, upstream) = gateway(CONFIG, []);
    let secret = minted(&gateway, SESSION).await;
    for request in [
        post(SECRETS, &secret, SESSION),
        post("/v1/chat/completions", &secret, r#"{"model":"m","messages":[]}"#),
        get("/v1/models", &secret),
        post("/v1/realtime/calls/rtc_1/hangup", &secret, ""),
        get("/v1/realtime?model=m", &secret),
    ] {
        assert_eq!(refusal(&gateway.call(&request).await), (403, "invalid_credential".into()), "{request}");
    }
    let socket = gateway.socket("/v1/realtime?model=m", &[("authorization", &format!("Bearer {secret}"))]).await;
    assert_eq!(socket.err().map(|reply| reply.status), Some(403));
    assert!(upstream.dials().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_single_use_secret_begins_one_call_of_two_at_once() {
    let config = with_system("realtime: {secret_max_calls: 1}");
    let slow = vec![Step::Request, Step::Wait(Duration::from_secs(1)), taken().pop().unwrap()];
    let (gateway, upstream) = gateway(&config, [slow, socket([Step::close(1000, "")])]);
    let secret = minted(&gateway, SESSION).await;
    let request = offer(&secret);
    let (one, other) = tokio::join!(gateway.call(&request), gateway.call(&request));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 401]);
    let again = gateway.call(&request).await;
    assert_eq!(refusal(&again), (401, "invalid_credential".into()));
    assert!(again.text().contains("as many calls as it may"), "{}", again.text());
    assert_eq!(upstream.requests().iter().filter(|request| request.starts_with("POST")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_has_expired_begins_nothing() {
    let (gateway, upstream) = gateway(CONFIG, [taken(), socket([Step::Hang])]);
    let secret = minted(&gateway, r#"{"expires_after":{"seconds":60},"session":{"model":"m"}}"#).await;
    assert_eq!(gateway.call(&offer(&secret)).await.status, 201);
    tokio::time::advance(Duration::from_secs(60)).await;
    let reply = gateway.call(&offer(&secret)).await;
    assert_eq!(refusal(&reply), (401, "invalid_credential".into()));
    assert!(reply.text().contains("expired"), "{}", reply.text());
    assert_eq!(gateway.gateway().open_webrtc_calls(), 1, "a call outlives the secret that began it");
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_worth_what_its_key_is() {
    let keys = "one: {channels: [up], proxy_keys: [{id: k, key: pk-1}]}";
    let config = with("one: {proxy_key: pk-1, channels: [up]}", keys);
    let (gateway, upstream) = gateway(&config, []);
    let secret = minted(&gateway, SESSION).await;
    gateway.reload(&config.replace("key: pk-1}", "key: pk-1, status: disabled}"));
    assert_eq!(refusal(&gateway.call(&offer(&secret)).await), (403, "key_disabled".into()));
    gateway.reload(&config.replace("key: pk-1}", "key: pk-9}"));
    assert_eq!(refusal(&gateway.call(&offer(&secret)).await), (401, "invalid_credential".into()));
    gateway.reload(&config.replace("key: pk-1}", "key: pk-1, models: [other]}"));
    assert_eq!(refusal(&gateway.call(&offer(&secret)).await), (403, "model_not_allowed".into()));
    assert!(upstream.dials().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_secret_beside_another_user_s_key_is_refused() {
    let (gateway, _upstream) = gateway(CONFIG, [taken(), socket([Step::Hang])]);
    let secret = minted(&gateway, SESSION).await;
    for (first, second) in [(&*secret, "pk-2"), ("pk-2", &*secret)] {
        let request = offer(first).replace("host: gateway", &format!("host: gateway\r\nx-api-key: {second}"));
        assert_eq!(refusal(&gateway.call(&request).await), (403, "invalid_credential".into()), "{request}");
    }
    let own = offer(&secret).replace("host: gateway", "host: gateway\r\nx-api-key: pk-1");
    assert_eq!(gateway.call(&own).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_secrets_than_the_config_allows() {
    let (gateway, _upstream) = gateway(&with_system("realtime: {max_secrets: 2}"), []);
    minted(&gateway, SESSION).await;
    minted(&gateway, SESSION).await;
    assert_eq!(refusal(&gateway.call(&post(SECRETS, "pk-1", SESSION)).await), (503, "overloaded".into()));
    tokio::time::advance(Duration::from_secs(600)).await;
    minted(&gateway, SESSION).await;
}

#[tokio::test(start_paused = true)]
async fn a_secret_for_a_channel_stays_with_it() {
    let config = CONFIG
        .replace("channels: [up]", "channels: [other, up]")
        .replace("kind: openai, cred", "kind: openai, priority: 1, cred")
        .replace(
            "system: {}",
            "  other: {kind: openai, base_url: 'http://other.test', api_key: real-o, priority: 0}\nsystem: {}",
        );
    let (gateway, upstream) = gateway(&config, [taken(), socket([Step::Hang]), taken(), socket([Step::Hang])]);
    let named = post(SECRETS, "pk-1", SESSION).replace("host: gateway", "host: gateway\r\nx-aiproxy-channel: up");
    let secret = gateway.call(&named).await.json()["value"].as_str().unwrap().to_owned();
    assert_eq!(gateway.call(&offer(&secret)).await.status, 201);
    assert_eq!(upstream.dials()[0], "up.test");
}
