use serde_json::{Value, json};

use crate::dialect::Dialect;
use crate::error::GatewayError;
use crate::realtime::{Protocol, error_messages};

const REVOKED: GatewayError<'_> =
    GatewayError { status: 401, code: "key_disabled", message: "The key was \"disabled\".", request_id: "req_1" };

fn messages(protocol: Protocol, dialect: Dialect, error: GatewayError<'_>, tasks: &[&str]) -> Vec<Value> {
    let tasks: Vec<String> = tasks.iter().map(|task| (*task).to_owned()).collect();
    let messages = error_messages(protocol, dialect, error, &tasks);
    messages.iter().map(|message| serde_json::from_str(message).unwrap()).collect()
}

#[test]
fn openai_and_qwen_get_an_error_event() {
    let expected = json!({
        "type": "error",
        "event_id": "event_req_1",
        "error": {
            "type": "authentication_error",
            "code": "key_disabled",
            "message": "The key was \"disabled\".",
            "param": null,
            "event_id": null,
        },
    });
    for (protocol, dialect) in [
        (Protocol::Realtime, Dialect::Openai),
        (Protocol::Realtime, Dialect::Dashscope),
        (Protocol::Live, Dialect::Openai),
    ] {
        assert_eq!(messages(protocol, dialect, REVOKED, &["ignored"]), std::slice::from_ref(&expected), "{protocol:?}");
    }
    let text = &error_messages(Protocol::Realtime, Dialect::Openai, REVOKED, &[])[0];
    assert!(text.starts_with(r#"{"type":"error","#), "whoever looks at the beginning sees what it is");
}

#[test]
fn a_used_up_quota_is_an_insufficient_one() {
    let error = GatewayError { status: 429, code: "quota_exceeded", message: "m", request_id: "r" };
    assert_eq!(messages(Protocol::Realtime, Dialect::Openai, error, &[])[0]["error"]["type"], "insufficient_quota");
    let error = GatewayError { status: 429, code: "rate_limited", message: "m", request_id: "r" };
    assert_eq!(messages(Protocol::Realtime, Dialect::Openai, error, &[])[0]["error"]["type"], "rate_limit_error");
}

#[test]
fn responses_get_the_flat_form_as_well() {
    let message = &messages(Protocol::Responses, Dialect::Openai, REVOKED, &[])[0];
    assert_eq!((&message["code"], &message["error"]["code"]), (&json!("key_disabled"), &json!("key_disabled")));
    assert_eq!((&message["message"], &message["sequence_number"]), (&json!("The key was \"disabled\"."), &json!(0)));
}

#[test]
fn each_task_is_told_that_it_failed() {
    let failed = |task: &str| {
        json!({
            "header": {
                "task_id": task,
                "event": "task-failed",
                "error_code": "key_disabled",
                "error_message": "The key was \"disabled\".",
                "attributes": {},
            },
            "payload": {},
        })
    };
    let tell = |tasks| messages(Protocol::DashscopeInference, Dialect::Dashscope, REVOKED, tasks);
    assert_eq!(tell(&["a", "b"]), [failed("a"), failed("b")]);
    assert_eq!(tell(&[]), [failed("")]);
}

#[test]
fn gemini_has_no_such_message() {
    assert!(messages(Protocol::GeminiLive, Dialect::Gemini, REVOKED, &[]).is_empty());
    assert!(messages(Protocol::Unread, Dialect::Openai, REVOKED, &[]).is_empty());
}
