//! Given a gateway error, then these bytes in each dialect.

use aiproxy_llm::dialect::{Dialect, Operation};
use aiproxy_llm::error::{GatewayError, array_error, envelope, stream_error};
use insta::assert_snapshot;

fn written(dialect: Dialect, status: u16, code: &str) -> String {
    String::from_utf8_lossy(&envelope(dialect, status, code, "Say \"why\".", "r1")).into_owned()
}

fn streamed(dialect: Dialect, operation: Operation) -> String {
    let error = GatewayError { status: 504, code: "upstream_timeout", message: "No byte\nin 30 s.", request_id: "r1" };
    String::from_utf8_lossy(&stream_error(dialect, operation, error)).into_owned()
}

#[test]
fn each_dialect_has_its_envelope() {
    assert_snapshot!(written(Dialect::Openai, 401, "invalid_credential"), @r#"{"error":{"message":"Say \"why\".","type":"authentication_error","param":null,"code":"invalid_credential"}}"#);
    assert_snapshot!(written(Dialect::Openai, 429, "quota_exceeded"), @r#"{"error":{"message":"Say \"why\".","type":"insufficient_quota","param":null,"code":"quota_exceeded"}}"#);
    assert_snapshot!(written(Dialect::Anthropic, 429, "rate_limited"), @r#"{"type":"error","error":{"type":"rate_limit_error","message":"Say \"why\".","details":{"error_code":"rate_limited"}},"request_id":"r1"}"#);
    assert_snapshot!(written(Dialect::Gemini, 403, "model_not_allowed"), @r#"{"error":{"code":403,"message":"Say \"why\".","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"model_not_allowed","domain":"aiproxy","metadata":{"request_id":"r1"}}]}}"#);
    assert_snapshot!(written(Dialect::Dashscope, 503, "no_channel_available"), @r#"{"code":"no_channel_available","message":"Say \"why\".","request_id":"r1"}"#);
}

#[test]
fn each_dialect_has_its_error_event() {
    assert_eq!(
        streamed(Dialect::Openai, Operation::ChatCompletions),
        "data: {\"error\":{\"message\":\"No byte\\nin 30 s.\",\"type\":\"timeout_error\",\"param\":null,\"code\":\"upstream_timeout\"}}\n\n"
    );
    let responses = streamed(Dialect::Openai, Operation::Responses);
    assert!(
        responses.starts_with("event: error\ndata: {\"type\":\"error\",\"code\":\"upstream_timeout\","),
        "{responses}"
    );
    assert!(responses.ends_with("}\n\n"));
    let anthropic = streamed(Dialect::Anthropic, Operation::Messages);
    assert!(
        anthropic.starts_with("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"timeout_error\""),
        "{anthropic}"
    );
    let gemini = streamed(Dialect::Gemini, Operation::StreamGenerateContent);
    assert!(gemini.starts_with("data: {\"error\":{\"code\":504,"), "{gemini}");
    assert!(gemini.ends_with("}\r\n\r\n"));
    assert_eq!(
        streamed(Dialect::Dashscope, Operation::DashscopeGeneration),
        "event:error\nstatus:504\ndata:{\"code\":\"upstream_timeout\",\"message\":\"No byte\\nin 30 s.\",\"request_id\":\"r1\"}\n\n"
    );
}

#[test]
fn an_array_stream_stays_valid_json() {
    let error = GatewayError { status: 502, code: "upstream_invalid", message: "m", request_id: "r" };
    for (sent, prefix) in [(false, ""), (true, "[{}")] {
        let text = format!("{prefix}{}", String::from_utf8(array_error(error, sent)).unwrap());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value.as_array().unwrap().last().unwrap()["error"]["status"], "UNAVAILABLE");
    }
}

#[test]
fn every_status_carries_the_code_in_every_dialect() {
    for dialect in Dialect::ALL {
        for status in [400, 401, 402, 403, 404, 408, 409, 413, 429, 431, 500, 501, 502, 503, 504, 529] {
            assert!(written(dialect, status, "the_code").contains("\"the_code\""), "{dialect} {status}");
        }
    }
}
