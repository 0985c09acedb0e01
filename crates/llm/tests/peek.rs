//! Given a request body, then what routing learns from it and what the edits make of it.

use aiproxy_llm::peek::{
    Edit, FormPeek, PeekedBody, PeekedForm, RequestPeek, apply_edits, boundary_of, form_model_edit, model_edit,
    usage_injection,
};
use bytes::Bytes;

fn peek(body: &str) -> PeekedBody {
    let mut peek = RequestPeek::new();
    peek.feed(body.as_bytes());
    peek.finish()
}

fn apply(edit: Option<Edit>, body: &str) -> Option<String> {
    let (left, right) = body.split_at(body.len() / 2);
    let chunks = [Bytes::copy_from_slice(left.as_bytes()), Bytes::copy_from_slice(right.as_bytes())];
    String::from_utf8(apply_edits(&[edit?], &chunks).concat()).ok()
}

fn injected(body: &str) -> Option<String> {
    apply(usage_injection(&peek(body)), body)
}

#[test]
fn model_and_stream_are_found_at_the_top_only() {
    let body =
        r#" {"messages":[{"model":"no","content":"\"model\":\"no\""}],"mod\u0065l":"qwen-\u540d","stream":true}"#;
    let peeked = peek(body);
    assert_eq!(peeked.model.as_deref(), Some("qwen-名"));
    assert_eq!(&body[peeked.model_span.clone().unwrap()], r#""qwen-\u540d""#);
    assert!(peeked.stream && peeked.complete);
    assert_eq!(peeked.open_brace, Some(1));
    assert_eq!(peek(r#"{"model":"a","model":"b"}"#).model.as_deref(), Some("b"));
    assert_eq!(
        peek(r#"{"session":{"type":"realtime","model":"gpt-realtime"}}"#).model.as_deref(),
        Some("gpt-realtime")
    );
    assert_eq!(peek("\u{feff}{\"model\":\"a\"}").model.as_deref(), Some("a"));
}

#[test]
fn what_is_not_a_model_is_none() {
    for body in
        [r#"{"model":null}"#, r#"{"model":7}"#, r#"[{"model":"x"}]"#, "", "model=x", r#"{"model":"x"#, "\"model\""]
    {
        let peeked = peek(body);
        assert_eq!((peeked.model, peeked.stream), (None, false), "{body}");
    }
    assert!(!peek(r#"{"stream":"true"}"#).stream);
    assert!(!peek(r#"{"stream":true,"stream":false}"#).stream);
    assert!(!peek(r#"{"model":"x"} trailing"#).complete);
}

#[test]
fn usage_is_asked_for_once() {
    let cases = [
        (r#"{"stream":true}"#, Some(r#"{"stream_options":{"include_usage":true},"stream":true}"#)),
        (r#" { "stream":true}"#, Some(r#" {"stream_options":{"include_usage":true}, "stream":true}"#)),
        (
            r#"{"stream":true,"stream_options":null}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        ),
        (
            r#"{"stream":true,"stream_options":{ }}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true }}"#),
        ),
        (
            r#"{"stream_options":{"x":1},"stream":true}"#,
            Some(r#"{"stream_options":{"include_usage":true,"x":1},"stream":true}"#),
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":false}}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage": null ,"x":1}}"#,
            Some(r#"{"stream":true,"stream_options":{"include_usage": true ,"x":1}}"#),
        ),
        (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, None),
        (r#"{"stream":true,"stream_options":"odd"}"#, None),
        (r#"{"stream":false}"#, None),
        (r#"{"model":"x"}"#, None),
        (r#"{"stream":true"#, None),
    ];
    for (body, expected) in cases {
        assert_eq!(injected(body).as_deref(), expected, "{body}");
    }
}

#[test]
fn an_alias_is_resolved_in_place() {
    let body = r#"{"a":1,"model": "fast" ,"b":2}"#;
    let edited = apply(model_edit(&peek(body), "qwen \"plus\""), body);
    assert_eq!(edited.as_deref(), Some(r#"{"a":1,"model": "qwen \"plus\"" ,"b":2}"#));
    assert_eq!(model_edit(&peek("{}"), "x"), None);
}

#[test]
fn edits_slice_the_body_without_copying() {
    let chunks = [Bytes::from_static(b"0123"), Bytes::new(), Bytes::from_static(b"4567"), Bytes::from_static(b"89")];
    let edit = |at, remove, insert: &'static [u8]| Edit { at, remove, insert: insert.into() };
    let edited = |edits: &[Edit]| String::from_utf8(apply_edits(edits, &chunks).concat()).unwrap();
    assert_eq!(edited(&[]), "0123456789");
    assert_eq!(edited(&[edit(3, 4, b"x"), edit(0, 0, b"<"), edit(10, 0, b">")]), "<012x789>");
    // Overlapping, or behind the end: left out.
    assert_eq!(edited(&[edit(2, 4, b"x"), edit(3, 1, b"y"), edit(9, 5, b"z"), edit(usize::MAX, 2, b"")]), "01x6789");
    let whole = apply_edits(&[], &chunks);
    assert_eq!(whole[0].as_ptr(), chunks[0].as_ptr());
}

fn form(body: &str, boundary: &str) -> PeekedForm {
    let mut peek = FormPeek::new(boundary);
    peek.feed(body.as_bytes());
    peek.finish()
}

#[test]
fn a_form_names_its_model() {
    let body = "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"name=model\"\r\nContent-Type: audio/wav\r\n\r\n\
                RIFF\r\n--Y\r\n\r\nmodel\r\n--X\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\ngpt-4o-transcribe\r\n\
                --X\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n--X--\r\n";
    let peeked = form(body, "X");
    assert_eq!(peeked.model.as_deref(), Some("gpt-4o-transcribe"));
    assert!(peeked.stream && peeked.complete);
    let edited = apply(form_model_edit(&peeked, "whisper-1"), body).unwrap();
    assert_eq!(edited, body.replace("gpt-4o-transcribe", "whisper-1"));
    assert_eq!(form(&edited, "X").model.as_deref(), Some("whisper-1"));
    assert_eq!(form_model_edit(&peeked, "a\r\nb"), None);
}

#[test]
fn a_realtime_call_names_its_model_in_the_session() {
    let body = "--X\r\nContent-Disposition: form-data; name=\"sdp\"\r\nContent-Type: application/sdp\r\n\r\nv=0\r\no=-\r\n\r\n\
                --X\r\nContent-Disposition: form-data; name=\"session\"\r\nContent-Type: application/json\r\n\r\n\
                {\"type\":\"realtime\",\"model\":\"gpt-realtime\"}\r\n--X--";
    let peeked = form(body, "X");
    assert_eq!((peeked.model.as_deref(), peeked.model_span), (Some("gpt-realtime"), None));
}

#[test]
fn broken_forms_have_nothing() {
    for body in
        ["", "--X", "--Xy\r\n\r\n", "no form", "--X\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ncut"]
    {
        assert_eq!(form(body, "X"), PeekedForm::default(), "{body}");
    }
    let endless = format!("--X\r\n{}", "header: x\r\n".repeat(5000));
    assert_eq!(form(&endless, "X"), PeekedForm::default());
}

#[test]
fn the_boundary_is_read_from_the_content_type() {
    assert_eq!(boundary_of("multipart/form-data; boundary=abc"), Some("abc"));
    assert_eq!(boundary_of("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\""), Some("a b"));
    assert_eq!(boundary_of("multipart/form-data"), None);
    assert_eq!(boundary_of("application/json; boundary=x"), None);
}
