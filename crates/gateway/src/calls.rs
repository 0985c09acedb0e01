//! OpenAI Realtime over WebRTC: sound and data flow between a browser and the provider, past the gateway. So it holds on to
//! all that it sees: who may begin a call, which session it begins with, and the socket that tells what it uses.
//!
//! ```text
//! mint      a server asks for a client secret: made here, bound to its key and session     (never sent upstream)
//! offer     a browser sends its SDP offer: sent on as a form, with the session and the real key
//! sideband  the call began: a socket of our own reads what it uses, and says when it is over
//! control   hanging up, accepting, rejecting, referring: by the owner only, to the account where the call lives
//! ```
//!
//! The record of a call opens with the offer and moves into the task of its sideband. It closes when the call is over, so
//! what the call holds of limits is held for as long as it lasts. The gateway has no other hold on a call than this socket
//! and `hangup`: whatever goes wrong with the first ends in the second.

mod account;
mod book;
mod control;
pub(crate) mod cors;
mod form;
mod mint;
mod offer;
mod secrets;
mod session;
mod sideband;
mod socket;

use std::sync::Arc;

use aiproxy_config::snapshot::{KeyDigest, User};
use aiproxy_llm::dialect::{Operation, Route};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;

pub(crate) use offer::{Offered, offered};
pub(crate) use secrets::ClientSecret;

use crate::client_body::ClientBody;
use crate::flow::Reply;
use crate::limits::Demand;
use crate::permit::Caller;
use crate::record::OpenRecord;
use crate::refusal::Refusal;
use crate::route::Candidate;
use crate::serving::Serving;
use crate::state::{Gateway, Worker};
use crate::upstream::error::ClientBodyError;

/// Calls by WebRTC, as far as all workers share them.
#[derive(Default)]
pub(crate) struct Calls {
    /// What browsers may begin calls with.
    pub(crate) secrets: secrets::Secrets,
    /// The calls there are.
    book: book::Book,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A client secret.
    Secret,
    /// A new call.
    Call,
    /// An incoming call, to be taken: it begins.
    Accept,
    /// Something else of a call that exists.
    Control,
}

impl Asked {
    /// What a request asks for, if it is about calls.
    pub(crate) fn of(route: &Route<'_>, method: &Method, path: &str) -> Option<Self> {
        match route.operation {
            Operation::RealtimeClientSecrets if *method == Method::POST => Some(Self::Secret),
            Operation::RealtimeCalls if *method == Method::POST => Some(Self::Call),
            Operation::RealtimeCallControl => control::asked(path),
            _ => None,
        }
    }

    /// Whether it takes part in limits. What ends a call must be possible when as many run as may, and when no quota is left.
    pub(crate) fn is_limited(self) -> bool {
        self != Self::Control
    }

    /// What it takes of its caller's limits.
    pub(crate) fn demand(self, started_unix_ms: u64) -> Demand {
        let uses_tokens = matches!(self, Self::Call | Self::Accept);
        Demand { uses_tokens, ..Demand::of_session(started_unix_ms) }
    }
}

/// Whether a client secret opens this. It was made to be seen by a browser, so it opens nothing else; no socket either, for
/// there the session that it is bound to would have to be said first.
pub(crate) fn is_open_to_secrets(route: &Route<'_>, method: &Method) -> bool {
    route.operation == Operation::RealtimeCalls && *method == Method::POST
}

/// The refusal of a client secret that was presented for something else.
pub(crate) fn not_open_to_secrets() -> Refusal {
    let message = "A client secret only begins realtime calls. Send your proxy key for everything else.";
    Refusal::forbidden("invalid_credential", message)
}

/// Where a socket must go that joins a call (`?call_id=`): there the gateway's own is attached, too, and counts what is
/// used. `None`: it joins none, or one that nobody here knows.
pub(crate) fn place_of_socket<'snapshot>(
    gateway: &Gateway,
    user: &User,
    channels: &[Candidate<'snapshot>],
    route: &Route<'_>,
    query: Option<&str>,
) -> Result<Option<(Candidate<'snapshot>, usize)>, Refusal> {
    let joins = matches!(route.operation, Operation::Realtime | Operation::RealtimeTranslations);
    let mut pairs = query.filter(|_| joins).into_iter().flat_map(|query| query.split('&'));
    let Some(id) = pairs.find_map(|pair| pair.strip_prefix("call_id=")) else { return Ok(None) };
    let id = percent_decode_str(id).decode_utf8_lossy();
    book::call_place(gateway, user, channels, &id)
}

/// A request about calls, once its caller is known.
pub(crate) struct RealtimeCall<'call> {
    pub(crate) worker: &'call Arc<Worker>,
    pub(crate) serving: &'call Arc<Serving>,
    pub(crate) caller: Caller<'call>,
    /// The digest of the caller's key.
    pub(crate) key: KeyDigest,
    /// The client secret that stands for the key, if one was presented.
    pub(crate) secret: Option<Arc<ClientSecret>>,
    pub(crate) parts: &'call Parts,
    pub(crate) route: &'call Route<'call>,
    pub(crate) client_body: &'call mut ClientBody,
    pub(crate) record: &'call mut OpenRecord,
}

impl RealtimeCall<'_> {
    /// Answers it. What the caller's limits allow was taken before.
    pub(crate) async fn answer(self, asked: Asked, channels: Vec<Candidate<'_>>) -> Result<Reply, Refusal> {
        match asked {
            Asked::Secret => self.mint(channels).await.map(Reply::Own),
            Asked::Call => self.offer(channels).await,
            Asked::Accept | Asked::Control => self.control(asked, channels).await,
        }
    }

    /// The whole body, if it is no larger than `limit`.
    async fn read_body(&mut self, limit: usize) -> Result<Bytes, Refusal> {
        let too_large = || {
            let message = format!("The request body is larger than the {limit} bytes that this call may have.");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        };
        if self.client_body.declared_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut pieces = Vec::new();
        while let Some(data) = self.client_body.data().await {
            self.record.request_bytes = self.client_body.received();
            match data {
                Ok(_) if self.client_body.received() > limit as u64 => return Err(too_large()),
                Ok(data) => pieces.push(data),
                Err(ClientBodyError::TooLarge) => return Err(too_large()),
                Err(error) => return Err(Refusal::client_body(error, limit as u64)),
            }
        }
        Ok(match &mut *pieces {
            [only] => std::mem::take(only),
            pieces => Bytes::from(pieces.concat()),
        })
    }
}

/// `path` without the slashes that stand twice or at its end: so that nothing that is made of it names another host.
fn normalised(path: &str) -> String {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.fold(String::with_capacity(path.len()), |path, segment| path + "/" + segment)
}

#[cfg(test)]
mod tests {
    use aiproxy_llm::dialect::classify;

    use super::*;

    fn asked(method: &str, path: &str) -> Option<Asked> {
        Asked::of(&classify(method, path), &method.parse().unwrap(), path)
    }

    #[test]
    fn what_is_about_calls_is_told_from_method_and_path() {
        for path in [
            "/v1/realtime/client_secrets",
            "/realtime/sessions",
            "/openai/v1/realtime/transcription_sessions",
            "/v1/realtime/translations/client_secrets",
        ] {
            assert_eq!(asked("POST", path), Some(Asked::Secret), "{path}");
            assert_eq!(asked("GET", path), None, "{path}");
        }
        for path in ["/v1/realtime/calls", "/realtime/calls", "/openai/v1/realtime/calls", "//v1//realtime/calls/"] {
            assert_eq!(asked("POST", path), Some(Asked::Call), "{path}");
            assert_eq!(asked("GET", path), None, "{path}");
        }
        assert_eq!(asked("POST", "/v1/realtime/calls/rtc_1/hangup"), Some(Asked::Control));
        assert_eq!(asked("GET", "/v1/realtime/calls/rtc_1"), Some(Asked::Control));
        assert_eq!(asked("POST", "/v1/realtime/calls/rtc_1/accept"), Some(Asked::Accept));
        assert_eq!(asked("POST", "/v1/live/sessions/s1/hangup"), None);
        assert_eq!(asked("GET", "/v1/realtime"), None);
    }

    #[test]
    fn a_secret_opens_calls_only() {
        let is_open = |method: &str, path| is_open_to_secrets(&classify(method, path), &method.parse().unwrap());
        assert!(is_open("POST", "/v1/realtime/calls"));
        for (method, path) in [
            ("POST", "/v1/realtime/client_secrets"),
            ("POST", "/v1/realtime/calls/rtc_1/hangup"),
            ("GET", "/v1/realtime/calls"),
            ("GET", "/v1/realtime"),
            ("POST", "/v1/chat/completions"),
            ("GET", "/v1/models"),
        ] {
            assert!(!is_open(method, path), "{method} {path}");
        }
    }

    #[test]
    fn a_path_never_begins_like_a_host() {
        assert_eq!(normalised("//v1//realtime/calls/"), "/v1/realtime/calls");
        assert_eq!(normalised("/"), "");
    }
}
