//! Given a provider's real answer and the shipped prices, then this cost to the micro-unit, streamed or not.

use aiproxy_llm::dialect::{Dialect, Operation};
use aiproxy_llm::meter::{Meter, MeterKind};
use aiproxy_llm::prices::{Cost, PriceTable};
use aiproxy_llm::usage::{Usage, UsageForm, parse};

/// What the meter reads of a body, fed in small pieces.
fn metered(dialect: Dialect, operation: Operation, kind: MeterKind, body: &str) -> Option<Usage> {
    let mut meter = Meter::new(dialect, operation, kind);
    body.as_bytes().chunks(7).for_each(|chunk| meter.feed(chunk));
    meter.finish().usage
}

fn price(family: &str, model: &str, usage: Option<Usage>) -> Option<i64> {
    PriceTable::shipped().price("channel", family, model, usage.as_ref()).micro()
}

fn chat(model: &str, usage: &str) -> Option<i64> {
    let whole = format!(
        r#"{{"id":"c","model":"{model}","choices":[{{"index":0,"message":{{"content":"hi"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
    );
    let chunk =
        format!(r#"{{"id":"c","model":"{model}","choices":[{{"index":0,"delta":{{"content":"hi"}}}}],"usage":null}}"#);
    let last = format!(r#"{{"id":"c","model":"{model}","choices":[],"usage":{usage}}}"#);
    let stream = format!("data: {chunk}\n\ndata: {last}\n\ndata: [DONE]\n\n");
    let operation = Operation::ChatCompletions;
    let cost = price("openai", model, metered(Dialect::Openai, operation, MeterKind::Json, &whole));
    let streamed = price("openai", model, metered(Dialect::Openai, operation, MeterKind::Sse, &stream));
    assert_eq!(cost, streamed, "{model} costs the same streamed");
    cost
}

#[test]
fn openai_counts_cached_tokens_inside_the_input() {
    let usage = r#"{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}}"#;
    // 86 × 2.5 + 1,920 × 1.25 + 300 × 10
    assert_eq!(chat("gpt-4o-2024-08-06", usage), Some(5_615));
    // 86 × 0.15 + 1,920 × 0.075 + 300 × 0.6 = 336.9
    assert_eq!(chat("gpt-4o-mini", usage), Some(337));
}

#[test]
fn reasoning_is_inside_the_output_and_not_charged_twice() {
    let usage = r#"{"prompt_tokens":75,"completion_tokens":1186,"total_tokens":1261,"completion_tokens_details":{"reasoning_tokens":1024}}"#;
    // 75 × 1.25 + 1,186 × 10 = 11,953.75
    assert_eq!(chat("gpt-5", usage), Some(11_954));

    let usage = r#""usage":{"input_tokens":75,"input_tokens_details":{"cached_tokens":0},"output_tokens":1186,"output_tokens_details":{"reasoning_tokens":1024},"total_tokens":1261}"#;
    let body = format!(
        r#"{{"id":"r","object":"response","status":"completed","model":"gpt-5-2025-08-07","output":[],{usage}}}"#
    );
    let stream =
        format!("event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{body}}}\n\n");
    let whole = metered(Dialect::Openai, Operation::Responses, MeterKind::Json, &body);
    let streamed = metered(Dialect::Openai, Operation::Responses, MeterKind::Sse, &stream);
    assert_eq!(price("openai", "gpt-5-2025-08-07", whole), Some(11_954));
    assert_eq!(price("openai", "gpt-5-2025-08-07", streamed), Some(11_954));
}

#[test]
fn deepseek_writes_its_cache_hits_elsewhere() {
    let usage = r#"{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}"#;
    // 36 × 0.28 + 64 × 0.028 + 10 × 0.42 = 16.072
    assert_eq!(chat("deepseek-chat", usage), Some(16));
}

#[test]
fn anthropic_counts_cached_tokens_apart_and_writes_at_two_prices() {
    let input = r#""input_tokens":50,"cache_read_input_tokens":100000,"cache_creation_input_tokens":2000,"cache_creation":{"ephemeral_5m_input_tokens":1500,"ephemeral_1h_input_tokens":500}"#;
    let searches = r#""server_tool_use":{"web_search_requests":2}"#;
    let model = "claude-sonnet-4-5-20250929";
    let whole = format!(
        r#"{{"id":"m","type":"message","model":"{model}","content":[],"stop_reason":"end_turn","usage":{{{input},"output_tokens":503,{searches}}}}}"#
    );
    let stream = format!(
        concat!(
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"m\",\"model\":\"{model}\",\"usage\":{{{input},\"output_tokens\":1}}}}}}\n\n",
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{{\"output_tokens\":503,{searches}}}}}\n\n",
            "event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
        ),
        model = model,
        input = input,
        searches = searches
    );
    // 50 × 3 + 100,000 × 0.3 + 1,500 × 3.75 + 500 × 6 + 503 × 15 + 2 × 10,000
    let whole = metered(Dialect::Anthropic, Operation::Messages, MeterKind::Json, &whole);
    assert_eq!(price("anthropic", model, whole), Some(66_320));
    let streamed = metered(Dialect::Anthropic, Operation::Messages, MeterKind::Sse, &stream);
    assert_eq!(price("anthropic", model, streamed), Some(66_320));
    // The same through Bedrock, whose converse names the parts otherwise and has no searches and one lifetime.
    let converse =
        br#"{"inputTokens":50,"outputTokens":503,"cacheReadInputTokens":100000,"cacheWriteInputTokens":2000}"#;
    let usage = parse(UsageForm::Bedrock, converse).usage;
    assert_eq!(price("bedrock", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", usage), Some(45_195));
}

#[test]
fn a_long_context_makes_the_whole_call_dearer() {
    let claude = |cached: u64| {
        let raw = format!(r#"{{"input_tokens":1000,"cache_read_input_tokens":{cached},"output_tokens":100}}"#);
        price("anthropic", "claude-sonnet-4-5", parse(UsageForm::Anthropic, raw.as_bytes()).usage)
    };
    assert_eq!(claude(199_000), Some(3_000 + 59_700 + 1_500));
    assert_eq!(claude(200_000), Some(6_000 + 120_000 + 2_250), "cached tokens count towards the length");
    let gemini = |prompt: u64| {
        let raw = format!(r#"{{"promptTokenCount":{prompt},"candidatesTokenCount":100}}"#);
        price("gemini", "gemini-2.5-pro", parse(UsageForm::Gemini, raw.as_bytes()).usage)
    };
    assert_eq!(gemini(200_000), Some(250_000 + 1_000));
    assert_eq!(gemini(200_001), Some(500_003 + 1_500), "500,002.5, rounded half up");
}

#[test]
fn gemini_thoughts_are_output_and_audio_has_its_own_price() {
    let usage = r#"{"promptTokenCount":100,"candidatesTokenCount":20,"thoughtsTokenCount":200,"totalTokenCount":320,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":60},{"modality":"TEXT","tokenCount":40}]}"#;
    let answer = format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"text":"hi"}}]}},"finishReason":"STOP"}}],"usageMetadata":{usage},"modelVersion":"gemini-2.5-flash"}}"#
    );
    let partial = r#"{"candidates":[{"content":{"parts":[{"text":"h"}]}}],"usageMetadata":{"promptTokenCount":100}}"#;
    for (kind, body) in [
        (MeterKind::Json, answer.clone()),
        (MeterKind::Sse, format!("data: {partial}\r\n\r\ndata: {answer}\r\n\r\n")),
        (MeterKind::JsonArray, format!("[{partial},\r\n{answer}]")),
    ] {
        let usage = metered(Dialect::Gemini, Operation::StreamGenerateContent, kind, &body);
        // 40 × 0.3 + 60 × 1 + 220 × 2.5
        assert_eq!(price("gemini", "models/gemini-2.5-flash", usage), Some(622), "{kind:?}");
    }
}

#[test]
fn realtime_audio_and_text_have_four_prices() {
    let raw = br#"{"total_tokens":275,"input_tokens":127,"output_tokens":148,"input_token_details":{"text_tokens":119,"audio_tokens":8,"image_tokens":0,"cached_tokens":64,"cached_tokens_details":{"text_tokens":64}},"output_token_details":{"text_tokens":36,"audio_tokens":112}}"#;
    // 55 × 4 + 64 × 0.4 + 8 × 32 + 36 × 16 + 112 × 64 = 8,245.6
    assert_eq!(price("openai", "gpt-realtime-2025-08-28", parse(UsageForm::Openai, raw).usage), Some(8_246));
}

#[test]
fn images_are_charged_by_tokens_or_by_number() {
    let image = r#"{"created":1,"data":[{"b64_json":"iVBO"}],"usage":{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":1056,"total_tokens":1106}}"#;
    let usage = metered(Dialect::Openai, Operation::Images, MeterKind::Json, image);
    // 10 × 5 + 40 × 10 + 1,056 × 40
    assert_eq!(price("openai", "gpt-image-1", usage), Some(42_690));
    assert_eq!(price("openai", "dall-e-3", Some(Usage { image: Some(2), ..Usage::default() })), Some(80_000));
    let task = r#"{"request_id":"r","output":{"task_status":"SUCCEEDED"},"usage":{"image_count":2}}"#;
    let usage = metered(Dialect::Dashscope, Operation::DashscopeTask, MeterKind::Json, task);
    // 2 × ¥0.14 × 0.14335
    assert_eq!(price("dashscope", "wanx2.1-t2i-turbo", usage), Some(40_138));
}

#[test]
fn sound_is_charged_by_time_or_by_tokens_as_the_model_is_sold() {
    let whisper = r#"{"text":"hi","usage":{"type":"duration","seconds":9}}"#;
    let usage = metered(Dialect::Openai, Operation::Transcription, MeterKind::Json, whisper);
    assert_eq!(price("openai", "whisper-1", usage), Some(900));

    let tokens = r#"{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}"#;
    let whole = format!(r#"{{"text":"hi","usage":{tokens}}}"#);
    let stream = format!(
        "data: {{\"type\":\"transcript.text.delta\",\"delta\":\"hi\"}}\n\ndata: {{\"type\":\"transcript.text.done\",\"text\":\"hi\",\"usage\":{tokens}}}\n\n"
    );
    let usage = metered(Dialect::Openai, Operation::Transcription, MeterKind::Json, &whole);
    // 14 × 6 + 45 × 10
    assert_eq!(price("openai", "gpt-4o-transcribe", usage), Some(534));
    let usage = metered(Dialect::Openai, Operation::Transcription, MeterKind::Sse, &stream);
    assert_eq!(price("openai", "gpt-4o-transcribe", usage), Some(534));
    assert_eq!(price("openai", "whisper-1", usage), None, "tokens say nothing about seconds");
}

#[test]
fn dashscope_is_charged_in_yuan_by_every_unit_there_is() {
    let service = |model, usage: &str| {
        let body = format!(r#"{{"request_id":"r","output":{{}},"usage":{usage}}}"#);
        price("dashscope", model, metered(Dialect::Dashscope, Operation::DashscopeService, MeterKind::Json, &body))
    };
    // 13 × ¥100 per million × 0.14335 = 186.355
    assert_eq!(service("cosyvoice-v3-flash", r#"{"characters":13}"#), Some(186));
    // 3.7 × ¥0.00008 × 0.14335 = 42.4
    assert_eq!(service("paraformer-v2", r#"{"duration":3.7}"#), Some(42));
    // 5 × ¥0.6 × 0.14335; the number of videos measures the same.
    let video = r#"{"video_count":1,"video_duration":5,"video_ratio":"16:9"}"#;
    assert_eq!(service("wan2.5-t2v-preview", video), Some(430_050));
    assert_eq!(service("qwen-max", video), None);

    let usage = r#"{"input_tokens":2000,"output_tokens":100,"total_tokens":2100,"prompt_tokens_details":{"cached_tokens":1000}}"#;
    let event = |usage: &str| {
        format!(
            "id:1\nevent:result\ndata:{{\"output\":{{\"choices\":[{{\"finish_reason\":\"stop\"}}]}},\"usage\":{usage}}}\n\n"
        )
    };
    // Each event repeats the sum so far: they are not added up.
    let stream = event(r#"{"input_tokens":2000,"output_tokens":40,"total_tokens":2040}"#) + &event(usage);
    let streamed = metered(Dialect::Dashscope, Operation::DashscopeGeneration, MeterKind::Sse, &stream);
    // (1,000 × ¥0.8 + 1,000 × ¥0.16 + 100 × ¥2) × 0.14335 = 166.286
    assert_eq!(price("dashscope", "qwen-plus-2025-07-28", streamed), Some(166));
    assert_eq!(service("qwen-plus", usage), Some(166));
}

#[test]
fn embeddings_have_input_only() {
    let body = r#"{"object":"list","data":[],"model":"text-embedding-3-small","usage":{"prompt_tokens":850,"total_tokens":850}}"#;
    let usage = metered(Dialect::Openai, Operation::Embeddings, MeterKind::Json, body);
    assert_eq!(price("openai", "text-embedding-3-small", usage), Some(17));
}

#[test]
fn each_attempt_of_a_call_that_moved_on_has_its_own_price() {
    let usage = Usage { input: Some(1_000), output: Some(100), ..Usage::default() };
    assert_eq!(price("openai", "gpt-4.1", Some(usage)), Some(2_800));
    assert_eq!(price("anthropic", "claude-haiku-4-5", Some(usage)), Some(1_500));
    assert_eq!(PriceTable::shipped().price("c", "openai", "unheard-of", Some(&usage)), Cost::Unpriced);
}
