//! The least HTTP/1.1 that a load generator and a mock upstream need: where a head ends, how its body is framed.
//!
//! Sans IO: bytes in, progress out; both the asynchronous and the blocking load use it. It trusts its peers to be on
//! this machine, but not to be correct: whatever it does not understand is an error, never a guess.

use anyhow::{Context, Result, bail, ensure};

const HEAD_LIMIT: usize = 16 * 1024;
const HEADERS: usize = 48;

/// What a body promised about its end, and how much of it is still to come.
pub(crate) enum Body {
    Length(u64),
    ChunkSize { value: u64, digits: u8, extension: bool },
    ChunkData(u64),
    ChunkEnd,
    Trailer { line: usize },
}

impl Body {
    /// Reads the framing from parsed header fields. No field at all means an empty body.
    pub(crate) fn from_headers(headers: &[httparse::Header<'_>]) -> Result<Self> {
        let mut body = Self::Length(0);
        for header in headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                body = Self::Length(std::str::from_utf8(header.value)?.trim().parse().context("Content-Length")?);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                ensure!(header.value.eq_ignore_ascii_case(b"chunked"), "transfer coding other than chunked");
                return Ok(Self::chunked());
            }
        }
        Ok(body)
    }

    fn chunked() -> Self {
        Self::ChunkSize { value: 0, digits: 0, extension: false }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0))
    }

    /// Consumes what belongs to this body from the front of `input`, hands its content to `sink`, returns the rest.
    pub(crate) fn feed<'a>(&mut self, mut input: &'a [u8], sink: &mut impl FnMut(&[u8])) -> Result<&'a [u8]> {
        while !self.is_done() && !input.is_empty() {
            match self {
                Self::Length(left) | Self::ChunkData(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    sink(&input[..take]);
                    *left -= take as u64;
                    input = &input[take..];
                    if matches!(self, Self::ChunkData(0)) {
                        *self = Self::ChunkEnd;
                    }
                }
                Self::ChunkSize { value, digits, extension } => {
                    let byte = input[0];
                    input = &input[1..];
                    match byte {
                        b'\n' => {
                            ensure!(*digits > 0, "chunk without a size");
                            *self = if *value == 0 { Self::Trailer { line: 0 } } else { Self::ChunkData(*value) };
                        }
                        b'\r' => {}
                        b';' => *extension = true,
                        _ if *extension => {}
                        _ => {
                            let digit = char::from(byte).to_digit(16).context("chunk size")?;
                            ensure!(*digits < 15, "chunk size too long");
                            *value = *value * 16 + u64::from(digit);
                            *digits += 1;
                        }
                    }
                }
                Self::ChunkEnd => {
                    match input[0] {
                        b'\r' => {}
                        b'\n' => *self = Self::chunked(),
                        _ => bail!("chunk longer than its size"),
                    }
                    input = &input[1..];
                }
                Self::Trailer { line } => {
                    match (input[0], *line) {
                        (b'\r', _) => {}
                        (b'\n', 0) => *self = Self::Length(0),
                        (b'\n', _) => *line = 0,
                        _ => *line += 1,
                    }
                    input = &input[1..];
                }
            }
        }
        Ok(input)
    }
}

/// What was counted in one response.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    /// Blank lines, which is the number of SSE events.
    pub(crate) events: u64,
    ends_line: bool,
    tail: Vec<u8>,
    /// The whole body, if it was asked for.
    pub(crate) body: Option<Vec<u8>>,
}

impl Tally {
    fn take(&mut self, content: &[u8]) {
        if content.is_empty() {
            return;
        }
        self.bytes += content.len() as u64;
        // Where the newline before this byte stands, counted from 1; 0 is the end of the slice before.
        let mut unpaired = self.ends_line.then_some(0);
        for at in memchr::memchr_iter(b'\n', content) {
            if unpaired == Some(at) {
                self.events += 1;
                unpaired = None;
            } else {
                unpaired = Some(at + 1);
            }
        }
        self.ends_line = unpaired == Some(content.len());
        const TAIL: usize = DONE.len();
        if content.len() >= TAIL {
            self.tail.clear();
            self.tail.extend_from_slice(&content[content.len() - TAIL..]);
        } else {
            self.tail.extend_from_slice(content);
            let excess = self.tail.len().saturating_sub(TAIL);
            self.tail.drain(..excess);
        }
        if let Some(body) = &mut self.body {
            body.extend_from_slice(content);
        }
    }

    pub(crate) fn ends_with_done(&self) -> bool {
        self.tail == DONE
    }
}

const DONE: &[u8] = b"data: [DONE]\n\n";

/// Reads one response from slices cut anywhere.
#[derive(Default)]
pub(crate) struct Response {
    head: Vec<u8>,
    framing: Option<Body>,
    pub(crate) tally: Tally,
}

impl Response {
    pub(crate) fn capturing() -> Self {
        Self { tally: Tally { body: Some(Vec::new()), ..Tally::default() }, ..Self::default() }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.framing.is_some() || !self.head.is_empty()
    }

    /// True when the response is complete. Bytes beyond its end are an error: nothing here pipelines.
    pub(crate) fn feed(&mut self, input: &[u8]) -> Result<bool> {
        let Some(framing) = &mut self.framing else {
            return self.feed_head(input);
        };
        let tally = &mut self.tally;
        let rest = framing.feed(input, &mut |content| tally.take(content))?;
        ensure!(rest.is_empty(), "{} bytes after the end of a response", rest.len());
        Ok(framing.is_done())
    }

    fn feed_head(&mut self, input: &[u8]) -> Result<bool> {
        let joined;
        let bytes = if self.head.is_empty() {
            input
        } else {
            self.head.extend_from_slice(input);
            joined = std::mem::take(&mut self.head);
            &joined
        };
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(bytes)? {
            httparse::Status::Complete(end) => {
                self.tally.status = response.code.context("status")?;
                self.framing = Some(Body::from_headers(response.headers)?);
                if end == bytes.len() {
                    Ok(self.framing.as_ref().is_some_and(Body::is_done))
                } else {
                    self.feed(&bytes[end..])
                }
            }
            httparse::Status::Partial => {
                ensure!(bytes.len() < HEAD_LIMIT, "response head too long");
                self.head = bytes.to_vec();
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        9\r\ndata: a\n\n\r\n0e;x=y\r\ndata: [DONE]\n\n\r\n0\r\nTrailer: x\r\n\r\n";

    #[test]
    fn a_response_cut_anywhere_is_counted_the_same() {
        for cut in 0..CHUNKED.len() {
            let mut response = Response::capturing();
            assert!(!response.feed(&CHUNKED[..cut]).unwrap());
            assert!(response.feed(&CHUNKED[cut..]).unwrap(), "cut at {cut}");
            assert_eq!((response.tally.status, response.tally.events, response.tally.bytes), (200, 2, 23));
            assert!(response.tally.ends_with_done());
            assert_eq!(response.tally.body.unwrap(), b"data: a\n\ndata: [DONE]\n\n");
        }
    }

    #[test]
    fn bytes_after_the_end_are_an_error() {
        assert!(Response::default().feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab").is_err());
    }
}
