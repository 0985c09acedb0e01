//! The body of an upstream's response as it comes, without its framing.

use std::io;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::chunked::ChunkedDecoder;
use super::io::poll_read_once;
use super::pool::Connection;
use super::response_head::Framing;

/// What remains of a body.
enum Remaining {
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

/// A response body on its connection.
pub struct ResponseBody {
    /// Gone once the last piece was given out.
    connection: Option<Connection>,
    remaining: Remaining,
    reusable: bool,
}

/// What one read gave.
pub enum Piece {
    /// Some bytes; more may follow.
    Data(Bytes),
    /// The last bytes, possibly none. The connection comes along if it may be used again.
    Last(Bytes, Option<Connection>),
}

impl ResponseBody {
    /// The body that follows a head with `framing`. With [`Framing::Empty`] the first read is the last.
    pub fn new(connection: Connection, framing: Framing, reusable: bool) -> Self {
        let remaining = match framing {
            Framing::Empty => Remaining::Length(0),
            Framing::Length(length) => Remaining::Length(length),
            Framing::Chunked => Remaining::Chunked(ChunkedDecoder::default()),
            Framing::UntilClose => Remaining::UntilClose,
        };
        Self { connection: Some(connection), remaining, reusable }
    }

    /// The next bytes. After [`Piece::Last`] or an error it must not be polled again.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        if matches!(self.remaining, Remaining::Length(0)) {
            return Poll::Ready(Ok(self.last(Bytes::new())));
        }
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(self.last(Bytes::new()))) };
            let step = if connection.unread.is_empty() {
                let Connection { io, unread, .. } = connection;
                let remaining = &mut self.remaining;
                match poll_read_once(&mut **io, context, |bytes| take(remaining, unread, bytes)) {
                    Poll::Ready(Ok(step)) => step?,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            } else {
                let first = connection.unread.split();
                take(&mut self.remaining, &mut connection.unread, &first)?
            };
            match step {
                Step::Data(data) if data.is_empty() => continue,
                Step::Data(data) => return Poll::Ready(Ok(Piece::Data(data))),
                Step::Last(data) => return Poll::Ready(Ok(self.last(data))),
            }
        }
    }

    fn last(&mut self, data: Bytes) -> Piece {
        let connection = self.connection.take();
        Piece::Last(data, connection.filter(|connection| self.reusable && connection.unread.is_empty()))
    }
}

enum Step {
    Data(Bytes),
    Last(Bytes),
}

/// Takes what belongs to the body out of `bytes`; anything behind its end goes to `unread`.
fn take(remaining: &mut Remaining, unread: &mut BytesMut, bytes: &[u8]) -> io::Result<Step> {
    let truncated = || io::Error::new(io::ErrorKind::UnexpectedEof, "the upstream closed in the middle of the body");
    match remaining {
        Remaining::UntilClose if bytes.is_empty() => Ok(Step::Last(Bytes::new())),
        Remaining::UntilClose => Ok(Step::Data(Bytes::copy_from_slice(bytes))),
        _ if bytes.is_empty() => Err(truncated()),
        Remaining::Length(left) => {
            let length = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= length as u64;
            unread.extend_from_slice(&bytes[length..]);
            let data = Bytes::copy_from_slice(&bytes[..length]);
            Ok(if *left == 0 { Step::Last(data) } else { Step::Data(data) })
        }
        Remaining::Chunked(decoder) => {
            let mut data = BytesMut::with_capacity(bytes.len());
            let consumed = decoder
                .decode(bytes, &mut data)
                .map_err(|broken| io::Error::new(io::ErrorKind::InvalidData, broken.0))?;
            unread.extend_from_slice(&bytes[consumed..]);
            Ok(if decoder.is_done() { Step::Last(data.freeze()) } else { Step::Data(data.freeze()) })
        }
    }
}
