//! WebSocket calls: a handshake that goes through the same steps as any call, and a tunnel after it.
//!
//! ```text
//! handshake  the client's upgrade: version, nonce, subprotocols; what goes upstream      (pure)
//! open       limits, plan, failover: until an upstream answers 101, or refuses           (as for any call)
//! relay      frames in both directions until both connections have ended                 (one task)
//!   leg      one peer: what waits to be written, pings, its goodbye
//!   pump     frames of one read: pass, hold, show to the session
//!   session  models named in messages, usage, checkpoints                                (no IO)
//! ```
//!
//! Before the 101 everything may move to another candidate; after it nothing does. The record stays open as long as the
//! socket and closes with it, however that ends.

pub(crate) mod handshake;
mod leg;
mod pump;
mod relay;
mod session;

use std::sync::Arc;
use std::time::Duration;

use aiproxy_config::snapshot::KeyDigest;
use aiproxy_llm::dialect::{ModelPlace, Route};
use aiproxy_llm::websocket::Sender;
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;

use self::handshake::Upgrade;
use self::leg::Leg;
use self::relay::Relay;
use self::session::Session;
use crate::asked;
use crate::client_body::ClientBody;
use crate::credential;
use crate::egress::GatewayBody;
use crate::failover::{Accepted, Failover};
use crate::flow;
use crate::headers;
use crate::limits::Demand;
use crate::outgoing::Outgoing;
use crate::permit::Caller;
use crate::plan::Plan;
use crate::record::{End, OpenRecord, bounded};
use crate::refusal::Refusal;
use crate::request_body::{Peeked, PreparedBody};
use crate::respond;
use crate::route::{self, Candidate};
use crate::server::guard::ConnectionState;
use crate::serving::Serving;
use crate::sessions::{Subject, Watch};
use crate::state::Worker;
use crate::upstream::pool::Connection;

/// How long a client may take to become a socket once it was answered.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(30);

/// A handshake on its way.
pub(crate) struct SocketCall<'call> {
    pub(crate) worker: &'call Worker,
    pub(crate) serving: &'call Arc<Serving>,
    pub(crate) caller: Caller<'call>,
    pub(crate) key: KeyDigest,
    pub(crate) parts: &'call Parts,
    pub(crate) route: &'call Route<'call>,
    pub(crate) client_body: &'call mut ClientBody,
    pub(crate) record: &'call mut OpenRecord,
    /// Where it must go, if it is about something that was made there; and then somebody else counts what that uses.
    pub(crate) pinned: Option<(Candidate<'call>, usize)>,
}

/// What an upstream made of a handshake.
pub(crate) enum Opened {
    /// A socket.
    Socket(Box<Ready>),
    /// An answer that is no socket: an error of its own.
    Answer(Box<Accepted>),
}

/// An upstream's socket, before the client knows.
pub(crate) struct Ready {
    accepted: Box<Accepted>,
    connection: Connection,
    upgrade: Upgrade,
    key: KeyDigest,
    is_metered: bool,
}

impl<'call> SocketCall<'call> {
    /// Opens a socket with the first candidate that lets itself be upgraded.
    pub(crate) async fn open(
        self,
        upgrade: Result<Upgrade, Refusal>,
        mut channels: Vec<Candidate<'call>>,
    ) -> Result<Opened, Refusal> {
        let Self { worker, serving, caller, key, parts, route, client_body, record, pinned } = self;
        let upgrade = upgrade?;
        if worker.gateway.is_draining() {
            let message = "The gateway is shutting down. Connect again.";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "draining", message).retry_after(1));
        }
        channels.retain(|candidate| candidate.channel.supports_websocket);
        if channels.is_empty() {
            return Err(not_supported());
        }
        let query = parts.uri.query();
        let nothing = || PreparedBody { pieces: Vec::new(), whole: true, peeked: Peeked::Nothing };
        let model = model_asked(route, query)?;
        record.model_asked = model.as_deref().map(bounded);
        // Transcription names its model in the session, and a call that exists has one already.
        let mut pairs = query.unwrap_or_default().split('&');
        let is_named_later = pinned.is_some() || pairs.any(|pair| pair == "intent=transcription");
        if model.is_some() || (route.model_place() == ModelPlace::Query && !is_named_later) {
            asked::permit_model(&caller, model.as_deref(), route, route::depends_on_model(&channels))?;
            channels = route::serving(channels, model.as_deref())
                .map_err(|_| Refusal::model_not_served(model.as_deref().unwrap_or_default()))?;
        }

        let demand = Demand::of_session(record.started_unix_ms);
        record.demand = demand;
        // A call that exists holds its place already.
        if pinned.is_none() {
            flow::reserve(serving, &caller.limited(), demand, record).await?;
        }
        let is_metered = pinned.is_none();
        let share = worker.sequence.next();
        let mut plan = match pinned {
            Some((channel, credential)) => Plan::pinned(serving, channel, credential, model.as_deref(), share),
            None => Plan::new(serving, channels, model.as_deref(), caller.key.failover, None, share),
        };
        let outgoing = Outgoing {
            parts,
            path: parts.uri.path(),
            query: query.and_then(credential::strip_query),
            route,
            prepared: nothing(),
            asks_for_usage: false,
            looks_inside: false,
            upgrade: Some(upgrade.lines()),
        };
        let failover = Failover::new(worker, serving, &outgoing, demand, client_body, record);
        let mut accepted = failover.run(&mut plan).await?;
        if accepted.answer.head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Opened::Answer(accepted));
        }
        let connection = accepted.answer.take_connection();
        let connection = connection.ok_or_else(|| {
            Refusal::new(StatusCode::BAD_GATEWAY, "upstream_invalid", "The upstream's socket was lost.")
        })?;
        Ok(Opened::Socket(Box::new(Ready { accepted, connection, upgrade, key, is_metered })))
    }
}

/// Answers the client and starts the tunnel; the record goes with it.
pub(crate) fn begin(
    worker: Arc<Worker>,
    route: &Route<'_>,
    ready: Ready,
    mut record: OpenRecord,
    client: &Arc<ConnectionState>,
) -> Response<GatewayBody> {
    let Ready { accepted, connection, upgrade, key, is_metered } = ready;
    let Accepted { answer, timer, authority, .. } = *accepted;
    let mut returned = answer.head.headers;
    let chosen = returned.get(header::SEC_WEBSOCKET_PROTOCOL).cloned();
    for name in handshake::OF_ONE_LEG {
        returned.remove(name);
    }
    record.upstream_request_id = returned.get(headers::X_REQUEST_ID).and_then(|value| value.to_str().ok()).map(bounded);
    let mut returned = headers::returned(returned, &authority);
    let status = upgrade.complete(chosen.as_ref(), &mut returned);
    respond::tell_of_call(&mut returned, &record);
    // Over HTTP/2 the answer is a 200; for whoever reads records a socket is a socket.
    record.status = StatusCode::SWITCHING_PROTOCOLS.as_u16();
    record.protocol = "websocket";
    record.end = End::ClientClosed;

    let subject = Subject {
        key,
        client_ip: record.client_ip,
        channel: record.channel_id().unwrap_or_default().into(),
        credential: record.credential_id().unwrap_or_default().into(),
    };
    let system = &record.snapshot.system;
    let (message_limit, patience) = (system.websocket.message_limit, system.client_timeouts.write);
    let upstream = Leg::new(connection.io, Sender::Server, connection.unread, message_limit, patience);
    // Over HTTP/1.1 the whole connection becomes the socket, and goes on being counted as one. Over HTTP/2 the socket is one
    // more call on it.
    let (connection, call) = if upgrade.is_whole_connection() {
        client.upgrade();
        (Some(worker.gateway.count_connection()), None)
    } else {
        (None, Some(client.begin()))
    };
    let counted = worker.gateway.count_socket();
    let watch = Watch::begin(&worker, subject);
    let session = Session::new(worker.clone(), record, key, route.operation, is_metered);
    let tasks = worker.tasks.clone();
    tasks.spawn(async move {
        // Should the client be gone by now, dropping the session closes the record.
        let _held = (connection, call);
        let Ok(Ok(client)) = tokio::time::timeout(UPGRADE_PATIENCE, upgrade.connection).await else { return };
        let client = Leg::new(TokioIo::new(client), Sender::Client, BytesMut::new(), message_limit, patience);
        Box::new(Relay::new(client, upstream, session, watch, timer, counted)).run().await;
    });
    let mut response = Response::new(GatewayBody::fixed(Bytes::new(), None));
    *response.status_mut() = status;
    *response.headers_mut() = returned;
    response
}

/// The model in the path or the query; Azure calls it `deployment`. Where it is named in several places, nobody knows
/// which of them the upstream takes.
fn model_asked(route: &Route<'_>, query: Option<&str>) -> Result<Option<String>, Refusal> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let named = pairs.filter_map(|(name, value)| {
        let name = decoded(name);
        let is_model = ["model", "deployment"].iter().any(|known| name.eq_ignore_ascii_case(known));
        is_model.then(|| decoded(value))
    });
    let mut names: Vec<String> = route.model_in_path.map(decoded).into_iter().chain(named).collect();
    names.dedup();
    if names.len() > 1 {
        return Err(Refusal::invalid_request("The query names several models. Name the model once."));
    }
    Ok(names.pop())
}

fn not_supported() -> Refusal {
    let message = "Channel does not support WebSocket. Use the HTTP API of this provider.";
    Refusal::new(StatusCode::BAD_REQUEST, "websocket_not_supported", message)
}
