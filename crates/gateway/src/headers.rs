//! Which headers cross the gateway, in either direction.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The id of a call, in every answer.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Tells a proxy in front of us not to gather a stream.
pub(crate) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Tells which soft quota of the caller is used up.
pub(crate) const X_AIPROXY_QUOTA_WARNING: HeaderName = HeaderName::from_static("x-aiproxy-quota-warning");

/// Headers that belong to one connection (RFC 9110 §7.6.1); never forwarded.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Headers of the caller that no upstream may see: credentials, cookies, whose account it is, where it comes from.
fn is_private_to_caller(name: &str) -> bool {
    match name.as_bytes()[0] {
        b'a' => matches!(name, "authorization" | "api-key"),
        b'c' => matches!(name, "cookie" | "client-ip") || name.starts_with("cf-") || name.starts_with("cdn-loop"),
        b'f' => matches!(name, "forwarded" | "fastly-client-ip" | "fly-client-ip"),
        b'o' => matches!(name, "openai-organization" | "openai-project" | "origin"),
        b'r' => name == "referer",
        // A handshake header on a plain call: a subprotocol may carry a key.
        b's' => name.starts_with("sec-websocket-"),
        b't' => name == "true-client-ip",
        b'v' => name == "via",
        b'x' => {
            matches!(
                name,
                "x-api-key"
                    | "x-goog-api-key"
                    | "x-goog-user-project"
                    | "x-amz-security-token"
                    | "x-real-ip"
                    | "x-client-ip"
                    | "x-cluster-client-ip"
                    | "x-original-forwarded-for"
                    | "x-original-url"
                    | "x-rewrite-url"
                    | "x-remote-ip"
                    | "x-remote-addr"
                    | "x-envoy-external-address"
            ) || name.starts_with("x-forwarded-")
                || name.starts_with("x-aiproxy-")
        }
        _ => false,
    }
}

/// Headers of an upstream that no caller may see: cookies, what it runs on, whose account is used.
fn is_private_to_upstream(name: &str) -> bool {
    match name.as_bytes()[0] {
        b'a' => matches!(name, "alt-svc" | "anthropic-organization-id" | "anthropic-workspace-id"),
        b'c' => name.starts_with("cf-"),
        b'n' => name == "nel",
        b'o' => matches!(name, "openai-organization" | "openai-project"),
        b'r' => matches!(name, "report-to" | "reporting-endpoints"),
        b's' => matches!(name, "server" | "set-cookie" | "set-cookie2" | "strict-transport-security" | "server-timing"),
        b'v' => name == "via",
        b'x' => matches!(name, "x-powered-by" | "x-envoy-upstream-service-time" | "x-served-by" | "x-request-id"),
        _ => false,
    }
}

/// Header names that `Connection` declares as private to the connection.
fn named_by_connection(headers: &HeaderMap) -> Vec<String> {
    let tokens = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    tokens
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .filter(|token| !matches!(token.as_str(), "" | "close" | "keep-alive" | "upgrade"))
        .collect()
}

/// The caller's headers that go upstream. Framing and `Host` are left out: the request head writes its own.
pub(crate) fn forwarded<'headers>(
    headers: &'headers HeaderMap,
    removed: &'headers [Box<str>],
) -> impl Iterator<Item = (&'headers HeaderName, &'headers HeaderValue)> {
    let connection = named_by_connection(headers);
    // That shape of Realtime is gone; providers close such sockets at once (code `beta_api_shape_disabled`).
    let asks_for_socket = headers.contains_key(header::SEC_WEBSOCKET_VERSION);
    headers.iter().filter(move |(name, value)| {
        let text = name.as_str();
        !is_hop_by_hop(name)
            && !is_private_to_caller(text)
            && **name != header::HOST
            && **name != header::CONTENT_LENGTH
            && **name != header::EXPECT
            && !(text == "openai-beta" && value.as_bytes() == b"realtime=v1" && asks_for_socket)
            && !removed.iter().any(|removed| **removed == *text)
            && !connection.iter().any(|token| token == text)
    })
}

/// The upstream's headers that go to the caller.
pub(crate) fn returned(mut headers: HeaderMap, authority: &str) -> HeaderMap {
    let connection = named_by_connection(&headers);
    let private: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            is_hop_by_hop(name)
                || is_private_to_upstream(name.as_str())
                || connection.iter().any(|token| token == name.as_str())
        })
        .cloned()
        .collect();
    let upstream_request_id = headers.get(X_REQUEST_ID).cloned();
    for name in private {
        headers.remove(name);
    }
    if let Some(id) = upstream_request_id {
        headers.insert(HeaderName::from_static("x-upstream-request-id"), id);
    }
    if let Some(location) = headers.get(header::LOCATION).and_then(|location| own_location(location, authority)) {
        headers.insert(header::LOCATION, location);
    }
    headers
}

/// A redirect to the upstream itself names its host; the caller gets the path alone and comes back through us.
fn own_location(location: &HeaderValue, authority: &str) -> Option<HeaderValue> {
    let rest = location.to_str().ok()?.split_once("://")?.1;
    let path = rest.strip_prefix(authority)?;
    let path = if path.is_empty() { "/" } else { path };
    path.starts_with(['/', '?']).then(|| HeaderValue::from_str(path).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn nothing_of_the_caller_reaches_the_upstream_but_what_the_api_defines() {
        let headers = map(&[
            ("authorization", "Bearer x"),
            ("x-api-key", "x"),
            ("cookie", "x"),
            ("x-forwarded-for", "x"),
            ("x-forwarded-host", "x"),
            ("forwarded", "x"),
            ("cf-connecting-ip", "x"),
            ("origin", "x"),
            ("referer", "x"),
            ("sec-websocket-protocol", "realtime,openai-insecure-api-key.x"),
            ("true-client-ip", "x"),
            ("openai-organization", "x"),
            ("openai-project", "x"),
            ("x-aiproxy-channel", "x"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "x"),
            ("te", "trailers"),
            ("host", "x"),
            ("content-length", "3"),
            ("x-unwanted", "x"),
            ("anthropic-version", "2023-06-01"),
            ("x-stainless-retry-count", "1"),
            ("content-type", "application/json"),
        ]);
        let removed = ["x-unwanted".into()];
        let names: Vec<_> = forwarded(&headers, &removed).map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["anthropic-version", "x-stainless-retry-count", "content-type"]);
    }

    #[test]
    fn nothing_of_the_upstream_reaches_the_caller_but_what_the_api_defines() {
        let headers = map(&[
            ("server", "cloudflare"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("openai-organization", "org"),
            ("cf-ray", "x"),
            ("connection", "x-private"),
            ("x-private", "x"),
            ("transfer-encoding", "chunked"),
            ("x-request-id", "req_1"),
            ("location", "https://up.test/v1/files/1?a=b"),
            ("x-ratelimit-remaining-tokens", "1"),
            ("x-ratelimit-remaining-tokens", "2"),
        ]);
        let returned = returned(headers, "up.test");
        let mut pairs: Vec<_> = returned.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        pairs.sort();
        assert_eq!(
            pairs,
            [
                ("location", "/v1/files/1?a=b"),
                ("x-ratelimit-remaining-tokens", "1"),
                ("x-ratelimit-remaining-tokens", "2"),
                ("x-upstream-request-id", "req_1"),
            ]
        );
    }

    #[test]
    fn a_redirect_elsewhere_is_passed_on_as_it_is() {
        let elsewhere = map(&[("location", "https://up.test.evil/x")]);
        assert_eq!(returned(elsewhere, "up.test")["location"], "https://up.test.evil/x");
    }
}
