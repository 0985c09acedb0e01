//! Who is calling: the peer, or what trusted proxies in front of us say.

use std::net::IpAddr;

use http::header::HeaderMap;
use ipnet::IpNet;

/// The caller's address. Forwarding headers count only where `peer` is trusted; they are read from right to left, and
/// the first address that is not itself a trusted proxy is the caller.
pub(crate) fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let peer = peer.to_canonical();
    if trusted.is_empty() || !is_trusted(peer) {
        return peer;
    }
    let mut nearest = peer;
    let forwarded: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    for value in forwarded.iter().rev() {
        let Ok(text) = value.to_str() else { return nearest };
        for part in text.rsplit(',') {
            let Some(address) = address_of(part.trim()) else { return nearest };
            nearest = address;
            if !is_trusted(address) {
                return address;
            }
        }
    }
    if forwarded.is_empty() {
        let real = headers.get("x-real-ip").and_then(|value| value.to_str().ok()).and_then(address_of);
        return real.unwrap_or(nearest);
    }
    nearest
}

/// An address as proxies write it: bare, with a port, IPv6 in brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(text);
    let parsed = bare.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()));
    parsed.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ip(peer: &str, forwarded: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(value));
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "127.0.0.1/32".parse().unwrap()];
        client_ip(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_header_from_a_stranger_is_not_believed() {
        assert_eq!(ip("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
    }

    #[test]
    fn the_rightmost_address_that_is_not_a_trusted_proxy_is_the_caller() {
        assert_eq!(ip("127.0.0.1", &["6.6.6.6, 198.51.100.1, 10.1.2.3"]), "198.51.100.1");
        assert_eq!(ip("127.0.0.1", &["6.6.6.6", "198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(ip("::ffff:127.0.0.1", &["[2001:db8::1]:99"]), "2001:db8::1");
        assert_eq!(ip("127.0.0.1", &["198.51.100.1, nonsense, 10.0.0.1"]), "10.0.0.1");
        assert_eq!(ip("127.0.0.1", &[]), "127.0.0.1");
    }
}
