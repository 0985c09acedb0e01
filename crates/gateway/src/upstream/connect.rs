//! Opening a byte stream to an endpoint: name lookup, TCP, outbound proxy, TLS.
//!
//! The caller sets the deadline. Names are looked up for every new connection, so a changed address is followed.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiproxy_config::snapshot::{Endpoint, OutboundProxy, ProxyScheme, Tls};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::Failure;
use super::io::BoxIo;
use super::tls;

/// How long one address may take while others remain to be tried (RFC 8305 §5 suggests 250 ms to race; we take turns).
const ADDRESS_TURN: Duration = Duration::from_secs(3);
/// Largest answer head of an HTTP proxy.
const PROXY_ANSWER_LIMIT: usize = 8 * 1024;

/// A future that yields a connected stream.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = Result<BoxIo, Failure>> + Send + 'a>>;

/// Opens byte streams to endpoints. The real one is [`NetworkDialer`]; tests connect in memory.
pub trait Dial: Send + Sync + 'static {
    /// Opens a stream to `endpoint`, TLS included where it asks for it.
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Dialing<'a>;
}

/// Dials over the network.
#[derive(Default)]
pub struct NetworkDialer {
    /// One TLS client per set of TLS settings, so that sessions are resumed.
    tls_clients: Mutex<HashMap<Tls, Arc<rustls::ClientConfig>>>,
}

impl Dial for NetworkDialer {
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Dialing<'a> {
        Box::pin(self.connect(endpoint))
    }
}

impl NetworkDialer {
    async fn connect(&self, endpoint: &Endpoint) -> Result<BoxIo, Failure> {
        let stream = match &endpoint.proxy {
            None => connect_tcp(&endpoint.host, endpoint.port).await?,
            Some(proxy) => connect_through(proxy, endpoint).await?,
        };
        if !endpoint.https {
            return Ok(Box::new(stream));
        }
        let client = self.tls_client(&endpoint.tls)?;
        let name = ServerName::try_from(endpoint.host.to_string())
            .map_err(|error| Failure::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let stream = TlsConnector::from(client).connect(name, stream).await.map_err(Failure::Tls)?;
        Ok(Box::new(stream))
    }

    fn tls_client(&self, settings: &Tls) -> Result<Arc<rustls::ClientConfig>, Failure> {
        let mut clients = self.tls_clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(settings) {
            return Ok(client.clone());
        }
        let client = Arc::new(tls::client_config(settings).map_err(Failure::Tls)?);
        clients.insert(settings.clone(), client.clone());
        Ok(client)
    }
}

async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses: Vec<_> = match host.parse::<IpAddr>() {
        Ok(address) => vec![(address, port).into()],
        Err(_) => tokio::net::lookup_host((host, port)).await.map_err(Failure::Lookup)?.collect(),
    };
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "no address for this name");
    for (index, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        let connected = if index + 1 < addresses.len() {
            tokio::time::timeout(ADDRESS_TURN, connecting).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
        } else {
            connecting.await
        };
        match connected {
            Ok(stream) => {
                // Small writes must leave at once; a stream that cannot be set so still works.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            Err(error) => last_error = error,
        }
    }
    if addresses.is_empty() { Err(Failure::Lookup(last_error)) } else { Err(Failure::Refused(last_error)) }
}

async fn connect_through(proxy: &OutboundProxy, endpoint: &Endpoint) -> Result<TcpStream, Failure> {
    let mut stream = connect_tcp(&proxy.host, proxy.port)
        .await
        .map_err(|failure| Failure::Proxy(format!("cannot be reached ({failure})")))?;
    let opened = match proxy.scheme {
        ProxyScheme::Http => open_with_connect(&mut stream, proxy, endpoint).await,
        ProxyScheme::Socks5 => open_with_socks(&mut stream, proxy, endpoint).await,
    };
    match opened {
        Ok(()) => Ok(stream),
        Err(error) => Err(Failure::Proxy(error.to_string())),
    }
}

/// HTTP CONNECT (RFC 9110 §9.3.6).
async fn open_with_connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &OutboundProxy,
    endpoint: &Endpoint,
) -> io::Result<()> {
    let host = if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.to_string() };
    let target = format!("{host}:{}", endpoint.port);
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some((user, password)) = &proxy.credential {
        let credential = base64(format!("{user}:{password}").as_bytes());
        head.push_str(&format!("Proxy-Authorization: Basic {credential}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    // Byte by byte: what follows the head belongs to the tunnel and must stay in the socket.
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() == PROXY_ANSWER_LIMIT {
            return Err(io::Error::other("endless answer to CONNECT"));
        }
        answer.push(stream.read_u8().await?);
    }
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or("?");
    match (answer.starts_with(b"HTTP/1."), status) {
        (true, "200") => Ok(()),
        (true, status) => Err(io::Error::other(format!("answered CONNECT with status {status}"))),
        (false, _) => Err(io::Error::other("does not speak HTTP")),
    }
}

/// SOCKS 5 (RFC 1928), with user and password (RFC 1929) where given. The proxy looks the name up.
async fn open_with_socks<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &OutboundProxy,
    endpoint: &Endpoint,
) -> io::Result<()> {
    let method = if proxy.credential.is_some() { 2 } else { 0 };
    stream.write_all(&[5, 1, method]).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    if chosen != [5, method] {
        return Err(io::Error::other("SOCKS proxy refused the way of authentication"));
    }
    if let Some((user, password)) = &proxy.credential {
        let mut login = vec![1];
        for part in [user, password] {
            let length = u8::try_from(part.len()).map_err(|_| io::Error::other("SOCKS user or password too long"))?;
            login.push(length);
            login.extend_from_slice(part.as_bytes());
        }
        stream.write_all(&login).await?;
        let mut verdict = [0; 2];
        stream.read_exact(&mut verdict).await?;
        if verdict[1] != 0 {
            return Err(io::Error::other("SOCKS proxy refused user or password"));
        }
    }
    let mut request = vec![5, 1, 0];
    match endpoint.host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
        Err(_) => {
            let length = u8::try_from(endpoint.host.len()).map_err(|_| io::Error::other("host name too long"))?;
            request.extend_from_slice(&[3, length]);
            request.extend_from_slice(endpoint.host.as_bytes());
        }
    }
    request.extend_from_slice(&endpoint.port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await?;
    if reply[1] != 0 {
        return Err(io::Error::other(format!("SOCKS proxy refused the connection (code {})", reply[1])));
    }
    let bound_length = match reply[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(io::Error::other("SOCKS proxy answered nonsense")),
    };
    let mut bound = vec![0; bound_length + 2];
    stream.read_exact(&mut bound).await?;
    Ok(())
}

/// Standard base64 with padding (RFC 4648 §4); the only use is one header, not worth a dependency.
fn base64(input: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut output = String::with_capacity(input.len().div_ceil(3) * 4);
    for group in input.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, index| bits << 8 | u32::from(group.get(index).copied().unwrap_or(0)));
        for index in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * index) & 63) as usize];
            output.push(if index <= group.len() { digit as char } else { '=' });
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_the_vectors_of_rfc_4648() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    fn endpoint() -> Endpoint {
        Endpoint {
            https: false,
            host: "up.test".into(),
            port: 80,
            authority: "up.test".into(),
            path: "".into(),
            weight: 1,
            proxy: None,
            tls: Tls::default(),
            pool_key: 0,
        }
    }

    fn proxy(scheme: ProxyScheme) -> OutboundProxy {
        let credential = Some(("user".into(), "word".into()));
        OutboundProxy { scheme, host: "proxy.test".into(), port: 3128, credential }
    }

    #[tokio::test]
    async fn connect_sends_the_target_and_leaves_what_follows_in_the_stream() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(b"HTTP/1.1 200 Connection established\r\nx: y\r\n\r\nfirst bytes").await.unwrap();
        open_with_connect(&mut ours, &proxy(ProxyScheme::Http), &endpoint()).await.unwrap();
        let mut request = vec![0; 1024];
        let length = theirs.read(&mut request).await.unwrap();
        let expected =
            "CONNECT up.test:80 HTTP/1.1\r\nHost: up.test:80\r\nProxy-Authorization: Basic dXNlcjp3b3Jk\r\n\r\n";
        assert_eq!(std::str::from_utf8(&request[..length]).unwrap(), expected);
        let mut rest = [0; 11];
        ours.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"first bytes");
    }

    #[tokio::test]
    async fn a_proxy_that_refuses_is_named() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
        let error = open_with_connect(&mut ours, &proxy(ProxyScheme::Http), &endpoint()).await.unwrap_err();
        assert_eq!(error.to_string(), "answered CONNECT with status 407");
    }

    #[tokio::test]
    async fn socks_logs_in_and_lets_the_proxy_look_the_name_up() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        theirs.write_all(&[5, 2, 1, 0, 5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).await.unwrap();
        open_with_socks(&mut ours, &proxy(ProxyScheme::Socks5), &endpoint()).await.unwrap();
        let mut request = vec![0; 1024];
        let length = theirs.read(&mut request).await.unwrap();
        assert_eq!(&request[..length], b"\x05\x01\x02\x01\x04user\x04word\x05\x01\x00\x03\x07up.test\x00\x50");
    }
}
