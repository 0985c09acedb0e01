//! A call begins: a browser's SDP offer goes to the provider, with the session and the real key, and the SDP answer comes
//! back. Neither is touched by a byte.

use std::sync::Arc;

use aiproxy_config::snapshot::KeyDigest;
use aiproxy_llm::peek::boundary_of;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use super::account::CallAccount;
use super::book::{self, Call};
use super::form::{self, OfferForm};
use super::session::{SESSION_LIMIT, Session, asked_for};
use super::{Asked, RealtimeCall, normalised, sideband};
use crate::capture;
use crate::credential;
use crate::egress::GatewayBody;
use crate::failover::{Accepted, Failover};
use crate::flow::Reply;
use crate::headers;
use crate::health::{Claim, Mark};
use crate::outgoing::Outgoing;
use crate::plan::Plan;
use crate::record::{End, OpenRecord, bounded};
use crate::refusal::Refusal;
use crate::request_body::{Peeked, PreparedBody};
use crate::respond::{self, Answered};
use crate::route::Candidate;
use crate::state::Worker;

/// Largest SDP offer.
const SDP_LIMIT: usize = 64 * 1024;
/// Largest SDP answer.
const ANSWER_LIMIT: usize = 256 * 1024;
/// What a form may have around its parts.
const FORM_LIMIT: usize = SDP_LIMIT + SESSION_LIMIT + 16 * 1024;
/// Longer ids are none.
const LONGEST_ID: usize = 256;

/// What a client sent.
struct Wish {
    sdp: Bytes,
    session: Session,
}

impl RealtimeCall<'_> {
    /// Sends the offer on. The answer is [`Offered`], or what the provider said instead.
    pub(super) async fn offer(mut self, channels: Vec<Candidate<'_>>) -> Result<Reply, Refusal> {
        if self.worker.gateway.is_draining() {
            let message = "The gateway is shutting down. Call again.";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "draining", message).retry_after(1));
        }
        let Wish { sdp, mut session } = self.read_wish().await?;
        self.record.model_asked = asked_for(&session);
        let mut channels = session.permit(&self.caller, self.route, channels)?;
        if let Some(named) = self.secret.as_ref().and_then(|secret| secret.channel()) {
            channels.retain(|candidate| *candidate.channel.id == *named);
        }
        if channels.is_empty() {
            return Err(Refusal::no_channel());
        }
        let model = session.model().map(str::to_owned);
        let session = session.write()?;
        let written = form::write(&sdp, &session.bytes);
        let demand = Asked::Call.demand(self.record.started_unix_ms);
        self.record.demand = demand;
        let taken = self.secret.as_ref().map(|secret| secret.take()).transpose()?;

        let query = upstream_query(self.parts.uri.query());
        let parts = form_parts(self.parts, &written.content_type);
        let outgoing = Outgoing {
            parts: &parts,
            path: self.parts.uri.path(),
            query: query.as_deref().map(Into::into),
            route: self.route,
            prepared: PreparedBody {
                pieces: written.pieces,
                whole: true,
                peeked: Peeked::Json(session.peeked(written.session_at)),
            },
            asks_for_usage: false,
            // It comes without content coding.
            looks_inside: true,
            upgrade: None,
        };
        let (serving, failover) = (self.serving, self.caller.key.failover);
        let share = self.worker.sequence.next();
        let mut plan = Plan::new(serving, channels, model.as_deref(), failover, None, share);
        let failover = Failover::new(self.worker, serving, &outgoing, demand, self.client_body, self.record);
        let accepted = failover.run(&mut plan).await?;
        let status = accepted.answer.head.status;
        if status.is_redirection() {
            return Err(invalid("The upstream sent the call elsewhere, and the gateway does not follow."));
        }
        if !status.is_success() {
            let answered = Answered { accepted, asks_for_usage: false, remembers_work: false };
            return Ok(Reply::Upstream(answered));
        }
        if let Some(taken) = taken {
            taken.keep();
        }
        self.begun(accepted, query).await.map(|offered| Reply::Offered(Box::new(offered)))
    }

    /// The offer and its session: the one that the client secret has, that of the form, or one with the model of the query.
    async fn read_wish(&mut self) -> Result<Wish, Refusal> {
        let content_type = self.parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let is_coded = self.parts.headers.contains_key(header::CONTENT_ENCODING);
        let form = match boundary_of(&content_type) {
            _ if is_coded => return Err(Refusal::invalid_request("An SDP offer comes without content coding.")),
            None if kind.eq_ignore_ascii_case("application/sdp") => {
                OfferForm { sdp: Some(self.read_body(SDP_LIMIT).await?), session: None }
            }
            Some(boundary) => {
                let body = self.read_body(FORM_LIMIT).await?;
                form::read(&body, boundary).map_err(Refusal::invalid_request)?
            }
            None => {
                let message =
                    "Send the SDP offer as 'application/sdp', or as a form with the parts 'sdp' and 'session'.";
                return Err(Refusal::invalid_request(message));
            }
        };
        let sdp = form.sdp.filter(|sdp| !sdp.is_empty());
        let sdp = sdp.ok_or_else(|| Refusal::invalid_request("Missing required parameter: 'sdp'."))?;
        if sdp.len() > SDP_LIMIT {
            let message = format!("The SDP offer is larger than {SDP_LIMIT} bytes.");
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
        }
        let stored = self.secret.as_ref().map(|secret| secret.session().clone());
        let mut session = match stored.or(form.session) {
            Some(session) => Session::read(&session)?,
            None => Session::default(),
        };
        if let Some(model) = self.parts.uri.query().and_then(model_in) {
            session.default_model(&model);
        }
        if !self.parts.uri.path().contains("/translations/") {
            session.default_kind("realtime");
        }
        Ok(Wish { sdp, session })
    }

    /// The provider has answered: the call exists. From here on it is hung up, should it not be followed.
    async fn begun(&mut self, mut accepted: Box<Accepted>, query: Option<String>) -> Result<Offered, Refusal> {
        let place = self.record.place.ok_or_else(Refusal::no_channel)?;
        let location = accepted.answer.head.headers.get(header::LOCATION);
        let id = location.and_then(call_id).ok_or_else(|| {
            // Nobody could follow it or end it; without the answer it does not come about.
            invalid("The upstream did not say which call has begun (no usable Location).")
        })?;
        let base = normalised(self.parts.uri.path());
        let account = CallAccount {
            made_in: self.serving.clone(),
            place,
            authority: accepted.authority.clone(),
            base: base.strip_suffix("/calls").unwrap_or(&base).into(),
            query: query.map(Into::into),
            id: id.into(),
        };
        let unfollowed = Unfollowed(Some((self.worker.clone(), account)));
        let Some(sdp) = accepted.answer.read_whole(ANSWER_LIMIT, &mut accepted.timer).await else {
            return Err(invalid("The upstream's SDP answer broke off, or is too large."));
        };
        if let Some(connection) = accepted.answer.take_connection() {
            self.worker.pool.put(connection);
        }
        let Accepted { answer, authority, claim, .. } = *accepted;
        let upstream_id = answer.head.headers.get(headers::X_REQUEST_ID).and_then(|value| value.to_str().ok());
        self.record.upstream_request_id = upstream_id.map(bounded);
        let status = answer.head.status;
        let mut returned = headers::returned(answer.head.headers, &authority);
        returned.remove(header::CONTENT_LENGTH);
        Ok(Offered { unfollowed, key: self.key, status, headers: returned, sdp: sdp.into(), claim })
    }
}

/// A call that exists and is not followed yet. Dropping it hangs up.
struct Unfollowed(Option<(Arc<Worker>, CallAccount)>);

impl Drop for Unfollowed {
    fn drop(&mut self) {
        if let Some((worker, account)) = self.0.take() {
            let tasks = worker.tasks.clone();
            tasks.spawn(async move {
                account.hang_up(&worker).await;
            });
        }
    }
}

/// A call that has begun, and the provider's answer to its offer.
pub(crate) struct Offered {
    unfollowed: Unfollowed,
    key: KeyDigest,
    status: StatusCode,
    headers: HeaderMap,
    sdp: Bytes,
    claim: Option<Claim>,
}

/// The answer to the client. The record stays with the call.
pub(crate) fn offered(worker: Arc<Worker>, offered: Offered, mut record: OpenRecord) -> Response<GatewayBody> {
    let Offered { mut unfollowed, key, status, mut headers, sdp, claim } = offered;
    let dialect = record.dialect;
    if let Some(claim) = claim {
        record.report(claim, Mark::Healthy);
    }
    let Some((_, account)) = unfollowed.0.as_ref() else { return Refusal::overloaded().respond(dialect, record) };
    let user = record.user().map(|user| user.id.clone()).unwrap_or_default();
    let call = Call::new(&user, record.channel_id().unwrap_or_default(), record.credential_id().unwrap_or_default());
    let Some(entered) = book::begin(&worker.gateway, &account.id, call) else {
        return invalid("The upstream named a call that is running already.").respond(dialect, record);
    };
    if let Ok(location) = HeaderValue::from_str(&format!("{}/calls/{}", account.base, account.id)) {
        headers.insert(header::LOCATION, location);
    }
    respond::tell_of_call(&mut headers, &record);
    record.protocol = "webrtc";
    record.status = status.as_u16();
    record.response_bytes = sdp.len() as u64;
    capture::response_begins(&mut record, &headers);
    if let Some(capture) = &record.capture {
        capture.response(&sdp);
    }
    if let Some((_, account)) = unfollowed.0.take() {
        let tasks = worker.tasks.clone();
        tasks.spawn(sideband::follow(worker, account, entered, key, record));
    }
    let mut response = Response::new(GatewayBody::fixed(sdp, None));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The request as it goes upstream: a form instead of what came. A browser says much about itself that the provider of a
/// server's call does not expect.
fn form_parts(parts: &http::request::Parts, content_type: &str) -> http::request::Parts {
    let (mut form, ()) = Request::new(()).into_parts();
    form.method = Method::POST;
    form.headers = parts.headers.clone();
    let of_browser: Vec<HeaderName> =
        form.headers.keys().filter(|name| name.as_str().starts_with("sec-")).cloned().collect();
    of_browser.iter().for_each(|name| drop(form.headers.remove(name)));
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        form.headers.insert(header::CONTENT_TYPE, content_type);
    }
    form
}

/// The query without credentials and without the model, which stands in the session.
fn upstream_query(query: Option<&str>) -> Option<String> {
    let query = credential::strip_query(query?)?;
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_model(pair) && !pair.is_empty()).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

fn model_in(query: &str) -> Option<String> {
    let (_, value) = query.split('&').find(|pair| is_model(pair))?.split_once('=')?;
    let model = percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
    (!model.is_empty()).then_some(model)
}

fn is_model(pair: &str) -> bool {
    pair.split_once('=').map_or(pair, |(name, _)| name) == "model"
}

/// The last segment of a `Location`, if it can be one of a path of ours.
fn call_id(location: &HeaderValue) -> Option<String> {
    let location = location.to_str().ok()?;
    let path = location.split(['?', '#']).next()?.trim_end_matches('/');
    let id = path.rsplit('/').next()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~');
    // The collection itself, and the way up, are no calls.
    let is_other = id == "calls" || id.bytes().all(|byte| byte == b'.');
    ((1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(is_plain) && !is_other).then(|| id.to_owned())
}

fn invalid(message: &'static str) -> Refusal {
    let mut refusal = Refusal::new(StatusCode::BAD_GATEWAY, "upstream_invalid", message);
    refusal.end = End::UpstreamError;
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_call_is_the_last_segment_of_its_location() {
        let id = |location: &'static str| call_id(&HeaderValue::from_static(location));
        for location in
            ["/v1/realtime/calls/rtc_u1_9c", "https://up.test/v1/realtime/calls/rtc_u1_9c/?a=b", "rtc_u1_9c"]
        {
            assert_eq!(id(location).as_deref(), Some("rtc_u1_9c"), "{location}");
        }
        for location in
            ["", "/", "/v1/realtime/calls/", "/v1/calls/a%2Fb", "/v1/calls/..", "/v1/calls/a b", "/v1/calls/a\"b"]
        {
            assert_eq!(id(location), None, "{location}");
        }
    }

    #[test]
    fn the_model_leaves_the_query_and_nothing_else_but_credentials_does() {
        let query = |query| upstream_query(Some(query));
        assert_eq!(query("api-version=preview&model=a%2Fb&key=pk-1").as_deref(), Some("api-version=preview"));
        assert_eq!(query("model=x"), None);
        assert_eq!(upstream_query(None), None);
        assert_eq!(model_in("a=b&model=a%2Fb").as_deref(), Some("a/b"));
        assert_eq!((model_in("model="), model_in("models=x")), (None, None));
    }

    #[test]
    fn a_browser_s_own_headers_stay_here() {
        let request = Request::post("/v1/realtime/calls?model=x").header("content-type", "application/sdp");
        let request =
            request.header("sec-fetch-mode", "cors").header("sec-ch-ua", "x").header("accept", "application/sdp");
        let parts = form_parts(&request.body(()).unwrap().into_parts().0, "multipart/form-data; boundary=b");
        assert_eq!(parts.headers.len(), 2);
        assert_eq!(parts.headers["content-type"], "multipart/form-data; boundary=b");
    }
}
