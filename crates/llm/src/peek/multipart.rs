//! The fields of a `multipart/form-data` body that routing needs (RFC 7578), read while the body arrives: `model` and
//! `stream` of images and audio, and the JSON part `session` of `/realtime/calls`. Files are skipped; nothing but the
//! small fields is kept. Strict about CRLF, as every SDK is.

use std::ops::Range;

use memchr::memmem::Finder;

use super::RequestPeek;

/// Longer part headers end the search.
const LONGEST_HEADERS: usize = 8 * 1024;
/// Longer fields are treated as absent.
const LONGEST_FIELD: usize = 64 * 1024;

/// What a form asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeekedForm {
    /// The field `model`, or the model named in the JSON field `session`.
    pub model: Option<String>,
    /// Where the field `model` stands in the body; nothing if the model came from `session`.
    pub model_span: Option<Range<usize>>,
    /// The field `stream` is `true` (or `True`, or `1`).
    pub stream: bool,
    /// The closing boundary was seen.
    pub complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Model,
    Stream,
    Session,
    /// A file, the preamble, or a field of no interest.
    Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Content,
    AfterBoundary,
    Headers,
    Done,
    Broken,
}

/// Reads a multipart request body in passing.
#[derive(Clone, Debug)]
pub struct FormPeek {
    finder: Finder<'static>,
    state: State,
    /// How many bytes of the delimiter the end of the last chunk matched.
    matched: usize,
    offset: usize,
    field: Field,
    /// Part headers, the kept field, or what follows a boundary, by state.
    kept: Vec<u8>,
    too_long: bool,
    start: usize,
    form: PeekedForm,
    session: Option<String>,
}

/// The boundary named in a `Content-Type: multipart/form-data; boundary=…` header.
#[must_use]
pub fn boundary_of(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim())
    })?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    (1..=200).contains(&value.len()).then_some(value)
}

impl FormPeek {
    /// A peek into a body whose parts `boundary` separates.
    #[must_use]
    pub fn new(boundary: &str) -> Self {
        // The delimiter has its only CR in front (a boundary cannot contain one): partial matches never overlap.
        let clean = !boundary.is_empty() && !boundary.contains(['\r', '\n']);
        Self {
            finder: Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned(),
            state: if clean { State::Content } else { State::Broken },
            // The first boundary stands at the very beginning, without a line end before it.
            matched: 2,
            offset: 0,
            field: Field::Skipped,
            kept: Vec::new(),
            too_long: false,
            start: 0,
            form: PeekedForm::default(),
            session: None,
        }
    }

    /// Takes the next bytes of the body.
    pub fn feed(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while at < chunk.len() {
            at = match self.state {
                State::Content => self.step_content(chunk, at),
                State::AfterBoundary => self.step_after_boundary(chunk, at),
                State::Headers => self.step_headers(chunk, at),
                State::Done | State::Broken => break,
            };
        }
        self.offset += chunk.len();
    }

    /// What was found in all that was fed.
    #[must_use]
    pub fn finish(&self) -> PeekedForm {
        let mut form = self.form.clone();
        form.complete = self.state == State::Done;
        form.model = form.model.or_else(|| self.session.clone());
        form
    }

    fn step_content(&mut self, chunk: &[u8], mut at: usize) -> usize {
        let needle = self.finder.needle().len();
        if self.matched > 0 {
            let expected = self.finder.needle().get(self.matched..).unwrap_or_default();
            let same = expected.iter().zip(&chunk[at..]).take_while(|(one, other)| one == other).count();
            at += same;
            self.matched += same;
            if self.matched == needle {
                self.end_part(self.offset + at);
            } else if at < chunk.len() {
                self.keep_delimiter();
            }
            return at;
        }
        if let Some(found) = self.finder.find(&chunk[at..]) {
            self.keep(&chunk[at..at + found]);
            at += found + needle;
            self.matched = needle;
            self.end_part(self.offset + at);
            return at;
        }
        let tail = chunk.len().saturating_sub(needle - 1).max(at);
        let partial = memchr::memrchr(b'\r', &chunk[tail..])
            .map(|found| tail + found)
            .filter(|found| self.finder.needle().starts_with(&chunk[*found..]));
        let end = partial.unwrap_or(chunk.len());
        self.keep(&chunk[at..end]);
        self.matched = chunk.len() - end;
        chunk.len()
    }

    /// What looked like a delimiter was content.
    fn keep_delimiter(&mut self) {
        let matched = std::mem::take(&mut self.matched);
        if self.field != Field::Skipped {
            let content = self.finder.needle().get(..matched).unwrap_or_default().to_vec();
            self.keep(&content);
        }
    }

    fn keep(&mut self, content: &[u8]) {
        if self.field == Field::Skipped {
            return;
        }
        if self.kept.len() + content.len() > LONGEST_FIELD {
            self.too_long = true;
            return;
        }
        self.kept.extend_from_slice(content);
    }

    /// A boundary ends the part; `position` is behind it.
    fn end_part(&mut self, position: usize) {
        self.state = State::AfterBoundary;
        self.matched = 0;
        let field = std::mem::replace(&mut self.field, Field::Skipped);
        let kept = std::mem::take(&mut self.kept);
        if std::mem::take(&mut self.too_long) {
            return;
        }
        match field {
            Field::Model => {
                self.form.model = String::from_utf8(kept).ok();
                let end = position - self.finder.needle().len();
                self.form.model_span = self.form.model.is_some().then_some(self.start..end);
            }
            Field::Stream => self.form.stream = matches!(kept.as_slice(), b"true" | b"True" | b"1"),
            Field::Session => {
                let mut peek = RequestPeek::new();
                peek.feed(&kept);
                self.session = peek.finish().model;
            }
            Field::Skipped => {}
        }
    }

    /// Behind a boundary: `--` ends the form, a line end begins a part.
    fn step_after_boundary(&mut self, chunk: &[u8], at: usize) -> usize {
        self.kept.push(chunk[at]);
        let padding = self.kept.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match &self.kept[padding..] {
            b"--" => self.state = State::Done,
            b"\r\n" => {
                self.kept.clear();
                // A part without headers has its blank line at once.
                self.kept.extend_from_slice(b"\r\n");
                self.state = State::Headers;
            }
            b"" | b"-" | b"\r" if padding < 64 => {}
            _ => self.state = State::Broken,
        }
        at + 1
    }

    fn step_headers(&mut self, chunk: &[u8], at: usize) -> usize {
        const END: &[u8] = b"\r\n\r\n";
        let seen = self.kept.len();
        let room = (LONGEST_HEADERS - seen.min(LONGEST_HEADERS)).min(chunk.len() - at);
        self.kept.extend_from_slice(&chunk[at..at + room]);
        let from = seen.saturating_sub(END.len() - 1);
        let Some(found) = memchr::memmem::find(&self.kept[from..], END) else {
            if self.kept.len() >= LONGEST_HEADERS {
                self.state = State::Broken;
            }
            return at + room.max(1);
        };
        let end = from + found + END.len();
        self.field = field_of(&self.kept[..end]);
        self.kept.clear();
        self.state = State::Content;
        let next = at + (end - seen);
        self.start = self.offset + next;
        // An empty part is followed by its boundary at once, whose line end the headers did not consume.
        next
    }
}

/// Which field the headers of a part announce.
fn field_of(headers: &[u8]) -> Field {
    let headers = String::from_utf8_lossy(headers);
    let disposition = headers.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    let mut name = None;
    for parameter in disposition.unwrap_or_default().split(';').skip(1) {
        let Some((key, value)) = parameter.split_once('=') else { continue };
        let key = key.trim();
        if key.eq_ignore_ascii_case("filename") || key.eq_ignore_ascii_case("filename*") {
            return Field::Skipped;
        }
        if key.eq_ignore_ascii_case("name") {
            name = Some(value.trim().trim_matches('"'));
        }
    }
    match name {
        Some("model") => Field::Model,
        Some("stream") => Field::Stream,
        Some("session") => Field::Session,
        _ => Field::Skipped,
    }
}
