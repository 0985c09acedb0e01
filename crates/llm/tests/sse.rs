//! Given a stream, then these events.

use aiproxy_llm::sse::{SseDecoder, encode};

fn events(stream: &[u8]) -> Vec<(String, Option<String>)> {
    let mut events = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut decoder = SseDecoder::default();
    let mut keep = |event: &aiproxy_llm::sse::SseEvent<'_>| {
        events.push((text(event.name()), event.data().map(|data| text(&data))));
    };
    decoder.feed(stream, &mut keep);
    decoder.finish(&mut keep);
    events
}

fn event(name: &str, data: &str) -> (String, Option<String>) {
    (name.to_owned(), Some(data.to_owned()))
}

#[test]
fn the_standards_examples() {
    assert_eq!(events(b"data: YHOO\ndata: +2\ndata: 10\n\n"), [event("", "YHOO\n+2\n10")]);
    assert_eq!(
        events(b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"),
        [(String::new(), None), event("", "first event"), event("", "second event"), event("", " third event"),]
    );
    assert_eq!(events(b"data\n\ndata\ndata\n\n"), [event("", ""), event("", "\n")]);
    assert_eq!(events(b"data:test\r\rdata: test\r\n\r\n"), [event("", "test"), event("", "test")]);
    assert_eq!(events("\u{feff}event: a\ndata: b\n\n".as_bytes()), [event("a", "b")]);
}

#[test]
fn ids_and_retries() {
    let mut decoder = SseDecoder::default();
    let mut seen = Vec::new();
    decoder.feed(b"id: 7\nretry: 30\ndata\n\nid: a\0b\nretry: 3x\ndata\n\n", |event| {
        seen.push((event.id().map(<[u8]>::to_vec), event.retry()));
    });
    assert_eq!(seen, [(Some(b"7".to_vec()), Some(30)), (None, None)]);
}

#[test]
fn an_event_in_one_chunk_is_not_copied() {
    let chunk = b"data: one\n\ndata: two\n\n";
    let mut decoder = SseDecoder::default();
    let mut places = Vec::new();
    decoder
        .feed(chunk, |event| places.push((event.raw.as_ptr() as usize - chunk.as_ptr() as usize, event.range.clone())));
    assert_eq!(places, [(0, 0..11), (11, 11..22)]);
}

#[test]
fn a_large_event_is_reported_without_its_data() {
    let mut decoder = SseDecoder::new(16);
    let mut seen = Vec::new();
    for piece in [&b"data: 1\n\ndata: 0123"[..], b"4567890123456789", b"\n\ndata: 2\n\n"] {
        decoder.feed(piece, |event| seen.push((event.oversize, event.raw.len(), event.range.clone())));
    }
    assert_eq!(seen, [(false, 9, 0..9), (true, 0, 9..37), (false, 9, 37..46)]);
}

#[test]
fn encoded_events_are_read_back() {
    let mut out = Vec::new();
    encode(Some("error\nx"), b"{\n}", &mut out);
    assert_eq!(out, b"event: errorx\ndata: {\ndata: }\n\n");
    encode(None, b"", &mut out);
    assert_eq!(events(&out), [event("errorx", "{\n}"), event("", "")]);
}
