//! Given the bodies of several turns, then one number; given another conversation, then another.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::RequestPeek;
use super::*;

fn of_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<u64> {
    let mut peek = RequestPeek::thorough();
    for piece in pieces {
        peek.feed(piece);
    }
    peek.finish().conversation
}

fn of(body: &Value) -> Option<u64> {
    of_pieces([body.to_string().as_bytes()])
}

/// Turns of a conversation whose first user message is `first`: the assistant's and the user's words alternate.
fn messages(leading: &[Value], first: &Value, turns: usize, assistant: &str, part: impl Fn(&str) -> Value) -> Value {
    let mut messages = leading.to_vec();
    messages.push(first.clone());
    for turn in 1..turns {
        let mut answer = part(&format!("answer {turn}"));
        answer["role"] = assistant.into();
        let mut question = part(&format!("question {turn}"));
        question["role"] = "user".into();
        messages.extend([answer, question]);
    }
    messages.into()
}

fn content(text: &str) -> Value {
    json!({ "role": "", "content": text })
}

fn gemini_parts(text: &str) -> Value {
    json!({ "role": "", "parts": [{ "text": text }] })
}

/// A body of each dialect, with the given first words of the user and number of turns.
fn bodies(first: &str, turns: usize) -> Vec<(&'static str, Value)> {
    let system = [
        json!({ "role": "system", "content": "You are a helpful assistant." }),
        json!({ "role": "developer", "content": [{ "type": "text", "text": "Be brief." }] }),
    ];
    let user = json!({ "role": "user", "content": first });
    let parts = json!({ "role": "user", "content": [{ "type": "text", "text": "See this:" },
        { "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{first}") } }] });
    let input = json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": first }] });
    let contents = json!({ "role": "user", "parts": [{ "text": first }] });
    let chat = messages(&system, &user, turns, "assistant", content);
    vec![
        ("chat", json!({ "model": "m", "messages": chat, "max_tokens": turns })),
        ("parts", json!({ "model": "m", "messages": messages(&system, &parts, turns, "assistant", content) })),
        (
            "responses",
            json!({ "model": "m", "instructions": "Be brief.",
            "input": messages(&[], &input, turns, "assistant", content) }),
        ),
        (
            "anthropic",
            json!({ "model": "m", "max_tokens": 9, "system": [{ "type": "text", "text": "Be brief." }],
            "messages": messages(&[], &user, turns, "assistant", content) }),
        ),
        (
            "gemini",
            json!({ "systemInstruction": { "parts": [{ "text": "Be brief." }] },
            "contents": messages(&[], &contents, turns, "model", gemini_parts) }),
        ),
        ("dashscope", json!({ "model": "m", "input": { "messages": chat }, "parameters": {} })),
    ]
}

#[test]
fn turns_agree_and_conversations_differ() {
    let long = "Résumé of a \"long\" story\n".repeat(2000);
    for first in ["hi", "hello", &long] {
        for index in 0..6 {
            let (name, body) = &bodies(first, 1)[index];
            let number = of(body);
            assert!(number.is_some(), "{name}");
            for turns in [2, 5, 400] {
                assert_eq!(of(&bodies(first, turns)[index].1), number, "{name}, {turns} turns");
            }
            assert_ne!(of(&bodies("good evening", 1)[index].1), number, "{name}");
            assert_ne!(of(&bodies(&format!("x{first}"), 5)[index].1), number, "{name}");
        }
    }
}

#[test]
fn appending_changes_nothing_wherever_the_first_message_meets_the_limit() {
    for length in (PROMPT_CAPTURE_LIMIT - 1200)..(PROMPT_CAPTURE_LIMIT + 20) {
        let first = "a".repeat(length);
        for index in [0, 2, 4] {
            let (name, body) = &bodies(&first, 1)[index];
            assert_eq!(of(&bodies(&first, 2)[index].1), of(body), "{name}, {length}");
        }
    }
}

#[test]
fn the_system_part_counts() {
    for [one, other] in [
        [
            r#"{"system":"a","messages":[{"role":"user","content":"x"}]}"#,
            r#"{"messages":[{"role":"user","content":"x"}]}"#,
        ],
        [r#"{"instructions":"a","input":"x"}"#, r#"{"instructions":"b","input":"x"}"#],
        [
            r#"{"system_instruction":{"parts":[{"text":"a"}]},"contents":[{"parts":[{"text":"x"}]}]}"#,
            r#"{"system_instruction":{"parts":[{"text":"b"}]},"contents":[{"parts":[{"text":"x"}]}]}"#,
        ],
        [
            r#"{"messages":[{"role":"system","content":"a"},{"role":"user","content":"x"}]}"#,
            r#"{"messages":[{"role":"system","content":"b"},{"role":"user","content":"x"}]}"#,
        ],
    ] {
        assert_ne!(of_pieces([one.as_bytes()]), of_pieces([other.as_bytes()]), "{one}");
    }
}

#[test]
fn the_same_message_written_in_another_way() {
    let long = format!(r#""{}""#, "long ".repeat(8000));
    for text in [r#""a \"quoted\" \\ word\n""#, long.as_str()] {
        let forms = [
            format!(r#"{{"system":"s","messages":[{{"role":"user","content":{text}}}]}}"#),
            format!(
                r#"{{"messages" : [ {{"content": {text}, "role": "user" }} , {{"role":"assistant"}}], "system":"s"}}"#
            ),
            format!(
                r#"{{"system":[{{"type":"text","text":"s","cache_control":{{"type":"ephemeral","ttl":"1h"}}}}],
                "messages":[{{"role":"user","content":[
                {{"type":"text","text":{text},"cache_control":{{"type":"ephemeral","ttl":["5m"]}}}}]}}]}}"#
            ),
            format!(r#"{{"instructions":"s","input":{text}}}"#),
            format!(
                r#"{{"instructions":"s","input":[{{"id":"msg_1","status":"done","role":"user","content":{text}}}]}}"#
            ),
            format!(r#"{{"system":"s","prompt":{text}}}"#),
            format!(r#"{{"system":"s","input":{{"prompt":{text}}}}}"#),
            format!(r#"{{"system":"s","contents":{{"role":"user","parts":{{"text":{text}}}}}}}"#),
            format!(r#"{{"system":"s","contents":[{{"parts":[{{"text":{text}}}]}},{{"parts":[{{"text":"more"}}]}}]}}"#),
        ];
        for form in &forms {
            assert_eq!(of_pieces([form.as_bytes()]), of_pieces([forms[0].as_bytes()]), "{form}");
        }
    }
}

#[test]
fn what_the_client_names_is_believed_in_order() {
    let names = ["prompt_cache_key", "metadata", "safety_identifier", "user"];
    let value = |name: &str| if name == "metadata" { json!({ "user_id": "a" }) } else { json!("a") };
    let mut body = json!({ "messages": [{ "role": "user", "content": "x" }] });
    let mut seen = vec![of(&body)];
    for name in names.into_iter().rev() {
        body[name] = value(name);
        seen.push(of(&body));
        let alone = json!({ name: value(name) });
        assert_eq!(of(&alone), of(&body), "{name}");
    }
    for (index, number) in seen.iter().enumerate() {
        assert!(number.is_some() && !seen[..index].contains(number), "{index}");
    }
    for name in [json!(""), json!(null), json!(7), json!("x".repeat(40_000))] {
        body = json!({ "user": name, "messages": [{ "role": "user", "content": "x" }] });
        assert_eq!(of(&body), seen[0], "{name}");
    }
}

#[test]
fn without_words_there_is_no_conversation() {
    for body in [
        "",
        "{}",
        "[]",
        r#"{"messages":[]}"#,
        r#"{"messages":null,"system":"s"}"#,
        r#"{"messages":[{"role":"user","content":""}]}"#,
        r#"{"prompt":{"id":"pmpt_1"}}"#,
        r#"{"input":{"texts":["a"]}}"#,
        r#"{"messages":[{"role":"user","content":"x"}]} trailing"#,
    ] {
        assert_eq!(of_pieces([body.as_bytes()]), None, "{body}");
    }
    assert!(of_pieces([br#"{"prompt":{"id":"p"},"input":"x"}"#.as_slice()]).is_some());
}

#[test]
fn numbers_stay_what_they_are() {
    assert_eq!(stable_hash(&[]), 0xf52a_15e9_a9b5_e89b);
    assert_eq!(stable_hash(&[b"session", b"4711"]), 0xccbe_e42c_a66c_fcff);
    assert_eq!(of_pieces([br#"{"user":"u"}"#.as_slice()]), Some(0xff60_33db_8fa0_c039));
    assert_eq!(
        of_pieces([br#"{"system":"s","messages":[{"role":"user","content":"hi"}]}"#.as_slice()]),
        Some(0xcb08_96a8_73ae_6593)
    );
}

#[test]
fn hashes_differ_where_parts_do() {
    let parts: &[&[&[u8]]] = &[
        &[],
        &[b""],
        &[b"", b""],
        &[b"a"],
        &[b"a\0"],
        &[b"\0a"],
        &[b"a", b"b"],
        &[b"ab"],
        &[b"b", b"a"],
        &[b"abcdefgh"],
        &[b"abcdefgh", b""],
        &[b"abcdefghi"],
        &[b"abcdefgh\0"],
    ];
    let mut hashes: Vec<u64> = parts.iter().map(|parts| stable_hash(parts)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), parts.len());
}

#[test]
fn hashes_of_similar_names_spread() {
    let mut buckets = [0_u32; 16];
    for number in 0..16_000 {
        buckets[(stable_hash(&[format!("session-{number}").as_bytes()]) % 16) as usize] += 1;
    }
    assert!(buckets.iter().all(|count| (850..1150).contains(count)), "{buckets:?}");
}

/// JSON text of all that is looked at, and some that is nearly JSON.
fn body() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\"",
        "\\",
        "null",
        "7",
        "\"role\":\"user\"",
        "\"role\":\"system\"",
        "\"content\":\"hi\"",
        "\"messages\":[{",
        "\"input\":{\"messages\":[",
        "\"input\":\"x\"",
        "\"contents\":[{",
        "\"cache_control\":{\"type\":\"x\"}",
        "\"system\":[",
        "\"user\":\"u\"",
        "\"type\":\"\\\"",
        "}],",
        "},{",
        "\"conversation\":{\"id\":\"c\"}",
        "\"previous_response_id\":\"resp_1\",",
        "\"max_tokens\":5",
    ]);
    let padding = prop::sample::select(vec![0, 0, 0, 31_000, 32_760, 40_000]);
    (prop::collection::vec(token, 0..16), padding)
        .prop_map(|(tokens, padding)| format!("{{{}\"prompt\":\"{}\"}}", tokens.concat(), "x".repeat(padding)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_body_cut_anywhere_is_the_same(text in body(), at in any::<prop::sample::Index>(), size in 1_usize..64) {
        let whole = {
            let mut peek = RequestPeek::thorough();
            peek.feed(text.as_bytes());
            peek.finish()
        };
        for cut in [1, size] {
            let mut peek = RequestPeek::thorough();
            text.as_bytes().chunks(cut).for_each(|piece| peek.feed(piece));
            prop_assert_eq!(peek.finish(), whole.clone());
        }
        let (left, right) = text.as_bytes().split_at(at.index(text.len()));
        prop_assert_eq!(of_pieces([left, right]), whole.conversation);
    }

    #[test]
    fn appended_messages_change_nothing(
        first in ".{1,40}",
        repeated in 1_usize..200,
        system in prop::option::of(".{0,5000}"),
        later in prop::collection::vec(".{0,40}", 1..5),
    ) {
        let mut list: Vec<Value> = system.iter().map(|text| json!({ "role": "system", "content": text })).collect();
        list.push(json!({ "role": "user", "content": [{ "type": "text", "text": first.repeat(repeated) }] }));
        let number = of(&json!({ "messages": list }));
        for text in later {
            list.push(json!({ "role": "assistant", "content": text }));
            list.push(json!({ "role": "user", "content": text }));
            prop_assert_eq!(of(&json!({ "messages": list })), number);
        }
    }

    #[test]
    fn nothing_panics_on_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for texts in [Texts::of(&bytes), Texts::up_to_first_user(&bytes)] {
            prop_assert!(texts.map(<[u8]>::len).sum::<usize>() <= bytes.len());
        }
    }
}
