//! The gateway's own errors as messages on an open socket, in the form in which the SDKs raise them. A close frame, which
//! follows, has no room for more than a short reason.

use serde_json::{Value, json};

use crate::dialect::Dialect;
use crate::error::{GatewayError, envelope};

use super::Protocol;

/// Texts that tell the client what is wrong, to be sent before the socket is closed. DashScope's SDKs wait for an event
/// of their own task: there is one for each of `tasks`, and one without an id if there are none. Gemini Live has no
/// error message: there the close code and its reason say it all, and the list is empty, as for what is not read.
///
/// The form follows from the protocol alone; the dialect makes no difference, because Qwen-Omni's realtime speaks
/// OpenAI's language on a DashScope path.
#[must_use]
pub fn error_messages(protocol: Protocol, _dialect: Dialect, error: GatewayError<'_>, tasks: &[String]) -> Vec<String> {
    match protocol {
        Protocol::Realtime | Protocol::Live => vec![openai(error)],
        Protocol::Responses => vec![responses(error)],
        Protocol::DashscopeInference if tasks.is_empty() => vec![task_failed(error, "")],
        Protocol::DashscopeInference => tasks.iter().map(|task| task_failed(error, task)).collect(),
        Protocol::GeminiLive | Protocol::Unread => Vec::new(),
    }
}

/// The type stands first: whoever only looks at the beginning finds it.
fn openai(error: GatewayError<'_>) -> String {
    let event_id = format!("event_{}", error.request_id);
    json!({"type": "error", "event_id": event_id, "error": inner(error)}).to_string()
}

/// The documented event of Responses is flat, and its SDKs raise on a member `error`. Both, as in the stream.
fn responses(error: GatewayError<'_>) -> String {
    json!({
        "type": "error",
        "event_id": format!("event_{}", error.request_id),
        "code": error.code,
        "message": error.message,
        "param": null,
        "sequence_number": 0,
        "error": inner(error),
    })
    .to_string()
}

/// As in a response's body, and which of the client's events is to blame: none.
fn inner(error: GatewayError<'_>) -> Value {
    let GatewayError { status, code, message, request_id } = error;
    let body = serde_json::from_slice::<Value>(&envelope(Dialect::Openai, status, code, message, request_id));
    let mut inner = body.map(|mut body| body["error"].take()).unwrap_or_default();
    inner["event_id"] = Value::Null;
    inner
}

fn task_failed(error: GatewayError<'_>, task: &str) -> String {
    let header = json!({
        "task_id": task,
        "event": "task-failed",
        "error_code": error.code,
        "error_message": error.message,
        "attributes": {},
    });
    json!({"header": header, "payload": {}}).to_string()
}
