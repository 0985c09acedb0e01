//! A caller that asked for an alias is answered by that name; the record knows both.

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::ANSWER;
use crate::places::*;

/// Two channels that know `fast` by names of their own.
fn config(kind: &str) -> String {
    two_channels_with_failover()
        .replace("api_key: real-1", "api_key: real-1, models: {fast: first-model}")
        .replace("api_key: real-2", "api_key: real-2, models: {fast: second-model}")
        .replace("kind: openai", &format!("kind: {kind}"))
}

fn model_of(request: &str) -> &str {
    ["first-model", "second-model", "fast"].into_iter().find(|name| request.contains(name)).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn each_channel_is_asked_by_its_own_name_and_the_caller_answered_by_theirs() {
    let answer = ANSWER.replace("m-served", "second-model-2026");
    let upstream = Upstream::hosts([
        ("a.test", vec![fails(500)]),
        ("b.test", vec![vec![Step::Request, Step::json(200, &answer)]]),
    ]);
    let gateway = TestGateway::new(&config("openai"), &upstream);
    let reply = gateway.call(&post(CHAT, "pk-1", r#"{"messages":[],"model":"fast"}"#)).await;
    assert_eq!((reply.status, reply.text(), reply.complete), (200, ANSWER.replace("m-served", "fast"), true));
    let requests = upstream.requests();
    assert!(requests[0].ends_with(r#"{"messages":[],"model":"first-model"}"#), "{}", requests[0]);
    assert!(requests[1].ends_with(r#"{"messages":[],"model":"second-model"}"#), "{}", requests[1]);
    let record = gateway.record().await;
    assert_eq!((&record["model_asked"], &record["model_served"]), (&"fast".into(), &"second-model-2026".into()));
    assert_eq!((&record["usage"]["input"], &record["channel_id"]), (&19.into(), &"second".into()));
}

/// Streams that name their model, with `NAME` where it stands.
const STREAMS: [(&str, &str, &str); 4] = [
    (
        "openai",
        CHAT,
        "data: {\"id\":\"c\",\"model\":\"NAME\",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n\
         data: {\"id\":\"c\",\"model\":\"NAME\",\"choices\":[{\"delta\":{\"content\":\"second-model\"}}]}\n\n\
         data: {\"id\":\"c\",\"choices\":[{\"delta\":{}}],\"model\":\"NAME\"}\n\ndata: [DONE]\n\n",
    ),
    (
        "openai",
        "/v1/responses",
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"NAME\"}}\n\n\
         event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n\
         event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"model\":\"NAME\"}}\n\n",
    ),
    (
        "anthropic",
        "/v1/messages",
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"NAME\",\"content\":[]}}\n\n\
         event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"second-model\"}}\n\n",
    ),
    (
        "gemini",
        "/v1beta/models/fast:streamGenerateContent?alt=sse",
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}],\"modelVersion\":\"NAME\"}\r\n\r\n\
         data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"b\"}]}}],\"modelVersion\":\"NAME\"}\r\n\r\n",
    ),
];

#[tokio::test(start_paused = true)]
async fn every_event_of_a_stream_has_the_callers_name_however_it_is_cut() {
    for (kind, path, stream) in STREAMS {
        let theirs = stream.replace("NAME", "second-model");
        for width in [1, 7, 1000] {
            let mut script = vec![Step::Request, Step::sse_head()];
            let pieces = (0..theirs.len()).step_by(width).map(|at| &theirs[at..theirs.len().min(at + width)]);
            script.extend(pieces.map(Step::chunk));
            script.push(Step::last_chunk());
            let upstream = Upstream::hosts([("a.test", vec![fails(529)]), ("b.test", vec![script])]);
            let gateway = TestGateway::new(&config(kind), &upstream);
            let reply = gateway.call(&post(path, "pk-1", r#"{"model":"fast","stream":true}"#)).await;
            assert_eq!((reply.text(), reply.complete), (stream.replace("NAME", "fast"), true), "{path} {width}");
            let asked: Vec<String> = upstream.requests();
            assert_eq!([model_of(&asked[0]), model_of(&asked[1])], ["first-model", "second-model"], "{path}");
            let record = gateway.record().await;
            assert_eq!((&record["model_asked"], &record["model_served"]), (&"fast".into(), &"second-model".into()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_keeps_its_words_and_a_name_that_is_no_alias_is_left_alone() {
    let theirs = r#"{"error":{"message":"The model first-model is busy","code":"x"},"model":"first-model"}"#;
    let upstream = Upstream::hosts([("a.test", vec![fails_with(429, "", theirs)])]);
    let gateway = TestGateway::new(&config("openai").replace("[first, second]", "[first]"), &upstream);
    let reply = gateway.call(&post(CHAT, "pk-1", r#"{"model":"fast"}"#)).await;
    assert_eq!((reply.status, reply.text().as_str()), (429, theirs));
    let upstream = Upstream::hosts([("a.test", vec![answers()])]);
    let gateway = TestGateway::new(ONE_KEY, &upstream);
    assert_eq!(gateway.call(&post(CHAT, "pk-1", r#"{"model":"fast"}"#)).await.text(), ANSWER);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_knows_the_model_by_its_own_name_answers_for_one_with_an_alias() {
    let config = two_channels_with_failover()
        .replace("api_key: real-1", "api_key: real-1, models: {fast: first-model}")
        .replace("api_key: real-2", "api_key: real-2, models: [fast]");
    let upstream = Upstream::hosts([("a.test", vec![fails(503)]), ("b.test", vec![answers()])]);
    let gateway = TestGateway::new(&config, &upstream);
    let reply = gateway.call(&post(CHAT, "pk-1", r#"{"model":"fast"}"#)).await;
    assert_eq!(reply.text(), ANSWER, "no alias, so nothing is changed");
    assert!(upstream.requests()[1].ends_with(r#"{"model":"fast"}"#));
    assert_eq!(gateway.record().await["model_served"], "m-served");
}
