//! A socket that may not go on ends within two seconds: told why in its dialect, with the work that runs accounted for.

use std::time::Duration;

use aiproxy_config::snapshot::{QuotaPeriod, Scope};
use aiproxy_core::time;
use aiproxy_ledger::tally::Periods;
use aiproxy_testkit::{Frame, Step, TestGateway, Upstream};

use super::*;

/// A second user and channel, so that whatever is taken away the config stays a config.
const BEFORE: &str = "
system: {prices: {models: {m: {input: 1, output: 1}}}}
users:
  one: {proxy_keys: [{id: first, key: pk-1}], channels: [up, other]}
  two: {proxy_key: pk-2, channels: [other]}
channels:
  up: {kind: openai, base_url: 'http://up.test', models: [m], credentials: [{id: a, api_key: real-a}]}
  other: {kind: openai, base_url: 'http://other.test', api_key: real-b, models: [n]}
";

/// What is changed, and what the client is told then.
const CHANGES: [(&str, &str, &str); 11] = [
    ("{id: first, key: pk-1}", "{id: first, key: pk-1, status: disabled}", "key_disabled"),
    ("{id: first, key: pk-1}", "{id: first, key: pk-3}", "invalid_credential"),
    ("{id: first, key: pk-1}", "{id: first, key: pk-1, expires_at: '2020-01-01T00:00:00Z'}", "key_expired"),
    ("{id: first, key: pk-1}", "{id: first, key: pk-1, ip_allow: [10.0.0.0/8]}", "ip_not_allowed"),
    ("one: {", "one: {status: disabled, ", "user_disabled"),
    ("one: {", "three: {", ""),
    ("  up: {kind", "  up: {status: disabled, kind", "no_channel_available"),
    ("{id: a, api_key", "{id: a, status: disabled, api_key", "no_channel_available"),
    ("{id: a, api_key", "{id: z, api_key", "no_channel_available"),
    ("channels: [up, other]", "channels: [other]", "channel_not_allowed"),
    ("{id: first, key: pk-1}", "{id: first, key: pk-1, channels: [other]}", "channel_not_allowed"),
];

fn changed(from: &str, to: &str) -> String {
    assert!(BEFORE.contains(from), "{from}");
    BEFORE.replace(from, to)
}

/// An idle socket in a gateway that looks after it.
async fn idle(config: &str) -> (TestGateway, Upstream, Socket) {
    let (gateway, upstream) = gateway(config, vec![Step::Upgrade, Step::Listen]);
    gateway.look_after_sessions();
    let socket = open(&gateway, REALTIME).await;
    (gateway, upstream, socket)
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_takes_the_right_away_ends_the_socket_within_two_seconds() {
    for (from, to, code) in CHANGES.into_iter().filter(|(.., code)| !code.is_empty()) {
        let (gateway, upstream, mut socket) = idle(BEFORE).await;
        gateway.reload(BEFORE);
        assert!(socket.is_quiet_for(TWO_SECONDS).await, "the same config changes nothing");
        let start = time::now();
        gateway.reload(&changed(from, to));
        assert_eq!(error_code(&socket.frame().await), code, "{to}");
        let Frame::Close(Some((1008, reason))) = socket.part().await else { panic!("{to}: another goodbye") };
        assert!(reason.len() > 20, "{reason}");
        assert!(start.elapsed() < TWO_SECONDS, "{to}: {:?}", start.elapsed());
        settle().await;
        assert_eq!(upstream.messages().last().unwrap().code(), Some(1001), "{to}");
        let record = only_record(&gateway).await;
        assert_eq!((&record["end"], &record["error_code"]), (&json!("complete"), &json!(code)), "{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_reloads_in_a_row_hide_nothing() {
    for _ in 0..10 {
        let (gateway, _, mut socket) = idle(BEFORE).await;
        gateway.reload(BEFORE);
        assert!(socket.is_quiet_for(TWO_SECONDS).await);
        // The second may lie where the one that was looked at lay in memory.
        gateway.reload(BEFORE);
        gateway.reload(&changed(CHANGES[0].0, CHANGES[0].1));
        assert_eq!(error_code(&socket.frame().await), "key_disabled");
        socket.part().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_with_another_name_still_owns_the_key() {
    let (from, to, _) = CHANGES[5];
    let (gateway, _, mut socket) = idle(BEFORE).await;
    gateway.reload(&changed(from, to));
    assert!(socket.is_quiet_for(TWO_SECONDS).await);
    socket.leave().await;
    only_record(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_expires_ends_its_sockets() {
    let expiry = time::timestamp() + Duration::from_secs(5);
    let config = changed("{id: first, key: pk-1}", &format!("{{id: first, key: pk-1, expires_at: '{expiry}'}}"));
    let (gateway, _, mut socket) = idle(&config).await;
    let start = time::now();
    assert_eq!(error_code(&socket.frame().await), "key_expired");
    assert_eq!(socket.part().await.code(), Some(1008));
    assert!((4..=7).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    only_record(&gateway).await;
}

/// Every place that may have a quota.
const PLACES: [(&str, &str); 5] = [
    ("{id: first, key: pk-1}", "{id: first, key: pk-1, quotas: QUOTAS}"),
    ("one: {", "one: {quotas: QUOTAS, "),
    ("channels: [up, other]}", "channels: [up, other], department: lab}\ndepartments: {lab: {quotas: QUOTAS}}\n#"),
    ("  up: {kind", "  up: {quotas: QUOTAS, kind"),
    ("{id: a, api_key", "{id: a, quotas: QUOTAS, api_key"),
];

fn quotas(place: (&str, &str), quotas: &str) -> String {
    let (from, to) = place;
    let config = changed(from, &to.replace("QUOTAS", quotas));
    // A department stands beside the users.
    match config.find("\n#") {
        Some(at) => {
            let department = "\ndepartments: {lab: {quotas: ";
            let (start, rest) = config.split_at(config.find(department).unwrap());
            let (line, rest) = rest[1..].split_at(at - start.len() - 1);
            format!("{line}{start}{}", &rest[2..])
        }
        None => config,
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_is_used_up_ends_the_sockets_that_use_it() {
    for unit in ["tokens, per: total, amount: 100", "cost, per: month, amount: 0.0001"] {
        for place in PLACES {
            let config = quotas(place, &format!("[{{unit: {unit}}}]"));
            let script = vec![
                Step::Upgrade,
                created("r1"),
                done("r1", 90, 0),
                Step::Message,
                created("r2"),
                done("r2", 5, 5),
                Step::Listen,
            ];
            let upstream = Upstream::new([script]);
            let gateway = TestGateway::new(&config, &upstream);
            gateway.look_after_sessions();
            let mut socket = open(&gateway, REALTIME).await;
            for _ in 0..2 {
                socket.frame().await;
            }
            assert!(socket.is_quiet_for(TWO_SECONDS).await, "{config}: something is left");
            socket.send_text(r#"{"type":"response.create"}"#).await;
            for _ in 0..2 {
                socket.frame().await;
            }
            let start = time::now();
            assert_eq!(error_code(&socket.frame().await), "quota_exceeded", "{config}");
            let Frame::Close(Some((1008, reason))) = socket.part().await else { panic!("another goodbye") };
            assert!(reason.starts_with("Quota exceeded: "), "{reason}");
            assert!(start.elapsed() < TWO_SECONDS);
            let record = only_record(&gateway).await;
            assert_eq!((&record["error_code"], &record["usage"]["input"]), (&json!("quota_exceeded"), &json!(95)));
            // And a new one is refused at once.
            let reply = refused(gateway.socket(REALTIME, &[KEY]).await);
            assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (429, Some("quota_exceeded")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_requests_or_a_soft_one_ends_no_socket() {
    for quota in ["{unit: requests, per: total, amount: 1}", "{unit: tokens, per: total, amount: 1, soft: true}"] {
        let config = quotas(PLACES[1], &format!("[{quota}]"));
        let (gateway, _) = gateway(&config, vec![Step::Upgrade, created("r1"), done("r1", 90, 0), Step::Listen]);
        gateway.look_after_sessions();
        let mut socket = open(&gateway, REALTIME).await;
        for _ in 0..2 {
            socket.frame().await;
        }
        assert!(socket.is_quiet_for(2 * TWO_SECONDS).await, "{quota}");
        socket.leave().await;
        only_record(&gateway).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_response_that_runs_is_cancelled_and_what_it_used_still_counts() {
    let script = vec![
        Step::Upgrade,
        created("r1"),
        Step::Message,
        Step::Wait(Duration::from_millis(400)),
        done("r1", 50, 7),
        Step::Listen,
    ];
    let (gateway, upstream) = gateway(BEFORE, script);
    gateway.look_after_sessions();
    let mut socket = open(&gateway, REALTIME).await;
    socket.frame().await;
    let start = time::now();
    gateway.reload(&changed(CHANGES[0].0, CHANGES[0].1));
    assert_eq!(error_code(&socket.frame().await), "key_disabled");
    assert_eq!(socket.frame().await.code(), Some(1008), "the client does not wait for the upstream");
    assert!(start.elapsed() < TWO_SECONDS);
    assert!(upstream.texts().is_empty() || upstream.texts() == [r#"{"type":"response.cancel","response_id":"r1"}"#]);
    drop(socket);
    tokio::time::sleep(2 * TWO_SECONDS).await;
    assert_eq!(
        upstream.messages(),
        [Frame::text(r#"{"type":"response.cancel","response_id":"r1"}"#), Frame::close(1001, "")]
    );
    let record = only_record(&gateway).await;
    assert_eq!((&record["usage"]["input"], &record["usage"]["output"]), (&json!(50), &json!(7)), "{record}");
    assert_eq!(record["error_code"], "key_disabled");
    let used =
        gateway.gateway().quotas().used(Scope::Channel, "up").unwrap().used(QuotaPeriod::Total, &Periods::default());
    assert_eq!((used.tokens, used.cost), (57, 57));
}

#[tokio::test(start_paused = true)]
async fn tasks_that_run_fail_each_for_itself() {
    let started = |task: &str| {
        Step::text(json!({"header": {"task_id": task, "event": "task-started"}, "payload": {}}).to_string())
    };
    let config = BEFORE.replace("up: {kind: openai", "up: {kind: dashscope").replace("models: [m], ", "");
    let script = vec![Step::Upgrade, Step::Message, Step::Message, started("t1"), started("t2"), Step::Listen];
    let (gateway, upstream) = gateway(&config, script);
    gateway.look_after_sessions();
    let mut socket = opened(gateway.socket(SPEECH, &[KEY, ("x-aiproxy-channel", "up")]).await);
    for task in ["t1", "t2"] {
        socket
            .send_text(format!(r#"{{"header":{{"action":"run-task","task_id":"{task}"}},"payload":{{"model":"m"}}}}"#))
            .await;
    }
    for _ in 0..2 {
        socket.frame().await;
    }
    gateway.reload(&config.replace("{id: first, key: pk-1}", "{id: first, key: pk-1, status: disabled}"));
    for task in ["t1", "t2"] {
        let told = socket.frame().await.json();
        assert_eq!((&told["header"]["event"], &told["header"]["task_id"]), (&json!("task-failed"), &json!(task)));
        assert_eq!(told["header"]["error_code"], "key_disabled");
    }
    assert_eq!(socket.frame().await.code(), Some(1008));
    drop(socket);
    tokio::time::sleep(2 * TWO_SECONDS).await;
    let cancels =
        upstream.texts().iter().filter(|text| text.contains("finish-task") && text.contains("cancel")).count();
    assert_eq!(cancels, 2, "{:?}", upstream.texts());
    only_record(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_never_falls_into_the_middle_of_a_frame() {
    // The upstream is in the middle of a frame when the key is disabled, and goes on a little later.
    let script = vec![
        Step::Upgrade,
        Step::Send(vec![0x82, 4, 1, 2]),
        Step::Wait(TWO_SECONDS),
        Step::Send(vec![3, 4]),
        Step::text("not wanted any more"),
        Step::Listen,
    ];
    let (gateway, _) = gateway(BEFORE, script);
    gateway.look_after_sessions();
    let mut socket = open(&gateway, REALTIME).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    gateway.reload(&changed(CHANGES[0].0, CHANGES[0].1));
    assert_eq!(socket.frame().await, Frame::Binary(vec![1, 2, 3, 4]));
    assert_eq!(socket.part().await.code(), Some(1008));
    only_record(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_after_its_end_reaches_nobody() {
    let (gateway, upstream, mut socket) = idle(BEFORE).await;
    gateway.reload(&changed(CHANGES[0].0, CHANGES[0].1));
    assert_eq!(error_code(&socket.frame().await), "key_disabled");
    assert_eq!(socket.frame().await.code(), Some(1008));
    socket.send_text(r#"{"type":"response.create"}"#).await;
    socket.send_text(r#"{"type":"input_audio_buffer.append"}"#).await;
    drop(socket);
    tokio::time::sleep(5 * TWO_SECONDS).await;
    assert!(upstream.texts().is_empty(), "{:?}", upstream.texts());
    only_record(&gateway).await;
}

#[tokio::test(start_paused = true)]
async fn a_quota_ends_every_socket_that_shares_it() {
    let config = quotas(PLACES[1], "[{unit: tokens, per: total, amount: 10}]");
    let busy = vec![Step::Upgrade, Step::Message, created("r1"), done("r1", 9, 9), Step::Listen];
    let upstream = Upstream::new([vec![Step::Upgrade, Step::Listen], busy]);
    let gateway = TestGateway::new(&config, &upstream);
    gateway.look_after_sessions();
    let quiet = open(&gateway, REALTIME).await;
    let mut busy = open(&gateway, REALTIME).await;
    busy.send_text(r#"{"type":"response.create"}"#).await;
    for _ in 0..2 {
        busy.frame().await;
    }
    for mut socket in [busy, quiet] {
        assert_eq!(error_code(&socket.frame().await), "quota_exceeded");
        assert_eq!(socket.part().await.code(), Some(1008));
    }
    settle().await;
    nothing_is_left(&gateway);
    assert_eq!(gateway.records().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_in_the_middle_of_a_frame_cannot_hold_the_end_up() {
    let (gateway, upstream, mut socket) = idle(BEFORE).await;
    let wire = Frame::text(r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#).encode(Some([1, 2, 3, 4]));
    socket.send_raw(&wire[..wire.len() - 4]).await;
    settle().await;
    let start = time::now();
    gateway.reload(&changed(CHANGES[0].0, CHANGES[0].1));
    assert_eq!(error_code(&socket.frame().await), "key_disabled");
    assert_eq!(socket.frame().await.code(), Some(1008));
    assert!(start.elapsed() < TWO_SECONDS);
    assert_eq!(socket.next().await, None);
    assert!(start.elapsed() < 4 * TWO_SECONDS, "{:?}", start.elapsed());
    drop(socket);
    tokio::time::sleep(TWO_SECONDS).await;
    assert_eq!(upstream.messages(), [], "half a message, which nobody can act on");
    only_record(&gateway).await;
}
