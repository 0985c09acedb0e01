//! Given a provider's list, then what an SDK of each dialect gets.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn written(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn parsed(list: &Value) -> Vec<ModelEntry> {
    parse_list(list.to_string().as_bytes()).unwrap()
}

fn openai() -> Value {
    json!({ "object": "list", "data": [
        { "id": "gpt-x", "object": "model", "created": 1_739_923_200, "owned_by": "openai", "permission": [] },
    ] })
}

fn anthropic() -> Value {
    json!({ "data": [{ "type": "model", "id": "claude-x", "display_name": "Claude X",
        "created_at": "2025-02-19T00:00:00Z", "max_tokens": 64_000 }],
        "has_more": false, "first_id": "claude-x", "last_id": "claude-x" })
}

fn gemini() -> Value {
    json!({ "models": [{ "name": "models/gemini-x", "version": "2", "displayName": "Gemini X",
        "inputTokenLimit": 1_048_576, "supportedGenerationMethods": ["embedContent"] }] })
}

#[test]
fn a_list_goes_through_its_own_dialect_unchanged() {
    for (dialect, list) in [(Dialect::Openai, openai()), (Dialect::Anthropic, anthropic()), (Dialect::Gemini, gemini())]
    {
        assert_eq!(written(&write_list(dialect, &parsed(&list))), list, "{dialect}");
    }
}

#[test]
fn lists_of_all_providers_come_together_in_each_dialect() {
    let entries: Vec<ModelEntry> = [openai(), anthropic(), gemini()].iter().flat_map(parsed).collect();
    assert_eq!(
        written(&write_list(Dialect::Openai, &entries)),
        json!({ "object": "list", "data": [
            { "id": "gpt-x", "object": "model", "created": 1_739_923_200, "owned_by": "openai", "permission": [] },
            { "id": "claude-x", "object": "model", "created": 1_739_923_200, "owned_by": "system" },
            { "id": "gemini-x", "object": "model", "created": 0, "owned_by": "system" },
        ] })
    );
    assert_eq!(
        written(&write_list(Dialect::Anthropic, &entries)),
        json!({ "data": [
            { "id": "gpt-x", "type": "model", "display_name": "gpt-x", "created_at": "2025-02-19T00:00:00Z" },
            anthropic()["data"][0],
            { "id": "gemini-x", "type": "model", "display_name": "Gemini X", "created_at": "1970-01-01T00:00:00Z" },
        ], "has_more": false, "first_id": "gpt-x", "last_id": "gemini-x" })
    );
    let methods = json!(["generateContent", "countTokens"]);
    assert_eq!(
        written(&write_list(Dialect::Gemini, &entries)),
        json!({ "models": [
            { "name": "models/gpt-x", "version": "001", "displayName": "gpt-x", "supportedGenerationMethods": methods },
            { "name": "models/claude-x", "version": "001", "displayName": "Claude X",
                "supportedGenerationMethods": methods },
            gemini()["models"][0],
        ] })
    );
    assert_eq!(write_list(Dialect::Dashscope, &entries), write_list(Dialect::Openai, &entries));
}

#[test]
fn one_model_is_written_as_in_the_list() {
    let mut entry = parsed(&openai()).remove(0);
    entry.id = "alias".to_owned();
    for (dialect, list) in [(Dialect::Openai, "data"), (Dialect::Anthropic, "data"), (Dialect::Gemini, "models")] {
        let one = written(&write_one(dialect, &entry));
        assert_eq!(one, written(&write_list(dialect, std::slice::from_ref(&entry)))[list][0]);
        assert!(one["id"] == "alias" || one["name"] == "models/alias");
    }
    assert_eq!(
        written(&write_one(Dialect::Openai, &ModelEntry::named("m"))),
        json!({ "id": "m", "object": "model", "created": 0, "owned_by": "system" })
    );
}

#[test]
fn empty_lists() {
    for body in ["{}", "[]", r#"{"data":[]}"#, r#"{"object":"list","data":null}"#, r#"{"models":[]}"#] {
        assert_eq!(parse_list(body.as_bytes()), Some(Vec::new()), "{body}");
    }
    assert_eq!(
        written(&write_list(Dialect::Anthropic, &[])),
        json!({ "data": [], "has_more": false, "first_id": null, "last_id": null })
    );
    assert_eq!(written(&write_list(Dialect::Gemini, &[])), json!({ "models": [] }));
}

#[test]
fn odd_lists_are_read_as_far_as_they_go() {
    let ids = |body: &str| {
        parse_list(body.as_bytes()).map(|entries| entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>())
    };
    let cases = [
        (r#"[{"id":"a","type":"chat"},"b",7,{"id":""},{"id":null,"name":"c"}]"#, Some(vec!["a", "b", "c"])),
        (r#"{"data":[{"id":"models/gemini-x","object":"model"}]}"#, Some(vec!["gemini-x"])),
        (r#"{"models":[{"name":"command-r"},{"name":"tunedModels/t"}]}"#, Some(vec!["command-r", "tunedModels/t"])),
        (r#"{"publisherModels":[{"name":"publishers/google/models/gemini-x"}]}"#, Some(vec!["gemini-x"])),
        (r#"{"data":[{"id":"meta/llama","created":"soon"}]}"#, Some(vec!["meta/llama"])),
        (r#"{"error":{"message":"no"}}"#, None),
        (r#"{"data":{"id":"a"}}"#, None),
        ("\"a\"", None),
        ("", None),
    ];
    for (body, expected) in cases {
        assert_eq!(ids(body), expected.map(|ids| ids.into_iter().map(str::to_owned).collect()), "{body}");
    }
    let tuned = parsed(&json!({ "models": [{ "name": "tunedModels/t" }] }));
    assert_eq!(written(&write_one(Dialect::Gemini, &tuned[0]))["name"], "tunedModels/t");
    let many = json!({ "data": vec![json!({ "id": "a" }); MOST_MODELS + 1] });
    assert_eq!(parsed(&many).len(), MOST_MODELS);
}

#[test]
fn the_model_asked_for() {
    for (path, expected) in [
        ("/v1/models", None),
        ("/v1/models/", None),
        ("/v1beta/models?pageSize=50", None),
        ("/v1/models/gpt-x", Some("gpt-x")),
        ("/v1//models//gpt-x/", Some("gpt-x")),
        ("/models/meta/llama%203?x=1", Some("meta/llama%203")),
        ("/v1/models/accounts/a/models/b", Some("accounts/a/models/b")),
        ("/v1beta/models/gemini-x", Some("gemini-x")),
        ("/v1beta/openai/models/models/gemini-x", Some("gemini-x")),
        ("/v1beta1/publishers/google/models/gemini-x", Some("gemini-x")),
        ("", None),
    ] {
        assert_eq!(asked_one(path), expected, "{path}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        ids in prop::collection::vec("[a-zé\"/ .-]{1,12}", 0..5),
        created in 0_u64..253_402_300_799,
    ) {
        let entries: Vec<ModelEntry> =
            ids.iter().map(|id| ModelEntry { created: Some(created), ..ModelEntry::named(id.as_str()) }).collect();
        for dialect in Dialect::ALL {
            let read = parse_list(&write_list(dialect, &entries)).unwrap();
            let read_ids: Vec<&str> = read.iter().map(|entry| entry.id.as_str()).collect();
            prop_assert_eq!(read_ids, ids.iter().map(String::as_str).collect::<Vec<_>>());
            let expected = (dialect != Dialect::Gemini).then_some(created);
            prop_assert!(read.iter().all(|entry| entry.created == expected));
        }
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), path in ".{0,40}") {
        let entries = parse_list(&bytes).unwrap_or_default();
        prop_assert!(entries.len() <= bytes.len());
        prop_assert!(asked_one(&path).is_none_or(|id| path.contains(id)));
    }
}
