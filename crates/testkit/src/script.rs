//! A scripted upstream: for each connection a list of steps, and what it received.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiproxy_config::snapshot::Endpoint;
use aiproxy_core::tasks::Tasks;
use aiproxy_gateway::upstream::connect::{Dial, Dialing};
use aiproxy_gateway::upstream::error::Failure;
use aiproxy_gateway::upstream::io::BoxIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::stream::ResettableStream;

/// What a connection does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Let the gateway wait this long before the connection is open. Only as the first step.
    SlowConnect(Duration),
    /// Refuse the connection. Only as the first step.
    Refuse,
    /// Fail the TLS handshake. Only as the first step.
    FailTls,
    /// Fail the name lookup. Only as the first step.
    FailLookup,
    /// Read one whole request: head and body.
    Request,
    /// Read one head and leave the body unread.
    Head,
    /// Send these bytes in one write.
    Send(Vec<u8>),
    /// Send these bytes one by one, with a pause behind each.
    Drip(Vec<u8>, Duration),
    /// Do nothing for a while.
    Wait(Duration),
    /// Never do anything again, but keep the connection open.
    Hang,
    /// End the connection with a reset.
    Reset,
    /// Wait until the gateway closes; the time is noted.
    AwaitClose,
}

impl Step {
    /// Sends text.
    pub fn send(text: impl Into<String>) -> Self {
        Self::Send(text.into().into_bytes())
    }

    /// Sends a JSON response with its length.
    pub fn json(status: u16, body: &str) -> Self {
        Self::send(format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Sends the head of an event stream in chunked coding.
    pub fn sse_head() -> Self {
        Self::send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    }

    /// Sends one chunk.
    pub fn chunk(text: &str) -> Self {
        Self::send(format!("{:x}\r\n{text}\r\n", text.len()))
    }

    /// Sends the last chunk.
    pub fn last_chunk() -> Self {
        Self::send("0\r\n\r\n")
    }
}

#[derive(Default)]
struct Shared {
    scripts: Mutex<VecDeque<Vec<Step>>>,
    requests: Mutex<Vec<String>>,
    dials: Mutex<Vec<String>>,
    closed: Mutex<Vec<tokio::time::Instant>>,
    tasks: Tasks,
}

/// An upstream that follows scripts: the first connection the first one, and so on.
#[derive(Clone, Default)]
pub struct Upstream(Arc<Shared>);

impl Upstream {
    /// An upstream whose connections follow `scripts`. A connection beyond them is refused.
    pub fn new(scripts: impl IntoIterator<Item = Vec<Step>>) -> Self {
        let upstream = Self::default();
        upstream.0.scripts.lock().unwrap().extend(scripts);
        upstream
    }

    /// Every request read so far, as text, in order.
    pub fn requests(&self) -> Vec<String> {
        self.0.requests.lock().unwrap().clone()
    }

    /// The authority of every endpoint dialled so far.
    pub fn dials(&self) -> Vec<String> {
        self.0.dials.lock().unwrap().clone()
    }

    /// When the gateway closed connections that awaited it.
    pub fn closed_at(&self) -> Vec<tokio::time::Instant> {
        self.0.closed.lock().unwrap().clone()
    }
}

impl Dial for Upstream {
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Dialing<'a> {
        let shared = self.0.clone();
        shared.dials.lock().unwrap().push(endpoint.authority.to_string());
        Box::pin(async move {
            let script = shared.scripts.lock().unwrap().pop_front();
            let mut steps: VecDeque<Step> = script.unwrap_or_else(|| vec![Step::Refuse]).into();
            match steps.front() {
                Some(Step::Refuse) => return Err(Failure::Refused(io::ErrorKind::ConnectionRefused.into())),
                Some(Step::FailTls) => return Err(Failure::Tls(io::Error::other("invalid peer certificate"))),
                Some(Step::FailLookup) => return Err(Failure::Lookup(io::Error::other("no such name"))),
                Some(Step::SlowConnect(pause)) => {
                    tokio::time::sleep(*pause).await;
                    steps.pop_front();
                }
                _ => {}
            }
            let (inner, theirs) = tokio::io::duplex(256 * 1024);
            let reset = Arc::new(AtomicBool::new(false));
            let running = shared.clone();
            shared.tasks.spawn(follow(running, theirs, steps, reset.clone()));
            let stream: BoxIo = Box::new(ResettableStream { inner, reset });
            Ok(stream)
        })
    }
}

async fn follow(shared: Arc<Shared>, mut stream: DuplexStream, steps: VecDeque<Step>, reset: Arc<AtomicBool>) {
    let mut unread = Vec::new();
    for step in steps {
        // A gateway that went away in the middle of a script is what some tests are about.
        match step {
            Step::SlowConnect(_) | Step::Refuse | Step::FailTls | Step::FailLookup => panic!("only as the first step"),
            Step::Request => match read_request(&mut stream, &mut unread, true).await {
                Some(request) => shared.requests.lock().unwrap().push(request),
                None => return,
            },
            Step::Head => match read_request(&mut stream, &mut unread, false).await {
                Some(request) => shared.requests.lock().unwrap().push(request),
                None => return,
            },
            Step::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Drip(bytes, pause) => {
                for byte in bytes {
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
            Step::Wait(pause) => tokio::time::sleep(pause).await,
            Step::Hang => std::future::pending().await,
            Step::Reset => {
                reset.store(true, Ordering::Release);
                return;
            }
            Step::AwaitClose => {
                let mut sink = [0; 4096];
                while stream.read(&mut sink).await.is_ok_and(|length| length > 0) {}
                shared.closed.lock().unwrap().push(tokio::time::Instant::now());
                return;
            }
        }
    }
}

/// One request as text; the body dechunked only in so far as its end is found.
async fn read_request(stream: &mut DuplexStream, unread: &mut Vec<u8>, body: bool) -> Option<String> {
    loop {
        if let Some(length) = request_length(unread, body) {
            let request = unread.drain(..length).collect::<Vec<u8>>();
            return Some(String::from_utf8_lossy(&request).into_owned());
        }
        let mut more = vec![0; 64 * 1024];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => unread.extend_from_slice(&more[..length]),
        }
    }
}

fn request_length(bytes: &[u8], body: bool) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let lower = text[..head.min(text.len())].to_ascii_lowercase();
    if !body {
        return Some(head);
    }
    if lower.contains("\r\ntransfer-encoding: chunked") {
        let end = bytes[head..].windows(5).position(|window| window == b"0\r\n\r\n")?;
        return Some(head + end + 5);
    }
    let length = lower.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let whole = head + length.map_or(0, |length| length.parse::<usize>().unwrap());
    (bytes.len() >= whole).then_some(whole)
}
