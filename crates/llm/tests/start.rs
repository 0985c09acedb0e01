//! Given the first bytes of a 200, then whether the response has begun, is an error, or is still to be waited for.

use aiproxy_llm::dialect::{Dialect, Operation};
use aiproxy_llm::fuzzing;
use aiproxy_llm::meter::{MeterError, MeterKind, Start, StreamStart};
use proptest::prelude::*;

use Dialect::{Anthropic, Dashscope, Gemini, Openai};
use MeterKind::{Json, JsonArray, Sse};
use Operation::{ChatCompletions, DashscopeGeneration, Messages, Responses, StreamGenerateContent};
use Start::{Content, Waiting};

fn start(dialect: Dialect, operation: Operation, kind: MeterKind, text: &str) -> Start {
    StreamStart::new(dialect, operation, kind).feed(text.as_bytes())
}

fn error(code: &str, kind: &str, message: &str) -> Start {
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Start::Error(MeterError { code: filled(code), kind: filled(kind), message: filled(message) })
}

#[test]
fn errors_in_place_of_the_first_event() {
    for (dialect, operation, stream, expected) in [
        (
            Openai,
            ChatCompletions,
            "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":\"c\"}}\n\n",
            error("c", "server_error", "m"),
        ),
        (Openai, ChatCompletions, "data: {\"error\":\"boom\"}\r\n\r\n", error("", "", "boom")),
        (
            Openai,
            ChatCompletions,
            "data: {\"object\":\"error\",\"message\":\"m\",\"type\":\"BadRequestError\",\"code\":400}\n\n",
            error("400", "BadRequestError", "m"),
        ),
        (
            Openai,
            Responses,
            "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"m\",\"param\":null}\n\n",
            error("server_error", "", "m"),
        ),
        (
            Openai,
            Responses,
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"c\",\"message\":\"m\"}}}\n\n",
            error("c", "", "m"),
        ),
        (
            Openai,
            Responses,
            "data: {\"type\":\"response.failed\",\"response\":{\"error\":null}}\n\n",
            error("", "", ""),
        ),
        (
            Anthropic,
            Messages,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n",
            error("", "overloaded_error", "m"),
        ),
        (Anthropic, Messages, "event: error\ndata: busy\n\n", error("", "", "")),
        (
            Gemini,
            StreamGenerateContent,
            "data: {\"error\":{\"code\":503,\"message\":\"m\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n",
            error("503", "UNAVAILABLE", "m"),
        ),
        (
            Dashscope,
            DashscopeGeneration,
            "id:1\nevent:error\n:HTTP_STATUS/429\ndata:{\"code\":\"Throttling.RateQuota\",\"message\":\"m\",\"request_id\":\"r\"}\n\n",
            error("Throttling.RateQuota", "", "m"),
        ),
        (
            Dashscope,
            DashscopeGeneration,
            "data:{\"code\":\"InvalidParameter\",\"message\":\"m\",\"output\":null}\n\n",
            error("InvalidParameter", "", "m"),
        ),
        // A gateway on the way speaks its own language.
        (Openai, ChatCompletions, "data: {\"code\":\"Arrearage\",\"message\":\"m\"}\n\n", error("Arrearage", "", "m")),
    ] {
        assert_eq!(start(dialect, operation, Sse, stream), expected, "{stream}");
        let content = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"error\":null}\n\n";
        assert_eq!(start(dialect, operation, Sse, &format!("{stream}{content}")), expected, "the first one counts");
        assert_eq!(start(dialect, operation, Sse, &format!("{content}{stream}")), Content, "an error behind content");
        let cut = stream.trim_ascii_end();
        assert_eq!(start(dialect, operation, Sse, cut), Waiting);
        let mut judge = StreamStart::new(dialect, operation, Sse);
        judge.feed(cut.as_bytes());
        assert_eq!(judge.finish(), expected, "cut off behind its data");
    }
}

#[test]
fn what_says_nothing_is_waited_through() {
    for (dialect, operation, stream) in [
        (Openai, ChatCompletions, ": OPENROUTER PROCESSING\n\n: keep-alive\n\n"),
        (Openai, ChatCompletions, "\n\nid: 1\nretry: 5\n\ndata:\n\ndata: \n\n"),
        (
            Openai,
            ChatCompletions,
            "data: {\"choices\":[],\"model\":\"\",\"prompt_filter_results\":[{\"prompt_index\":0}]}\n\n",
        ),
        (
            Openai,
            ChatCompletions,
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n",
        ),
        (
            Openai,
            ChatCompletions,
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[],\"reasoning_content\":\"\"}}]}\n\n",
        ),
        (
            Openai,
            Responses,
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\",\"error\":null}}\n\nevent: response.queued\ndata: {\"type\":\"response.queued\",\"response\":{}}\n\ndata: {\"type\":\"response.in_progress\",\"response\":{}}\n\n",
        ),
        (
            Anthropic,
            Messages,
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":1}}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n",
        ),
    ] {
        assert_eq!(start(dialect, operation, Sse, stream), Waiting, "{stream}");
        let failed = format!("{stream}data: {{\"error\":{{\"message\":\"m\"}}}}\n\n");
        assert_eq!(start(dialect, operation, Sse, &failed), error("", "", "m"), "{failed}");
        let mut judge = StreamStart::new(dialect, operation, Sse);
        judge.feed(stream.as_bytes());
        assert_eq!(judge.finish(), Content, "nothing speaks against it");
    }
    assert_eq!(StreamStart::new(Openai, ChatCompletions, Sse).finish(), Content, "an empty stream");
}

#[test]
fn content_is_seen_at_once() {
    for (dialect, operation, data) in [
        (Openai, ChatCompletions, r#"{"choices":[{"delta":{"role":"assistant","content":"h"}}]}"#),
        (Openai, ChatCompletions, r#"{"choices":[{"delta":{"reasoning_content":"h"}}]}"#),
        (Openai, ChatCompletions, r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#),
        (Openai, ChatCompletions, r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#),
        (Openai, ChatCompletions, r#"{"choices":[{"delta":{"role":"assistant"}}],"usage":{"prompt_tokens":1}}"#),
        (Openai, ChatCompletions, r#"{"choices":[{"delta":{"role":"assistant"}},{"delta":{"content":"h"}}]}"#),
        (Openai, ChatCompletions, r#"{"code":0,"message":"success","data":{}}"#),
        (Openai, ChatCompletions, "[DONE]"),
        (Openai, ChatCompletions, "plain text"),
        (Openai, Operation::Completions, r#"{"choices":[{"text":""}]}"#),
        (Openai, Responses, r#"{"type":"response.output_item.added","item":{"error":{"message":"m"}}}"#),
        (Anthropic, Messages, r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#),
        (Gemini, StreamGenerateContent, r#"{"candidates":[{"content":{"parts":[{"text":"h"}]}}]}"#),
        (Dashscope, DashscopeGeneration, r#"{"output":{"text":"h"},"code":"","message":""}"#),
        (Dashscope, DashscopeGeneration, r#"{"output":{"task_status":"FAILED","code":"c","message":"m"}}"#),
    ] {
        assert_eq!(start(dialect, operation, Sse, &format!("data: {data}\n\n")), Content, "{data}");
    }
}

#[test]
fn documents() {
    for (dialect, operation, kind, body, expected) in [
        (Openai, ChatCompletions, Json, r#"{"error":{"message":"m","code":"c"},"#, error("c", "", "m")),
        (Openai, ChatCompletions, Json, r#"{"id":"x","error":"boom""#, error("", "", "boom")),
        (Openai, ChatCompletions, Json, r#"{"error":null,"error":{},"error":false,"error":""}"#, Content),
        (Openai, ChatCompletions, Json, r#"{"error":{"message":"m"},"error":null}"#, error("", "", "m")),
        (Openai, ChatCompletions, Json, r#"{"choices":[{"error":{"message":"m"}}]}"#, Content),
        (Openai, ChatCompletions, Json, r#"{"choices":["#, Waiting),
        (Openai, ChatCompletions, Json, " \n\n", Waiting),
        (Openai, ChatCompletions, Json, "<html>", Content),
        (Openai, ChatCompletions, Json, r#"{"code":"c","message":"m"}"#, Content),
        (Openai, Responses, Json, r#"{"id":"r","error":null,"output":[]}"#, Content),
        (Openai, Operation::ResponsesRetrieve, Json, r#"{"error":{"message":"m"}}"#, Content),
        (Gemini, StreamGenerateContent, JsonArray, r#"[{"error":{"code":429,"message":"m"}}"#, error("429", "", "m")),
        (Gemini, StreamGenerateContent, JsonArray, r#"[{"candidates":[]},{"error":{"code":429}}"#, Content),
        (Gemini, StreamGenerateContent, JsonArray, "[]", Content),
        (Gemini, StreamGenerateContent, JsonArray, "[", Waiting),
        (Gemini, Operation::GenerateContent, Json, r#"[{"error":{"message":"m"}}]"#, error("", "", "m")),
        (Dashscope, DashscopeGeneration, Json, r#"{"code":"Arrearage","message":"m""#, error("Arrearage", "", "m")),
        (Dashscope, DashscopeGeneration, Json, r#"{"message":"m","code":"c""#, error("c", "", "m")),
        (Dashscope, DashscopeGeneration, Json, r#"{"code":"c","request_id":"r","#, Waiting),
        (Dashscope, DashscopeGeneration, Json, r#"{"code":"c","request_id":"r"}"#, error("c", "", "")),
        (Dashscope, DashscopeGeneration, Json, r#"{"code":"","message":"","output":{}}"#, Content),
        (
            Dashscope,
            Operation::DashscopeTask,
            Json,
            r#"{"request_id":"r","output":{"task_status":"FAILED","code":"c","message":"m"}}"#,
            Content,
        ),
        (Openai, Operation::Speech, MeterKind::Other, "", Content),
        (Openai, Operation::Speech, MeterKind::Other, r#"{"error":{"message":"m"}}"#, Content),
    ] {
        assert_eq!(start(dialect, operation, kind, body), expected, "{body}");
    }
}

#[test]
fn waiting_is_bounded() {
    let long = format!("{{\"data\":\"{}\"", "x".repeat(5000));
    assert_eq!(start(Openai, ChatCompletions, Json, &format!("{long},\"error\":\"late\"}}")), Content);
    let mut judge = StreamStart::new(Openai, ChatCompletions, Json);
    assert_eq!(judge.feed(&long.as_bytes()[..4095]), Waiting);
    assert_eq!(judge.feed(b"x"), Content);
    assert_eq!(judge.feed(b"\",\"error\":\"late\"}"), Content, "what is decided stays so");

    let mut judge = StreamStart::new(Openai, ChatCompletions, Sse);
    let comment = format!(": {}\n\n", "x".repeat(1020));
    for _ in 0..64 {
        assert_eq!(judge.feed(comment.as_bytes()), Waiting);
    }
    assert_eq!(judge.feed(b":"), Content);
    let created = format!("data: {{\"type\":\"response.created\",\"tools\":\"{}\"", "x".repeat(70_000));
    assert_eq!(start(Openai, Responses, Sse, &created), Content);
}

#[test]
fn what_is_decided_stays_so() {
    let mut judge = StreamStart::new(Openai, ChatCompletions, Sse);
    let failed = judge.feed(b"data: {\"error\":\"boom\"}\n\n");
    assert_eq!(failed, error("", "", "boom"));
    assert_eq!(judge.feed(b"data: {\"choices\":[{\"delta\":{\"content\":\"h\"}}]}\n\n"), failed);
    assert_eq!(judge.finish(), failed);
}

/// Streams and documents made of what matters.
fn text() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "data: ",
        "data:",
        "event: error\n",
        "event: ping\n",
        ": c\n\n",
        "\n",
        "\n\n",
        "\r\n\r\n",
        "\r",
        "\u{feff}",
        "[",
        "]",
        ",",
        "{",
        "}",
        " ",
        "\"error\":",
        "\"code\":\"c\"",
        "\"message\":\"m\"",
        "null",
        "true",
        "1",
        "\"boom\"",
        "{\"message\":\"m\"}",
        "{\"error\":{\"code\":\"c\"},\"error\":null}",
        "{\"error\":null,\"x\":1}",
        "{\"code\":\"c\",\"message\":\"m\",\"code\":\"\"}",
        "{\"error\":true}",
        "{\"error\" : 12 , \"a\":[]}",
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[]}\n\n",
        "data: {\"type\":\"response.created\",\"response\":{}}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"h\"}}]}\n\n",
        "data: {\"error\":\"boom\"}\n\n",
        "data: [DONE]\n\n",
        "data: {\"code\":\"c\",\"message\":\"m\"}\n\n",
    ]);
    prop::collection::vec(part, 0..10).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn the_start_is_the_same_wherever_it_is_cut(seed: u8, text in text()) {
        fuzzing::start(&[&[seed], text.as_bytes()].concat());
    }

    #[test]
    fn nothing_panics_on_arbitrary_bytes(input in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::start(&input);
    }
}
