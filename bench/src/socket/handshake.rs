//! How a connection becomes a socket (RFC 6455 §4), as a client asks for it and as a server grants it.

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::Header;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::payload::Random;

/// Appended to a nonce before it is hashed (RFC 6455 §1.3).
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const HEAD_LIMIT: usize = 4 * 1024;
const HEADERS: usize = 48;

/// What a client sends, and what it must get back.
pub(crate) struct Handshake {
    pub(crate) request: Vec<u8>,
    accept: String,
}

impl Handshake {
    pub(crate) fn new(path: &str, key: &str, random: &mut Random) -> Self {
        let halves = [random.next().to_be_bytes(), random.next().to_be_bytes()];
        let nonce = STANDARD.encode(halves.concat());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: gateway.internal\r\nUser-Agent: OpenAI/Python 1.59.6\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n\
             Authorization: Bearer {key}\r\n\r\n"
        );
        Self { request: request.into_bytes(), accept: accept_of(&nonce) }
    }

    /// Asks, and reads the answer to its end. Nothing may follow it: here the client speaks first.
    pub(crate) async fn shake(&self, stream: &mut TcpStream) -> Result<()> {
        stream.write_all(&self.request).await.context("handshake")?;
        let mut buffer = vec![0; HEAD_LIMIT];
        let mut filled = 0;
        while filled < HEAD_LIMIT {
            let read = stream.read(&mut buffer[filled..]).await.context("handshake")?;
            ensure!(read > 0, "the connection was closed instead of a handshake");
            filled += read;
            if let Some(end) = self.granted(&buffer[..filled])? {
                ensure!(end == filled, "{} bytes that nobody asked for behind a handshake", filled - end);
                return Ok(());
            }
        }
        bail!("the head of a handshake is too long")
    }

    /// Where the answer ends, if it is whole.
    fn granted(&self, bytes: &[u8]) -> Result<Option<usize>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(end) = response.parse(bytes)? else { return Ok(None) };
        let status = response.code.unwrap_or_default();
        ensure!(status == 101, "status {status} instead of 101: {}", String::from_utf8_lossy(&bytes[end..]));
        let accept = value(response.headers, "sec-websocket-accept").unwrap_or_default();
        ensure!(accept == self.accept.as_bytes(), "a wrong Sec-WebSocket-Accept");
        ensure!(value(response.headers, "sec-websocket-extensions").is_none(), "an extension that nobody offered");
        Ok(Some(end))
    }
}

/// What a server answers; nothing if a WebSocket was not asked for.
pub(crate) fn grant(headers: &[Header<'_>]) -> Option<Vec<u8>> {
    let upgrade = value(headers, "upgrade").filter(|upgrade| upgrade.eq_ignore_ascii_case(b"websocket"));
    let nonce = value(headers, "sec-websocket-key").and_then(|nonce| std::str::from_utf8(nonce).ok());
    let (Some(_), Some(nonce)) = (upgrade, nonce) else { return None };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nx-request-id: req_bench\r\n\r\n",
        accept_of(nonce.trim())
    );
    Some(answer.into_bytes())
}

fn value<'h>(headers: &[Header<'h>], name: &str) -> Option<&'h [u8]> {
    headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn accept_of(nonce: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{nonce}{ACCEPT_SUFFIX}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_is_what_was_asked_for() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "the example of the RFC");
        let mut random = Random::new(1);
        let (ours, other) = (Handshake::new("/x", "key", &mut random), Handshake::new("/x", "key", &mut random));
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        assert!(request.parse(&ours.request).unwrap().is_complete());
        let answer = grant(request.headers).unwrap();
        assert_eq!(ours.granted(&answer[..answer.len() - 1]).unwrap(), None);
        assert_eq!(ours.granted(&answer).unwrap(), Some(answer.len()));
        assert!(other.granted(&answer).is_err());
        assert!(ours.granted(b"HTTP/1.1 401 Unauthorized\r\n\r\n").is_err());
        assert!(grant(&[Header { name: "Upgrade", value: b"h2c" }]).is_none());
    }
}
