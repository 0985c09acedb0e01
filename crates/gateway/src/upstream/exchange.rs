//! One request written and one response head read, in the task that serves the caller.
//!
//! Writing and reading go on side by side, so that an upstream may answer before it has taken the whole body. What the
//! error says about `unsent` decides whether the same request may be sent again.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode};

use super::error::{AttemptError, Failure, Phase};
use super::io::poll_read_once;
use super::pool::Connection;
use super::response_head::{self, ResponseHead};
use crate::client_body::ClientBody;
use crate::timer::CallTimer;

/// Interim responses (100, 103) an upstream may send before the final one.
const INTERIM_LIMIT: u8 = 16;
/// Most pieces handed to one write.
const SLICES: usize = 32;

/// The rest of a body that comes from the caller while it is written.
pub struct Rest<'body> {
    /// Where it comes from.
    pub body: &'body mut ClientBody,
    /// Whether the chunked coding is used, because the length is unknown.
    pub chunked: bool,
}

/// What an exchange yields.
pub struct Answer {
    /// The upstream's response head. The first bytes of its body may lie in [`Connection::unread`].
    pub head: ResponseHead,
    /// Whether the whole request was written; if not, the connection cannot be used again.
    pub request_complete: bool,
}

/// Writes the pieces of `request` (head first), then the `rest` if there is one, and reads the response head.
///
/// `request` is only borrowed and never joined, so that it can be written again on another connection.
pub async fn exchange(
    connection: &mut Connection,
    method: &Method,
    request: &[Bytes],
    rest: Option<Rest<'_>>,
    timer: &mut CallTimer,
) -> Result<Answer, AttemptError> {
    let pending = VecDeque::new();
    let (at, written, sent, write_error, interim) = (At::default(), 0, false, None, 0);
    let mut exchange = Exchange { connection, method, request, at, pending, rest, written, sent, write_error, interim };
    timer.enter(Phase::Idle);
    poll_fn(|context| exchange.poll(context, timer)).await
}

/// How far `request` was written.
#[derive(Clone, Copy, Default)]
struct At {
    piece: usize,
    offset: usize,
}

struct Exchange<'call> {
    connection: &'call mut Connection,
    method: &'call Method,
    request: &'call [Bytes],
    at: At,
    /// What came from `rest` and was not written yet.
    pending: VecDeque<Bytes>,
    rest: Option<Rest<'call>>,
    written: u64,
    sent: bool,
    write_error: Option<io::Error>,
    interim: u8,
}

impl Exchange<'_> {
    fn poll(&mut self, context: &mut Context<'_>, timer: &mut CallTimer) -> Poll<Result<Answer, AttemptError>> {
        if !self.sent && self.write_error.is_none() {
            match self.poll_write(context, timer) {
                Poll::Ready(Ok(())) => {
                    self.sent = true;
                    timer.enter(Phase::FirstByte);
                }
                Poll::Ready(Err(Stop::Upstream(error))) => self.write_error = Some(error),
                Poll::Ready(Err(Stop::Client(failure))) => return Poll::Ready(Err(AttemptError::ambiguous(failure))),
                Poll::Pending => {}
            }
        }
        // An upstream that refuses a body often answers and closes while we still write: its answer is worth more
        // than our write error.
        match self.poll_head(context) {
            Poll::Ready(Ok(head)) => return Poll::Ready(Ok(Answer { head, request_complete: self.sent })),
            Poll::Ready(Err(failure)) => {
                let unsent = self.written == 0;
                let failure = match (failure, self.write_error.take()) {
                    (Failure::Closed(None), Some(error)) => Failure::Closed(Some(error)),
                    (failure, _) => failure,
                };
                return Poll::Ready(Err(AttemptError { failure, unsent }));
            }
            Poll::Pending => {}
        }
        timer
            .poll(context)
            .map(|phase| Err(AttemptError { failure: Failure::Timeout(phase), unsent: self.written == 0 }))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, timer: &mut CallTimer) -> Poll<Result<(), Stop>> {
        while self.at.piece < self.request.len() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let pieces = &self.request[self.at.piece..];
            for (slice, piece) in slices.iter_mut().zip(pieces) {
                *slice = IoSlice::new(piece);
            }
            slices[0] = IoSlice::new(&pieces[0][self.at.offset..]);
            let count = pieces.len().min(SLICES);
            let written = ready!(self.poll_write_slices(context, &slices[..count], timer))?;
            self.at.advance(self.request, written);
        }
        loop {
            while !self.pending.is_empty() {
                let pending = std::mem::take(&mut self.pending);
                let mut slices = [IoSlice::new(&[]); SLICES];
                for (slice, piece) in slices.iter_mut().zip(&pending) {
                    *slice = IoSlice::new(piece);
                }
                let written = self.poll_write_slices(context, &slices[..pending.len().min(SLICES)], timer);
                self.pending = pending;
                advance(&mut self.pending, ready!(written)?);
            }
            let Some(Rest { body, chunked }) = &mut self.rest else {
                let io = Pin::new(&mut *self.connection.io);
                return io.poll_flush(context).map_err(Stop::Upstream);
            };
            match body.poll_data(context) {
                Poll::Ready(Some(Ok(data))) => push_piece(&mut self.pending, data, *chunked),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Stop::Client(Failure::ClientBody(error)))),
                Poll::Ready(None) => {
                    if *chunked {
                        self.pending.push_back(Bytes::from_static(b"0\r\n\r\n"));
                    }
                    self.rest = None;
                }
                Poll::Pending => {
                    // Waiting for the caller is not the upstream's fault; the body has its own deadline.
                    timer.enter(Phase::Idle);
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_write_slices(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        timer: &mut CallTimer,
    ) -> Poll<Result<usize, Stop>> {
        let io = Pin::new(&mut *self.connection.io);
        match ready!(io.poll_write_vectored(context, slices)) {
            Ok(0) => Poll::Ready(Err(Stop::Upstream(io::ErrorKind::WriteZero.into()))),
            Ok(written) => {
                self.written += written as u64;
                timer.enter(Phase::Idle);
                Poll::Ready(Ok(written))
            }
            Err(error) => Poll::Ready(Err(Stop::Upstream(error))),
        }
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            let Connection { io, unread, .. } = &mut *self.connection;
            let method = self.method;
            let read = poll_read_once(&mut **io, context, |bytes| {
                if bytes.is_empty() {
                    return Err(Failure::Closed(None));
                }
                take_head(unread, bytes, method)
            });
            let mut head = match read {
                Poll::Ready(Ok(Ok(head))) => head,
                Poll::Ready(Ok(Err(failure))) => return Poll::Ready(Err(failure)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failure::Closed(Some(error)))),
                Poll::Pending => return Poll::Pending,
            };
            while let Some(found) = head {
                if !found.status.is_informational() || found.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok(found));
                }
                self.interim += 1;
                if self.interim > INTERIM_LIMIT {
                    return Poll::Ready(Err(Failure::Invalid("too many interim responses")));
                }
                let rest = self.connection.unread.split();
                head = match take_head(&mut self.connection.unread, &rest, method) {
                    Ok(head) => head,
                    Err(failure) => return Poll::Ready(Err(failure)),
                };
            }
        }
    }
}

/// Why writing ended early.
enum Stop {
    Upstream(io::Error),
    Client(Failure),
}

/// Parses a head out of `unread` followed by `bytes`; what is left over stays in `unread`.
fn take_head(unread: &mut BytesMut, bytes: &[u8], method: &Method) -> Result<Option<ResponseHead>, Failure> {
    let parse = |bytes: &[u8]| response_head::parse(bytes, method).map_err(|invalid| Failure::Invalid(invalid.0));
    if unread.is_empty() {
        // The usual case: the whole head came in one read and is parsed where it lies.
        let parsed = parse(bytes)?;
        let consumed = parsed.as_ref().map_or(0, |(_, length)| *length);
        unread.extend_from_slice(&bytes[consumed..]);
        return Ok(parsed.map(|(head, _)| head));
    }
    unread.extend_from_slice(bytes);
    let parsed = parse(unread)?;
    if let Some((_, length)) = &parsed {
        unread.advance(*length);
    }
    Ok(parsed.map(|(head, _)| head))
}

impl At {
    fn advance(&mut self, pieces: &[Bytes], mut written: usize) {
        while let Some(piece) = pieces.get(self.piece) {
            let left = piece.len() - self.offset;
            if written < left {
                self.offset += written;
                return;
            }
            written -= left;
            *self = Self { piece: self.piece + 1, offset: 0 };
        }
    }
}

/// Queues one piece of the body, in chunked coding where asked.
pub fn push_piece(pieces: &mut impl Extend<Bytes>, piece: Bytes, chunked: bool) {
    match chunked {
        _ if piece.is_empty() => {}
        false => pieces.extend([piece]),
        true => {
            let size = Bytes::from(format!("{:x}\r\n", piece.len()));
            pieces.extend([size, piece, Bytes::from_static(b"\r\n")]);
        }
    }
}

/// Drops `written` bytes from the front of the queue.
fn advance(pending: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = pending.front_mut() {
        if written < first.len() {
            return first.advance(written);
        }
        written -= first.len();
        pending.pop_front();
    }
}
