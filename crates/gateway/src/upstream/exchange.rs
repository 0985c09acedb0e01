//! One request written and one response head read, in the task that serves the caller.
//!
//! Writing and reading go on side by side, so that an upstream may answer before it has taken the whole body. What the
//! error says about `unsent` decides whether the same request may be sent again.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

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

/// What is written behind the request head.
pub enum Outgoing<'body> {
    /// All of it, in pieces that are not joined.
    Whole(Vec<Bytes>),
    /// Pieces that were read already, then the rest as it comes.
    Streaming {
        /// Pieces read already.
        first: Vec<Bytes>,
        /// The rest.
        rest: &'body mut ClientBody,
        /// Whether the chunked coding is used, because the length is unknown.
        chunked: bool,
    },
}

/// What an exchange yields.
pub struct Answer {
    /// The upstream's response head. The first bytes of its body may lie in [`Connection::unread`].
    pub head: ResponseHead,
    /// Whether the whole request was written; if not, the connection cannot be used again.
    pub request_complete: bool,
}

/// Writes `head` and `body` to `connection` and reads the response head.
pub async fn exchange(
    connection: &mut Connection,
    method: &Method,
    head: Bytes,
    body: Outgoing<'_>,
    timer: &mut CallTimer,
) -> Result<Answer, AttemptError> {
    let mut exchange = Exchange::new(connection, method, head, body);
    timer.enter(Phase::Idle);
    poll_fn(|context| exchange.poll(context, timer)).await
}

struct Exchange<'call> {
    connection: &'call mut Connection,
    method: &'call Method,
    pending: VecDeque<Bytes>,
    rest: Option<(&'call mut ClientBody, bool)>,
    written: u64,
    sent: bool,
    write_error: Option<io::Error>,
    interim: u8,
}

impl<'call> Exchange<'call> {
    fn new(
        connection: &'call mut Connection,
        method: &'call Method,
        head: Bytes,
        body: Outgoing<'call>,
    ) -> Exchange<'call> {
        let mut pending = VecDeque::with_capacity(4);
        pending.push_back(head);
        let rest = match body {
            Outgoing::Whole(pieces) => {
                pending.extend(pieces);
                None
            }
            Outgoing::Streaming { first, rest, chunked } => {
                for piece in first {
                    push_piece(&mut pending, piece, chunked);
                }
                Some((rest, chunked))
            }
        };
        let (sent, write_error) = (false, None);
        Exchange { connection, method, pending, rest, written: 0, sent, write_error, interim: 0 }
    }

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
        loop {
            while !self.pending.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = self.pending.len().min(SLICES);
                for (slice, piece) in slices.iter_mut().zip(&self.pending) {
                    *slice = IoSlice::new(piece);
                }
                let io = Pin::new(&mut *self.connection.io);
                let written = match io.poll_write_vectored(context, &slices[..count]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(Stop::Upstream(io::ErrorKind::WriteZero.into()))),
                    Poll::Ready(Ok(written)) => written,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Stop::Upstream(error))),
                    Poll::Pending => return Poll::Pending,
                };
                self.written += written as u64;
                advance(&mut self.pending, written);
                timer.enter(Phase::Idle);
            }
            let Some((body, chunked)) = &mut self.rest else {
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

/// Queues one piece of the body, in chunked coding where asked.
fn push_piece(pending: &mut VecDeque<Bytes>, piece: Bytes, chunked: bool) {
    if piece.is_empty() {
        return;
    }
    if !chunked {
        return pending.push_back(piece);
    }
    pending.push_back(Bytes::from(format!("{:x}\r\n", piece.len())));
    pending.push_back(piece);
    pending.push_back(Bytes::from_static(b"\r\n"));
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
