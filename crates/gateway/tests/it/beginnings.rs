//! A 200 that turns out to be an error: before the first real event the call goes on, after it nothing is sent again.

use aiproxy_testkit::gateway::post;
use aiproxy_testkit::{Step, TestGateway, Upstream};

use crate::ANSWER;
use crate::places::*;

/// What a provider says in a stream: hello, an error, real content.
struct Stream {
    kind: &'static str,
    path: &'static str,
    hello: &'static str,
    error: &'static str,
    content: &'static str,
    /// How an error made by the gateway begins in the middle of this stream.
    own_error: &'static str,
}

const STREAMS: [Stream; 6] = [
    Stream {
        kind: "openai",
        path: CHAT,
        hello: "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        error: "data: {\"error\":{\"message\":\"theirs\",\"type\":\"server_error\",\"code\":\"server_error\"}}\n\n",
        content: "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n",
        own_error: "data: {\"error\":",
    },
    Stream {
        kind: "openai",
        path: "/v1/responses",
        hello: "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"error\":null}}\n\n\
                event: response.in_progress\ndata: {\"type\":\"response.in_progress\",\"response\":{\"id\":\"r\"}}\n\n",
        error: "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"theirs\"}\n\n",
        content: "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\n",
        own_error: "event: error\ndata: {",
    },
    Stream {
        kind: "openai",
        path: "/v1/responses",
        hello: "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"error\":null}}\n\n",
        error: "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"theirs\"}}}\n\n",
        content: "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\n",
        own_error: "event: error\ndata: {",
    },
    Stream {
        kind: "anthropic",
        path: "/v1/messages",
        hello: "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":9}}}\n\n\
                event: ping\ndata: {\"type\":\"ping\"}\n\n",
        error: "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
        content: "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n",
        own_error: "event: error\ndata: {",
    },
    Stream {
        kind: "gemini",
        path: "/v1beta/models/m:streamGenerateContent?alt=sse",
        hello: "",
        error: "data: {\"error\":{\"code\":503,\"message\":\"theirs\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n",
        content: "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hi\"}]}}]}\r\n\r\n",
        own_error: "data: {\"error\":",
    },
    Stream {
        kind: "dashscope",
        path: "/api/v1/services/aigc/text-generation/generation",
        hello: "",
        error: "id:1\nevent:error\n:HTTP_STATUS/429\ndata:{\"code\":\"Throttling.RateQuota\",\"message\":\"theirs\",\"request_id\":\"r\"}\n\n",
        content: "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"text\":\"hi\"},\"usage\":{\"input_tokens\":1}}\n\n",
        own_error: "event:error\n",
    },
];

impl Stream {
    fn config(&self) -> String {
        TWO_KEYS.replace("kind: openai", &format!("kind: {}", self.kind))
    }

    fn call(&self) -> String {
        post(self.path, "pk-1", r#"{"model":"m","stream":true}"#)
    }
}

/// A stream of these events, and then its end.
fn streams(events: &[&str]) -> Vec<Step> {
    let mut script = vec![Step::Request, Step::sse_head()];
    script.extend(events.iter().filter(|event| !event.is_empty()).map(|event| Step::chunk(event)));
    script.push(Step::last_chunk());
    script
}

#[tokio::test(start_paused = true)]
async fn an_error_before_the_first_real_event_goes_on_and_leaves_no_trace() {
    for stream in STREAMS {
        let good = [stream.hello, stream.content].concat();
        let scripts = vec![streams(&[stream.hello, stream.error]), streams(&[&good])];
        let upstream = Upstream::hosts([("a.test", scripts)]);
        let gateway = TestGateway::new(&stream.config(), &upstream);
        let reply = gateway.call(&stream.call()).await;
        assert_eq!((reply.status, reply.text()), (200, good), "{}", stream.path);
        assert_eq!(keys(&upstream).len(), 2, "{}", stream.path);
        let record = gateway.record().await;
        assert_eq!((statuses(&record), &record["end"]), (vec![200, 200], &"complete".into()));
        assert!(record["attempts"][0]["why"].is_string() && record["attempts"][1]["why"].is_null(), "{record}");
        assert!(!record.to_string().contains("theirs"), "an upstream's sentence may quote the prompt");
    }
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_however_the_bytes_are_cut() {
    for stream in STREAMS {
        let bad = [stream.hello, stream.error].concat();
        let pieces: Vec<&str> = (0..bad.len()).step_by(7).map(|at| &bad[at..bad.len().min(at + 7)]).collect();
        let upstream = Upstream::hosts([("a.test", vec![streams(&pieces), streams(&[stream.content])])]);
        let gateway = TestGateway::new(&stream.config(), &upstream);
        assert_eq!(gateway.call(&stream.call()).await.text(), stream.content, "{}", stream.path);
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_begin_with_an_error_the_last_one_passes_through_whole() {
    for stream in STREAMS {
        let bad = [stream.hello, stream.error].concat();
        let upstream = Upstream::hosts([("a.test", vec![streams(&[stream.hello, stream.error])])]);
        let gateway = TestGateway::new(&stream.config(), &upstream);
        let reply = gateway.call(&stream.call()).await;
        assert_eq!((reply.status, reply.text(), reply.complete), (200, bad, true), "{}", stream.path);
        assert_eq!(keys(&upstream).len(), 2);
        let record = gateway.record().await;
        assert_eq!((&record["status"], &record["end"]), (&200.into(), &"upstream_error".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_real_event_nothing_is_sent_again() {
    for stream in STREAMS {
        let script =
            vec![Step::Request, Step::sse_head(), Step::chunk(stream.hello), Step::chunk(stream.content), Step::Reset];
        let script: Vec<Step> = if stream.hello.is_empty() { [&script[..2], &script[3..]].concat() } else { script };
        let config = with(&stream.config().replace(stream.kind, "openai"), "retry_ambiguous: true");
        let config = config.replace("kind: openai", &format!("kind: {}", stream.kind));
        let upstream = Upstream::hosts([("a.test", vec![script, answers()])]);
        let gateway = TestGateway::new(&config, &upstream);
        let reply = gateway.call(&stream.call()).await;
        let before = [stream.hello, stream.content, "\n\n", stream.own_error].concat();
        assert!(reply.complete && reply.text().starts_with(&before), "{}: {}", stream.path, reply.text());
        assert_eq!(keys(&upstream).len(), 1, "{}", stream.path);
        assert_eq!(gateway.record().await["end"], "upstream_error");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_after_a_real_event_is_the_callers_to_see() {
    for stream in STREAMS {
        let all = [stream.hello, stream.content, stream.error].concat();
        let script = streams(&[stream.hello, stream.content, stream.error]);
        let upstream = Upstream::hosts([("a.test", vec![script, answers()])]);
        let gateway = TestGateway::new(&stream.config(), &upstream);
        assert_eq!(gateway.call(&stream.call()).await.text(), all, "{}", stream.path);
        assert_eq!(keys(&upstream).len(), 1, "{}", stream.path);
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_an_error_goes_on_and_one_that_blames_the_call_does_not() {
    for (code, goes_on) in [
        ("server_error", true),
        ("insufficient_quota", true),
        ("rate_limit_exceeded", true),
        ("invalid_api_key", true),
        ("context_length_exceeded", false),
        ("invalid_prompt", false),
    ] {
        let bad = vec![Step::Request, Step::json(200, &error_body(code))];
        let upstream = Upstream::hosts([("a.test", vec![bad, answers()])]);
        let gateway = TestGateway::new(TWO_KEYS, &upstream);
        let expected = if goes_on { (ANSWER.to_owned(), 2) } else { (error_body(code), 1) };
        assert_eq!((chat(&gateway).await.text(), keys(&upstream).len()), expected, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_only_says_hello_is_handed_on_after_ten_seconds() {
    let [_, _, _, stream, ..] = STREAMS;
    let rest = Step::Wait(std::time::Duration::from_secs(30));
    let script = vec![
        Step::Request,
        Step::sse_head(),
        Step::chunk(stream.hello),
        rest,
        Step::chunk(stream.content),
        Step::last_chunk(),
    ];
    let gateway = TestGateway::new(&stream.config(), &Upstream::hosts([("a.test", vec![script])]));
    let start = tokio::time::Instant::now();
    let mut client = gateway.connect();
    client.send(stream.call()).await;
    client.read_until("message_start").await;
    assert_eq!(start.elapsed().as_secs(), 10);
    client.read_until("text_delta").await;
    assert_eq!(start.elapsed().as_secs(), 30);
}
