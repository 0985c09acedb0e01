//! The handshake of RFC 6455 §4.2, and what a gateway must not pass on in one.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, StatusCode};

use crate::base64;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::reply::Reply;

/// What the accept key is made with (RFC 6455 §1.3).
const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The one subprotocol that the demo speaks.
const REALTIME: &str = "realtime";
/// The one version of the protocol.
const VERSION: &str = "13";

/// Whether a request asks to switch to the WebSocket protocol.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    tokens(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
}

/// Lets a request pass that carries nothing that a gateway must keep to itself, beyond what any request may not carry.
pub(super) fn no_leak(call: &Call<'_>) -> Result<(), Refusal> {
    if let Some(token) = tokens(call.headers, &SEC_WEBSOCKET_PROTOCOL).find(|token| token.starts_with("openai-")) {
        // Up to the dot: what follows may be a key.
        let kind = token.split('.').next().unwrap_or_default();
        return Err(leak(format!("the subprotocol {kind} reached the upstream")));
    }
    if call.headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(leak("the header sec-websocket-extensions reached the upstream".to_owned()));
    }
    Ok(())
}

/// Lets a request pass that is a whole handshake.
pub(super) fn check(call: &Call<'_>) -> Result<(), Refusal> {
    let bad = |what: &str| Err(Refusal::new(400, format!("Bad WebSocket handshake: {what}.")));
    let one = |name: &HeaderName| call.headers.get_all(name).iter().count() == 1;
    if call.method != Method::GET {
        return bad("the method must be GET");
    }
    if !one(&HOST) {
        return bad("there must be one Host");
    }
    if !tokens(call.headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return bad("Connection must be Upgrade");
    }
    if !one(&SEC_WEBSOCKET_VERSION) || call.header("sec-websocket-version") != Some(VERSION) {
        return Err(Refusal::new(426, "Bad WebSocket handshake: the version must be 13."));
    }
    let key = call.header("sec-websocket-key").and_then(base64::decode);
    if !one(&SEC_WEBSOCKET_KEY) || key.is_none_or(|key| key.len() != 16) {
        return bad("Sec-WebSocket-Key must be 16 bytes in base64");
    }
    Ok(())
}

/// Adds what the refusal of a handshake needs beyond any other.
pub(super) fn dress_refusal(reply: &mut Reply) {
    if reply.status == StatusCode::UPGRADE_REQUIRED {
        reply.headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
    }
}

/// The headers that accept a checked handshake, or (`protocol` is not `websocket`) pretend to.
pub(super) fn accepting(call: &Call<'_>, protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static(protocol)),
    ]);
    let key = call.header("sec-websocket-key").unwrap_or_default();
    if let Ok(accept) = HeaderValue::from_str(&accept_key(key)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    // A browser and Node's `ws` give up if none of the protocols that they offer comes back (`protocols.md` §4).
    if tokens(call.headers, &SEC_WEBSOCKET_PROTOCOL).any(|token| token == REALTIME) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(REALTIME));
    }
    headers
}

/// Whether the client wants the event shapes that OpenAI has switched off.
pub(super) fn is_beta(call: &Call<'_>) -> bool {
    tokens(call.headers, &HeaderName::from_static("openai-beta")).any(|token| token == "realtime=v1")
}

fn accept_key(key: &str) -> String {
    let salted = [key.as_bytes(), SALT].concat();
    base64::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &salted).as_ref())
}

/// The comma-separated tokens of every header `name`.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn leak(message: String) -> Refusal {
    Refusal::new(400, message).code("leaked_header")
}

#[cfg(test)]
mod tests {
    use super::accept_key;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
