//! One client connection: HTTP/1.1 or HTTP/2, served until it ends or the worker drains.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aiproxy_core::tasks::Tasks;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::guard::{ActiveCall, ConnectionState, Guard, Protocol};
use super::local::{self, Local};
use crate::calls::cors;
use crate::egress::GatewayBody;
use crate::flow;
use crate::refusal::Refusal;
use crate::state::Worker;

/// Largest request head, and the largest read of a body.
const BUFFER_BYTES: usize = 64 * 1024;
/// Most header lines of a request.
const HEADERS_LIMIT: usize = 100;
/// HTTP/2: calls at once on one connection.
const STREAMS_LIMIT: u32 = 1_000;
/// HTTP/2: a peer that does not answer a ping in time is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long a draining connection may still bring a request.
const DRAIN_QUIET: Duration = Duration::from_secs(1);

/// Which paths a port serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Callers and administrators on one port.
    Both,
    /// Callers only; the admin paths have a port of their own.
    Callers,
    /// Administrators only.
    Admin,
}

/// Serves `stream` until it ends. `overloaded`: every call is refused, health checks are not.
pub async fn serve_connection<S>(
    worker: Arc<Worker>,
    tasks: Tasks,
    stream: S,
    peer: SocketAddr,
    port: Port,
    overloaded: bool,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let timeouts = worker.gateway.snapshot().system.client_timeouts;
    let state = Arc::new(ConnectionState::default());
    let mut guard = Guard::new(stream, state.clone(), timeouts);
    let Ok(protocol) = guard.sniff().await else { return };
    let io = TokioIo::new(guard);
    let service = service_fn(move |request| {
        let call = state.begin();
        let (worker, state) = (worker.clone(), state.clone());
        // hyper keeps the room of this future for the life of the connection: a stream must not pay for the call's
        // working state, so that lives in a box of its own and goes with the call.
        Box::pin(async move {
            let gateway = worker.gateway.clone();
            let version = request.version();
            let is_for_pages = cors::is_for_pages(request.method(), request.uri().path());
            let mut response = answer(worker, peer, port, overloaded, request, state).await;
            if is_for_pages {
                cors::open(response.headers_mut());
            }
            let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if gateway.is_draining() && version <= http::Version::HTTP_11 && !is_upgrade {
                response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| CallBody { body, _call: call }))
        })
    });
    match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                // The guard notices a client that has gone; hyper must not read ahead for that.
                .half_close(true)
                .max_buf_size(BUFFER_BYTES)
                .max_headers(HEADERS_LIMIT);
            drive(builder.serve_connection(io, service).with_upgrades(), &tasks, |connection| {
                connection.graceful_shutdown();
            })
            .await;
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(TaskExecutor(tasks.clone()));
            builder
                .timer(TokioTimer::new())
                .max_header_list_size(BUFFER_BYTES as u32)
                .max_concurrent_streams(STREAMS_LIMIT)
                .keep_alive_interval(PING_INTERVAL)
                // WebSocket over HTTP/2 (RFC 8441).
                .enable_connect_protocol();
            let connection = builder.serve_connection(io, service);
            Box::pin(drive(connection, &tasks, |connection| connection.graceful_shutdown())).await;
        }
    }
}

/// Serves until the connection ends by itself, or has drained after `stop` was called.
async fn drive<C: Future>(connection: C, tasks: &Tasks, stop: impl FnOnce(Pin<&mut C>)) {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A connection that breaks is the client's affair; what was lost with it is in the records of its calls.
        _ = &mut connection => return,
        () = tasks.stopped() => {}
    }
    // A request may be on its way on a connection that looks idle; closing now would lose it. While draining, every
    // answer says `Connection: close`, so clients leave by themselves; only those that stay silent are closed.
    tokio::select! {
        _ = &mut connection => return,
        () = tokio::time::sleep(DRAIN_QUIET) => stop(connection.as_mut()),
    }
    connection.await;
}

async fn answer(
    worker: Arc<Worker>,
    peer: SocketAddr,
    port: Port,
    overloaded: bool,
    request: Request<Incoming>,
    state: Arc<ConnectionState>,
) -> Response<GatewayBody> {
    match local::answer(&worker.gateway, port, peer.ip(), &request) {
        Some(Local::Answer(response)) => return response,
        // Boxed, for it is rare: a future takes the memory of its longest way.
        Some(Local::Admin(admin)) => return Box::pin(local::ask_admin(admin, request)).await,
        None => {}
    }
    if overloaded {
        let dialect = flow::dialect_of(request.method(), request.uri().path());
        return local::refuse(&Refusal::overloaded(), dialect);
    }
    flow::serve(worker, peer.ip(), request, state).await
}

/// A response body that keeps its call counted as active on the connection.
struct CallBody {
    body: GatewayBody,
    _call: ActiveCall,
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs HTTP/2 streams as tracked tasks.
#[derive(Clone)]
struct TaskExecutor(Tasks);

impl<F> Executor<F> for TaskExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(async move {
            future.await;
        });
    }
}
