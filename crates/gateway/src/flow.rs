//! One call, top to bottom. The file to read first.
//!
//! ```text
//! ingress   path and method → dialect, operation                (pure)
//! auth      credential → caller                                 (constant time: a lookup by digest)
//! permit    status, expiry, address                             (pure)
//! body      capped; model and stream peeked where they matter   (no full parse)
//! route     candidates → one upstream                           (pure, on the snapshot)
//! attempt   connect, write, read the response head              (the only IO)
//! egress    pass through, meter, idle timer                     (in the response body)
//! ```
//!
//! The record opens first, moves into the response body and closes in `Drop`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use aiproxy_config::key_digest;
use aiproxy_config::snapshot::{ProxyKey, Snapshot};
use aiproxy_core::id::RecordId;
use aiproxy_core::time;
use aiproxy_llm::dialect::{Dialect, ModelPlace, Operation, Route, classify};
use aiproxy_llm::meter::{HideUsageChunk, Meter, MeterKind};
use aiproxy_llm::peek::{apply_edits, form_model_edit, model_edit, usage_injection};
use aiproxy_llm::usage::UsageSource;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::attempt::{self, Upstreamed};
use crate::client_address::client_ip;
use crate::client_body::ClientBody;
use crate::credential::{self, Presented};
use crate::egress::{Egress, EgressParts, GatewayBody, StreamErrors};
use crate::headers;
use crate::metering::{Coding, Metering};
use crate::permit::Caller;
use crate::record::{End, OpenRecord, Record, bounded};
use crate::refusal::Refusal;
use crate::request_body::{self, Peeked, PreparedBody};
use crate::request_head::{BodyFraming, RequestHead};
use crate::route::{self, Refusal as NoRoute, Target};
use crate::server::guard::ConnectionState;
use crate::state::Worker;
use crate::timer::CallTimer;
use crate::upstream::exchange::{Rest, push_piece};
use crate::upstream::pool::Connection;
use crate::upstream::response_body::ResponseBody;
use crate::upstream::response_head::Framing;
use crate::upstream_path::upstream_path;

/// What is encoded of a model's name in a path: everything that would end its segment.
const MODEL_IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'/').add(b'?').add(b'#').add(b'%').add(b':');

/// Picks the channel explicitly.
const CHANNEL_HEADER: &str = "x-aiproxy-channel";

/// Serves one call that came from `peer`. Never fails: whatever goes wrong is an answer in the caller's dialect.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    peer: IpAddr,
    request: Request<Incoming>,
    connection: Arc<ConnectionState>,
) -> Response<GatewayBody> {
    let snapshot = worker.gateway.snapshot();
    let (parts, incoming) = request.into_parts();
    let route = ingress(&parts);
    let mut record = open_record(&worker, &snapshot, peer, &parts, &route);
    let dialect = route.dialect;
    let limits = &snapshot.system;
    let body = ClientBody::new(incoming, limits.body_limit, limits.client_timeouts.body, connection);
    match call(&worker, &snapshot, &parts, body, &route, &mut record).await {
        Ok(answer) => respond(worker, &route, answer, record),
        Err(refusal) => refusal.respond(dialect, record),
    }
}

/// Everything up to the response head.
async fn call(
    worker: &Worker,
    snapshot: &Arc<Snapshot>,
    parts: &Parts,
    mut client_body: ClientBody,
    route: &Route<'_>,
    record: &mut OpenRecord,
) -> Result<Answered, Refusal> {
    let key = authenticate(snapshot, &parts.headers, parts.uri.query())?;
    let caller = Caller::of(snapshot, key);
    record.key = Some(caller.key.clone());
    caller.check(record.client_ip, record.started_unix_ms)?;

    let channels = candidates(snapshot, &caller, &parts.headers, route)?;
    refuse_upgrade(&parts.headers)?;

    let limit = snapshot.system.body_limit;
    if client_body.declared_length().is_some_and(|length| length > limit) {
        return Err(Refusal::client_body(crate::upstream::error::ClientBodyError::TooLarge, limit));
    }
    let prepared = request_body::prepare(&mut client_body, &parts.headers, route).await;
    record.request_bytes = client_body.received();
    let prepared = prepared.map_err(|error| Refusal::client_body(error, limit))?;

    let model = model_asked(route, &prepared, parts.uri.query());
    record.model_asked = model.as_deref().map(bounded);
    permit_model(&caller, model.as_deref(), route, route::depends_on_model(&channels))?;
    let target = route::choose(channels, model.as_deref(), |below| fastrand::u32(..below)).map_err(no_route)?;

    let hides_usage = asks_for_usage(snapshot, route, &prepared);
    let (whole, pieces) = edited(prepared, hides_usage, target.real_model);
    let asked_path = with_real_model(parts.uri.path(), route.model_in_path, target.real_model);
    let path = upstream_path(target.channel, target.endpoint, route.dialect, &asked_path);
    let query = parts.uri.query().and_then(credential::strip_query);
    let head = RequestHead {
        method: &parts.method,
        path: &path,
        query: query.as_deref(),
        headers: &parts.headers,
        dialect: route.dialect,
        framing: framing(&parts.method, &parts.headers, whole, &pieces, &client_body),
        identity: hides_usage,
    };
    let chunked = head.framing == BodyFraming::Chunked;
    let mut request = Vec::with_capacity(pieces.len() + 1);
    request.push(head.write(target.channel, target.credential, target.endpoint));
    pieces.into_iter().for_each(|piece| push_piece(&mut request, piece, chunked));
    let rest = if whole { None } else { Some(Rest { body: &mut client_body, chunked }) };
    let mut timer = CallTimer::new(target.channel.timeouts, record.started);
    record.real_model = target.real_model.map(bounded);
    let result = attempt::run(worker, &target, &parts.method, &request, rest, &mut timer, record).await;
    record.request_bytes = client_body.received();
    let upstreamed = result.map_err(|failure| Refusal::upstream(&failure, limit))?;
    let Target { endpoint, .. } = target;
    Ok(Answered { upstreamed, timer, authority: endpoint.authority.clone(), hides_usage })
}

/// An upstream's response head, and what the way back needs to know.
struct Answered {
    upstreamed: Upstreamed,
    timer: CallTimer,
    authority: Box<str>,
    hides_usage: bool,
}

fn ingress(parts: &Parts) -> Route<'_> {
    let route = classify(parts.method.as_str(), parts.uri.path());
    if parts.headers.contains_key("anthropic-version") { route.for_anthropic_caller() } else { route }
}

fn open_record(
    worker: &Worker,
    snapshot: &Arc<Snapshot>,
    peer: IpAddr,
    parts: &Parts,
    route: &Route<'_>,
) -> OpenRecord {
    let started_unix_ms = time::unix_ms();
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let record = Record {
        id: RecordId::new(started_unix_ms, random),
        started: time::now(),
        started_unix_ms,
        first_byte: None,
        key: None,
        client_ip: client_ip(peer, &parts.headers, &snapshot.system.trusted_proxies),
        method: parts.method.clone(),
        path: bounded(parts.uri.path()),
        endpoint: route.endpoint,
        dialect: route.dialect,
        protocol: "http",
        place: None,
        model_asked: None,
        real_model: None,
        model_served: None,
        attempts: Vec::new(),
        status: 0,
        error_code: None,
        upstream_request_id: None,
        end: End::ClientClosed,
        request_bytes: 0,
        response_bytes: 0,
        usage: None,
        usage_source: UsageSource::None,
        snapshot: snapshot.clone(),
    };
    OpenRecord::open(worker.gateway.clone(), record)
}

fn authenticate<'snapshot>(
    snapshot: &'snapshot Snapshot,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<&'snapshot Arc<ProxyKey>, Refusal> {
    match credential::presented(headers, query, |text| snapshot.keys.get(&key_digest(text))) {
        Presented::Known(key) => Ok(key),
        Presented::Unknown => Err(Refusal::invalid_credential()),
        Presented::WrongScheme => Err(Refusal::wrong_scheme()),
        Presented::Nothing => Err(Refusal::missing_credential()),
    }
}

fn candidates<'snapshot>(
    snapshot: &'snapshot Snapshot,
    caller: &Caller<'_>,
    headers: &HeaderMap,
    route: &Route<'_>,
) -> Result<Vec<route::Candidate<'snapshot>>, Refusal> {
    let asked_for = headers.get(CHANNEL_HEADER).map(|value| value.to_str().unwrap_or_default());
    let any_path = route.operation == Operation::Other;
    route::candidates(snapshot, caller.user, caller.key, asked_for, route.dialect, any_path).map_err(no_route)
}

fn no_route(reason: NoRoute) -> Refusal {
    match reason {
        NoRoute::NoChannel => Refusal::no_channel(),
        NoRoute::ChannelNotAllowed => Refusal::forbidden(
            "channel_not_allowed",
            "This proxy key may not use the channel named in X-AIProxy-Channel.",
        ),
        NoRoute::NoRoute => Refusal::no_route("No channel of this proxy key serves this path. Check the base URL."),
        NoRoute::ModelNotServed(model) => Refusal::no_route(format!(
            "Model not supported: {}. No channel of this proxy key serves it.",
            bounded(&model)
        )),
    }
}

/// WebSocket is not served yet; saying so beats an upstream's puzzled answer.
fn refuse_upgrade(headers: &HeaderMap) -> Result<(), Refusal> {
    let websocket =
        headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !websocket {
        return Ok(());
    }
    let message = "Channel does not support WebSocket. Use the HTTP API of this provider.";
    Err(Refusal::new(http::StatusCode::BAD_REQUEST, "websocket_not_supported", message))
}

fn model_asked(route: &Route<'_>, prepared: &PreparedBody, query: Option<&str>) -> Option<String> {
    if let Some(model) = route.model_in_path {
        return Some(percent_encoding::percent_decode_str(model).decode_utf8_lossy().into_owned());
    }
    if let Some(model) = prepared.peeked.model() {
        return Some(model.to_string());
    }
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(name, _)| *name == "model").map(|(_, value)| value).next()?;
    Some(percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
}

/// A model that cannot be seen (an encoded body, one too large to look into, no JSON) is not allowed either where the
/// key or the channels are limited to certain models.
fn permit_model(
    caller: &Caller<'_>,
    model: Option<&str>,
    route: &Route<'_>,
    routing_needs_it: bool,
) -> Result<(), Refusal> {
    let lists = [&caller.user.models, &caller.key.models];
    let restricted = lists.iter().any(|list| !list.is_empty());
    let Some(model) = model else {
        return if (restricted || routing_needs_it) && route.model_place() != ModelPlace::Nowhere {
            let message = "This call must name a model in plain JSON or a form: the proxy key or its channels are limited to certain models.";
            Err(Refusal::new(http::StatusCode::BAD_REQUEST, "model_required", message))
        } else {
            Ok(())
        };
    };
    if lists.iter().all(|list| route::model_allowed(list, model)) {
        return Ok(());
    }
    let message = format!("Model not allowed: {}. This proxy key is limited to certain models.", bounded(model));
    Err(Refusal::forbidden("model_not_allowed", message))
}

/// Whether the upstream is asked for usage that the caller did not ask for.
fn asks_for_usage(snapshot: &Snapshot, route: &Route<'_>, prepared: &PreparedBody) -> bool {
    let Peeked::Json(body) = &prepared.peeked else { return false };
    snapshot.system.usage_injection
        && route.operation == Operation::ChatCompletions
        && prepared.whole
        && usage_injection(body).is_some()
}

/// The body with the documented rewrites: usage asked for, an alias resolved.
fn edited(prepared: PreparedBody, asks_for_usage: bool, real_model: Option<&str>) -> (bool, Vec<bytes::Bytes>) {
    let mut edits = Vec::new();
    match &prepared.peeked {
        Peeked::Json(body) => {
            if asks_for_usage {
                edits.extend(usage_injection(body));
            }
            edits.extend(real_model.and_then(|real| model_edit(body, real)));
        }
        Peeked::Form(form) => edits.extend(real_model.and_then(|real| form_model_edit(form, real))),
        Peeked::Nothing => {}
    }
    let pieces = if edits.is_empty() { prepared.pieces } else { apply_edits(&edits, &prepared.pieces) };
    (prepared.whole, pieces)
}

/// The path with an alias in it resolved (Gemini, Azure and Bedrock name the model there).
fn with_real_model<'path>(path: &'path str, alias: Option<&str>, real_model: Option<&str>) -> Cow<'path, str> {
    let (Some(alias), Some(real)) = (alias, real_model) else { return path.into() };
    let encoded = utf8_percent_encode(real, MODEL_IN_PATH).to_string();
    // From the end: the model is the last segment that can look like this.
    match path.rfind(alias) {
        Some(start) => format!("{}{encoded}{}", &path[..start], &path[start + alias.len()..]).into(),
        None => path.into(),
    }
}

fn framing(
    method: &Method,
    headers: &HeaderMap,
    whole: bool,
    pieces: &[bytes::Bytes],
    body: &ClientBody,
) -> BodyFraming {
    let held: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
    if !whole {
        return body.declared_length().map_or(BodyFraming::Chunked, |rest| BodyFraming::Length(held + rest));
    }
    let expects_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    let announced = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
    if held == 0 && !expects_body && !announced { BodyFraming::None } else { BodyFraming::Length(held) }
}

/// Turns the upstream's response head into the caller's; the body follows by itself.
fn respond(
    worker: Arc<Worker>,
    route: &Route<'_>,
    answered: Answered,
    mut record: OpenRecord,
) -> Response<GatewayBody> {
    let Answered { upstreamed: Upstreamed { head, connection, reusable }, timer, authority, hides_usage } = answered;
    let coding = Coding::of(head.headers.get(header::CONTENT_ENCODING));
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = MeterKind::of(route.operation, content_type);
    let is_sse = kind == MeterKind::Sse;
    let succeeded = head.status.is_success();
    let metering = if succeeded && kind != MeterKind::Other && head.framing != Framing::Empty {
        Metering::new(Meter::new(route.dialect, route.operation, kind), coding)
    } else {
        None
    };
    let hide_usage_chunk = (hides_usage && is_sse && succeeded && coding == Coding::Identity).then(HideUsageChunk::new);
    let stream_errors = (is_sse && coding == Coding::Identity)
        .then_some(StreamErrors { dialect: route.dialect, operation: route.operation });

    record.status = head.status.as_u16();
    record.protocol = if is_sse { "sse" } else { "http" };
    record.upstream_request_id = head
        .headers
        .get("x-request-id")
        .or_else(|| head.headers.get("request-id"))
        .and_then(|value| value.to_str().ok())
        .map(bounded);

    let mut returned = headers::returned(head.headers, &authority);
    if head.framing == Framing::Chunked || hide_usage_chunk.is_some() {
        returned.remove(header::CONTENT_LENGTH);
    }
    if is_sse {
        returned.insert(headers::X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
        returned.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    }
    if let Ok(id) = HeaderValue::from_str(record.id.encode(&mut [0; 36])) {
        returned.insert(headers::X_REQUEST_ID, id);
    }
    if head.framing == Framing::Empty {
        if record.method != Method::HEAD {
            returned.remove(header::CONTENT_LENGTH);
        }
        return respond_without_body(&worker, head.status, returned, reusable.then_some(connection), record);
    }
    let length = match head.framing {
        Framing::Length(length) if hide_usage_chunk.is_none() => Some(length),
        _ => None,
    };
    let upstream = ResponseBody::new(connection, head.framing, reusable);
    let parts = EgressParts { upstream, length, metering, hide_usage_chunk, stream_errors, timer, worker, record };
    let mut response = Response::new(GatewayBody::Passing(Box::new(Egress::new(parts))));
    *response.status_mut() = head.status;
    *response.headers_mut() = returned;
    response
}

/// The answer is complete with its head: the connection goes back at once.
fn respond_without_body(
    worker: &Worker,
    status: http::StatusCode,
    headers: HeaderMap,
    connection: Option<Connection>,
    mut record: OpenRecord,
) -> Response<GatewayBody> {
    if let Some(connection) = connection {
        worker.pool.put(connection);
    }
    record.end = End::Complete;
    let mut response = Response::new(GatewayBody::fixed(bytes::Bytes::new(), Some(record)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Whether an error belongs to a dialect is decided by the path alone, so that even an unreadable call gets one.
pub(crate) fn dialect_of(method: &Method, path: &str) -> Dialect {
    classify(method.as_str(), path).dialect
}
