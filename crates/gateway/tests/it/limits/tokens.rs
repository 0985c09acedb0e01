//! Tokens: reserved from an estimate, settled to the provider's numbers, given back where the upstream refused.

use serde_json::Value;

use super::*;

const LIMIT: u64 = 30_000;
const LIMITS: &str = "{tokens_per_minute: 30000}";

const STREAM: &str = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n\
    data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":700,\"completion_tokens\":33}}\n\ndata: [DONE]\n\n";
const MESSAGE: &str = r#"{"type":"message","model":"claude","content":[],"usage":{"input_tokens":120,"cache_read_input_tokens":50,"output_tokens":40}}"#;

/// How much of the limit was used, as the refusal of a call that needs all of it tells.
async fn used(gateway: &TestGateway) -> u64 {
    let huge =
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(4 * LIMIT as usize));
    let refused = gateway.call(&post(CHAT, "pk-1", &huge)).await;
    assert_eq!((refused.status, refused.header("x-ratelimit-limit-tokens")), (429, Some("30000")), "{}", refused.head);
    LIMIT - refused.header("x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap()
}

/// What the records say.
async fn recorded(gateway: &TestGateway) -> u64 {
    let tokens = |record: &Value| {
        ["input", "output"].map(|part| record["usage"][part].as_u64().unwrap_or(0)).iter().sum::<u64>()
    };
    gateway.records().await.iter().map(tokens).sum()
}

#[tokio::test(start_paused = true)]
async fn what_counts_against_the_limit_is_what_the_records_say() {
    for scope in SCOPES {
        let calls = [
            (chat("pk-1"), vec![Step::json(200, ANSWER)]),
            (
                post(CHAT, "pk-1", r#"{"model":"m","stream":true}"#),
                vec![Step::sse_head(), Step::chunk(STREAM), Step::last_chunk()],
            ),
            (post("/v1/messages", "pk-1", r#"{"model":"c","max_tokens":900}"#), vec![Step::json(200, MESSAGE)]),
            (chat("pk-1"), vec![Step::json(400, r#"{"error":{"message":"no","code":"bad"}}"#)]),
            (chat("pk-1"), vec![Step::json(503, "{}")]),
            (get("/v1/models", "pk-1"), vec![Step::json(200, r#"{"data":[]}"#)]),
            (chat("pk-1"), vec![Step::json(200, ANSWER)]),
        ];
        let scripts = calls.iter().flat_map(|(_, answer)| [vec![Step::Request], answer.clone()].concat());
        let upstream = Upstream::new([scripts.collect()]);
        let gateway = TestGateway::new(&config(scope, LIMITS), &upstream);
        let mut total = 0;
        for (request, _) in &calls {
            gateway.call(request).await;
            let now = recorded(&gateway).await;
            if now > 0 {
                assert_eq!(used(&gateway).await, now, "{scope}: {request}");
            }
            total = now;
        }
        assert_eq!(total, 29 + 733 + 120 + 50 + 40 + 29, "{scope}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_call_holds_its_estimate_until_it_is_settled() {
    for scope in SCOPES {
        let gateway = TestGateway::new(&config(scope, LIMITS), &answering(1, 1, Duration::from_secs(5)));
        let body = format!(r#"{{"model":"m","max_tokens":1,"prompt":"{}"}}"#, "x".repeat(4_000));
        let mut running = gateway.connect();
        running.send(post("/v1/completions", "pk-1", &body)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(used(&gateway).await, body.len() as u64 / 4, "{scope}");
        running.reply().await;
        assert_eq!(used(&gateway).await, 29, "{scope}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_estimate_stands_where_an_answer_began_and_nobody_said_how_much_it_was() {
    let silent = vec![Step::Request, Step::sse_head(), Step::chunk("data: {}\n\n"), Step::AwaitClose];
    let upstream = Upstream::new([silent.clone(), silent, vec![Step::Request, Step::AwaitClose]]);
    let gateway = TestGateway::new(&config("user", LIMITS), &upstream);
    let body = format!(r#"{{"model":"m","stream":true,"x":"{}"}}"#, "x".repeat(400));
    let request = post(CHAT, "pk-1", &body);
    for calls in 1..=2 {
        let mut client = gateway.connect();
        client.send(&request).await;
        client.read_until("data: {}\n\n").await;
        drop(client);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(used(&gateway).await, calls * (body.len() as u64 / 4));
    }
    let mut client = gateway.connect();
    client.send(&request).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(used(&gateway).await, 3 * (body.len() as u64 / 4), "reserved");
    drop(client);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        used(&gateway).await,
        3 * (body.len() as u64 / 4),
        "left while somebody worked on it: nobody knows either"
    );
}

#[tokio::test(start_paused = true)]
async fn tokens_leave_the_minute_with_the_call_that_used_them() {
    for scope in SCOPES {
        let gateway = TestGateway::new(&config(scope, "{tokens_per_minute: 60}"), &answering(9, 9, Duration::ZERO));
        assert_eq!(gateway.call(&chat("pk-1")).await.status, 200);
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(gateway.call(&chat("pk-1")).await.status, 200);
        let refused = gateway.call(&chat("pk-1")).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("45")), "{scope}");
        assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some("2"), "{scope}");
        assert_eq!(refused.header("x-ratelimit-reset-tokens"), Some("45000ms"), "{scope}");
        tokio::time::advance(Duration::from_secs(44)).await;
        assert_eq!(gateway.call(&chat("pk-1")).await.status, 429, "{scope}: too early");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(gateway.call(&chat("pk-1")).await.status, 200, "{scope}");
        assert_eq!(recorded(&gateway).await, 3 * 29);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_calls_at_once_reserve_no_more_than_the_limit() {
    for scope in SCOPES {
        let upstream = answering(100, 1, Duration::from_secs(1));
        // 27 bytes are 6 tokens each.
        let gateway = TestGateway::new(&config(scope, "{tokens_per_minute: 60}"), &upstream);
        let replies = at_once(&gateway, 100, &chat("pk-1")).await;
        assert_eq!((count(&replies, 200), count(&replies, 429), upstream.requests().len()), (10, 90, 10), "{scope}");
    }
}
