//! Bodies from the wire to the journal: each family's streams, secrets in every place, bounds.

use std::time::Duration;

use aiproxy_core::{Secret, time};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::coding::tests::encode;
use super::readable::{Readable, readable};
use super::redact::{Patterns, Redactor};
use super::{BodyKeeper, Captured, RawBody};
use crate::entry::Bodies;
use crate::journal::{Journal, Options};
use crate::position::Position;
use crate::reader::Reader;
use crate::sink::Appetite;
use crate::sinks::testing::{Directory, id};
use crate::{Batch, Item};

/// A key of no known shape, so that only its being known hides it.
const CANARY: &str = "canary/0b5Key+9f3e7a";

fn raw(content_type: &str, bytes: impl AsRef<[u8]>) -> RawBody {
    let bytes = bytes.as_ref().to_vec();
    RawBody {
        content_type: content_type.into(),
        length: bytes.len() as u64,
        bytes,
        max_bytes: 64 << 10,
        ..RawBody::default()
    }
}

fn read_with(body: RawBody, patterns: &[&str]) -> Readable {
    let patterns: Vec<Box<str>> = patterns.iter().map(|pattern| (*pattern).into()).collect();
    readable(body, &Redactor::new(&[Secret::new(CANARY)], &Patterns::new(&patterns)))
}

fn read(content_type: &str, bytes: impl AsRef<[u8]>) -> Readable {
    read_with(raw(content_type, bytes), &[])
}

fn sse(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn named(events: &[(&str, &str)]) -> String {
    events.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect()
}

/// The text and the usage of a whole stream.
fn merged(stream: &str) -> (String, Value) {
    let readable = read("text/event-stream; charset=utf-8", stream);
    assert_eq!((readable.form, readable.cut, readable.bytes), ("sse", None, stream.len() as u64));
    assert_eq!(readable.content_type, "text/event-stream");
    (readable.content, readable.usage.map_or(Value::Null, |usage| serde_json::from_str(&usage).unwrap()))
}

fn chat() -> String {
    sse(&[
        r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":null}}],"usage":null}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"reasoning_content":"Paris, "}}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"reasoning_content":"then."}}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"content":"Let me "}}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"content":"look."}}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t0","function":{"name":"weather","arguments":""}}]}}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]}}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"t1","function":{"name":"time","arguments":"{}"}}]}}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Paris\"}"}}]}}]}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        r#"{"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#,
        "[DONE]",
    ])
}

const CHAT_TEXT: &str = "[reasoning]\nParis, then.\n\n[text]\nLet me look.\n\n[tool call weather]\n{\"city\":\"Paris\"}\n\n[tool call time]\n{}";

#[test]
fn a_chat_is_merged() {
    let (text, usage) = merged(&chat());
    assert_eq!(text, CHAT_TEXT);
    assert_eq!(usage, json!({"completion_tokens":3,"prompt_tokens":7,"total_tokens":10}));
    let plain = sse(&[
        r#"{"choices":[{"delta":{"content":"Hel"}}]}"#,
        r#"{"choices":[{"delta":{"content":"lo 你好"}}]}"#,
        "[DONE]",
    ]);
    assert_eq!(merged(&plain), ("Hello 你好".to_string(), Value::Null));
    let two = sse(&[
        r#"{"choices":[{"index":0,"text":"a"},{"index":1,"text":"b"}]}"#,
        r#"{"choices":[{"index":1,"text":"c"}]}"#,
    ]);
    assert_eq!(merged(&two).0, "[text]\na\n\n[text of answer 1]\nbc");
}

#[test]
fn a_response_is_merged() {
    let stream = named(&[
        ("response.created", r#"{"type":"response.created","response":{"id":"r","usage":null}}"#),
        (
            "response.output_item.added",
            r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning"}}"#,
        ),
        (
            "response.reasoning_summary_text.delta",
            r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"delta":"Hm."}"#,
        ),
        ("response.content_part.added", r#"{"type":"response.content_part.added","output_index":1}"#),
        ("response.output_text.delta", r#"{"type":"response.output_text.delta","output_index":1,"delta":"Hel"}"#),
        ("response.output_text.delta", r#"{"type":"response.output_text.delta","output_index":1,"delta":"lo"}"#),
        ("response.output_text.done", r#"{"type":"response.output_text.done","output_index":1,"text":"Hello"}"#),
        (
            "response.output_item.added",
            r#"{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","name":"f"}}"#,
        ),
        (
            "response.function_call_arguments.delta",
            r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":"{\"a\":"}"#,
        ),
        (
            "response.function_call_arguments.delta",
            r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":"1}"}"#,
        ),
        (
            "response.completed",
            r#"{"type":"response.completed","response":{"output":[],"usage":{"input_tokens":1,"output_tokens":2}}}"#,
        ),
    ]);
    let (text, usage) = merged(&stream);
    assert_eq!(text, "[reasoning]\nHm.\n\n[text]\nHello\n\n[tool call f]\n{\"a\":1}");
    assert_eq!(usage, json!({"input_tokens":1,"output_tokens":2}));
}

#[test]
fn a_message_is_merged_and_its_usage_put_together() {
    let stream = named(&[
        (
            "message_start",
            r#"{"type":"message_start","message":{"content":[],"usage":{"input_tokens":12,"output_tokens":1}}}"#,
        ),
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"abc"}}"#,
        ),
        ("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
        ("ping", r#"{"type":"ping"}"#),
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hel"}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"lo"}}"#,
        ),
        (
            "content_block_start",
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","name":"f","input":{}}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}"#,
        ),
        (
            "content_block_delta",
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":":1}"}}"#,
        ),
        (
            "message_delta",
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":6,"input_tokens":null}}"#,
        ),
        ("message_stop", r#"{"type":"message_stop"}"#),
    ]);
    let (text, usage) = merged(&stream);
    assert_eq!(text, "[reasoning]\nHm.\n\n[text]\nHello\n\n[tool call f]\n{\"a\":1}");
    assert_eq!(usage, json!({"input_tokens":12,"output_tokens":6}));
}

#[test]
fn gemini_is_merged() {
    let stream = [
        r#"{"candidates":[{"content":{"parts":[{"text":"Hm.","thought":true}]},"index":0}],"usageMetadata":{"promptTokenCount":8}}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"Hel"}]}}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"lo"},{"functionCall":{"name":"f","args":{"a":1}}},{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":8,"totalTokenCount":20}}"#,
    ];
    let (text, usage) = merged(&stream.map(|event| format!("data: {event}\r\n\r\n")).concat());
    assert_eq!(
        text,
        "[reasoning]\nHm.\n\n[text]\nHello\n\n[tool call f]\n{\"a\":1}\n\n[left out]\nimage/png: 4 characters of base64"
    );
    assert_eq!(usage, json!({"promptTokenCount":8,"totalTokenCount":20}));
}

#[test]
fn dashscope_is_merged_whether_it_repeats_itself_or_not() {
    let event = |text: &str, usage: u8| {
        format!(
            "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{{\"output\":{{\"choices\":[{{\"message\":{{\"content\":\"{text}\"}},\"finish_reason\":\"null\"}}]}},\"usage\":{{\"output_tokens\":{usage}}}}}\n\n"
        )
    };
    let usage = json!({"output_tokens": 3});
    let pieces = [event("He", 1), event("llo", 2), event("", 3)].concat();
    assert_eq!(merged(&pieces), ("Hello".to_string(), usage.clone()));
    let repeated = [event("He", 1), event("Hello", 2), event("Hello", 3)].concat();
    assert_eq!(merged(&repeated), ("Hello".to_string(), usage));
    let older = sse(&[r#"{"output":{"text":"He"}}"#, r#"{"output":{"text":"Hello"}}"#]);
    assert_eq!(merged(&older).0, "Hello");
}

#[test]
fn cohere_is_merged() {
    let stream = sse(&[
        r#"{"type":"message-start","id":"m"}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Hel"}}}}"#,
        r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"lo"}}}}"#,
        r#"{"type":"message-end","delta":{"usage":{"tokens":{"input_tokens":1}}}}"#,
    ]);
    assert_eq!(merged(&stream), ("Hello".to_string(), json!({"tokens": {"input_tokens": 1}})));
}

#[test]
fn what_is_not_understood_is_kept_as_it_came() {
    let stream = ": hello\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\nevent: news\ndata: {\"a\": 1}\n\n\
        data: not JSON\n\ndata: {\"error\":{\"message\":\"too much\"}}\n\n";
    assert_eq!(
        merged(stream).0,
        "[text]\nHi\n\n[events]\nevent: news\ndata: {\"a\": 1}\ndata: not JSON\ndata: {\"error\":{\"message\":\"too much\"}}"
    );
    let readable = read("text/event-stream", r#"{"error":"this is no stream"}"#);
    assert_eq!((readable.form, &*readable.content), ("text", r#"{"error":"this is no stream"}"#));
}

#[test]
fn a_cut_stream_gives_a_beginning_of_the_text() {
    let stream = chat();
    for cut in 0..stream.len() {
        let body = RawBody { length: stream.len() as u64, ..raw("text/event-stream", &stream[..cut]) };
        let readable = read_with(body, &[]);
        assert_eq!(readable.cut, Some("size"));
        assert!(!readable.content.contains("choices"), "half an event is left out: {}", readable.content);
    }
}

#[test]
fn text_is_told_from_binary() {
    let of = |content_type: &str, bytes: &[u8]| {
        let readable = read(content_type, bytes);
        (readable.form, readable.content)
    };
    assert_eq!(of("application/json", b"{}"), ("text", "{}".to_string()));
    assert_eq!(of("", "é".as_bytes()), ("text", "é".to_string()));
    assert_eq!(of("application/octet-stream", b"{\"a\":1}\n"), ("text", "{\"a\":1}\n".to_string()));
    assert_eq!(of("audio/mpeg", b"\xff\xfb\x90"), ("base64", "//uQ".to_string()));
    assert_eq!(of("image/x", b"a\0b"), ("base64", "YQBi".to_string()));
    assert_eq!(of("application/json", b"\"\xff\0\""), ("text", "\"\u{fffd}\u{fffd}\"".to_string()));
    assert_eq!(of("text/plain; charset=gbk", b"\xc4\xe3"), ("base64", "xOM=".to_string()));
    let cut = RawBody { length: 9, ..raw("", &"né".as_bytes()[..2]) };
    assert_eq!(read_with(cut, &[]).content, "n");
    assert_eq!(read("", "").content, "");
}

#[test]
fn a_coded_body_is_decoded_and_one_that_cannot_be_is_not_stored() {
    let coded = |coding: &str, bytes: Vec<u8>| {
        let readable = read_with(RawBody { content_encoding: coding.into(), ..raw("application/json", bytes) }, &[]);
        (readable.content, readable.cut)
    };
    let secret = format!("{{\"a\":\"{CANARY}\"}}");
    for coding in ["gzip", "deflate", "br", "zstd"] {
        assert_eq!(coded(coding, encode(coding, secret.as_bytes())), ("{\"a\":\"***\"}".to_string(), None), "{coding}");
    }
    let (bomb, cut) = coded("gzip, gzip", encode("gzip", &encode("gzip", &vec![b'0'; 10 << 20])));
    assert_eq!((bomb.len(), cut), (1 << 20, Some("bomb")));
    assert_eq!(coded("gzip", secret.clone().into_bytes()), (String::new(), Some("broken")));
    assert_eq!(coded("exi", secret.into_bytes()).0, "[removed: unknown content coding]");
}

#[test]
fn a_known_secret_is_hidden_wherever_it_stands() {
    use base64::Engine as _;
    let in_base64 = base64::engine::general_purpose::STANDARD.encode(format!("login:{CANARY}:end"));
    let percent = CANARY.replace('/', "%2F").replace('+', "%2b");
    let form = format!(
        "--b\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\n{CANARY}\r\n\
         --b\r\ncontent-disposition: form-data; name=\"password\"\r\n\r\nanything\r\n\
         --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{CANARY}.txt\"\r\n\r\n{CANARY}\r\n--b--\r\n"
    );
    let (first, second) = CANARY.split_at(7);
    let stream = sse(&[
        &json!({"choices": [{"delta": {"content": format!("it is {first}")}}]}).to_string(),
        &json!({"choices": [{"delta": {"content": format!("{second}.")}}]}).to_string(),
        &json!({"unknown": CANARY}).to_string(),
        &json!({"choices": [], "usage": {"who": CANARY}}).to_string(),
    ]);
    let binary = [b"\xff\0".as_slice(), CANARY.as_bytes()].concat();
    for (content_type, bytes) in [
        ("application/json", json!({"a": CANARY, "b": {"c": [CANARY]}}).to_string().into_bytes()),
        ("application/json", format!("{{\"data\":\"{in_base64}\"}}").into_bytes()),
        ("application/x-www-form-urlencoded", format!("a=1&b={percent}").into_bytes()),
        ("multipart/form-data; boundary=b", form.into_bytes()),
        ("text/event-stream", stream.into_bytes()),
        ("application/octet-stream", binary),
        (CANARY, b"x".to_vec()),
    ] {
        let readable = read(content_type, &bytes);
        let all = format!("{readable:?}");
        for leaked in [CANARY, &percent, &in_base64[8..24], "anything", second] {
            assert!(!all.contains(leaked), "{leaked} in {all}");
        }
        assert!(all.contains("***") || all.contains("[removed: contains a secret]"), "{all}");
    }
}

#[test]
fn a_secret_that_is_cut_leaves_no_telling_part() {
    let text = format!("{{\"a\":\"{CANARY}\"}}");
    let stream = sse(&[
        &format!("{{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}", &CANARY[..10]),
        &format!("{{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}", &CANARY[10..]),
    ]);
    for (content_type, whole) in [("application/json", &text), ("text/event-stream", &stream)] {
        for cut in 0..whole.len() {
            let body = RawBody { length: whole.len() as u64, ..raw(content_type, &whole[..cut]) };
            let content = read_with(body, &[]).content;
            assert!(!content.contains(&CANARY[..8]) && !content.contains(&CANARY[10..]), "cut at {cut}: {content}");
        }
    }
}

#[test]
fn the_patterns_of_the_config_hide_too() {
    let patterns = ["[0-9]{3}-[0-9]{4}", "(?i)project x"];
    let body = raw("text/plain", "call 555-1234 about Project X or $1");
    assert_eq!(read_with(body, &patterns).content, "call *** about *** or $1");
    let stream =
        sse(&[r#"{"choices":[{"delta":{"content":"555-"}}]}"#, r#"{"choices":[{"delta":{"content":"1234"}}]}"#]);
    assert_eq!(read_with(raw("text/event-stream", stream), &patterns).content, "***");
    assert_eq!(read_with(raw("", b"\xff555-1234"), &patterns).content, "[removed: contains a secret]");
}

proptest! {
    #[test]
    fn pieces_cut_anywhere_merge_to_the_same_text(text in "\\PC{0,40}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let characters: Vec<char> = text.chars().collect();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(characters.len() + 1)).collect();
        ends.push(characters.len());
        ends.sort_unstable();
        let mut start = 0;
        let mut stream = String::new();
        for end in ends {
            let piece: String = characters[start..end].iter().collect();
            stream += &format!("data: {}\n\n", json!({"choices": [{"delta": {"content": piece}}]}));
            start = end;
        }
        let patterns = Patterns::default();
        let expected = read("text/plain; charset=utf-8", &text).content;
        let merged = readable(raw("text/event-stream", stream), &Redactor::new(&[], &patterns));
        prop_assert!(text.is_empty() || merged.content == expected);
    }

    #[test]
    fn any_body_is_read(
        bytes: Vec<u8>,
        content_type in "(text/event-stream|application/json|multipart/form-data; boundary=b|\\PC{0,8})",
        content_encoding in "(|gzip|br|zstd|deflate|x)",
        more in 0_u64..3,
    ) {
        let length = bytes.len() as u64 + more;
        let body = RawBody { content_encoding: content_encoding.into(), length, ..raw(&content_type, bytes) };
        let readable = read_with(body, &["a+"]);
        prop_assert_eq!(readable.bytes, length);
        prop_assert!(more == 0 || readable.cut.is_some());
    }

    #[test]
    fn any_events_are_read(events in "(data: |event: |\\{\"|\"\\}|choices|\":|\\[|\\]|delta|output|type|candidates|\n|\n\n|[a-z{}\"])*") {
        let readable = read("text/event-stream", &events);
        prop_assert_eq!(readable.bytes, events.len() as u64);
    }
}

fn journal(directory: &Directory) -> std::sync::Arc<Journal> {
    Journal::open(Options {
        directory: directory.path("journal"),
        shards: 1,
        segment_bytes: 1 << 30,
        memory_bytes: 1 << 20,
        fsync: None,
    })
}

/// Ids and texts of the requests that the journal holds.
fn stored(journal: &std::sync::Arc<Journal>) -> Vec<([u8; 16], String)> {
    let mut reader = Reader::new(journal.clone(), Position::default());
    let mut batch = Batch::default();
    let appetite = Appetite { bodies: true, ..Appetite::default() };
    while !reader.fill(&mut batch, &appetite).unwrap() {}
    let of = |bodies: &Bodies<'_>| {
        (bodies.id, bodies.request.as_ref().map_or(String::new(), |body| body.content.to_string()))
    };
    let items = batch.items().filter_map(|item| match item {
        Item::Bodies(bodies) => Some(of(&bodies)),
        Item::Record(_) => None,
    });
    items.collect()
}

fn captured(number: u32, request: &str) -> Captured {
    let secrets = vec![Secret::new(CANARY)];
    Captured { id: id(number), request: Some(raw("text/plain", request)), secrets, ..Captured::default() }
}

#[test]
fn what_is_offered_is_in_the_journal_when_the_keeper_has_stopped() {
    let directory = Directory::new("bodies");
    let journal = journal(&directory);
    let (queue, keeper) = BodyKeeper::start(journal.clone(), &[]).unwrap();
    queue.offer(captured(1, &format!("my key is {CANARY}")));
    queue.clone().offer(captured(2, "two"));
    keeper.stop(time::now() + Duration::from_secs(30));
    assert_eq!(stored(&journal), [(id(1), "my key is ***".to_string()), (id(2), "two".to_string())]);
    assert_eq!((queue.kept(), queue.lost()), (2, 0));
    queue.offer(captured(3, "too late"));
    assert_eq!((queue.kept(), queue.lost()), (2, 1));
}

#[test]
fn new_patterns_hold_from_now_on() {
    let directory = Directory::new("bodies");
    let journal = journal(&directory);
    let (queue, keeper) = BodyKeeper::start(journal.clone(), &["one".into()]).unwrap();
    queue.set_redact(&["two".into()]);
    queue.offer(captured(1, "one two"));
    keeper.stop(time::now() + Duration::from_secs(30));
    assert_eq!(stored(&journal), [(id(1), "one ***".to_string())]);
}

#[test]
fn a_keeper_that_falls_behind_drops_and_counts_and_holds_up_nobody() {
    let directory = Directory::new("bodies");
    let journal = journal(&directory);
    let (queue, keeper) = BodyKeeper::start(journal.clone(), &[]).unwrap();
    let large = "x".repeat(1 << 20);
    for number in 0..200 {
        queue.offer(captured(number, &large));
    }
    assert!(queue.lost() > 0);
    // No time is left: what waits is lost, and counted.
    keeper.stop(time::now());
    let is_settled = || queue.kept() + queue.lost() == 200;
    let until = std::iter::repeat_with(|| std::thread::sleep(Duration::from_millis(10))).take(6_000);
    assert!(until.into_iter().any(|()| is_settled()), "{} kept, {} lost", queue.kept(), queue.lost());
}

#[test]
fn bodies_take_no_memory_from_records_while_the_disk_takes_nothing() {
    let directory = Directory::new("bodies");
    std::fs::write(directory.path("journal"), "a file where the directory should be").unwrap();
    let journal = journal(&directory);
    let (queue, keeper) = BodyKeeper::start(journal.clone(), &[]).unwrap();
    queue.offer(captured(1, "one"));
    keeper.stop(time::now() + Duration::from_secs(30));
    assert_eq!((queue.kept(), queue.lost(), journal.state().memory_bytes), (0, 1, 0));
}
