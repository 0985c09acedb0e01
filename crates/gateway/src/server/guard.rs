//! The client's side of a connection, watched: who is too slow, who smuggles, and what the HTTP library would answer
//! with an empty page.
//!
//! Wraps the socket below hyper. Between calls it holds the deadlines for a head and for an idle connection. It refuses
//! heads that two parsers may read differently (RFC 9112 §2.2, §6.1): a lone LF, and Content-Length beside
//! Transfer-Encoding. A bare error that hyper makes by itself (a head it cannot read never becomes a call) is
//! replaced by one that says what to do. Requests pipelined behind a running call are not scanned; hyper's own parser
//! still frames them, and everything that goes upstream is framed anew.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use aiproxy_config::snapshot::ClientTimeouts;
use aiproxy_llm::dialect::Dialect;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head_scan::{HeadScan, Suspicion};
use crate::refusal::Refusal;
use crate::timer::Deadline;

/// What the service and the guard of one connection tell each other. Both run in the same task.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    active: AtomicUsize,
    ended: AtomicBool,
    /// Whether the request of the running call was read to its end: what comes then is not its body.
    request_whole: AtomicBool,
    /// Whether the connection became a socket: what passes is no HTTP any more.
    upgraded: AtomicBool,
}

/// One call on a connection, from its head to the drop of its response body.
pub(crate) struct ActiveCall(Arc<ConnectionState>);

impl ConnectionState {
    /// Counts a call in.
    pub(crate) fn begin(self: &Arc<Self>) -> ActiveCall {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.request_whole.store(false, Ordering::Relaxed);
        ActiveCall(self.clone())
    }

    /// The request of the running call was read to its end.
    pub(crate) fn request_is_whole(&self) {
        self.request_whole.store(true, Ordering::Relaxed);
    }

    /// From now on the connection is a socket.
    pub(crate) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Relaxed)
    }

    fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    fn take_ended(&self) -> bool {
        self.ended.swap(false, Ordering::Relaxed)
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

/// What the bytes that come next are.
enum Reading {
    /// Nothing of the next head yet.
    Idle,
    /// Inside a head.
    Head(HeadScan),
    /// A body, or a head that hyper is about to serve.
    Passing,
    /// HTTP/2 from the first byte on.
    Http2,
}

/// Which HTTP a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Beginning of the HTTP/2 preface.
const PREFACE: &[u8] = b"PRI ";
/// The first read of a connection. Most heads fit; the rest of a longer one is read by hyper.
const SNIFF_BYTES: usize = 4096;

/// A socket under guard.
pub(crate) struct Guard<S> {
    inner: S,
    state: Arc<ConnectionState>,
    timeouts: ClientTimeouts,
    reading: Reading,
    read_deadline: Deadline,
    write_deadline: Deadline,
    /// An answer of our own that must go out before the connection ends.
    farewell: Vec<u8>,
    /// Bytes that came while nobody asked for any: seen while watching whether the client is still there.
    early: Vec<u8>,
    early_inspected: bool,
    /// Set once the connection is to end: reads give nothing more.
    refused: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guard<S> {
    pub(crate) fn new(inner: S, state: Arc<ConnectionState>, timeouts: ClientTimeouts) -> Self {
        let mut read_deadline = Deadline::default();
        read_deadline.set_after(timeouts.headers);
        Self {
            inner,
            state,
            timeouts,
            reading: Reading::Idle,
            read_deadline,
            write_deadline: Deadline::default(),
            farewell: Vec::new(),
            early: Vec::new(),
            early_inspected: false,
            refused: false,
        }
    }

    /// Reads until it is clear which HTTP the client speaks (RFC 9113 §3.4: with prior knowledge it begins with a
    /// preface that no HTTP/1 request can be). What was read is handed to hyper afterwards, in one piece.
    pub(crate) async fn sniff(&mut self) -> io::Result<Protocol> {
        std::future::poll_fn(|context| self.poll_sniff(context)).await
    }

    fn poll_sniff(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Protocol>> {
        let mut bytes = [0; SNIFF_BYTES];
        while self.early.len() < PREFACE.len() && PREFACE.starts_with(&self.early) {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.inner).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(Protocol::Http1)),
                Poll::Ready(Ok(())) => self.early.extend_from_slice(buffer.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let expired = self.read_deadline.poll(context);
                    return expired.map(|()| Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        if self.early.starts_with(PREFACE) {
            self.reading = Reading::Http2;
            return Poll::Ready(Ok(Protocol::Http2));
        }
        let early = std::mem::take(&mut self.early);
        self.inspect(&early);
        self.early = early;
        self.early_inspected = true;
        Poll::Ready(Ok(Protocol::Http1))
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.farewell = raw_response(refusal);
        self.refused = true;
    }

    /// Looks at bytes that just came.
    fn inspect(&mut self, bytes: &[u8]) {
        if matches!(self.reading, Reading::Idle) {
            self.reading = Reading::Head(HeadScan::default());
            self.read_deadline.set_after(self.timeouts.headers);
        }
        let Reading::Head(scan) = &mut self.reading else { return };
        match scan.feed(bytes) {
            Ok(false) => {}
            Ok(true) => {
                self.reading = Reading::Passing;
                self.read_deadline.set(None);
            }
            Err(suspicion) => {
                let message = match suspicion {
                    Suspicion::LoneLineFeed => "A line of the request head ends without CR. Send CRLF.",
                    Suspicion::TwoFramings => {
                        "The request has both Content-Length and Transfer-Encoding. Send one of them."
                    }
                    Suspicion::RepeatedLength => "The request has more than one Content-Length. Send one.",
                    Suspicion::RepeatedCoding => "The request has more than one Transfer-Encoding. Send one.",
                };
                self.refuse(&Refusal::invalid_request(message));
            }
        }
    }

    /// Between two calls: what comes next is a head, and it may not be waited for without end.
    fn between_calls(&mut self) {
        if self.state.is_active() || !self.state.take_ended() || self.state.is_upgraded() {
            return;
        }
        if !matches!(self.reading, Reading::Http2) {
            self.reading = Reading::Idle;
        }
        self.read_deadline.set_after(self.timeouts.keep_alive);
    }

    /// While a call runs whose request was read to its end, notices that the client has gone, so that the call is
    /// dropped. Before that hyper reads the body itself, and notices too.
    ///
    /// hyper would do so itself by reading ahead, into a buffer of 16 KiB that an open stream would then keep.
    fn watch_client(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let whole = self.state.request_whole.load(Ordering::Relaxed) && !self.state.is_upgraded();
        if !whole || !self.early.is_empty() || matches!(self.reading, Reading::Http2) {
            return Ok(());
        }
        let mut bytes = [0; 512];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.inner).poll_read(context, &mut buffer) {
            Poll::Pending => Ok(()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Ready(Ok(())) => {
                self.early.extend_from_slice(buffer.filled());
                self.early_inspected = false;
                Ok(())
            }
        }
    }

    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.farewell.is_empty() {
            match Pin::new(&mut self.inner).poll_write(context, &self.farewell) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => drop(self.farewell.drain(..written)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.poll_write_stalled(context),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A client that does not take what is written is cut after `timeouts.write`.
    fn poll_write_stalled<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.write_deadline.arm(self.timeouts.write);
        self.write_deadline.poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The status of a bare error that hyper made by itself, if `bytes` is one. Every answer of ours has a request id.
    fn bare_error(&self, bytes: &[u8]) -> Option<StatusCode> {
        if self.state.is_active() || self.state.is_upgraded() || matches!(self.reading, Reading::Http2) {
            return None;
        }
        let status = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
        let bare = (status.starts_with(b"4") || status.starts_with(b"5"))
            && memchr::memmem::find(bytes, b"x-request-id").is_none()
            && memchr::memmem::find(bytes, b"content-length: 0\r\n").is_some();
        if bare { StatusCode::from_bytes(status).ok() } else { None }
    }

    fn poll_guarded_write(
        &mut self,
        context: &mut Context<'_>,
        first: &[u8],
        length: usize,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Some(status) = self.bare_error(first) {
            self.refuse(&for_bare_error(status));
        }
        if self.refused {
            // What hyper has to say is replaced by what we have to say.
            return self.poll_farewell(context).map_ok(|()| length);
        }
        match write(Pin::new(&mut self.inner), context) {
            Poll::Pending => self.poll_write_stalled(context),
            ready => {
                self.write_deadline.set(None);
                ready
            }
        }
    }
}

/// What a bare error of the HTTP library means.
fn for_bare_error(status: StatusCode) -> Refusal {
    if status == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE || status == StatusCode::URI_TOO_LONG {
        let message = "The request line and headers are too large. The limit is 64 KiB and 100 headers.";
        return Refusal::new(status, "headers_too_large", message);
    }
    let message = "The request could not be read as HTTP. Check the request line, the headers and their framing.";
    Refusal::new(status, "invalid_request", message)
}

/// A whole response that ends the connection.
pub(crate) fn raw_response(refusal: &Refusal) -> Vec<u8> {
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let id = aiproxy_core::id::RecordId::new(aiproxy_core::time::unix_ms(), random).to_string();
    let (headers, body) = refusal.head_and_body(Dialect::Openai, &id);
    tracing::info!(request.id = %id, status = refusal.status.as_u16(), code = refusal.code, "refused before it was a call");
    let mut response =
        format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", refusal.status, body.len()).into_bytes();
    for (name, value) in &headers {
        response.extend_from_slice(name.as_str().as_bytes());
        response.extend_from_slice(b": ");
        response.extend_from_slice(value.as_bytes());
        response.extend_from_slice(b"\r\n");
    }
    response.extend_from_slice(b"\r\n");
    response.extend_from_slice(&body);
    response
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.between_calls();
        if this.refused {
            return this.poll_farewell(context);
        }
        let before = buffer.filled().len();
        if !this.early.is_empty() {
            if !this.early_inspected && !this.state.is_upgraded() {
                this.early_inspected = true;
                let early = std::mem::take(&mut this.early);
                this.inspect(&early);
                this.early = early;
                if this.refused {
                    return this.poll_farewell(context);
                }
            }
            let length = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early[..length]);
            this.early.drain(..length);
            if this.early.is_empty() {
                this.early = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut this.inner).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                if !matches!(this.reading, Reading::Passing) && buffer.filled().len() > before {
                    this.inspect(&buffer.filled()[before..]);
                    if this.refused {
                        buffer.set_filled(before);
                        return this.poll_farewell(context);
                    }
                }
                if matches!(this.reading, Reading::Http2) {
                    this.read_deadline.set_after(this.timeouts.keep_alive);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if this.state.is_active() || this.state.is_upgraded() => Poll::Pending,
            Poll::Pending => {
                if this.read_deadline.poll(context).is_pending() {
                    return Poll::Pending;
                }
                // A connection that is merely idle ends without a word; one that began a head is told.
                if matches!(this.reading, Reading::Head(_)) {
                    let message = "The request headers came too slowly. Send them again on a better connection.";
                    this.refuse(&Refusal::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message));
                }
                this.refused = true;
                this.poll_farewell(context)
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_guarded_write(context, bytes, bytes.len(), |inner, context| inner.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = slices.first().map_or(&[][..], |slice| slice);
        let length = slices.iter().map(|slice| slice.len()).sum();
        this.poll_guarded_write(context, first, length, |inner, context| inner.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_farewell(context))?;
        // hyper asks for the next head before it drops the last body, and then only flushes: without this the deadline
        // of an idle connection would not be armed. Should it have passed, the next read says so.
        this.between_calls();
        if this.state.is_active() {
            this.watch_client(context)?;
        } else if !this.state.is_upgraded() && this.read_deadline.poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Pin::new(&mut this.inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(this.poll_farewell(context))?;
        Pin::new(&mut this.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn watching_for_a_client_that_leaves_does_not_take_its_body() {
        let (ours, mut theirs) = duplex(1 << 20);
        let state = Arc::new(ConnectionState::default());
        let mut guard = Guard::new(ours, state.clone(), ClientTimeouts::default());
        theirs.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(guard.sniff().await.unwrap(), Protocol::Http1);
        let mut head = [0; 64];
        assert_eq!(guard.read(&mut head).await.unwrap(), 19);
        let _call = state.begin();
        theirs.write_all(&[b'x'; 100_000]).await.unwrap();
        guard.flush().await.unwrap();
        assert!(guard.early.is_empty(), "a body is hyper's to read, in large pieces");
        let mut body = vec![0; 100_000];
        guard.read_exact(&mut body).await.unwrap();
        state.request_is_whole();
        guard.flush().await.unwrap();
        drop(theirs);
        assert!(guard.flush().await.is_err(), "gone");
    }
}
