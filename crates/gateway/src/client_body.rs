//! The body a caller sends: counted, capped, and not waited for longer than `system.timeouts.body`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;

use crate::capture::Tap;
use crate::server::guard::ConnectionState;
use crate::timer::Deadline;
use crate::upstream::error::ClientBodyError;

/// A caller's body while it is read.
pub struct ClientBody {
    incoming: Incoming,
    received: u64,
    limit: u64,
    timeout: Duration,
    deadline: Deadline,
    connection: Arc<ConnectionState>,
    /// Where a copy goes, if the call is captured.
    tap: Option<Arc<Tap>>,
}

impl ClientBody {
    /// Wraps `incoming`; at most `limit` bytes, at most `timeout` between two reads. `connection` is told of the end.
    pub(crate) fn new(incoming: Incoming, limit: u64, timeout: Duration, connection: Arc<ConnectionState>) -> Self {
        let deadline = Deadline::default();
        let body = Self { incoming, received: 0, limit, timeout, deadline, connection, tap: None };
        body.tell_end();
        body
    }

    fn tell_end(&self) {
        if self.incoming.is_end_stream() {
            self.connection.request_is_whole();
        }
    }

    /// From now on what is read is copied to `tap`.
    pub(crate) fn copy_to(&mut self, tap: Option<Arc<Tap>>) {
        self.tap = tap;
    }

    /// The length the caller declared, if it did.
    pub fn declared_length(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// Whether nothing more will come.
    pub fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// How many bytes have come so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes; `None` at the end.
    pub fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ClientBodyError>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(context) {
                Poll::Ready(None) => {
                    self.connection.request_is_whole();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(ClientBodyError::Broken))),
                Poll::Ready(Some(Ok(frame))) => {
                    self.deadline.set(None);
                    // Trailers are dropped: no AI API gives them a meaning.
                    let Ok(data) = frame.into_data() else { continue };
                    self.received += data.len() as u64;
                    if let Some(tap) = &self.tap {
                        tap.add(&data);
                    }
                    self.tell_end();
                    if self.received > self.limit {
                        return Poll::Ready(Some(Err(ClientBodyError::TooLarge)));
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Poll::Pending => {
                    self.deadline.arm(self.timeout);
                    return self.deadline.poll(context).map(|()| Some(Err(ClientBodyError::Timeout)));
                }
            }
        }
    }

    /// The next bytes; `None` at the end.
    pub async fn data(&mut self) -> Option<Result<Bytes, ClientBodyError>> {
        std::future::poll_fn(|context| self.poll_data(context)).await
    }
}
