//! The socket side: accept, read a bounded body, answer or switch to the WebSocket protocol, stop when told.

use std::convert::Infallible;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aiproxy_core::tasks::Tasks;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::body::ReplyBody;
use crate::reply::Delay;
use crate::upstream::{DemoUpstream, Options};
use crate::websocket::{Conversation, Handshake, converse};

const LARGEST_BODY: usize = 64 * 1024 * 1024;
/// How long running calls may still take after the stop.
const GRACE: Duration = Duration::from_secs(1);
/// How long a connection may take to switch protocols, and how long one is kept that switched to the wrong one.
const SWITCH: Duration = Duration::from_secs(10);
/// The wait after a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves the demo upstream on `listener` until `stop` resolves; running calls then get one second to finish.
pub async fn serve(listener: TcpListener, options: Options, stop: impl Future) {
    let tasks = Tasks::new();
    let address = listener.local_addr().map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip());
    let upstream = Arc::new(DemoUpstream::listening(options, tasks.clone(), address));
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => tasks.spawn(connection(stream, upstream.clone(), tasks.clone())),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    tasks.stop();
    tasks.finished_within(GRACE * 2).await;
}

/// Serves one connection. Errors are the caller's doing (or `demo-break`'s) and need no word.
async fn connection(stream: TcpStream, upstream: Arc<DemoUpstream>, tasks: Tasks) {
    stream.set_nodelay(true).ok();
    let sockets = tasks.clone();
    let service = service_fn(move |request| answer(upstream.clone(), request, sockets.clone()));
    let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection.with_upgrades());
    tokio::select! {
        ended = &mut connection => return drop(ended),
        () = tasks.stopped() => connection.as_mut().graceful_shutdown(),
    }
    tokio::time::timeout(GRACE, connection).await.ok();
}

async fn answer(
    upstream: Arc<DemoUpstream>,
    mut request: Request<Incoming>,
    tasks: Tasks,
) -> Result<Response<ReplyBody>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let pace = upstream.options().pace;
    match upstream.shake_hands(&parts) {
        None => {}
        Some(Handshake::Refused(reply)) => return Ok(reply.into_response(pace)),
        Some(Handshake::Accepted { headers, delay, conversation }) => {
            hold_back(delay).await;
            let sockets = tasks.clone();
            tasks.spawn(switch(upgrade, conversation, pace, sockets));
            return Ok(switching(headers));
        }
    }
    let reply = match Limited::new(body, LARGEST_BODY).collect().await {
        Ok(body) => upstream.handle(&parts, &body.to_bytes()),
        Err(_) => upstream.refuse_too_large(&parts),
    };
    hold_back(reply.delay()).await;
    Ok(reply.into_response(pace))
}

async fn hold_back(delay: Delay) {
    match delay {
        Delay::None => {}
        Delay::For(time) => tokio::time::sleep(time).await,
        Delay::Forever => std::future::pending().await,
    }
}

/// The 101 with these headers.
fn switching(headers: HeaderMap) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::new(Vec::new(), None, Duration::ZERO));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

/// Converses once the 101 has left. A connection that switched to another protocol is merely kept for a while.
async fn switch(upgrade: OnUpgrade, conversation: Option<Conversation>, pace: Duration, tasks: Tasks) {
    let Ok(Ok(upgraded)) = tokio::time::timeout(SWITCH, upgrade).await else { return };
    match conversation {
        Some(conversation) => converse(upgraded, conversation, pace, tasks).await,
        None => {
            let mut stream = TokioIo::new(upgraded);
            let mut scrap = [0; 64];
            tokio::select! {
                () = async { while stream.read(&mut scrap).await.is_ok_and(|count| count > 0) {} } => {}
                () = tokio::time::sleep(SWITCH) => {}
                () = tasks.stopped() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::KEY;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    fn request(model: &str, stream: bool) -> String {
        let body =
            serde_json::json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
        let body = body.to_string();
        let length = body.len();
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: demo\r\nauthorization: Bearer {KEY}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    }

    /// Reads until `end` has arrived; fails if the connection closes before.
    async fn read_until(socket: &mut TcpStream, end: &str) -> String {
        let mut text = String::new();
        while !text.contains(end) {
            let mut buffer = [0; 4096];
            let count = socket.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "closed after {text}");
            text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn it_keeps_connections_alive_breaks_them_on_purpose_and_stops() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let tasks = Tasks::new();
        let options = Options { api_key: KEY.to_owned(), pace: Duration::from_millis(1) };
        tasks.spawn(serve(listener, options, stopped));

        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request("demo-chat", false).as_bytes()).await.unwrap();
        let whole = read_until(&mut socket, "}}").await;
        assert!(whole.starts_with("HTTP/1.1 200 OK") && whole.contains("content-length: "), "{whole}");
        socket.write_all(request("demo-chat", true).as_bytes()).await.unwrap();
        let stream = read_until(&mut socket, "0\r\n\r\n").await;
        assert!(stream.contains("transfer-encoding: chunked") && stream.contains("data: [DONE]"), "{stream}");

        for streamed in [true, false] {
            let mut broken = TcpStream::connect(address).await.unwrap();
            broken.write_all(request("demo-break", streamed).as_bytes()).await.unwrap();
            let mut text = String::new();
            broken.read_to_string(&mut text).await.unwrap();
            assert!(text.contains("chatcmpl-") && !text.contains("[DONE]") && !text.ends_with("0\r\n\r\n"), "{text}");
        }

        let mut hanging = TcpStream::connect(address).await.unwrap();
        hanging.write_all(request("demo-hang", false).as_bytes()).await.unwrap();
        stop.send(()).unwrap();
        tasks.stop();
        assert!(tasks.finished_within(GRACE * 4).await);
        assert_eq!(hanging.read(&mut [0; 16]).await.unwrap_or(0), 0);
    }
}
