//! Given a response under the upstream's name, then the same bytes under the name that was asked for.

use aiproxy_llm::dialect::{Dialect, Operation};
use aiproxy_llm::fuzzing;
use aiproxy_llm::meter::{MeterKind, RenameModel};
use bytes::Bytes;
use proptest::prelude::*;

use Dialect::{Anthropic, Dashscope, Gemini, Openai};
use MeterKind::{Json, JsonArray, Sse};
use Operation::{ChatCompletions, Messages, Responses, StreamGenerateContent};

fn rename(dialect: Dialect, operation: Operation, kind: MeterKind, chunks: &[&str]) -> Vec<String> {
    let Some(mut rename) = RenameModel::new(dialect, operation, kind, "my \"model\"") else { return Vec::new() };
    let mut out = Vec::new();
    for chunk in chunks {
        rename.push(Bytes::copy_from_slice(chunk.as_bytes()), &mut out);
    }
    rename.finish(&mut out);
    out.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
}

/// Every `⟨real⟩` of the text is renamed, whole and cut between any two bytes, and nothing else changes.
fn check(dialect: Dialect, operation: Operation, kind: MeterKind, text: &str) {
    let before = text.replace(['⟨', '⟩'], "\"");
    let after = text.replace("⟨real⟩", r#""my \"model\"""#).replace("⟨⟩", r#""my \"model\"""#);
    assert_eq!(rename(dialect, operation, kind, &[&before]).concat(), after, "{dialect:?} {operation:?} {kind:?}");
    for at in (0..before.len()).filter(|at| before.is_char_boundary(*at)) {
        let (left, right) = before.split_at(at);
        assert_eq!(rename(dialect, operation, kind, &[left, right]).concat(), after, "cut at {at}");
    }
}

#[test]
fn openai_documents() {
    let chat = r#"{"id":"c","model" : ⟨real⟩,"choices":[{"message":{"content":"\"model\":\"real\"","model":"real"}}],"usage":{"model":"real"}}"#;
    for operation in [ChatCompletions, Operation::Completions, Operation::Embeddings, Responses, Operation::Other] {
        check(Openai, operation, Json, chat);
    }
    check(Openai, ChatCompletions, Json, "\u{feff} {\n\t\"model\":\n⟨real⟩\n}\n");
    check(Openai, Operation::Embeddings, Json, r#"{"data":[{"embedding":[0.1,0.2]}],"model":⟨real⟩}"#);
}

#[test]
fn only_strings_at_the_path_are_replaced() {
    let text = r#"{"model":⟨real⟩,"model":null,"model":{"model":"real"},"model":["real"],"mod\u0065l":⟨real⟩,"model":12,"model":⟨⟩}"#;
    check(Openai, ChatCompletions, Json, text);
    check(Openai, ChatCompletions, Sse, &format!("data: {text}\n\n"));
    check(Openai, ChatCompletions, Json, r#"[{"model":"real"}]"#);
    check(Openai, ChatCompletions, Json, r#"{"models":"real","Model":"real","message":{"model":"real"}}"#);
}

#[test]
fn openai_streams() {
    check(
        Openai,
        ChatCompletions,
        Sse,
        concat!(
            ": OPENROUTER PROCESSING\n\n",
            "data: {\"id\":\"c\",\"model\":⟨real⟩,\"choices\":[{\"delta\":{\"content\":\"\\\"model\\\":\\\"real\\\"\"}}]}\n\n",
            "data:{\"model\":⟨⟩,\"choices\":[]}\r\n\r\n",
            "id: 7\rdata: {\"mod\\u0065l\":⟨real⟩}\r\r",
            "data: {\"id\":\"no name\"}\n\n",
            "data: [DONE]\n\n",
        ),
    );
}

#[test]
fn responses_streams_and_documents() {
    check(
        Openai,
        Responses,
        Sse,
        concat!(
            "event: response.created\n",
            "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":⟨real⟩,\"tools\":[{\"model\":\"real\"}]}}\n\n",
            "event: response.output_text.delta\n",
            "data: {\"type\":\"response.output_text.delta\",\"delta\":\"model\",\"model\":\"real\"}\n\n",
            "event: response.completed\n",
            "data: {\"response\":{\"output\":[],\"model\":⟨real⟩}}\n\n",
        ),
    );
    check(Openai, Responses, Json, r#"{"id":"r","model":⟨real⟩,"response":{"model":"real"}}"#);
}

#[test]
fn anthropic_streams_and_documents() {
    check(
        Anthropic,
        Messages,
        Sse,
        concat!(
            "event: message_start\n",
            "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":⟨real⟩,\"content\":[]}}\n\n",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n",
            "event: content_block_delta\n",
            "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"model\"}}\n\n",
        ),
    );
    check(Anthropic, Messages, Json, r#"{"type":"message","model":⟨real⟩,"content":[{"text":"real"}]}"#);
}

#[test]
fn gemini_in_all_three_framings() {
    let answer = r#"{"candidates":[{"content":{"parts":[{"text":"h"}]}}],"model":"real","modelVersion":⟨real⟩}"#;
    check(Gemini, Operation::GenerateContent, Json, answer);
    check(Gemini, StreamGenerateContent, Sse, &format!("data: {answer}\r\n\r\ndata: {answer}\r\n\r\n"));
    check(Gemini, StreamGenerateContent, JsonArray, &format!("[{answer}\n,\r\n{answer}]"));
    check(Gemini, StreamGenerateContent, JsonArray, answer);
}

#[test]
fn what_sse_allows_survives() {
    check(
        Openai,
        ChatCompletions,
        Sse,
        concat!(
            "\u{feff}data: {\"model\":\ndata:⟨real⟩\r\n: comment \"model\":\"real\"\ndata: ,\"a\":1}\n\n",
            "data : {\"model\":\"real\"}\ndata\nmodel: \"real\"\ndatax: {\"model\":\"real\"}\n\n",
            "event: {\"model\":\"real\"}\ndata: {\"model\":⟨real⟩}\n\n\n",
        ),
    );
    // A string over two lines is not JSON.
    check(Openai, ChatCompletions, Sse, "data: {\"model\":\"re\ndata: al\",\"model\":⟨real⟩}\n\n");
    check(Openai, ChatCompletions, Sse, "data: {\"mo\ndata:del\":\"real\"}\n\n");
    check(Openai, ChatCompletions, Sse, "data: {\"model\":⟨real⟩} and {\"model\":\"real\"}\n\ndata: {\"model\":\"real");
}

#[test]
fn a_chunk_without_a_name_passes_as_it_came() {
    let mut rename = RenameModel::new(Openai, ChatCompletions, Sse, "asked").unwrap();
    let chunk = Bytes::from_static(b"data: {\"choices\":[]}\n\n: ping\n\ndata: {\"cho");
    let mut out = Vec::new();
    rename.push(chunk.clone(), &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].as_ptr(), out[0].len()), (chunk.as_ptr(), chunk.len()), "nothing is copied, nothing is held");
}

#[test]
fn only_a_name_cut_in_two_is_held() {
    let chunks = ["{\"id\":\"c\",\"mod", "el\": ", "\"re", "al", "\",\"a\":\"b", "\"}"];
    let mut rename = RenameModel::new(Openai, ChatCompletions, Json, "asked").unwrap();
    let passed: Vec<String> = chunks
        .iter()
        .map(|chunk| {
            let mut out = Vec::new();
            rename.push(Bytes::from_static(chunk.as_bytes()), &mut out);
            String::from_utf8(out.concat()).unwrap()
        })
        .collect();
    assert_eq!(passed, ["{\"id\":\"c\",\"mod", "el\": ", "", "", "\"asked\",\"a\":\"b", "\"}"]);
}

#[test]
fn a_name_cut_off_by_the_end_stays() {
    assert_eq!(rename(Openai, ChatCompletions, Json, &["{\"model\":\"re", "al"]).concat(), "{\"model\":\"real");
    assert_eq!(
        rename(Openai, ChatCompletions, Sse, &["data: {\"model\":\"re", "al\n"]).concat(),
        "data: {\"model\":\"real\n"
    );
}

#[test]
fn what_is_too_long_for_a_name_passes_unchanged() {
    for (length, is_name) in [(4094, true), (4095, false), (10_000, false)] {
        let text = format!("{{\"model\":\"{}\",\"model\":⟨real⟩}}", "x".repeat(length)).replace(['⟨', '⟩'], "\"");
        for size in [1, 7, 1000, 4096, 20_000] {
            let chunks: Vec<&str> =
                text.as_bytes().chunks(size).map(|chunk| std::str::from_utf8(chunk).unwrap()).collect();
            let renamed = rename(Openai, ChatCompletions, Json, &chunks).concat();
            assert_eq!(renamed.contains("xxx"), !is_name, "{length} in pieces of {size}");
            assert!(renamed.ends_with(r#","model":"my \"model\""}"#), "{length} in pieces of {size}");
        }
    }
}

#[test]
fn an_event_may_be_of_any_size() {
    let output = "x".repeat(200_000);
    let event =
        format!("data: {{\"response\":{{\"output\":\"{output}\",\"model\":⟨real⟩}}}}\n\n").replace(['⟨', '⟩'], "\"");
    let (left, right) = event.split_at(100_000);
    for chunks in [&[event.as_str()][..], &[left, right]] {
        assert!(rename(Openai, Responses, Sse, chunks).concat().contains(r#""model":"my \"model\"""#));
    }
}

#[test]
fn where_no_model_is_named_nothing_is_renamed() {
    for (dialect, operation, kind) in [
        (Openai, ChatCompletions, MeterKind::Other),
        (Openai, Operation::Models, Json),
        (Openai, Operation::ResponsesInputTokens, Json),
        (Openai, Operation::CohereChat, Sse),
        (Anthropic, Operation::CountTokens, Json),
        (Anthropic, Operation::BedrockConverse, Json),
        (Dashscope, Operation::DashscopeGeneration, Sse),
    ] {
        assert!(RenameModel::new(dialect, operation, kind, "asked").is_none(), "{operation:?}");
    }
}

/// Texts made of what matters: keys at and off the path, odd values, and the lines between them.
fn text() -> impl Strategy<Value = String> {
    let member = (
        prop::sample::select(vec!["model", "mod\\u0065l", "\\u006dodel", "modelVersion", "message", "response", "a"]),
        prop::sample::select(vec![
            "\"real\"",
            "\"\"",
            "\"re\\\"al\\\\\"",
            "null",
            "12",
            "{\"model\":\"real\"}",
            "[\"model\"]",
            "\"re\ndata: al\"",
            "{\"model\" : \"a\",\"model\":\"b\",\"modelVersion\":\"c\"}",
            "\"\\u540d\"",
            "{}",
            "\n\"real\"",
            "\r\ndata:\"real\"",
        ]),
    )
        .prop_map(|(key, value)| format!("\"{key}\":{value}"));
    let object = prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")));
    let line = prop::sample::select(vec![
        "data: ",
        "data:",
        "\n",
        "\n\n",
        "\r\n\r\n",
        "\r\r",
        "\r",
        ": c",
        "event: ping\n",
        "\u{feff}",
        "[",
        "]",
        ",",
        "{",
        "\"",
        " ",
    ])
    .prop_map(str::to_owned);
    let event = object.clone().prop_map(|object| format!("data: {object}\n\n"));
    prop_oneof![
        object.clone(),
        prop::collection::vec(object.clone(), 0..4).prop_map(|elements| format!("[{}]", elements.join(" , "))),
        prop::collection::vec(event.clone(), 0..5).prop_map(|events| events.concat()),
        prop::collection::vec(prop_oneof![line, object, event], 0..12).prop_map(|parts| parts.concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn the_name_is_replaced_the_same_wherever_it_is_cut(seed: u8, text in text()) {
        fuzzing::rename(&[&[seed], text.as_bytes()].concat());
    }

    #[test]
    fn nothing_panics_on_arbitrary_bytes(input in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::rename(&input);
    }

    #[test]
    fn nothing_panics_on_nearly_json(seed: u8, text in text(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut input = [&[seed], text.as_bytes()].concat();
        let at = at.index(input.len());
        input[at] = byte;
        fuzzing::rename(&input);
    }
}
