use super::{hear, only, say, tokens};
use crate::realtime::{ModelRole, Protocol, SessionMeter, read_client_message};
use crate::usage::UsageFlaw;
use crate::websocket::Kind;

/// Recorded.
const DONE: &str = r#"{"type":"response.done","event_id":"e","response":{"object":"realtime.response","id":"resp_1","status":"completed","output":[],"usage":{"total_tokens":275,"input_tokens":127,"output_tokens":148,"input_token_details":{"text_tokens":119,"audio_tokens":8,"image_tokens":0,"cached_tokens":64,"cached_tokens_details":{"text_tokens":64,"audio_tokens":0,"image_tokens":0}},"output_token_details":{"text_tokens":36,"audio_tokens":112}}}}"#;

fn meter() -> SessionMeter {
    SessionMeter::new(Protocol::Realtime, Some("gpt-realtime"))
}

#[test]
fn a_response_counts_once_with_all_its_parts() {
    let mut meter = meter();
    assert!(hear(&mut meter, DONE));
    let usage = only(&meter);
    assert_eq!((usage.input, usage.output, usage.cached), (Some(127), Some(148), Some(64)));
    assert_eq!((usage.audio_input, usage.audio_output, usage.image_input), (Some(8), Some(112), Some(0)));
    assert!(!hear(&mut meter, DONE), "the same again");
    assert_eq!((only(&meter), meter.turns(), meter.flaw()), (usage, 1, None));
    assert!(hear(&mut meter, &DONE.replace("resp_1", "resp_2")));
    assert_eq!((only(&meter).input, meter.turns()), (Some(254), 2));
}

#[test]
fn cancelled_failed_and_incomplete_responses_count_too() {
    let mut meter = meter();
    for (number, status) in ["cancelled", "failed", "incomplete"].into_iter().enumerate() {
        let done = DONE.replace("resp_1", &format!("resp_{number}")).replace("completed", status);
        assert!(hear(&mut meter, &done), "{status}");
    }
    assert_eq!(only(&meter).output, Some(3 * 148));
    assert!(!hear(&mut meter, r#"{"type":"response.done","response":{"id":"r","status":"failed","usage":null}}"#));
    assert_eq!((meter.turns(), meter.flaw()), (3, None));
}

#[test]
fn work_is_open_from_created_to_done() {
    let mut meter = meter();
    assert!(!meter.has_open_work());
    hear(&mut meter, r#"{"type":"response.created","event_id":"e","response":{"id":"resp_1","status":"in_progress"}}"#);
    hear(&mut meter, r#"{"type":"response.created","event_id":"e","response":{"id":"resp_2","status":"in_progress"}}"#);
    assert!(meter.has_open_work());
    assert_eq!(
        meter.cancel(),
        [
            r#"{"type":"response.cancel","response_id":"resp_1"}"#,
            r#"{"type":"response.cancel","response_id":"resp_2"}"#
        ]
    );
    hear(&mut meter, DONE);
    assert_eq!(meter.cancel(), [r#"{"type":"response.cancel","response_id":"resp_2"}"#]);
    hear(&mut meter, r#"{"type":"response.done","response":{"id":"resp_2","status":"cancelled","usage":null}}"#);
    assert!(!meter.has_open_work());
    assert!(meter.cancel().is_empty() && meter.open_tasks().is_empty());
}

#[test]
fn no_more_than_so_many_responses_are_remembered() {
    let mut meter = meter();
    for number in 0..1000 {
        hear(&mut meter, &format!(r#"{{"type":"response.created","response":{{"id":"resp_{number}"}}}}"#));
        hear(&mut meter, &DONE.replace("resp_1", &format!("other_{number}")));
    }
    assert_eq!(meter.cancel().len(), 64);
    assert!(meter.cancel()[0].contains("resp_936"), "the oldest are forgotten");
    assert!(!hear(&mut meter, &DONE.replace("resp_1", "other_936")), "64 back");
    assert_eq!(meter.turns(), 1000);
}

#[test]
fn what_the_user_said_is_billed_under_the_model_that_writes_it_down() {
    let mut meter = meter();
    let completed = r#"{"type":"conversation.item.input_audio_transcription.completed","event_id":"e","item_id":"item_1","content_index":0,"transcript":"hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}}"#;
    hear(
        &mut meter,
        r#"{"type":"session.created","session":{"model":"gpt-realtime-2025-08-28","audio":{"input":{"transcription":null}}}}"#,
    );
    say(
        &mut meter,
        Protocol::Realtime,
        r#"{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"}}}}}"#,
    )
    .unwrap();
    hear(&mut meter, completed);
    hear(&mut meter, completed);
    hear(
        &mut meter,
        r#"{"type":"session.updated","session":{"model":"gpt-realtime-2025-08-28","audio":{"input":{"transcription":{"model":"whisper-1","language":"en"}}}}}"#,
    );
    let timed = r#"{"type":"conversation.item.input_audio_transcription.completed","item_id":"item_2","content_index":0,"usage":{"type":"duration","seconds":5}}"#;
    hear(&mut meter, timed);
    hear(&mut meter, DONE);
    assert_eq!(
        tokens(&meter),
        [
            (Some("gpt-4o-transcribe"), Some(14), Some(45)),
            (Some("whisper-1"), None, None),
            (Some("gpt-realtime-2025-08-28"), Some(127), Some(148)),
        ]
    );
    let roles: Vec<ModelRole> = meter.used().iter().map(|used| used.role).collect();
    assert_eq!(roles, [ModelRole::Transcription, ModelRole::Transcription, ModelRole::Main]);
    assert_eq!(meter.used()[1].usage.seconds_ms, Some(5000));
    assert_eq!(meter.model(), Some("gpt-realtime-2025-08-28"));
}

#[test]
fn a_transcription_without_a_model_counts_under_the_sessions() {
    let mut meter = meter();
    hear(
        &mut meter,
        r#"{"type":"conversation.item.input_audio_transcription.completed","usage":{"type":"duration","seconds":1.5}}"#,
    );
    assert_eq!(meter.used()[0].model.as_deref(), Some("gpt-realtime"));
    assert_eq!((meter.used()[0].role, only(&meter).seconds_ms), (ModelRole::Transcription, Some(1500)));
}

#[test]
fn an_alias_counts_under_the_model_that_served_it() {
    let mut meter = SessionMeter::new(Protocol::Realtime, None);
    let update = br#"{"type":"session.update","session":{"model":"alias"}}"#;
    meter.client_message(&read_client_message(Protocol::Realtime, update).unwrap(), Some("gpt-realtime"));
    assert_eq!(meter.model(), Some("gpt-realtime"));
    let listen = br#"{"type":"session.update","session":{"input_audio_transcription":{"model":"ears"}}}"#;
    meter.client_message(&read_client_message(Protocol::Realtime, listen).unwrap(), Some("whisper-1"));
    hear(&mut meter, DONE);
    hear(
        &mut meter,
        r#"{"type":"conversation.item.input_audio_transcription.completed","usage":{"type":"duration","seconds":1}}"#,
    );
    let models: Vec<Option<&str>> = meter.used().iter().map(|used| used.model.as_deref()).collect();
    assert_eq!(models, [Some("gpt-realtime"), Some("whisper-1")]);
}

#[test]
fn qwen_omni_writes_its_details_in_the_plural() {
    let mut meter = SessionMeter::new(Protocol::Realtime, Some("qwen-omni"));
    hear(
        &mut meter,
        r#"{"event_id":"e","type":"session.created","session":{"model":"qwen3-omni-flash-realtime","input_audio_transcription":{"model":"gummy-realtime-v1"}}}"#,
    );
    hear(&mut meter, r#"{"event_id":"e","type":"response.created","response":{"id":"resp_1"}}"#);
    assert!(meter.has_open_work());
    hear(&mut meter, r#"{"event_id":"e","type":"response.audio.delta","response_id":"resp_1","delta":"AAAA"}"#);
    // Recorded.
    hear(
        &mut meter,
        r#"{"type":"response.done","response":{"id":"resp_1","object":"realtime.response","status":"completed","usage":{"total_tokens":30,"input_tokens":20,"output_tokens":10,"input_tokens_details":{"text_tokens":12,"audio_tokens":8},"output_tokens_details":{"text_tokens":4,"audio_tokens":6}}}}"#,
    );
    hear(
        &mut meter,
        r#"{"type":"conversation.item.input_audio_transcription.completed","item_id":"i","usage":{"duration":3}}"#,
    );
    hear(&mut meter, r#"{"type":"session.finished"}"#);
    let usage = meter.used()[0].usage;
    assert_eq!(
        (usage.input, usage.output, usage.audio_input, usage.audio_output),
        (Some(20), Some(10), Some(8), Some(6))
    );
    assert_eq!(meter.used()[0].model.as_deref(), Some("qwen3-omni-flash-realtime"));
    assert_eq!(meter.used()[1].model.as_deref(), Some("gummy-realtime-v1"));
    assert_eq!(meter.used()[1].usage.seconds_ms, Some(3000));
    assert!(!meter.has_open_work());
}

#[test]
fn qwens_speech_is_billed_by_characters() {
    let mut meter = SessionMeter::new(Protocol::Realtime, Some("qwen-tts"));
    hear(&mut meter, r#"{"type":"response.done","response":{"id":"r","usage":{"characters":13}}}"#);
    assert_eq!((only(&meter).characters, meter.flaw()), (Some(13), None));
}

#[test]
fn the_last_error_is_remembered() {
    let mut meter = meter();
    hear(
        &mut meter,
        r#"{"type":"error","event_id":"e","error":{"type":"invalid_request_error","code":"invalid_value","message":"No.","param":null,"event_id":null}}"#,
    );
    let error = meter.error().unwrap();
    assert_eq!(
        (error.kind.as_deref(), error.code.as_deref(), error.message.as_deref()),
        (Some("invalid_request_error"), Some("invalid_value"), Some("No."))
    );
    hear(
        &mut meter,
        r#"{"type":"response.done","response":{"id":"r","status":"failed","status_details":{"type":"failed","error":{"type":"server_error","code":"inference_failed"}},"usage":null}}"#,
    );
    assert_eq!(meter.error().unwrap().code.as_deref(), Some("inference_failed"));
    hear(&mut meter, DONE);
    assert!(meter.error().is_some(), "a good response takes nothing back");
}

#[test]
fn a_report_that_cannot_be_true_is_a_flaw() {
    let mut meter = meter();
    assert!(!hear(&mut meter, r#"{"type":"response.done","response":{"id":"r","usage":{"input_tokens":-1}}}"#));
    assert_eq!((meter.flaw(), meter.used().len()), (Some(UsageFlaw::Negative), 0));
    let large =
        format!(r#"{{"type":"response.done","response":{{"id":"r","usage":{{"x":"{}"}}}}}}"#, "x".repeat(70_000));
    let mut meter = self::meter();
    assert!(!hear(&mut meter, &large));
    assert_eq!(meter.flaw(), Some(UsageFlaw::TooLarge));
    let mut meter = self::meter();
    assert!(!hear(&mut meter, &DONE[..DONE.len() - 2]), "cut off");
    assert_eq!(meter.flaw(), Some(UsageFlaw::Unreadable));
    assert!(hear(&mut meter, DONE), "the next message is read as ever");
}

#[test]
fn other_events_are_not_looked_into() {
    let mut meter = meter();
    for message in [
        r#"{"type":"response.output_audio.delta","response":{"usage":{"input_tokens":1}}}"#,
        r#"{"event_id":"e","type":"rate_limits.updated","response":{"usage":{"input_tokens":1}},"type":"response.done"}"#,
        r#"{"usage":{"input_tokens":1}}"#,
        r#"["response.done"]"#,
        "response.done",
        "",
    ] {
        assert!(!hear(&mut meter, message), "{message}");
    }
    assert_eq!((meter.used().len(), meter.flaw()), (0, None));
}

#[test]
fn a_type_with_escapes_or_behind_other_members_is_found() {
    for message in [
        DONE.replace(r#"{"type":"response.done","event_id":"e""#, r#"{"event_id":"e","type":"response.done""#),
        DONE.replace(r#""type":"response.done""#, r#""\u0074ype":"response\u002edone""#),
        DONE.replace(r#"{"type":"response.done""#, "\u{feff} {\n\t\"type\" : \"response.done\""),
        DONE.replace(r#"{"type":"response.done","#, "{").replace("}}}}", r#"}}},"type":"response.done"}"#),
    ] {
        for size in [1, 2, 3, 7, 1000] {
            let mut meter = meter();
            for piece in message.as_bytes().chunks(size) {
                meter.feed(Kind::Text, piece);
            }
            assert!(meter.end(), "{size}: {message}");
            assert_eq!(only(&meter).input, Some(127));
        }
    }
}

#[test]
fn an_upstream_that_names_a_new_model_each_time_fills_no_memory() {
    let mut meter = meter();
    for number in 0..500 {
        let done = DONE.replace("\"resp_1\"", &format!("\"resp_{number}\",\"model\":\"m{number}\""));
        hear(&mut meter, &done);
    }
    assert_eq!(meter.used().len(), 33);
    assert_eq!(meter.used()[32].model, None, "the rest is summed under none");
    assert_eq!(meter.used().iter().filter_map(|used| used.usage.input).sum::<u64>(), 500 * 127);
}
