//! However a call ends, it gives back what it held, once: ten thousand calls that end in every way there is, and then
//! each limit lets exactly as many in as it says.
//!
//! A call's model names the channel that serves it, and how that one behaves; `spare` helps out where a call may move.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Client, Step, TestGateway, Upstream};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::ANSWER;

const CHAT: &str = "/v1/chat/completions";
const CHANNELS: [&str; 11] =
    ["served", "wrong", "broken", "refused", "dead", "silent", "streamed", "cut", "stuck", "upload", "spare"];
/// Clients that call at the same time, and how often each does.
const CLIENTS: usize = 50;
const CALLS: usize = 200;

/// Every `concurrent` there is: of the caller's key, user and group, and of each channel and credential.
#[derive(Clone, Copy)]
struct Concurrent {
    key: usize,
    user: usize,
    group: usize,
    channels: usize,
    credentials: usize,
}

/// So that each of them is reached now and then.
const STORM: Concurrent = Concurrent { key: 58, user: 57, group: 56, channels: 6, credentials: 4 };
const WIDE: Concurrent = Concurrent { key: 999, user: 999, group: 999, channels: 999, credentials: 999 };
/// What is let in where it is counted in the end.
const COUNTED: usize = 5;

fn config(limits: Concurrent, turned: bool) -> String {
    let Concurrent { key, user, group, channels: of_channel, credentials: of_credential } = limits;
    let mut text = format!(
        "
system: {{body_limit: 8KiB, replay_limit: 1KiB, rate_limit: {{bad_credentials: false}}, retry_budget: {{per_second: 1000}}}}
users:
  one:
    groups: [team]
    failover: true
    limits: {{concurrent: {user}}}
    proxy_keys:
      - {{id: first, key: pk-1, limits: {{concurrent: {key}, requests_per_minute: 1000000}}}}
      - {{id: rare, key: pk-2, limits: {{requests_per_minute: 5}}}}
groups:
  team: {{limits: {{concurrent: {group}, tokens_per_minute: 1000000000}}, channels: [{}]}}
channels:
",
        CHANNELS.join(", ")
    );
    let mut channels = CHANNELS;
    if turned {
        channels.reverse();
    }
    for name in channels {
        let (models, priority) = match name {
            "spare" => ("spare, broken, refused", 1),
            _ => (name, 0),
        };
        text.push_str(&format!(
            "
  {name}:
    kind: openai
    base_url: 'http://{name}.test'
    models: [{models}]
    priority: {priority}
    health: false
    timeouts: {{first_byte: 200ms, idle: 200ms}}
    limits: {{concurrent: {of_channel}}}
    credentials: [{{id: a, api_key: real-a, limits: {{concurrent: {of_credential}}}}}, {{id: b, api_key: real-b, limits: {{concurrent: {of_credential}}}}}]
"
        ));
    }
    text
}

/// How the channel of this name behaves, connection after connection.
fn behaviour(channel: &str) -> Vec<Step> {
    let event = Step::chunk("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n");
    let mut script = match channel {
        "refused" | "dead" => return vec![Step::Refuse],
        "upload" => return vec![Step::Head, Step::AwaitClose],
        "silent" => vec![Step::Hang],
        "cut" => return vec![Step::Request, Step::sse_head(), event],
        "stuck" => vec![Step::sse_head(), event, Step::Hang],
        "wrong" => vec![Step::json(400, r#"{"error":{"message":"no","code":"bad"}}"#)],
        "broken" => vec![Step::json(503, "{}")],
        "streamed" => {
            let pause = Step::Wait(Duration::from_millis(50));
            vec![Step::sse_head(), event.clone(), pause, event, Step::last_chunk()]
        }
        _ => vec![Step::Wait(Duration::from_millis(50)), Step::json(200, ANSWER)],
    };
    script.insert(0, Step::Request);
    script.push(Step::Again);
    script
}

/// An answer that comes so slowly that it outlives everything else.
fn endless() -> Vec<Step> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n";
    vec![Step::Request, Step::send(head), Step::Drip(vec![b' '; 9999], Duration::from_millis(150))]
}

fn calling(model: &str) -> String {
    post(CHAT, "pk-1", &format!(r#"{{"model":"{model}"}}"#))
}

/// The beginning of a call for `upload` that announces `length` bytes (or chunks) and brings 2 KiB of them.
fn uploading(length: Option<usize>) -> String {
    let framing = length.map_or("transfer-encoding: chunked".into(), |length| format!("content-length: {length}"));
    let (open, close) = if length.is_some() { ("", "") } else { ("800\r\n", "\r\n") };
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer pk-1\r\ncontent-type: application/json\r\n{framing}\r\n\r\n"
    );
    format!("{head}{open}{:2048}{close}", r#"{"model":"upload","input":""#)
}

const ENDINGS: [&str; 17] = [
    "served",
    "wrong",
    "broken",
    "refused",
    "dead",
    "silent",
    "streamed",
    "cut",
    "stuck",
    "leaves before the head",
    "leaves in the stream",
    "leaves in the body",
    "leaves in a long body",
    "announces too much",
    "sends too much",
    "rare",
    "unknown",
];

/// One call that ends like this. A connection that is still good stays for the next one.
async fn call(gateway: &TestGateway, connection: &mut Option<Client>, ending: &str) {
    let mut client = connection.take().unwrap_or_else(|| gateway.connect());
    let pause = Duration::from_millis(20);
    match ending {
        "leaves before the head" => {
            client.send(calling("silent")).await;
            tokio::time::sleep(pause).await;
        }
        "leaves in the stream" => {
            client.send(calling("stuck")).await;
            tokio::time::sleep(pause).await;
        }
        "leaves in the body" => {
            let whole = calling(&"x".repeat(99));
            client.send(&whole[..whole.len() - 50]).await;
            tokio::time::sleep(pause).await;
        }
        "leaves in a long body" => {
            client.send(uploading(Some(4_000))).await;
            tokio::time::sleep(pause).await;
        }
        "announces too much" => {
            client.send(uploading(Some(9_000))).await;
            client.reply().await;
        }
        "sends too much" => {
            client.send(uploading(None)).await;
            for _ in 0..5 {
                client.send(format!("800\r\n{:2048}\r\n", "")).await;
            }
            client.reply().await;
        }
        "rare" | "unknown" => {
            let key = if ending == "rare" { "pk-2" } else { "nobody" };
            client.call(&calling("served").replace("pk-1", key)).await;
            *connection = Some(client);
        }
        model => {
            let reply = client.call(&calling(model)).await;
            *connection = Some(client).filter(|_| reply.complete && reply.header("connection").is_none());
        }
    }
}

/// How many of 20 calls at once, each for the next of `models`, are let in.
async fn let_in(gateway: &TestGateway, models: &[&str]) -> usize {
    let mut clients = Vec::new();
    for model in models.iter().cycle().take(20) {
        let mut client = gateway.connect();
        client.send(calling(model)).await;
        clients.push(client);
    }
    let mut passed = 0;
    for mut client in clients {
        let reply = client.reply().await;
        assert!(matches!(reply.status, 200 | 429), "{}", reply.text());
        passed += usize::from(reply.status == 200);
    }
    passed
}

/// Each limit, all others being wide, lets in what it says, less what is running already in each channel.
async fn each_limit_is_exact(gateway: &TestGateway, running: usize) {
    let all = running * CHANNELS.len();
    let counted = COUNTED + all;
    for limits in [
        Concurrent { key: counted, ..WIDE },
        Concurrent { user: counted, ..WIDE },
        Concurrent { group: counted, ..WIDE },
    ] {
        gateway.reload(&config(limits, false));
        assert_eq!(let_in(gateway, &CHANNELS).await, COUNTED);
    }
    for channel in CHANNELS.iter().filter(|channel| !matches!(**channel, "broken" | "refused")) {
        gateway.reload(&config(Concurrent { channels: COUNTED + running, ..WIDE }, false));
        assert_eq!(let_in(gateway, &[channel]).await, COUNTED, "channel {channel}");
        gateway.reload(&config(Concurrent { credentials: COUNTED, ..WIDE }, false));
        assert_eq!(let_in(gateway, &[channel]).await, 2 * COUNTED - running, "credentials of {channel}");
    }
    // A call for these moves to the spare channel, which has room for as many.
    for model in ["broken", "refused"] {
        gateway.reload(&config(Concurrent { channels: COUNTED + running, ..WIDE }, false));
        assert_eq!(let_in(gateway, &[model]).await, 2 * COUNTED, "channel {model}");
    }
}

fn all_follow(upstream: &Upstream, scripts: impl Fn(&str) -> Vec<Vec<Step>>) {
    for channel in CHANNELS {
        upstream.now_follows(&format!("{channel}.test"), scripts(channel));
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_call_held_is_given_back_exactly_once() {
    let upstream = Upstream::hosts([]);
    let gateway = Arc::new(TestGateway::new(&config(WIDE, false), &upstream));

    // One call runs in each channel all the time: a place given back twice would be its place.
    all_follow(&upstream, |channel| vec![endless(), behaviour(channel)]);
    let mut running = Vec::new();
    for channel in CHANNELS {
        let mut client = gateway.connect();
        client.send(calling(channel)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        running.push(client);
    }
    assert_eq!(gateway.gateway().calls_in_flight(), CHANNELS.len());
    gateway.reload(&config(STORM, false));

    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let gateway = gateway.clone();
        clients.spawn(async move {
            let mut random = fastrand::Rng::with_seed(number as u64);
            let mut connection = None;
            for count in 0..CALLS {
                call(&gateway, &mut connection, random.choice(ENDINGS).unwrap()).await;
                if number == 0 && count % 20 == 0 {
                    gateway.reload(&config(STORM, count % 40 == 0));
                }
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(gateway.gateway().calls_in_flight(), CHANNELS.len(), "only the endless ones are left");
    each_call_has_one_record(&gateway.records().await);

    all_follow(&upstream, |_| {
        vec![vec![Step::Request, Step::Wait(Duration::from_millis(100)), Step::json(200, ANSWER), Step::Again]]
    });
    each_limit_is_exact(&gateway, 1).await;
    drop(running);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(gateway.gateway().calls_in_flight(), 0);
    each_limit_is_exact(&gateway, 0).await;
    assert_eq!(gateway.gateway().calls_in_flight(), 0);
}

fn each_call_has_one_record(records: &[Value]) {
    let ids: HashSet<&str> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert_eq!((records.len(), ids.len()), (CLIENTS * CALLS, CLIENTS * CALLS));
    let mut ways: BTreeMap<String, usize> = BTreeMap::new();
    for record in records {
        *ways.entry(format!("{} {} {}", record["end"], record["status"], record["error_code"])).or_default() += 1;
    }
    for way in [
        r#""complete" 200 null"#,
        r#""complete" 400 null"#,
        r#""complete" 401 "invalid_credential""#,
        r#""complete" 413 "body_too_large""#,
        r#""complete" 429 "rate_limited""#,
        r#""complete" 429 "too_many_concurrent""#,
        r#""upstream_error" 502 "upstream_unreachable""#,
        r#""upstream_error" 200 "upstream_invalid""#,
        r#""timeout" 504 "upstream_timeout""#,
        r#""timeout" 200 "upstream_timeout""#,
        r#""client_closed" 499 null"#,
        r#""client_closed" 200 null"#,
    ] {
        assert!(ways.get(way).is_some_and(|count| *count > 20), "{way} in {ways:#?}");
    }
    let moved = records.iter().filter(|record| record["attempts"].as_array().is_some_and(|tried| tried.len() > 1));
    assert!(moved.count() > 500, "many calls were sent to another channel");
}
