//! One upstream tried until it answers or fails for good.
//!
//! A request is written again only if the upstream provably saw nothing of it: the connection could not be opened, a
//! kept one turned out to be dead before a byte was written, or the method promises that twice is as good as once.

use std::time::Duration;

use aiproxy_core::time;
use bytes::Bytes;
use http::Method;

use crate::answer::Answer;
use crate::record::{Attempt, OpenRecord, bounded};
use crate::request_head::UpgradeLines;
use crate::route::Target;
use crate::state::Worker;
use crate::timer::CallTimer;
use crate::tunnel::handshake;
use crate::upstream::error::{AttemptError, Failure, Phase};
use crate::upstream::exchange::{Rest, exchange};
use crate::upstream::pool::Connection;

/// Pause before the first further connection attempt; doubled each time.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What is sent.
pub(crate) struct Request<'call> {
    pub(crate) method: &'call Method,
    /// The pieces, head first.
    pub(crate) pieces: &'call [Bytes],
    /// Our side of the handshake, if it asks for a socket.
    pub(crate) upgrade: Option<&'call UpgradeLines>,
}

/// Sends `request`, and the `rest` of its body if that is still to come, to `target` and waits for the
/// response head.
pub(crate) async fn run(
    worker: &Worker,
    target: &Target<'_>,
    request: &Request<'_>,
    rest: Option<Rest<'_>>,
    timer: &mut CallTimer,
    record: &mut OpenRecord,
) -> Result<Answer, AttemptError> {
    record.place = Some(target.place);
    if rest.is_some() {
        // A body that streams cannot be written twice, so it gets a connection that nobody else used before.
        let started = time::now();
        let result = fresh(worker, target, request, rest, timer).await;
        return note(record, target, started, result);
    }
    let idempotent = request.method.is_idempotent();
    let mut connects_left = target.channel.max_retries;
    let mut pause = RETRY_PAUSE;
    loop {
        let started = time::now();
        // A socket keeps its connection: those that are shared stay for calls.
        let pooled = if request.upgrade.is_none() { worker.pool.take(target.endpoint.pool_key, started) } else { None };
        let was_pooled = pooled.is_some();
        let result = match pooled {
            Some(connection) => on(connection, request, None, timer).await,
            None => fresh(worker, target, request, None, timer).await,
        };
        let error = match result {
            Err(error) if was_pooled && is_stale(&error, idempotent) => {
                tracing::debug!(channel.id = %target.channel.id, "a kept connection was dead; opening another");
                continue;
            }
            Err(error) if error.unsent && connects_left > 0 => error,
            result => return note(record, target, started, result),
        };
        connects_left -= 1;
        // The error is in the record; the call goes on.
        let Err(error) = note(record, target, started, Err(error)) else { continue };
        tracing::info!(channel.id = %target.channel.id, error = %error.failure, "connecting again");
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Whether a kept connection failed in a way that makes another one safe.
fn is_stale(error: &AttemptError, idempotent: bool) -> bool {
    matches!(error.failure, Failure::Closed(_)) && (error.unsent || idempotent)
}

/// Opens a connection and sends the request on it.
async fn fresh(
    worker: &Worker,
    target: &Target<'_>,
    request: &Request<'_>,
    rest: Option<Rest<'_>>,
    timer: &mut CallTimer,
) -> Result<Answer, AttemptError> {
    timer.enter(Phase::Connect);
    let dialing = worker.gateway.dialer().dial(target.endpoint);
    let io = tokio::select! {
        dialed = dialing => dialed.map_err(AttemptError::unsent)?,
        phase = std::future::poll_fn(|context| timer.poll(context)) => {
            return Err(AttemptError::unsent(Failure::Timeout(phase)));
        }
    };
    on(Connection::new(io, target.endpoint.pool_key), request, rest, timer).await
}

/// Sends the request on `connection`.
async fn on(
    mut connection: Connection,
    request: &Request<'_>,
    rest: Option<Rest<'_>>,
    timer: &mut CallTimer,
) -> Result<Answer, AttemptError> {
    let answer = exchange(&mut connection, request.method, request.pieces, rest, timer).await?;
    if let Some(upgrade) = request.upgrade.filter(|_| answer.head.status.as_u16() < 400) {
        return match handshake::accepted(&answer.head, upgrade) {
            Ok(()) => Ok(Answer::upgraded(answer.head, connection)),
            Err(why) => Err(AttemptError::ambiguous(Failure::Invalid(why))),
        };
    }
    if answer.head.status == http::StatusCode::SWITCHING_PROTOCOLS {
        return Err(AttemptError::ambiguous(Failure::Invalid("an upgrade nobody asked for")));
    }
    let reusable = answer.head.keep_alive && answer.request_complete;
    Ok(Answer::new(answer.head, connection, reusable))
}

/// Writes the attempt into the record.
fn note(
    record: &mut OpenRecord,
    target: &Target<'_>,
    started: time::Instant,
    result: Result<Answer, AttemptError>,
) -> Result<Answer, AttemptError> {
    let now = time::now();
    let (status, why) = match &result {
        Ok(answer) => (Some(answer.head.status.as_u16()), None),
        Err(error) => (None, Some(bounded(&error.failure.to_string()))),
    };
    if status.is_some() {
        record.first_byte = Some(now);
    }
    if let Err(error) = &result {
        tracing::warn!(
            request.id = %record.id,
            channel.id = %target.channel.id,
            upstream.host = %target.endpoint.authority,
            error = %error.failure,
            "the upstream did not answer"
        );
    }
    record.attempts.push(Attempt {
        place: target.place,
        status,
        ms: now.saturating_duration_since(started).as_millis() as u64,
        why,
        usage: None,
        cost: None,
    });
    result
}
