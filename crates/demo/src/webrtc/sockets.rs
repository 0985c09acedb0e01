//! The UDP sockets of one call: one on 127.0.0.1, and one more where the upstream listens if that is elsewhere.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;

use str0m::net::Transmit;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;

/// An address of the documentation range (RFC 5737): tells which way leads out of this machine. Nothing is sent there.
const SOMEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// Bound sockets, each with the address that it is bound to.
#[derive(Debug)]
pub(super) struct Sockets(Vec<(UdpSocket, SocketAddr)>);

/// Where a datagram came from and arrived, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) length: usize,
}

impl Sockets {
    /// Binds free ports for a server that listens on `address`.
    ///
    /// # Errors
    ///
    /// When 127.0.0.1 has no port left, or outside of a tokio runtime.
    pub(super) fn bind(address: IpAddr) -> io::Result<Self> {
        Handle::try_current().map_err(io::Error::other)?;
        let mut sockets = vec![bind(Ipv4Addr::LOCALHOST.into())?];
        // A peer on this machine gets through without the second one, so that its failure is none of the call's.
        sockets.extend(elsewhere(address).and_then(|address| bind(address).ok()));
        Ok(Self(sockets))
    }

    /// What a peer may send to.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(_, address)| *address)
    }

    /// Waits for the next datagram on any socket; what does not fit into `buffer` is cut off.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> Arrival {
        poll_fn(|context| {
            for (socket, destination) in &self.0 {
                let mut read = ReadBuf::new(buffer);
                // An error is an ICMP answer to something sent earlier (the peer's port is closed): ICE notices by itself.
                while let Poll::Ready(received) = socket.poll_recv_from(context, &mut read) {
                    if let Ok(source) = received {
                        let length = read.filled().len();
                        return Poll::Ready(Arrival { source, destination: *destination, length });
                    }
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Sends a datagram from the socket that it names. It may get lost here as anywhere on its way.
    pub(super) fn send(&self, datagram: &Transmit) {
        let from = self.0.iter().find(|(_, address)| *address == datagram.source);
        if let Some((socket, _)) = from {
            socket.try_send_to(&datagram.contents, datagram.destination).ok();
        }
    }
}

fn bind(address: IpAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = std::net::UdpSocket::bind((address, 0))?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok((UdpSocket::from_std(socket)?, address))
}

/// The second address of a server that listens on `address`: none on loopback, the way out for "any address".
fn elsewhere(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_unspecified() => way_out(),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some(Ipv6Addr::LOCALHOST.into()),
        address if address.is_loopback() => None,
        address => Some(address),
    }
}

/// The address of this machine that others see.
fn way_out() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SOMEWHERE).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_socket_is_for_those_who_are_elsewhere() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for (listens, more) in [
            ("127.0.0.1", None),
            ("127.0.0.2", None),
            ("::ffff:127.0.0.1", None),
            ("::1", Some("::1")),
            ("10.1.2.3", Some("10.1.2.3")),
            ("::ffff:10.1.2.3", Some("10.1.2.3")),
        ] {
            assert_eq!(elsewhere(address(listens)), more.map(address), "{listens}");
        }
        assert!(elsewhere(address("0.0.0.0")).is_none_or(|address| !address.is_loopback()));
    }

    #[test]
    fn there_are_no_sockets_without_a_runtime() {
        assert!(Sockets::bind(Ipv4Addr::LOCALHOST.into()).is_err());
    }

    async fn within<T>(wait: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap()
    }

    #[tokio::test]
    async fn datagrams_arrive_on_any_socket_and_a_closed_port_disturbs_nobody() {
        let sockets =
            Sockets(vec![bind(Ipv4Addr::LOCALHOST.into()).unwrap(), bind(Ipv4Addr::LOCALHOST.into()).unwrap()]);
        let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let addresses: Vec<_> = sockets.addresses().collect();
        for (socket, _) in &sockets.0 {
            within(socket.writable()).await.unwrap();
        }
        for (to, from) in [(gone, addresses[0]), (other.local_addr().unwrap(), addresses[1])] {
            let contents = str0m::net::DatagramSend::from(b"hello".to_vec());
            sockets.send(&Transmit { proto: str0m::net::Protocol::Udp, source: from, destination: to, contents });
        }
        let mut buffer = [0; 16];
        assert_eq!(within(other.recv_from(&mut buffer)).await.unwrap(), (5, addresses[1]));
        for address in addresses {
            other.send_to(b"back", address).await.unwrap();
            let arrival = within(sockets.receive(&mut buffer)).await;
            let source = other.local_addr().unwrap();
            assert_eq!(arrival, Arrival { source, destination: address, length: 4 });
        }
    }
}
