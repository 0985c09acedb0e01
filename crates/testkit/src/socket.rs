//! A client with a WebSocket: it masks with a seeded key, reads frame by frame, and never waits for ever.

use std::time::Duration;

use aiproxy_llm::websocket::{Opcode, Sender};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::frame::{Came, Frame, FrameReader};
use crate::reply::Reply;

/// What follows the nonce before it is hashed (RFC 6455 §1.3).
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// How long a test waits for a frame, on the paused clock.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a server must answer to this `Sec-WebSocket-Key`.
pub fn accept_of(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ACCEPT_SUFFIX}").as_bytes()))
}

/// The request that opens a socket: `headers` come behind those of the handshake.
pub fn handshake(path: &str, nonce: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {nonce}\r\n"
    );
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    request + "\r\n"
}

/// An open socket.
pub struct Socket {
    stream: DuplexStream,
    reader: FrameReader,
    unread: Vec<u8>,
    wire: Vec<u8>,
    masks: fastrand::Rng,
    /// The head that opened it.
    pub reply: Reply,
}

impl Socket {
    /// Opens a socket over `stream`, or returns what was answered instead.
    pub async fn open(mut stream: DuplexStream, path: &str, headers: &[(&str, &str)]) -> Result<Self, Reply> {
        let mut masks = fastrand::Rng::with_seed(7);
        let mut nonce = [0; 16];
        masks.fill(&mut nonce);
        let nonce = STANDARD.encode(nonce);
        // A gateway that has refused and closed already is what some tests are about.
        stream.write_all(handshake(path, &nonce, headers).as_bytes()).await.ok();
        let reply = Reply::read(&mut stream).await.unwrap_or_else(|| panic!("the gateway closed without a response"));
        if reply.status != 101 {
            return Err(reply);
        }
        assert_eq!(reply.header("sec-websocket-accept"), Some(accept_of(&nonce).as_str()));
        assert!(reply.header("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket")), "{}", reply.head);
        assert!(reply.header("connection").is_some_and(|list| list.eq_ignore_ascii_case("upgrade")), "{}", reply.head);
        let reader = FrameReader::new(Sender::Server);
        Ok(Self { stream, reader, unread: Vec::new(), wire: Vec::new(), masks, reply })
    }

    /// A new key to mask with.
    pub fn mask(&mut self) -> [u8; 4] {
        self.masks.u32(..).to_ne_bytes()
    }

    /// Sends bytes as they are. What the gateway does not take any more is dropped.
    pub async fn send_raw(&mut self, bytes: impl AsRef<[u8]>) {
        let written = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        written.unwrap_or_else(|_| panic!("the gateway takes nothing")).ok();
    }

    /// Sends bytes in pieces of these sizes, one after another for ever, and lets the gateway read each.
    pub async fn send_split(&mut self, bytes: &[u8], sizes: &[usize]) {
        let mut rest = bytes;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                return;
            }
            let (piece, behind) = rest.split_at((*size).clamp(1, rest.len()));
            rest = behind;
            self.send_raw(piece).await;
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Sends a frame, masked.
    pub async fn send(&mut self, frame: &Frame) {
        let mask = self.mask();
        self.send_raw(frame.encode(Some(mask))).await;
    }

    /// Sends a text message.
    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.send(&Frame::Text(text.into())).await;
    }

    /// Sends a binary message.
    pub async fn send_binary(&mut self, payload: impl Into<Vec<u8>>) {
        self.send(&Frame::Binary(payload.into())).await;
    }

    /// Sends a fragment.
    pub async fn send_fragment(&mut self, opcode: Opcode, is_last: bool, payload: &[u8]) {
        self.send(&Frame::Fragment { opcode, is_last, payload: payload.into() }).await;
    }

    /// Sends a ping.
    pub async fn ping(&mut self, payload: &str) {
        self.send(&Frame::Ping(payload.into())).await;
    }

    /// Says goodbye.
    pub async fn close(&mut self, code: u16, reason: &str) {
        self.send(&Frame::close(code, reason)).await;
    }

    /// The next frame; nothing if the connection has ended. Fails if neither comes.
    pub async fn next(&mut self) -> Option<Frame> {
        let Self { stream, reader, unread, wire, .. } = self;
        match tokio::time::timeout(PATIENCE, reader.read(stream, unread, wire)).await {
            Ok(Came::Frame(Frame::Garbled(why))) => panic!("what the gateway sends is no WebSocket: {why}"),
            Ok(Came::Frame(frame)) => Some(frame),
            Ok(Came::End) => None,
            Err(_) => panic!("nothing comes from the gateway, not even the end"),
        }
    }

    /// The next frame, which must be there.
    pub async fn frame(&mut self) -> Frame {
        self.next().await.unwrap_or_else(|| panic!("the connection has ended"))
    }

    /// Every frame up to the end of the connection.
    pub async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }

    /// Answers the gateway's goodbye, which must be next, and waits for the end.
    pub async fn part(mut self) -> Frame {
        let frame = self.frame().await;
        assert!(matches!(frame, Frame::Close(_)), "{frame:?}");
        self.send(&frame).await;
        assert_eq!(self.next().await, None);
        frame
    }

    /// Says goodbye with 1000 and waits for the answer and the end.
    pub async fn leave(mut self) {
        self.close(1000, "").await;
        let rest = self.rest().await;
        assert!(matches!(rest.last(), Some(Frame::Close(_))), "{rest:?}");
    }

    /// Whether nothing comes for so long.
    pub async fn is_quiet_for(&mut self, duration: Duration) -> bool {
        let Self { stream, reader, unread, wire, .. } = self;
        tokio::time::timeout(duration, reader.read(stream, unread, wire)).await.is_err()
    }

    /// Whatever was read since the handshake, byte for byte.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Reads bytes as they come, without looking at them; how many came until the end.
    pub async fn drain_raw(&mut self) -> usize {
        let mut count = self.unread.len();
        let mut sink = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = self.stream.read(&mut sink).await {
            count += length;
        }
        count
    }
}
