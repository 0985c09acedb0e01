//! What is decided before any key is looked at: how fast calls come, how many run, who guesses keys.

use std::time::Duration;

use aiproxy_gateway::server::connection::Port;
use aiproxy_testkit::gateway::{get, post};
use aiproxy_testkit::{Reply, Step, TestGateway, Upstream};
use tokio::time::Instant;

use crate::{ANSWER, CONFIG};

mod bad_credentials;

const HERE: &str = "198.51.100.7";
const ELSEWHERE: &str = "198.51.100.8";

fn with(system: &str) -> String {
    let second = CONFIG.replace("channels: [up]}", "channels: [up]}\n  user2: {proxy_key: pk-2, channels: [up]}");
    format!("{second}\nsystem: {{{system}}}\n")
}

fn answering() -> Upstream {
    Upstream::hosts([("up.test", vec![vec![Step::Request, Step::json(200, ANSWER), Step::Again]])])
}

/// One call on a connection of its own from `ip`.
async fn call_from(gateway: &TestGateway, ip: &str, request: &str) -> Reply {
    gateway.connect_from(&format!("{ip}:40000"), Port::Both, false).call(request).await
}

/// How many of `count` calls pass that come from `ip` in the same moment; the refused ones.
async fn at_once(gateway: &TestGateway, ip: &str, count: usize, key: &str) -> (usize, Vec<Reply>) {
    let start = Instant::now();
    let mut refused = Vec::new();
    for _ in 0..count {
        let reply = call_from(gateway, ip, &get("/v1/models", key)).await;
        if reply.status != 200 {
            refused.push(reply);
        }
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    (count - refused.len(), refused)
}

async fn is_healthy(gateway: &TestGateway, ip: &str) -> bool {
    let mut statuses = Vec::new();
    for path in ["/health", "/ready"] {
        statuses.push(call_from(gateway, ip, &format!("GET {path} HTTP/1.1\r\nhost: g\r\n\r\n")).await.status);
    }
    statuses == [200, 200]
}

#[tokio::test(start_paused = true)]
async fn of_forty_one_calls_at_once_forty_pass_whoever_sends_them() {
    let gateway = TestGateway::new(&with("rate_limit: {requests_per_second: 20, burst: 40}"), &answering());
    let (passed, _) = at_once(&gateway, HERE, 30, "pk-1").await;
    let (further, refused) = at_once(&gateway, ELSEWHERE, 11, "pk-2").await;
    assert_eq!((passed, further), (30, 10));
    let error = &refused[0].json()["error"];
    assert_eq!((refused[0].status, refused[0].header("retry-after")), (429, Some("1")));
    assert!(error["message"].as_str().unwrap().starts_with("too many requests:"), "{error}");
    assert_eq!(error["code"], "rate_limited");
    assert!(is_healthy(&gateway, HERE).await, "health checks are not limited");
    tokio::time::advance(Duration::from_millis(49)).await;
    assert_eq!(at_once(&gateway, HERE, 9, "pk-1").await.0, 0);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(at_once(&gateway, HERE, 9, "pk-1").await.0, 1, "twenty per second are one in 50 ms");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(at_once(&gateway, HERE, 50, "pk-1").await.0, 20);
    let record = gateway.records().await[40].clone();
    assert_eq!(
        (&record["status"], &record["error_code"], &record["user_id"]),
        (&429.into(), &"rate_limited".into(), &().into())
    );
}

#[tokio::test(start_paused = true)]
async fn each_address_has_a_burst_of_its_own() {
    let rate = "rate_limit: {ip_limit: {requests_per_second: 20, burst: 40}}";
    let gateway = TestGateway::new(&with(rate), &answering());
    for ip in [HERE, ELSEWHERE] {
        let (passed, refused) = at_once(&gateway, ip, 41, "pk-1").await;
        assert_eq!((passed, refused.len(), refused[0].status), (40, 1, 429), "{ip}");
        let error = refused[0].json();
        assert!(error["error"]["message"].as_str().unwrap().starts_with("too many requests from your IP"), "{error}");
        assert_eq!(refused[0].header("retry-after"), Some("1"));
        assert!(is_healthy(&gateway, ip).await);
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(at_once(&gateway, HERE, 41, "pk-1").await.0, 20, "after the time told, a call passes");
}

#[tokio::test(start_paused = true)]
async fn one_address_cannot_use_up_what_is_left_for_all() {
    let rate = "rate_limit: {requests_per_second: 20, burst: 40, ip_limit: {requests_per_second: 1, burst: 10}}";
    let gateway = TestGateway::new(&with(rate), &answering());
    assert_eq!(at_once(&gateway, HERE, 500, "pk-1").await.0, 10);
    assert_eq!(at_once(&gateway, ELSEWHERE, 10, "pk-1").await.0, 10, "what one address was refused cost nothing");
    for (ip, passes) in [("203.0.113.1", 10), ("203.0.113.2", 10), ("203.0.113.3", 0)] {
        assert_eq!(at_once(&gateway, ip, 10, "pk-1").await.0, passes, "{ip}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_speaks_the_callers_dialect_and_a_reload_changes_the_rate() {
    let gateway = TestGateway::new(&with("rate_limit: {requests_per_second: 0.1, burst: 1}"), &answering());
    assert_eq!(at_once(&gateway, HERE, 1, "pk-1").await.0, 1);
    let refused = async |path| {
        let reply = gateway.call(&post(path, "pk-1", "{}")).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, Some("10")), "{path}");
        reply.json()
    };
    assert_eq!(refused("/v1/messages").await["error"]["type"], "rate_limit_error");
    assert_eq!(refused("/v1beta/models/g:generateContent").await["error"]["status"], "RESOURCE_EXHAUSTED");
    assert!(refused("/api/v1/services/aigc/text-generation/generation").await["request_id"].is_string());
    gateway.reload(&with("rate_limit: {requests_per_second: 100, burst: 5}"));
    assert_eq!(at_once(&gateway, HERE, 9, "pk-1").await.0, 0, "what is owed is an empty bucket at most");
    tokio::time::advance(Duration::from_millis(50)).await;
    assert_eq!(at_once(&gateway, HERE, 9, "pk-1").await.0, 5);
    gateway.reload(&with(""));
    assert_eq!(at_once(&gateway, HERE, 99, "pk-1").await.0, 99);
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_are_limited_before_they_are_looked_at() {
    let rate = "rate_limit: {bad_credentials: false, ip_limit: {requests_per_second: 20, burst: 40}}";
    let gateway = TestGateway::new(&with(rate), &answering());
    let (_, refused) = at_once(&gateway, HERE, 60, "nobody").await;
    let unauthorized = refused.iter().filter(|reply| reply.status == 401).count();
    assert_eq!((unauthorized, refused.len()), (40, 60));
    assert!(refused[40..].iter().all(|reply| reply.status == 429));
}

#[tokio::test(start_paused = true)]
async fn behind_a_trusted_proxy_the_forwarded_address_counts_and_from_a_stranger_it_does_not() {
    let rate = "trusted_proxies: [10.0.0.0/8], rate_limit: {ip_limit: {requests_per_second: 1, burst: 3}}";
    let gateway = TestGateway::new(&with(rate), &answering());
    let forwarded =
        |address: &str| get("/v1/models", "pk-1").replace("host:", &format!("x-forwarded-for: {address}\r\nhost:"));
    let passed = async |peer: &str, addresses: &[String]| {
        let mut passed = 0;
        for address in addresses {
            passed += usize::from(call_from(&gateway, peer, &forwarded(address)).await.status == 200);
        }
        passed
    };
    let many: Vec<String> = (0..20).map(|last| format!("203.0.113.{last}")).collect();
    assert_eq!(passed("10.0.0.1", &many).await, 20, "each is an address of its own");
    assert_eq!(passed("10.0.0.2", &vec!["203.0.113.99".into(); 20]).await, 3, "whichever proxy it came through");
    let with_lies: Vec<String> = (0..20).map(|last| format!("6.6.6.{last}, 203.0.113.98")).collect();
    assert_eq!(passed("10.0.0.1", &with_lies).await, 3, "what the caller itself wrote in front is not believed");
    assert_eq!(passed(HERE, &many).await, 3, "a stranger's header does not evade the limit");
}

#[tokio::test(start_paused = true)]
async fn beyond_max_in_flight_calls_are_refused_at_once_while_health_answers() {
    let slow = vec![Step::Request, Step::Wait(Duration::from_secs(10)), Step::json(200, ANSWER), Step::Again];
    let gateway = TestGateway::new(&with("max_in_flight: 3"), &Upstream::hosts([("up.test", vec![slow])]));
    for _ in 0..2 {
        let start = Instant::now();
        let mut running = Vec::new();
        for _ in 0..3 {
            let mut client = gateway.connect();
            client.send(get("/v1/models", "pk-1")).await;
            running.push(client);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(gateway.gateway().calls_in_flight(), 3);
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let refused = gateway.call(&post(path, "pk-1", "{}")).await;
            assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{path}");
            assert!(refused.text().contains("overloaded"), "{}", refused.text());
        }
        assert!(is_healthy(&gateway, HERE).await);
        assert_eq!(start.elapsed(), Duration::from_secs(1), "nobody waited");
        for mut client in running {
            assert_eq!(client.reply().await.status, 200);
        }
    }
    assert_eq!(gateway.records().await.len(), 10);
}
