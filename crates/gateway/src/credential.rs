//! Where a caller's key may arrive, in the order of the wire facts: headers first, then the query.
//!
//! Every place is emptied before anything goes upstream, whether or not it held the key that was used.

use http::header::{self, HeaderMap};
use percent_encoding::percent_decode_str;

/// Query parameters that may carry a key. All of them are removed from what goes upstream.
const QUERY_CARRIERS: [&str; 4] = ["key", "access_token", "api-key", "authorization"];
/// Prefix of the WebSocket subprotocol that carries a key.
const SUBPROTOCOL_PREFIX: &str = "openai-insecure-api-key.";
/// A longer text is no key; it is not even hashed.
const KEY_LENGTH_LIMIT: usize = 4096;

/// What the caller presented.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presented<T> {
    /// No carrier is there at all.
    Nothing,
    /// `Authorization` is there, but with a scheme that carries no key, and nothing else is.
    WrongScheme,
    /// At least one text that could be a key, but none is known.
    Unknown,
    /// A known key.
    Known(T),
}

/// Looks through every carrier and returns the first text that `find` knows.
pub(crate) fn presented<T>(
    headers: &HeaderMap,
    query: Option<&str>,
    mut find: impl FnMut(&str) -> Option<T>,
) -> Presented<T> {
    let mut outcome = Presented::Nothing;
    let mut consider = |text: &str| {
        let text = text.trim();
        if text.is_empty() || text.len() > KEY_LENGTH_LIMIT { None } else { find(text) }
    };
    for value in headers.get_all(header::AUTHORIZATION) {
        // Text that is not ASCII is no key, but it was an attempt at one.
        let text = String::from_utf8_lossy(value.as_bytes());
        let Some(key) = bearer(&text) else {
            if matches!(outcome, Presented::Nothing) {
                outcome = Presented::WrongScheme;
            }
            continue;
        };
        outcome = Presented::Unknown;
        if let Some(found) = consider(key) {
            return Presented::Known(found);
        }
    }
    for name in ["x-api-key", "x-goog-api-key", "api-key"] {
        for value in headers.get_all(name) {
            outcome = Presented::Unknown;
            if let Some(found) = value.to_str().ok().and_then(&mut consider) {
                return Presented::Known(found);
            }
        }
    }
    for (name, value) in query.into_iter().flat_map(query_pairs) {
        if is_query_carrier(name) {
            outcome = Presented::Unknown;
            let decoded = percent_decode_str(value).decode_utf8_lossy();
            if let Some(found) = consider(bearer(&decoded).unwrap_or(&decoded)) {
                return Presented::Known(found);
            }
        }
    }
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        for protocol in value.to_str().unwrap_or_default().split(',') {
            let Some(key) = protocol.trim().strip_prefix(SUBPROTOCOL_PREFIX) else { continue };
            outcome = Presented::Unknown;
            if let Some(found) = consider(key) {
                return Presented::Known(found);
            }
        }
    }
    outcome
}

/// The key in `Bearer K` or `Token K`; the scheme in any case (RFC 9110 §11.1), any number of spaces.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.trim().split_once(' ')?;
    let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
    known.then(|| key.trim_start())
}

fn query_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn is_query_carrier(name: &str) -> bool {
    QUERY_CARRIERS.iter().any(|carrier| name.eq_ignore_ascii_case(carrier))
}

/// `query` without the carriers, otherwise byte for byte. `None` if nothing is left.
pub(crate) fn strip_query(query: &str) -> Option<std::borrow::Cow<'_, str>> {
    if !query_pairs(query).any(|(name, _)| is_query_carrier(name)) {
        return Some(query.into());
    }
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !is_query_carrier(pair.split_once('=').map_or(*pair, |(name, _)| name)))
        .collect();
    if kept.is_empty() { None } else { Some(kept.join("&").into()) }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn found(pairs: &[(&'static str, &'static str)], query: &str) -> Presented<String> {
        presented(&headers(pairs), Some(query), |key| (key == "pk-1").then(|| key.to_string()))
    }

    #[test]
    fn a_key_is_found_in_every_place_official_clients_put_it() {
        let known = Presented::Known("pk-1".to_string());
        for (name, value) in [
            ("authorization", "Bearer pk-1"),
            ("authorization", "bEaReR   pk-1"),
            ("authorization", "Token pk-1"),
            ("x-api-key", "pk-1"),
            ("x-goog-api-key", "pk-1"),
            ("api-key", "pk-1"),
            ("sec-websocket-protocol", "realtime,openai-insecure-api-key.pk-1,openai-beta.realtime-v1"),
        ] {
            assert_eq!(found(&[(name, value)], ""), known, "{name}: {value}");
        }
        for query in ["key=pk-1", "a=b&key=pk%2D1", "access_token=pk-1", "api-key=pk-1", "Authorization=Bearer%20pk-1"]
        {
            assert_eq!(found(&[], query), known, "{query}");
        }
        let two = [("authorization", "Bearer not-needed"), ("api-key", "pk-1")];
        assert_eq!(found(&two, ""), known, "a placeholder in one place does not hide the key in another");
    }

    #[test]
    fn what_is_missing_is_told_apart_from_what_is_unknown() {
        assert_eq!(found(&[], "a=b"), Presented::Nothing);
        assert_eq!(found(&[("authorization", "Basic abc")], ""), Presented::WrongScheme);
        assert_eq!(found(&[("authorization", "Basic abc"), ("x-api-key", "?")], ""), Presented::Unknown);
        assert_eq!(found(&[("authorization", "Bearer nobody")], ""), Presented::Unknown);
        assert_eq!(found(&[], "key=nobody"), Presented::Unknown);
    }

    #[test]
    fn carriers_leave_the_query_and_nothing_else_changes() {
        assert_eq!(strip_query("a=1&a=2&&b=%2F+x").as_deref(), Some("a=1&a=2&&b=%2F+x"));
        assert_eq!(strip_query("a=1&KEY=x&b=2&api-key=y&access_token=z").as_deref(), Some("a=1&b=2"));
        assert_eq!(strip_query("key=x"), None);
    }
}
