//! A call that may not go on is hung up, and what it used last still counts.

use std::time::Duration;

use aiproxy_testkit::{Step, TestGateway, Upstream};
use serde_json::{Value, json};

use super::{CONFIG, SESSION, closed, done, gateway, hung_up, minted, offer, socket, taken, with};

const SECOND: Duration = Duration::from_secs(1);

/// A call that runs, and what it says when it is hung up is that it used something.
async fn running(config: &str, status: u16) -> (TestGateway, Upstream) {
    let says = [done("r1", 20, 10), Step::Message, done("r2", 2, 1), Step::close(1000, ""), Step::AwaitClose];
    let created = Step::text(r#"{"type":"response.created","response":{"id":"r2","status":"in_progress"}}"#);
    let says = [&says[..1], &[created], &says[1..]].concat();
    let (gateway, upstream) = gateway(config, [taken(), socket(says), hung_up(status)]);
    let secret = minted(&gateway, SESSION).await;
    assert_eq!(gateway.call(&offer(&secret)).await.status, 201);
    tokio::time::sleep(SECOND / 10).await;
    (gateway, upstream)
}

fn hang_ups(upstream: &Upstream) -> usize {
    upstream.requests().iter().filter(|request| request.starts_with("POST /v1/realtime/calls/rtc_1/hangup ")).count()
}

#[tokio::test(start_paused = true)]
async fn a_call_is_hung_up_when_its_key_its_user_or_its_channel_is_switched_off() {
    let base =
        with("one: {proxy_key: pk-1, channels: [up]}", "one: {channels: [up], proxy_keys: [{id: k, key: pk-1}]}");
    for (from, to, code) in [
        ("key: pk-1}", "key: pk-1, status: disabled}", "key_disabled"),
        ("one: {", "one: {status: disabled, ", "user_disabled"),
        ("key: pk-1}", "key: pk-7}", "invalid_credential"),
        ("up: {kind", "up: {status: disabled, kind", "no_channel_available"),
    ] {
        let (gateway, upstream) = running(&base, 200).await;
        gateway.reload(&base.replace(from, to));
        let (record, took) = closed(&gateway).await;
        assert!(took < 2 * SECOND, "{took:?}");
        assert_eq!(record["error_code"], code);
        assert_eq!(hang_ups(&upstream), 1);
        assert_eq!(
            (&record["usage"]["input"], &record["usage"]["output"]),
            (&json!(22), &json!(11)),
            "the last words count"
        );
        assert!(upstream.messages()[0].as_text().contains("response.cancel"));
        assert_eq!(gateway.gateway().open_webrtc_calls(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_over_already_counts_as_hung_up() {
    let (gateway, upstream) = running(CONFIG, 404).await;
    gateway.reload(&CONFIG.replace("one: {", "one: {status: disabled, "));
    closed(&gateway).await;
    assert_eq!(hang_ups(&upstream), 1);
}

#[tokio::test(start_paused = true)]
async fn hanging_up_is_tried_again() {
    let says = [Step::Hang];
    let failing = vec![Step::Request, Step::json(500, "{}")];
    let (gateway, upstream) = gateway(CONFIG, [taken(), socket(says), vec![Step::Refuse], failing, hung_up(200)]);
    let secret = minted(&gateway, SESSION).await;
    gateway.call(&offer(&secret)).await;
    tokio::time::sleep(SECOND / 10).await;
    gateway.reload(&CONFIG.replace("one: {", "one: {status: disabled, "));
    let (record, took) = closed(&gateway).await;
    assert!(took < 4 * SECOND, "a socket that says nothing more is not waited for: {took:?}");
    assert_eq!((hang_ups(&upstream), &record["error_code"]), (2, &json!("user_disabled")));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_hung_up_is_said_to_be_unmetered() {
    let refused = (0..3).map(|_| vec![Step::Refuse]);
    let (gateway, _upstream) = gateway(CONFIG, [taken(), socket([Step::Hang])].into_iter().chain(refused));
    let secret = minted(&gateway, SESSION).await;
    gateway.call(&offer(&secret)).await;
    tokio::time::sleep(SECOND / 10).await;
    gateway.reload(&CONFIG.replace("one: {", "one: {status: disabled, "));
    let (record, _) = closed(&gateway).await;
    assert_eq!((&record["error_code"], &record["usage_flaw"]), (&json!("user_disabled"), &json!("unmetered")));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_hung_up_when_a_quota_is_used_up() {
    let config = with("pk-1, channels: [up]", "pk-1, channels: [up], quotas: [{unit: tokens, per: total, amount: 25}]");
    let (gateway, upstream) = running(&config, 200).await;
    let (record, took) = closed(&gateway).await;
    assert!(took < 2 * SECOND, "{took:?}");
    assert_eq!((&record["error_code"], hang_ups(&upstream)), (&json!("quota_exceeded"), 1));
    let again = super::offer_to(&format!("{}?model=m", super::CALLS), "pk-1", super::OFFER);
    assert_eq!(super::refusal(&gateway.call(&again).await), (429, "quota_exceeded".into()));
}

#[tokio::test(start_paused = true)]
async fn a_call_lasts_as_long_as_its_channel_allows() {
    let config = with("kind: openai,", "kind: openai, timeouts: {total: 15s, idle: 1s, first_byte: 1s},");
    let (gateway, upstream) = running(&config, 200).await;
    let (record, took) = closed(&gateway).await;
    assert!((14 * SECOND..16 * SECOND).contains(&took), "{took:?}");
    assert_eq!(
        (&record["end"], &record["error_code"], hang_ups(&upstream)),
        (&json!("timeout"), &json!("upstream_timeout"), 1)
    );
}

#[tokio::test(start_paused = true)]
async fn while_the_gateway_drains_a_call_goes_on_and_is_hung_up_before_it_is_cut() {
    let config = CONFIG.replace("system: {}", "system: {shutdown_timeout: 20s}");
    let (gateway, upstream) = running(&config, 200).await;
    let waiting = gateway.connect();
    gateway.stop();
    let (record, took) = closed(&gateway).await;
    assert!((17 * SECOND..20 * SECOND).contains(&took), "{took:?}");
    assert_eq!((&record["end"], &record["usage"]["input"], hang_ups(&upstream)), (&json!("shutdown"), &json!(22), 1));
    drop(waiting);
    assert!(gateway.finished_within(SECOND).await, "nothing is left behind");
}

#[tokio::test(start_paused = true)]
async fn no_call_begins_while_the_gateway_drains() {
    let (gateway, upstream) = gateway(CONFIG, []);
    let secret = minted(&gateway, SESSION).await;
    let mut client = gateway.connect();
    tokio::task::yield_now().await;
    gateway.gateway().drain();
    let reply = client.call(&offer(&secret)).await;
    assert_eq!(super::refusal(&reply), (503, "draining".into()));
    assert!(upstream.dials().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_leaves_before_the_answer_leaves_no_call_behind() {
    let half =
        Step::send("HTTP/1.1 201 Created\r\nlocation: /v1/realtime/calls/rtc_1\r\ncontent-length: 99\r\n\r\nv=0");
    let (gateway, upstream) = gateway(CONFIG, [vec![Step::Request, half, Step::Hang], hung_up(200)]);
    let secret = minted(&gateway, SESSION).await;
    let mut client = gateway.connect();
    client.send(offer(&secret)).await;
    tokio::time::sleep(SECOND).await;
    drop(client);
    tokio::time::sleep(SECOND).await;
    assert_eq!(hang_ups(&upstream), 1);
    let record: Value = gateway.last_record().await;
    assert_eq!((&record["end"], &record["status"]), (&json!("client_closed"), &json!(499)));
}
