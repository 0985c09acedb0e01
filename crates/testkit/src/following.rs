//! One connection to a scripted upstream on its way through its script.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aiproxy_llm::websocket::Sender;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::frame::{Came, Frame, FrameReader};
use crate::script::{Message, Received, Shared, Step};
use crate::socket::accept_of;

/// The upstream's end of a connection.
pub(crate) struct Followed {
    shared: Arc<Shared>,
    authority: String,
    stream: DuplexStream,
    reset: Arc<AtomicBool>,
    frames: FrameReader,
    last_request: String,
}

impl Followed {
    pub(crate) fn new(shared: Arc<Shared>, authority: String, stream: DuplexStream, reset: Arc<AtomicBool>) -> Self {
        let frames = FrameReader::new(Sender::Client);
        Self { shared, authority, stream, reset, frames, last_request: String::new() }
    }

    /// Takes every step, or as many as the gateway lets it.
    pub(crate) async fn follow(mut self, steps: Vec<Step>) {
        let mut unread = Vec::new();
        let repeats = matches!(steps.last(), Some(Step::Again));
        loop {
            for step in &steps {
                // A gateway that went away in the middle of a script is what some tests are about.
                if self.take(step, &mut unread).await.is_none() {
                    return;
                }
            }
            if !repeats {
                self.shared.finished.fetch_add(1, Ordering::AcqRel);
                return;
            }
        }
    }

    /// Nothing if the connection is over.
    async fn take(&mut self, step: &Step, unread: &mut Vec<u8>) -> Option<()> {
        let mut step = step;
        while let Step::IfAsked(text, one, other) = step {
            step = if self.last_request.contains(text) { one } else { other };
        }
        match step {
            Step::SlowConnect(_) | Step::Refuse | Step::FailTls | Step::FailLookup => panic!("only as the first step"),
            Step::Request | Step::Head => {
                self.read_request(unread, matches!(step, Step::Request)).await?;
            }
            Step::Upgrade => self.upgrade(unread, "", &[]).await?,
            Step::UpgradeAs(protocol) => {
                self.upgrade(unread, &format!("sec-websocket-protocol: {protocol}\r\n"), &[]).await?;
            }
            Step::UpgradeWith(headers, behind) => self.upgrade(unread, headers, behind).await?,
            Step::Message => drop(self.read_frame(unread).await?),
            Step::Listen | Step::Echo => self.listen(unread, matches!(step, Step::Echo)).await?,
            Step::Send(bytes) => self.send(bytes).await?,
            Step::Drip(bytes, pause) => {
                for byte in bytes {
                    self.stream.write_all(&[*byte]).await.ok()?;
                    tokio::time::sleep(*pause).await;
                }
            }
            Step::Wait(pause) => tokio::time::sleep(*pause).await,
            Step::Hang => std::future::pending().await,
            Step::Reset => self.reset.store(true, Ordering::Release),
            Step::AwaitClose => {
                let mut sink = [0; 4096];
                while self.stream.read(&mut sink).await.is_ok_and(|length| length > 0) {}
                self.shared.closed.lock().unwrap().push(tokio::time::Instant::now());
            }
            Step::IfAsked(..) | Step::Again => {}
        }
        Some(())
    }

    async fn read_request(&mut self, unread: &mut Vec<u8>, body: bool) -> Option<()> {
        let bytes = read_request(&mut self.stream, unread, body).await?;
        let received = Received { authority: self.authority.clone(), bytes };
        self.last_request = received.text();
        self.shared.requests.lock().unwrap().push(received);
        Some(())
    }

    /// Answers a handshake.
    async fn upgrade(&mut self, unread: &mut Vec<u8>, headers: &str, behind: &[u8]) -> Option<()> {
        self.read_request(unread, false).await?;
        let key = self.last_request.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let accept = accept_of(key.unwrap_or_else(|| panic!("no handshake: {}", self.last_request)));
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: {accept}\r\n{headers}\r\n"
        )
        .into_bytes();
        answer.extend_from_slice(behind);
        self.stream.write_all(&answer).await.ok()
    }

    async fn read_frame(&mut self, unread: &mut Vec<u8>) -> Option<Frame> {
        let mut wire = Vec::new();
        let Came::Frame(frame) = self.frames.read(&mut self.stream, unread, &mut wire).await else { return None };
        self.last_request = frame.as_text().to_owned();
        let message = Message { at: tokio::time::Instant::now(), frame: frame.clone(), wire };
        self.shared.messages.lock().unwrap().push(message);
        Some(frame)
    }

    async fn listen(&mut self, unread: &mut Vec<u8>, echoes: bool) -> Option<()> {
        loop {
            let frame = self.read_frame(unread).await?;
            let answer = match &frame {
                Frame::Garbled(_) => return None,
                Frame::Close(_) => frame.clone(),
                Frame::Ping(payload) => Frame::Pong(payload.clone()),
                Frame::Pong(_) => continue,
                _ if echoes => frame.clone(),
                _ => continue,
            };
            self.send(&answer.encode(None)).await?;
            if matches!(frame, Frame::Close(_)) {
                let mut sink = [0; 4096];
                while self.stream.read(&mut sink).await.is_ok_and(|length| length > 0) {}
                self.shared.closed.lock().unwrap().push(tokio::time::Instant::now());
                return Some(());
            }
        }
    }

    /// Sends as fast as it is taken, and counts.
    async fn send(&mut self, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.stream.write(rest).await.ok().filter(|written| *written > 0)?;
            self.shared.sent.fetch_add(written, Ordering::AcqRel);
            rest = &rest[written..];
        }
        Some(())
    }
}

/// One request; the coding of its body is looked at only in so far as its end is found.
async fn read_request(stream: &mut DuplexStream, unread: &mut Vec<u8>, body: bool) -> Option<Vec<u8>> {
    loop {
        if let Some(length) = request_length(unread, body) {
            return Some(unread.drain(..length).collect());
        }
        let mut more = vec![0; 64 * 1024];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => unread.extend_from_slice(&more[..length]),
        }
    }
}

fn request_length(bytes: &[u8], body: bool) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    if !body {
        return Some(head);
    }
    let lower = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if lower.contains("\r\ntransfer-encoding: chunked") {
        return bytes[head - 2..].ends_with(b"\r\n0\r\n\r\n").then_some(bytes.len());
    }
    let length = lower.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let whole = head + length.map_or(0, |length| length.parse::<usize>().unwrap());
    (bytes.len() >= whole).then_some(whole)
}
