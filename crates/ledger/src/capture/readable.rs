//! One body as it is stored: decoded, told text from binary, merged where it is an event stream, redacted.

use aiproxy_llm::peek::boundary_of;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::RawBody;
use super::coding::{Cut, decode};
use super::redact::{HIDDEN, Redactor};
use super::section::{Section, join};
use super::{multipart, stream};

/// What a body may always grow to when it is decoded, and what it may grow to whatever its rule says.
const SMALLEST_CAP: u64 = 1 << 20;
const LARGEST_CAP: u64 = 16 << 20;
/// How much larger than it is kept it may grow.
const GROWTH: u64 = 4;
/// Longest text stored: two of them fit in one frame of the journal.
const LONGEST_CONTENT: usize = 24 << 20;
/// Longest content type stored.
const LONGEST_TYPE: usize = 128;

const REMOVED_SECRET: &str = "[removed: contains a secret]";
const REMOVED_CODING: &str = "[removed: unknown content coding]";

/// A body as it is stored; see [`crate::Body`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Readable {
    pub(super) content_type: String,
    pub(super) form: &'static str,
    pub(super) content: String,
    pub(super) usage: Option<String>,
    pub(super) bytes: u64,
    pub(super) cut: Option<&'static str>,
}

/// Makes `body` readable and hides what is secret in it.
pub(super) fn readable(body: RawBody, redactor: &Redactor<'_>) -> Readable {
    let cut = body.is_cut().then_some(Cut::Size);
    let cap = body.max_bytes.saturating_mul(GROWTH).clamp(SMALLEST_CAP, LARGEST_CAP) as usize;
    let media = Media::of(&body.content_type);
    let mut readable = Readable {
        content_type: content_type(media.kind, redactor),
        bytes: body.length,
        form: "text",
        ..Readable::default()
    };
    let Some(decoded) = decode(&body.content_encoding, body.bytes, cut, cap) else {
        // Nobody can tell whether there are secrets in it.
        readable.content = REMOVED_CODING.to_string();
        readable.cut = Some(Cut::Broken.as_str());
        return readable;
    };
    let (bytes, mut cut) = (decoded.bytes, decoded.cut);
    match Content::of(&bytes, cut.is_some(), &body.content_type, &media) {
        Content::Stream => {
            let merged = stream::merge(&bytes, cut.is_some());
            if merged.is_torn {
                cut = cut.or(Some(Cut::Broken));
            }
            if !merged.has_events {
                // It only says that it is a stream.
                readable.content = text(&bytes, redactor);
            } else {
                readable.form = "sse";
                readable.content = joined(merged.sections, redactor);
                readable.usage = merged.usage.filter(|usage| is_harmless(usage, redactor));
            }
        }
        Content::Form(sections) => readable.content = joined(sections, redactor),
        Content::Text => readable.content = text(&bytes, redactor),
        Content::Binary => {
            readable.form = "base64";
            readable.content = match redactor.finds_any(&bytes) {
                true => REMOVED_SECRET.to_string(),
                false => STANDARD.encode(&bytes),
            };
            if readable.content == REMOVED_SECRET {
                readable.form = "text";
            }
        }
    }
    if readable.content.len() > LONGEST_CONTENT {
        let mut end = LONGEST_CONTENT;
        while !readable.content.is_char_boundary(end) {
            end -= 1;
        }
        readable.content.truncate(end);
        cut = cut.or(Some(Cut::Size));
    }
    readable.cut = cut.map(Cut::as_str);
    readable
}

/// What a content type says.
struct Media<'header> {
    /// Without parameters.
    kind: &'header str,
    charset: Option<&'header str>,
}

impl<'header> Media<'header> {
    fn of(content_type: &'header str) -> Self {
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let charset = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
        });
        Self { kind: kind.trim(), charset }
    }

    fn is(&self, kind: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind)
    }

    /// Whether it says text of a coding that can be read here.
    fn is_text(&self) -> bool {
        let kind = self.kind.to_ascii_lowercase();
        let is_text = kind.starts_with("text/")
            || ["json", "xml", "javascript", "x-www-form-urlencoded", "x-ndjson", "jsonl", "yaml"]
                .iter()
                .any(|text| kind.ends_with(text));
        let is_utf8 =
            |charset: &str| ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known));
        is_text && self.charset.is_none_or(is_utf8)
    }
}

/// What a body is.
enum Content {
    Stream,
    Form(Vec<Section>),
    Text,
    Binary,
}

impl Content {
    fn of(bytes: &[u8], is_cut: bool, content_type: &str, media: &Media<'_>) -> Self {
        if media.is("text/event-stream") {
            return Self::Stream;
        }
        if let Some(boundary) = boundary_of(content_type)
            && let Some(sections) = multipart::sections(bytes, boundary)
        {
            return Self::Form(sections);
        }
        let bytes = if is_cut { without_cut_character(bytes) } else { bytes };
        // What says that it is text is read as text even where a byte is wrong; anything else must look like text.
        if media.is_text() || std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(is_no_text)) {
            Self::Text
        } else {
            Self::Binary
        }
    }
}

/// Control characters that no text has.
fn is_no_text(character: char) -> bool {
    matches!(character, '\0'..='\x08' | '\x0e'..='\x1a' | '\x1c'..='\x1f' | '\x7f')
}

/// `bytes` without a character at their end of which only the beginning is there.
pub(super) fn without_cut_character(bytes: &[u8]) -> &[u8] {
    let tail = bytes.len().saturating_sub(3);
    let start = (tail..bytes.len()).rev().find(|at| bytes[*at] >= 0xc0);
    match start {
        Some(start) if std::str::from_utf8(&bytes[start..]).is_err_and(|error| error.error_len().is_none()) => {
            &bytes[..start]
        }
        _ => bytes,
    }
}

fn text(bytes: &[u8], redactor: &Redactor<'_>) -> String {
    let mut text = String::from_utf8_lossy(without_cut_character(bytes)).into_owned();
    redactor.redact(&mut text);
    without_zeros(text)
}

/// Each section is redacted for itself, because each may end where the body was cut.
fn joined(mut sections: Vec<Section>, redactor: &Redactor<'_>) -> String {
    for Section { heading, text, is_secret } in &mut sections {
        redactor.redact(heading);
        if *is_secret {
            *text = HIDDEN.to_string();
        }
        redactor.redact(text);
    }
    without_zeros(join(&sections))
}

/// A zero byte is valid in UTF-8 and not in the texts of PostgreSQL.
fn without_zeros(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// Numbers and names, as a rule; should there be a secret in it all the same, it is left out as a whole.
fn is_harmless(usage: &str, redactor: &Redactor<'_>) -> bool {
    let mut redacted = usage.to_string();
    redactor.redact(&mut redacted);
    redacted == usage && !usage.contains("\\u0000")
}

/// A caller may write anything there.
fn content_type(kind: &str, redactor: &Redactor<'_>) -> String {
    let mut kind: String = kind.chars().filter(|character| character.is_ascii_graphic()).take(LONGEST_TYPE).collect();
    redactor.redact(&mut kind);
    kind
}
