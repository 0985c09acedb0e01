use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut line = Vec::new();
    write(&mut line);
    String::from_utf8(line).unwrap()
}

fn entry() -> Entry<'static> {
    Entry {
        id: [0x11; 16],
        started_unix_ms: 1_795_244_712_034,
        duration_us: 12_034,
        client_ip: "127.0.0.1",
        method: "POST",
        path: "/v1/chat/completions",
        endpoint: "/v1/chat/completions",
        dialect: "openai",
        protocol: "http",
        status: 401,
        error_code: Some("invalid_key"),
        end: "complete",
        request_bytes: 64,
        response_bytes: 128,
        usage_source: "none",
        cache: "off",
        ..Entry::default()
    }
}

#[test]
fn a_record_keeps_its_names_and_their_order() {
    assert_eq!(
        written(|line| entry().write_json(line)),
        concat!(
            r#"{"id":"11111111-1111-1111-1111-111111111111","started_at":"2026-11-21T07:05:12.034Z","#,
            r#""duration_ms":12.034,"first_byte_ms":null,"user_id":null,"department":null,"key_id":null,"#,
            r#""relay_token_id":null,"client_ip":"127.0.0.1","method":"POST","path":"/v1/chat/completions","#,
            r#""endpoint":"/v1/chat/completions","dialect":"openai","protocol":"http","channel_id":null,"#,
            r#""credential_id":null,"model_asked":null,"model_served":null,"attempts":[],"status":401,"#,
            r#""error_code":"invalid_key","upstream_request_id":null,"end":"complete","request_bytes":64,"#,
            r#""response_bytes":128,"usage":null,"usage_source":"none","cost":null,"price_version":null,"#,
            r#""cache":"off","counted":false}"#,
            "\n"
        )
    );
}

#[test]
fn what_is_only_there_at_times_has_its_place() {
    let usage = Usage { input: Some(10), output: Some(0), seconds_ms: Some(1_500), ..Usage::default() };
    let attempt = EntryAttempt {
        channel_id: "a",
        credential_id: "b",
        status: Some(500),
        ms: 7,
        why: Some("broken"),
        usage: Some(usage),
        cost: Some(-3),
    };
    let entry = Entry {
        user_id: Some("李\"雷"),
        department: Some(""),
        groups: vec!["one", "two"],
        relay_token_id: Some("relay-1"),
        attempts: vec![attempt, EntryAttempt { channel_id: "c", credential_id: "d", ..EntryAttempt::default() }],
        usage: Some(usage),
        usage_flaw: Some("negative"),
        cost: Some(i64::MIN),
        price_version: Some("2026-11-01"),
        counted: true,
        ..entry()
    };
    let line = written(|line| entry.write_json(line));
    let value: Value = serde_json::from_str(&line).unwrap();
    let usage = json!({"input": 10, "output": 0, "seconds": 1.5});
    assert_eq!(value["user_id"], "李\"雷");
    assert_eq!((&value["department"], &value["groups"]), (&Value::Null, &json!(["one", "two"])));
    assert_eq!((&value["relay_token_id"], &value["usage"]), (&json!("relay-1"), &usage));
    assert_eq!((&value["usage_flaw"], &value["cost"]), (&json!("negative"), &json!(i64::MIN)));
    assert_eq!((&value["price_version"], &value["counted"]), (&json!("2026-11-01"), &json!(true)));
    let first = json!({"channel_id": "a", "credential_id": "b", "status": 500, "ms": 7, "why": "broken", "usage": usage,
        "cost": -3});
    let second = json!({"channel_id": "c", "credential_id": "d", "status": null, "ms": 0});
    assert_eq!(value["attempts"], json!([first, second]));
}

#[test]
fn bodies_are_told_apart_by_their_type() {
    let request = Body { content_type: "application/json", form: "text", content: "{}", bytes: 2, ..Body::default() };
    let response = Body {
        content_type: "text/event-stream",
        form: "sse",
        content: "hello\n",
        usage: Some("{\"total_tokens\":\n3}"),
        bytes: 900,
        cut: Some("size"),
    };
    let bodies = Bodies { id: [0x22; 16], started_unix_ms: 0, request: Some(request), response: Some(response) };
    assert_eq!(
        written(|line| bodies.write_json(line)),
        concat!(
            r#"{"type":"bodies","id":"22222222-2222-2222-2222-222222222222","started_at":"1970-01-01T00:00:00.000Z","#,
            r#""request":{"content_type":"application/json","form":"text","bytes":2,"content":"{}"},"#,
            r#""response":{"content_type":"text/event-stream","form":"sse","bytes":900,"cut":"size","#,
            r#""usage":{"total_tokens": 3},"content":"hello\n"}}"#,
            "\n"
        )
    );
    let without = Bodies { id: [0x22; 16], ..Bodies::default() };
    let value: Value = serde_json::from_str(&written(|line| without.write_json(line))).unwrap();
    assert_eq!((&value["request"], &value["response"]), (&Value::Null, &Value::Null));
}

#[test]
fn times_are_those_of_the_calendar() {
    for unix_ms in [0, 951_782_400_000, 1_709_164_799_999, 1_795_244_712_034, 4_102_444_800_000] {
        let expected = jiff::Timestamp::from_millisecond(unix_ms as i64).unwrap();
        let parsed: jiff::Timestamp = written(|line| timestamp(line, unix_ms)).parse().unwrap();
        assert_eq!(parsed, expected);
    }
    assert_eq!(written(|line| timestamp(line, 1_795_244_712_034)), "2026-11-21T07:05:12.034Z");
    assert_eq!(written(|line| timestamp(line, u64::MAX)), "9999-12-31T23:59:59.999Z");
    assert_eq!(written(|line| date(line, 951_782_400_000)), "2000-02-29");
}

#[test]
fn numbers_keep_their_zeros() {
    assert_eq!(written(|line| thousandths(line, 12_034)), "12.034");
    assert_eq!(written(|line| thousandths(line, 7)), "0.007");
    assert_eq!(written(|line| number(line, 0)), "0");
    assert_eq!(written(|line| number(line, u64::MAX)), u64::MAX.to_string());
    assert_eq!(written(|line| signed(line, i64::MIN)), i64::MIN.to_string());
}

proptest! {
    #[test]
    fn any_text_reads_back(value in "(?s).*") {
        let line = written(|line| quoted(line, &value));
        prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), value);
    }

    #[test]
    fn any_record_is_one_line_of_json(text in "(?s).*", numbers: [u64; 4], cost: Option<i64>) {
        let [started, duration, bytes, used] = numbers;
        let usage = Some(Usage { output: Some(used), seconds_ms: Some(used), ..Usage::default() });
        let attempt = EntryAttempt { channel_id: &text, why: Some(&text), usage, ms: used, ..EntryAttempt::default() };
        let entry = Entry {
            started_unix_ms: started,
            duration_us: duration,
            user_id: Some(&text),
            groups: vec![&text, "x"],
            path: &text,
            attempts: vec![attempt],
            request_bytes: bytes,
            cost,
            ..Entry::default()
        };
        let line = written(|line| entry.write_json(line));
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
        let value: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&value["path"], &json!(text));
        prop_assert_eq!(&value["groups"], &json!([text, "x"]));
        prop_assert_eq!(&value["request_bytes"], &json!(bytes));
        prop_assert_eq!(&value["cost"], &json!(cost));
    }

    #[test]
    fn any_bodies_are_one_line_of_json(content in "(?s).*", usage in "(?s).*|\\{\"a\":[ \n\r]*1\\}") {
        let body = Body { content: &content, usage: Some(&usage), ..Body::default() };
        let bodies = Bodies { request: Some(body.clone()), response: Some(body), ..Bodies::default() };
        let line = written(|line| bodies.write_json(line));
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
        let value: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&value["request"]["content"], &json!(content));
        prop_assert_eq!(&value["response"], &value["request"]);
    }
}
