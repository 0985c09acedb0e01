//! The request head that goes to an upstream. The only place that opens a real key.

use aiproxy_config::snapshot::{Channel, Credential, Endpoint, Kind};
use aiproxy_llm::dialect::Dialect;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, header};

use crate::headers;

/// How the body behind the head is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// There is no body and no header about one.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What a request head is made of.
pub(crate) struct RequestHead<'call> {
    /// Method, as the caller sent it.
    pub method: &'call Method,
    /// Path for the upstream.
    pub path: &'call str,
    /// Query without credentials.
    pub query: Option<&'call str>,
    /// The caller's headers.
    pub headers: &'call HeaderMap,
    /// API the call speaks; decides where the key goes.
    pub dialect: Dialect,
    /// Body framing.
    pub framing: BodyFraming,
    /// Whether the answer must come without content coding, because a part of it is taken out.
    pub identity: bool,
    /// What makes it a WebSocket handshake, if it is one.
    pub upgrade: Option<&'call UpgradeLines>,
}

/// Our side of a WebSocket handshake with an upstream (RFC 6455 §4.1).
#[derive(Debug)]
pub(crate) struct UpgradeLines {
    /// `Sec-WebSocket-Key`: a nonce of ours.
    pub key: String,
    /// `Sec-WebSocket-Protocol`: what the client offers, without keys; `None` if that is nothing.
    pub protocols: Option<String>,
}

impl RequestHead<'_> {
    /// Writes the head for `channel`, with `credential` where this kind of upstream expects it.
    pub(crate) fn write(&self, channel: &Channel, credential: &Credential, endpoint: &Endpoint) -> Bytes {
        let mut head = BytesMut::with_capacity(1024);
        head.put_slice(self.method.as_str().as_bytes());
        head.put_u8(b' ');
        head.put_slice(self.path.as_bytes());
        if let Some(query) = self.query {
            head.put_u8(b'?');
            head.put_slice(query.as_bytes());
        }
        head.put_slice(b" HTTP/1.1\r\n");
        line(&mut head, "host", endpoint.authority.as_bytes());
        let (name, prefix) = key_header(channel.kind, self.dialect, self.path);
        head.put_slice(name.as_bytes());
        head.put_slice(b": ");
        head.put_slice(prefix.as_bytes());
        head.put_slice(credential.api_key.expose().as_bytes());
        head.put_slice(b"\r\n");
        for (name, value) in headers::forwarded(self.headers, &channel.headers_remove) {
            let replaced = channel.headers_set.iter().any(|(set, _)| **set == *name.as_str())
                || (*name == header::USER_AGENT && channel.user_agent.is_some())
                || (*name == header::ACCEPT_ENCODING && self.identity);
            if !replaced {
                line(&mut head, name.as_str(), value.as_bytes());
            }
        }
        if self.identity {
            line(&mut head, "accept-encoding", b"identity");
        }
        if let Some(user_agent) = &channel.user_agent {
            line(&mut head, "user-agent", user_agent.as_bytes());
        }
        for (name, value) in &channel.headers_set {
            line(&mut head, name, value.expose().as_bytes());
        }
        if let Some(UpgradeLines { key, protocols }) = self.upgrade {
            head.put_slice(b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n");
            line(&mut head, "sec-websocket-key", key.as_bytes());
            if let Some(protocols) = protocols {
                line(&mut head, "sec-websocket-protocol", protocols.as_bytes());
            }
        }
        match self.framing {
            BodyFraming::None => {}
            BodyFraming::Length(length) => line(&mut head, "content-length", length.to_string().as_bytes()),
            BodyFraming::Chunked => line(&mut head, "transfer-encoding", b"chunked"),
        }
        head.put_slice(b"\r\n");
        head.freeze()
    }
}

fn line(head: &mut BytesMut, name: &str, value: &[u8]) {
    head.put_slice(name.as_bytes());
    head.put_slice(b": ");
    head.put_slice(value);
    head.put_slice(b"\r\n");
}

/// The header a kind of upstream reads its key from, and what stands before the key.
fn key_header(kind: Kind, dialect: Dialect, path: &str) -> (&'static str, &'static str) {
    const BEARER: (&str, &str) = ("authorization", "Bearer ");
    match (kind, dialect) {
        // Anthropic's OpenAI-compatible chat wants a bearer token; everything else there is Anthropic's own.
        (Kind::Anthropic, Dialect::Openai) if path.ends_with("/chat/completions") => BEARER,
        (Kind::Anthropic, _) | (Kind::Custom, Dialect::Anthropic) => ("x-api-key", ""),
        // Gemini's OpenAI-compatible root wants a bearer token, its own paths want their own header.
        (Kind::Gemini, _) if path.contains("/openai/") => BEARER,
        (Kind::Gemini, _) | (Kind::Custom, Dialect::Gemini) => ("x-goog-api-key", ""),
        (Kind::Azure, _) => ("api-key", ""),
        _ => BEARER,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::test_config::channel;

    fn written(channel: &Channel, dialect: Dialect, path: &str, identity: bool) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in [("user-agent", "sdk"), ("accept-encoding", "gzip"), ("x-api-key", "pk"), ("x-trace", "1")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let head = RequestHead {
            method: &Method::POST,
            path,
            query: Some("a=1&a=2"),
            headers: &headers,
            dialect,
            framing: BodyFraming::Length(5),
            identity,
            upgrade: None,
        };
        let bytes = head.write(channel, &channel.credentials[0], &channel.endpoints[0]);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn the_head_is_the_callers_with_the_key_exchanged() {
        assert_eq!(
            written(&channel(Kind::Openai, ""), Dialect::Openai, "/v1/x", false),
            "POST /v1/x?a=1&a=2 HTTP/1.1\r\nhost: up.test\r\nauthorization: Bearer real\r\nuser-agent: sdk\r\n\
             accept-encoding: gzip\r\nx-trace: 1\r\ncontent-length: 5\r\n\r\n"
        );
    }

    #[test]
    fn a_channel_sets_and_removes_headers() {
        let mut channel = channel(Kind::Openai, "");
        channel.headers_set = Box::new([("x-trace".into(), aiproxy_core::Secret::new("2"))]);
        channel.headers_remove = Box::new(["accept-encoding".into()]);
        channel.user_agent = Some("gateway".into());
        assert_eq!(
            written(&channel, Dialect::Openai, "/", true),
            "POST /?a=1&a=2 HTTP/1.1\r\nhost: up.test\r\nauthorization: Bearer real\r\n\
             accept-encoding: identity\r\nuser-agent: gateway\r\nx-trace: 2\r\ncontent-length: 5\r\n\r\n"
        );
    }

    #[test]
    fn each_kind_gets_its_key_where_it_expects_it() {
        for (kind, dialect, path, expected) in [
            (Kind::Anthropic, Dialect::Anthropic, "/v1/messages", "\r\nx-api-key: real\r\n"),
            (Kind::Anthropic, Dialect::Openai, "/v1/chat/completions", "\r\nauthorization: Bearer real\r\n"),
            (Kind::Gemini, Dialect::Gemini, "/v1beta/models/x:generateContent", "\r\nx-goog-api-key: real\r\n"),
            (Kind::Gemini, Dialect::Openai, "/v1beta/openai/models", "\r\nauthorization: Bearer real\r\n"),
            (Kind::Azure, Dialect::Openai, "/openai/v1/models", "\r\napi-key: real\r\n"),
            (Kind::Dashscope, Dialect::Dashscope, "/api/v1/tasks/1", "\r\nauthorization: Bearer real\r\n"),
            (Kind::Dashscope, Dialect::Anthropic, "/apps/anthropic/v1/messages", "\r\nauthorization: Bearer real\r\n"),
            (Kind::Custom, Dialect::Anthropic, "/v1/messages", "\r\nx-api-key: real\r\n"),
            (Kind::Custom, Dialect::Gemini, "/v1beta/models/x:generateContent", "\r\nx-goog-api-key: real\r\n"),
            (Kind::Custom, Dialect::Openai, "/x", "\r\nauthorization: Bearer real\r\n"),
        ] {
            let head = written(&channel(kind, ""), dialect, path, false);
            assert!(head.contains(expected), "{kind:?} {path}: {head}");
            assert_eq!(head.matches("real").count(), 1);
        }
    }
}
