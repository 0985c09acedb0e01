//! What a socket used: summed up in its record, priced, kept on disk while it is open.

use std::time::Duration;

use aiproxy_config::snapshot::{QuotaPeriod, Scope};
use aiproxy_ledger::tally::Periods;
use aiproxy_testkit::{Frame, Step};

use super::*;

const PRICED: &str = "
system: {prices: {models: {m: {input: 1, output: 2}, m-said: {input: 10, output: 20}, tts: {characters: 3}}}}
users:
  one: {proxy_keys: [{id: first, key: pk-1}], channels: [up]}
channels:
  up: {kind: openai, base_url: 'http://up.test', api_key: real-key}
";

#[tokio::test(start_paused = true)]
async fn the_record_has_the_sum_of_all_responses_and_what_they_cost() {
    let script = vec![
        Step::Upgrade,
        created("r1"),
        done("r1", 100, 20),
        created("r2"),
        done("r2", 200, 30),
        done("r2", 200, 30),
        Step::Listen,
    ];
    let (gateway, _) = gateway(PRICED, script);
    let mut socket = open(&gateway, REALTIME).await;
    for _ in 0..5 {
        socket.frame().await;
    }
    socket.leave().await;
    let record = only_record(&gateway).await;
    assert_eq!(
        (&record["usage"]["input"], &record["usage"]["output"]),
        (&json!(300), &json!(50)),
        "once each: {record}"
    );
    assert_eq!((&record["usage_source"], &record["model_served"]), (&json!("provider"), &json!("m")));
    assert_eq!(record["cost"], 400, "in micro-units: {record}");
    let tally = gateway.gateway().quotas().used(Scope::Key, "first").unwrap();
    let used = tally.used(QuotaPeriod::Total, &Periods::default());
    assert_eq!((used.requests, used.tokens, used.cost), (1, 350, 400), "counted once, not again when the socket ends");
}

#[tokio::test(start_paused = true)]
async fn the_model_that_the_provider_names_is_the_one_that_is_paid() {
    let session = Step::text(r#"{"type":"session.created","session":{"model":"m-said"}}"#);
    let (gateway, _) = gateway(PRICED, vec![Step::Upgrade, session, created("r1"), done("r1", 100, 20), Step::Listen]);
    let mut socket = open(&gateway, REALTIME).await;
    for _ in 0..3 {
        socket.frame().await;
    }
    socket.leave().await;
    let record = only_record(&gateway).await;
    assert_eq!(
        (&record["model_asked"], &record["model_served"], &record["cost"]),
        (&json!("m"), &json!("m-said"), &json!(1400))
    );
}

#[tokio::test(start_paused = true)]
async fn tasks_that_run_at_once_count_each_with_its_last_number() {
    let event = |task: &str, event: &str, characters: u64| {
        Step::text(
            json!({"header": {"task_id": task, "event": event}, "payload": {"usage": {"characters": characters}}})
                .to_string(),
        )
    };
    let script = vec![
        Step::Upgrade,
        Step::Message,
        Step::Message,
        event("t1", "result-generated", 5),
        event("t2", "result-generated", 7),
        Step::binary([0; 64]),
        event("t1", "result-generated", 9),
        event("t1", "task-finished", 11),
        event("t2", "result-generated", 30),
        Step::Listen,
    ];
    let config = PRICED.replace("kind: openai", "kind: dashscope");
    let (gateway, _) = gateway(&config, script);
    let mut socket = open(&gateway, SPEECH).await;
    for task in ["t1", "t2"] {
        socket
            .send_text(format!(
                r#"{{"header":{{"action":"run-task","task_id":"{task}"}},"payload":{{"model":"tts"}}}}"#
            ))
            .await;
    }
    for _ in 0..6 {
        socket.frame().await;
    }
    drop(socket);
    tokio::time::sleep(6 * TWO_SECONDS).await;
    let record = only_record(&gateway).await;
    assert_eq!(record["usage"]["characters"], 41, "one has ended, the other was left: {record}");
    assert_eq!((&record["model_asked"], &record["cost"]), (&json!("tts"), &json!(123)));
}

#[tokio::test(start_paused = true)]
async fn a_turn_counts_once_whatever_it_reports_on_the_way() {
    let message = |text: &str| Step::binary(text.as_bytes());
    let script = vec![
        Step::Upgrade,
        Step::Message,
        message(r#"{"setupComplete":{}}"#),
        message(
            r#"{"serverContent":{"modelTurn":{"parts":[]}},"usageMetadata":{"promptTokenCount":10,"responseTokenCount":1,"totalTokenCount":11}}"#,
        ),
        message(
            r#"{"serverContent":{"turnComplete":true},"usageMetadata":{"promptTokenCount":10,"responseTokenCount":5,"totalTokenCount":15}}"#,
        ),
        message(
            r#"{"serverContent":{"modelTurn":{"parts":[]},"turnComplete":true},"usageMetadata":{"promptTokenCount":20,"responseTokenCount":6,"totalTokenCount":26}}"#,
        ),
        Step::Listen,
    ];
    let (gateway, _) = gateway(&PRICED.replace("kind: openai", "kind: gemini"), script);
    let mut socket = open(&gateway, LIVE).await;
    socket.send_text(r#"{"setup":{"model":"models/m"}}"#).await;
    for _ in 0..4 {
        assert!(matches!(socket.frame().await, Frame::Binary(_)));
    }
    socket.leave().await;
    let record = only_record(&gateway).await;
    assert_eq!(
        (&record["usage"]["input"], &record["usage"]["output"], &record["model_served"]),
        (&json!(30), &json!(11), &json!("m"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_told_no_usage_has_none_in_its_record() {
    for path in [REALTIME, UNREAD] {
        let (gateway, _) =
            gateway(PRICED, vec![Step::Upgrade, Step::text(r#"{"type":"session.created"}"#), Step::Listen]);
        let mut socket = open(&gateway, path).await;
        socket.frame().await;
        socket.leave().await;
        let record = only_record(&gateway).await;
        assert_eq!(
            (&record["usage"], &record["usage_source"], &record["cost"]),
            (&json!(null), &json!("none"), &json!(null)),
            "{record}"
        );
        assert!(gateway.checkpoints().await.is_empty() && gateway.forgotten().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_socket_is_kept_once_a_second_at_most_and_forgotten_when_its_record_is_there() {
    let mut script = vec![Step::Upgrade, Step::Wait(Duration::from_secs(10))];
    for number in 0..40 {
        let id = format!("r{number}");
        script.extend([created(&id), done(&id, 10, 1), Step::Wait(Duration::from_millis(100))]);
    }
    script.push(Step::Listen);
    let (gateway, _) = gateway(PRICED, script);
    let mut socket = open(&gateway, REALTIME).await;
    let start = tokio::time::Instant::now();
    for _ in 0..80 {
        socket.frame().await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let checkpoints = gateway.checkpoints().await;
    let at: Vec<u64> = checkpoints.iter().map(|(at, _)| (*at - start).as_millis() as u64 / 1_000).collect();
    assert_eq!(at, [10, 11, 12, 13, 14], "at once, then each second, and the last change is not lost");
    let inputs: Vec<u64> = checkpoints.iter().map(|(_, entry)| entry["usage"]["input"].as_u64().unwrap()).collect();
    assert!(inputs[0] == 10 && inputs.is_sorted() && inputs[4] == 400, "{inputs:?}");
    assert!(checkpoints.iter().all(|(_, entry)| entry["end"] == "shutdown" && entry["cost"].is_number()));
    assert!(gateway.forgotten().is_empty(), "as long as it is open");
    socket.leave().await;
    let record = only_record(&gateway).await;
    assert_eq!((&record["end"], &record["usage"]["input"]), (&json!("complete"), &json!(400)));
    assert_eq!(gateway.checkpoints().await.len(), 5, "the end is the record's");
    let id: String = record["id"].as_str().unwrap().replace('-', "");
    assert_eq!(gateway.forgotten(), [id]);
}

#[tokio::test(start_paused = true)]
async fn usage_counts_against_quotas_while_the_socket_is_open() {
    let (gateway, _) = gateway(PRICED, vec![Step::Upgrade, created("r1"), done("r1", 100, 20), Step::Listen]);
    let mut socket = open(&gateway, REALTIME).await;
    for _ in 0..2 {
        socket.frame().await;
    }
    settle().await;
    let used =
        || gateway.gateway().quotas().used(Scope::User, "one").unwrap().used(QuotaPeriod::Total, &Periods::default());
    assert_eq!((used().tokens, used().cost), (120, 140));
    socket.leave().await;
    settle().await;
    assert_eq!((used().tokens, used().cost, used().requests), (120, 140, 1));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_runs_when_its_client_leaves_is_cancelled_and_counts() {
    for is_polite in [true, false] {
        let script = vec![
            Step::Upgrade,
            created("r1"),
            Step::Message,
            Step::Wait(Duration::from_millis(300)),
            done("r1", 50, 5),
            Step::Listen,
        ];
        let (gateway, upstream) = gateway(PRICED, script);
        let mut socket = open(&gateway, REALTIME).await;
        socket.frame().await;
        if is_polite {
            socket.close(1000, "bye").await;
            assert_eq!(socket.frame().await, Frame::close(1000, "bye"), "at once");
        }
        drop(socket);
        tokio::time::sleep(TWO_SECONDS).await;
        let texts = upstream.texts();
        assert_eq!(texts, [r#"{"type":"response.cancel","response_id":"r1"}"#]);
        let record = only_record(&gateway).await;
        assert_eq!(record["usage"]["output"], 5, "{record}");
        assert_eq!(record["end"], if is_polite { "complete" } else { "client_closed" });
        let code = if is_polite { 1000 } else { 1001 };
        assert_eq!(upstream.messages().last().unwrap().code(), Some(code));
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_never_tells_its_usage_is_not_waited_for_without_end() {
    let (gateway, upstream) = gateway(PRICED, vec![Step::Upgrade, created("r1"), Step::Listen]);
    let mut socket = open(&gateway, REALTIME).await;
    socket.frame().await;
    drop(socket);
    let start = tokio::time::Instant::now();
    while gateway.gateway().calls_in_flight() > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!((4..=6).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(upstream.messages().last(), Some(&Frame::close(1001, "")));
    only_record(&gateway).await;
}
