//! Given a provider's response, as section 2 of the protocol notes has it, then this usage, model and end.

use aiproxy_llm::dialect::{Dialect, Operation};
use aiproxy_llm::meter::{Meter, MeterError, MeterKind, Metered};
use aiproxy_llm::usage::{Usage, UsageFlaw};

fn meter(dialect: Dialect, operation: Operation, kind: MeterKind, body: &str) -> Metered {
    let mut meter = Meter::new(dialect, operation, kind);
    for chunk in body.as_bytes().chunks(7) {
        meter.feed(chunk);
    }
    meter.finish()
}

fn openai(operation: Operation, body: &str) -> Metered {
    meter(Dialect::Openai, operation, MeterKind::Json, body)
}

fn stream(dialect: Dialect, operation: Operation, body: &str) -> Metered {
    meter(dialect, operation, MeterKind::Sse, body)
}

fn tokens(input: u64, output: u64) -> Usage {
    Usage { input: Some(input), output: Some(output), ..Usage::default() }
}

#[test]
fn openai_chat() {
    let metered = openai(
        Operation::ChatCompletions,
        r#"{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"gpt-x","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}}"#,
    );
    assert_eq!(metered.usage, Some(Usage { cached: Some(4), reasoning: Some(3), ..tokens(19, 10) }));
    assert_eq!(metered.model.as_deref(), Some("gpt-x"));
    assert!(metered.finished && metered.error.is_none() && metered.flaws.is_empty());
}

const CHAT_STREAM: &str = concat!(
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}}"#,
    "\n\ndata: [DONE]\n\n"
);

#[test]
fn openai_chat_stream() {
    let metered = stream(Dialect::Openai, Operation::ChatCompletions, CHAT_STREAM);
    assert_eq!(metered.usage, Some(tokens(19, 10)));
    assert_eq!((metered.model.as_deref(), metered.finished, metered.events), (Some("gpt-x"), true, 3));
    // Cut off: what was seen, and not finished.
    let metered = stream(Dialect::Openai, Operation::ChatCompletions, &CHAT_STREAM[..200]);
    assert_eq!((metered.usage, metered.finished), (None, false));
}

#[test]
fn a_compatible_stream_has_usage_on_its_last_choice() {
    let metered = stream(
        Dialect::Openai,
        Operation::ChatCompletions,
        "data: {\"model\": \"mistral\", \"choices\": [{\"finish_reason\": null}]}\n\ndata: {\"model\": \"mistral\", \"choices\": [{\"finish_reason\": \"stop\"}], \"usage\": {\"prompt_tokens\": 5, \"completion_tokens\": 7, \"prompt_audio_seconds\": 2}}\n\n",
    );
    assert_eq!(metered.usage, Some(Usage { seconds_ms: Some(2000), ..tokens(5, 7) }));
    assert!(metered.finished, "a finish reason ends it even without [DONE]");
}

#[test]
fn openai_responses() {
    let usage = r#""usage":{"input_tokens":19,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":0},"output_tokens":10,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":29}"#;
    let expected = Usage { cached: Some(4), cache_write: Some(0), reasoning: Some(3), ..tokens(19, 10) };
    let body = format!(
        r#"{{"id":"resp_1","object":"response","status":"completed","error":null,"model":"gpt-x","output":[],{usage}}}"#
    );
    let metered = openai(Operation::Responses, &body);
    assert_eq!((metered.usage, metered.error, metered.finished), (Some(expected), None, true));

    let events = format!(
        "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{{\"model\":\"gpt-x\",\"error\":null,\"usage\":null}}}}\n\nevent: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}}\n\nevent: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":8,\"response\":{body}}}\n\n"
    );
    let metered = stream(Dialect::Openai, Operation::Responses, &events);
    assert_eq!((metered.usage, metered.events, metered.finished), (Some(expected), 3, true));
    assert_eq!((metered.model.as_deref(), metered.error), (Some("gpt-x"), None));

    let failed = "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"m\"},\"usage\":null}}\n\n";
    let metered = stream(Dialect::Openai, Operation::Responses, failed);
    assert_eq!(metered.error.unwrap().code.as_deref(), Some("server_error"));
    assert!(metered.finished);
    let error = "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"slow\",\"param\":null}\n\n";
    let metered = stream(Dialect::Openai, Operation::Responses, error);
    assert_eq!(metered.error.unwrap().code.as_deref(), Some("rate_limit_exceeded"));
}

#[test]
fn openai_embeddings_images_and_audio() {
    let metered = openai(
        Operation::Embeddings,
        r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1,-0.2]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":5,"total_tokens":5}}"#,
    );
    assert_eq!(metered.usage, Some(Usage { input: Some(5), ..Usage::default() }));

    let metered = openai(
        Operation::Images,
        r#"{"created":1,"data":[{"b64_json":"iVBO"}],"usage":{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":1056,"total_tokens":1106}}"#,
    );
    assert_eq!(metered.usage, Some(Usage { image_input: Some(40), ..tokens(50, 1056) }));

    let metered = stream(
        Dialect::Openai,
        Operation::Images,
        "event: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"x\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}\n\n",
    );
    assert_eq!((metered.usage, metered.finished), (Some(tokens(1, 2)), true));

    let metered = openai(
        Operation::Transcription,
        r#"{"text":"hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}}"#,
    );
    assert_eq!(metered.usage, Some(Usage { audio_input: Some(14), ..tokens(14, 45) }));
    let metered = openai(Operation::Transcription, r#"{"text":"hi","usage":{"type":"duration","seconds":5}}"#);
    assert_eq!(metered.usage, Some(Usage { seconds_ms: Some(5000), ..Usage::default() }));
    let metered = stream(
        Dialect::Openai,
        Operation::Transcription,
        "data: {\"type\":\"transcript.text.delta\",\"delta\":\"h\"}\n\ndata: {\"type\":\"transcript.text.done\",\"text\":\"hi\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"output_tokens\":45}}\n\n",
    );
    assert_eq!((metered.usage, metered.finished), (Some(tokens(14, 45)), true));
    let metered = stream(
        Dialect::Openai,
        Operation::Speech,
        "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4,\"total_tokens\":7}}\n\n",
    );
    assert_eq!((metered.usage, metered.finished), (Some(tokens(3, 4)), true));
}

#[test]
fn anthropic_messages() {
    let start = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":12,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"output_tokens":1}}}"#;
    let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":6}}"#;
    let text = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#;
    let events = format!(
        "event: message_start\ndata: {start}\n\nevent: ping\ndata: {{\"type\":\"ping\"}}\n\nevent: content_block_delta\ndata: {text}\n\nevent: message_delta\ndata: {delta}\n\n"
    );
    let expected = Usage { cached: Some(4), cache_write: Some(3), ..tokens(19, 6) };
    let metered = stream(Dialect::Anthropic, Operation::Messages, &events);
    assert_eq!((metered.usage, metered.model.as_deref(), metered.finished), (Some(expected), Some("claude-x"), false));
    let metered = stream(
        Dialect::Anthropic,
        Operation::Messages,
        &format!("{events}event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"),
    );
    assert_eq!((metered.usage, metered.events, metered.finished), (Some(expected), 5, true));

    let whole = r#"{"type":"message","model":"claude-x","content":[],"usage":{"input_tokens":12,"cache_creation_input_tokens":3,"cache_read_input_tokens":4,"cache_creation":{"ephemeral_5m_input_tokens":1,"ephemeral_1h_input_tokens":2},"output_tokens":6,"output_tokens_details":{"thinking_tokens":5},"server_tool_use":{"web_search_requests":1}}}"#;
    let metered = meter(Dialect::Anthropic, Operation::Messages, MeterKind::Json, whole);
    let more = Usage { cache_write_long: Some(2), reasoning: Some(5), searches: Some(1), ..expected };
    assert_eq!(metered.usage, Some(more));

    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let metered = stream(Dialect::Anthropic, Operation::Messages, error);
    let expected = MeterError { code: None, kind: Some("overloaded_error".into()), message: Some("Overloaded".into()) };
    assert_eq!((metered.error, metered.finished), (Some(expected), false));
    let counted = meter(Dialect::Anthropic, Operation::CountTokens, MeterKind::Json, r#"{"input_tokens":12}"#);
    assert_eq!(counted.usage, None, "counting is free");
}

const GEMINI: &str = r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"hi"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":5,"thoughtsTokenCount":7,"cachedContentTokenCount":2,"totalTokenCount":20,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":6},{"modality":"TEXT","tokenCount":2}]},"modelVersion":"gemini-x","responseId":"r1"}"#;

#[test]
fn gemini_in_all_three_framings() {
    let partial = r#"{"candidates":[{"content":{"parts":[{"text":"h"}]}}],"usageMetadata":{"promptTokenCount":8},"modelVersion":"gemini-x"}"#;
    let expected = Usage { cached: Some(2), reasoning: Some(7), audio_input: Some(6), ..tokens(8, 12) };
    for (kind, body, events) in [
        (MeterKind::Json, GEMINI.to_owned(), 1),
        (MeterKind::Sse, format!("data: {partial}\r\n\r\ndata: {GEMINI}\r\n\r\n"), 2),
        (MeterKind::JsonArray, format!("[{partial}\n,\r\n{GEMINI}]"), 2),
        (MeterKind::JsonArray, GEMINI.to_owned(), 1),
    ] {
        let metered = meter(Dialect::Gemini, Operation::StreamGenerateContent, kind, &body);
        assert_eq!((metered.usage, metered.events, metered.finished), (Some(expected), events, true), "{kind:?}");
        assert_eq!(metered.model.as_deref(), Some("gemini-x"));
    }
    let error = r#"[{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED"}}]"#;
    let metered = meter(Dialect::Gemini, Operation::StreamGenerateContent, MeterKind::JsonArray, error);
    let error = metered.error.unwrap();
    assert_eq!((error.code.as_deref(), error.kind.as_deref()), (Some("429"), Some("RESOURCE_EXHAUSTED")));
    let cut = meter(Dialect::Gemini, Operation::StreamGenerateContent, MeterKind::JsonArray, &format!("[{partial},"));
    assert_eq!((cut.usage, cut.finished), (Some(Usage { input: Some(8), ..Usage::default() }), false));
}

#[test]
fn dashscope_stream() {
    let first = "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"he\"},\"finish_reason\":\"null\"}]},\"usage\":{\"input_tokens\":9,\"output_tokens\":1,\"total_tokens\":10},\"request_id\":\"r\"}\n\n";
    let last = "id:2\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"hey\"},\"finish_reason\":\"stop\"}]},\"usage\":{\"input_tokens\":9,\"output_tokens\":2,\"total_tokens\":11},\"request_id\":\"r\"}\n\n";
    let metered = stream(Dialect::Dashscope, Operation::DashscopeGeneration, first);
    assert_eq!((metered.usage, metered.finished), (Some(tokens(9, 1)), false));
    let metered = stream(Dialect::Dashscope, Operation::DashscopeGeneration, &format!("{first}{last}"));
    assert_eq!((metered.usage, metered.finished, metered.events), (Some(tokens(9, 2)), true, 2));
    let error = "id:1\nevent:error\n:HTTP_STATUS/429\ndata:{\"code\":\"Throttling.RateQuota\",\"message\":\"m\",\"request_id\":\"r\"}\n\n";
    let metered = stream(Dialect::Dashscope, Operation::DashscopeGeneration, error);
    assert_eq!(metered.error.unwrap().code.as_deref(), Some("Throttling.RateQuota"));
}

#[test]
fn dashscope_services() {
    let usage = |raw: &str| {
        let body = format!(r#"{{"request_id":"r","output":{{}},"usage":{raw}}}"#);
        meter(Dialect::Dashscope, Operation::DashscopeService, MeterKind::Json, &body).usage.unwrap()
    };
    let none = Usage::default();
    assert_eq!(usage(r#"{"total_tokens":7}"#), Usage { input: Some(7), ..none });
    assert_eq!(usage(r#"{"image_count":1}"#), Usage { image: Some(1), ..none });
    assert_eq!(
        usage(r#"{"video_count":1,"video_duration":5,"video_ratio":"16:9"}"#),
        Usage { video: Some(1), seconds_ms: Some(5000), ..none }
    );
    assert_eq!(usage(r#"{"characters":13}"#), Usage { characters: Some(13), ..none });
    assert_eq!(usage(r#"{"duration":3.7}"#), Usage { seconds_ms: Some(3700), ..none });
    assert_eq!(
        usage(
            r#"{"input_tokens":9,"output_tokens":2,"image_tokens":5,"audio_tokens":3,"prompt_tokens_details":{"cached_tokens":1},"output_tokens_details":{"reasoning_tokens":1}}"#
        ),
        Usage { image_input: Some(5), audio_input: Some(3), cached: Some(1), reasoning: Some(1), ..tokens(9, 2) }
    );
    let pending = meter(
        Dialect::Dashscope,
        Operation::DashscopeImage,
        MeterKind::Json,
        r#"{"request_id":"r","output":{"task_id":"t","task_status":"PENDING"}}"#,
    );
    assert_eq!((pending.usage, pending.error, pending.finished), (None, None, true));
    let refused = meter(
        Dialect::Dashscope,
        Operation::DashscopeImage,
        MeterKind::Json,
        r#"{"code":"InvalidParameter","message":"m","request_id":"r"}"#,
    );
    assert_eq!(refused.error.unwrap().code.as_deref(), Some("InvalidParameter"));
}

#[test]
fn cohere_and_bedrock() {
    let usage = r#"{"billed_units":{"input_tokens":5.0,"output_tokens":7},"tokens":{"input_tokens":60,"output_tokens":8},"cached_tokens":2}"#;
    let expected = Some(Usage { cached: Some(2), ..tokens(5, 7) });
    assert_eq!(openai(Operation::CohereChat, &format!(r#"{{"id":"c","usage":{usage}}}"#)).usage, expected);
    let metered = stream(
        Dialect::Openai,
        Operation::CohereChat,
        &format!(
            "event: message-end\ndata: {{\"type\":\"message-end\",\"delta\":{{\"finish_reason\":\"COMPLETE\",\"usage\":{usage}}}}}\n\n"
        ),
    );
    assert_eq!((metered.usage, metered.finished), (expected, true));
    let reranked = openai(Operation::Rerank, r#"{"results":[],"meta":{"billed_units":{"search_units":1}}}"#);
    assert_eq!(reranked.usage, Some(Usage { searches: Some(1), ..Usage::default() }));
    let converse =
        r#"{"output":{},"usage":{"inputTokens":10,"outputTokens":5,"totalTokens":18,"cacheReadInputTokens":3}}"#;
    let metered = meter(Dialect::Anthropic, Operation::BedrockConverse, MeterKind::Json, converse);
    assert_eq!(metered.usage, Some(Usage { cached: Some(3), ..tokens(13, 5) }));
}

#[test]
fn realtime_and_live_usage_objects_are_read_too() {
    use aiproxy_llm::usage::{UsageForm, parse};
    let realtime = br#"{"total_tokens":275,"input_tokens":127,"output_tokens":148,"input_token_details":{"text_tokens":119,"audio_tokens":8,"image_tokens":0,"cached_tokens":64,"cached_tokens_details":{"text_tokens":64}},"output_token_details":{"text_tokens":36,"audio_tokens":112}}"#;
    let expected = Usage {
        cached: Some(64),
        audio_input: Some(8),
        audio_output: Some(112),
        image_input: Some(0),
        ..tokens(127, 148)
    };
    assert_eq!(parse(UsageForm::Openai, realtime).usage, Some(expected));
    let live = br#"{"promptTokenCount":11,"responseTokenCount":7,"totalTokenCount":18,"responseTokensDetails":[{"modality":"AUDIO","tokenCount":7}]}"#;
    assert_eq!(parse(UsageForm::Gemini, live).usage, Some(Usage { audio_output: Some(7), ..tokens(11, 7) }));
    assert_eq!(
        parse(UsageForm::Dashscope, br#"{"characters":13}"#).usage,
        Some(Usage { characters: Some(13), ..Usage::default() })
    );
    assert_eq!(parse(UsageForm::Openai, b"null"), Default::default());
}

#[test]
fn errors_and_flaws_are_told() {
    let metered = openai(
        Operation::ChatCompletions,
        r#"{"error":{"message":"m","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
    );
    let error = metered.error.unwrap();
    assert_eq!(
        (error.code.as_deref(), error.kind.as_deref()),
        (Some("model_not_found"), Some("invalid_request_error"))
    );
    let metered = stream(
        Dialect::Openai,
        Operation::ChatCompletions,
        "data: {\"model\":\"m\",\"choices\":[]}\n\ndata: {\"error\": \"boom\"}\n\n",
    );
    assert_eq!(metered.error.unwrap().message.as_deref(), Some("boom"));
    let metered = openai(
        Operation::ChatCompletions,
        r#"{"usage":{"prompt_tokens":-5,"completion_tokens":99999999999999,"prompt_tokens_details":{"cached_tokens":"4"}}}"#,
    );
    assert_eq!(metered.usage, None);
    assert_eq!(metered.flaws, [UsageFlaw::Negative, UsageFlaw::Absurd, UsageFlaw::NotACount]);
    let metered = openai(Operation::ChatCompletions, r#"{"usage":[1]}"#);
    assert_eq!((metered.usage, metered.flaws), (None, vec![UsageFlaw::Unreadable]));
    assert!(!openai(Operation::ChatCompletions, r#"{"usage":{"prompt_tokens":1"#).finished);
    assert!(meter(Dialect::Openai, Operation::Speech, MeterKind::Other, "RIFF").finished);
}

#[test]
fn the_framing_is_told_by_the_content_type() {
    let of = MeterKind::of;
    assert_eq!(of(Operation::ChatCompletions, "text/event-stream; charset=utf-8"), MeterKind::Sse);
    assert_eq!(of(Operation::StreamGenerateContent, "application/json"), MeterKind::JsonArray);
    assert_eq!(of(Operation::GenerateContent, "Application/JSON"), MeterKind::Json);
    assert_eq!(of(Operation::ChatCompletions, "application/problem+json"), MeterKind::Json);
    assert_eq!(of(Operation::Speech, "audio/mpeg"), MeterKind::Other);
    assert_eq!(of(Operation::Speech, ""), MeterKind::Other);
}

#[test]
fn numbers_that_cannot_be_are_refused_and_the_others_kept() {
    use UsageFlaw::{Absurd, Inconsistent, Negative, NotACount, Unreadable};
    use aiproxy_llm::usage::{UsageForm, parse};
    let output = |output| Usage { output: Some(output), ..Usage::default() };
    for (raw, expected, flaws) in [
        (r#"{"prompt_tokens":-1,"completion_tokens":7}"#, Some(output(7)), vec![Negative]),
        (r#"{"prompt_tokens":1.5,"completion_tokens":7}"#, Some(output(7)), vec![NotACount]),
        (r#"{"prompt_tokens":"NaN","completion_tokens":7}"#, Some(output(7)), vec![NotACount]),
        (r#"{"prompt_tokens":"5","completion_tokens":7}"#, Some(output(7)), vec![NotACount]),
        (r#"{"prompt_tokens":true,"completion_tokens":7}"#, Some(output(7)), vec![NotACount]),
        (r#"{"prompt_tokens":1000000000001,"completion_tokens":7}"#, Some(output(7)), vec![Absurd]),
        (r#"{"prompt_tokens":18446744073709551621,"completion_tokens":7}"#, Some(output(7)), vec![Absurd]),
        (r#"{"prompt_tokens":1e300,"completion_tokens":7}"#, Some(output(7)), vec![Absurd]),
        (r#"{"prompt_tokens":NaN,"completion_tokens":7}"#, None, vec![Unreadable]),
        (r#"{"prompt_tokens":null,"completion_tokens":null}"#, None, vec![]),
        (r#"{"prompt_tokens":0,"completion_tokens":0}"#, Some(tokens(0, 0)), vec![]),
        (
            r#"{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":6},"completion_tokens_details":{"reasoning_tokens":8}}"#,
            Some(tokens(5, 7)),
            vec![Inconsistent],
        ),
        (
            r#"{"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":5,"cache_write_tokens":1}}"#,
            Some(Usage { cached: Some(5), ..tokens(5, 7) }),
            vec![Inconsistent],
        ),
    ] {
        let report = parse(UsageForm::Openai, raw.as_bytes());
        assert_eq!((report.usage, report.flaws), (expected, flaws), "{raw}");
    }
    let largest = br#"{"input_tokens":1000000000000,"cache_read_input_tokens":1000000000000,"output_tokens":1}"#;
    let report = parse(UsageForm::Anthropic, largest);
    assert_eq!((report.usage.unwrap().input, report.flaws), (None, vec![Absurd]), "a sum may be absurd too");
    let longer =
        br#"{"input_tokens":1,"cache_creation_input_tokens":2,"cache_creation":{"ephemeral_1h_input_tokens":3}}"#;
    let report = parse(UsageForm::Anthropic, longer);
    let expected = Usage { input: Some(3), cache_write: Some(2), ..Usage::default() };
    assert_eq!((report.usage, report.flaws), (Some(expected), vec![Inconsistent]));
    let sound = br#"{"input_tokens":33,"output_tokens":10,"audio_tokens":85}"#;
    let report = parse(UsageForm::Dashscope, sound);
    assert_eq!((report.usage, report.flaws), (Some(Usage { audio_input: Some(85), ..tokens(33, 10) }), vec![]));
}

#[test]
fn the_total_tells_what_was_counted_apart() {
    use aiproxy_llm::usage::{UsageForm, parse};
    let of = |raw: &str| parse(UsageForm::Openai, raw.as_bytes());
    let reasoned = of(
        r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":333,"completion_tokens_details":{"reasoning_tokens":292}}"#,
    );
    assert_eq!(reasoned.usage, Some(Usage { reasoning: Some(292), ..tokens(32, 301) }), "as xAI counts");
    let cached = of(
        r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":105,"prompt_tokens_details":{"cached_tokens":90}}"#,
    );
    assert_eq!(cached.usage, Some(Usage { cached: Some(90), ..tokens(100, 5) }));
    assert!(reasoned.flaws.is_empty() && cached.flaws.is_empty());
    let inside = of(
        r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,"prompt_tokens_details":{"cached_tokens":90},"completion_tokens_details":{"reasoning_tokens":40}}"#,
    );
    assert_eq!(
        inside.usage,
        Some(Usage { cached: Some(90), reasoning: Some(40), ..tokens(100, 50) }),
        "as OpenAI counts"
    );
}

#[test]
fn reports_that_grow_are_not_summed() {
    let gemini = |prompt: u64, candidates: u64| {
        format!(
            "data: {{\"usageMetadata\":{{\"promptTokenCount\":{prompt},\"candidatesTokenCount\":{candidates}}}}}\r\n\r\n"
        )
    };
    let body = [gemini(8, 1), gemini(8, 5), gemini(8, 9)].concat();
    assert_eq!(stream(Dialect::Gemini, Operation::StreamGenerateContent, &body).usage, Some(tokens(8, 9)));
    let dashscope = |output: u64| {
        format!(
            "data:{{\"output\":{{}},\"usage\":{{\"input_tokens\":9,\"output_tokens\":{output},\"total_tokens\":{}}}}}\n\n",
            9 + output
        )
    };
    let body = [dashscope(1), dashscope(2), dashscope(7)].concat();
    assert_eq!(stream(Dialect::Dashscope, Operation::DashscopeGeneration, &body).usage, Some(tokens(9, 7)));
    let message = |output: u64| {
        format!(
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":{output}}}}}\n\n"
        )
    };
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":12,\"output_tokens\":1}}}\n\n";
    let body = [start, &message(3), &message(6)].concat();
    assert_eq!(stream(Dialect::Anthropic, Operation::Messages, &body).usage, Some(tokens(12, 6)));
    let chat = |output: u64| {
        format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":4,\"completion_tokens\":{output}}}}}\n\n")
    };
    let body = [chat(0), chat(3), chat(5)].concat();
    assert_eq!(stream(Dialect::Openai, Operation::ChatCompletions, &body).usage, Some(tokens(4, 5)));
}

#[test]
fn an_explicit_zero_stays_a_zero() {
    let body = r#"{"choices":[{"message":{"content":"text all the same"}}],"usage":{"prompt_tokens":0,"completion_tokens":0}}"#;
    let metered = openai(Operation::ChatCompletions, body);
    assert_eq!(metered.usage, Some(tokens(0, 0)));
    assert!(metered.delivered.output_tokens > 0 && metered.flaws.is_empty());
    let estimated = Usage::estimated(3, 0);
    assert_eq!(estimated, tokens(3, 0));
    assert!(!estimated.is_empty());
}
