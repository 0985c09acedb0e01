//! The account that a call lives in, and what the gateway itself asks of it there: a socket that tells how the call goes,
//! and its end. Both are asked with the real key, and where the call was made.

use std::sync::Arc;
use std::time::Duration;

use aiproxy_config::snapshot::{Channel, Credential, Endpoint, Timeouts};
use aiproxy_core::time;
use aiproxy_llm::dialect::Dialect;
use http::{HeaderMap, Method, StatusCode};

use super::socket::Socket;
use crate::record::Place;
use crate::request_head::{BodyFraming, RequestHead, UpgradeLines};
use crate::serving::Serving;
use crate::state::Worker;
use crate::timer::CallTimer;
use crate::tunnel::handshake;
use crate::upstream::error::{AttemptError, Failure, Phase};
use crate::upstream::exchange::{Answer, exchange};
use crate::upstream::pool::Connection;
use crate::upstream_path::{upstream_path, websocket_path};

/// How often hanging up is tried, how long one try may take, and the pause behind one that failed.
const HANG_UP_TRIES: u32 = 3;
const HANG_UP_PATIENCE: Duration = Duration::from_secs(5);
const HANG_UP_PAUSE: Duration = Duration::from_millis(250);

/// Where a call lives.
#[derive(Clone)]
pub(super) struct CallAccount {
    /// What was in force when the call was made. Its channel and key are used if there is no newer one of the same name.
    pub(super) made_in: Arc<Serving>,
    pub(super) place: Place,
    /// Of the endpoint that answered.
    pub(super) authority: Box<str>,
    /// The path the client asked for, without the `/calls` at its end.
    pub(super) base: Box<str>,
    /// The query it came with, without credential and model.
    pub(super) query: Option<Box<str>>,
    /// The call, as the provider names it.
    pub(super) id: Box<str>,
}

/// Why there is no socket.
#[derive(Debug)]
pub(super) enum Unattached {
    /// The provider does not know the call: not yet, or no more.
    NoSuchCall,
    /// It refuses us: asking again will not help.
    Refused(StatusCode),
    /// It could not be asked, or answered something else.
    Failed,
}

impl CallAccount {
    /// Opens a socket that tells how the call goes.
    pub(super) async fn open(&self, worker: &Worker, message_limit: u64) -> Result<Socket, Unattached> {
        let lines = UpgradeLines { key: handshake::new_key(), protocols: None };
        let serving = worker.gateway.snapshot();
        let (channel, credential) = self.now(&serving);
        let endpoint = channel.websocket_url.as_ref().or_else(|| self.endpoint(channel)).ok_or(Unattached::Failed)?;
        let path = websocket_path(channel, endpoint, Dialect::Openai, &self.base);
        let query = match &self.query {
            Some(query) => format!("call_id={}&{query}", self.id),
            None => format!("call_id={}", self.id),
        };
        let request = Asked { method: Method::GET, path: &path, query: Some(&query), upgrade: Some(&lines) };
        let (answer, connection) = ask(worker, channel, credential, endpoint, &request).await.map_err(|error| {
            tracing::info!(call.id = %self.id, error = %error.failure, "the socket of a call could not be opened");
            Unattached::Failed
        })?;
        if handshake::accepted(&answer.head, &lines).is_ok() {
            return Ok(Socket::new(connection, message_limit));
        }
        match answer.head.status {
            StatusCode::NOT_FOUND => Err(Unattached::NoSuchCall),
            status @ (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(Unattached::Refused(status))
            }
            _ => Err(Unattached::Failed),
        }
    }

    /// Ends the call. A call that is over already is ended, too. False if nobody could be told.
    pub(super) async fn hang_up(&self, worker: &Worker) -> bool {
        for tried in 0..HANG_UP_TRIES {
            if tried > 0 {
                tokio::time::sleep(HANG_UP_PAUSE).await;
            }
            match tokio::time::timeout(HANG_UP_PATIENCE, self.try_to_hang_up(worker)).await {
                Ok(Ok(status)) if status.is_success() || status == StatusCode::NOT_FOUND => {
                    tracing::info!(call.id = %self.id, %status, "a call was hung up");
                    return true;
                }
                Ok(Ok(status)) => tracing::warn!(call.id = %self.id, %status, "a call was not hung up"),
                Ok(Err(error)) => tracing::warn!(call.id = %self.id, error = %error.failure, "a call was not hung up"),
                Err(_) => tracing::warn!(call.id = %self.id, "a call was not hung up in time"),
            }
        }
        false
    }

    async fn try_to_hang_up(&self, worker: &Worker) -> Result<StatusCode, AttemptError> {
        let serving = worker.gateway.snapshot();
        let (channel, credential) = self.now(&serving);
        let no_endpoint = || AttemptError::unsent(Failure::Invalid("the channel has no endpoint"));
        let endpoint = self.endpoint(channel).ok_or_else(no_endpoint)?;
        let asked = format!("{}/calls/{}/hangup", self.base, self.id);
        let path = upstream_path(channel, endpoint, Dialect::Openai, &asked);
        let request = Asked { method: Method::POST, path: &path, query: self.query.as_deref(), upgrade: None };
        let (answer, _) = ask(worker, channel, credential, endpoint, &request).await?;
        Ok(answer.head.status)
    }

    /// The channel and its key as they are now. One that is gone was good enough to make the call.
    fn now<'serving>(&'serving self, serving: &'serving Serving) -> (&'serving Channel, &'serving Credential) {
        let made_at = &self.made_in.channels[self.place.channel];
        let made_with = &made_at.credentials[self.place.credential];
        let channel = serving.channel_by_id.get(&made_at.id).and_then(|index| serving.channels.get(*index));
        let newer = channel.and_then(|channel| {
            let credential = channel.credentials.iter().find(|credential| credential.id == made_with.id)?;
            Some((&**channel, credential))
        });
        newer.unwrap_or((made_at, made_with))
    }

    fn endpoint<'channel>(&self, channel: &'channel Channel) -> Option<&'channel Endpoint> {
        let same = channel.endpoints.iter().find(|endpoint| endpoint.authority == self.authority);
        same.or_else(|| channel.endpoints.first())
    }
}

/// A request of our own, without a body.
struct Asked<'call> {
    method: Method,
    path: &'call str,
    query: Option<&'call str>,
    upgrade: Option<&'call UpgradeLines>,
}

/// Asks on a connection of its own: kept ones may be dead, and these requests are worth a fresh one.
async fn ask(
    worker: &Worker,
    channel: &Channel,
    credential: &Credential,
    endpoint: &Endpoint,
    request: &Asked<'_>,
) -> Result<(Answer, Connection), AttemptError> {
    let headers = HeaderMap::new();
    let head = RequestHead {
        method: &request.method,
        path: request.path,
        query: request.query,
        headers: &headers,
        dialect: Dialect::Openai,
        framing: if request.method == Method::POST { BodyFraming::Length(0) } else { BodyFraming::None },
        identity: false,
        upgrade: request.upgrade,
    };
    let head = head.write(channel, credential, endpoint);
    // The call lasts as long as it may; asking for something does not.
    let timeouts = Timeouts { total: Duration::ZERO, ..channel.timeouts };
    let mut timer = CallTimer::new(timeouts, time::now());
    timer.enter(Phase::Connect);
    let dialing = worker.gateway.dialer().dial(endpoint);
    let io = tokio::select! {
        dialed = dialing => dialed.map_err(AttemptError::unsent)?,
        phase = std::future::poll_fn(|context| timer.poll(context)) => {
            return Err(AttemptError::unsent(Failure::Timeout(phase)));
        }
    };
    let mut connection = Connection::new(io, endpoint.pool_key);
    let answer = exchange(&mut connection, &request.method, &[head], None, &mut timer).await?;
    Ok((answer, connection))
}
