//! However a socket ends, it gives back what it held, once: a thousand sockets that end in every way there is, and then
//! each limit lets exactly as many in as it says.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aiproxy_testkit::{Frame, Step, TestGateway, Upstream};
use tokio::task::JoinSet;

use super::*;

/// Clients at the same time, and how many sockets each opens.
const CLIENTS: usize = 20;
const SOCKETS: usize = 60;
const CHANNELS: [&str; 10] =
    ["echo", "closes", "vanishes", "cuts", "breaks", "works", "stuck", "silent", "refuses", "other"];

fn config(limits: &str) -> String {
    let mut text = format!(
        "
system: {{rate_limit: {{bad_credentials: false}}, timeouts: {{write: 1s}}, prices: {{models: {{m: {{input: 1, output: 1}}}}}}}}
users:
  one: {{proxy_keys: [{{id: first, key: pk-1, limits: {limits}}}], channels: [{}], limits: {limits}}}
channels:
",
        CHANNELS.join(", ")
    );
    for name in CHANNELS {
        text.push_str(&format!(
            "  {name}: {{kind: openai, base_url: 'http://{name}.test', api_key: real, models: [{name}], health: false, limits: {limits}, timeouts: {{idle: 2s, first_byte: 2s}}}}\n"
        ));
    }
    text
}

/// How the channel of this name behaves, connection after connection.
fn behaviour(channel: &str) -> Vec<Step> {
    let pause = Step::Wait(Duration::from_millis(20));
    match channel {
        "closes" => vec![Step::Upgrade, pause, Step::close(4001, "enough"), Step::Listen],
        "vanishes" => vec![Step::Upgrade, pause],
        "cuts" => vec![Step::Upgrade, Step::Send(vec![0x82, 100, 1, 2, 3]), pause],
        "breaks" => vec![Step::Upgrade, pause, Step::Send(vec![0xFF, 0xFF]), Step::AwaitClose],
        "works" => vec![Step::Upgrade, created("r1"), pause.clone(), pause, done("r1", 3, 4), Step::Echo],
        "stuck" => vec![Step::Upgrade, created("r1"), Step::Listen],
        "silent" => vec![Step::Upgrade, Step::Hang],
        "refuses" => vec![Step::Request, Step::json(403, "{}"), Step::Again],
        "other" => vec![Step::Request, Step::json(200, "{}"), Step::Again],
        _ => vec![Step::Upgrade, Step::Echo],
    }
}

const ENDINGS: [&str; 8] =
    ["says goodbye", "just leaves", "leaves in a frame", "breaks the rules", "waits", "asks twice", "floods", "talks"];

/// One socket that ends like this, whatever its upstream does.
async fn run(gateway: &TestGateway, channel: &str, ending: &str, random: &mut fastrand::Rng) {
    let Ok(mut socket) = gateway.socket(&format!("/v1/realtime?model={channel}"), &[KEY]).await else {
        // Whoever is refused comes back later.
        return tokio::time::sleep(Duration::from_millis(random.u64(100..500))).await;
    };
    tokio::time::sleep(Duration::from_millis(random.u64(0..60))).await;
    match ending {
        "says goodbye" => {
            socket.close(1000, "").await;
            socket.rest().await;
        }
        "leaves in a frame" => {
            let wire = Frame::text(r#"{"type":"input_audio_buffer.append"}"#).encode(Some([1, 2, 3, 4]));
            socket.send_raw(&wire[..random.usize(1..wire.len())]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        "breaks the rules" => {
            socket.send_raw([0x81, 0]).await;
            socket.rest().await;
        }
        "waits" => {
            socket.rest().await;
        }
        "asks twice" => {
            socket.send_text(r#"{"type":"a","type":"response.create"}"#).await;
            socket.rest().await;
        }
        "floods" => {
            for _ in 0..20 {
                let sent = socket.send_binary(vec![1; 60_000]);
                if tokio::time::timeout(Duration::from_millis(100), sent).await.is_err() {
                    break;
                }
            }
        }
        "talks" => {
            socket.send_text(r#"{"type":"session.update","session":{"voice":"x"}}"#).await;
            socket.next().await;
            socket.ping("x").await;
            socket.next().await;
            socket.close(1000, "").await;
            socket.rest().await;
        }
        _ => {}
    }
}

/// How many of 12 sockets at once are let in.
async fn let_in(gateway: &TestGateway) -> usize {
    let mut open = Vec::new();
    let mut passed = 0;
    for _ in 0..12 {
        match gateway.socket("/v1/realtime?model=echo", &[KEY]).await {
            Ok(socket) => {
                passed += 1;
                open.push(socket);
            }
            Err(reply) => assert_eq!(reply.status, 429, "{}", reply.text()),
        }
    }
    for socket in open {
        socket.leave().await;
    }
    settle().await;
    passed
}

#[tokio::test(start_paused = true)]
async fn whatever_a_socket_held_is_given_back_exactly_once() {
    let upstream = Upstream::hosts([]);
    for channel in CHANNELS {
        upstream.now_follows(&format!("{channel}.test"), vec![behaviour(channel)]);
    }
    // So that the limits are reached now and then.
    let gateway = Arc::new(TestGateway::new(&config("{concurrent: 18}"), &upstream));
    gateway.look_after_sessions();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let gateway = gateway.clone();
        clients.spawn(async move {
            let mut random = fastrand::Rng::with_seed(number as u64);
            for count in 0..SOCKETS {
                let channel = random.choice(CHANNELS).unwrap();
                let ending = random.choice(ENDINGS).unwrap();
                run(&gateway, channel, ending, &mut random).await;
                if number == 0 && count % 15 == 14 {
                    let config = config("{concurrent: 18}");
                    // For a moment nobody may.
                    gateway.reload(&config.replace("key: pk-1,", "key: pk-1, status: disabled,"));
                    tokio::time::sleep(TWO_SECONDS).await;
                    gateway.reload(&config);
                }
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    nothing_is_left(&gateway);
    each_socket_has_one_record(&gateway.records().await);

    upstream.now_follows("echo.test", vec![vec![Step::Upgrade, Step::Echo]]);
    for limits in [3, 7] {
        gateway.reload(&config(&format!("{{concurrent: {limits}}}")));
        assert_eq!(let_in(&gateway).await, limits);
    }
    // Each limit by itself, the others being wide.
    for place in ["key: pk-1, limits: ", "other], limits: ", "models: [echo], health: false, limits: "] {
        let wide = config("{concurrent: 99}");
        let from = format!("{place}{{concurrent: 99}}");
        assert!(wide.contains(&from), "{place}");
        gateway.reload(&wide.replace(&from, &format!("{place}{{concurrent: 5}}")));
        assert_eq!(let_in(&gateway).await, 5, "{place}");
    }
    nothing_is_left(&gateway);
}

fn each_socket_has_one_record(records: &[Value]) {
    let ids: HashSet<&str> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert_eq!((records.len(), ids.len()), (CLIENTS * SOCKETS, CLIENTS * SOCKETS));
    let mut ways: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        *ways.entry(format!("{} {} {}", record["end"], record["status"], record["error_code"])).or_default() += 1;
    }
    for way in [
        r#""complete" 101 null"#,
        r#""complete" 101 "key_disabled""#,
        r#""client_closed" 101 null"#,
        r#""client_closed" 101 "invalid_request""#,
        r#""upstream_error" 101 null"#,
        r#""upstream_error" 101 "upstream_invalid""#,
        r#""upstream_error" 502 "upstream_invalid""#,
        r#""timeout" 101 "upstream_timeout""#,
        r#""complete" 403 null"#,
        r#""complete" 403 "key_disabled""#,
        r#""complete" 429 "too_many_concurrent""#,
    ] {
        assert!(ways.get(way).is_some_and(|count| *count > 0), "{way} in {ways:#?}");
    }
    let used = records.iter().filter(|record| record["usage"]["output"] == 4).count();
    assert!(used > 20, "{used} responses were counted");
}
