//! A finished answer as data: status, headers, the parts of its body, and how long to hold it back.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use crate::body::ReplyBody;
use crate::framing::{EventStream, Framing};

/// How long the server holds a reply back before it sends the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Not at all.
    None,
    /// This long.
    For(Duration),
    /// Until the caller goes away.
    Forever,
}

/// One step of sending a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Send these bytes.
    Bytes(Bytes),
    /// Let what was sent reach the socket first.
    Flush,
    /// Cut the connection.
    Break,
}

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) delay: Delay,
    pub(crate) parts: Vec<Part>,
    /// The length that a body of one piece declares; a stream declares none.
    pub(crate) length: Option<u64>,
    /// The form of a stream.
    pub(crate) framing: Option<Framing>,
}

impl Reply {
    /// A body of one piece.
    pub(crate) fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let length = Some(body.len() as u64);
        Self::new(status, content_type, vec![Part::Bytes(body)], length, None)
    }

    /// A JSON body.
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        Self::whole(status, "application/json", body.to_string())
    }

    /// 200 with a JSON body.
    pub(crate) fn ok(body: &Value) -> Self {
        Self::json(StatusCode::OK, body)
    }

    /// 200 with a stream.
    pub(crate) fn stream(stream: EventStream) -> Self {
        let parts = stream.events.into_iter().map(Part::Bytes).collect();
        Self::new(StatusCode::OK, stream.framing.content_type(), parts, None, Some(stream.framing))
    }

    fn new(
        status: StatusCode,
        content_type: &'static str,
        parts: Vec<Part>,
        length: Option<u64>,
        framing: Option<Framing>,
    ) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self { status, headers, delay: Delay::None, parts, length, framing }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// How long the server would hold this reply back.
    pub fn delay(&self) -> Delay {
        self.delay
    }

    /// The pieces of the body in order, as a stream sends them.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.parts.iter().filter_map(|part| match part {
            Part::Bytes(bytes) => Some(bytes),
            Part::Flush | Part::Break => None,
        })
    }

    /// True when the body ends in a cut connection.
    pub fn is_cut(&self) -> bool {
        self.parts.contains(&Part::Break)
    }

    /// The response for hyper; `pace` is the wait between two pieces of a stream. The [`Delay`] is the caller's to keep.
    pub fn into_response(self, pace: Duration) -> Response<ReplyBody> {
        let mut response = Response::new(ReplyBody::new(self.parts, self.length, pace));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
