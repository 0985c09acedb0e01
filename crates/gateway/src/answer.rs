//! An upstream's response before anybody is told of it: its head, and as much of its body as had to be looked at to
//! decide whether this is the answer.

use std::future::poll_fn;
use std::sync::LazyLock;
use std::task::Poll;
use std::time::Duration;

use aiproxy_llm::dialect::Dialect;
use aiproxy_llm::meter::{MeterError, Start, StreamStart};
use bytes::Bytes;
use memchr::memmem::Finder;

use crate::timer::{CallTimer, Deadline};
use crate::upstream::error::{AttemptError, Failure, Phase};
use crate::upstream::pool::Connection;
use crate::upstream::response_body::{Piece, ResponseBody};
use crate::upstream::response_head::{Framing, ResponseHead};

/// How much of an error's body is read before it is judged. What is longer passes through unread behind it.
const ERROR_BODY_LIMIT: usize = 64 * 1024;
/// How much of a document is read before it is taken for an answer.
const DOCUMENT_START: usize = 4 * 1024;
/// How long an error that drips is read, and a stream that only says hello is kept from the caller while there is
/// somewhere else to go.
const HOLD_LIMIT: Duration = Duration::from_secs(10);

/// A response as far as it was read.
pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    /// Pieces of the body that were read already.
    pub(crate) held: Vec<Bytes>,
    /// Where the rest comes from.
    pub(crate) rest: Rest,
}

/// What follows the pieces that were read.
pub(crate) enum Rest {
    /// More may come.
    Open(ResponseBody),
    /// Nothing. The connection is here if it may be used again.
    Ended(Option<Connection>),
}

impl Answer {
    /// A response of which only the head was read.
    pub(crate) fn new(head: ResponseHead, connection: Connection, reusable: bool) -> Self {
        let rest = match head.framing {
            Framing::Empty => Rest::Ended(reusable.then_some(connection)),
            framing => Rest::Open(ResponseBody::new(connection, framing, reusable)),
        };
        Self { head, held: Vec::new(), rest }
    }

    /// A connection that is a socket from now on. What came behind the head is in its `unread`.
    pub(crate) fn upgraded(head: ResponseHead, connection: Connection) -> Self {
        Self { head, held: Vec::new(), rest: Rest::Ended(Some(connection)) }
    }

    /// The connection, once nothing more is to be read from it.
    pub(crate) fn take_connection(&mut self) -> Option<Connection> {
        match &mut self.rest {
            Rest::Ended(connection) => connection.take(),
            Rest::Open(_) => None,
        }
    }

    /// Reads an error's body, as far as it is worth reading, and what it says.
    pub(crate) async fn read_error(&mut self, timer: &mut CallTimer) -> Result<Option<MeterError>, AttemptError> {
        let mut length = 0;
        let mut hold = Deadline::default();
        hold.set_after(HOLD_LIMIT);
        while length < ERROR_BODY_LIMIT {
            match self.read(timer, &mut hold).await {
                Ok(Read::Data(data)) => length += data,
                Ok(Read::End | Read::TooLong) => break,
                Err(error) if matches!(error.failure, Failure::Timeout(Phase::Total)) => return Err(error),
                // Its status was read: it was refused, whatever is missing of the words.
                Err(_) => break,
            }
        }
        Ok(MeterError::from_body(&self.held.concat()))
    }

    /// Reads until the answer has really begun; an error if that is what it begins with. Of a JSON
    /// `document` enough is read for an error to show, and only one that may hold an error is looked into.
    pub(crate) async fn await_start(
        &mut self,
        mut start: StreamStart,
        document: Option<Dialect>,
        timer: &mut CallTimer,
    ) -> Result<Option<MeterError>, AttemptError> {
        let mut hold = Deadline::default();
        hold.set_after(HOLD_LIMIT);
        if let Some(dialect) = document {
            let mut length = 0;
            while length < DOCUMENT_START {
                match self.read(timer, &mut hold).await? {
                    Read::Data(more) => length += more,
                    Read::End | Read::TooLong => break,
                }
            }
            if let [] | [_] = &*self.held
                && !self.held.iter().any(|piece| may_hold_error(piece, dialect))
            {
                return Ok(None);
            }
            for piece in &self.held {
                match start.feed(piece) {
                    Start::Waiting => {}
                    Start::Content => return Ok(None),
                    Start::Error(error) => return Ok(Some(error)),
                }
            }
        }
        loop {
            let state = match self.read(timer, &mut hold).await? {
                Read::Data(_) => self.held.last().map_or(Start::Waiting, |data| start.feed(data)),
                Read::End => start.finish(),
                Read::TooLong => Start::Content,
            };
            match state {
                Start::Waiting => {}
                Start::Content => return Ok(None),
                Start::Error(error) => return Ok(Some(error)),
            }
        }
    }

    /// The whole body, if it is no larger than `limit` and comes to its end.
    pub(crate) async fn read_whole(&mut self, limit: usize, timer: &mut CallTimer) -> Option<Vec<u8>> {
        let mut hold = Deadline::default();
        hold.set_after(HOLD_LIMIT);
        loop {
            let length: usize = self.held.iter().map(Bytes::len).sum();
            match self.read(timer, &mut hold).await {
                Ok(Read::Data(_)) if length <= limit => {}
                Ok(Read::End) if length <= limit => return Some(self.held.concat()),
                _ => return None,
            }
        }
    }

    /// Reads one piece into `held`.
    async fn read(&mut self, timer: &mut CallTimer, hold: &mut Deadline) -> Result<Read, AttemptError> {
        let Rest::Open(body) = &mut self.rest else { return Ok(Read::End) };
        timer.enter(Phase::Idle);
        let piece = poll_fn(|context| match body.poll_piece(context) {
            Poll::Ready(piece) => Poll::Ready(Some(piece.map_err(|error| Failure::Closed(Some(error))))),
            Poll::Pending if hold.poll(context).is_ready() => Poll::Ready(None),
            Poll::Pending => timer.poll(context).map(|phase| Some(Err(Failure::Timeout(phase)))),
        });
        match piece.await {
            None => Ok(Read::TooLong),
            // The upstream has begun to answer: whatever it was asked for may be done.
            Some(Err(failure)) => Err(AttemptError::ambiguous(failure)),
            Some(Ok(Piece::Data(data))) => {
                let length = data.len();
                self.held.push(data);
                Ok(Read::Data(length))
            }
            Some(Ok(Piece::Last(data, connection))) => {
                let length = data.len();
                self.rest = Rest::Ended(connection);
                if length == 0 {
                    return Ok(Read::End);
                }
                self.held.push(data);
                Ok(Read::Data(length))
            }
        }
    }
}

/// Whether a piece of JSON may have a member that errors are told in.
fn may_hold_error(piece: &[u8], dialect: Dialect) -> bool {
    static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"error\""));
    static CODE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"code\""));
    ERROR.find(piece).is_some() || (dialect == Dialect::Dashscope && CODE.find(piece).is_some())
}

/// What one read gave.
enum Read {
    /// So many bytes, in `held`.
    Data(usize),
    /// The body has ended.
    End,
    /// The time for looking is over.
    TooLong,
}
