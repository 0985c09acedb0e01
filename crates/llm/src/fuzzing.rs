//! The bodies of the fuzz targets, which the property tests call as well. Each takes arbitrary bytes, checks that
//! cutting them elsewhere changes nothing, and compares with a slower and simpler reader where there is one.

mod sockets;

use bytes::Bytes;
use serde_json::Value;

use crate::dialect::{Dialect, Operation};
use crate::estimate::prompt_tokens;
use crate::json_scan::{Capture, JsonScan, Path, ScanStatus};
use crate::meter::{HideUsageChunk, Meter, MeterError, MeterKind, Metered, RenameModel, Start, StreamStart};
use crate::peek::{FormPeek, PeekedBody, PeekedForm, RequestPeek, apply_edits, model_edit, usage_injection};
use crate::sse::{SseDecoder, encode};

pub use sockets::{realtime_client, realtime_meter, websocket};

/// The paths that are scanned for: whole values, members, and a path that is the beginning of another.
pub const PATHS: &[Path] = &[
    &["model"],
    &["stream"],
    &["stream_options"],
    &["stream_options", "include_usage"],
    &["response", "usage"],
    &["a", "b", "c", "d"],
    &[""],
];

/// Cuts the rest of the input into pieces whose sizes follow from its first byte.
pub fn cut(input: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let (seed, data) = input.split_first().map_or((0, input), |(seed, data)| (*seed, data));
    let mut random = u32::from(seed) | 0x100;
    let mut pieces = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let longest = 1 + usize::from(seed & 31);
        let size = (1 + (random >> 16) as usize % longest).min(rest.len());
        let (piece, after) = rest.split_at(size);
        pieces.push(piece);
        rest = after;
    }
    (data, pieces)
}

/// The scanner: cut anywhere, and against `serde_json`.
pub fn json_scan(input: &[u8]) {
    let (data, pieces) = cut(input);
    for per_element in [false, true] {
        let whole = scan(&[data], per_element);
        assert_eq!(whole, scan(&pieces, per_element), "cut elsewhere");
        let Ok(value) = serde_json::from_slice::<Value>(data) else { continue };
        let expected: Vec<&Value> = match &value {
            Value::Object(_) => vec![&value],
            Value::Array(elements) if per_element => elements.iter().collect(),
            _ => continue,
        };
        assert_eq!(whole.1, ScanStatus::Complete, "valid JSON is complete");
        assert_eq!(whole.0.len(), expected.len(), "elements");
        for (found, element) in whole.0.iter().zip(expected) {
            for (capture, path) in found.iter().zip(PATHS) {
                let wanted = path.iter().try_fold(element, |value, key| value.as_object()?.get(*key));
                let parsed =
                    capture.as_ref().map(|capture| serde_json::from_slice::<Value>(&capture.bytes).unwrap_or_default());
                assert_eq!(parsed.as_ref(), wanted, "{path:?}");
                if let Some(capture) = capture {
                    assert_eq!(data.get(capture.span.clone()), Some(capture.bytes.as_slice()), "span");
                }
            }
        }
    }
}

type Found = Vec<Vec<Option<Capture>>>;

fn scan(pieces: &[&[u8]], per_element: bool) -> (Found, ScanStatus) {
    let mut scan = JsonScan::new(PATHS).with_capture_limit(usize::MAX);
    if per_element {
        scan = scan.per_element();
    }
    let mut found = Vec::new();
    for piece in pieces {
        scan.feed_elements(piece, |captures| {
            found.push((0..PATHS.len()).map(|index| captures.get(index).cloned()).collect());
        });
    }
    (found, scan.status())
}

/// The event decoder: cut anywhere, against a reader by lines, and what `encode` writes is read back.
pub fn sse(input: &[u8]) {
    let (data, pieces) = cut(input);
    let limit = 64;
    let whole = decode(&[data], limit);
    assert_eq!(whole, decode(&pieces, limit), "cut elsewhere");
    let mut position = 0;
    for event in &whole {
        assert_eq!(event.range.0, position, "no gaps");
        position = event.range.1;
    }
    assert_eq!(position, data.len() as u64, "nothing left over");

    let unlimited = decode(&[data], usize::MAX);
    let dispatched: Vec<(Vec<u8>, Vec<u8>)> = unlimited
        .into_iter()
        .filter(|event| event.terminated)
        .filter_map(|event| Some((event.name, event.data?)))
        .collect();
    assert_eq!(dispatched, by_lines(data), "as the standard has it");

    let mut encoded = Vec::new();
    encode(Some("name"), data, &mut encoded);
    let events = decode(&[&encoded], usize::MAX);
    assert_eq!(events.len(), 1, "one event");
    let text = String::from_utf8_lossy(data).replace("\r\n", "\n").replace('\r', "\n");
    if let Some(decoded) = events.first().and_then(|event| event.data.as_ref())
        && !text.ends_with('\n')
    {
        assert_eq!(String::from_utf8_lossy(decoded), text, "read back");
    }
}

#[derive(Debug, PartialEq)]
struct Event {
    name: Vec<u8>,
    data: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    retry: Option<u64>,
    range: (u64, u64),
    oversize: bool,
    terminated: bool,
}

fn decode(pieces: &[&[u8]], limit: usize) -> Vec<Event> {
    let mut events = Vec::new();
    let mut keep = |event: &crate::sse::SseEvent<'_>| {
        events.push(Event {
            name: event.name().to_vec(),
            data: event.data().map(|data| data.to_vec()),
            id: event.id().map(<[u8]>::to_vec),
            retry: event.retry(),
            range: (event.range.start, event.range.end),
            oversize: event.oversize,
            terminated: event.terminated,
        });
    };
    let mut decoder = SseDecoder::new(limit);
    for piece in pieces {
        decoder.feed(piece, &mut keep);
    }
    decoder.finish(&mut keep);
    events
}

/// The standard's algorithm, line by line on the whole stream.
fn by_lines(stream: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let mut events = Vec::new();
    let (mut name, mut data): (Vec<u8>, Vec<u8>) = Default::default();
    while let Some(end) = stream.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        let line = &stream[..end];
        let skip = if stream[end..].starts_with(b"\r\n") { 2 } else { 1 };
        stream = &stream[end + skip..];
        if line.is_empty() {
            let name = std::mem::take(&mut name);
            if data.pop().is_some() {
                events.push((name, std::mem::take(&mut data)));
            }
            continue;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (field, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value.to_vec(),
            b"data" => {
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            _ => {}
        }
    }
    events
}

/// The request peek: cut anywhere; and on valid JSON, that the edits do what they say and nothing else.
pub fn peek(input: &[u8]) {
    let (data, pieces) = cut(input);
    let peeked = peek_pieces(&[data]);
    assert_eq!(peeked, peek_pieces(&pieces), "cut elsewhere");
    let edits: Vec<_> = usage_injection(&peeked).into_iter().chain(model_edit(&peeked, "new \"name\"")).collect();
    let body: Vec<Bytes> = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    let edited = apply_edits(&edits, &body).concat();
    if edits.is_empty() {
        assert_eq!(edited, data, "untouched");
    }
    let Ok(Value::Object(mut before)) = serde_json::from_slice::<Value>(data) else { return };
    let Ok(Value::Object(mut after)) = serde_json::from_slice::<Value>(&edited) else {
        unreachable!("an edited object is still one: {}", String::from_utf8_lossy(&edited))
    };
    assert_eq!(peeked.stream, before.get("stream") == Some(&Value::Bool(true)), "stream");
    if let Some(model) = before.get("model").and_then(Value::as_str).filter(|model| model.len() < 1000) {
        assert_eq!(peeked.model.as_deref(), Some(model), "model");
        assert_eq!(after.get("model").and_then(Value::as_str), Some("new \"name\""), "model replaced");
    }
    if usage_injection(&peeked).is_some() {
        assert_eq!(after["stream_options"]["include_usage"], Value::Bool(true), "injected");
    }
    for members in [&mut before, &mut after] {
        for touched in ["model", "session", "stream_options"] {
            members.remove(touched);
        }
    }
    assert_eq!(before, after, "all else as it was");
}

fn peek_pieces(pieces: &[&[u8]]) -> PeekedBody {
    let mut peek = RequestPeek::new();
    for piece in pieces {
        peek.feed(piece);
    }
    peek.finish()
}

/// The form peek: cut anywhere.
pub fn multipart(input: &[u8]) {
    let (data, pieces) = cut(input);
    let form = form_pieces(&[data]);
    assert_eq!(form, form_pieces(&pieces), "cut elsewhere");
    if let (Some(span), Some(model)) = (&form.model_span, &form.model) {
        assert_eq!(data.get(span.clone()), Some(model.as_bytes()), "span");
    }
}

fn form_pieces(pieces: &[&[u8]]) -> PeekedForm {
    let mut peek = FormPeek::new("b");
    for piece in pieces {
        peek.feed(piece);
    }
    peek.finish()
}

const OPERATIONS: [(Dialect, Operation); 7] = [
    (Dialect::Openai, Operation::ChatCompletions),
    (Dialect::Openai, Operation::Responses),
    (Dialect::Openai, Operation::CohereChat),
    (Dialect::Anthropic, Operation::Messages),
    (Dialect::Anthropic, Operation::BedrockConverse),
    (Dialect::Gemini, Operation::StreamGenerateContent),
    (Dialect::Dashscope, Operation::DashscopeGeneration),
];

/// The meter in every dialect and framing, and the filter of the usage chunk: cut anywhere.
pub fn meter(input: &[u8]) {
    let (data, pieces) = cut(input);
    for (dialect, operation) in OPERATIONS {
        for kind in [MeterKind::Json, MeterKind::Sse, MeterKind::JsonArray, MeterKind::Other] {
            let whole = meter_pieces(dialect, operation, kind, &[data]);
            assert_eq!(whole, meter_pieces(dialect, operation, kind, &pieces), "cut elsewhere");
        }
    }
    let (whole, hidden) = hide_pieces(&[data]);
    if hidden == 0 {
        assert_eq!(whole, data, "untouched");
    }
    // An event cut in two is read, one in a piece is searched: an escaped key makes a difference that does not matter.
    if memchr::memmem::find(data, b"\\u").is_none() {
        assert_eq!((whole, hidden), hide_pieces(&pieces), "cut elsewhere");
    }
}

/// The estimate of a prompt: cut anywhere.
pub fn estimate(input: &[u8]) {
    let (data, pieces) = cut(input);
    assert_eq!(prompt_tokens([data]), prompt_tokens(pieces), "cut elsewhere");
}

fn meter_pieces(dialect: Dialect, operation: Operation, kind: MeterKind, pieces: &[&[u8]]) -> Metered {
    let mut meter = Meter::new(dialect, operation, kind);
    let mut at_the_end = None;
    for piece in pieces {
        meter.feed(piece);
        if kind == MeterKind::Sse && meter.is_terminated() && at_the_end.is_none() {
            at_the_end = Some(meter.snapshot());
        }
    }
    let metered = meter.finish();
    assert!(at_the_end.is_none_or(|at_the_end| at_the_end == metered), "nothing changes behind the terminator");
    metered
}

fn hide_pieces(pieces: &[&[u8]]) -> (Vec<u8>, u64) {
    let mut filter = HideUsageChunk::new();
    let mut out = Vec::new();
    for piece in pieces {
        filter.push(Bytes::copy_from_slice(piece), &mut out);
    }
    filter.finish(&mut out);
    (out.concat(), filter.hidden())
}

const KINDS: [MeterKind; 4] = [MeterKind::Json, MeterKind::Sse, MeterKind::JsonArray, MeterKind::Other];

/// Stands in no input by chance, and needs every kind of escape.
const ASKED: &str = "as\"ked\\ \u{1}名";

/// The model's new name: cut anywhere; on valid JSON, against `serde_json`; and nothing but strings is replaced.
pub fn rename(input: &[u8]) {
    let (data, pieces) = cut(input);
    for (dialect, operation) in OPERATIONS {
        for kind in KINDS {
            let Some(renamed) = rename_pieces(dialect, operation, kind, &[data]) else { continue };
            assert_eq!(Some(&renamed), rename_pieces(dialect, operation, kind, &pieces).as_ref(), "cut elsewhere");
            only_strings_replaced(data, &renamed);
            if kind == MeterKind::Sse {
                let (before, after) = (decode(&[data], usize::MAX), decode(&[&renamed], usize::MAX));
                assert_eq!(before.len(), after.len(), "as many events");
                for (before, after) in before.iter().zip(&after) {
                    let (Some(before), Some(after)) = (&before.data, &after.data) else { continue };
                    renamed_as_serde_does(dialect, operation, kind, before, after);
                }
            } else {
                renamed_as_serde_does(dialect, operation, kind, data, &renamed);
            }
        }
    }
}

fn rename_pieces(dialect: Dialect, operation: Operation, kind: MeterKind, pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let mut rename = RenameModel::new(dialect, operation, kind, ASKED)?;
    let mut out = Vec::new();
    for piece in pieces {
        rename.push(Bytes::copy_from_slice(piece), &mut out);
    }
    rename.finish(&mut out);
    Some(out.concat())
}

fn only_strings_replaced(before: &[u8], after: &[u8]) {
    let asked = Value::from(ASKED).to_string();
    let mut rest = before;
    let mut from = 0;
    for at in memchr::memmem::find_iter(after, asked.as_bytes()) {
        let kept = &after[from..at];
        assert!(rest.starts_with(kept), "the bytes before a name");
        rest = &rest[kept.len()..];
        let mut escaped = false;
        let end = rest.iter().skip(1).position(|byte| {
            let closes = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        });
        assert!(rest.starts_with(b"\"") && end.is_some(), "a string was replaced");
        rest = &rest[end.unwrap_or_default() + 2..];
        from = at + asked.len();
    }
    assert_eq!(rest, &after[from..], "the bytes behind the last name");
}

fn renamed_as_serde_does(dialect: Dialect, operation: Operation, kind: MeterKind, before: &[u8], after: &[u8]) {
    let streamed = kind == MeterKind::Sse;
    let path: &[&str] = match (dialect, operation) {
        (Dialect::Gemini, _) => &["modelVersion"],
        (Dialect::Anthropic, _) if streamed => &["message", "model"],
        (_, Operation::Responses) if streamed => &["response", "model"],
        _ => &["model"],
    };
    let Ok(mut expected) = serde_json::from_slice::<Value>(before) else { return };
    let mut elements: Vec<&mut Value> = match &mut expected {
        Value::Array(elements) if kind == MeterKind::JsonArray => elements.iter_mut().collect(),
        value => vec![value],
    };
    for element in &mut elements {
        let found = path.iter().try_fold(&mut **element, |value, key| value.as_object_mut()?.get_mut(*key));
        if let Some(name @ Value::String(_)) = found {
            *name = ASKED.into();
        }
    }
    // What is longer than a name may be passes unchanged.
    if before.len() <= 4096 {
        assert_eq!(serde_json::from_slice::<Value>(after).ok(), Some(expected), "as serde does");
    }
}

/// The start of a response: cut anywhere; what is decided stays decided, and on valid JSON, against `serde_json`.
pub fn start(input: &[u8]) {
    let (data, pieces) = cut(input);
    let body = MeterError::from_body(data);
    if let Some(error) = &body {
        let louder = |name: &Option<String>| name.as_deref().map(str::to_ascii_uppercase);
        let loud = MeterError { code: louder(&error.code), kind: louder(&error.kind), ..error.clone() };
        assert_eq!(error.is_quota(), loud.is_quota(), "in any case");
    }
    for (dialect, operation) in OPERATIONS {
        for kind in KINDS {
            let whole = start_pieces(dialect, operation, kind, &[data]);
            assert_eq!(whole, start_pieces(dialect, operation, kind, &pieces), "cut elsewhere");
            let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(data) else { continue };
            let is_error = members.get("error").is_some_and(|error| error.is_number() || *error == true);
            if is_error && kind == MeterKind::Json && data.len() <= 4096 {
                assert!(matches!(whole, Start::Error(_)), "the error is found");
            }
            if is_error && body.is_none() {
                unreachable!("the error of a body is found");
            }
        }
    }
}

fn start_pieces(dialect: Dialect, operation: Operation, kind: MeterKind, pieces: &[&[u8]]) -> Start {
    let mut start = StreamStart::new(dialect, operation, kind);
    let mut decided = None;
    for piece in pieces {
        let now = start.feed(piece);
        assert!(decided.as_ref().is_none_or(|decided| *decided == now), "once decided it stays so");
        decided = Some(now).filter(|now| *now != Start::Waiting);
    }
    let end = start.finish();
    assert!(decided.is_none_or(|decided| decided == end), "once decided it stays so");
    assert_ne!(end, Start::Waiting, "the end decides");
    end
}
