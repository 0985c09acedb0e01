//! Scripted upstreams: for each connection a list of steps, and what they received.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiproxy_config::snapshot::Endpoint;
use aiproxy_core::tasks::Tasks;
use aiproxy_gateway::upstream::connect::{Dial, Dialing};
use aiproxy_gateway::upstream::error::Failure;
use aiproxy_gateway::upstream::io::BoxIo;

use crate::following::Followed;
use crate::frame::Frame;
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
    /// Send these bytes in one write, or in as many as there is room for.
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
    /// Read a handshake and answer it: from now on the connection is a socket.
    Upgrade,
    /// The same, with this subprotocol.
    UpgradeAs(&'static str),
    /// The same, with these lines in the answer (each ending in CRLF), and these bytes right behind it.
    UpgradeWith(&'static str, Vec<u8>),
    /// Read one whole frame, of a message or a control frame, and note it.
    Message,
    /// Read frames and note them until one says goodbye; answer that, and wait until the gateway closes.
    Listen,
    /// The same, and send every message back as it came.
    Echo,
    /// The one step if the last request, or the last message, contains this text, or else the other.
    IfAsked(String, Box<Step>, Box<Step>),
    /// Begin with the first step again, on the same connection. Only as the last step.
    Again,
}

impl Step {
    /// Sends text.
    pub fn send(text: impl Into<String>) -> Self {
        Self::Send(text.into().into_bytes())
    }

    /// Sends a frame.
    pub fn frame(frame: &Frame) -> Self {
        Self::Send(frame.encode(None))
    }

    /// Sends a text message.
    pub fn text(text: impl Into<String>) -> Self {
        Self::frame(&Frame::text(text))
    }

    /// Sends a binary message.
    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self::frame(&Frame::Binary(payload.into()))
    }

    /// Sends a ping.
    pub fn ping(payload: &str) -> Self {
        Self::frame(&Frame::Ping(payload.into()))
    }

    /// Says goodbye.
    pub fn close(code: u16, reason: &str) -> Self {
        Self::frame(&Frame::close(code, reason))
    }

    /// Takes the one step if the last request or message contains `text`, or else the other.
    pub fn if_asked(text: &str, step: Self, otherwise: Self) -> Self {
        Self::IfAsked(text.into(), Box::new(step), Box::new(otherwise))
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

/// What was asked of the upstreams, and what they still have to do.
#[derive(Default)]
pub(crate) struct Shared {
    /// Scripts by host; those under the empty name are for every host.
    scripts: Mutex<HashMap<String, Scripts>>,
    pub(crate) requests: Mutex<Vec<Received>>,
    pub(crate) messages: Mutex<Vec<Message>>,
    dials: Mutex<Vec<Dialled>>,
    pub(crate) closed: Mutex<Vec<tokio::time::Instant>>,
    pub(crate) finished: AtomicUsize,
    pub(crate) sent: AtomicUsize,
    tasks: Tasks,
}

struct Scripts {
    left: VecDeque<Vec<Step>>,
    last_repeats: bool,
}

impl Scripts {
    /// The script of the next connection; a connection beyond them is refused.
    fn next(&mut self) -> Vec<Step> {
        let repeated = self.left.front().filter(|_| self.last_repeats && self.left.len() == 1).cloned();
        repeated.or_else(|| self.left.pop_front()).unwrap_or_else(|| vec![Step::Refuse])
    }
}

/// One request.
pub(crate) struct Received {
    pub(crate) authority: String,
    pub(crate) bytes: Vec<u8>,
}

/// Where a connection was opened.
struct Dialled {
    authority: String,
    /// With scheme and port.
    url: String,
}

/// One frame of a socket.
pub(crate) struct Message {
    pub(crate) at: tokio::time::Instant,
    pub(crate) frame: Frame,
    pub(crate) wire: Vec<u8>,
}

/// Upstreams that follow scripts: the first connection the first one, and so on.
#[derive(Clone, Default)]
pub struct Upstream(Arc<Shared>);

impl Upstream {
    /// Whatever its host, the connections follow `scripts` in the order they come. One beyond them is refused.
    pub fn new(scripts: impl IntoIterator<Item = Vec<Step>>) -> Self {
        let upstream = Self::default();
        upstream.insert("", scripts, false);
        upstream
    }

    /// Each host follows scripts of its own, the last of them for ever. A host without any refuses.
    pub fn hosts<const HOSTS: usize>(hosts: [(&str, Vec<Vec<Step>>); HOSTS]) -> Self {
        let upstream = Self::default();
        for (host, scripts) in hosts {
            upstream.insert(host, scripts, true);
        }
        upstream
    }

    fn insert(&self, host: &str, scripts: impl IntoIterator<Item = Vec<Step>>, last_repeats: bool) {
        let scripts = Scripts { left: scripts.into_iter().collect(), last_repeats };
        self.0.scripts.lock().unwrap().insert(host.into(), scripts);
    }

    /// From the next connection on, `host` follows these scripts, the last of them for ever.
    pub fn now_follows(&self, host: &str, scripts: Vec<Vec<Step>>) {
        self.insert(host, scripts, true);
    }

    /// Every request read so far, as text, in order.
    pub fn requests(&self) -> Vec<String> {
        self.0.requests.lock().unwrap().iter().map(Received::text).collect()
    }

    /// Every request that `host` has read so far, as text, in order.
    pub fn requests_to(&self, host: &str) -> Vec<String> {
        let requests = self.0.requests.lock().unwrap();
        requests.iter().filter(|request| request.authority == host).map(Received::text).collect()
    }

    /// Every request read so far, byte for byte, in order.
    pub fn raw_requests(&self) -> Vec<Vec<u8>> {
        self.0.requests.lock().unwrap().iter().map(|request| request.bytes.clone()).collect()
    }

    /// Every frame read so far, in order.
    pub fn messages(&self) -> Vec<Frame> {
        self.0.messages.lock().unwrap().iter().map(|message| message.frame.clone()).collect()
    }

    /// The text messages among them.
    pub fn texts(&self) -> Vec<String> {
        let messages = self.0.messages.lock().unwrap();
        let texts = messages.iter().filter(|message| matches!(message.frame, Frame::Text(_)));
        texts.map(|message| message.frame.as_text().to_owned()).collect()
    }

    /// When each of the frames came.
    pub fn messages_at(&self) -> Vec<tokio::time::Instant> {
        self.0.messages.lock().unwrap().iter().map(|message| message.at).collect()
    }

    /// The bytes of all those frames as they came, masks included.
    pub fn message_bytes(&self) -> Vec<u8> {
        self.0.messages.lock().unwrap().iter().flat_map(|message| message.wire.clone()).collect()
    }

    /// How many bytes were sent in whole steps and parts of them.
    pub fn sent(&self) -> usize {
        self.0.sent.load(Ordering::Acquire)
    }

    /// The authority of every endpoint dialled so far.
    pub fn dials(&self) -> Vec<String> {
        self.0.dials.lock().unwrap().iter().map(|dialled| dialled.authority.clone()).collect()
    }

    /// The same endpoints with scheme and port: `https://up.test:443`.
    pub fn dialled_urls(&self) -> Vec<String> {
        self.0.dials.lock().unwrap().iter().map(|dialled| dialled.url.clone()).collect()
    }

    /// When the gateway closed connections that awaited it.
    pub fn closed_at(&self) -> Vec<tokio::time::Instant> {
        self.0.closed.lock().unwrap().clone()
    }

    /// How many connections have come to the end of their script.
    pub fn finished(&self) -> usize {
        self.0.finished.load(Ordering::Acquire)
    }
}

impl Received {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Dial for Upstream {
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Dialing<'a> {
        let shared = self.0.clone();
        let authority = endpoint.authority.to_string();
        let scheme = if endpoint.https { "https" } else { "http" };
        let url = format!("{scheme}://{}:{}", endpoint.host, endpoint.port);
        shared.dials.lock().unwrap().push(Dialled { authority: authority.clone(), url });
        Box::pin(async move {
            let script = {
                let mut scripts = shared.scripts.lock().unwrap();
                let name = if scripts.contains_key("") { "" } else { authority.as_str() };
                scripts.get_mut(name).map_or_else(|| vec![Step::Refuse], Scripts::next)
            };
            let mut steps: VecDeque<Step> = script.into();
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
            let followed = Followed::new(shared.clone(), authority, theirs, reset.clone());
            shared.tasks.spawn(followed.follow(steps.into()));
            let stream: BoxIo = Box::new(ResettableStream { inner, reset });
            Ok(stream)
        })
    }
}
