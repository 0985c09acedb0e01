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
//! A WebSocket handshake takes the same steps and leaves them for `tunnel.rs` before the body.
//!
//! The record opens first, moves into the response body and closes before its last byte, or in `Drop`.

use std::net::IpAddr;
use std::sync::Arc;

use aiproxy_config::key_digest;
use aiproxy_config::snapshot::{ClientAbort, KeyDigest, OnJournalFull, ProxyKey, Snapshot};
use aiproxy_core::id::RecordId;
use aiproxy_core::time;
use aiproxy_ledger::tally::Amounts;
use aiproxy_llm::dialect::{Dialect, ModelPlace, Operation, Route, classify};
use aiproxy_llm::peek::stable_hash;
use aiproxy_llm::usage::UsageSource;
use aiproxy_llm::work::may_refer;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;

use crate::asked;
use crate::calls::{self, Asked, ClientSecret, Offered, RealtimeCall};
use crate::capture::CallCapture;
use crate::client_address::client_ip;
use crate::client_body::ClientBody;
use crate::credential::{self, Presented};
use crate::drain;
use crate::egress::GatewayBody;
use crate::failover::Failover;
use crate::limits::Demand;
use crate::model_list::{self, ListCall};
use crate::outgoing::Outgoing;
use crate::permit::Caller;
use crate::plan::Plan;
use crate::record::{End, OpenRecord, Record, bounded};
use crate::refusal::Refusal;
use crate::request_body;
use crate::respond::{self, Answered};
use crate::route::{self, Refusal as NoRoute};
use crate::server::guard::ConnectionState;
use crate::server::local;
use crate::serving::Serving;
use crate::state::{Gateway, Worker};
use crate::tunnel::handshake::Upgrade;
use crate::tunnel::{self, Opened, SocketCall};

/// Picks the channel explicitly.
pub(crate) const CHANNEL_HEADER: &str = "x-aiproxy-channel";

/// Serves one call that came from `peer`. Never fails: whatever goes wrong is an answer in the caller's dialect.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    peer: IpAddr,
    request: Request<Incoming>,
    connection: Arc<ConnectionState>,
) -> Response<GatewayBody> {
    let serving = worker.gateway.snapshot();
    if serving.system.client_abort == ClientAbort::Cancel {
        return serve_client(worker, serving, peer, request, connection).await;
    }
    let dialect = dialect_of(request.method(), request.uri().path());
    let call = serve_client(worker.clone(), serving, peer, request, connection);
    // Boxed, for it is rare: a future takes the memory of its longest way.
    match Box::pin(drain::outlive_client(worker, call)).await {
        Some(response) => response,
        // The task was cut off at the end of the process.
        None => local::refuse(&Refusal::overloaded(), dialect),
    }
}

/// The same, as long as its client waits.
async fn serve_client(
    worker: Arc<Worker>,
    serving: Arc<Serving>,
    peer: IpAddr,
    request: Request<Incoming>,
    connection: Arc<ConnectionState>,
) -> Response<GatewayBody> {
    let (mut parts, incoming) = request.into_parts();
    let upgrade = Upgrade::take(&mut parts);
    let route = ingress(&parts);
    let mut record = open_record(&worker, &serving, peer, &parts, &route);
    let dialect = route.dialect;
    let limits = &serving.system;
    let body = ClientBody::new(incoming, limits.body_limit, limits.client_timeouts.body, connection.clone());
    match call(&worker, &serving, &parts, upgrade, body, &route, &mut record).await {
        Ok(Reply::Upstream(answer)) => respond::upstreams(worker, &route, answer, record),
        Ok(Reply::Socket(ready)) => tunnel::begin(worker, &route, *ready, record, &connection),
        Ok(Reply::Own(body)) => respond::ours(body, record),
        Ok(Reply::Offered(offered)) => calls::offered(worker, *offered, record),
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
    worker: &Arc<Worker>,
    serving: &Arc<Serving>,
    parts: &Parts,
    upgrade: Option<Result<Upgrade, Refusal>>,
    mut client_body: ClientBody,
    route: &Route<'_>,
    record: &mut OpenRecord,
) -> Result<Reply, Refusal> {
    admit(&worker.gateway, serving, record.client_ip)?;
    let Authenticated { digest, key, secret } =
        authenticate(&worker.gateway, serving, parts, route, record.client_ip).await?;
    let caller = Caller::of(serving, key);
    record.key = Some(caller.key.clone());
    caller.check(record.client_ip, record.started_unix_ms)?;

    let channels = candidates(serving, &caller, &parts.headers, route)?;
    if let Some(upgrade) = upgrade {
        let pinned = calls::place_of_socket(&worker.gateway, caller.user, &channels, route, parts.uri.query())?;
        let client_body = &mut client_body;
        let call = SocketCall { worker, serving, caller, key: digest, parts, route, client_body, record, pinned };
        // Boxed, for it is rare: a future takes the memory of its longest way, and moving that costs every call.
        return Ok(match Box::pin(call.open(upgrade, channels)).await? {
            Opened::Socket(ready) => Reply::Socket(ready),
            Opened::Answer(accepted) => {
                Reply::Upstream(Answered { accepted, asks_for_usage: false, remembers_work: false })
            }
        });
    }
    record.capture = CallCapture::begin(&worker.gateway.capture_budget, key, &channels, parts, serving);
    client_body.copy_to(record.capture.as_ref().and_then(|capture| capture.request_tap()));

    if model_list::is_made_here(&caller, &channels, route, &parts.method) {
        reserve(serving, &caller.limited(), Demand::default(), record).await?;
        let call = ListCall { worker, serving, caller, parts, route, client_body: &mut client_body, record };
        // Boxed, for it is rare: a future takes the memory of its longest way, and moving that costs every call.
        return Box::pin(call.answer(channels)).await.map(Reply::Own);
    }

    if let Some(asked) = Asked::of(route, &parts.method, parts.uri.path()) {
        let limited = if asked.is_limited() { caller.limited() } else { Vec::new() };
        reserve(serving, &limited, asked.demand(record.started_unix_ms), record).await?;
        let client_body = &mut client_body;
        let call = RealtimeCall { worker, serving, caller, key: digest, secret, parts, route, client_body, record };
        // Boxed, for it is rare as well.
        return Box::pin(call.answer(asked, channels)).await;
    }

    let limit = serving.system.body_limit;
    if client_body.declared_length().is_some_and(|length| length > limit) {
        return Err(Refusal::client_body(crate::upstream::error::ClientBodyError::TooLarge, limit));
    }
    let caller_limits = caller.limited();
    let is_one_of_many = channels.len() > 1 || channels.iter().any(|one| one.channel.credentials.len() > 1);
    let needs = asked::needs(serving, &channels, route, key.failover, !caller_limits.is_empty());
    let prepared = request_body::prepare(&mut client_body, &parts.headers, route, needs).await;
    record.request_bytes = client_body.received();
    let prepared = prepared.map_err(|error| Refusal::client_body(error, limit))?;

    let model = asked::model_asked(route, &prepared, parts.uri.query());
    record.model_asked = model.as_deref().map(bounded);
    asked::permit_model(&caller, model.as_deref(), route, route::depends_on_model(&channels))?;
    let channels = route::serving(channels, model.as_deref()).map_err(no_route)?;

    let mut demand = asked::demand(route, &parts.method, &prepared, client_body.received());
    demand.started_unix_ms = Some(record.started_unix_ms);
    if needs.output_limit
        && let (Some(model), Some(first)) = (model.as_deref(), channels.first())
    {
        asked::price(serving, first.channel, model, &mut demand);
    }
    record.demand = demand;
    record.is_estimable = demand.uses_tokens && route.operation.is_text() && asked::is_json(&parts.headers);
    reserve(serving, &caller_limits, demand, record).await?;

    let conversation = if needs.conversation { asked::conversation(&parts.headers, &prepared) } else { None };
    let share = worker.sequence.next();
    let earlier = || worker.gateway.works.maker_among(&channels, asked::earlier_work(parts.uri.path(), &prepared));
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
        upgrade: None,
    };
    let failover = Failover::new(worker, serving, &outgoing, demand, &mut client_body, record);
    let accepted = failover.run(&mut plan).await?;
    Ok(Reply::Upstream(Answered { accepted, asks_for_usage, remembers_work }))
}

/// What a call ends in, if it is not refused.
pub(crate) enum Reply {
    /// An upstream's answer.
    Upstream(Answered),
    /// JSON made here.
    Own(Bytes),
    /// A socket.
    Socket(Box<tunnel::Ready>),
    /// A call by WebRTC that has begun.
    Offered(Box<Offered>),
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
        usage_is_whole: false,
        usage_flaw: None,
        demand: Demand::default(),
        is_estimable: false,
        delivered_tokens: 0,
        cost: None,
        is_unpriced: false,
        quota_warning: None,
        snapshot: serving.clone(),
        by_model: Vec::new(),
        charged: Amounts::default(),
        capture: None,
        leases: [None, None],
    };
    OpenRecord::open(worker.gateway.clone(), record)
}

/// What is decided before any key is looked at: how many calls run, how fast they come.
fn admit(gateway: &Gateway, serving: &Serving, client_ip: IpAddr) -> Result<(), Refusal> {
    if gateway.calls_in_flight() > serving.system.max_in_flight {
        return Err(Refusal::overloaded());
    }
    if serving.system.journal.on_full == OnJournalFull::Refuse && !gateway.sink().has_room() {
        return Err(Refusal::no_room_for_records());
    }
    gateway.admission.admit(client_ip, &serving.system.rate_limit).map_err(|denied| Refusal::denied(&denied))
}

/// Who was found out to call.
struct Authenticated<'snapshot> {
    /// The digest of the key.
    digest: KeyDigest,
    key: &'snapshot Arc<ProxyKey>,
    /// What stood for the key, if it did not come itself.
    secret: Option<Arc<ClientSecret>>,
}

/// The key that was presented. Who presents unknown ones again and again waits longer each time, and is then refused.
async fn authenticate<'snapshot>(
    gateway: &Gateway,
    serving: &'snapshot Serving,
    parts: &Parts,
    route: &Route<'_>,
    client_ip: IpAddr,
) -> Result<Authenticated<'snapshot>, Refusal> {
    let find = |text: &str| {
        let digest = key_digest(text);
        serving.keys.get(&digest).map(|key| (digest, key))
    };
    let presented = credential::presented(&parts.headers, parts.uri.query(), find);
    let is_open_to_secrets = calls::is_open_to_secrets(route, &parts.method);
    let secret = match &presented {
        // What is open to secrets is rare, and only there does a secret beside a key mean anything.
        Presented::Known(_) if !is_open_to_secrets => None,
        _ => gateway.calls.secrets.among(&parts.headers, parts.uri.query()),
    };
    let rule = serving.system.rate_limit.bad_credentials.as_ref();
    let known = match &presented {
        Presented::Known((_, key)) => Some(stable_hash(&[key.id.as_bytes()])),
        _ => secret.as_ref().map(|secret| secret.hash()),
    };
    if let Some(left) = gateway.admission.blocked(client_ip, known, rule) {
        return Err(Refusal::blocked(left));
    }
    if let Some(secret) = secret {
        let beside = match presented {
            Presented::Known((_, key)) => Some(&**key),
            _ => None,
        };
        let (digest, key) = secret.key(serving, beside)?;
        if !is_open_to_secrets {
            return Err(calls::not_open_to_secrets());
        }
        return Ok(Authenticated { digest, key, secret: Some(secret) });
    }
    match presented {
        Presented::Known((digest, key)) => Ok(Authenticated { digest, key, secret: None }),
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
pub(crate) async fn reserve(
    serving: &Serving,
    limited: &[u32],
    demand: Demand,
    record: &mut OpenRecord,
) -> Result<(), Refusal> {
    if !limited.is_empty() {
        let lease = serving.limits.reserve(limited, demand).await;
        let lease = record.leases[0].insert(lease.map_err(|exceeded| Refusal::limited(&exceeded))?);
        record.quota_warning = lease.reservations().take_warning();
    }
    Ok(())
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

pub(crate) fn no_route(reason: NoRoute) -> Refusal {
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

/// Whether an error belongs to a dialect is decided by the path alone, so that even an unreadable call gets one.
pub(crate) fn dialect_of(method: &Method, path: &str) -> Dialect {
    classify(method.as_str(), path).dialect
}
