use super::{hear, only, say, tokens};
use crate::realtime::{Protocol, SessionMeter};
use crate::usage::UsageFlaw;
use crate::websocket::Kind;

/// Recorded.
const COMPLETE: &str = r#"{"serverContent":{"turnComplete":true},"usageMetadata":{"promptTokenCount":11,"responseTokenCount":7,"totalTokenCount":18,"responseTokensDetails":[{"modality":"AUDIO","tokenCount":7}]}}"#;
const CONTENT: &str =
    r#"{"serverContent":{"modelTurn":{"parts":[{"inlineData":{"mimeType":"audio/pcm;rate=24000","data":"AAAA"}}]}}}"#;
const INTERRUPTED: &str = r#"{"serverContent":{"interrupted":true}}"#;
const TURN_COMPLETE: &str = r#"{"serverContent":{"turnComplete":true}}"#;

fn meter() -> SessionMeter {
    let mut meter = SessionMeter::new(Protocol::GeminiLive, None);
    say(&mut meter, Protocol::GeminiLive, r#"{"setup":{"model":"models/gemini-live"}}"#).unwrap();
    hear(&mut meter, r#"{"setupComplete":{}}"#);
    meter
}

fn report(input: u64, output: u64) -> String {
    format!(r#"{{"usageMetadata":{{"promptTokenCount":{input},"responseTokenCount":{output}}}}}"#)
}

#[test]
fn one_report_counts_for_each_turn() {
    let mut meter = meter();
    assert!(!hear(&mut meter, CONTENT));
    assert!(meter.has_open_work());
    assert!(!hear(&mut meter, r#"{"serverContent":{"generationComplete":true}}"#));
    assert!(meter.has_open_work(), "the turn is not over");
    assert!(hear(&mut meter, COMPLETE));
    assert!(!meter.has_open_work());
    assert_eq!(tokens(&meter), [(Some("gemini-live"), Some(11), Some(7))]);
    assert_eq!(only(&meter).audio_output, Some(7));
    hear(&mut meter, CONTENT);
    assert!(hear(&mut meter, COMPLETE));
    assert_eq!((tokens(&meter), meter.turns()), (vec![(Some("gemini-live"), Some(22), Some(14))], 2));
    assert!(meter.cancel().is_empty() && meter.open_tasks().is_empty());
}

#[test]
fn binary_frames_hold_the_same_json() {
    let mut meter = meter();
    for piece in COMPLETE.as_bytes().chunks(3) {
        meter.feed(Kind::Binary, piece);
    }
    assert!(meter.end());
    assert_eq!(only(&meter).input, Some(11));
    meter.feed(Kind::Binary, &[0, 1, 2, b'{']);
    assert!(!meter.end());
    assert_eq!(meter.flaw(), None, "what is no object is none of ours");
}

#[test]
fn the_last_report_within_a_turn_stands() {
    let mut meter = meter();
    hear(&mut meter, &report(1, 1));
    hear(&mut meter, CONTENT);
    hear(&mut meter, &report(5, 2));
    assert!(!hear(&mut meter, &report(5, 2)));
    assert_eq!(tokens(&meter), [(Some("gemini-live"), Some(5), Some(2))], "known while the turn lasts");
    let with_tool_call = r#"{"toolCall":{"functionCalls":[{"name":"f","id":"1"}]},"usageMetadata":{"promptTokenCount":6,"responseTokenCount":3}}"#;
    hear(&mut meter, with_tool_call);
    assert!(meter.has_open_work());
    hear(&mut meter, COMPLETE);
    assert_eq!((tokens(&meter), meter.turns()), (vec![(Some("gemini-live"), Some(11), Some(7))], 1));
}

#[test]
fn thoughts_and_tools_count_as_over_http() {
    let mut meter = meter();
    hear(
        &mut meter,
        r#"{"usageMetadata":{"promptTokenCount":10,"toolUsePromptTokenCount":4,"cachedContentTokenCount":3,"responseTokenCount":7,"thoughtsTokenCount":5,"totalTokenCount":26,"promptTokensDetails":[{"modality":"TEXT","tokenCount":2},{"modality":"AUDIO","tokenCount":8}]},"serverContent":{"turnComplete":true}}"#,
    );
    let usage = only(&meter);
    assert_eq!((usage.input, usage.output, usage.reasoning), (Some(14), Some(12), Some(5)));
    assert_eq!((usage.cached, usage.audio_input), (Some(3), Some(8)));
}

#[test]
fn an_interrupted_turn_counts_with_its_last_report() {
    let mut meter = meter();
    hear(&mut meter, CONTENT);
    hear(&mut meter, &report(5, 2));
    hear(&mut meter, INTERRUPTED);
    assert!(!meter.has_open_work());
    assert_eq!(only(&meter).input, Some(5));
    hear(&mut meter, CONTENT);
    hear(&mut meter, COMPLETE);
    assert_eq!((tokens(&meter), meter.turns()), (vec![(Some("gemini-live"), Some(16), Some(9))], 2));
}

#[test]
fn an_interruption_and_its_end_are_one_turn() {
    let mut meter = meter();
    hear(&mut meter, CONTENT);
    hear(&mut meter, &report(5, 2));
    hear(&mut meter, INTERRUPTED);
    hear(&mut meter, COMPLETE);
    assert_eq!((tokens(&meter), meter.turns()), (vec![(Some("gemini-live"), Some(11), Some(7))], 1));
    hear(&mut meter, INTERRUPTED);
    hear(&mut meter, CONTENT);
    hear(&mut meter, COMPLETE);
    assert_eq!(meter.turns(), 2, "an interruption between two turns is none");
}

#[test]
fn a_report_behind_the_end_belongs_to_the_turn_that_ended() {
    let mut meter = meter();
    hear(&mut meter, CONTENT);
    hear(&mut meter, TURN_COMPLETE);
    assert!(hear(&mut meter, &report(5, 2)));
    assert!(!hear(&mut meter, &report(5, 2)), "repeated");
    assert!(hear(&mut meter, &report(5, 3)), "grown");
    assert_eq!((tokens(&meter), meter.turns()), (vec![(Some("gemini-live"), Some(5), Some(3))], 1));
    hear(&mut meter, CONTENT);
    hear(&mut meter, COMPLETE);
    assert_eq!((tokens(&meter), meter.turns()), (vec![(Some("gemini-live"), Some(16), Some(10))], 2));
}

#[test]
fn a_report_behind_the_end_that_cannot_be_the_same_is_added() {
    let mut meter = meter();
    hear(&mut meter, CONTENT);
    hear(&mut meter, COMPLETE);
    assert!(hear(&mut meter, &report(20, 1)));
    assert_eq!((tokens(&meter), meter.turns()), (vec![(Some("gemini-live"), Some(31), Some(8))], 2));
}

#[test]
fn a_turn_without_content_is_a_turn() {
    let mut meter = meter();
    hear(&mut meter, COMPLETE);
    hear(&mut meter, COMPLETE);
    assert_eq!((tokens(&meter), meter.turns()), (vec![(Some("gemini-live"), Some(22), Some(14))], 2));
}

#[test]
fn other_messages_change_nothing() {
    let mut meter = meter();
    hear(&mut meter, COMPLETE);
    for message in [
        r#"{"goAway":{"timeLeft":"10s"}}"#,
        r#"{"sessionResumptionUpdate":{"newHandle":"h","resumable":true}}"#,
        r#"{"serverContent":{"inputTranscription":{"text":"hi"}}}"#,
        r#"{"serverContent":{"modelTurn":null,"turnComplete":false}}"#,
        "{}",
        "[]",
        "",
    ] {
        assert!(!hear(&mut meter, message), "{message}");
    }
    assert_eq!((meter.turns(), meter.has_open_work(), meter.flaw(), meter.error()), (1, false, None, None));
}

#[test]
fn content_is_not_kept() {
    let mut meter = meter();
    let sound = "A".repeat(200_000);
    let message = CONTENT.replace("AAAA", &sound).replace("}}}", "}},\"usageMetadata\":{\"promptTokenCount\":3}}");
    hear(&mut meter, &message);
    assert_eq!((only(&meter).input, meter.flaw()), (Some(3), None));
    assert!(hear(&mut meter, COMPLETE));
    let large = format!(r#"{{"usageMetadata":{{"x":"{sound}"}}}}"#);
    assert!(!hear(&mut meter, &large));
    assert_eq!((only(&meter).input, meter.flaw()), (Some(11), Some(UsageFlaw::TooLarge)));
}

#[test]
fn an_error_is_remembered() {
    let mut meter = meter();
    hear(&mut meter, r#"{"error":{"code":429,"message":"Too much.","status":"RESOURCE_EXHAUSTED"}}"#);
    assert_eq!(meter.error().unwrap().code.as_deref(), Some("429"));
}
