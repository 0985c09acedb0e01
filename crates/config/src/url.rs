//! The kinds of URL a config holds: where an upstream is, which proxy leads there, and where records are sent to.
//!
//! Messages never repeat the URL: user info and query may be secret.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::snapshot::{OutboundProxy, ProxyScheme};

/// An absolute URL without user info, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// `https` or `wss`, rather than `http` or `ws`.
    pub(crate) secure: bool,
    /// Lower case; an IPv6 address without its brackets.
    pub(crate) host: Box<str>,
    /// The scheme's default if none was written.
    pub(crate) port: u16,
    /// Without a trailing slash; empty if none.
    pub(crate) path: Box<str>,
}

impl Url {
    /// Parses the base URL of an upstream.
    pub(crate) fn base(text: &str) -> Result<Self, String> {
        Self::parse(text, "a URL starts with `https://` or `http://`")
    }

    /// Parses the base URL of an upstream's WebSockets.
    pub(crate) fn websocket(text: &str) -> Result<Self, String> {
        Self::parse(text, "a WebSocket URL starts with `wss://` or `ws://` (`https://` and `http://` mean the same)")
    }

    fn parse(text: &str, no_scheme: &str) -> Result<Self, String> {
        if text.contains("${") {
            return Err("`${…}` is filled in only in secret fields; write the URL itself".to_owned());
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(no_scheme.to_owned());
        };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return Err(no_scheme.to_owned()),
        };
        if rest.contains(['?', '#']) {
            return Err("a base URL has no query (`?…`) or fragment (`#…`)".to_owned());
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        if authority.contains('@') {
            return Err("a base URL has no user name or password; use `api_key` or `headers.set`".to_owned());
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the path of a URL has only visible ASCII characters; others are written as %XX".to_owned());
        }
        let (host, port) = host_and_port(authority)?;
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, host, port, path: path.trim_end_matches('/').into() })
    }

    /// The `Host` header: the port only where it is not the scheme's own.
    pub(crate) fn authority(&self) -> Box<str> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        let default_port = if self.secure { 443 } else { 80 };
        if self.port == default_port { host.into() } else { format!("{host}:{}", self.port).into() }
    }
}

/// Parses `http://user:password@host:port` or `socks5://…`.
pub(crate) fn outbound_proxy(text: &str) -> Result<OutboundProxy, String> {
    let expected = "expected `http://host:port`, `socks5://host:port` or `socks5h://host:port`";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(expected.to_owned());
    };
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => ProxyScheme::Http,
        "socks5" | "socks5h" => ProxyScheme::Socks5,
        "https" => return Err("a proxy that is itself reached by TLS is not supported; use `http://`".to_owned()),
        _ => return Err(expected.to_owned()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user_info, authority) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    if authority.contains(['/', '?', '#']) {
        return Err(format!("{expected}, and nothing after the port"));
    }
    let (host, Some(port)) = host_and_port(authority)? else {
        return Err("the proxy's port is missing, e.g. `http://proxy.example.com:3128`".to_owned());
    };
    let credential = user_info.map(credential).transpose()?;
    Ok(OutboundProxy { scheme, host, port, credential })
}

/// Checks where something is sent to: `http://` or `https://`, with user info and query if need be.
pub(crate) fn check_address(text: &str) -> Result<(), String> {
    let scheme_and_rest = text
        .split_once("://")
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"));
    let Some((_, rest)) = scheme_and_rest else {
        return Err("a URL here starts with `https://` or `http://`".to_owned());
    };
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a URL has only visible ASCII characters; others are written as %XX".to_owned());
    }
    if rest.contains('#') {
        return Err("a URL here has no fragment (`#…`)".to_owned());
    }
    let authority = rest.find(['/', '?']).map_or(rest, |end| &rest[..end]);
    host_and_port(authority.rsplit_once('@').map_or(authority, |(_, host)| host)).map(drop)
}

/// Splits and checks `host`, `host:port`, `[v6]`, `[v6]:port`.
pub(crate) fn host_and_port(authority: &str) -> Result<(Box<str>, Option<u16>), String> {
    let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, after))) => {
            address.parse::<Ipv6Addr>().map_err(|_| "no IPv6 address stands between the brackets".to_owned())?;
            let port = after.strip_prefix(':');
            if port.is_none() && !after.is_empty() {
                return Err("after `]` comes `:` and the port".to_owned());
            }
            (address, port)
        }
        Some(None) => return Err("the `]` after the IPv6 address is missing".to_owned()),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None => None,
        Some(text) => match text.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err("the port is a number from 1 to 65535".to_owned()),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    if !host.contains(':') {
        check_name(host)?;
    }
    Ok((host.to_ascii_lowercase().into(), port))
}

/// A DNS name or IPv4 address. Underscores are allowed, for container networks use them.
fn check_name(host: &str) -> Result<(), String> {
    if !host.is_ascii() {
        return Err("write a host outside ASCII in its `xn--` form".to_owned());
    }
    let fits = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.len() > 253 || !host.strip_suffix('.').unwrap_or(host).split('.').all(fits) {
        return Err("the host is not a valid name".to_owned());
    }
    let looks_like_address = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if looks_like_address && host.parse::<Ipv4Addr>().is_err() {
        return Err("the host is not a valid IPv4 address".to_owned());
    }
    Ok(())
}

/// User and password of `user:password`, percent-decoded.
fn credential(user_info: &str) -> Result<(Box<str>, Box<str>), String> {
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let decode = |text| percent_decode(text).ok_or_else(|| "user or password has a wrong %XX".to_owned());
    let (user, password) = (decode(user)?, decode(password)?);
    if user.len() > 255 || password.len() > 255 {
        return Err("user and password of a proxy have at most 255 bytes (RFC 1929)".to_owned());
    }
    if user.contains(char::is_control) || password.contains(char::is_control) {
        return Err("user or password of the proxy has a control character".to_owned());
    }
    Ok((user, password))
}

fn percent_decode(text: &str) -> Option<Box<str>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_taken_apart() {
        for (text, secure, host, port, authority, path) in [
            ("https://api.openai.com", true, "api.openai.com", 443, "api.openai.com", ""),
            ("https://api.openai.com/v1/", true, "api.openai.com", 443, "api.openai.com", "/v1"),
            ("http://LocalHost:11434", false, "localhost", 11434, "localhost:11434", ""),
            ("http://[::1]:9/a", false, "::1", 9, "[::1]:9", "/a"),
            ("wss://example.com:443", true, "example.com", 443, "example.com", ""),
            ("http://my_service.internal.", false, "my_service.internal.", 80, "my_service.internal.", ""),
        ] {
            let url = Url::base(text).unwrap();
            assert_eq!((url.secure, &*url.host, url.port, &*url.path), (secure, host, port, path), "{text}");
            assert_eq!(&*url.authority(), authority, "{text}");
        }
    }

    #[test]
    fn a_wrong_base_url_is_refused_without_being_repeated() {
        for text in [
            "api.canary.com",
            "ftp://canary",
            "https://",
            "https:///canary",
            "https://user:canary@host",
            "https://host?key=canary",
            "https://host#canary",
            "https://host:0",
            "https://host:canary",
            "https://ho st",
            "https://host/a b",
            "https://host/\r\ncanary: 1",
            "https://[::1",
            "https://[canary]",
            "https://1.2.3",
            "https://中文.example",
            "https://a..b",
            "https://${CANARY}",
        ] {
            let message = Url::base(text).unwrap_err();
            assert!(!message.to_lowercase().contains("canary"), "{message}");
        }
    }

    #[test]
    fn a_proxy_has_a_scheme_a_port_and_perhaps_a_credential() {
        let proxy = outbound_proxy("http://us%40er:p%3Aw@proxy.example.com:3128/").unwrap();
        assert_eq!((proxy.scheme, &*proxy.host, proxy.port), (ProxyScheme::Http, "proxy.example.com", 3128));
        assert_eq!(proxy.credential, Some(("us@er".into(), "p:w".into())));
        assert_eq!(outbound_proxy("socks5h://10.0.0.1:1080").unwrap().scheme, ProxyScheme::Socks5);
        for text in
            ["proxy:3128", "https://p:1", "http://p", "http://p:1/x", "http://%zz@p:1", "http://%0a@p:1", "ftp://p:1"]
        {
            assert!(outbound_proxy(text).is_err(), "{text}");
        }
    }
}
