//! Answers: JSON, errors as JSON, and bodies that are made while they are sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aiproxy_store::query::{DEADLINE, QueryError};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The body of an answer.
pub type AdminBody = Body;

/// Pieces of a body that wait for a slow reader.
const PIECES: usize = 4;

/// How long a reader may take for one piece before the rest is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a request was not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
    parameter: Option<String>,
    retry_after: Option<u32>,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), parameter: None, retry_after: None }
    }

    /// A parameter that cannot be used.
    pub(crate) fn parameter(name: impl Into<String>, message: impl Into<String>) -> Self {
        let refused = Self::new(StatusCode::BAD_REQUEST, "invalid_request", message);
        Self { parameter: Some(name.into()), ..refused }
    }

    /// Nothing is there.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// The path is there, but not for this method.
    pub(crate) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Only GET is possible here.")
    }

    /// Records are not kept in a database.
    pub(crate) fn no_database() -> Self {
        let message = "Records are not kept in a database: system.log.database is off. Switch it on and restart.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", message)
    }

    /// Too many exports are running.
    pub(crate) fn busy() -> Self {
        let message = "Other exports are running. Try again when they are done.";
        Self { retry_after: Some(10), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message) }
    }

    /// Something that the caller cannot help; `why` goes to the log only.
    pub(crate) fn internal(why: &dyn std::fmt::Display) -> Self {
        tracing::error!(error = %why, "an admin request failed");
        let message = "The request failed inside of the gateway. Its log says why.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }
}

impl From<QueryError> for Refused {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Invalid { parameter, message } => Self::parameter(parameter, message),
            QueryError::Timeout => {
                let message = format!(
                    "The database took longer than {} s. Ask for less time, filter, or leave percentiles out \
                     (percentiles=false).",
                    DEADLINE.as_secs()
                );
                Self::new(StatusCode::GATEWAY_TIMEOUT, "database_timeout", message)
            }
            QueryError::Unavailable(why) => {
                tracing::warn!(error = %why, "the database did not answer an admin request");
                let message = format!("{why}. Calls are served meanwhile, and their records wait in the journal.");
                let refused = Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", message);
                Self { retry_after: Some(5), ..refused }
            }
            QueryError::Failed(why) => Self::internal(&why),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(parameter) = self.parameter {
            error["parameter"] = parameter.into();
        }
        let mut response = json_response(&json!({ "error": error }));
        *response.status_mut() = self.status;
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// `value` as an answer.
pub(crate) fn json_response(value: &Value) -> Response {
    json_bytes(value.to_string().into_bytes())
}

/// Bytes that are JSON as an answer.
pub(crate) fn json_bytes(mut json: Vec<u8>) -> Response {
    json.push(b'\n');
    respond("application/json", Body::from(json))
}

/// `body` as an answer that nobody may keep.
pub(crate) fn respond(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The end of a body that pieces are put in.
pub(crate) struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Pieces {
    /// Puts a piece in as soon as there is room. False if nobody takes the rest any more.
    pub(crate) async fn put(&self, piece: Bytes) -> bool {
        piece.is_empty() || matches!(self.0.send_timeout(Ok(piece), PATIENCE).await, Ok(()))
    }

    /// Breaks the body off, so that nobody takes it for whole.
    pub(crate) async fn fail(&self, why: &(dyn std::error::Error + Sync)) {
        tracing::warn!(error = %why, "an export broke off");
        let error = io::Error::other("the export broke off");
        // If nobody listens, nobody needs to know.
        drop(self.0.send_timeout(Err(error), PATIENCE).await);
    }
}

/// A body, and where its pieces are put in.
pub(crate) fn streamed() -> (Pieces, Body) {
    let (sender, receiver) = mpsc::channel(PIECES);
    (Pieces(sender), Body::new(Streamed(receiver)))
}

struct Streamed(mpsc::Receiver<io::Result<Bytes>>);

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
