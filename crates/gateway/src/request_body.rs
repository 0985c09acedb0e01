//! The caller's body before it goes upstream: looked into where the call depends on it, never gathered otherwise.

use aiproxy_llm::dialect::{ModelPlace, Route};
use aiproxy_llm::peek::{FormPeek, PeekedBody, PeekedForm, RequestPeek, boundary_of};
use bytes::Bytes;
use http::HeaderMap;

use crate::client_body::ClientBody;
use crate::upstream::error::ClientBodyError;

/// A body whose inside does not matter is held up to this size, so that one write sends it.
const SMALL_BODY: u64 = 256 << 10;

/// What was seen in a body.
#[derive(Debug)]
pub(crate) enum Peeked {
    /// JSON, or what should have been.
    Json(PeekedBody),
    /// A form.
    Form(PeekedForm),
    /// Not looked into.
    Nothing,
}

impl Peeked {
    /// The model named in the body.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Self::Json(body) => body.model.as_deref(),
            Self::Form(form) => form.model.as_deref(),
            Self::Nothing => None,
        }
    }
}

/// A body as far as it was read.
pub(crate) struct PreparedBody {
    /// Pieces read so far.
    pub pieces: Vec<Bytes>,
    /// Whether these are all.
    pub whole: bool,
    /// What was seen in them.
    pub peeked: Peeked,
}

/// What a call needs its body for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// A body up to this size is held, without copying, to be looked into and to be sent again.
    pub(crate) replay_limit: u64,
    /// There is more than one place it may be sent to.
    pub(crate) replay: bool,
    /// The most output tokens matter, too.
    pub(crate) output_limit: bool,
    /// References to earlier work matter, too.
    pub(crate) references: bool,
    /// The conversation matters, too.
    pub(crate) conversation: bool,
}

/// Reads as much of `body` as the call needs before it can go on.
pub(crate) async fn prepare(
    body: &mut ClientBody,
    headers: &HeaderMap,
    route: &Route<'_>,
    needs: Needs,
) -> Result<PreparedBody, ClientBodyError> {
    let mut prepared = PreparedBody { pieces: Vec::new(), whole: body.is_end(), peeked: Peeked::Nothing };
    if prepared.whole {
        return Ok(prepared);
    }
    let mut scanner = Scanner::of(route, headers, needs);
    let limit = match (&scanner, body.declared_length()) {
        (Scanner::None, Some(length)) if length <= SMALL_BODY => SMALL_BODY,
        (Scanner::None, Some(length)) if length > needs.replay_limit => return Ok(prepared),
        (Scanner::None, _) if !needs.replay => return Ok(prepared),
        _ => needs.replay_limit,
    };
    while body.received() <= limit {
        match body.data().await {
            None => {
                prepared.whole = true;
                break;
            }
            Some(Err(error)) => return Err(error),
            Some(Ok(data)) => {
                scanner.feed(&data);
                prepared.pieces.push(data);
                if body.is_end() {
                    prepared.whole = true;
                    break;
                }
            }
        }
    }
    prepared.peeked = scanner.finish();
    Ok(prepared)
}

#[expect(clippy::large_enum_variant, reason = "there is one per call, and the large one is the usual one")]
enum Scanner {
    Json(RequestPeek),
    Form(Box<FormPeek>),
    None,
}

impl Scanner {
    fn of(route: &Route<'_>, headers: &HeaderMap, needs: Needs) -> Self {
        let json = || {
            Self::Json(match needs {
                Needs { conversation: true, .. } => RequestPeek::thorough(),
                Needs { references: true, .. } => RequestPeek::with_references(),
                Needs { output_limit: true, .. } => RequestPeek::with_output_limit(),
                _ => RequestPeek::new(),
            })
        };
        if headers.contains_key(http::header::CONTENT_ENCODING) {
            return Self::None;
        }
        let content_type = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let boundary = boundary_of(content_type);
        match route.model_place() {
            ModelPlace::Form | ModelPlace::JsonBody if boundary.is_some() => {
                Self::Form(Box::new(FormPeek::new(boundary.unwrap_or_default())))
            }
            ModelPlace::JsonBody => json(),
            // An Azure deployment is named in the path, but whether the answer is streamed stands in the body.
            ModelPlace::Path if content_type.starts_with("application/json") => json(),
            // It names no model, but perhaps a file or a response that only one account knows.
            _ if needs.references && content_type.starts_with("application/json") => json(),
            _ => Self::None,
        }
    }

    fn feed(&mut self, data: &[u8]) {
        match self {
            Self::Json(peek) => peek.feed(data),
            Self::Form(peek) => peek.feed(data),
            Self::None => {}
        }
    }

    fn finish(self) -> Peeked {
        match self {
            Self::Json(peek) => Peeked::Json(peek.finish()),
            Self::Form(peek) => Peeked::Form(peek.finish()),
            Self::None => Peeked::Nothing,
        }
    }
}
