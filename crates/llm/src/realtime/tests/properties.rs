use proptest::prelude::*;

use crate::fuzzing;

/// Objects made of what matters: every key and value that is looked for, repeated, escaped and nested.
fn message() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "type",
        "\\u0074ype",
        "header",
        "action",
        "task_id",
        "payload",
        "model",
        "mod\\u0065l",
        "setup",
        "session",
        "audio",
        "input",
        "transcription",
        "input_audio_transcription",
        "response",
        "id",
        "usage",
        "realtimeInput",
        "client_content",
        "serverContent",
        "modelTurn",
        "turnComplete",
        "interrupted",
        "toolCall",
        "usageMetadata",
        "event",
        "decision",
        "error",
        "code",
        "item_id",
        "x",
        "",
    ]);
    let leaf = prop::sample::select(vec![
        "\"session.update\"",
        "\"response.create\"",
        "\"session\\u002estart\"",
        "\"input_audio_buffer.append\"",
        "\"response.done\"",
        "\"response.created\"",
        "\"response.completed\"",
        "\"session.created\"",
        "\"session.started\"",
        "\"session.usage.updated\"",
        "\"response.event\"",
        "\"error\"",
        "\"conversation.item.input_audio_transcription.completed\"",
        "\"run-task\"",
        "\"finish-task\"",
        "\"task-started\"",
        "\"result-generated\"",
        "\"task-finished\"",
        "\"task-failed\"",
        "\"gpt\"",
        "\"models/x\"",
        "\"\"",
        "\"\\\"}{\"",
        "true",
        "false",
        "null",
        "5",
        "-1",
        "[]",
        "{}",
        "{\"input_tokens\":5,\"output_tokens\":1}",
        "{\"seconds\":1.5}",
        "{\"characters\":3}",
        "{\"promptTokenCount\":2}",
        "NaN",
    ])
    .prop_map(str::to_owned);
    let object = leaf.prop_recursive(4, 40, 5, move |inner| {
        let member = (key.clone(), inner).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")))
    });
    prop_oneof![4 => object, 4 => known(), 1 => ".{0,40}"]
}

/// Messages as they are sent, with ids and numbers that meet again.
fn known() -> impl Strategy<Value = String> {
    let form = prop::sample::select(vec![
        r#"{"type":"response.created","response":{"id":"ID"}}"#,
        r#"{"type":"response.done","response":{"id":"ID","model":"ID","usage":{"input_tokens":NUMBER}}}"#,
        r#"{"event_id":"e","type":"response.completed","response":{"id":"ID","usage":{"output_tokens":NUMBER}}}"#,
        r#"{"type":"session.updated","session":{"model":"ID","audio":{"input":{"transcription":{"model":"t"}}}}}"#,
        r#"{"type":"conversation.item.input_audio_transcription.completed","item_id":"ID","usage":{"seconds":NUMBER}}"#,
        r#"{"type":"session.started","session":{"model":"ID"}}"#,
        r#"{"type":"session.usage.updated","usage":{"seconds":NUMBER}}"#,
        r#"{"type":"response.event","event":{"type":"response.created","response":{"id":"ID"}}}"#,
        r#"{"type":"decision.event","event":{"decision":{"id":"ID","usage":{"input_tokens":NUMBER}}}}"#,
        r#"{"header":{"action":"run-task","task_id":"ID"},"payload":{"model":"ID"}}"#,
        r#"{"header":{"event":"result-generated","task_id":"ID"},"payload":{"usage":{"characters":NUMBER}}}"#,
        r#"{"header":{"event":"task-finished","task_id":"ID"},"payload":{"usage":null}}"#,
        r#"{"setup":{"model":"models/ID"}}"#,
        r#"{"serverContent":{"modelTurn":{"parts":[]}},"usageMetadata":{"promptTokenCount":NUMBER}}"#,
        r#"{"usageMetadata":{"promptTokenCount":NUMBER}}"#,
        r#"{"serverContent":{"interrupted":true}}"#,
        r#"{"serverContent":{"turnComplete":true},"usageMetadata":{"responseTokenCount":NUMBER}}"#,
    ]);
    (form, 0..20_u32, 0..5_u32)
        .prop_map(|(form, id, number)| form.replace("ID", &format!("i{id}")).replace("NUMBER", &number.to_string()))
}

fn seeded(seed: u8, text: &str) -> Vec<u8> {
    [&[seed], text.as_bytes()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn client_messages_are_judged_the_same_wherever_they_are_cut(seed: u8, text in message()) {
        fuzzing::realtime_client(&seeded(seed, &text));
    }

    #[test]
    fn upstream_messages_count_the_same_wherever_they_are_cut(seed: u8, texts in prop::collection::vec(message(), 0..12)) {
        fuzzing::realtime_meter(&seeded(seed, &texts.join("\n")));
    }

    #[test]
    fn nothing_panics_on_arbitrary_bytes(input in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzzing::realtime_client(&input);
        fuzzing::realtime_meter(&input);
    }

    #[test]
    fn nothing_panics_on_nearly_json(seed: u8, text in message(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut input = seeded(seed, &text);
        let at = at.index(input.len());
        input[at] = byte;
        fuzzing::realtime_client(&input);
        fuzzing::realtime_meter(&input);
    }
}
