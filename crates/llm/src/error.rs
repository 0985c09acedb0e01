//! Errors that the gateway itself makes, in the words of each dialect, so that every SDK raises its own exception. It
//! is given the status, the stable code and the sentence; it decides none of them, and adds nothing internal.

use serde_json::{Value, json};

use crate::dialect::{Dialect, Operation};
use crate::sse::encode;

/// An error to be told to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayError<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The stable machine code, `quota_exceeded` for example.
    pub code: &'a str,
    /// A sentence that says what to do.
    pub message: &'a str,
    /// The id of the call.
    pub request_id: &'a str,
}

/// The body of an error response.
#[must_use]
pub fn envelope(dialect: Dialect, status: u16, code: &str, message: &str, request_id: &str) -> Vec<u8> {
    body(dialect, GatewayError { status, code, message, request_id }).to_string().into_bytes()
}

/// The event that ends a stream which has already begun, as the SDKs of the dialect recognise it.
#[must_use]
pub fn stream_error(dialect: Dialect, operation: Operation, error: GatewayError<'_>) -> Vec<u8> {
    let body = body(dialect, error);
    let mut out = Vec::with_capacity(256);
    match dialect {
        Dialect::Openai if operation == Operation::Responses => {
            // The documented event is flat; the SDKs raise on a member `error`. Both, then.
            let event = json!({
                "type": "error",
                "code": error.code,
                "message": error.message,
                "param": null,
                "sequence_number": 0,
                "error": body["error"],
            });
            encode(Some("error"), event.to_string().as_bytes(), &mut out);
        }
        Dialect::Openai => encode(None, body.to_string().as_bytes(), &mut out),
        Dialect::Anthropic => encode(Some("error"), body.to_string().as_bytes(), &mut out),
        Dialect::Gemini => out.extend_from_slice(format!("data: {body}\r\n\r\n").as_bytes()),
        // Without spaces after the colons: dashscope 1.x does not recognise the event otherwise.
        Dialect::Dashscope => {
            let status = error.status;
            out.extend_from_slice(format!("event:error\nstatus:{status}\ndata:{body}\n\n").as_bytes());
        }
    }
    out
}

/// The end of a Gemini stream that is a JSON array: the error as its last element, and the bracket.
#[must_use]
pub fn array_error(error: GatewayError<'_>, elements_sent: bool) -> Vec<u8> {
    let separator = if elements_sent { "," } else { "[" };
    format!("{separator}{}]", body(Dialect::Gemini, error)).into_bytes()
}

fn body(dialect: Dialect, error: GatewayError<'_>) -> Value {
    let GatewayError { status, code, message, request_id } = error;
    match dialect {
        Dialect::Openai => {
            json!({"error": {"message": message, "type": openai_type(status, code), "param": null, "code": code}})
        }
        Dialect::Anthropic => json!({
            "type": "error",
            "error": {"type": anthropic_type(status), "message": message, "details": {"error_code": code}},
            "request_id": request_id,
        }),
        Dialect::Gemini => json!({
            "error": {
                "code": status,
                "message": message,
                "status": google_status(status),
                "details": [{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": code,
                    "domain": "aiproxy",
                    "metadata": {"request_id": request_id},
                }],
            },
        }),
        Dialect::Dashscope => json!({"code": code, "message": message, "request_id": request_id}),
    }
}

fn openai_type(status: u16, code: &str) -> &'static str {
    match status {
        _ if code == "quota_exceeded" => "insufficient_quota",
        401 => "authentication_error",
        402 => "insufficient_quota",
        403 => "permission_error",
        408 | 504 => "timeout_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        409 => "conflict_error",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn google_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        402 | 429 => "RESOURCE_EXHAUSTED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        408 | 504 => "DEADLINE_EXCEEDED",
        409 => "ABORTED",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        502 | 503 | 529 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}
