//! Given a request body, then what only a thorough peek learns from it.

use super::*;

fn peek(body: &str) -> PeekedBody {
    let mut peek = RequestPeek::thorough();
    peek.feed(body.as_bytes());
    peek.finish()
}

#[test]
fn the_groups_of_paths_are_where_they_are_said_to_be() {
    assert_eq!(ALL_PATHS[..PATHS.len()], *PATHS);
    assert_eq!(ALL_PATHS.len(), crate::json_scan::MAX_PATHS);
    let first = |range: Range<usize>| ALL_PATHS[range.start][0];
    assert_eq!(first(OUTPUT_LIMITS), "max_completion_tokens");
    assert_eq!(first(CONVERSATION_NAMES), "prompt_cache_key");
    assert_eq!(first(SYSTEM_PARTS), "system");
    assert_eq!(first(PROMPTS), "messages");
    assert_eq!(ALL_PATHS[CONTENTS], ["contents"]);
    assert_eq!(first(WORKS), "previous_response_id");
    assert_eq!(WORKS.end, ALL_PATHS.len());
}

#[test]
fn output_limits_of_every_dialect() {
    for (body, expected) in [
        (r#"{"max_tokens":100,"max_completion_tokens":200}"#, Some(200)),
        (r#"{"max_tokens":100,"max_completion_tokens":null}"#, Some(100)),
        (r#"{"max_output_tokens":300}"#, Some(300)),
        (r#"{"generationConfig":{"temperature":1,"maxOutputTokens":400}}"#, Some(400)),
        (r#"{"input":{},"parameters":{"max_tokens":500}}"#, Some(500)),
        (r#"{"max_tokens":-1}"#, None),
        (r#"{"max_tokens":1.5}"#, None),
        (r#"{"max_tokens":"inf"}"#, None),
        (r#"{"max_tokens":99999999999999999999}"#, None),
        (r#"{"messages":[{"max_tokens":1}]}"#, None),
    ] {
        assert_eq!(peek(body).max_output_tokens, expected, "{body}");
    }
}

#[test]
fn earlier_work_is_named() {
    for (body, expected) in [
        (r#"{"previous_response_id":"resp_1","conversation":"conv_1"}"#, vec!["resp_1", "conv_1"]),
        (r#"{"conversation":{"id":"conv_1"}}"#, vec!["conv_1"]),
        (r#"{"input_file_id":"file-1","endpoint":"/v1/responses"}"#, vec!["file-1"]),
        (r#"{"training_file":"file-1","input_file_id":"file-1"}"#, vec!["file-1"]),
        (r#"{"cachedContent":"projects/1/locations/l/cachedContents/c"}"#, vec!["cachedContents/c"]),
        (r#"{"operationName":"projects/1/publishers/google/models/veo/operations/o"}"#, vec!["operations/o"]),
        (r#"{"previous_response_id":null,"conversation":"","input_file_id":7}"#, vec![]),
    ] {
        assert_eq!(peek(body).works, expected, "{body}");
    }
    assert!(peek(&format!(r#"{{"previous_response_id":"{}"}}"#, "x".repeat(257))).works.is_empty());
}

#[test]
fn a_plain_peek_learns_none_of_it_and_the_rest_is_the_same() {
    let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":false},"max_tokens":5,
        "user":"u","previous_response_id":"resp_1","messages":[{"role":"user","content":"hi"}]}"#;
    let mut plain = RequestPeek::new();
    plain.feed(body.as_bytes());
    let mut expected = peek(body);
    assert!(expected.conversation.is_some() && expected.max_output_tokens == Some(5) && expected.works.len() == 1);
    (expected.conversation, expected.max_output_tokens, expected.works) = (None, None, Vec::new());
    assert_eq!(plain.finish(), expected);
}
