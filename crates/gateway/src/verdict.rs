//! What an attempt's outcome means: whether the call goes on elsewhere, and what it says about the upstream. Pure, and
//! the only place that knows what a status or an error code means.
//!
//! A call is sent again only if it provably did not arrive, or was refused without work. Where nobody can know (sent,
//! then silence or a reset) the answer may already be paid for; then only `retry_ambiguous` allows it, or a method
//! that promises that twice is as good as once.

use std::time::Duration;

use aiproxy_llm::meter::MeterError;
use http::HeaderMap;
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::health::{LONGEST_HINT, Mark};
use crate::upstream::error::{AttemptError, Failure, Phase};

/// What came of an attempt.
#[derive(Debug)]
pub(crate) enum Outcome<'attempt> {
    /// No response.
    Failed(&'attempt AttemptError),
    /// A response that is not an error, begun.
    Begun,
    /// An error response.
    Refused {
        /// Its status, 400 or more.
        status: u16,
        /// How long the upstream asks to be left alone.
        hint: Option<Duration>,
        /// What its body says, as far as it was read.
        error: Option<&'attempt MeterError>,
    },
    /// A 2xx whose body, or whose first event, is an error.
    ErrorInSuccess(&'attempt MeterError),
}

/// Whether the call goes on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// No: this is the answer.
    Accept,
    /// Yes, if there is another candidate.
    Next,
    /// Yes, although it may have arrived: the channel says that this is wanted.
    NextAmbiguous,
}

/// What an outcome means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// For the call.
    pub(crate) action: Action,
    /// For the upstream.
    pub(crate) mark: Mark,
}

/// How the call may be treated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// `channels.<id>.retry_ambiguous`.
    pub(crate) retry_ambiguous: bool,
    /// The method promises that twice is as good as once (RFC 9110 §9.2.2).
    pub(crate) idempotent: bool,
}

/// The table.
pub(crate) fn verdict(outcome: &Outcome<'_>, terms: Terms) -> Verdict {
    match outcome {
        Outcome::Begun => Verdict { action: Action::Accept, mark: Mark::Healthy },
        Outcome::Failed(error) => failed(error, terms),
        Outcome::Refused { status, hint, error } => refused(*status, *hint, *error),
        Outcome::ErrorInSuccess(error) => in_success(error),
    }
}

fn next(mark: Mark) -> Verdict {
    Verdict { action: Action::Next, mark }
}

fn accept(mark: Mark) -> Verdict {
    Verdict { action: Action::Accept, mark }
}

fn failed(error: &AttemptError, terms: Terms) -> Verdict {
    match &error.failure {
        Failure::ClientBody(_) => accept(Mark::Unknown),
        // Nothing is left of the time this call may take.
        Failure::Timeout(Phase::Total) => accept(Mark::Failure { hint: None }),
        _ if error.unsent => next(Mark::Unreachable),
        _ => {
            let mark = Mark::Failure { hint: None };
            let action = match terms {
                Terms { idempotent: true, .. } => Action::Next,
                Terms { retry_ambiguous: true, .. } => Action::NextAmbiguous,
                _ => Action::Accept,
            };
            Verdict { action, mark }
        }
    }
}

fn refused(status: u16, hint: Option<Duration>, error: Option<&MeterError>) -> Verdict {
    match status {
        401 => next(Mark::Rejected),
        402 => next(Mark::Exhausted { hint }),
        403 if error.is_some_and(MeterError::is_quota) => next(Mark::Exhausted { hint }),
        403 => next(Mark::NotPermitted),
        408 => next(Mark::Failure { hint }),
        429 if error.is_some_and(MeterError::is_quota) => next(Mark::Exhausted { hint }),
        429 => next(Mark::RateLimited { hint }),
        // It is there and well, but cannot do this; another channel may.
        501 | 505 => next(Mark::Healthy),
        500.. => next(Mark::Failure { hint }),
        // The call itself is wrong; it would be anywhere.
        _ => accept(Mark::Healthy),
    }
}

/// An error told in a 200 is judged by its words: providers put there what others say with a status.
fn in_success(error: &MeterError) -> Verdict {
    if error.is_quota() {
        return next(Mark::Exhausted { hint: None });
    }
    let words = [&error.code, &error.kind].map(|word| word.as_deref().unwrap_or("").to_ascii_lowercase());
    let says = |parts: &[&str]| words.iter().any(|word| parts.iter().any(|part| word.contains(part)));
    let status = words.iter().find_map(|word| word.parse::<u16>().ok().filter(|status| (400..600).contains(status)));
    if let Some(status) = status {
        return refused(status, None, None);
    }
    if says(&["rate_limit", "ratelimit", "throttling", "resource_exhausted", "too_many_requests"]) {
        next(Mark::RateLimited { hint: None })
    } else if says(&["invalid_api_key", "invalidapikey", "authentication", "unauthenticated", "unauthorized"]) {
        next(Mark::Rejected)
    } else if says(&["permission", "accessdenied", "access_denied", "forbidden"]) {
        next(Mark::NotPermitted)
    } else if says(&["overloaded", "unavailable", "internal", "server_error", "api_error", "timeout", "busy"]) {
        next(Mark::Failure { hint: None })
    } else if says(&[
        "invalid",
        "not_found",
        "notfound",
        "bad_request",
        "context_length",
        "content_filter",
        "content_policy",
        "datainspection",
        "unsupported",
        "model_not",
        "failed_precondition",
        "out_of_range",
    ]) {
        accept(Mark::Healthy)
    } else {
        next(Mark::Failure { hint: None })
    }
}

/// How long an upstream asks to be left alone: the longest of `retry-after-ms`, `Retry-After` (seconds or a date, RFC
/// 9110 §10.2.3) and Google's `retryDelay` in the body; at most an hour. What cannot be read says nothing.
pub(crate) fn hint(headers: &HeaderMap, body: &[u8], now_unix_ms: u64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let seconds = |text: &str| text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let milliseconds = text("retry-after-ms").and_then(seconds).map(|milliseconds| milliseconds / 1000.0);
    let retry_after = text("retry-after").and_then(|text| seconds(text).or_else(|| until(text, now_unix_ms)));
    let in_body = retry_delay(body);
    let longest = [milliseconds, retry_after, in_body].into_iter().flatten().reduce(f64::max)?;
    Some(Duration::from_secs_f64(longest.min(LONGEST_HINT.as_secs_f64())))
}

/// Seconds until an HTTP date.
fn until(text: &str, now_unix_ms: u64) -> Option<f64> {
    let moment: Timestamp = rfc2822::parse(text).ok()?.timestamp();
    Some((moment.as_millisecond() as f64 - now_unix_ms as f64).max(0.0) / 1000.0)
}

/// Google's `RetryInfo`: `"retryDelay": "34.07s"`.
fn retry_delay(body: &[u8]) -> Option<f64> {
    const NAME: &[u8] = b"\"retryDelay\"";
    let start = memchr::memmem::find(body, NAME)? + NAME.len();
    let rest = std::str::from_utf8(body.get(start..body.len().min(start + 40))?).ok()?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    value.split_once("s\"")?.0.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
}

#[cfg(test)]
mod tests {
    use std::io;

    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::upstream::error::ClientBodyError;

    const TERMS: Terms = Terms { retry_ambiguous: false, idempotent: false };

    fn error(code: &str, kind: &str) -> MeterError {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        MeterError { code: text(code), kind: text(kind), message: None }
    }

    #[test]
    fn each_status() {
        use Action::{Accept, Next};
        let hint = Some(Duration::from_secs(7));
        let quota = error("insufficient_quota", "");
        let limited = error("rate_limit_exceeded", "");
        for (status, error, action, mark) in [
            (400, None, Accept, Mark::Healthy),
            (401, None, Next, Mark::Rejected),
            (402, None, Next, Mark::Exhausted { hint }),
            (403, None, Next, Mark::NotPermitted),
            (403, Some(&quota), Next, Mark::Exhausted { hint }),
            (404, None, Accept, Mark::Healthy),
            (408, None, Next, Mark::Failure { hint }),
            (409, None, Accept, Mark::Healthy),
            (413, None, Accept, Mark::Healthy),
            (422, None, Accept, Mark::Healthy),
            (429, None, Next, Mark::RateLimited { hint }),
            (429, Some(&limited), Next, Mark::RateLimited { hint }),
            (429, Some(&quota), Next, Mark::Exhausted { hint }),
            (451, None, Accept, Mark::Healthy),
            (500, None, Next, Mark::Failure { hint }),
            (501, None, Next, Mark::Healthy),
            (502, None, Next, Mark::Failure { hint }),
            (503, None, Next, Mark::Failure { hint }),
            (504, None, Next, Mark::Failure { hint }),
            (529, None, Next, Mark::Failure { hint }),
        ] {
            let outcome = Outcome::Refused { status, hint, error };
            assert_eq!(verdict(&outcome, TERMS), Verdict { action, mark }, "{status} {error:?}");
        }
        assert_eq!(verdict(&Outcome::Begun, TERMS), Verdict { action: Accept, mark: Mark::Healthy });
    }

    #[test]
    fn each_failure() {
        use Action::{Accept, Next, NextAmbiguous};
        let refused = || Failure::Refused(io::ErrorKind::ConnectionRefused.into());
        let down = Mark::Failure { hint: None };
        let eager = Terms { retry_ambiguous: true, ..TERMS };
        let get = Terms { idempotent: true, ..TERMS };
        for (error, terms, action, mark) in [
            (AttemptError::unsent(Failure::Lookup(io::Error::other("x"))), TERMS, Next, Mark::Unreachable),
            (AttemptError::unsent(refused()), TERMS, Next, Mark::Unreachable),
            (AttemptError::unsent(Failure::Tls(io::Error::other("x"))), TERMS, Next, Mark::Unreachable),
            (AttemptError::unsent(Failure::Proxy("x".into())), TERMS, Next, Mark::Unreachable),
            (AttemptError::unsent(Failure::Timeout(Phase::Connect)), TERMS, Next, Mark::Unreachable),
            (AttemptError::unsent(Failure::Closed(None)), TERMS, Next, Mark::Unreachable),
            (AttemptError::ambiguous(Failure::Closed(None)), TERMS, Accept, down),
            (AttemptError::ambiguous(Failure::Closed(None)), eager, NextAmbiguous, down),
            (AttemptError::ambiguous(Failure::Closed(None)), get, Next, down),
            (AttemptError::ambiguous(Failure::Timeout(Phase::FirstByte)), TERMS, Accept, down),
            (AttemptError::ambiguous(Failure::Timeout(Phase::FirstByte)), eager, NextAmbiguous, down),
            (AttemptError::ambiguous(Failure::Timeout(Phase::Total)), eager, Accept, down),
            (AttemptError::ambiguous(Failure::Invalid("x")), TERMS, Accept, down),
            (AttemptError::ambiguous(Failure::ClientBody(ClientBodyError::Broken)), eager, Accept, Mark::Unknown),
        ] {
            assert_eq!(verdict(&Outcome::Failed(&error), terms), Verdict { action, mark }, "{error:?} {terms:?}");
        }
    }

    #[test]
    fn each_error_in_a_success() {
        use Action::{Accept, Next};
        for (code, kind, action, mark) in [
            ("Throttling.RateQuota", "", Next, Mark::RateLimited { hint: None }),
            ("insufficient_quota", "", Next, Mark::Exhausted { hint: None }),
            ("InvalidApiKey", "", Next, Mark::Rejected),
            ("", "authentication_error", Next, Mark::Rejected),
            ("", "permission_error", Next, Mark::NotPermitted),
            ("", "overloaded_error", Next, Mark::Failure { hint: None }),
            ("server_error", "", Next, Mark::Failure { hint: None }),
            ("429", "", Next, Mark::RateLimited { hint: None }),
            ("500", "INTERNAL", Next, Mark::Failure { hint: None }),
            ("400", "INVALID_ARGUMENT", Accept, Mark::Healthy),
            ("InvalidParameter", "", Accept, Mark::Healthy),
            ("context_length_exceeded", "invalid_request_error", Accept, Mark::Healthy),
            ("DataInspectionFailed", "", Accept, Mark::Healthy),
            ("something_new", "", Next, Mark::Failure { hint: None }),
            ("", "", Next, Mark::Failure { hint: None }),
        ] {
            let error = error(code, kind);
            let verdict = verdict(&Outcome::ErrorInSuccess(&error), TERMS);
            assert_eq!(verdict, Verdict { action, mark }, "{error:?}");
        }
    }

    #[test]
    fn hints_are_read_in_every_form_and_bounded() {
        let now = 1_795_244_712_000; // 2026-11-21T07:05:12Z
        let read = |headers: &[(&'static str, &'static str)], body: &str| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            hint(&map, body.as_bytes(), now).map(|hint| hint.as_millis())
        };
        assert_eq!(read(&[], ""), None);
        assert_eq!(read(&[("retry-after", "30")], ""), Some(30_000));
        assert_eq!(read(&[("retry-after", "0.5")], ""), Some(500));
        assert_eq!(read(&[("retry-after", "Sat, 21 Nov 2026 07:06:12 GMT")], ""), Some(60_000));
        assert_eq!(read(&[("retry-after", "Sat, 21 Nov 2020 07:06:12 GMT")], ""), Some(0));
        assert_eq!(read(&[("retry-after-ms", "1500"), ("retry-after", "1")], ""), Some(1_500));
        assert_eq!(read(&[("retry-after", "31536000")], ""), Some(3_600_000), "a year");
        for nonsense in ["banana", "-5", "NaN", "inf", "", "1e999"] {
            assert_eq!(read(&[("retry-after", nonsense)], ""), None, "{nonsense}");
        }
        let google = r#"{"error":{"code":429,"details":[{"@type":"…RetryInfo","retryDelay": "34.5s"}]}}"#;
        assert_eq!(read(&[], google), Some(34_500));
        assert_eq!(read(&[], r#"{"retryDelay":"soon"}"#), None);
        assert_eq!(read(&[], r#"{"retryDelay""#), None);
    }
}
