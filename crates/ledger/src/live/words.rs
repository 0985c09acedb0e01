//! Fixed sets of words that labels are made of, so that a label cannot take a value nobody thought of.

use crate::entry::{Entry, EntryAttempt};

/// What stands for everything that has no label of its own.
pub(super) const OTHER: &str = "other";

const PROTOCOLS: [&str; 4] = ["http", "sse", "websocket", "webrtc"];
const DIALECTS: [&str; 4] = ["openai", "anthropic", "gemini", "dashscope"];
const ENDS: [&str; 5] = ["complete", "client_closed", "upstream_error", "timeout", "shutdown"];

/// The table of the public contract.
const ERROR_CODES: [&str; 24] = [
    "body_too_large",
    "channel_not_allowed",
    "draining",
    "headers_too_large",
    "invalid_credential",
    "invalid_request",
    "ip_not_allowed",
    "key_disabled",
    "key_expired",
    "missing_credential",
    "model_not_allowed",
    "model_required",
    "no_channel_available",
    "no_such_route",
    "overloaded",
    "quota_exceeded",
    "rate_limited",
    "request_timeout",
    "too_many_concurrent",
    "upstream_invalid",
    "upstream_timeout",
    "upstream_unreachable",
    "user_disabled",
    "websocket_not_supported",
];

/// `word` if it is one of `words`, else `other`.
fn one_of(words: &[&'static str], word: &str) -> &'static str {
    words.iter().copied().find(|known| *known == word).unwrap_or(OTHER)
}

pub(super) fn protocol(entry: &Entry<'_>) -> &'static str {
    one_of(&PROTOCOLS, entry.protocol)
}

pub(super) fn dialect(entry: &Entry<'_>) -> &'static str {
    one_of(&DIALECTS, entry.dialect)
}

pub(super) fn end(entry: &Entry<'_>) -> &'static str {
    one_of(&ENDS, entry.end)
}

pub(super) fn error_code(code: &str) -> &'static str {
    one_of(&ERROR_CODES, code)
}

pub(super) fn status_class(status: u16) -> &'static str {
    match status {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        _ => OTHER,
    }
}

/// What became of one try at an upstream.
pub(super) fn outcome(attempt: &EntryAttempt<'_>) -> &'static str {
    match (attempt.status, attempt.why) {
        (None, None) => "unfinished",
        (None, Some(_)) => "no_answer",
        (Some(429), _) => "rate_limited",
        (Some(..400), None) => "served",
        (Some(..400), Some(_)) => "error_in_success",
        (Some(400..500), _) => "refused",
        (Some(_), _) => "server_error",
    }
}
