//! The cheap upstream: one thread, keep-alive, pre-baked answers, and a check that the real key arrived.
//!
//! It does not parse JSON. What it answers is decided when it starts, so that a call costs it two system calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::payload;
use crate::socket::conversation::{Conversation, Talk};
use crate::socket::{answering, handshake};
use crate::wire::Body;

const MAX_CONNECTIONS: usize = 12_000;
const HEAD_LIMIT: usize = 16 * 1024;
/// Enough of a streamed call's body to see whether it asks for its usage.
const PEEK_LIMIT: usize = 8 * 1024;

/// What this upstream answers to every call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answers {
    Json,
    /// Fifty events as fast as they can be written, each with a write of its own, as providers do.
    FastStream,
    /// Forty events, 50 ms apart.
    SlowStream,
    /// A socket, and messages on it.
    Socket(Talk),
}

/// A running upstream; dropping it stops its thread.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    script: Arc<Script>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Accepts any of `real_keys`. With `request_bytes`, a body of any other length is refused.
    pub(crate) async fn start(
        answers: Answers,
        real_keys: &[String],
        request_bytes: Option<u64>,
        tls: Option<TlsAcceptor>,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Bound by tokio, for its long backlog; handed over to the thread's own runtime.
        let listener = TcpListener::bind("127.0.0.1:0").await?.into_std()?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let script = Arc::new(Script::new(answers, real_keys, request_bytes));
        let shared = Arc::clone(&script);
        let thread = std::thread::Builder::new().name("upstream".into()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    _ = stopped => {}
                    () = accept(&listener, &shared, tls.as_ref()) => {}
                }
            });
        })?;
        Ok(Self { address, script, stop: Some(stop), thread: Some(thread) })
    }

    /// How many calls came with each of the real keys.
    pub(crate) fn calls_of_keys(&self) -> Vec<u64> {
        self.script.accepted.iter().map(|key| key.calls.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The bytes of every answer, made once.
struct Script {
    answers: Answers,
    request_bytes: Option<u64>,
    accepted: Vec<AcceptedKey>,
    json: Vec<u8>,
    refusal: Vec<u8>,
    plain: Vec<Vec<u8>>,
    with_usage: Vec<Vec<u8>>,
    conversation: Option<Conversation>,
}

struct AcceptedKey {
    authorization: Vec<u8>,
    calls: AtomicU64,
}

impl AcceptedKey {
    fn new(key: &String) -> Self {
        Self { authorization: format!("Bearer {key}").into_bytes(), calls: AtomicU64::new(0) }
    }
}

impl Script {
    fn new(answers: Answers, real_keys: &[String], request_bytes: Option<u64>) -> Self {
        let chunks = if answers == Answers::SlowStream { payload::SLOW_CHUNKS } else { payload::FAST_CHUNKS };
        let refusal =
            br#"{"error":{"message":"not the real key, or not the whole body","type":"invalid_request_error"}}"#;
        let conversation = match answers {
            Answers::Socket(talk) => Some(talk.conversation()),
            _ => None,
        };
        Self {
            answers,
            request_bytes,
            conversation,
            accepted: real_keys.iter().map(AcceptedKey::new).collect(),
            json: response("200 OK", &payload::answer()),
            refusal: response("401 Unauthorized", refusal),
            plain: frames(chunks, false),
            with_usage: frames(chunks, true),
        }
    }
}

fn response(status: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nx-request-id: req_bench\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The head, then one chunk for each event; the last one also ends the body.
fn frames(chunks: usize, include_usage: bool) -> Vec<Vec<u8>> {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nx-request-id: req_bench\r\n\
        Transfer-Encoding: chunked\r\n\r\n";
    let mut frames = vec![head.to_vec()];
    frames.extend(
        payload::events(chunks, include_usage)
            .iter()
            .map(|event| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()),
    );
    if let Some(last) = frames.last_mut() {
        last.extend_from_slice(b"0\r\n\r\n");
    }
    frames
}

async fn accept(listener: &TcpListener, script: &Arc<Script>, tls: Option<&TlsAcceptor>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (Ok((stream, _)), Ok(permit)) = (accepted, Arc::clone(&permits).acquire_owned().await) else { continue };
        let (script, tls) = (Arc::clone(script), tls.cloned());
        connections.spawn(async move {
            // A connection that breaks shows on the other side as a failed call.
            connection(stream, tls, &script).await.ok();
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, script: &Script) -> Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => serve(tls.accept(stream).await?, script).await,
        None => serve(stream, script).await,
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, script: &Script) -> Result<()> {
    let mut buffer = vec![0; if script.answers == Answers::Json { 64 * 1024 } else { HEAD_LIMIT }];
    let mut filled = 0;
    loop {
        let (mut body, end, authorized, grant) = loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut headers);
            if let httparse::Status::Complete(end) = request.parse(&buffer[..filled])? {
                let authorized = authorized(request.headers, &script.accepted);
                break (Body::from_headers(request.headers)?, end, authorized, handshake::grant(request.headers));
            }
            ensure!(filled < HEAD_LIMIT, "request head too long");
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                return Ok(());
            }
            filled += read;
        };
        if let (Some(conversation), Some(grant), true) = (&script.conversation, grant, authorized) {
            stream.write_all(&grant).await?;
            // Of thousands of sockets none keeps a buffer for heads.
            let unread = buffer[end..filled].to_vec();
            drop(buffer);
            return answering::converse(stream, conversation, unread).await;
        }
        let (mut seen, mut bytes) = (Vec::new(), 0);
        let mut peek = |content: &[u8]| {
            bytes += content.len() as u64;
            if script.answers != Answers::Json && seen.len() + content.len() <= PEEK_LIMIT {
                seen.extend_from_slice(content);
            }
        };
        let mut rest = body.feed(&buffer[end..filled], &mut peek)?.len();
        while !body.is_done() {
            filled = stream.read(&mut buffer).await?;
            ensure!(filled > 0, "the request broke off");
            rest = body.feed(&buffer[..filled], &mut peek)?.len();
        }
        buffer.copy_within(filled - rest..filled, 0);
        filled = rest;
        // A call that should have been a handshake is none.
        let whole = script.request_bytes.is_none_or(|expected| expected == bytes) && script.conversation.is_none();
        answer(&mut stream, script, authorized && whole, &seen).await?;
    }
}

/// Exactly one credential, and it is a real one, which is counted.
fn authorized(headers: &[httparse::Header<'_>], accepted: &[AcceptedKey]) -> bool {
    let mut found = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("authorization"));
    let (Some(header), None) = (found.next(), found.next()) else { return false };
    let Some(key) = accepted.iter().find(|key| key.authorization == header.value) else { return false };
    key.calls.fetch_add(1, Ordering::Relaxed);
    true
}

async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, script: &Script, accepted: bool, seen: &[u8]) -> Result<()> {
    if !accepted {
        stream.write_all(&script.refusal).await?;
        return stream.flush().await.context("refusal");
    }
    if script.answers == Answers::Json {
        stream.write_all(&script.json).await?;
        return stream.flush().await.context("answer");
    }
    let frames =
        if memchr::memmem::find(seen, b"include_usage").is_some() { &script.with_usage } else { &script.plain };
    let mut pause = tokio::time::interval(Duration::from_millis(payload::SLOW_PAUSE_MS));
    for (number, frame) in frames.iter().enumerate() {
        // The head leaves at once; the usage and [DONE] follow the last chunk with content without a pause.
        if script.answers == Answers::SlowStream && (1..=payload::SLOW_CHUNKS).contains(&number) {
            pause.tick().await;
        }
        stream.write_all(frame).await?;
        stream.flush().await?;
    }
    Ok(())
}
