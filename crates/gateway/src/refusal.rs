//! Errors made by the gateway: the table of the public contract, in the caller's dialect.
//!
//! A sentence says what to do. It never names a key, an upstream host or an internal detail; those go to the log.

use std::borrow::Cow;
use std::time::Duration;

use aiproxy_config::snapshot::{QuotaPeriod, QuotaUnit, Scope};
use aiproxy_llm::dialect::Dialect;
use aiproxy_llm::error::envelope;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::admission::Denied;
use crate::egress::GatewayBody;
use crate::health::Reason;
use crate::limits::{Exceeded, What};
use crate::quota::say_amount;
use crate::record::{End, OpenRecord, bounded};
use crate::upstream::error::{ClientBodyError, Failure, Phase};

/// An answer that is not the upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable machine code.
    pub code: &'static str,
    /// What is wrong and what to do about it.
    pub message: Cow<'static, str>,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u32>,
    /// Waiting will not help, whatever `retry_after` says.
    pub never_retry: bool,
    /// The limit that is in the way, told in `x-ratelimit-*`.
    pub limit: Option<Box<Exceeded>>,
    /// How the record of such a call ends.
    pub end: End,
}

/// SDKs wait for as long as `Retry-After` says, some of them for hours. Beyond this they are told not to.
const LONGEST_WAIT_SECONDS: u32 = 60;

impl Refusal {
    /// A refusal by the gateway itself.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
            never_retry: false,
            limit: None,
            end: End::Complete,
        }
    }

    fn ending(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// The same, telling the caller to come back after `seconds`.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// No credential in any place.
    pub fn missing_credential() -> Self {
        let message = "Missing Authorization header. Send your proxy key as 'Authorization: Bearer <key>'.";
        Self::new(StatusCode::UNAUTHORIZED, "missing_credential", message)
    }

    /// `Authorization` with a scheme that carries no key.
    pub fn wrong_scheme() -> Self {
        let message = "Invalid Authorization format. Send your proxy key as 'Authorization: Bearer <key>'.";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_credential", message)
    }

    /// Unknown and garbled keys alike.
    pub fn invalid_credential() -> Self {
        let message = "Invalid proxy key. Check the key, or ask your administrator for a new one.";
        Self::new(StatusCode::UNAUTHORIZED, "invalid_credential", message)
    }

    /// A known caller who may not do this.
    pub fn forbidden(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// The caller's channels are all switched off or without a credential.
    pub fn no_channel() -> Self {
        let message = "Channel not available. Ask your administrator to activate a channel for this key.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_channel_available", message)
    }

    /// No candidate serves this path or model.
    pub fn no_route(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_route", message)
    }

    /// No candidate serves this model.
    pub fn model_not_served(model: &str) -> Self {
        let model = bounded(model);
        Self::no_route(format!("Model not supported: {model}. No channel of this proxy key serves it."))
    }

    /// The key is limited to other models.
    pub fn model_not_allowed(model: &str) -> Self {
        let model = bounded(model);
        let message = format!("Model not allowed: {model}. This proxy key is limited to certain models.");
        Self::forbidden("model_not_allowed", message)
    }

    /// A provider that was asked for its models did not say.
    pub fn no_model_list() -> Self {
        let message = "The upstream gave no list of its models. Name the channel's models in its config.";
        Self::new(StatusCode::BAD_GATEWAY, "upstream_invalid", message).ending(End::UpstreamError)
    }

    /// A request that cannot work.
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// Too many calls before any key was looked at.
    pub fn denied(denied: &Denied) -> Self {
        let (message, wait) = match denied {
            Denied::Global { retry_after } => {
                ("too many requests: the gateway takes no more right now (system.rate_limit).", retry_after)
            }
            Denied::Ip { retry_after } => {
                ("too many requests from your IP (system.rate_limit.ip_limit). Slow down.", retry_after)
            }
        };
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message).retry_after(seconds(*wait))
    }

    /// An address that presented unknown keys again and again.
    pub fn blocked(left: Duration) -> Self {
        let message = "too many requests with an invalid proxy key from your IP. Check the key before you try again.";
        let mut refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message).retry_after(seconds(left));
        refusal.never_retry = true;
        refusal
    }

    /// A limit or a quota of the caller's, or of the only channel or credential that could serve the call.
    pub fn limited(exceeded: &Exceeded) -> Self {
        let whose = match exceeded.scope {
            Scope::Key => "this proxy key",
            Scope::User => "this user",
            Scope::Group => "this user's group",
            Scope::Department => "this user's department",
            Scope::Channel | Scope::Credential => "the channel",
        };
        let wait = exceeded.wait.map_or(1, seconds);
        let limit = exceeded.limit;
        let (code, message) = match exceeded.what {
            What::Concurrent => (
                "too_many_concurrent",
                format!("Too many calls at once: {whose} may have {limit} running. Wait for one of them to end."),
            ),
            What::Requests => {
                ("rate_limited", format!("Too many calls: {whose} may make {limit} per minute. Try again in {wait} s."))
            }
            What::Tokens => {
                ("rate_limited", format!("Too many tokens: {whose} may use {limit} per minute. Try again in {wait} s."))
            }
            What::Quota { .. } => return Self::quota(exceeded, whose),
        };
        let mut refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, code, message).retry_after(wait);
        refusal.limit = Some(Box::new(*exceeded));
        refusal
    }

    /// A quota that is used up, or whose rest running calls hold. Only of the second more may be left in a moment.
    fn quota(exceeded: &Exceeded, whose: &str) -> Self {
        let What::Quota { unit, per, resets, is_used_up } = exceeded.what else { return Self::overloaded() };
        let amount = say_amount(unit, exceeded.limit);
        let may = match unit {
            QuotaUnit::Requests => format!("make {amount} calls"),
            QuotaUnit::Tokens => format!("use {amount} tokens"),
            QuotaUnit::Cost => format!("spend {amount}"),
        };
        let per = match per {
            QuotaPeriod::Total => "in total".to_owned(),
            per => format!("per {}", per.as_str()),
        };
        let then = match (is_used_up, resets) {
            (false, _) => "The rest is held by calls that are running. Try again in a moment.".to_owned(),
            (true, Some(moment)) => format!("That is used up until {moment}."),
            (true, None) => "That is used up. Ask your administrator for more.".to_owned(),
        };
        let message = format!("Quota exceeded: {whose} may {may} {per}. {then}");
        let mut refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "quota_exceeded", message);
        refusal.retry_after = exceeded.wait.map(seconds);
        refusal.never_retry = is_used_up;
        refusal
    }

    /// Every candidate is being left alone, the first of them for `wait` more because of `reason`.
    pub(crate) fn left_alone(wait: Duration, reason: Reason) -> Self {
        let wait = seconds(wait);
        let (status, code, what) = match reason {
            Reason::RateLimited => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "the upstream's rate limit is reached")
            }
            Reason::Exhausted => (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "the upstream's quota is used up"),
            Reason::Rejected => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no_channel_available",
                "the upstream refuses the gateway's own credential, which your administrator has to mend",
            ),
            Reason::Failures | Reason::Probe => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no_channel_available",
                "its upstream failed again and again and is left alone for a moment",
            ),
        };
        let message = format!("Channel not available: {what}. Try again in {wait} s.");
        Self::new(status, code, message).retry_after(wait)
    }

    /// More than the configured number of connections or running calls.
    pub fn overloaded() -> Self {
        let message = "The gateway is overloaded. Try again in a moment.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message).retry_after(1)
    }

    /// No place is left to keep a record of the call (`on_journal_full: refuse`).
    pub fn no_room_for_records() -> Self {
        let message = "The gateway cannot keep a record of this call: its disk is full. Tell your administrator.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message).retry_after(10)
    }

    /// What was wrong with the caller's body.
    pub fn client_body(error: ClientBodyError, limit: u64) -> Self {
        match error {
            ClientBodyError::Broken => {
                Self::invalid_request("The request body broke off or its framing is broken.").ending(End::ClientClosed)
            }
            ClientBodyError::Timeout => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "The request body came too slowly. Send it again on a better connection.",
            )
            .ending(End::Timeout),
            ClientBodyError::TooLarge => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("The request body is larger than the limit of {limit} bytes (system.body_limit)."),
            ),
        }
    }

    /// What a failed attempt means to the caller.
    pub fn upstream(failure: &Failure, body_limit: u64) -> Self {
        match failure {
            Failure::ClientBody(error) => Self::client_body(*error, body_limit),
            Failure::Timeout(Phase::Connect) => Self::timeout(Phase::Connect).ending(End::Timeout),
            Failure::Timeout(phase) => Self::timeout(*phase).ending(End::Timeout),
            Failure::Invalid(_) => Self::new(
                StatusCode::BAD_GATEWAY,
                "upstream_invalid",
                "The upstream sent something that is not a valid HTTP response.",
            )
            .ending(End::UpstreamError),
            Failure::Lookup(_) | Failure::Refused(_) | Failure::Proxy(_) | Failure::Tls(_) | Failure::Closed(_) => {
                let what = match failure {
                    Failure::Lookup(_) => "its name could not be looked up",
                    Failure::Refused(_) => "it does not accept connections",
                    Failure::Proxy(_) => "the outbound proxy did not open the way",
                    Failure::Tls(_) => "the TLS handshake with it failed",
                    _ => "it closed the connection without an answer",
                };
                let message = format!("The upstream could not be reached: {what}. The gateway's log has the details.");
                Self::new(StatusCode::BAD_GATEWAY, "upstream_unreachable", message).ending(End::UpstreamError)
            }
        }
    }

    fn timeout(phase: Phase) -> Self {
        let message = format!("The upstream did not answer in time ({} timeout).", phase.as_str());
        Self::new(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", message)
    }

    /// The response in `dialect`, with headers every error has. `request_id` is the record's id.
    pub fn head_and_body(&self, dialect: Dialect, request_id: &str) -> (HeaderMap, Bytes) {
        let body = Bytes::from(envelope(dialect, self.status.as_u16(), self.code, &self.message, request_id));
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert("x-request-id", id);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.never_retry || self.retry_after.is_some_and(|seconds| seconds > LONGEST_WAIT_SECONDS) {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 6455 §4.2.2: which version would do.
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if let Some(exceeded) = &self.limit {
            rate_limit_headers(&mut headers, exceeded);
        }
        (headers, body)
    }

    /// The whole response; the record travels in its body.
    pub fn respond(self, dialect: Dialect, mut record: OpenRecord) -> Response<GatewayBody> {
        let (headers, body) = self.head_and_body(dialect, record.id.encode(&mut [0; 36]));
        record.status = self.status.as_u16();
        record.error_code = Some(self.code);
        record.response_bytes = body.len() as u64;
        record.end = self.end;
        let mut response = Response::new(GatewayBody::fixed(body, Some(record)));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

/// `x-ratelimit-*` as OpenAI writes them: what the limit is, that nothing of it is left, and when that changes.
fn rate_limit_headers(headers: &mut HeaderMap, exceeded: &Exceeded) {
    let [limit, remaining, reset] = match exceeded.what {
        What::Requests => {
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]
        }
        What::Tokens => ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
        What::Concurrent => {
            ["x-ratelimit-limit-concurrent", "x-ratelimit-remaining-concurrent", "x-ratelimit-reset-concurrent"]
        }
        // SDKs take these for limits of a minute.
        What::Quota { .. } => return,
    };
    headers.insert(limit, HeaderValue::from(exceeded.limit));
    headers.insert(remaining, HeaderValue::from(exceeded.remaining));
    if let Some(wait) = exceeded.wait {
        let text = format!("{}ms", wait.as_millis());
        headers.extend(HeaderValue::from_str(&text).ok().map(|value| (http::HeaderName::from_static(reset), value)));
    }
}

/// Whole seconds, rounded up: coming back a moment too early would be refused again.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX).max(1)
}
