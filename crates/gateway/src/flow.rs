//! One call, top to bottom. The file to read first.
//!
//! ```text
//! ingress   path and method → dialect, operation                (pure)
//! auth      credential → caller                                 (constant time: a lookup by digest)
//! permit    status, expiry, address                             (pure)
//! admission calls running, calls per second, bad keys           (before any key is looked at)
//! body      capped; model and stream peeked where they matter   (no full parse)
//! limits    reserve → a lease that gives back in Drop
//! plan      candidates → an order                               (pure, on the snapshot)
//! failover  attempt → verdict → accept, or the next candidate   (the only loop, the only IO)
//! egress    pass through, meter, idle timer                     (in the response body)
//! ```
//!
//! The record opens first, moves into the response body and closes in `Drop`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use aiproxy_config::key_digest;
use aiproxy_config::snapshot::{Channel, ProxyKey, Snapshot};
use aiproxy_core::id::RecordId;
use aiproxy_core::time;
use aiproxy_llm::dialect::{Dialect, ModelPlace, Operation, Route, classify};
use aiproxy_llm::meter::{HideUsageChunk, Meter, MeterKind, RenameModel};
use aiproxy_llm::peek::stable_hash;
use aiproxy_llm::usage::UsageSource;
use aiproxy_llm::work::{WorkIds, ids_in_path, may_refer};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;

use crate::answer::{Answer, Rest};
use crate::client_address::client_ip;
use crate::client_body::ClientBody;
use crate::credential::{self, Presented};
use crate::egress::{Egress, EgressParts, GatewayBody, StreamErrors};
use crate::failover::{Accepted, Failover};
use crate::headers;
use crate::health::{Claim, Mark};
use crate::limits::Demand;
use crate::metering::{Coding, Metering};
use crate::model_list::{self, ListCall};
use crate::outgoing::Outgoing;
use crate::permit::Caller;
use crate::plan::Plan;
use crate::record::{End, OpenRecord, Record, bounded};
use crate::refusal::Refusal;
use crate::request_body::{self, Needs, Peeked, PreparedBody};
use crate::route::{self, Refusal as NoRoute};
use crate::server::guard::ConnectionState;
use crate::serving::Serving;
use crate::state::{Gateway, Worker};
use crate::upstream::pool::Connection;
use crate::upstream::response_head::Framing;

/// Picks the channel explicitly.
const CHANNEL_HEADER: &str = "x-aiproxy-channel";
/// Names the conversation a call belongs to, in this order. Codex sends the one with the underscore.
const SESSION_HEADERS: [&str; 5] = ["x-aiproxy-session", "x-session-id", "session-id", "session_id", "session"];

/// Serves one call that came from `peer`. Never fails: whatever goes wrong is an answer in the caller's dialect.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    peer: IpAddr,
    request: Request<Incoming>,
    connection: Arc<ConnectionState>,
) -> Response<GatewayBody> {
    let serving = worker.gateway.snapshot();
    let (parts, incoming) = request.into_parts();
    let route = ingress(&parts);
    let mut record = open_record(&worker, &serving, peer, &parts, &route);
    let dialect = route.dialect;
    let limits = &serving.system;
    let body = ClientBody::new(incoming, limits.body_limit, limits.client_timeouts.body, connection);
    match call(&worker, &serving, &parts, body, &route, &mut record).await {
        Ok(Reply::Upstream(answer)) => respond(worker, &route, answer, record),
        Ok(Reply::Own(body)) => respond_ourselves(body, record),
        Err(refusal) => {
            if record.attempts.is_empty()
                && let Some(lease) = record.leases[0].take()
            {
                // Refused before anybody was asked: it uses nothing up.
                lease.refund();
            }
            refusal.respond(dialect, record)
        }
    }
}

/// Everything up to the response head.
async fn call(
    worker: &Worker,
    serving: &Arc<Serving>,
    parts: &Parts,
    mut client_body: ClientBody,
    route: &Route<'_>,
    record: &mut OpenRecord,
) -> Result<Reply, Refusal> {
    admit(&worker.gateway, serving, record.client_ip)?;
    let key = authenticate(&worker.gateway, serving, parts, record.client_ip).await?;
    let caller = Caller::of(serving, key);
    record.key = Some(caller.key.clone());
    caller.check(record.client_ip, record.started_unix_ms)?;

    let channels = candidates(serving, &caller, &parts.headers, route)?;
    refuse_upgrade(&parts.headers)?;

    if model_list::is_made_here(&caller, &channels, route, &parts.method) {
        reserve(serving, &caller.limited(), Demand::default(), record).await?;
        let call = ListCall { worker, serving, caller, parts, route, client_body: &mut client_body, record };
        // Boxed, for it is rare: a future takes the memory of its longest way, and moving that costs every call.
        return Box::pin(call.answer(channels)).await.map(Reply::Own);
    }

    let limit = serving.system.body_limit;
    if client_body.declared_length().is_some_and(|length| length > limit) {
        return Err(Refusal::client_body(crate::upstream::error::ClientBodyError::TooLarge, limit));
    }
    let caller_limits = caller.limited();
    let is_one_of_many = channels.len() > 1 || channels.iter().any(|one| one.channel.credentials.len() > 1);
    let needs = needs(serving, &channels, route, key.failover, !caller_limits.is_empty());
    let prepared = request_body::prepare(&mut client_body, &parts.headers, route, needs).await;
    record.request_bytes = client_body.received();
    let prepared = prepared.map_err(|error| Refusal::client_body(error, limit))?;

    let model = model_asked(route, &prepared, parts.uri.query());
    record.model_asked = model.as_deref().map(bounded);
    permit_model(&caller, model.as_deref(), route, route::depends_on_model(&channels))?;
    let channels = route::serving(channels, model.as_deref()).map_err(no_route)?;

    let demand = demand(route, &parts.method, &prepared, client_body.received());
    reserve(serving, &caller_limits, demand, record).await?;

    let conversation = if needs.conversation { conversation(&parts.headers, &prepared) } else { None };
    let share = worker.sequence.next();
    let earlier = || worker.gateway.works.maker_among(&channels, earlier_work(parts.uri.path(), &prepared));
    let may_name_work = is_one_of_many && (may_refer(route.operation) || route.model_place() == ModelPlace::Nowhere);
    let mut plan = match may_name_work.then(earlier).flatten() {
        Some((channel, credential)) => Plan::pinned(serving, channel, credential, model.as_deref(), share),
        None => Plan::new(serving, channels, model.as_deref(), key.failover, conversation, share),
    };
    let asks_for_usage = Outgoing::lacks_usage(serving, route, &prepared);
    let remembers_work = is_one_of_many;
    let outgoing = Outgoing {
        parts,
        path: parts.uri.path(),
        query: parts.uri.query().and_then(credential::strip_query),
        route,
        prepared,
        asks_for_usage,
        looks_inside: plan.has_alternative(),
    };
    let failover = Failover::new(worker, serving, &outgoing, demand, &mut client_body, record);
    let accepted = failover.run(&mut plan).await?;
    Ok(Reply::Upstream(Answered { accepted, asks_for_usage, remembers_work }))
}

/// What a call ends in, if it is not refused.
enum Reply {
    /// An upstream's answer.
    Upstream(Answered),
    /// JSON made here.
    Own(Bytes),
}

/// The answer of an upstream, and what the way back needs to know.
struct Answered {
    accepted: Box<Accepted>,
    asks_for_usage: bool,
    remembers_work: bool,
}

fn ingress(parts: &Parts) -> Route<'_> {
    let route = classify(parts.method.as_str(), parts.uri.path());
    if parts.headers.contains_key("anthropic-version") { route.for_anthropic_caller() } else { route }
}

fn open_record(worker: &Worker, serving: &Arc<Serving>, peer: IpAddr, parts: &Parts, route: &Route<'_>) -> OpenRecord {
    let started_unix_ms = time::unix_ms();
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let record = Record {
        id: RecordId::new(started_unix_ms, random),
        started: time::now(),
        started_unix_ms,
        first_byte: None,
        key: None,
        client_ip: client_ip(peer, &parts.headers, &serving.system.trusted_proxies),
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
        snapshot: serving.clone(),
        leases: [None, None],
    };
    OpenRecord::open(worker.gateway.clone(), record)
}

/// What is decided before any key is looked at: how many calls run, how fast they come.
fn admit(gateway: &Gateway, serving: &Serving, client_ip: IpAddr) -> Result<(), Refusal> {
    if gateway.calls_in_flight() > serving.system.max_in_flight {
        return Err(Refusal::overloaded());
    }
    gateway.admission.admit(client_ip, &serving.system.rate_limit).map_err(|denied| Refusal::denied(&denied))
}

/// The key that was presented. Who presents unknown ones again and again waits longer each time, and is then refused.
async fn authenticate<'snapshot>(
    gateway: &Gateway,
    serving: &'snapshot Serving,
    parts: &Parts,
    client_ip: IpAddr,
) -> Result<&'snapshot Arc<ProxyKey>, Refusal> {
    let find = |text: &str| serving.keys.get(&key_digest(text));
    let presented = credential::presented(&parts.headers, parts.uri.query(), find);
    let rule = serving.system.rate_limit.bad_credentials.as_ref();
    let known = match &presented {
        Presented::Known(key) => Some(stable_hash(&[key.id.as_bytes()])),
        _ => None,
    };
    if let Some(left) = gateway.admission.blocked(client_ip, known, rule) {
        return Err(Refusal::blocked(left));
    }
    match presented {
        Presented::Known(key) => Ok(key),
        Presented::Unknown => {
            let pause = gateway.admission.bad_credential(client_ip, rule);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Err(Refusal::invalid_credential())
        }
        Presented::WrongScheme => Err(Refusal::wrong_scheme()),
        Presented::Nothing => Err(Refusal::missing_credential()),
    }
}

/// Takes what the caller's limits allow.
async fn reserve(serving: &Serving, limited: &[u32], demand: Demand, record: &mut OpenRecord) -> Result<(), Refusal> {
    if !limited.is_empty() {
        let lease = serving.limits.reserve(limited, demand).await;
        record.leases[0] = Some(lease.map_err(|exceeded| Refusal::limited(&exceeded))?);
    }
    Ok(())
}

/// What the body must be read for.
fn needs(
    serving: &Serving,
    channels: &[route::Candidate<'_>],
    route: &Route<'_>,
    failover: bool,
    is_limited: bool,
) -> Needs {
    let has_several = |channel: &Channel| channel.credentials.len() > 1 || channel.endpoints.len() > 1;
    let has_limits = |channel: &Channel| {
        channel.limited.is_some() || channel.credentials.iter().any(|credential| credential.limited.is_some())
    };
    let any = |of: &dyn Fn(&Channel) -> bool| channels.iter().any(|candidate| of(candidate.channel));
    let is_shared = any(&has_several);
    let is_one_of_many = channels.len() > 1 || is_shared;
    Needs {
        replay_limit: serving.system.replay_limit,
        replay: is_shared || (failover && channels.len() > 1),
        output_limit: is_limited || any(&has_limits),
        references: is_one_of_many && may_refer(route.operation),
        conversation: is_one_of_many && any(&|channel| channel.affinity),
    }
}

/// An estimate of the tokens a call will use: one for each four bytes of its prompt. Bytes of an image are not tokens,
/// so what a long body may reserve is bounded; the provider's numbers settle it.
fn demand(route: &Route<'_>, method: &Method, prepared: &PreparedBody, received: u64) -> Demand {
    const BYTES_PER_TOKEN: u64 = 4;
    const MOST_RESERVED: u64 = 32 * 1024;
    let most_output_tokens = match &prepared.peeked {
        Peeked::Json(body) => body.max_output_tokens,
        _ => None,
    };
    Demand {
        input_tokens: (received / BYTES_PER_TOKEN).min(MOST_RESERVED),
        most_output_tokens,
        uses_tokens: *method == Method::POST && route.model_place() != ModelPlace::Nowhere,
    }
}

/// Which conversation a call belongs to: as a header says, or as its body tells.
fn conversation(headers: &HeaderMap, prepared: &PreparedBody) -> Option<u64> {
    let named = SESSION_HEADERS.iter().find_map(|name| headers.get(*name)).filter(|value| !value.is_empty());
    match (named, &prepared.peeked) {
        (Some(value), _) => Some(stable_hash(&[b"session", value.as_bytes()])),
        (None, Peeked::Json(body)) => body.conversation,
        _ => None,
    }
}

/// Ids of what earlier calls made, as this one names them.
fn earlier_work<'call>(path: &'call str, prepared: &'call PreparedBody) -> impl Iterator<Item = Cow<'call, str>> {
    let in_body: &[String] = match &prepared.peeked {
        Peeked::Json(body) => &body.works,
        _ => &[],
    };
    ids_in_path(path).into_iter().map(Cow::from).chain(in_body.iter().map(|id| Cow::from(&**id)))
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
        NoRoute::ModelNotServed(model) => Refusal::model_not_served(&model),
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
    // Other bodies may be looked into as well, for what they refer to; a `model` there chooses nothing.
    if let Some(model) = prepared.peeked.model().filter(|_| route.model_place() != ModelPlace::Nowhere) {
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

/// Turns the upstream's response head into the caller's; the body follows by itself.
fn respond(
    worker: Arc<Worker>,
    route: &Route<'_>,
    answered: Answered,
    mut record: OpenRecord,
) -> Response<GatewayBody> {
    let Answered { accepted, asks_for_usage, remembers_work } = answered;
    let Accepted { answer: Answer { head, held, rest }, timer, authority, has_alias, claim, .. } = *accepted;
    let coding = Coding::of(head.headers.get(header::CONTENT_ENCODING));
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = MeterKind::of(route.operation, content_type);
    let is_sse = kind == MeterKind::Sse;
    let is_readable = head.status.is_success() && kind != MeterKind::Other && head.framing != Framing::Empty;
    let is_editable = is_readable && coding == Coding::Identity;
    let metering =
        if is_readable { Metering::boxed(Meter::new(route.dialect, route.operation, kind), coding) } else { None };
    let hide_usage_chunk = (asks_for_usage && is_sse && is_editable).then(HideUsageChunk::new);
    let asked = record.model_asked.as_deref().filter(|_| has_alias && is_editable);
    let rename_model = asked.and_then(|asked| RenameModel::new(route.dialect, route.operation, kind, asked));
    let stream_errors = (is_sse && coding == Coding::Identity)
        .then_some(StreamErrors { dialect: route.dialect, operation: route.operation });
    let work_ids = if remembers_work && is_editable { WorkIds::of(route, record.method.as_str(), kind) } else { None };

    record.status = head.status.as_u16();
    record.protocol = if is_sse { "sse" } else { "http" };
    record.upstream_request_id = head
        .headers
        .get("x-request-id")
        .or_else(|| head.headers.get("request-id"))
        .and_then(|value| value.to_str().ok())
        .map(bounded);

    let mut returned = headers::returned(head.headers, &authority);
    let changes_length = hide_usage_chunk.is_some() || rename_model.is_some();
    if head.framing == Framing::Chunked || changes_length {
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
        let connection = match rest {
            Rest::Ended(connection) => connection,
            Rest::Open(_) => None,
        };
        return respond_without_body(&worker, head.status, returned, connection, claim, record);
    }
    let length = match head.framing {
        Framing::Length(length) if !changes_length => Some(length),
        _ => None,
    };
    let parts = EgressParts {
        held,
        rest,
        length,
        metering,
        hide_usage_chunk,
        rename_model,
        work_ids,
        stream_errors,
        timer,
        worker,
        claim,
        record,
    };
    let mut response = Response::new(GatewayBody::Passing(Box::new(Egress::new(parts))));
    *response.status_mut() = head.status;
    *response.headers_mut() = returned;
    response
}

/// An answer made here.
fn respond_ourselves(body: Bytes, mut record: OpenRecord) -> Response<GatewayBody> {
    record.status = 200;
    record.end = End::Complete;
    record.response_bytes = body.len() as u64;
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(record.id.encode(&mut [0; 36])) {
        headers.insert(headers::X_REQUEST_ID, id);
    }
    let mut response = Response::new(GatewayBody::fixed(body, Some(record)));
    *response.headers_mut() = headers;
    response
}

/// The answer is complete with its head: the connection goes back at once.
fn respond_without_body(
    worker: &Worker,
    status: http::StatusCode,
    headers: HeaderMap,
    connection: Option<Connection>,
    claim: Option<Claim>,
    mut record: OpenRecord,
) -> Response<GatewayBody> {
    if let Some(claim) = claim {
        record.report(claim, Mark::Healthy);
    }
    if let Some(connection) = connection {
        worker.pool.put(connection);
    }
    record.end = End::Complete;
    let mut response = Response::new(GatewayBody::fixed(Bytes::new(), Some(record)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Whether an error belongs to a dialect is decided by the path alone, so that even an unreadable call gets one.
pub(crate) fn dialect_of(method: &Method, path: &str) -> Dialect {
    classify(method.as_str(), path).dialect
}
