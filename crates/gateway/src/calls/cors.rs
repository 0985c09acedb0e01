//! What lets a page of another origin begin a call: only that, and only with a credential it was given. Cookies play no
//! part, so any origin may.

use aiproxy_llm::dialect::{Operation, classify};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use crate::egress::GatewayBody;

/// Headers that clients send along. Others are allowed if they are asked for.
const USUAL_HEADERS: &str = "authorization, content-type, x-openai-agents-sdk";
/// Longest list of headers that is answered.
const ASKED_LIMIT: usize = 4 * 1024;
/// How long a browser may believe the answer, in seconds. Chromium believes none for longer.
const MAX_AGE: &str = "7200";
/// Headers of answers that a page may read: where the call is, and what to report when something is wrong.
const READABLE: &str = "Location, X-Request-Id";

/// Whether pages may ask for this path.
fn is_open(path: &str) -> bool {
    path.trim_end_matches('/').ends_with("/calls") && classify("POST", path).operation == Operation::RealtimeCalls
}

/// Whether the answer to this request is for pages.
pub(crate) fn is_for_pages(method: &Method, path: &str) -> bool {
    *method == Method::POST && is_open(path)
}

/// Lets a page read the answer, whatever it is.
pub(crate) fn open(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(READABLE));
}

/// The answer to a browser that asks what a page may do (Fetch §4.8); nothing if that is not what is asked. It comes without
/// a credential.
pub(crate) fn preflight<B>(request: &Request<B>) -> Option<Response<GatewayBody>> {
    let asks = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if *request.method() != Method::OPTIONS || !asks || !is_open(request.uri().path()) {
        return None;
    }
    let mut response = Response::new(GatewayBody::fixed(Bytes::new(), None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    headers.insert(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    let asked = request.headers().get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let asked: Vec<_> = asked.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let allowed = HeaderValue::from_str(&allowed_headers(&asked.join(",")));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed.unwrap_or(HeaderValue::from_static(USUAL_HEADERS)));
    Some(response)
}

/// The usual ones and those that are asked for. `*` would not do: it leaves `authorization` out.
fn allowed_headers(asked: &str) -> String {
    let mut allowed = USUAL_HEADERS.to_owned();
    if asked.len() > ASKED_LIMIT {
        return allowed;
    }
    for name in asked.split(',').map(str::trim).filter(|name| is_harmless(name)) {
        if !allowed.split(", ").any(|known| known.eq_ignore_ascii_case(name)) {
            allowed.push_str(", ");
            allowed.push_str(&name.to_ascii_lowercase());
        }
    }
    allowed
}

/// A header's name that says nothing about where a call comes from or how it is routed here.
fn is_harmless(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| {
        let name = name.as_str();
        !["x-forwarded-", "x-aiproxy-", "x-real-ip", "forwarded", "cookie", "proxy-"]
            .iter()
            .any(|own| name.starts_with(own))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, path: &str, headers: &str) -> Option<Response<GatewayBody>> {
        let request = Request::builder().method(method).uri(path).header("access-control-request-method", "POST");
        preflight(&request.header("access-control-request-headers", headers).body(()).unwrap())
    }

    #[test]
    fn a_page_may_begin_calls_and_nothing_else() {
        for path in
            ["/v1/realtime/calls", "/openai/v1/realtime/calls", "/realtime/calls/", "/v1/realtime/calls?model=x"]
        {
            assert_eq!(asked(Method::OPTIONS, path, "").unwrap().status(), 204, "{path}");
        }
        for path in ["/v1/realtime/client_secrets", "/v1/realtime/calls/rtc_1/hangup", "/calls", "/v1/chat/completions"]
        {
            assert!(asked(Method::OPTIONS, path, "").is_none(), "{path}");
            assert!(!is_for_pages(&Method::POST, path), "{path}");
        }
        assert!(asked(Method::POST, "/v1/realtime/calls", "").is_none());
        assert!(is_for_pages(&Method::POST, "/v1/realtime/calls"));
        let plain = Request::builder().method(Method::OPTIONS).uri("/v1/realtime/calls").body(()).unwrap();
        assert!(preflight(&plain).is_none(), "without the question it is no preflight");
    }

    #[test]
    fn the_headers_that_are_asked_for_are_allowed_if_they_are_harmless() {
        let asked =
            "Authorization,content-type, X-Stainless-OS,openai-beta,x-forwarded-for,x-aiproxy-channel,é,a b,,cookie";
        let expected = "authorization, content-type, x-openai-agents-sdk, x-stainless-os, openai-beta";
        assert_eq!(allowed_headers(asked), expected);
        assert_eq!(allowed_headers(&"a,".repeat(ASKED_LIMIT)), USUAL_HEADERS);
        let response = self::asked(Method::OPTIONS, "/v1/realtime/calls", asked).unwrap();
        assert_eq!(response.headers()["access-control-allow-headers"], expected);
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
    }
}
