//! Listening sockets: bound here, or handed over by a predecessor or a supervisor.
//!
//! Each worker has a socket of its own on the same port (`SO_REUSEPORT`), so the kernel shares connections out. At a
//! hand-over the very same sockets are passed on: a connection that waits in one is not lost.

use std::io;
use std::net::{SocketAddr, TcpListener};

use aiproxy_gateway::server::connection::Port;
use anyhow::Context;
use listenfd::ListenFd;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

/// Connections waiting to be accepted, per socket.
const BACKLOG: i32 = 4096;

/// A bound socket and what it serves.
pub(crate) struct Bound {
    /// The socket.
    pub socket: TcpListener,
    /// Which paths.
    pub port: Port,
}

/// Takes the sockets a predecessor left (systemd's protocol: `LISTEN_FDS`), if there are any.
pub(crate) fn inherited(admin: Option<SocketAddr>) -> anyhow::Result<Vec<Bound>> {
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        let Some(socket) = handed.take_tcp_listener(index).context("a socket that was handed over cannot be used")?
        else {
            continue;
        };
        let is_admin = admin.is_some_and(|admin| socket.local_addr().is_ok_and(|address| address == admin));
        sockets.push(Bound { port: port(is_admin, admin), socket });
    }
    Ok(sockets)
}

/// Binds `count` sockets on each address.
pub(crate) fn bind_all(callers: &[SocketAddr], admin: Option<SocketAddr>, count: usize) -> anyhow::Result<Vec<Bound>> {
    let mut sockets = Vec::new();
    for &address in callers {
        bind_shared(address, count, &mut |socket| sockets.push(Bound { socket, port: port(false, admin) }))?;
    }
    if let Some(address) = admin {
        bind_shared(address, 1, &mut |socket| sockets.push(Bound { socket, port: Port::Admin }))?;
    }
    Ok(sockets)
}

fn port(is_admin: bool, admin: Option<SocketAddr>) -> Port {
    match (is_admin, admin) {
        (true, _) => Port::Admin,
        (false, Some(_)) => Port::Callers,
        (false, None) => Port::Both,
    }
}

fn bind_shared(address: SocketAddr, count: usize, take: &mut dyn FnMut(TcpListener)) -> anyhow::Result<()> {
    // With SO_REUSEPORT a second gateway on the same port would silently get half of the calls: a socket without it
    // finds out whether the port is free.
    let probe = bind_one(address, false).with_context(|| explain(address))?;
    let address = probe.local_addr()?;
    drop(probe);
    for _ in 0..count {
        take(bind_one(address, true).with_context(|| explain(address))?);
    }
    Ok(())
}

fn explain(address: SocketAddr) -> String {
    format!(
        "cannot listen on {address}. Is another program (or another aiproxy) running there? \
         Choose another address with system.listen or --listen"
    )
}

fn bind_one(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(TcpListener::from(socket))
}
