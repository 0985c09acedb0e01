use crate::dialect::Operation;
use crate::realtime::{ClientReader, Protocol, Stance};

/// What a whole message comes to.
fn stance(protocol: Protocol, message: &str) -> Stance {
    let mut reader = ClientReader::new(protocol);
    reader.feed(message.as_bytes());
    reader.end()
}

/// The stance after each prefix: how many bytes it takes to leave `Undecided`, and for what.
fn decision(protocol: Protocol, message: &str) -> (usize, Stance) {
    let mut reader = ClientReader::new(protocol);
    for (at, byte) in message.as_bytes().iter().enumerate() {
        let stance = reader.feed(&[*byte]);
        if stance != Stance::Undecided {
            return (at + 1, stance);
        }
    }
    (message.len(), reader.end())
}

#[test]
fn every_operation_with_a_socket_has_its_protocol() {
    for (operation, protocol) in [
        (Operation::Realtime, Protocol::Realtime),
        (Operation::RealtimeTranslations, Protocol::Realtime),
        (Operation::RealtimeCalls, Protocol::Realtime),
        (Operation::DashscopeRealtime, Protocol::Realtime),
        (Operation::Responses, Protocol::Responses),
        (Operation::Live, Protocol::Live),
        (Operation::DashscopeInference, Protocol::DashscopeInference),
        (Operation::GeminiLive, Protocol::GeminiLive),
        (Operation::Other, Protocol::Unread),
    ] {
        assert_eq!(Protocol::of(operation), protocol, "{operation:?}");
        assert_eq!(protocol.is_read(), protocol != Protocol::Unread);
        assert_eq!(protocol.names_model_in_messages(), protocol.is_read());
    }
    assert!(Protocol::GeminiLive.reads_binary());
    assert!(!Protocol::DashscopeInference.reads_binary(), "sound");
}

#[test]
fn sound_is_let_go_after_its_type() {
    let append = format!(r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#, "A".repeat(50_000));
    assert_eq!(decision(Protocol::Realtime, &append), (35, Stance::Free));
    let sound = r#"{"realtimeInput":{"audio":{"data":"AAAA","mimeType":"audio/pcm"}}}"#;
    assert_eq!(decision(Protocol::GeminiLive, sound), (18, Stance::Free), "with the first byte of the value");
    let python = r#"{"realtime_input": {"media_chunks": [{"data": "AAAA", "mime_type": "audio/pcm"}]}}"#;
    assert_eq!(decision(Protocol::GeminiLive, python).1, Stance::Free);
    let text = r#"{"header":{"action":"continue-task","task_id":"t","streaming":"duplex"},"payload":{"input":{"text":"hello"}}}"#;
    assert_eq!(decision(Protocol::DashscopeInference, text), (35, Stance::Free));
    let finish = r#"{"header":{"streaming":"duplex","task_id":"t","action":"finish-task"},"payload":{"input":{}}}"#;
    assert_eq!(stance(Protocol::DashscopeInference, finish), Stance::Free);
}

#[test]
fn messages_that_may_name_a_model_are_held() {
    for (protocol, message) in [
        (Protocol::Realtime, r#"{"type":"session.update","session":{"model":"gpt-realtime"}}"#),
        (Protocol::Realtime, r#"{"event_id":"e","type":"transcription_session.update","session":{}}"#),
        (Protocol::Realtime, r#" { "type" : "response.create" } "#),
        (Protocol::Realtime, r#"{"\u0074ype":"session.\u0075pdate"}"#),
        (Protocol::Responses, r#"{"type":"response.create","model":"gpt-x","input":"hi"}"#),
        (Protocol::Live, r#"{"type":"session.start","session":{"model":"gpt-live"}}"#),
        (
            Protocol::DashscopeInference,
            r#"{"header":{"action":"run-task","task_id":"t"},"payload":{"model":"cosyvoice-v2"}}"#,
        ),
        (Protocol::DashscopeInference, r#"{"payload":{"model":"m"},"header":{"\u0061ction":"run-task"}}"#),
        (Protocol::GeminiLive, r#"{"setup":{"model":"models/x"}}"#),
    ] {
        assert_eq!(stance(protocol, message), Stance::Held, "{message}");
    }
}

#[test]
fn a_type_behind_a_large_value_is_waited_for() {
    let sound = "A".repeat(10_000);
    let message = format!(r#"{{"audio":"{sound}","type":"input_audio_buffer.append"}}"#);
    let (at, stance) = decision(Protocol::Realtime, &message);
    assert_eq!((at, stance), (message.len() - 1, Stance::Free));
}

#[test]
fn what_is_no_object_is_free() {
    for protocol in [Protocol::Realtime, Protocol::DashscopeInference, Protocol::GeminiLive] {
        for message in ["", "hello", "\u{1}\u{2}", "[]", r#"[{"type":"session.update"}]"#, "{}", r#"{"audio":"AAAA"}"#]
        {
            assert_eq!(stance(protocol, message), Stance::Free, "{message:?}");
        }
    }
    assert_eq!(stance(Protocol::Realtime, r#"{"type":5,"session":{"model":"m"}}"#), Stance::Free);
    assert_eq!(stance(Protocol::Unread, r#"{"type":"session.update"}"#), Stance::Free);
}

#[test]
fn a_second_deciding_key_is_a_contradiction() {
    for (protocol, message) in [
        (Protocol::Realtime, r#"{"type":"input_audio_buffer.append","type":"session.update","session":{"model":"m"}}"#),
        (Protocol::Realtime, r#"{"type":"input_audio_buffer.append","audio":"AA","\u0074ype":"session.update"}"#),
        (Protocol::Realtime, r#"{"type":"response.create","type":"response.create"}"#),
        (Protocol::Realtime, r#"{"type":null,"type":"session.update"}"#),
        (Protocol::DashscopeInference, r#"{"header":{"action":"finish-task"},"header":{"action":"run-task"}}"#),
        (Protocol::DashscopeInference, r#"{"header":{"action":"finish-task","action":"run-task"}}"#),
        (Protocol::DashscopeInference, r#"{"header":{"action":"finish-task"},"header":"run-task"}"#),
        (Protocol::GeminiLive, r#"{"realtimeInput":{"text":"hi"},"setup":{"model":"models/x"}}"#),
        (Protocol::GeminiLive, r#"{"setup":{"model":"models/x"},"setup":{"model":"models/y"}}"#),
    ] {
        assert_eq!(stance(protocol, message), Stance::Contradiction, "{message}");
    }
}

#[test]
fn a_nested_key_of_the_same_name_is_none() {
    let item = r#"{"type":"conversation.item.create","item":{"type":"message","content":[{"type":"input_text","text":"\"type\":\"session.update\""}]}}"#;
    assert_eq!(stance(Protocol::Realtime, item), Stance::Free);
    let input = r#"{"clientContent":{"turns":[{"parts":[{"text":"x","setup":{}}]}]}}"#;
    assert_eq!(stance(Protocol::GeminiLive, input), Stance::Free);
}

/// Some servers read `NaN` and comments, and would find keys behind them.
#[test]
fn what_is_not_json_behind_its_brace_is_a_contradiction() {
    for message in [
        r#"{"a":NaN,"type":"session.update","session":{"model":"m"}}"#,
        r#"{"type":"input_audio_buffer.append","a":NaN,"type":"session.update"}"#,
        r#"{/**/"type":"session.update"}"#,
        r#"{'type':'session.update'}"#,
        r#"{"type":"input_audio_buffer.append"} {"type":"session.update"}"#,
    ] {
        assert_eq!(stance(Protocol::Realtime, message), Stance::Contradiction, "{message}");
    }
}

#[test]
fn messages_do_not_touch_each_other() {
    let mut reader = ClientReader::new(Protocol::Realtime);
    for _ in 0..2 {
        assert_eq!(reader.feed(br#"{"type":"session.update"#), Stance::Undecided);
        assert_eq!(reader.feed(br#""}"#), Stance::Held);
        assert_eq!(reader.end(), Stance::Held);
        assert_eq!(reader.feed(br#"{"type":"input_audio_buffer.commit"}"#), Stance::Free);
        assert_eq!(reader.end(), Stance::Free);
        assert_eq!(reader.feed(br#"{"type":"a","type":"b"}"#), Stance::Contradiction);
        assert_eq!(reader.end(), Stance::Contradiction);
        assert_eq!(reader.feed(br#"{"type":"#), Stance::Undecided);
        assert_eq!(reader.end(), Stance::Free);
    }
}
