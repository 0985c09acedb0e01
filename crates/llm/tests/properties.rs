//! Properties of every parser, on generated and on arbitrary input. The checks are those of the fuzz targets.

use aiproxy_llm::fuzzing;
use proptest::prelude::*;

/// JSON text with what makes scanning hard: duplicate, escaped and interesting keys, nesting, odd white space.
fn json() -> impl Strategy<Value = String> {
    let space = prop::sample::select(vec!["", "", "", " ", "\n\t", "\r\n"]);
    let key = prop::sample::select(vec![
        "\"model\"",
        "\"mod\\u0065l\"",
        "\"stream\"",
        "\"stream_options\"",
        "\"include_usage\"",
        "\"response\"",
        "\"usage\"",
        "\"a\"",
        "\"b\"",
        "\"c\"",
        "\"d\"",
        "\"\\u0064\"",
        "\"session\"",
        "\"\"",
        "\"\\\"}{\"",
        "\"a very long key that goes on and on, longer than any that is looked for\"",
        "\"st\\r\\/eam\"",
    ]);
    let leaf = prop::sample::select(vec![
        "true",
        "false",
        "null",
        "0",
        "-1.5e3",
        "12",
        "\"\"",
        "\"qwen-plus\"",
        "\"{\\\"model\\\":\\\"x\\\"}\"",
        "\"\\\\\"",
        "\"\\u540d\\ud83d\\ude00\"",
        "\"名, with some length to it so that memchr gets its turn\"",
        "[]",
        "{}",
        "[[],{}]",
        "[0.1,0.2,-0.3,0.123456789,1,2,3,4,5,6,7,8,9]",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 60, 6, move |inner| {
        let spaced =
            (space.clone(), inner, space.clone()).prop_map(|(left, value, right)| format!("{left}{value}{right}"));
        let member = (space.clone(), key.clone(), space.clone(), spaced.clone())
            .prop_map(|(left, key, right, value)| format!("{left}{key}{right}:{value}"));
        prop_oneof![
            3 => prop::collection::vec(member, 1..6).prop_map(|members| format!("{{{}}}", members.join(","))),
            1 => prop::collection::vec(spaced, 1..5).prop_map(|elements| format!("[{}]", elements.join(","))),
        ]
    })
}

/// A stream made of the lines that matter.
fn stream() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec![
            "\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "data: {\"choices\":[", "],\"usage\":{\"prompt_tokens\":1}}", "]}",
            "data:", "data", "data: x", ": comment", "id: 1", "event: error", "event:error", "retry: 5", "\u{feff}",
            "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7}}\n\n",
            "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}],\"usage\":null}\n\n",
            "data: {\"error\":{\"code\":\"c\",\"message\":\"m\"}}\n\n", "data: [DONE]\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":6}}\n\n",
            "event: content_block_delta\ndata: {}\n\n", "{\"usage\":{\"input_tokens\":-1}}", "[{\"usageMetadata\":{}}]",
        ]),
        0..14,
    )
    .prop_map(|parts| parts.concat())
}

fn form() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec![
            "--b",
            "\r\n--b",
            "\r\n",
            "\r\n\r\n",
            "--",
            "\r",
            "\r\n-",
            "whisper-1",
            "true",
            " ",
            "b",
            "--b\r\n",
            "Content-Disposition: form-data; name=\"model\"\r\n\r\n",
            "content-disposition: form-data; name=stream\r\n\r\n",
            "Content-Disposition: form-data; name=\"session\"\r\n\r\n{\"model\":\"gpt-realtime\"}",
            "Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n",
        ]),
        0..16,
    )
    .prop_map(|parts| parts.concat())
}

fn seeded(seed: u8, text: &str) -> Vec<u8> {
    [&[seed], text.as_bytes()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn the_scanner_finds_what_serde_finds(seed: u8, text in json()) {
        fuzzing::json_scan(&seeded(seed, &text));
    }

    #[test]
    fn the_peek_edits_only_what_it_says(seed: u8, text in json()) {
        fuzzing::peek(&seeded(seed, &text));
    }

    #[test]
    fn events_are_the_same_wherever_they_are_cut(seed: u8, text in stream()) {
        fuzzing::sse(&seeded(seed, &text));
    }

    #[test]
    fn the_meter_reads_the_same_wherever_it_is_cut(seed: u8, text in prop_oneof![stream(), json()]) {
        fuzzing::meter(&seeded(seed, &text));
    }

    #[test]
    fn forms_are_the_same_wherever_they_are_cut(seed: u8, text in form()) {
        fuzzing::multipart(&seeded(seed, &text));
    }

    #[test]
    fn nothing_panics_on_arbitrary_bytes(input in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::json_scan(&input);
        fuzzing::peek(&input);
        fuzzing::sse(&input);
        fuzzing::meter(&input);
        fuzzing::multipart(&input);
    }

    #[test]
    fn nothing_panics_on_nearly_json(seed: u8, text in json(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut input = seeded(seed, &text);
        let at = at.index(input.len());
        input[at] = byte;
        fuzzing::json_scan(&input);
        fuzzing::peek(&input);
        fuzzing::meter(&input);
    }
}
