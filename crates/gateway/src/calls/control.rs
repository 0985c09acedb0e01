//! What is asked of a call that exists: hanging up, accepting, rejecting, referring, and whatever else comes after its id.
//! It goes to the account where the call lives, and only for its owner.

use bytes::Bytes;
use http::StatusCode;
use percent_encoding::percent_decode_str;

use super::book::{Call, call_place};
use super::session::{SESSION_LIMIT, Session, asked_for};
use super::{Asked, RealtimeCall};
use crate::credential;
use crate::failover::Failover;
use crate::flow::Reply;
use crate::outgoing::Outgoing;
use crate::plan::Plan;
use crate::refusal::Refusal;
use crate::request_body::{Peeked, PreparedBody};
use crate::respond::Answered;
use crate::route::Candidate;

/// Largest body: the session that an incoming call is accepted with.
const BODY_LIMIT: usize = 2 * SESSION_LIMIT;

/// What a path asks for, if it names a call by WebRTC or SIP.
pub(super) fn asked(path: &str) -> Option<Asked> {
    let (_, action) = call_in(path)?;
    Some(if action == Some("accept") { Asked::Accept } else { Asked::Control })
}

/// The id of the call that a path names, and what is asked of it.
fn call_in(path: &str) -> Option<(String, Option<&str>)> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.find(|segment| *segment == "realtime")?;
    segments.find(|segment| *segment == "calls")?;
    let id = percent_decode_str(segments.next()?).decode_utf8().ok()?;
    Some((id.into_owned(), segments.next()))
}

impl RealtimeCall<'_> {
    /// Asks the provider, if the call is the caller's.
    pub(super) async fn control(mut self, asked: Asked, mut channels: Vec<Candidate<'_>>) -> Result<Reply, Refusal> {
        let path = self.parts.uri.path();
        let no_call = || Refusal::no_route("This path names no call.");
        let (id, action) = call_in(path).ok_or_else(no_call)?;
        let gateway = self.worker.gateway.clone();
        let known = call_place(&gateway, self.caller.user, &channels, &id)?;
        let body = self.read_body(BODY_LIMIT).await?;
        let mut prepared = PreparedBody { pieces: vec![body.clone()], whole: true, peeked: Peeked::Nothing };
        if body.is_empty() {
            prepared.pieces.clear();
        }
        let mut model = None;
        if asked == Asked::Accept {
            let mut session = accepted_with(&body)?;
            self.record.model_asked = asked_for(&session);
            channels = session.permit(&self.caller, self.route, channels)?;
            model = session.model().map(str::to_owned);
            let session = session.write()?;
            prepared =
                PreparedBody { peeked: Peeked::Json(session.peeked(0)), pieces: vec![session.bytes], whole: true };
        }
        let demand = asked.demand(self.record.started_unix_ms);
        self.record.demand = demand;
        let outgoing = Outgoing {
            parts: self.parts,
            path,
            query: self.parts.uri.query().and_then(credential::strip_query),
            route: self.route,
            prepared,
            asks_for_usage: false,
            looks_inside: false,
            upgrade: None,
        };
        let share = self.worker.sequence.next();
        let earlier = || gateway.works.maker_among(&channels, std::iter::once((&*id).into()));
        let (serving, failover) = (self.serving, self.caller.key.failover);
        let mut plan = match known.or_else(earlier) {
            Some((channel, credential)) => Plan::pinned(serving, channel, credential, model.as_deref(), share),
            None => Plan::new(serving, channels, model.as_deref(), failover, None, share),
        };
        let failover = Failover::new(self.worker, serving, &outgoing, demand, self.client_body, self.record);
        let accepted = failover.run(&mut plan).await?;
        let status = accepted.answer.head.status;
        if status.is_success() && known.is_none() {
            self.claim(&id);
        }
        // What the provider does not know is over.
        if action == Some("hangup")
            && (status.is_success() || status == StatusCode::NOT_FOUND)
            && let Some(call) = gateway.calls.book.find(&id)
        {
            call.hung_up.cancel();
        }
        Ok(Reply::Upstream(Answered { accepted, asks_for_usage: false, remembers_work: false }))
    }

    /// The call is the caller's from now on, and lives where it answered.
    fn claim(&self, id: &str) {
        if let (Some(channel), Some(credential)) = (self.record.channel_id(), self.record.credential_id()) {
            self.worker.gateway.calls.book.claim(id, Call::new(&self.caller.user.id, channel, credential));
        }
    }
}

/// The session that an incoming call is accepted with.
fn accepted_with(body: &Bytes) -> Result<Session, Refusal> {
    if body.is_empty() { Ok(Session::default()) } else { Session::read(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_is_found_in_the_path() {
        let id = |text: &str| text.to_owned();
        assert_eq!(call_in("/v1/realtime/calls/rtc_1/hangup"), Some((id("rtc_1"), Some("hangup"))));
        assert_eq!(call_in("/openai/v1//realtime/calls/rtc%5F1/refer/"), Some((id("rtc_1"), Some("refer"))));
        assert_eq!(call_in("/v1/realtime/calls/rtc_1"), Some((id("rtc_1"), None)));
        assert_eq!(call_in("/v1/realtime/calls"), None);
        assert_eq!(call_in("/v1/live/sessions/s/hangup"), None);
    }
}
