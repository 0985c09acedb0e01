use super::{hear, only, say, tokens};
use crate::realtime::{Protocol, SessionMeter};

/// Recorded, from the HTTP stream, whose events a socket has as they are.
const COMPLETED: &str = r#"{"type":"response.completed","sequence_number":8,"response":{"id":"resp_1","object":"response","status":"completed","model":"gpt-x","output":[],"usage":{"input_tokens":19,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":0},"output_tokens":10,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":29}}}"#;

#[test]
fn interleaved_responses_count_each_under_its_model() {
    let mut meter = SessionMeter::new(Protocol::Responses, None);
    say(&mut meter, Protocol::Responses, r#"{"type":"response.create","model":"gpt-x","input":"hi","stream_id":"a"}"#)
        .unwrap();
    say(&mut meter, Protocol::Responses, r#"{"type":"response.create","model":"gpt-y","input":"hi","stream_id":"b"}"#)
        .unwrap();
    assert_eq!(meter.model(), Some("gpt-y"), "the last asked for");
    hear(&mut meter, r#"{"type":"response.created","stream_id":"a","response":{"id":"resp_1","model":"gpt-x"}}"#);
    hear(&mut meter, r#"{"type":"response.created","stream_id":"b","response":{"id":"resp_2","model":"gpt-y"}}"#);
    hear(&mut meter, r#"{"type":"response.output_text.delta","stream_id":"b","delta":"h"}"#);
    assert!(meter.has_open_work() && meter.cancel().is_empty(), "there is no message that cancels");
    assert!(hear(&mut meter, COMPLETED));
    assert!(!hear(&mut meter, COMPLETED), "the same again");
    assert!(meter.has_open_work());
    let incomplete = COMPLETED
        .replace("resp_1", "resp_2")
        .replace("gpt-x", "gpt-y")
        .replace(r#""type":"response.completed""#, r#""type":"response.incomplete""#);
    assert!(hear(&mut meter, &incomplete));
    assert!(!meter.has_open_work());
    assert_eq!(tokens(&meter), [(Some("gpt-x"), Some(19), Some(10)), (Some("gpt-y"), Some(19), Some(10))]);
    assert_eq!((meter.used()[0].usage.cached, meter.used()[0].usage.reasoning), (Some(4), Some(3)));
    assert_eq!((meter.turns(), meter.model()), (2, Some("gpt-y")));
}

#[test]
fn a_failed_response_without_usage_ends_its_work() {
    let mut meter = SessionMeter::new(Protocol::Responses, None);
    hear(&mut meter, r#"{"type":"response.created","response":{"id":"resp_1"}}"#);
    let failed = r#"{"type":"response.failed","response":{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"Sorry."},"usage":null}}"#;
    assert!(!hear(&mut meter, failed));
    assert!(!meter.has_open_work());
    assert_eq!(meter.error().unwrap().code.as_deref(), Some("server_error"));
    assert_eq!((meter.used().len(), meter.turns(), meter.flaw()), (0, 0, None));
}

#[test]
fn realtimes_end_of_a_response_is_none_here() {
    let mut meter = SessionMeter::new(Protocol::Responses, Some("gpt-x"));
    assert!(!hear(&mut meter, &COMPLETED.replace("response.completed", "response.done")));
    assert!(hear(&mut meter, &COMPLETED.replace(r#""id":"resp_1","#, "").replace(r#""model":"gpt-x","#, "")));
    assert_eq!(
        (only(&meter).input, meter.used()[0].model.as_deref()),
        (Some(19), Some("gpt-x")),
        "without id or model"
    );
}

#[test]
fn a_flat_error_is_read_like_a_nested_one() {
    let mut meter = SessionMeter::new(Protocol::Responses, None);
    hear(
        &mut meter,
        r#"{"type":"error","code":"websocket_connection_limit_reached","message":"60 minutes.","param":null}"#,
    );
    assert_eq!(meter.error().unwrap().code.as_deref(), Some("websocket_connection_limit_reached"));
    hear(
        &mut meter,
        r#"{"type":"error","status":400,"error":{"type":"invalid_request_error","code":"c","message":"m"}}"#,
    );
    assert_eq!(meter.error().unwrap().code.as_deref(), Some("c"));
}
