//! One worker: one core, one current-thread runtime, its own listeners and its own upstream pool.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use aiproxy_core::tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::connection::{Port, serve_connection};
use crate::sessions;
use crate::state::{Gateway, Worker};

/// How often idle upstream connections are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Beyond this many times `max_connections` a connection is closed without a word.
const HARD_LIMIT_FACTOR: usize = 2;

/// A listening socket and what it serves.
pub struct Listener {
    /// The socket, bound and listening.
    pub socket: StdListener,
    /// Which paths.
    pub port: Port,
    /// TLS, if the port has it.
    pub tls: Option<TlsAcceptor>,
}

/// A running worker.
pub struct WorkerHandle {
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl WorkerHandle {
    /// Tells the worker to stop accepting and to end when its calls have, or when `system.shutdown_timeout` is over.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the thread.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a worker ended with a panic");
        }
    }
}

/// Starts worker number `index` on a thread of its own.
pub fn start(gateway: Arc<Gateway>, index: usize, listeners: Vec<Listener>) -> io::Result<WorkerHandle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let thread = std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || runtime.block_on(run(Worker::new(gateway), listeners, stopped)))?;
    Ok(WorkerHandle { stop, thread })
}

async fn run(worker: Arc<Worker>, listeners: Vec<Listener>, stop: CancellationToken) {
    let tasks = worker.tasks.clone();
    let accepting = Tasks::new();
    for listener in listeners {
        match TcpListener::from_std(listener.socket) {
            Ok(socket) => {
                let (worker, tasks) = (worker.clone(), tasks.clone());
                accepting.spawn(accept_loop(worker, accepting.clone(), tasks, socket, listener.port, listener.tls));
            }
            Err(error) => tracing::error!(%error, "a listening socket cannot be used"),
        }
    }
    tokio::select! {
        () = look_after_sessions(&worker) => {}
        () = run_until_stopped(&worker, &accepting, &tasks, &stop) => {}
    }
}

/// Looks at the open sockets and calls of `worker` for ever, and tells those that may not go on. A worker that was started
/// with [`start`] does so by itself.
pub async fn look_after_sessions(worker: &Worker) {
    sessions::look_after(worker).await;
}

async fn run_until_stopped(worker: &Worker, accepting: &Tasks, tasks: &Tasks, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(SWEEP_INTERVAL) => worker.pool.sweep(),
        }
    }
    accepting.stop();
    accepting.finished_within(SWEEP_INTERVAL).await;
    tasks.stop();
    let deadline = worker.gateway.snapshot().system.shutdown_timeout;
    if !tasks.finished_within(deadline).await {
        tracing::warn!(calls = worker.gateway.calls_in_flight(), "the grace period is over; cutting what still runs");
        worker.gateway.cut_off();
    }
}

async fn accept_loop(
    worker: Arc<Worker>,
    accepting: Tasks,
    tasks: Tasks,
    socket: TcpListener,
    port: Port,
    tls: Option<TlsAcceptor>,
) {
    let gateway = worker.gateway.clone();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = accepting.stopped() => return,
        };
        let limit = gateway.snapshot().system.max_connections;
        let (counted, number) = gateway.count_connection();
        if number > limit.saturating_mul(HARD_LIMIT_FACTOR) {
            continue;
        }
        let overloaded = number > limit;
        stream.set_nodelay(true).ok();
        let (worker, connection_tasks) = (worker.clone(), tasks.clone());
        // Two kinds of tasks, not one with two ways: a task takes the memory of its longest way.
        match tls.clone() {
            None => tasks.spawn(async move {
                let _counted = counted;
                serve_connection(worker, connection_tasks, stream, peer, port, overloaded).await;
            }),
            Some(tls) => tasks.spawn(async move {
                let _counted = counted;
                let deadline = worker.gateway.snapshot().system.client_timeouts.headers;
                let Some(stream) = handshake(tls, stream, deadline).await else { return };
                serve_connection(worker, connection_tasks, stream, peer, port, overloaded).await;
            }),
        }
    }
}

async fn handshake(
    tls: TlsAcceptor,
    stream: TcpStream,
    deadline: Duration,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let deadline = if deadline.is_zero() { Duration::from_secs(60) } else { deadline };
    match tokio::time::timeout(deadline, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}
