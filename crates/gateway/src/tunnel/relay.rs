//! An open socket, in one task, from the handshake to the end of both connections.
//!
//! ```text
//! open      frames pass as they came; pings are answered on each leg; what the session has to see is shown to it
//! closing   somebody said goodbye, left, broke the rules or may not go on: the other leg is told, work that runs is
//!           ended so that its usage is known, close frames are exchanged
//! over      both legs are done, or the time for that is up
//! ```
//!
//! An idle socket holds no buffers: reads go into one area per thread, and what a peer takes at once is never copied.

use std::task::{Context, Poll};
use std::time::Duration;

use aiproxy_core::time;
use aiproxy_llm::websocket::Close;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};

use super::leg::Leg;
use super::pump::{Incoming, Outcome, Stop, from_client, from_upstream};
use super::session::Session;
use crate::record::End;
use crate::refusal::Refusal;
use crate::sessions::{Ending, Watch};
use crate::state::Counted;
use crate::timer::{CallTimer, Deadline};
use crate::upstream::error::Phase;

/// How long close frames may take once one was sent.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client may take for what waits for it when its upstream has said goodbye or left.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a client that broke the rules may take to read why.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(2);
/// How long work that runs may take to tell its usage after its client has gone.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);
/// The same, where the socket may not go on.
const SETTLE_REVOKED: Duration = Duration::from_millis(1_500);
/// Left of the grace period of a shutdown for the goodbye.
const DRAIN_RESERVE: Duration = Duration::from_secs(4);

// Close codes (RFC 6455 §7.4.1; 1012 is in IANA's registry).
const NORMAL: u16 = 1000;
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;
const INTERNAL: u16 = 1011;
const RESTART: u16 = 1012;

/// A tunnel between a client and an upstream.
pub(super) struct Relay<C, U> {
    client: Leg<C>,
    upstream: Leg<U>,
    session: Session,
    watch: Watch,
    timer: CallTimer,
    incoming: Incoming,
    /// Nothing that comes from the client is read any more, only waited for its end.
    is_deaf: bool,
    /// What the upstream is told once the work that runs has ended, and until when that is waited for.
    settling: Option<(Close, Deadline)>,
    /// When both legs must be done.
    closing: Deadline,
    /// Until what waits for the client was written.
    is_delivering: bool,
    /// The gateway stops: when the client is told, whatever is going on.
    draining: Option<Deadline>,
    checkpoint: Deadline,
    _counted: Counted,
}

impl<C, U> Relay<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(
        client: Leg<C>,
        upstream: Leg<U>,
        session: Session,
        watch: Watch,
        mut timer: CallTimer,
        counted: Counted,
    ) -> Self {
        timer.enter(Phase::Idle);
        Self {
            client,
            upstream,
            session,
            watch,
            timer,
            incoming: Incoming::default(),
            is_deaf: false,
            settling: None,
            closing: Deadline::default(),
            is_delivering: false,
            draining: None,
            checkpoint: Deadline::default(),
            _counted: counted,
        }
    }

    /// Runs until both connections have ended.
    pub(super) async fn run(mut self) {
        std::future::poll_fn(|context| self.poll_relay(context)).await;
    }

    fn poll_relay(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            while let Poll::Ready(ending) = self.watch.poll(context) {
                self.told(ending);
            }
            // Each is read until nothing more comes, and what comes is written at once: the usual message takes one
            // round. Another one is worth its price only where something waited, or somebody is leaving.
            self.read_client(context);
            self.read_upstream(context);
            let mut is_moving = self.notice_losses();
            is_moving |= self.look_at_clock(context);
            is_moving |= self.settle(context);
            is_moving |= self.client.poll_write(context);
            is_moving |= self.upstream.poll_write(context);
            if self.is_over(context) {
                return Poll::Ready(());
            }
            if !is_moving {
                return Poll::Pending;
            }
        }
    }

    // --- reading ---
    //
    // Whether a peer is read depends on the other one alone. Not to read a peer because it does not read wedges those that
    // do one thing at a time.

    fn read_client(&mut self, context: &mut Context<'_>) {
        while self.client.is_heard() && self.upstream.has_room() {
            let Self { client, upstream, session, incoming, is_deaf, .. } = self;
            let read = client.poll_read(context, |context, decoder, bytes| {
                if bytes.is_empty() {
                    return None;
                }
                session.record.request_bytes += bytes.len() as u64;
                Some(match *is_deaf {
                    true => Outcome::default(),
                    false => from_client(context, decoder, bytes, upstream, session, incoming),
                })
            });
            match read {
                Poll::Pending => break,
                Poll::Ready(Ok(Some(outcome))) => self.client_said(outcome),
                Poll::Ready(Ok(None) | Err(_)) => self.client.lose(),
            }
        }
    }

    fn read_upstream(&mut self, context: &mut Context<'_>) {
        while self.upstream.is_heard() && self.client.has_room() {
            let Self { client, upstream, session, .. } = self;
            let read = upstream.poll_read(context, |context, decoder, bytes| {
                if bytes.is_empty() {
                    return None;
                }
                session.record.response_bytes += bytes.len() as u64;
                Some(from_upstream(context, decoder, bytes, client, session))
            });
            match read {
                Poll::Pending => break,
                Poll::Ready(Ok(Some(outcome))) => self.upstream_said(outcome),
                Poll::Ready(Ok(None) | Err(_)) => self.upstream.lose(),
            }
        }
    }

    fn client_said(&mut self, outcome: Outcome) {
        self.timer.enter(Phase::Idle);
        outcome.pongs.into_iter().for_each(|payload| self.client.pong(payload));
        outcome.messages.iter().for_each(|message| self.client.say(message));
        if let Some(close) = outcome.close {
            self.client_closed(close);
        }
        // What came behind the stop was not read.
        self.is_deaf |= outcome.stop.is_some();
        match outcome.stop {
            None => {}
            Some(Stop::Refused(refusal)) => {
                let messages = self.session.messages(&refusal);
                self.end(&refusal, messages, POLICY, End::Complete, SETTLE_REVOKED);
            }
            Some(Stop::Violation(violation)) => self.client_broke_rules(violation.close_code(), violation.as_str()),
            Some(Stop::Unchecked(code, why)) => self.client_broke_rules(code, why),
        }
    }

    fn upstream_said(&mut self, outcome: Outcome) {
        self.timer.enter(Phase::Idle);
        if let Some(due) = self.session.keep() {
            self.checkpoint.set(Some(due));
        }
        outcome.pongs.into_iter().for_each(|payload| self.upstream.pong(payload));
        if let Some(close) = outcome.close {
            self.upstream_closed(close);
        }
        if let Some(Stop::Violation(violation)) = outcome.stop {
            tracing::warn!(request.id = %self.session.record.id, why = violation.as_str(), "an upstream broke the rules of WebSocket");
            self.upstream.close(Some(close(violation.close_code(), violation.as_str())));
            self.upstream.lose_after_writing();
            self.upstream_failed();
        }
    }

    // --- endings ---

    fn is_closing(&self) -> bool {
        let closes = |is_closing, has_got_close, is_gone| is_closing || has_got_close || is_gone;
        closes(self.client.is_closing(), self.client.has_got_close, self.client.is_gone)
            || closes(self.upstream.is_closing(), self.upstream.has_got_close, self.upstream.is_gone)
    }

    fn client_closed(&mut self, said: Option<Close>) {
        self.client.has_got_close = true;
        if self.client.is_closing() {
            // The answer to our goodbye, or to the upstream's, which gets it as its own.
            if self.settling.is_none() {
                self.upstream.close(said);
            }
            return;
        }
        self.session.ends(End::Complete, None);
        if self.upstream.is_gone || self.upstream.is_closing() {
            self.client.close(said);
        } else if self.session.has_open_work() {
            self.client.close(said.clone());
            self.finish_work(said.unwrap_or_else(|| close(NORMAL, "")), SETTLE_PATIENCE);
        } else {
            self.upstream.close(said);
        }
    }

    fn upstream_closed(&mut self, said: Option<Close>) {
        self.upstream.has_got_close = true;
        self.settling = None;
        if self.client.has_got_close || self.client.is_closing() {
            self.client.close(said.clone());
            self.upstream.close(said);
            return;
        }
        match &said {
            Some(Close { code, .. }) if !matches!(*code, NORMAL | GOING_AWAY) => {
                self.session.ends(End::UpstreamError, None);
            }
            _ => self.session.ends(End::Complete, None),
        }
        self.deliver();
        self.client.close(said);
    }

    /// Nothing more comes from the upstream; what came is still the client's.
    fn deliver(&mut self) {
        if !self.client.is_flushed() {
            self.is_delivering = true;
            self.closing.set_after(DELIVERY_PATIENCE);
        }
    }

    /// A peer is lost where its connection ends, and where it does not take what is written to it.
    fn notice_losses(&mut self) -> bool {
        let (client, upstream) = (self.client.take_loss(), self.upstream.take_loss());
        if client {
            self.client_left();
        }
        if upstream {
            self.upstream_left();
        }
        client || upstream
    }

    fn client_left(&mut self) {
        self.session.ends(End::ClientClosed, None);
        self.leave_upstream(close(GOING_AWAY, ""), SETTLE_PATIENCE);
    }

    fn upstream_left(&mut self) {
        if !self.upstream.has_got_close {
            self.upstream_failed();
        }
    }

    /// The upstream broke off, or sends what is no WebSocket.
    fn upstream_failed(&mut self) {
        self.settling = None;
        if self.client.has_got_close {
            // It was asked for; only the upstream's answer is missing.
            self.client.close(Some(close(NORMAL, "")));
        } else if !self.client.is_closing() && !self.client.is_gone {
            let message = "The upstream broke off in the middle of the session.";
            let refusal = Refusal::new(StatusCode::BAD_GATEWAY, "upstream_invalid", message);
            self.session.ends(End::UpstreamError, Some(refusal.code));
            self.deliver();
            self.session.messages(&refusal).iter().for_each(|message| self.client.say(message));
            self.client.close(Some(close(INTERNAL, message)));
            if self.client.is_mid_frame() {
                // The rest of the frame will never come; nothing can be said in the middle of it.
                self.client.lose_after_writing();
            }
        }
    }

    fn client_broke_rules(&mut self, code: u16, why: &str) {
        tracing::info!(request.id = %self.session.record.id, why, "a client broke the rules of its socket");
        self.session.ends(End::ClientClosed, Some("invalid_request"));
        self.client.close(Some(close(code, why)));
        self.closing.set_after(FAREWELL_PATIENCE);
        self.leave_upstream(close(GOING_AWAY, ""), FAREWELL_PATIENCE);
    }

    fn told(&mut self, ending: Ending) {
        match ending {
            Ending::Revoked(refusal) if !self.is_closing() => {
                let messages = self.session.messages(&refusal);
                self.end(&refusal, messages, POLICY, End::Complete, SETTLE_REVOKED);
            }
            Ending::Revoked(_) => {}
            Ending::Draining => {
                let grace = self.session.record.snapshot.system.shutdown_timeout;
                let mut deadline = Deadline::default();
                deadline.set(Some(time::now() + grace.saturating_sub(DRAIN_RESERVE)));
                self.draining = Some(deadline);
            }
        }
    }

    /// Ends the session: the client is told why, the upstream may finish telling what was used.
    fn end(&mut self, refusal: &Refusal, messages: Vec<String>, code: u16, end: End, patience: Duration) {
        self.session.ends(end, Some(refusal.code));
        messages.iter().for_each(|message| self.client.say(message));
        self.client.close(Some(close(code, &refusal.message)));
        self.leave_upstream(close(GOING_AWAY, ""), patience);
    }

    fn leave_upstream(&mut self, said: Close, patience: Duration) {
        if (self.client.is_gone || self.is_deaf) && self.upstream.is_mid_frame() {
            // The frame it waits for will never be whole; nothing can be said in the middle of it.
            self.upstream.lose();
        }
        if self.upstream.is_gone || self.upstream.is_closing() || self.settling.is_some() {
            return;
        }
        if self.session.has_open_work() { self.finish_work(said, patience) } else { self.upstream.close(Some(said)) }
    }

    /// Work that runs is paid for: it is ended and its usage read, before goodbye is said.
    fn finish_work(&mut self, said: Close, patience: Duration) {
        self.session.cancel().iter().for_each(|message| self.upstream.say(message));
        let mut deadline = Deadline::default();
        deadline.set(Some(time::now() + patience));
        self.closing.set_after(patience + CLOSE_PATIENCE);
        self.settling = Some((said, deadline));
    }

    fn settle(&mut self, context: &mut Context<'_>) -> bool {
        let Some((_, deadline)) = &mut self.settling else { return false };
        let is_due = deadline.poll(context).is_ready();
        if !is_due && self.session.has_open_work() && !self.upstream.is_gone {
            return false;
        }
        if let Some((said, _)) = self.settling.take() {
            self.upstream.close(Some(said));
        }
        self.closing.set_after(CLOSE_PATIENCE);
        true
    }

    // --- time ---

    fn look_at_clock(&mut self, context: &mut Context<'_>) -> bool {
        if self.checkpoint.poll(context).is_ready() {
            self.checkpoint.set(self.session.keep());
        }
        if self.is_closing() {
            return false;
        }
        if let Some(deadline) = &mut self.draining
            && (deadline.poll(context).is_ready() || !self.session.has_open_work())
        {
            let message = "The gateway restarts. Connect again.";
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "draining", message);
            self.end(&refusal, Vec::new(), RESTART, End::Shutdown, SETTLE_REVOKED);
            return true;
        }
        let Poll::Ready(phase) = self.timer.poll(context) else { return false };
        let message = match phase {
            Phase::Total => "This session has lasted as long as its channel allows (total timeout). Connect again.",
            _ => "Nothing was said for as long as this session's channel allows (idle timeout). Connect again.",
        };
        let refusal = Refusal::new(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", message);
        let messages = self.session.messages(&refusal);
        self.end(&refusal, messages, POLICY, End::Timeout, SETTLE_REVOKED);
        true
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        if !self.is_closing() {
            return false;
        }
        if self.is_delivering && self.client.is_flushed() {
            self.is_delivering = false;
            self.closing.set_after(CLOSE_PATIENCE);
        }
        self.closing.arm(CLOSE_PATIENCE);
        if self.closing.poll(context).is_ready() {
            if self.client.has_got_close && !self.client.is_closing() {
                // The upstream did not answer the goodbye; the client gets its own back.
                self.client.close(Some(close(NORMAL, "")));
                self.client.poll_write(context);
            }
            if self.upstream.has_got_close && !self.upstream.is_closing() {
                // And the other way around.
                self.upstream.close(Some(close(NORMAL, "")));
                self.upstream.poll_write(context);
            }
            return true;
        }
        let is_done = |has_sent, has_got, is_flushed| has_sent && has_got && is_flushed;
        let client = self.client.is_gone
            || is_done(self.client.has_sent_close, self.client.has_got_close, self.client.is_flushed());
        let upstream = self.upstream.is_gone
            || is_done(self.upstream.has_sent_close, self.upstream.has_got_close, self.upstream.is_flushed());
        // Each leg is shut as soon as it is done: a peer may wait for that. A server closes first (RFC 6455 §7.1.1).
        let says_no_more = self.is_deaf && self.client.has_sent_close && self.client.is_flushed();
        let is_shut = (client || says_no_more) && self.client.poll_shutdown(context);
        let client = client && is_shut;
        let upstream = upstream && self.upstream.poll_shutdown(context);
        client && upstream
    }
}

fn close(code: u16, reason: &str) -> Close {
    Close { code, reason: reason.into() }
}
