//! The only loop of a call: attempt → verdict → accept, or the next candidate.
//!
//! The *commit point* is the moment [`Failover::run`] returns an answer. For an event stream that is its first real
//! event, as long as there is somewhere else to go. Before it everything may move to the next candidate; after it
//! nothing is sent again.

use std::sync::Arc;
use std::time::Duration;

use aiproxy_core::time;
use aiproxy_llm::dialect::{Dialect, Operation};
use aiproxy_llm::meter::{Meter, MeterKind, StreamStart};
use aiproxy_llm::usage::Usage;
use http::header;

use crate::answer::Answer;
use crate::attempt;
use crate::client_body::ClientBody;
use crate::health::{Claim, Mark};
use crate::limits::{Demand, Exceeded, Lease};
use crate::metering::Coding;
use crate::outgoing::Outgoing;
use crate::plan::{Next, Plan, Wait};
use crate::record::{OpenRecord, bounded};
use crate::refusal::Refusal;
use crate::route::Target;
use crate::serving::Serving;
use crate::state::Worker;
use crate::timer::CallTimer;
use crate::upstream::error::{AttemptError, Failure};
use crate::upstream::exchange::Rest;
use crate::verdict::{Action, Outcome, Terms, Verdict, hint, verdict};

/// The answer that the caller gets.
pub(crate) struct Accepted {
    pub(crate) answer: Answer,
    pub(crate) timer: CallTimer,
    pub(crate) authority: Box<str>,
    /// Whether an alias was resolved for this target.
    pub(crate) has_alias: bool,
    /// Set while the rest of the body may still say something about the upstream.
    pub(crate) claim: Option<Claim>,
    /// What the call holds of the channel's and the credential's own limits and quotas.
    lease: Option<Box<dyn Lease>>,
    /// Which of the record's attempts gave it.
    attempt: usize,
}

impl Accepted {
    /// The whole body, if it is no larger than `limit` and comes to its end.
    pub(crate) async fn read_whole(mut self, limit: usize) -> Option<Vec<u8>> {
        self.answer.read_whole(limit, &mut self.timer).await
    }
}

/// A call on its way through its candidates.
pub(crate) struct Failover<'call> {
    worker: &'call Worker,
    serving: &'call Arc<Serving>,
    outgoing: &'call Outgoing<'call>,
    demand: Demand,
    client_body: &'call mut ClientBody,
    record: &'call mut OpenRecord,
    /// The most useful error so far, and how useful it is.
    best: Option<(u8, Spent)>,
    /// Of the channels' and credentials' own limits and quotas that were in the way, the one that is over first.
    full: Option<Exceeded>,
}

/// An attempt that was not the answer.
enum Spent {
    Answered(Box<Accepted>),
    Failed(Failure),
}

impl<'call> Failover<'call> {
    /// A call before its first attempt.
    pub(crate) fn new(
        worker: &'call Worker,
        serving: &'call Arc<Serving>,
        outgoing: &'call Outgoing<'call>,
        demand: Demand,
        client_body: &'call mut ClientBody,
        record: &'call mut OpenRecord,
    ) -> Self {
        Self { worker, serving, outgoing, demand, client_body, record, best: None, full: None }
    }

    /// Tries candidates in the order of `plan` until one answers, or none is left. The answer is boxed: it is large and
    /// handed on a few times.
    pub(crate) async fn run(mut self, plan: &mut Plan<'_>) -> Result<Box<Accepted>, Refusal> {
        let gateway = &self.worker.gateway;
        let budget = &self.serving.system.retry_budget;
        gateway.retry_budget.deposit();
        // The clock is read again only for further attempts.
        let mut now_ms = gateway.ms_of(self.record.started);
        loop {
            let (mut target, claim) = match plan.next(now_ms) {
                Next::Try(target, claim) => (target, claim),
                Next::Nothing(wait) => return self.give_up(wait),
            };
            if self.outgoing.upgrade.is_some()
                && let Some(endpoint) = &target.channel.websocket_url
            {
                target.endpoint = endpoint;
            }
            // An attempt before this one may have been made with the same channel's quota.
            self.record.leases[1] = None;
            let lease = match self.own_limits(&target).await {
                Ok(lease) => lease,
                Err(exceeded) => {
                    self.give_back(&claim);
                    plan.is_full(&claim, exceeded.scope);
                    self.keep_shortest(exceeded);
                    continue;
                }
            };
            if self.best.is_some() {
                if !gateway.retry_budget.withdraw(budget) {
                    self.give_back(&claim);
                    tracing::warn!(request.id = %self.record.id, "the retry budget is used up; the call is not sent again");
                    return self.give_up(Wait::default());
                }
                tracing::info!(
                    request.id = %self.record.id,
                    channel.id = %target.channel.id,
                    credential.id = %target.credential.id,
                    "failover: the call goes on here"
                );
            }

            let received = self.client_body.received();
            let mut timer = CallTimer::new(target.channel.timeouts, self.record.started);
            let (result, verdict) = match self.attempt(&target, &mut timer).await {
                Err(error) => {
                    self.keep_quotas(lease);
                    let verdict = verdict(&Outcome::Failed(&error), self.terms(&target));
                    (Err(error), verdict)
                }
                Ok(answer) => {
                    let authority = target.endpoint.authority.clone();
                    let has_alias = target.real_model.is_some();
                    let mut accepted = {
                        let attempt = self.record.attempts.len().saturating_sub(1);
                        Box::new(Accepted { answer, timer, authority, has_alias, claim: None, lease, attempt })
                    };
                    match self.judge(plan, &target, &mut accepted).await {
                        Ok(verdict) => (Ok(accepted), verdict),
                        Err((error, verdict)) => {
                            self.keep_quotas(accepted.lease.take());
                            (Err(error), verdict)
                        }
                    }
                }
            };
            let begun = result.as_ref().is_ok_and(|accepted| accepted.answer.head.status.is_success());
            let claim = self.learn(&target, claim, verdict.mark, begun);
            plan.failed(&target, verdict.mark);
            let can_resend = self.outgoing.prepared.whole || self.client_body.received() == received;
            let accepts = verdict.action == Action::Accept || !can_resend;
            let spent = match result {
                Err(error) if accepts => return Err(self.failed(&error.failure)),
                Err(error) => Spent::Failed(error.failure),
                Ok(mut accepted) => {
                    accepted.claim = claim;
                    if accepts {
                        return Ok(self.accepted(accepted));
                    }
                    Spent::Answered(accepted)
                }
            };
            self.keep(spent, verdict.action);
            now_ms = gateway.now_ms();
        }
    }

    fn terms(&self, target: &Target<'_>) -> Terms {
        Terms {
            retry_ambiguous: target.channel.retry_ambiguous,
            idempotent: self.outgoing.parts.method.is_idempotent(),
        }
    }

    /// Takes what the limits and quotas of the channel and the credential allow.
    async fn own_limits(&self, target: &Target<'_>) -> Result<Option<Box<dyn Lease>>, Exceeded> {
        if self.outgoing.route.operation == Operation::RealtimeCallControl && !self.demand.uses_tokens {
            // What ends a call must be possible when as many run as may.
            return Ok(None);
        }
        match (target.channel.limited, target.credential.limited) {
            (None, None) => Ok(None),
            (Some(one), None) | (None, Some(one)) => self.serving.limits.reserve(&[one], self.demand).await.map(Some),
            (Some(channel), Some(credential)) => {
                self.serving.limits.reserve(&[channel, credential], self.demand).await.map(Some)
            }
        }
    }

    async fn attempt(&mut self, target: &Target<'_>, timer: &mut CallTimer) -> Result<Answer, AttemptError> {
        let (pieces, chunked) = self.outgoing.request(target, self.client_body);
        let rest = if self.outgoing.prepared.whole { None } else { Some(Rest { body: self.client_body, chunked }) };
        self.record.real_model = target.real_model.map(bounded);
        let method = &self.outgoing.parts.method;
        let request = attempt::Request { method, pieces: &pieces, upgrade: self.outgoing.upgrade.as_ref() };
        let result = attempt::run(self.worker, target, &request, rest, timer, self.record).await;
        self.record.request_bytes = self.client_body.received();
        result
    }

    /// Looks at as much of the answer as the verdict needs. An answer that breaks off meanwhile is none.
    async fn judge(
        &mut self,
        plan: &Plan<'_>,
        target: &Target<'_>,
        accepted: &mut Accepted,
    ) -> Result<Verdict, (AttemptError, Verdict)> {
        let terms = self.terms(target);
        let Accepted { answer, timer, .. } = accepted;
        let status = answer.head.status.as_u16();
        let looked = match status {
            // Only here may the body change the verdict, or is it kept while others are asked.
            401 | 402 | 403 | 408 | 429 | 500.. => answer.read_error(timer).await,
            200..300 if plan.has_alternative() => match self.start_of(answer) {
                Some((start, document)) => answer.await_start(start, document, timer).await,
                None => Ok(None),
            },
            _ => Ok(None),
        };
        let error = match looked {
            Ok(error) => error,
            Err(error) => {
                self.note(&error.failure.to_string());
                let verdict = verdict(&Outcome::Failed(&error), terms);
                return Err((error, verdict));
            }
        };
        let verdict = match (status, &error) {
            (400.., error) => {
                let hint = hint(&answer.head.headers, &answer.held.concat(), time::unix_ms());
                verdict(&Outcome::Refused { status, hint, error: error.as_ref() }, terms)
            }
            (_, Some(error)) => verdict(&Outcome::ErrorInSuccess(error), terms),
            (_, None) => verdict(&Outcome::Begun, terms),
        };
        if error.is_some()
            && let Some(usage) = self.used_in_vain(answer)
        {
            self.record.note_use(usage);
        }
        if let Some(error) = &error {
            // Only the code: its sentence may quote the prompt.
            let why = error.code.as_deref().or(error.kind.as_deref()).unwrap_or("an error in a success");
            self.note(why);
        }
        Ok(verdict)
    }

    /// What tells a real beginning from an error, and whose it is if it is one JSON document; nothing where the body cannot be
    /// read.
    fn start_of(&self, answer: &Answer) -> Option<(StreamStart, Option<Dialect>)> {
        let headers = &answer.head.headers;
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let route = self.outgoing.route;
        let kind = MeterKind::of(route.operation, content_type);
        let is_readable =
            kind != MeterKind::Other && Coding::of(headers.get(header::CONTENT_ENCODING)) == Coding::Identity;
        is_readable.then(|| {
            let document = (kind == MeterKind::Json).then_some(route.dialect);
            (StreamStart::new(route.dialect, route.operation, kind), document)
        })
    }

    /// What a success used that turned out to be an error: its provider may have told.
    fn used_in_vain(&self, answer: &Answer) -> Option<Usage> {
        if !answer.head.status.is_success() {
            return None;
        }
        self.start_of(answer)?;
        let route = self.outgoing.route;
        let content_type = answer.head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = MeterKind::of(route.operation, content_type.unwrap_or(""));
        let mut meter = Meter::new(route.dialect, route.operation, kind);
        answer.held.iter().for_each(|piece| meter.feed(piece));
        meter.finish().usage
    }

    /// Tells the breakers. The claim stays where an answer has `begun` and the rest of its body may still say more.
    fn learn(&mut self, target: &Target<'_>, mut claim: Claim, mark: Mark, begun: bool) -> Option<Claim> {
        let settings = target.channel.health.as_ref()?;
        let health = &self.serving.health.channels[claim.channel];
        if mark == Mark::Healthy && begun {
            claim.answered(health);
            return Some(claim);
        }
        if let Some(pause) = claim.report(health, settings, mark, self.worker.gateway.now_ms()) {
            tracing::warn!(
                channel.id = %target.channel.id,
                credential.id = %target.credential.id,
                upstream.host = %target.endpoint.authority,
                model = self.record.model_asked.as_deref(),
                part = pause.part,
                pause_ms = pause.length.as_millis() as u64,
                reason = pause.reason.as_str(),
                "left alone for a while"
            );
        }
        None
    }

    fn give_back(&self, claim: &Claim) {
        claim.give_back(&self.serving.health.channels[claim.channel], self.worker.gateway.now_ms());
    }

    fn note(&mut self, why: &str) {
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.why = Some(bounded(why));
        }
    }

    /// Keeps the more useful error. Of two that are alike the later one. What it holds of limits and connections is
    /// free for the next attempt.
    fn keep(&mut self, mut spent: Spent, action: Action) {
        let usefulness = match &mut spent {
            Spent::Answered(accepted) => {
                self.keep_quotas(accepted.lease.take());
                if let Some(connection) = accepted.answer.take_connection() {
                    self.worker.pool.put(connection);
                }
                usefulness(accepted.answer.head.status.as_u16())
            }
            Spent::Failed(_) => 0,
        };
        if action == Action::NextAmbiguous
            && let Some(attempt) = self.record.attempts.last_mut()
        {
            let why = attempt.why.as_deref().unwrap_or("no answer");
            attempt.why = Some(bounded(&format!("{why}; sent again although it may have arrived")));
        }
        if self.best.as_ref().is_none_or(|(best, _)| *best <= usefulness) {
            self.best = Some((usefulness, spent));
        }
    }

    /// An attempt has failed. Its place is free for others, but if no other attempt follows, it is the one that counts.
    fn keep_quotas(&mut self, mut lease: Option<Box<dyn Lease>>) {
        if let Some(lease) = &mut lease {
            lease.end();
        }
        self.record.leases[1] = lease;
    }

    fn keep_shortest(&mut self, exceeded: Exceeded) {
        if self.full.as_ref().is_none_or(|full| exceeded.delay() < full.delay()) {
            self.full = Some(exceeded);
        }
    }

    /// Nothing is left to try.
    fn give_up(mut self, wait: Wait) -> Result<Box<Accepted>, Refusal> {
        match (self.best.take(), self.full, wait.until) {
            (Some((_, Spent::Answered(accepted))), ..) => Ok(self.accepted(accepted)),
            (Some((_, Spent::Failed(failure))), ..) => Err(self.failed(&failure)),
            (None, Some(exceeded), _) => Err(Refusal::limited(&exceeded)),
            (None, None, Some((until_ms, reason))) => {
                let wait_ms = until_ms.saturating_sub(self.worker.gateway.now_ms());
                Err(Refusal::left_alone(Duration::from_millis(wait_ms), reason))
            }
            (None, None, None) => Err(Refusal::no_channel()),
        }
    }

    fn accepted(&mut self, mut accepted: Box<Accepted>) -> Box<Accepted> {
        // What it used is read on its way to the client.
        if let Some(attempt) = self.record.attempts.get_mut(accepted.attempt) {
            (attempt.usage, attempt.cost) = (None, None);
        }
        // An answer that was kept while others were asked holds nothing any more; what the last of them holds stays.
        if let Some(mut lease) = accepted.lease.take() {
            if let Some(warning) = lease.reservations().take_warning() {
                self.record.quota_warning.get_or_insert(warning);
            }
            self.record.leases[1] = Some(lease);
        }
        accepted
    }

    fn failed(&self, failure: &Failure) -> Refusal {
        Refusal::upstream(failure, self.serving.system.body_limit)
    }
}

/// How much an error tells the caller what to do: coming back later helps most, a refused real key least.
fn usefulness(status: u16) -> u8 {
    match status {
        429 => 7,
        503 | 529 => 6,
        200..300 | 408 | 500.. => 5,
        402 => 4,
        403 => 3,
        401 => 2,
        _ => 1,
    }
}
