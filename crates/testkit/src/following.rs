//! One connection to a scripted upstream on its way through its script.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::script::{Received, Shared, Step};

/// The upstream's end of a connection.
pub(crate) struct Followed {
    shared: Arc<Shared>,
    authority: String,
    stream: DuplexStream,
    reset: Arc<AtomicBool>,
    last_request: String,
}

impl Followed {
    pub(crate) fn new(shared: Arc<Shared>, authority: String, stream: DuplexStream, reset: Arc<AtomicBool>) -> Self {
        Self { shared, authority, stream, reset, last_request: String::new() }
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
                let bytes = read_request(&mut self.stream, unread, matches!(step, Step::Request)).await?;
                let received = Received { authority: self.authority.clone(), bytes };
                self.last_request = received.text();
                self.shared.requests.lock().unwrap().push(received);
            }
            Step::Send(bytes) => self.stream.write_all(bytes).await.ok()?,
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
