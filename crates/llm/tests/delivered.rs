//! Given a response of any dialect, whole or broken off, then the text in it is counted about right, whatever else
//! stands around it.

use aiproxy_llm::dialect::{Dialect, Operation};
use aiproxy_llm::estimate::text_tokens;
use aiproxy_llm::fuzzing;
use aiproxy_llm::meter::{Meter, MeterKind};
use proptest::prelude::*;

fn delivered(dialect: Dialect, operation: Operation, kind: MeterKind, body: &str) -> u64 {
    let mut meter = Meter::new(dialect, operation, kind);
    meter.feed(body.as_bytes());
    let whole = meter.finish();
    let mut meter = Meter::new(dialect, operation, kind);
    body.as_bytes().chunks(3).for_each(|chunk| meter.feed(chunk));
    assert_eq!(whole, meter.finish(), "cut elsewhere");
    whole.delivered.output_tokens
}

fn events(events: &[&str]) -> String {
    events.iter().map(|data| format!("data: {data}\n\n")).collect()
}

/// Events that name their type twice, as Anthropic, OpenAI's Responses and Cohere send them.
fn named_events(events: &[&str]) -> String {
    let named = |data: &&str| {
        let event: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
        format!("event: {}\ndata: {data}\n\n", event["type"].as_str().unwrap_or_default())
    };
    events.iter().map(named).collect()
}

fn is_about(found: u64, expected: u64) -> bool {
    found.abs_diff(expected) <= 1 + expected / 20
}

const TEXT: &str = "The connection pool was exhausted, because every request opened a connection of its own.";
const THOUGHT: &str = "Let me think about the cause of this first.";

/// Words as a provider streams them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

#[test]
fn a_chat_stream_counts_its_deltas_and_nothing_else() {
    let envelope = |choices: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-abcdefghijklmnop\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"gpt-x\",\"system_fingerprint\":\"fp_0123456789\",\"choices\":{choices},\"usage\":{usage},\"obfuscation\":\"a1b2c3d4\"}}\n\n"
        )
    };
    let role = r#"[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]"#;
    let last = r#"[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]"#;
    let usage = envelope("[]", r#"{"prompt_tokens":19,"completion_tokens":10}"#);
    let of = |body: &str| delivered(Dialect::Openai, Operation::ChatCompletions, MeterKind::Sse, body);
    assert_eq!(of(&envelope(role, "null")), 0, "only the role");
    assert_eq!(of(&format!("{}{}{usage}data: [DONE]\n\n", envelope(role, "null"), envelope(last, "null"))), 0);
    for (key, text) in [("content", TEXT), ("reasoning_content", THOUGHT), ("reasoning", THOUGHT), ("refusal", TEXT)] {
        let deltas: String = words(text)
            .map(|word| {
                envelope(&format!(r#"[{{"index":0,"delta":{{"{key}":"{word}"}},"finish_reason":null}}]"#), "null")
            })
            .collect();
        let body = format!("{}{deltas}{}{usage}", envelope(role, "null"), envelope(last, "null"));
        assert!(is_about(of(&body), text_tokens(text)), "{key}: {}", of(&body));
    }
}

#[test]
fn a_client_that_leaves_after_one_chunk_has_received_something() {
    let body = events(&[r#"{"model":"m","choices":[{"delta":{"content":"I"}}]}"#]);
    let of = |body: &str| delivered(Dialect::Openai, Operation::ChatCompletions, MeterKind::Sse, body);
    assert_eq!(of(&body), 1);
    assert_eq!(of(body.trim_end()), 1, "broken off before the blank line");
    assert_eq!(of(&body[..body.len() - 7]), 1, "broken off inside the event");
    assert_eq!(of(": keep-alive\n\n"), 0);
    assert_eq!(of(""), 0);
}

#[test]
fn odd_spellings_of_a_chat_stream_are_read_too() {
    let of = |body: &str| delivered(Dialect::Openai, Operation::ChatCompletions, MeterKind::Sse, body);
    let expected = text_tokens("Hello, world");
    assert_eq!(of("data:{\"choices\" : [ {\"delta\": {\"content\" : \"Hello, world\"} } ]}\r\n\r\n"), expected);
    assert_eq!(of("data: {\"choices\":\ndata: [{\"delta\":{\"content\":\ndata: \"Hello, world\"}}]}\n\n"), expected);
    assert_eq!(
        of(&events(&[r#"{"choices":[{"delta":{"content":[{"type":"text","text":"Hello, world"}]}}]}"#])),
        expected
    );
    assert_eq!(of(&events(&[r#"{"choices":[{"text":"Hello, world","logprobs":{"tokens":["Hello"]}}]}"#])), expected);
    let escaped = r#"{"choices":[{"delta":{"content":"\"choices\":[{\"content\":\"Hello\\n\"}]"}}]}"#;
    assert_eq!(of(&events(&[escaped])), text_tokens("\"choices\":[{\"content\":\"Hello\\n\"}]"), "text about JSON");
    assert_eq!(
        of(&events(&[r#"{"choices":[{"delta":{"content":"\u4f60\u597d\uff0c\u5f88\u9ad8\u5174"}}]}"#])),
        text_tokens("你好，很高兴")
    );
}

#[test]
fn reasoning_under_two_names_counts_once() {
    let both = |name: &str| {
        let twice = format!(
            r#"{{"choices":[{{"delta":{{"reasoning_content":"{THOUGHT}","reasoning":"{THOUGHT}","{name}":[{{"type":"reasoning.text","text":"{THOUGHT}"}}]}}}}]}}"#
        );
        delivered(Dialect::Openai, Operation::ChatCompletions, MeterKind::Sse, &events(&[&twice]))
    };
    assert_eq!(both("reasoning_details"), text_tokens(THOUGHT));
}

#[test]
fn tool_calls_count_by_their_arguments() {
    let arguments = r#"{\"city\":\"Paris\",\"days\":3}"#;
    let expected = text_tokens(r#"{"city":"Paris","days":3}"#);
    let call = format!(
        r#"[{{"index":0,"id":"call_abcdefghijklmnop","type":"function","function":{{"name":"w","arguments":"{arguments}"}}}}]"#
    );
    let stream = events(&[&format!(r#"{{"choices":[{{"delta":{{"tool_calls":{call}}}}}]}}"#)]);
    assert_eq!(delivered(Dialect::Openai, Operation::ChatCompletions, MeterKind::Sse, &stream), expected);
    let whole = format!(r#"{{"choices":[{{"message":{{"content":null,"tool_calls":{call}}}}}]}}"#);
    assert_eq!(delivered(Dialect::Openai, Operation::ChatCompletions, MeterKind::Json, &whole), expected);

    let block = r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_abcdefghijklmnop","name":"w","input":{}}}"#;
    let part = format!(
        r#"{{"type":"content_block_delta","index":1,"delta":{{"type":"input_json_delta","partial_json":"{arguments}"}}}}"#
    );
    let stream = named_events(&[block, &part]);
    assert_eq!(delivered(Dialect::Anthropic, Operation::Messages, MeterKind::Sse, &stream), expected);
    let input = r#"{"city":"Paris","days":3}"#;
    for (dialect, operation, whole) in [
        (
            Dialect::Anthropic,
            Operation::Messages,
            format!(
                r#"{{"content":[{{"type":"tool_use","id":"toolu_abcdefghijklmnop","name":"w","input":{input}}}],"usage":{{}}}}"#
            ),
        ),
        (
            Dialect::Anthropic,
            Operation::BedrockConverse,
            format!(
                r#"{{"output":{{"message":{{"content":[{{"toolUse":{{"toolUseId":"t","name":"w","input":{input}}}}}]}}}}}}"#
            ),
        ),
        (
            Dialect::Gemini,
            Operation::GenerateContent,
            format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{{"name":"w","args":{input}}}}}]}}}}]}}"#
            ),
        ),
    ] {
        let found = delivered(dialect, operation, MeterKind::Json, &whole);
        assert!(found > 0 && found.abs_diff(expected) <= expected / 2, "{found} instead of {expected}: {whole}");
    }
}

#[test]
fn responses_count_deltas_once_and_no_sound() {
    let stream = named_events(&[
        r#"{"type":"response.created","response":{"instructions":"Be very brief in all that you say.","output":[]}}"#,
        r#"{"type":"response.output_item.added","item":{"type":"message","content":[]}}"#,
        &format!(r#"{{"type":"response.reasoning_summary_text.delta","delta":"{THOUGHT}","obfuscation":"abcdefgh"}}"#),
        &format!(r#"{{"type":"response.reasoning_summary_text.done","text":"{THOUGHT}"}}"#),
        &format!(r#"{{"type":"response.output_text.delta","item_id":"msg_1","delta":"{TEXT}","logprobs":[]}}"#),
        r#"{"type":"response.audio.delta","delta":"UklGRiQAAABXQVZFZm10IBAAAAABAAEA"}"#,
        &format!(r#"{{"type":"response.output_text.done","text":"{TEXT}"}}"#),
        &format!(r#"{{"type":"response.completed","response":{{"output":[{{"content":[{{"text":"{TEXT}"}}]}}]}}}}"#),
    ]);
    let expected = text_tokens(THOUGHT) + text_tokens(TEXT);
    let of = |body: &str| delivered(Dialect::Openai, Operation::Responses, MeterKind::Sse, body);
    assert!(is_about(of(&stream), expected), "{}", of(&stream));
    let without_names: String =
        stream.lines().filter(|line| !line.starts_with("event:")).map(|line| format!("{line}\n")).collect();
    assert_eq!(of(&without_names), of(&stream));

    let whole = format!(
        r#"{{"instructions":[{{"output":"no","content":[{{"text":"{TEXT}"}}]}}],"output":[{{"type":"reasoning","encrypted_content":"QUJD","summary":[{{"type":"summary_text","text":"{THOUGHT}"}}]}},{{"type":"message","content":[{{"type":"output_text","text":"{TEXT}","annotations":[{{"text":"no"}}]}}]}}],"text":{{"format":{{"type":"text"}}}},"tools":[{{"description":"no"}}]}}"#
    );
    let found = delivered(Dialect::Openai, Operation::Responses, MeterKind::Json, &whole);
    assert!(is_about(found, expected), "{found}");
    assert_eq!(delivered(Dialect::Openai, Operation::ResponsesRetrieve, MeterKind::Json, &whole), 0, "another call's");
}

#[test]
fn messages_count_text_and_thinking_but_no_signature_or_result() {
    let stream = named_events(&[
        r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-x","content":[],"usage":{"input_tokens":1}}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        &format!(
            r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"thinking_delta","thinking":"{THOUGHT}"}}}}"#
        ),
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk"}}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"web_search_tool_result","tool_use_id":"t","content":[{"type":"web_search_result","title":"no","text":"not by the model"}]}}"#,
        &format!(r#"{{"type":"content_block_delta","index":2,"delta":{{"type":"text_delta","text":"{TEXT}"}}}}"#),
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{"cited_text":"no","text":"no"}}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":6}}"#,
        r#"{"type":"message_stop"}"#,
    ]);
    let expected = text_tokens(THOUGHT) + text_tokens(TEXT);
    let found = delivered(Dialect::Anthropic, Operation::Messages, MeterKind::Sse, &stream);
    assert!(is_about(found, expected), "{found}");
    let whole = format!(
        r#"{{"id":"msg_1","content":[{{"type":"thinking","thinking":"{THOUGHT}","signature":"EqQBCgIYAhIM1gbcDa9GJwZA"}},{{"type":"web_fetch_tool_result","content":{{"text":"not by the model"}}}},{{"type":"text","text":"{TEXT}","citations":[{{"text":"no"}}]}}]}}"#
    );
    let found = delivered(Dialect::Anthropic, Operation::Messages, MeterKind::Json, &whole);
    assert!(is_about(found, expected), "{found}");
}

#[test]
fn gemini_counts_parts_but_no_pictures_or_sources() {
    let chunk = |text: &str| {
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{THOUGHT}","thought":true}},{{"text":"{text}","thoughtSignature":"QUJD"}},{{"inlineData":{{"mimeType":"image/png","data":"iVBORw0KGgo"}}}}],"role":"model"}},"groundingMetadata":{{"groundingSupports":[{{"segment":{{"text":"{TEXT}"}}}}]}}}}],"usageMetadata":{{"promptTokenCount":8}},"modelVersion":"gemini-x"}}"#
        )
    };
    let expected = 2 * text_tokens(THOUGHT) + text_tokens(TEXT) + text_tokens("And more.");
    let (first, second) = (chunk(TEXT), chunk("And more."));
    for (kind, body) in [
        (MeterKind::Sse, format!("data: {first}\r\n\r\ndata: {second}\r\n\r\n")),
        (MeterKind::JsonArray, format!("[{first}\n,\r\n{second}]")),
    ] {
        let found = delivered(Dialect::Gemini, Operation::StreamGenerateContent, kind, &body);
        assert!(is_about(found, expected), "{kind:?}: {found} instead of {expected}");
    }
    let found = delivered(Dialect::Gemini, Operation::GenerateContent, MeterKind::Json, &first);
    assert!(is_about(found, text_tokens(THOUGHT) + text_tokens(TEXT)), "{found}");
}

fn dashscope_event(content: &str, reasoning: &str) -> String {
    format!(
        "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{{\"output\":{{\"choices\":[{{\"message\":{{\"role\":\"assistant\",\"content\":\"{content}\",\"reasoning_content\":\"{reasoning}\"}},\"finish_reason\":\"null\"}}]}},\"request_id\":\"0a1b2c3d-4e5f\"}}\n\n"
    )
}

#[test]
fn dashscope_text_that_grows_is_not_summed() {
    let of = |body: &str| delivered(Dialect::Dashscope, Operation::DashscopeGeneration, MeterKind::Sse, body);
    let expected = text_tokens(THOUGHT) + text_tokens(TEXT);
    let growing = |text: &str| -> Vec<String> {
        let mut sum = String::new();
        words(text)
            .map(|word| {
                sum.push_str(word);
                sum.clone()
            })
            .collect()
    };
    let mut body: String = growing(THOUGHT).iter().map(|thought| dashscope_event("", thought)).collect();
    // Whether the finished reasoning is repeated or left out then.
    body.extend(
        growing(TEXT)
            .iter()
            .enumerate()
            .map(|(index, text)| dashscope_event(text, if index % 2 == 0 { THOUGHT } else { "" })),
    );
    assert!(is_about(of(&body), expected), "{} instead of {expected}", of(&body));

    let mut body: String = words(THOUGHT).map(|word| dashscope_event("", word)).collect();
    body.extend(words(TEXT).map(|word| dashscope_event(word, "")));
    assert!(is_about(of(&body), expected), "in pieces: {} instead of {expected}", of(&body));

    let plain = |text: &str| format!("data:{{\"output\":{{\"text\":\"{text}\",\"finish_reason\":\"null\"}}}}\n\n");
    let body: String = growing(TEXT).iter().map(|text| plain(text)).collect();
    assert!(is_about(of(&body), text_tokens(TEXT)), "{}", of(&body));
    let whole = format!(r#"{{"output":{{"text":"{TEXT}","doc_references":[{{"text":"no"}}]}},"usage":{{}}}}"#);
    assert_eq!(
        delivered(Dialect::Dashscope, Operation::DashscopeApplication, MeterKind::Json, &whole),
        text_tokens(TEXT)
    );
}

#[test]
fn cohere_bedrock_and_transcripts_are_counted() {
    let stream = named_events(&[
        r#"{"type":"message-start","id":"c","delta":{"message":{"role":"assistant","content":[]}}}"#,
        &format!(r#"{{"type":"content-delta","index":0,"delta":{{"message":{{"content":{{"text":"{TEXT}"}}}}}}}}"#),
        r#"{"type":"citation-start","delta":{"message":{"citations":{"text":"no"}}}}"#,
        r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}"#,
    ]);
    let expected = text_tokens(TEXT);
    assert_eq!(delivered(Dialect::Openai, Operation::CohereChat, MeterKind::Sse, &stream), expected);
    let whole = format!(
        r#"{{"id":"c","message":{{"content":[{{"type":"text","text":"{TEXT}"}}],"citations":[{{"text":"no"}}]}}}}"#
    );
    assert_eq!(delivered(Dialect::Openai, Operation::CohereChat, MeterKind::Json, &whole), expected);
    let whole =
        format!(r#"{{"output":{{"message":{{"role":"assistant","content":[{{"text":"{TEXT}"}}]}}}},"usage":{{}}}}"#);
    assert_eq!(delivered(Dialect::Anthropic, Operation::BedrockConverse, MeterKind::Json, &whole), expected);
    let whole = format!(r#"{{"text":"{TEXT}","segments":[{{"text":"{TEXT}"}}]}}"#);
    assert_eq!(delivered(Dialect::Openai, Operation::Transcription, MeterKind::Json, &whole), expected);
    let stream = events(&[
        &format!(r#"{{"type":"transcript.text.delta","delta":"{TEXT}"}}"#),
        &format!(r#"{{"type":"transcript.text.done","text":"{TEXT}"}}"#),
    ]);
    assert_eq!(delivered(Dialect::Openai, Operation::Transcription, MeterKind::Sse, &stream), expected);
}

#[test]
fn pictures_sound_and_vectors_bring_no_text() {
    for (operation, kind, body) in [
        (Operation::Images, MeterKind::Json, r#"{"data":[{"b64_json":"iVBORw0KGgo","revised_prompt":"a cat"}]}"#),
        (Operation::Embeddings, MeterKind::Json, r#"{"data":[{"embedding":[0.1,-0.2]}]}"#),
        (Operation::Speech, MeterKind::Sse, "data: {\"type\":\"speech.audio.delta\",\"audio\":\"UklGRiQA\"}\n\n"),
        (Operation::Models, MeterKind::Json, r#"{"data":[{"id":"gpt-x","text":"no"}]}"#),
        (Operation::ChatCompletions, MeterKind::Other, "text"),
    ] {
        assert_eq!(delivered(Dialect::Openai, operation, kind, body), 0, "{body}");
    }
    let spoken = r#"{"choices":[{"delta":{"audio":{"id":"audio_1","data":"UklGRiQAAABXQVZF","transcript":"Hello"}}}]}"#;
    let found = delivered(Dialect::Openai, Operation::ChatCompletions, MeterKind::Sse, &events(&[spoken]));
    assert_eq!(found, text_tokens("Hello"));
}

#[test]
fn a_document_that_breaks_off_counts_what_came() {
    let half = TEXT.len() / 2;
    let whole =
        format!(r#"{{"id":"c","choices":[{{"index":0,"message":{{"role":"assistant","content":"{TEXT}"}}}}]}}"#);
    let cut = whole.find(TEXT).unwrap() + half;
    let found = delivered(Dialect::Openai, Operation::ChatCompletions, MeterKind::Json, &whole[..cut]);
    assert_eq!(found, text_tokens(&TEXT[..half]));
    let cut = whole.find("content").unwrap();
    assert_eq!(delivered(Dialect::Openai, Operation::ChatCompletions, MeterKind::Json, &whole[..cut]), 0);
}

const PARTS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\\"",
    "\\u4f60",
    "\n",
    "data: ",
    "data: {\"type\":\"response.x.delta\",",
    "\"choices\":[{",
    "\"delta\":{",
    "\"delta\":\"x\"",
    "\"content\":\"a word\"",
    "\"reasoning\":\"a word\"",
    "\"text\":\"名\"",
    "\"candidates\":[{",
    "\"output\":{",
    "\"message\":{",
    "\"input\":{\"a\":1,\"b\":\"c\"}",
    "\"args\":{",
    "\"citations\":[{",
    "\"content_block\":{",
    "\"partial_json\":\"{\\\"a\\\"\"",
    "1",
    "-2.5",
    "}\n\n",
    "\"}]}\n\n",
    "data: [DONE]\n\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn the_text_is_the_same_wherever_it_is_cut(
        seed: u8,
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..24),
    ) {
        fuzzing::meter(&[&[seed][..], parts.concat().as_bytes()].concat());
    }

    #[test]
    fn any_text_survives_its_way_through_a_stream(text in "\\PC{0,60}") {
        let data = serde_json::json!({ "choices": [{ "delta": { "content": text } }] }).to_string();
        let found = delivered(Dialect::Openai, Operation::ChatCompletions, MeterKind::Sse, &events(&[&data]));
        prop_assert_eq!(found, text_tokens(&text));
        let data = serde_json::json!({ "content": [{ "type": "text", "text": text }] }).to_string();
        let found = delivered(Dialect::Anthropic, Operation::Messages, MeterKind::Json, &data);
        prop_assert_eq!(found, text_tokens(&text));
    }
}
