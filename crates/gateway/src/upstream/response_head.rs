//! An upstream's response head (RFC 9112 §4–6): parsed strictly, with how its body is framed.
//!
//! Knows nothing of sockets, and not which headers a caller may see; that is `headers.rs`.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

/// Most header lines an upstream may send.
const HEADERS_LIMIT: usize = 128;
/// Largest head an upstream may send.
pub const HEAD_BYTES_LIMIT: usize = 64 * 1024;

/// How the end of a response body is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// This many bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Until the upstream closes.
    UntilClose,
}

/// A parsed response head.
#[derive(Debug)]
pub struct ResponseHead {
    /// Final status; never 1xx except 101.
    pub status: StatusCode,
    /// Every header as sent.
    pub headers: HeaderMap,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the connection may be used again after the body.
    pub keep_alive: bool,
}

/// What the upstream sent is not HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHead(pub &'static str);

/// Parses a head out of `bytes`. `None`: not complete yet. The number is the length of the head.
pub fn parse(bytes: &[u8], method: &Method) -> Result<Option<(ResponseHead, usize)>, InvalidHead> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
    let mut response = httparse::Response::new(&mut lines);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() > HEAD_BYTES_LIMIT => return Err(InvalidHead("head too long")),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(InvalidHead("too many headers")),
        Err(_) => return Err(InvalidHead("not an HTTP/1 response")),
    };
    let status = StatusCode::from_u16(response.code.unwrap_or(0)).map_err(|_| InvalidHead("status out of range"))?;
    let http_11 = response.version == Some(1);
    // One allocation for the whole head; each value is a slice of it.
    let head = Bytes::copy_from_slice(&bytes[..length]);
    let mut headers = HeaderMap::with_capacity(response.headers.len());
    for line in response.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| InvalidHead("header name"))?;
        let value = HeaderValue::from_maybe_shared(slice_of(&head, bytes, line.value))
            .map_err(|_| InvalidHead("header value"))?;
        headers.append(name, value);
    }
    let (framing, clear) = framing(status, method, &headers)?;
    let keep_alive = clear && framing != Framing::UntilClose && keeps_alive(http_11, &headers);
    Ok(Some((ResponseHead { status, headers, framing, keep_alive }, length)))
}

/// The slice of `copy` that holds what `part` holds in `original`.
fn slice_of(copy: &Bytes, original: &[u8], part: &[u8]) -> Bytes {
    let start = (part.as_ptr() as usize).saturating_sub(original.as_ptr() as usize);
    if part.is_empty() { Bytes::new() } else { copy.slice(start..start + part.len()) }
}

/// The framing, and whether it leaves no doubt where the next response starts.
fn framing(status: StatusCode, method: &Method, headers: &HeaderMap) -> Result<(Framing, bool), InvalidHead> {
    let chunked = transfer_coding_is_chunked(headers)?;
    let length = content_length(headers)?;
    if method == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        // Whatever follows a 204 is not ours to read; the connection is not used again if anything was announced.
        let announced = status == StatusCode::NO_CONTENT && (chunked || length.unwrap_or(0) > 0);
        return Ok((Framing::Empty, !announced));
    }
    match (chunked, length) {
        // RFC 9112 §6.3: Transfer-Encoding overrides, and such a message ought to be treated as an error for reuse.
        (true, length) => Ok((Framing::Chunked, length.is_none())),
        (false, Some(0)) => Ok((Framing::Empty, true)),
        (false, Some(length)) => Ok((Framing::Length(length), true)),
        (false, None) => Ok((Framing::UntilClose, false)),
    }
}

fn transfer_coding_is_chunked(headers: &HeaderMap) -> Result<bool, InvalidHead> {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(false) };
    if values.next().is_none() && value.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Ok(true);
    }
    Err(InvalidHead("transfer coding other than chunked"))
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, InvalidHead> {
    let mut found = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let text = value.to_str().map_err(|_| InvalidHead("Content-Length"))?;
        // "5, 5" is one length written twice (RFC 9110 §8.6).
        for part in text.split(',') {
            let part = part.trim();
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(InvalidHead("Content-Length"));
            }
            let length = part.parse::<u64>().map_err(|_| InvalidHead("Content-Length"))?;
            if found.is_some_and(|earlier| earlier != length) {
                return Err(InvalidHead("two different Content-Length"));
            }
            found = Some(length);
        }
    }
    Ok(found)
}

fn keeps_alive(http_11: bool, headers: &HeaderMap) -> bool {
    let says = |word: &str| {
        headers.get_all(header::CONNECTION).iter().any(|value| {
            value.to_str().is_ok_and(|text| text.split(',').any(|token| token.trim().eq_ignore_ascii_case(word)))
        })
    };
    if http_11 { !says("close") } else { says("keep-alive") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str) -> Result<(u16, Framing, bool), InvalidHead> {
        let (head, length) = parse(head.as_bytes(), &Method::POST)?.unwrap();
        assert!(length > 0);
        Ok((head.status.as_u16(), head.framing, head.keep_alive))
    }

    #[test]
    fn framing_follows_rfc_9112() {
        use Framing::*;
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", (200, Length(5), true)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\ncontent-length: 5\r\n\r\n", (200, Length(5), true)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", (200, Empty, true)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", (200, Chunked, true)),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n", (200, Chunked, false)),
            ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 5\r\n\r\n", (200, Length(5), false)),
            ("HTTP/1.1 200 OK\r\n\r\n", (200, UntilClose, false)),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", (200, Length(5), false)),
            ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\n", (200, Length(5), true)),
            ("HTTP/1.1 204 No Content\r\n\r\n", (204, Empty, true)),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\n", (204, Empty, false)),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n", (304, Empty, true)),
        ] {
            assert_eq!(parsed(head), Ok(expected), "{head:?}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for (head, why) in [
            ("hello\r\n\r\n", "not an HTTP/1 response"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", "two different Content-Length"),
            ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n", "Content-Length"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", "Content-Length"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "transfer coding other than chunked"),
        ] {
            assert_eq!(parsed(head), Err(InvalidHead(why)), "{head:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(HEAD_BYTES_LIMIT));
        assert_eq!(parse(endless.as_bytes(), &Method::GET).unwrap_err(), InvalidHead("head too long"));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: 1\r\n".repeat(HEADERS_LIMIT + 1));
        assert_eq!(parse(many.as_bytes(), &Method::GET).unwrap_err(), InvalidHead("too many headers"));
    }

    #[test]
    fn a_head_cut_anywhere_is_not_complete_yet() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nempty:\r\n\r\n";
        for cut in 0..head.len() {
            assert!(parse(&head[..cut], &Method::GET).unwrap().is_none());
        }
        let (parsed, length) = parse(head, &Method::GET).unwrap().unwrap();
        assert_eq!((length, parsed.headers["content-type"].as_bytes()), (head.len(), &b"text/event-stream"[..]));
        assert_eq!(parsed.headers["empty"].as_bytes(), b"");
    }
}
