//! Handing the listening sockets to a new process (SIGUSR2) without a refused connection.
//!
//! The new process is this program started again with the same arguments and the same sockets. It says that it is
//! ready in systemd's way (a datagram `READY=1` to `NOTIFY_SOCKET`); then the old one drains. If the new one ends or
//! stays silent, the old one goes on as if nothing had happened.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use command_fds::{CommandFdExt, FdMapping};

/// How long a new process may take until it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a starting process is looked after.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// First file descriptor of handed-over sockets, as systemd has it.
const FIRST_DESCRIPTOR: i32 = 3;

/// Starts the successor and waits until it is ready. Blocks; not for a worker.
pub(crate) fn hand_over(sockets: &[TcpListener], data_dir: &Path) -> anyhow::Result<u32> {
    let program = program()?;
    let socket_path = NotifyPath(data_dir.join(format!("handover-{}.sock", std::process::id())));
    std::fs::create_dir_all(data_dir)?;
    let ready = UnixDatagram::bind(&socket_path.0).context("no socket for the successor's word can be made")?;
    ready.set_read_timeout(Some(POLL_INTERVAL))?;
    let mut mappings = Vec::with_capacity(sockets.len());
    for (socket, child_fd) in sockets.iter().zip(FIRST_DESCRIPTOR..) {
        mappings.push(FdMapping { parent_fd: OwnedFd::from(socket.try_clone()?), child_fd });
    }
    let mut command = Command::new(&program);
    command
        .args(arguments())
        .env("LISTEN_FDS", sockets.len().to_string())
        .env_remove("LISTEN_PID")
        .env("NOTIFY_SOCKET", &socket_path.0)
        .fd_mappings(mappings)
        .context("the sockets cannot be passed on")?;
    let mut child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
    let started = aiproxy_core::time::now();
    let mut message = [0; 64];
    loop {
        if let Ok(length) = ready.recv(&mut message)
            && message[..length].starts_with(b"READY=1")
        {
            return Ok(child.id());
        }
        if let Some(status) = child.try_wait()? {
            bail!("the new process ended ({status}) before it was ready; its messages are above");
        }
        if started.elapsed() > READY_TIMEOUT {
            child.kill().ok();
            child.wait().ok();
            bail!("the new process was not ready after {} s", READY_TIMEOUT.as_secs());
        }
    }
}

/// Tells whoever started this process that it is ready.
pub(crate) fn tell_ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told = UnixDatagram::unbound().and_then(|socket| socket.send_to(b"READY=1", PathBuf::from(path)));
    if let Err(error) = told {
        tracing::warn!(%error, "NOTIFY_SOCKET could not be told that the gateway is ready");
    }
}

fn arguments() -> impl Iterator<Item = std::ffi::OsString> {
    std::env::args_os().skip(1)
}

/// The program on disk, which an upgrade has replaced under the same name.
fn program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?;
    // Linux marks a file that was replaced while running.
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}

/// A socket file that is removed when it is no longer needed.
struct NotifyPath(PathBuf);

impl Drop for NotifyPath {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}
