//! What a call made (a task, a file, a batch, a stored response) exists only in the account that made it: later calls
//! that name it go to the same credential.

use std::collections::HashSet;
use std::time::Duration;

use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Step, TestGateway, Upstream};

use kinds::all_kinds;

mod kinds;

/// One channel with two credentials. `pk-2` may use another channel only.
const CREDENTIALS: &str = "
users:
  user1: {proxy_key: pk-1, channels: [one]}
  user2: {proxy_key: pk-2, channels: [other]}
channels:
  one:
    kind: custom
    base_url: 'http://one.test'
    credentials: [{id: a, api_key: real-a}, {id: b, api_key: real-b}]
  other: {kind: custom, base_url: 'http://other.test', api_key: real-c}
";

/// Two channels with a credential each. `pk-2` may use the second one only.
const CHANNELS: &str = "
users:
  user1: {proxy_key: pk-1, channels: [one, two], failover: true}
  user2: {proxy_key: pk-2, channels: [two]}
channels:
  one: {kind: custom, base_url: 'http://one.test', api_key: real-a}
  two: {kind: custom, base_url: 'http://two.test', api_key: real-b}
";

const IDS: [&str; 6] = ["00", "01", "02", "03", "04", "05"];

/// The real key a request came with.
fn credential(request: &str) -> char {
    request.split_once("real-").and_then(|(_, rest)| rest.chars().next()).unwrap()
}

/// Makes a few of each kind, lets `between` happen and names them in later calls: each goes where its work was made.
async fn stays(config: &str, between: impl Fn(&TestGateway)) {
    for work in all_kinds() {
        let upstream = Upstream::hosts([]);
        let gateway = TestGateway::new(config, &upstream);
        let mut homes = Vec::new();
        for id in IDS {
            let script = [vec![Step::Request], work.answer(id)].concat();
            for host in ["one.test", "two.test"] {
                upstream.now_follows(host, vec![script.clone()]);
            }
            let reply = gateway.call(&work.create).await;
            assert!(reply.complete && reply.status == 200, "{}", reply.head);
            homes.push(credential(upstream.requests().last().unwrap()));
        }
        assert_eq!(homes.iter().collect::<HashSet<_>>().len(), 2, "both credentials made something: {homes:?}");
        between(&gateway);
        for host in ["one.test", "two.test"] {
            upstream.now_follows(host, vec![vec![Step::Request, Step::json(200, "{}"), Step::Again]]);
        }
        for later in work.later.iter().chain(&work.later) {
            for (id, home) in IDS.iter().zip(&homes) {
                let later = later.replace("ID", id);
                assert_eq!(gateway.call(&later).await.status, 200);
                assert_eq!(credential(upstream.requests().last().unwrap()), *home, "{later}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn work_stays_with_the_credential_that_made_it() {
    stays(CREDENTIALS, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn work_stays_with_the_channel_that_made_it() {
    stays(CHANNELS, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn work_stays_with_the_channel_that_made_it_also_without_failover() {
    stays(&CHANNELS.replace(", failover: true", ""), |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_puts_everything_in_another_order_changes_nothing() {
    let turned = "credentials: [{id: b, api_key: real-b}, {id: new, api_key: real-n}, {id: a, api_key: real-a}]";
    let turned = CREDENTIALS.replace("credentials: [{id: a, api_key: real-a}, {id: b, api_key: real-b}]", turned);
    stays(CREDENTIALS, |gateway| gateway.reload(&turned)).await;
    let turned = CHANNELS.replace("channels: [one, two]", "channels: [new, two, one]");
    let turned = format!("{turned}  new: {{kind: custom, base_url: 'http://new.test', api_key: real-n}}\n");
    stays(CHANNELS, |gateway| gateway.reload(&turned)).await;
}

/// A gateway where `file-1` was made by `real-a`.
async fn with_a_file(config: &str) -> (Upstream, TestGateway) {
    let file = Step::json(200, r#"{"id":"file-1","object":"file"}"#);
    let upstream = Upstream::hosts([("one.test", vec![vec![Step::Request, file, Step::Again]])]);
    let gateway = TestGateway::new(config, &upstream);
    let create = post("/v1/files", "pk-1", "{}");
    // Whatever is made elsewhere (nothing listens there) or by another credential, the last word is that of real-a.
    while gateway.call(&create).await.status != 200 || credential(upstream.requests().last().unwrap()) != 'a' {}
    for host in ["two.test", "other.test"] {
        upstream.now_follows(host, vec![vec![Step::Request, Step::json(200, "{}"), Step::Again]]);
    }
    (upstream, gateway)
}

/// The credentials of `count` calls for `path`.
async fn asked(upstream: &Upstream, gateway: &TestGateway, path: &str, key: &str, count: usize) -> Vec<char> {
    let before = upstream.requests().len();
    for _ in 0..count {
        assert_eq!(gateway.call(&get(path, key)).await.status, 200);
    }
    upstream.requests()[before..].iter().map(|request| credential(request)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_unknown_id_is_routed_like_any_other_call() {
    for config in [CREDENTIALS, CHANNELS] {
        let (upstream, gateway) = with_a_file(config).await;
        tokio::time::advance(Duration::from_secs(60)).await;
        let found = asked(&upstream, &gateway, "/v1/files/file-2", "pk-1", 100).await;
        let a = found.iter().filter(|credential| **credential == 'a').count();
        assert!((45..=55).contains(&a), "{a}");
        assert_eq!(asked(&upstream, &gateway, "/v1/files/file-1", "pk-1", 100).await, ['a'; 100]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_a_body_names_leads_to_its_account() {
    for config in [CREDENTIALS, CHANNELS] {
        for (path, body) in [
            ("/v1/responses", r#"{"model":"m","input":"x","previous_response_id":"file-1"}"#),
            ("/v1/batches", r#"{"input_file_id":"file-1","endpoint":"/v1/responses"}"#),
            ("/v1/fine_tuning/jobs", r#"{"model":"m","training_file":"file-1"}"#),
        ] {
            let (upstream, gateway) = with_a_file(config).await;
            for _ in 0..20 {
                assert_eq!(gateway.call(&post(path, "pk-1", body)).await.status, 200);
                assert_eq!(credential(upstream.requests().last().unwrap()), 'a', "{path}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_may_not_use_the_channel_is_not_led_there() {
    for (config, expected) in [(CREDENTIALS, 'c'), (CHANNELS, 'b')] {
        let (upstream, gateway) = with_a_file(config).await;
        assert_eq!(asked(&upstream, &gateway, "/v1/files/file-1", "pk-2", 20).await, [expected; 20]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_was_switched_off_is_not_asked_even_for_its_own() {
    let (upstream, gateway) = with_a_file(CHANNELS).await;
    gateway.reload(&CHANNELS.replace("api_key: real-a", "api_key: real-a, status: disabled"));
    assert_eq!(asked(&upstream, &gateway, "/v1/files/file-1", "pk-1", 20).await, ['b'; 20]);
}

#[tokio::test(start_paused = true)]
async fn what_the_maker_refuses_is_asked_of_nobody_else() {
    for config in [CREDENTIALS, CHANNELS] {
        let (upstream, gateway) = with_a_file(config).await;
        tokio::time::advance(Duration::from_secs(60)).await;
        upstream.now_follows("one.test", vec![vec![Step::Request, Step::json(429, "{}"), Step::Again]]);
        let before = upstream.requests().len();
        assert_eq!(gateway.call(&get("/v1/files/file-1", "pk-1")).await.status, 429);
        let next = gateway.call(&get("/v1/files/file-1", "pk-1")).await;
        assert_eq!((next.status, next.header("retry-after")), (429, Some("1")), "left alone for a moment");
        assert_eq!(upstream.requests().len(), before + 1);
    }
}

/// The id is in the first event; a client may cancel, or go on with it elsewhere, before the last one.
#[tokio::test(start_paused = true)]
async fn what_a_stream_made_is_known_while_it_still_runs() {
    let event = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n";
    let stream = vec![Step::Request, Step::sse_head(), Step::chunk(event), Step::Hang];
    let answers = vec![Step::Request, Step::json(200, "{}"), Step::Again];
    let upstream = Upstream::hosts([("one.test", vec![stream, answers])]);
    let gateway = TestGateway::new(CREDENTIALS, &upstream);
    let mut running = gateway.connect();
    running.send(post("/v1/responses", "pk-1", r#"{"model":"m","input":"hi","stream":true,"background":true}"#)).await;
    running.read_until("\n\n").await;
    let home = credential(&upstream.requests()[0]);
    for _ in 0..10 {
        assert_eq!(gateway.call(&post("/v1/responses/resp_1/cancel", "pk-1", "")).await.status, 200);
        assert_eq!(credential(upstream.requests().last().unwrap()), home);
    }
}
