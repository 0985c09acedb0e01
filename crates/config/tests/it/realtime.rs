//! Sockets and calls by WebRTC: where a channel's sockets lead, what holds for all of them, and what is wrong with it.

use std::time::Duration;

use aiproxy_config::snapshot::{Endpoint, ProxyScheme, Realtime, Unattached, WebSocket};

use crate::support::{problems, snapshot, system, system_problems};

fn channel(fields: &str) -> String {
    format!("channels: {{c: {{base_url: 'https://h', api_key: x, {fields}}}}}")
}

fn websocket_url(fields: &str) -> Endpoint {
    let snapshot = snapshot(&channel(fields));
    snapshot.channels[0].websocket_url.clone().unwrap()
}

/// R-051: what the older gateway took (`https`) and what its example said (`wss`) are both right.
#[test]
fn a_websocket_url_has_any_of_four_schemes() {
    for (text, https, port, authority, path) in [
        ("wss://sockets.example.com", true, 443, "sockets.example.com", ""),
        ("https://sockets.example.com/", true, 443, "sockets.example.com", ""),
        ("WSS://sockets.example.com:443/prefix/", true, 443, "sockets.example.com", "/prefix"),
        ("ws://sockets.example.com", false, 80, "sockets.example.com", ""),
        ("http://sockets.example.com:80", false, 80, "sockets.example.com", ""),
        ("ws://sockets.example.com:443", false, 443, "sockets.example.com:443", ""),
    ] {
        let endpoint = websocket_url(&format!("websocket_url: '{text}'"));
        assert_eq!((endpoint.https, endpoint.port, &*endpoint.path), (https, port, path), "{text}");
        assert_eq!((&*endpoint.host, &*endpoint.authority), ("sockets.example.com", authority), "{text}");
    }
}

#[test]
fn wrong_websocket_urls_say_what_is_right() {
    let of = |url: &str| problems(&channel(&format!("websocket_url: {url}")));
    insta::assert_snapshot!(of("api.openai.com"), @"aiproxy.yaml:1:66: error: channels.c.websocket_url: a WebSocket URL starts with `wss://` or `ws://` (`https://` and `http://` mean the same)");
    insta::assert_snapshot!(of("'wws://h'"), @"aiproxy.yaml:1:66: error: channels.c.websocket_url: a WebSocket URL starts with `wss://` or `ws://` (`https://` and `http://` mean the same)");
    insta::assert_snapshot!(of("'wss://h/v1?key=1'"), @"aiproxy.yaml:1:66: error: channels.c.websocket_url: a base URL has no query (`?…`) or fragment (`#…`)");
    insta::assert_snapshot!(of("'wss://u:p@h'"), @"aiproxy.yaml:1:66: error: channels.c.websocket_url: a base URL has no user name or password; use `api_key` or `headers.set`");
    insta::assert_snapshot!(of("[a]"), @r#"aiproxy.yaml:1:66: error: channels.c.websocket_url: expected text, found a list"#);
}

#[test]
fn sockets_go_through_the_channels_proxy_and_are_judged_by_its_tls_settings() {
    let fields = "proxy: 'socks5://u:${PASSWORD}@p:1080', tls: {insecure: true}, websocket_url: 'wss://h'";
    let snapshot = snapshot(&channel(fields));
    let channel = &snapshot.channels[0];
    let socket = channel.websocket_url.as_ref().unwrap();
    let proxy = socket.proxy.as_ref().unwrap();
    assert_eq!((proxy.scheme, &*proxy.host, proxy.port), (ProxyScheme::Socks5, "p", 1080));
    assert_eq!(proxy.credential, Some(("u".into(), "p@ss".into())));
    assert!(socket.tls.insecure);
    assert_eq!(socket.pool_key, channel.endpoints[0].pool_key, "the same place by the same way");
    assert_ne!(socket.pool_key, websocket_url("websocket_url: 'wss://h'").pool_key);
}

#[test]
fn a_channel_serves_sockets_unless_it_says_no() {
    let of = |fields: &str| {
        let text = channel(fields);
        assert_eq!(problems(&text), "", "each of these fields is acted on");
        let channel = snapshot(&text).channels[0].clone();
        (channel.supports_websocket, channel.websocket_url.is_some(), channel.websocket_endpoints.clone())
    };
    assert_eq!(of(""), (true, false, [].into()));
    let rules = [("/realtime".into(), "/v1/realtime".into())];
    let fields = "supports_websocket: false, websocket_url: 'ws://h', websocket_endpoints: {/realtime: /v1/realtime}";
    assert_eq!(of(fields), (false, true, rules.into()));
}

#[test]
fn a_message_of_a_socket_has_a_limit() {
    let limit = |text: &str| system(text).websocket;
    assert_eq!(limit(""), WebSocket { message_limit: 64 << 20 });
    assert_eq!(limit("websocket: {}"), WebSocket::default());
    assert_eq!(limit("websocket: {message_limit: 64KiB}"), WebSocket { message_limit: 64 << 10 });
    assert_eq!(limit("websocket: {message_limit: 1073741824}"), WebSocket { message_limit: 1 << 30 });
    insta::assert_snapshot!(system_problems("websocket: {message_limit: 0}"), @"aiproxy.yaml:1:37: error: system.websocket.message_limit: must be between 64KiB and 1GiB");
    insta::assert_snapshot!(system_problems("websocket: {message_limit: 2GiB}"), @"aiproxy.yaml:1:37: error: system.websocket.message_limit: must be between 64KiB and 1GiB");
    insta::assert_snapshot!(system_problems("websocket: {message_limit: much, ping: 20s}"), @r"
    aiproxy.yaml:1:37: error: system.websocket.message_limit: expected a size: bytes, or e.g. `64KiB`, `10MiB`, `1GiB`
    aiproxy.yaml:1:43: error: system.websocket: unknown field `ping`; fields here are: message_limit
    ");
}

#[test]
fn calls_by_webrtc_have_bounds_and_a_policy() {
    let default = Realtime {
        secret_max_calls: 0,
        max_secrets: 100_000,
        attach_timeout: Duration::from_secs(10),
        unattached: Unattached::HangUp,
    };
    assert_eq!(system("").realtime, default);
    assert_eq!(system("realtime: {unattached: hang_up}").realtime, default);
    let written = Realtime {
        secret_max_calls: 1,
        max_secrets: 1,
        attach_timeout: Duration::from_secs(300),
        unattached: Unattached::Unmetered,
    };
    let text = "realtime: {secret_max_calls: 1, max_secrets: 1, attach_timeout: 5m, unattached: unmetered}";
    assert_eq!(system(text).realtime, written);

    insta::assert_snapshot!(system_problems("realtime: {secret_max_calls: -1, max_secrets: 0, unattached: hangup}"), @r"
    aiproxy.yaml:1:39: error: system.realtime.secret_max_calls: must not be less than 0
    aiproxy.yaml:1:56: error: system.realtime.max_secrets: must not be less than 1
    aiproxy.yaml:1:71: error: system.realtime.unattached: `hangup` is not known here; did you mean `hang_up`?
    ");
    insta::assert_snapshot!(system_problems("realtime: {attach_timeout: 0}"), @"aiproxy.yaml:1:37: error: system.realtime.attach_timeout: must be between 1s and 300s");
    insta::assert_snapshot!(system_problems("realtime: {attach_timeout: 301}"), @"aiproxy.yaml:1:37: error: system.realtime.attach_timeout: must be between 1s and 300s");
    insta::assert_snapshot!(system_problems("realtime: {secret_max_calls: 5000000000, max_secrets: 1.5}"), @r"
    aiproxy.yaml:1:39: error: system.realtime.secret_max_calls: must not be more than 1000000
    aiproxy.yaml:1:64: error: system.realtime.max_secrets: expected a whole number, found a number
    ");
}
