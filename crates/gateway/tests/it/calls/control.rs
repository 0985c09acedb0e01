//! Hanging up and the like: by the owner, at the account where the call lives.

use std::time::Duration;

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Step, TestGateway, Upstream};
use serde_json::json;

use super::{CONFIG, SESSION, closed, done, gateway, hung_up, minted, offer, refusal, socket, taken, with};

const HANG_UP: &str = "/v1/realtime/calls/rtc_1/hangup";

/// A call of the first user that runs.
async fn running(more: impl IntoIterator<Item = Vec<Step>>) -> (TestGateway, Upstream) {
    running_with(CONFIG, more).await
}

async fn running_with(config: &str, more: impl IntoIterator<Item = Vec<Step>>) -> (TestGateway, Upstream) {
    let connections = [taken(), socket([done("r1", 20, 10), Step::Hang])].into_iter().chain(more);
    let (gateway, upstream) = gateway(config, connections);
    let secret = minted(&gateway, SESSION).await;
    assert_eq!(gateway.call(&offer(&secret)).await.status, 201);
    tokio::time::sleep(Duration::from_millis(100)).await;
    (gateway, upstream)
}

fn key(request: &str) -> &str {
    &request.split("Bearer ").nth(1).unwrap()[..6]
}

#[tokio::test(start_paused = true)]
async fn the_owner_hangs_up_where_the_call_is() {
    let (gateway, upstream) = running([hung_up(200)]).await;
    let reply = gateway.call(&post(HANG_UP, "pk-1", "")).await;
    assert_eq!(reply.status, 200, "a JSON content type without a body is what SDKs send");
    let requests = upstream.requests();
    assert!(requests[2].starts_with("POST /v1/realtime/calls/rtc_1/hangup HTTP/1.1\r\n"), "{}", requests[2]);
    assert_eq!(key(&requests[2]), key(&requests[0]));
    let (record, took) = closed(&gateway).await;
    assert!(took <= Duration::from_millis(5100), "{took:?}");
    assert_eq!((&record["end"], &record["usage"]["input"]), (&json!("complete"), &json!(20)));
}

#[tokio::test(start_paused = true)]
async fn a_call_can_be_ended_when_as_many_run_as_may() {
    for (from, to) in [
        ("pk-1, channels: [up]", "pk-1, channels: [up], limits: {concurrent: 1}"),
        ("kind: openai,", "kind: openai, limits: {concurrent: 1},"),
    ] {
        let (gateway, _upstream) = running_with(&with(from, to), [hung_up(200)]).await;
        let again = super::offer_to("/v1/realtime/calls?model=m", "pk-1", super::OFFER);
        assert_eq!(refusal(&gateway.call(&again).await), (429, "too_many_concurrent".into()));
        assert_eq!(gateway.call(&post(HANG_UP, "pk-1", "")).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_else_can_do_anything_with_a_call() {
    let (gateway, upstream) = running([]).await;
    for action in ["hangup", "accept", "reject", "refer", "anything"] {
        let reply = gateway.call(&post(&format!("/v1/realtime/calls/rtc_1/{action}"), "pk-2", "{}")).await;
        assert_eq!(refusal(&reply), (404, "no_such_route".into()), "{action}");
    }
    for path in ["//v1//realtime/calls/rtc%5F1/hangup/", "/openai/v1/realtime/calls/rtc_1/hangup"] {
        assert_eq!(refusal(&gateway.call(&post(path, "pk-2", "")).await).0, 404, "{path}");
    }
    let socket = gateway.socket("/v1/realtime?call_id=rtc_1", &[("authorization", "Bearer pk-2")]).await;
    assert_eq!(socket.err().map(|reply| reply.status), Some(404));
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(gateway.gateway().open_webrtc_calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_over_is_still_nobody_else_s() {
    let (gateway, _upstream) = gateway(CONFIG, [taken(), socket([Step::close(1000, "")]), hung_up(404)]);
    let secret = minted(&gateway, SESSION).await;
    gateway.call(&offer(&secret)).await;
    closed(&gateway).await;
    assert_eq!(refusal(&gateway.call(&post(HANG_UP, "pk-2", "")).await), (404, "no_such_route".into()));
    assert_eq!(gateway.call(&post(HANG_UP, "pk-1", "")).await.text(), "{}", "the provider's own answer");
}

#[tokio::test(start_paused = true)]
async fn the_owner_joins_a_call_with_a_socket_that_is_not_counted_twice() {
    let joined = socket([done("r1", 20, 10), Step::Listen]);
    let (gateway, upstream) = running([joined, hung_up(200)]).await;
    let mut socket =
        gateway.socket("/v1/realtime?call_id=rtc_1", &[("authorization", "Bearer pk-1")]).await.ok().unwrap();
    assert_eq!(socket.frame().await.json()["type"], "response.done");
    socket.close(1000, "").await;
    let requests = upstream.requests();
    assert!(requests[2].starts_with("GET /v1/realtime?call_id=rtc_1 "), "{}", requests[2]);
    assert_eq!(key(&requests[2]), key(&requests[0]), "it goes where the call is");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let record = gateway.last_record().await;
    assert_eq!((&record["protocol"], &record["usage"]), (&json!("websocket"), &json!(null)));
}

#[tokio::test(start_paused = true)]
async fn an_incoming_call_belongs_to_whoever_accepts_it() {
    let config = with("kind: openai,", "kind: openai, models: {voice: real-voice},");
    let accepted = vec![Step::Request, Step::json(200, "")];
    let (gateway, upstream) = gateway(&config, [accepted, hung_up(200)]);
    let accept = |model: &str| {
        post("/v1/realtime/calls/rtc_9/accept", "pk-1", &format!(r#"{{"type":"realtime","model":"{model}"}}"#))
    };
    assert_eq!(refusal(&gateway.call(&accept("other")).await), (404, "no_such_route".into()), "the model is checked");
    assert_eq!(gateway.call(&accept("voice")).await.status, 200);
    assert!(upstream.requests()[0].ends_with(r#"{"type":"realtime","model":"real-voice"}"#));
    assert_eq!(refusal(&gateway.call(&post("/v1/realtime/calls/rtc_9/hangup", "pk-2", "")).await).0, 404);
    assert_eq!(gateway.call(&post("/v1/realtime/calls/rtc_9/hangup", "pk-1", "")).await.status, 200);
    let requests = upstream.requests();
    assert_eq!(key(&requests[0]), key(&requests[1]));
}
