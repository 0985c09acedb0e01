//! Given the body of an error response, then what the provider said, and whether waiting will help.

use aiproxy_llm::meter::MeterError;

fn read(body: &str) -> (String, String, String) {
    let error = MeterError::from_body(body.as_bytes()).unwrap_or_default();
    (error.code.unwrap_or_default(), error.kind.unwrap_or_default(), error.message.unwrap_or_default())
}

#[test]
fn every_providers_body_is_read() {
    for (body, code, kind, message) in [
        (
            r#"{"error":{"message":"m","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
            "model_not_found",
            "invalid_request_error",
            "m",
        ),
        (r#"{"error":"text"}"#, "", "", "text"),
        (r#"{"error":"Invalid token","message":"m","code":401}"#, "401", "", "Invalid token"),
        (r#"{"error":true,"message":"m"}"#, "", "", "m"),
        (r#"{"error":{"code":"content_filter","message":"m","innererror":{"code":"x"}}}"#, "content_filter", "", "m"),
        (
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"m","details":{"error_code":"c"}},"request_id":"req_1"}"#,
            "c",
            "rate_limit_error",
            "m",
        ),
        (r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}"#, "429", "RESOURCE_EXHAUSTED", "m"),
        (r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#, "400", "INVALID_ARGUMENT", "m"),
        (r#"[{},{"error":{"message":"m"}},{"error":{"message":"n"}}]"#, "", "", "m"),
        (r#"{"code":"Throttling.RateQuota","message":"m","request_id":"r"}"#, "Throttling.RateQuota", "", "m"),
        (r#"{"code":"InvalidApiKey","request_id":"r"}"#, "InvalidApiKey", "", ""),
        (r#"{"message":"invalid api token"}"#, "", "", "invalid api token"),
        (
            r#"{"object":"error","message":"m","type":"invalid_model","param":null,"code":"1500"}"#,
            "1500",
            "invalid_model",
            "m",
        ),
        (
            r#"{"object":"error","message":{"detail":[{"loc":["body"],"msg":"field required"}]},"type":"invalid_request_error"}"#,
            "",
            "invalid_request_error",
            "field required",
        ),
        (r#"{"detail":"Not Found"}"#, "", "", "Not Found"),
        (r#"{"detail":[{"loc":["body"],"msg":"field required","type":"missing"}]}"#, "", "", "field required"),
        (r#"{"detail":{"message":"m"}}"#, "", "", "m"),
        ("\u{feff} {\"error\":{\"message\":\"cut\"},\"request", "", "", "cut"),
        (r#"[{"error":{"message":"cut"}"#, "", "", "cut"),
    ] {
        assert_eq!(read(body), (code.to_owned(), kind.to_owned(), message.to_owned()), "{body}");
    }
}

#[test]
fn what_says_nothing_is_no_error() {
    for body in [
        "",
        "upstream timed out",
        "<html>error</html>",
        "\"error\"",
        "null",
        "{}",
        "[]",
        "[1]",
        "{\"error\":null}",
        "{\"code\":\"\",\"message\":\"\"}",
        "{\"type\":\"error\"}",
        "{\"id\":\"c\",\"choices\":[]}",
        "{\"error\":{\"mess",
        "\u{0}",
    ] {
        assert_eq!(MeterError::from_body(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let body = format!(r#"{{"message":"{}"}}"#, "名".repeat(10_000));
    assert_eq!(read(&body).2.chars().count(), 512);
    let late = format!(r#"{{"padding":"{}","error":"late"}}"#, " ".repeat(70_000));
    assert_eq!(MeterError::from_body(late.as_bytes()), None);
    let deep = format!(r#"{{"detail":{}"m"{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(MeterError::from_body(deep.as_bytes()), None);
}

#[test]
fn an_allowance_used_up_is_told_from_a_rate() {
    const DAY: &str = r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"q","quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},{"retryDelay":"34s"}]}}"#;
    let minute = DAY.replace("PerDay", "PerMinute");
    for (body, is_quota) in [
        (r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota","message":"m"}}"#, true),
        (r#"{"error":{"type":"Insufficient_Quota","code":null}}"#, true),
        (r#"{"error":{"code":"billing_hard_limit_reached"}}"#, true),
        (r#"{"error":{"code":"billing_not_active","type":"billing_not_active"}}"#, true),
        (r#"{"error":{"code":"account_deactivated"}}"#, true),
        (r#"{"type":"error","error":{"type":"billing_error","message":"m"}}"#, true),
        (
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
            true,
        ),
        (r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}"#, true),
        (r#"{"error":{"message":"Insufficient credits","code":402}}"#, true),
        (r#"{"code":"Arrearage","message":"m"}"#, true),
        (r#"{"code":"AllocationQuota","message":"m"}"#, true),
        (r#"{"code":"Throttling.AllocationQuota","message":"m"}"#, true),
        (r#"{"code":"AllocationQuota.FreeTierOnly","message":"m"}"#, true),
        (r#"{"error":{"code":"FreeTierOnly"}}"#, true),
        (r#"{"error":{"code":"insufficient_user_quota","type":"new_api_error"}}"#, true),
        (r#"{"code":"InsufficientBalance","message":"m"}"#, true),
        (r#"{"error":{"type":"exceeded_current_quota_error","message":"m"}}"#, true),
        (r#"{"error":{"code":"1113","message":"m"}}"#, true),
        (r#"{"error":{"code":1113,"message":"m"}}"#, true),
        (r#"{"error":{"message":"余额不足或无可用资源包"}}"#, true),
        (DAY, true),
        (r#"{"error":{"code":429,"message":"Limit of 50 requests per day","status":"RESOURCE_EXHAUSTED"}}"#, true),
        (&minute, false),
        (r#"{"error":{"code":429,"message":"Resource exhausted, try again.","status":"RESOURCE_EXHAUSTED"}}"#, false),
        (
            r#"{"error":{"type":"requests","code":"rate_limit_exceeded","message":"requests per day: limit 200"}}"#,
            false,
        ),
        (r#"{"error":{"type":"tokens","code":"rate_limit_exceeded","message":"tokens per min"}}"#, false),
        (r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#, false),
        (r#"{"error":{"type":"rate_limit_reached_error","message":"insufficient balance for a higher tier"}}"#, false),
        (r#"{"code":"Throttling.RateQuota","message":"m"}"#, false),
        (r#"{"code":"Throttling","message":"m"}"#, false),
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, false),
        (r#"{"message":"Too many requests"}"#, false),
    ] {
        assert_eq!(MeterError::from_body(body.as_bytes()).unwrap().is_quota(), is_quota, "{body}");
    }
    assert!(!MeterError::default().is_quota());
}
