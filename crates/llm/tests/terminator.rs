//! Given a stream cut behind any byte, then it is terminated exactly when the blank line of its last event has come,
//! and by then the usage is known. A client acts on that blank line, so its record must be writable at that moment.

use aiproxy_llm::dialect::{Dialect, Operation};
use aiproxy_llm::meter::{Meter, MeterKind};

const CHAT: &str = "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}],\"usage\":null}\n\ndata: {\"model\":\"m\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\ndata: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10}}\n\ndata: [DONE]\n\n";
const RESPONSES: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"m\",\"usage\":null}}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":19,\"output_tokens\":10}}}\n\n";
const MESSAGES: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":19,\"output_tokens\":1}}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":10}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const COHERE: &str = "event: content-delta\ndata: {\"type\":\"content-delta\",\"delta\":{\"message\":{\"content\":{\"text\":\"hi\"}}}}\n\nevent: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":{\"billed_units\":{\"input_tokens\":19,\"output_tokens\":10}}}}\n\n";
const TRANSCRIPT: &str = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"hi\"}\n\ndata: {\"type\":\"transcript.text.done\",\"text\":\"hi\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":19,\"output_tokens\":10}}\n\n";
const SPEECH: &str = "data: {\"type\":\"speech.audio.delta\",\"audio\":\"UklG\"}\n\ndata: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":19,\"output_tokens\":10}}\n\n";
const IMAGE: &str = "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"iVBO\"}\n\nevent: image_generation.completed\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"iVBO\",\"usage\":{\"input_tokens\":19,\"output_tokens\":10}}\n\n";
const GEMINI: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hi\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":19,\"candidatesTokenCount\":10}}\r\n\r\n";
const DASHSCOPE: &str = "id:1\nevent:result\ndata:{\"output\":{\"choices\":[{\"message\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]},\"usage\":{\"input_tokens\":19,\"output_tokens\":10}}\n\n";

fn stream(dialect: Dialect, operation: Operation) -> Meter {
    Meter::new(dialect, operation, MeterKind::Sse)
}

const TERMINATED: [(Dialect, Operation, &str); 7] = [
    (Dialect::Openai, Operation::ChatCompletions, CHAT),
    (Dialect::Openai, Operation::Responses, RESPONSES),
    (Dialect::Anthropic, Operation::Messages, MESSAGES),
    (Dialect::Openai, Operation::CohereChat, COHERE),
    (Dialect::Openai, Operation::Transcription, TRANSCRIPT),
    (Dialect::Openai, Operation::Speech, SPEECH),
    (Dialect::Openai, Operation::Images, IMAGE),
];

#[test]
fn the_blank_line_of_the_last_event_terminates_and_usage_is_known_by_then() {
    for (dialect, operation, text) in TERMINATED {
        for body in [text.to_string(), text.replace('\n', "\r\n")] {
            for cut in 0..=body.len() {
                let mut meter = stream(dialect, operation);
                meter.feed(&body.as_bytes()[..cut]);
                // The LF of a last CRLF is part of the blank line.
                assert_eq!(meter.is_terminated(), cut == body.len(), "{operation:?} {cut}: {}", &body[..cut]);
                meter.feed(&body.as_bytes()[cut..]);
                assert!(meter.is_terminated(), "{operation:?}, the rest behind {cut}");
                let usage = meter.snapshot().usage.unwrap();
                assert_eq!((usage.input, usage.output), (Some(19), Some(10)), "{operation:?} {cut}");
            }
        }
    }
}

#[test]
fn what_follows_the_terminator_changes_nothing() {
    let trailing = "\n: bye\n\ndata: {\"model\":\"n\",\"error\":\"late\",\"choices\":[{\"delta\":{\"content\":\"more\"}}],\"usage\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\ndata: half";
    for (dialect, operation, body) in TERMINATED {
        let mut meter = stream(dialect, operation);
        meter.feed(body.as_bytes());
        let at_the_end = meter.clone().finish();
        assert!(at_the_end.finished);
        meter.feed(trailing.as_bytes());
        assert!(meter.is_terminated());
        assert_eq!(meter.finish(), at_the_end, "in a later chunk");
        let mut meter = stream(dialect, operation);
        meter.feed(format!("{body}{trailing}").as_bytes());
        assert_eq!(meter.finish(), at_the_end, "in the same chunk");
    }
}

#[test]
fn streams_that_end_with_their_body_never_terminate() {
    for (dialect, operation, body) in [
        (Dialect::Gemini, Operation::StreamGenerateContent, GEMINI),
        (Dialect::Dashscope, Operation::DashscopeGeneration, DASHSCOPE),
        // A finish reason, a usage chunk, but no [DONE] yet.
        (Dialect::Openai, Operation::ChatCompletions, &CHAT[..CHAT.len() - "data: [DONE]\n\n".len()]),
    ] {
        let mut meter = stream(dialect, operation);
        meter.feed(body.as_bytes());
        assert!(meter.is_finished() && !meter.is_terminated(), "{operation:?}");
        let metered = meter.finish();
        assert_eq!(metered.usage.map(|usage| usage.total_tokens()), Some(29), "{operation:?}");
        assert!(metered.finished);
    }
}

#[test]
fn an_error_that_stands_alone_terminates() {
    for (dialect, operation, body) in [
        (Dialect::Openai, Operation::ChatCompletions, "data: {\"error\":{\"message\":\"m\",\"code\":\"c\"}}\n\n"),
        (
            Dialect::Openai,
            Operation::Responses,
            "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"m\"}\n\n",
        ),
        (
            Dialect::Openai,
            Operation::Responses,
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"c\"},\"output\":[]}}\n\n",
        ),
        (
            Dialect::Anthropic,
            Operation::Messages,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n",
        ),
        (
            Dialect::Gemini,
            Operation::StreamGenerateContent,
            "data: {\"error\":{\"code\":429,\"message\":\"m\"}}\r\n\r\n",
        ),
        (
            Dialect::Dashscope,
            Operation::DashscopeGeneration,
            "event:error\ndata:{\"code\":\"c\",\"message\":\"m\"}\n\n",
        ),
    ] {
        let mut meter = stream(dialect, operation);
        meter.feed(&body.as_bytes()[..body.len() - 1]);
        assert!(!meter.is_terminated(), "{body}");
        meter.feed(&body.as_bytes()[body.len() - 1..]);
        assert!(meter.is_terminated() && meter.finish().error.is_some(), "{body}");
    }
}

#[test]
fn a_warning_beside_the_answer_ends_nothing() {
    let warned = CHAT.replacen("\"usage\":null", "\"error\":{\"message\":\"slow\"},\"usage\":null", 1);
    let mut meter = stream(Dialect::Openai, Operation::ChatCompletions);
    meter.feed(&warned.as_bytes()[..warned.len() - 14]);
    assert!(!meter.is_terminated());
    meter.feed(b": ping\n\ndata: {\"ping\":1}\n\n");
    assert!(!meter.is_terminated(), "nor does what comes later");
    meter.feed(b"data: [DONE]\n\n");
    assert!(meter.is_terminated());
    let metered = meter.finish();
    assert_eq!(metered.usage.map(|usage| usage.total_tokens()), Some(29));
    assert!(metered.error.is_some());
}

#[test]
fn a_document_terminates_with_its_last_bracket() {
    for (dialect, operation, kind, body) in [
        (Dialect::Openai, Operation::ChatCompletions, MeterKind::Json, r#"{"usage":{"prompt_tokens":1},"choices":[]}"#),
        (Dialect::Gemini, Operation::StreamGenerateContent, MeterKind::JsonArray, r#"[{"usageMetadata":{}},{}]"#),
    ] {
        let mut meter = Meter::new(dialect, operation, kind);
        meter.feed(&body.as_bytes()[..body.len() - 1]);
        assert!(!meter.is_terminated());
        meter.feed(&body.as_bytes()[body.len() - 1..]);
        assert!(meter.is_terminated());
        meter.feed(b"\n");
        assert!(meter.is_terminated(), "white space changes nothing");
    }
    let mut meter = Meter::new(Dialect::Openai, Operation::Speech, MeterKind::Other);
    meter.feed(b"RIFF");
    assert!(!meter.is_terminated());
}
