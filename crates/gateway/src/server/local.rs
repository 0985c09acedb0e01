//! Paths the gateway answers itself: health and readiness. Administrators' requests are handed on from here, once their
//! credential was looked at.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aiproxy_config::key_digest;
use aiproxy_core::id::RecordId;
use aiproxy_core::time;
use aiproxy_llm::dialect::Dialect;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use serde_json::json;
use tokio::sync::mpsc;

use super::connection::Port;
use crate::calls::cors;
use crate::channel_status;
use crate::egress::GatewayBody;
use crate::refusal::Refusal;
use crate::state::Gateway;

/// What becomes of a request whose path is never proxied.
pub enum Local {
    /// This is the answer.
    Answer(Response<GatewayBody>),
    /// An administrator asks for something that the control plane knows.
    Admin(Arc<dyn AdminPaths>),
}

/// Answers administrators, off the data path. The credential was looked at before.
pub trait AdminPaths: Send + Sync + 'static {
    /// The answer to `request`. May take its time; does its work elsewhere.
    fn answer(&self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = AdminAnswer> + Send>>;
}

/// An answer whose body comes piece by piece.
pub type AdminAnswer = Response<mpsc::Receiver<io::Result<Bytes>>>;

/// What is done with a path that is never proxied; `None` for all others.
pub fn answer<B>(gateway: &Gateway, port: Port, peer: IpAddr, request: &Request<B>) -> Option<Local> {
    match answer_here(gateway, port, peer, request)? {
        Ok(response) => Some(Local::Answer(response)),
        Err(NotHere) => Some(match gateway.admin_paths() {
            Some(admin) => Local::Admin(admin),
            None => Local::Answer(refuse(&Refusal::no_route("This admin path is not known."), Dialect::Openai)),
        }),
    }
}

/// Hands an administrator's request on. Its body is small: the largest is a config.
pub async fn ask_admin<B>(admin: Arc<dyn AdminPaths>, request: Request<B>) -> Response<GatewayBody>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    const LONGEST: usize = 16 << 20;
    const PATIENCE: Duration = Duration::from_secs(30);
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(PATIENCE, Limited::new(body, LONGEST).collect()).await;
    let Ok(Ok(body)) = read else {
        return refuse(
            &Refusal::invalid_request("The request body is too large, too slow or broken."),
            Dialect::Openai,
        );
    };
    let response = admin.answer(Request::from_parts(parts, body.to_bytes())).await;
    response.map(GatewayBody::Streamed)
}

/// Not one of the paths that are answered here.
struct NotHere;

fn answer_here<B>(
    gateway: &Gateway,
    port: Port,
    peer: IpAddr,
    request: &Request<B>,
) -> Option<Result<Response<GatewayBody>, NotHere>> {
    let path = request.uri().path();
    match path {
        "/health" => return Some(Ok(reply(StatusCode::OK, &json!({ "status": "ok" })))),
        "/ready" => return Some(Ok(ready(gateway))),
        "/favicon.ico" => return Some(Ok(empty(StatusCode::NO_CONTENT))),
        _ => {}
    }
    let asks_for_socket = request.extensions().get::<hyper::ext::Protocol>().is_some();
    if (*request.method() == Method::CONNECT && !asks_for_socket) || !path.starts_with('/') {
        let message = "The gateway is not a forward proxy. Call it as the base URL of your SDK, with a path.";
        return Some(Ok(refuse(&Refusal::invalid_request(message), Dialect::Openai)));
    }
    if is_relay(path) && port != Port::Admin {
        let refusal = Refusal::no_route("Relay tokens are not part of this version.");
        return Some(Ok(refuse(&refusal, Dialect::Openai)));
    }
    match (port, is_admin(path)) {
        (Port::Both | Port::Admin, true) => Some(admin(gateway, peer, request)),
        (Port::Callers, true) => Some(Ok(refuse(
            &Refusal::no_route("This path is served on the admin port (system.admin.listen)."),
            Dialect::Openai,
        ))),
        (Port::Admin, false) => Some(Ok(refuse(&Refusal::no_route("This is the admin port."), Dialect::Openai))),
        (Port::Both | Port::Callers, false) => cors::preflight(request).map(Ok),
    }
}

/// `refusal` as a response that belongs to no record.
pub fn refuse(refusal: &Refusal, dialect: Dialect) -> Response<GatewayBody> {
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let id = RecordId::new(time::unix_ms(), random);
    let (headers, body) = refusal.head_and_body(dialect, id.encode(&mut [0; 36]));
    let mut response = Response::new(GatewayBody::fixed(body, None));
    *response.status_mut() = refusal.status;
    *response.headers_mut() = headers;
    response
}

/// Exact names only: `/statsX` is a caller's path.
fn is_admin(path: &str) -> bool {
    matches!(path, "/stats" | "/dashboard" | "/metrics") || path == "/admin" || path.starts_with("/admin/")
}

fn is_relay(path: &str) -> bool {
    path == "/relayapi" || path.starts_with("/relayapi/") || path.starts_with("/relay/")
}

fn ready(gateway: &Gateway) -> Response<GatewayBody> {
    if gateway.is_draining() {
        let refusal = Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "The gateway is shutting down. Use another instance.",
        );
        return refuse(&refusal.retry_after(1), Dialect::Openai);
    }
    // A config file that broke after the start does not make the gateway unready: the last good one is served.
    let config = if gateway.config_problem().is_some() { "last good" } else { "current" };
    // Neither does a ledger that has to wait for its disk or database: calls are served and their records kept.
    let ledger: Vec<_> = gateway.sink().problems().into_iter().map(|problem| problem.what).collect();
    reply(StatusCode::OK, &json!({ "status": "ready", "config": config, "ledger": ledger }))
}

/// Nothing under an admin path answers without the admin credential.
fn admin<B>(gateway: &Gateway, peer: IpAddr, request: &Request<B>) -> Result<Response<GatewayBody>, NotHere> {
    if is_open_to(gateway, peer, request) {
        return Err(NotHere);
    }
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token
        .and_then(|value| value.trim().split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let admitted = token.is_some_and(|(_, token)| gateway.is_admin(&key_digest(token.trim())));
    if !admitted {
        let message = "Missing or invalid admin credential. Send 'Authorization: Bearer <admin token>'.";
        let mut response =
            refuse(&Refusal::new(StatusCode::UNAUTHORIZED, "invalid_credential", message), Dialect::Openai);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return Ok(response);
    }
    if request.uri().path() == "/admin/api/v1/status" && request.method() == Method::GET {
        return Ok(reply(StatusCode::OK, &status(gateway)));
    }
    Err(NotHere)
}

/// Whether the local machine may read this without a credential (`open_stats: loopback`). A request that somebody
/// passed on is not one of the local machine, wherever it comes from.
fn is_open_to<B>(gateway: &Gateway, peer: IpAddr, request: &Request<B>) -> bool {
    let headers = request.headers();
    let is_passed_on =
        ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name));
    request.uri().path() == "/stats"
        && request.method() == Method::GET
        && peer.to_canonical().is_loopback()
        && !is_passed_on
        && gateway.snapshot().system.open_stats
}

fn status(gateway: &Gateway) -> serde_json::Value {
    let snapshot = gateway.snapshot();
    let denials = gateway.admission.denials();
    let problems: Vec<_> = gateway.sink().problems().into_iter().map(|problem| problem.detail).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": gateway.started().elapsed().as_secs(),
        "draining": gateway.is_draining(),
        "config": {
            "reloads": gateway.reloads(),
            "problem": gateway.config_problem().map(|problem| problem.to_string()),
        },
        "ledger": { "problems": problems },
        "connections": gateway.connections(),
        "calls_in_flight": gateway.calls_in_flight(),
        "users": snapshot.users.len(),
        "proxy_keys": snapshot.keys.len(),
        "channels": channel_status::channels(&snapshot, gateway.now_ms()),
        "rate_limited": {
            "global": denials.global,
            "ip": denials.ip,
            "bad_credentials": denials.bad_credentials,
            "addresses_held": gateway.admission.held_addresses(),
            "addresses_blocked_so_far": gateway.admission.blocks(),
        },
    })
}

fn reply(status: StatusCode, body: &serde_json::Value) -> Response<GatewayBody> {
    let mut text = body.to_string();
    text.push('\n');
    let mut response = Response::new(GatewayBody::fixed(Bytes::from(text), None));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn empty(status: StatusCode) -> Response<GatewayBody> {
    let mut response = Response::new(GatewayBody::fixed(Bytes::new(), None));
    *response.status_mut() = status;
    response
}
