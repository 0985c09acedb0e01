//! The path an upstream is asked for. Pure.
//!
//! A path is kept byte for byte, with two exceptions: the channel's own `path_rewrite`, and each kind's knowledge of
//! where its OpenAI-compatible (and Anthropic-compatible) root is, so that one client call works on every channel.

use std::borrow::Cow;

use aiproxy_config::snapshot::{Channel, Endpoint, Kind};
use aiproxy_llm::dialect::Dialect;
use percent_encoding::percent_decode_str;

/// First segments of OpenAI paths that some clients send without `/v1`, as the predecessor's did.
const BARE_OPENAI: [&str; 12] = [
    "/chat/completions",
    "/completions",
    "/responses",
    "/embeddings",
    "/images/",
    "/audio/",
    "/moderations",
    "/models",
    "/files",
    "/batches",
    "/realtime",
    "/live/",
];

/// The path to ask `endpoint` for, its own prefix included.
pub(crate) fn upstream_path(channel: &Channel, endpoint: &Endpoint, dialect: Dialect, path: &str) -> String {
    if let Some(rewritten) = rewritten(channel, path) {
        return join(&endpoint.path, rewritten);
    }
    let base = &*endpoint.path;
    match (dialect, channel.kind) {
        (Dialect::Openai, kind) => match openai_suffix(path) {
            Some(suffix) => openai_path(kind, base, suffix, path),
            None => native(base, path),
        },
        (Dialect::Anthropic, kind) => match anthropic_suffix(path) {
            Some(suffix) if ends_with_version(base) => join(base, suffix),
            Some(suffix) if kind == Kind::Dashscope => join(base, &format!("/apps/anthropic/v1{suffix}")),
            Some(suffix) if kind == Kind::Anthropic => join(base, &format!("/v1{suffix}")),
            _ => native(base, path),
        },
        (Dialect::Gemini, Kind::Gemini) if path.starts_with("/models/") && !ends_with_version(base) => {
            join(base, &format!("/v1beta{path}"))
        }
        _ => native(base, path),
    }
}

/// The path of a WebSocket handshake: `websocket_endpoints` decides first, repeated slashes count as one.
pub(crate) fn websocket_path(channel: &Channel, endpoint: &Endpoint, dialect: Dialect, path: &str) -> String {
    let path = without_repeated_slashes(path);
    if !channel.websocket_endpoints.is_empty() {
        let decoded = percent_decode_str(&path).decode_utf8_lossy();
        if let Some(to) = channel.websocket_endpoints.get(&*decoded) {
            return join(&endpoint.path, to);
        }
    }
    // Somebody pasted the whole address that an SDK wants (`wss://host/api-ws/v1/inference`).
    if !endpoint.path.is_empty() && *path.trim_end_matches('/') == *endpoint.path {
        return path.into_owned();
    }
    upstream_path(channel, endpoint, dialect, &path)
}

/// Some SDKs write `//ws/…` (a base URL that ends in a slash). Never resolve such a path as a URL: it would name a host.
fn without_repeated_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return path.into();
    }
    let mut kept = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !kept.ends_with('/') {
            kept.push(character);
        }
    }
    kept.into()
}

/// Exact match on the decoded path.
fn rewritten<'channel>(channel: &'channel Channel, path: &str) -> Option<&'channel str> {
    if channel.path_rewrite.is_empty() {
        return None;
    }
    let decoded: Cow<'_, str> =
        if path.contains('%') { percent_decode_str(path).decode_utf8_lossy() } else { path.into() };
    channel.path_rewrite.get(&*decoded).map(|to| &**to)
}

/// What follows `/v1` in an OpenAI path, or the whole of a path that lacks it.
fn openai_suffix(path: &str) -> Option<&str> {
    if let Some(suffix) = path.strip_prefix("/v1").filter(|suffix| suffix.starts_with('/')) {
        return Some(suffix);
    }
    BARE_OPENAI.iter().any(|bare| starts_with_segment(path, bare)).then_some(path)
}

fn anthropic_suffix(path: &str) -> Option<&str> {
    let suffix = path.strip_prefix("/v1").unwrap_or(path);
    starts_with_segment(suffix, "/messages").then_some(suffix)
}

fn starts_with_segment(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

fn openai_path(kind: Kind, base: &str, suffix: &str, path: &str) -> String {
    let root = match kind {
        // The base URL is the OpenAI root itself, as SDKs want it: `https://api.openai.com/v1`, `…/api/paas/v4`.
        _ if ends_with_version(base) && kind != Kind::Gemini && !base.ends_with("/api/v1") => "",
        Kind::Openai | Kind::Anthropic => "/v1",
        Kind::Dashscope => {
            return join(base.strip_suffix("/api/v1").unwrap_or(base), &format!("/compatible-mode/v1{suffix}"));
        }
        Kind::Gemini if base.ends_with("/openai") => "",
        Kind::Gemini if ends_with_version(base) => "/openai",
        Kind::Gemini => "/v1beta/openai",
        Kind::Azure if base.ends_with("/openai") => "/v1",
        Kind::Azure => "/openai/v1",
        Kind::Vertex | Kind::Bedrock | Kind::Custom => return join(base, path),
    };
    format!("{base}{root}{suffix}")
}

/// A native path behind the endpoint's prefix. A prefix that is itself a well-known root (someone pasted an SDK's base
/// URL) is not written twice.
fn native(base: &str, path: &str) -> String {
    let repeats = ends_with_version(base) && path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
    if repeats { path.to_string() } else { join(base, path) }
}

fn join(base: &str, path: &str) -> String {
    format!("{base}{path}")
}

/// Whether the last segment is a version: `v1`, `v1beta`, `v4`.
fn ends_with_version(base: &str) -> bool {
    let last = base.rsplit('/').next().unwrap_or_default().as_bytes();
    last.len() >= 2 && last[0] == b'v' && last[1].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_config::channel;

    fn mapped(kind: Kind, base: &str, dialect: Dialect, path: &str) -> String {
        let channel = channel(kind, base);
        upstream_path(&channel, &channel.endpoints[0], dialect, path)
    }

    #[test]
    fn one_openai_call_finds_the_root_of_every_kind() {
        for (kind, base, expected) in [
            (Kind::Openai, "", "/v1/chat/completions"),
            (Kind::Openai, "/v1", "/v1/chat/completions"),
            (Kind::Openai, "/prefix", "/prefix/v1/chat/completions"),
            (Kind::Dashscope, "", "/compatible-mode/v1/chat/completions"),
            (Kind::Dashscope, "/compatible-mode/v1", "/compatible-mode/v1/chat/completions"),
            (Kind::Dashscope, "/api/v1", "/compatible-mode/v1/chat/completions"),
            (Kind::Gemini, "", "/v1beta/openai/chat/completions"),
            (Kind::Gemini, "/v1beta", "/v1beta/openai/chat/completions"),
            (Kind::Gemini, "/v1beta/openai", "/v1beta/openai/chat/completions"),
            (Kind::Azure, "", "/openai/v1/chat/completions"),
            (Kind::Anthropic, "", "/v1/chat/completions"),
            (Kind::Custom, "/api/paas/v4", "/api/paas/v4/chat/completions"),
        ] {
            for path in ["/v1/chat/completions", "/chat/completions"] {
                assert_eq!(mapped(kind, base, Dialect::Openai, path), expected, "{kind:?} {base} {path}");
            }
        }
        assert_eq!(mapped(Kind::Custom, "", Dialect::Openai, "/chat/completions"), "/chat/completions");
        assert_eq!(mapped(Kind::Custom, "/beta", Dialect::Openai, "/v1/models"), "/beta/v1/models");
    }

    #[test]
    fn native_paths_are_kept_byte_for_byte() {
        for (kind, dialect, path) in [
            (Kind::Dashscope, Dialect::Openai, "/compatible-mode/v1/chat/completions"),
            (Kind::Dashscope, Dialect::Dashscope, "/api/v1/tasks/abc-1"),
            (Kind::Gemini, Dialect::Gemini, "/v1/models/x:generateContent"),
            (Kind::Gemini, Dialect::Openai, "/v1beta/openai/models"),
            (Kind::Openai, Dialect::Openai, "//v1//chat/%2F/"),
            (Kind::Openai, Dialect::Openai, "/anything/else/"),
            (Kind::Azure, Dialect::Openai, "/openai/deployments/d/chat/completions"),
            (Kind::Anthropic, Dialect::Anthropic, "/v1/messages/batches"),
        ] {
            assert_eq!(mapped(kind, "", dialect, path), path);
        }
        assert_eq!(mapped(Kind::Dashscope, "/api/v1", Dialect::Dashscope, "/api/v1/tasks/1"), "/api/v1/tasks/1");
        assert_eq!(mapped(Kind::Custom, "/a", Dialect::Openai, "/a/b"), "/a/a/b");
    }

    #[test]
    fn anthropic_calls_find_their_root() {
        assert_eq!(mapped(Kind::Anthropic, "", Dialect::Anthropic, "/messages"), "/v1/messages");
        assert_eq!(mapped(Kind::Dashscope, "", Dialect::Anthropic, "/v1/messages"), "/apps/anthropic/v1/messages");
        assert_eq!(
            mapped(Kind::Dashscope, "", Dialect::Anthropic, "/apps/anthropic/v1/messages"),
            "/apps/anthropic/v1/messages"
        );
    }

    #[test]
    fn a_rewrite_matches_the_whole_decoded_path_and_nothing_less() {
        let mut channel = channel(Kind::Custom, "/base");
        channel.path_rewrite.insert("/chat/completions".into(), "/compatible/chat".into());
        let mapped = |path| upstream_path(&channel, &channel.endpoints[0], Dialect::Openai, path);
        assert_eq!(mapped("/chat/completions"), "/base/compatible/chat");
        assert_eq!(mapped("/chat/%63ompletions"), "/base/compatible/chat");
        assert_eq!(mapped("/chat/completions/"), "/base/chat/completions/");
        assert_eq!(mapped("/Chat/completions"), "/base/Chat/completions");
    }
}
