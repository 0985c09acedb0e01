//! Both sides of a WebSocket handshake (RFC 6455 §4, RFC 8441 for HTTP/2). Pure, but for the nonce.
//!
//! Nothing of the client's handshake goes upstream but the subprotocols that carry no key: extensions are not
//! negotiated on either leg, and the nonces are each leg's own.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

use crate::refusal::Refusal;
use crate::request_head::UpgradeLines;
use crate::upstream::response_head::ResponseHead;

/// Appended to a nonce before it is hashed (RFC 6455 §1.3).
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The only version there is (RFC 6455 §4.1).
const VERSION: &str = "13";
/// Subprotocols of OpenAI's browser clients that are meant for whoever reads the credential, not for the upstream.
const PRIVATE_PROTOCOLS: [&str; 4] =
    ["openai-insecure-api-key.", "openai-organization.", "openai-project.", "openai-beta.realtime-v1"];
/// Longest list of subprotocols that is read.
const PROTOCOLS_LIMIT: usize = 8 * 1024;

/// A client that asks for a socket.
pub(crate) struct Upgrade {
    /// What its connection becomes once it was answered.
    pub(crate) connection: OnUpgrade,
    /// `Sec-WebSocket-Accept` of the answer; `None` over HTTP/2, which has no such thing.
    accept: Option<HeaderValue>,
    /// What it offers, in its order.
    protocols: Vec<String>,
}

impl Upgrade {
    /// Takes the upgrade out of a request that asks for a WebSocket: `None` if it asks for anything else, which makes it
    /// an ordinary call. A handshake that cannot work is refused. Over HTTP/2 the method becomes `GET`, as it is over
    /// HTTP/1.1.
    pub(crate) fn take(parts: &mut Parts) -> Option<Result<Self, Refusal>> {
        if !asks_for_socket(parts) {
            return None;
        }
        let protocols = offered(&parts.headers);
        let version = parts.headers.get(header::SEC_WEBSOCKET_VERSION);
        if version.is_none_or(|version| version.as_bytes().trim_ascii() != VERSION.as_bytes()) {
            return Some(Err(wrong_version()));
        }
        let accept = if parts.version == Version::HTTP_2 {
            parts.method = Method::GET;
            None
        } else {
            let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()).map(str::trim);
            let Some(key) = key.filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)) else {
                let message = "The WebSocket handshake has no valid Sec-WebSocket-Key. Use a WebSocket client.";
                return Some(Err(Refusal::invalid_request(message)));
            };
            HeaderValue::from_str(&accept_of(key)).ok()
        };
        let Some(connection) = parts.extensions.remove::<OnUpgrade>() else {
            return Some(Err(Refusal::invalid_request("This connection cannot become a WebSocket.")));
        };
        Some(Ok(Self { connection, accept, protocols }))
    }

    /// Whether the connection becomes the socket; over HTTP/2 only one of its streams does.
    pub(crate) fn is_whole_connection(&self) -> bool {
        self.accept.is_some()
    }

    /// What is offered upstream.
    pub(crate) fn lines(&self) -> UpgradeLines {
        let kept: Vec<&str> = self.protocols.iter().map(String::as_str).filter(|name| !is_private(name)).collect();
        UpgradeLines { key: new_key(), protocols: (!kept.is_empty()).then(|| kept.join(", ")) }
    }

    /// Writes what makes an answer a handshake into its headers. `chosen` is what the upstream picked. A client that
    /// offers `realtime` gives up if nothing is chosen, so that is the choice where the upstream made none.
    pub(crate) fn complete(&self, chosen: Option<&HeaderValue>, headers: &mut HeaderMap) -> StatusCode {
        let is_offered = |name: &str| !is_private(name) && self.protocols.iter().any(|offered| offered == name);
        let chosen = chosen.and_then(|chosen| chosen.to_str().ok()).map(str::trim).filter(|name| is_offered(name));
        let protocol = chosen.or_else(|| is_offered("realtime").then_some("realtime"));
        if let Some(protocol) = protocol.and_then(|name| HeaderValue::from_str(name).ok()) {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let Some(accept) = &self.accept else { return StatusCode::OK };
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Headers of an upstream's handshake that are not the client's.
pub(crate) const OF_ONE_LEG: [HeaderName; 5] = [
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_VERSION,
    header::CONTENT_LENGTH,
];

/// A nonce for a handshake of ours. It guards against caches, not against attackers (RFC 6455 §10.3).
pub(crate) fn new_key() -> String {
    let mut nonce = [0; 16];
    fastrand::fill(&mut nonce);
    STANDARD.encode(nonce)
}

/// Whether an upstream's answer is the handshake that was asked for; if not, in which way.
pub(crate) fn accepted(head: &ResponseHead, lines: &UpgradeLines) -> Result<(), &'static str> {
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Err("an answer instead of a WebSocket handshake");
    }
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !text(header::UPGRADE).trim().eq_ignore_ascii_case("websocket") || !has_token(&head.headers, "upgrade") {
        return Err("an upgrade to something else than WebSocket");
    }
    if text(header::SEC_WEBSOCKET_ACCEPT).trim() != accept_of(&lines.key) {
        return Err("a WebSocket handshake with a wrong Sec-WebSocket-Accept");
    }
    if head.headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return Err("a WebSocket extension nobody offered");
    }
    let chosen = text(header::SEC_WEBSOCKET_PROTOCOL).trim();
    let offered = lines.protocols.as_deref().unwrap_or_default();
    if !chosen.is_empty() && !offered.split(", ").any(|name| name == chosen) {
        return Err("a WebSocket subprotocol nobody offered");
    }
    Ok(())
}

/// Over HTTP/1.1 a GET with both headers (RFC 6455 §4.2.1), over HTTP/2 an extended CONNECT (RFC 8441 §4). `h2c` and
/// the like are ordinary calls.
fn asks_for_socket(parts: &Parts) -> bool {
    if let Some(protocol) = parts.extensions.get::<Protocol>() {
        return protocol.as_str().eq_ignore_ascii_case("websocket");
    }
    parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && has_token(&parts.headers, "upgrade")
        && tokens(&parts.headers, header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
}

fn has_token(headers: &HeaderMap, wanted: &str) -> bool {
    tokens(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case(wanted))
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn offered(headers: &HeaderMap) -> Vec<String> {
    let names = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL).filter(|name| !name.is_empty());
    let mut length = 0;
    let within = names.take_while(|name| {
        length += name.len();
        length <= PROTOCOLS_LIMIT
    });
    within.map(str::to_owned).collect()
}

fn is_private(protocol: &str) -> bool {
    PRIVATE_PROTOCOLS.iter().any(|private| protocol.starts_with(private))
}

fn accept_of(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ACCEPT_SUFFIX}").as_bytes()))
}

fn wrong_version() -> Refusal {
    let message = "The WebSocket handshake must have 'Sec-WebSocket-Version: 13'.";
    Refusal::new(StatusCode::UPGRADE_REQUIRED, "invalid_request", message)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn parts(pairs: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/v1/realtime");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn refused(pairs: &[(&str, &str)]) -> Option<(u16, &'static str)> {
        let taken = Upgrade::take(&mut parts(pairs))?;
        taken.err().map(|refusal| (refusal.status.as_u16(), refusal.code))
    }

    #[test]
    fn the_accept_value_is_the_one_of_the_rfc() {
        assert_eq!(accept_of(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_a_get_with_both_headers_is_a_handshake() {
        let upgrade = ("upgrade", "WebSocket");
        assert!(asks_for_socket(&parts(&[upgrade, ("connection", "keep-alive, Upgrade")])));
        assert!(!asks_for_socket(&parts(&[upgrade])));
        assert!(!asks_for_socket(&parts(&[("upgrade", "h2c"), ("connection", "Upgrade")])));
        let mut post = parts(&[upgrade, ("connection", "upgrade")]);
        post.method = Method::POST;
        assert!(!asks_for_socket(&post));
    }

    #[test]
    fn a_handshake_that_cannot_work_is_refused_with_what_is_missing() {
        let base = [("upgrade", "websocket"), ("connection", "upgrade")];
        let with = |more: &[(&'static str, &'static str)]| refused(&[&base[..], more].concat());
        assert_eq!(with(&[]), Some((426, "invalid_request")));
        assert_eq!(with(&[("sec-websocket-version", "8")]), Some((426, "invalid_request")));
        let version = ("sec-websocket-version", "13");
        assert_eq!(with(&[version]), Some((400, "invalid_request")));
        assert_eq!(with(&[version, ("sec-websocket-key", "c2hvcnQ=")]), Some((400, "invalid_request")));
    }

    fn answered(lines: &UpgradeLines, change: impl FnOnce(&mut String)) -> Result<(), &'static str> {
        let mut text = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
            accept_of(&lines.key)
        );
        change(&mut text);
        let (head, _) = crate::upstream::response_head::parse(text.as_bytes(), &Method::GET).unwrap().unwrap();
        accepted(&head, lines)
    }

    #[test]
    fn an_upstream_must_answer_the_handshake_that_was_asked_for() {
        let lines = UpgradeLines { key: new_key(), protocols: Some("realtime, other".into()) };
        let replace = |from: &'static str, to: &'static str| move |text: &mut String| *text = text.replace(from, to);
        assert_eq!(answered(&lines, |_| {}), Ok(()));
        assert_eq!(answered(&lines, replace("\r\n\r\n", "\r\nsec-websocket-protocol: other\r\n\r\n")), Ok(()));
        for change in [
            ("upgrade: websocket", "upgrade: h2c"),
            ("connection: Upgrade\r\n", ""),
            ("accept: ", "accept: x"),
            ("101 Switching Protocols", "200 OK"),
            ("\r\n\r\n", "\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n"),
            ("\r\n\r\n", "\r\nsec-websocket-protocol: secret\r\n\r\n"),
        ] {
            assert!(answered(&lines, replace(change.0, change.1)).is_err(), "{change:?}");
        }
    }

    #[test]
    fn a_key_among_the_subprotocols_goes_nowhere_and_realtime_comes_back() {
        let (accept, connection) = (HeaderValue::from_str(&accept_of(KEY)).ok(), hyper::upgrade::on(Request::new(())));
        let offers = "realtime,openai-insecure-api-key.pk-1,openai-organization.o,openai-beta.realtime-v1,x.y";
        let protocols = offered(&parts(&[("sec-websocket-protocol", offers)]).headers);
        let upgrade = Upgrade { connection, accept, protocols };
        assert_eq!(upgrade.lines().protocols.as_deref(), Some("realtime, x.y"));
        for (chosen, expected) in
            [(None, "realtime"), (Some("x.y"), "x.y"), (Some("openai-insecure-api-key.pk-1"), "realtime")]
        {
            let mut headers = HeaderMap::new();
            let status = upgrade.complete(chosen.map(HeaderValue::from_static).as_ref(), &mut headers);
            assert_eq!((status.as_u16(), headers["sec-websocket-protocol"].to_str().unwrap()), (101, expected));
        }
    }
}
