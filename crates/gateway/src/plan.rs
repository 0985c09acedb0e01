//! In which order a call tries its candidates. Pure but for the trials it takes of half-open breakers.
//!
//! The order is not made beforehand: most calls need one target. Each time one is asked for, the best of those left is
//! picked: lower priority first, then by weight; another credential or endpoint of the same channel before another
//! channel. Another channel only if the caller has `failover`: without it the channel is chosen once, whatever its
//! health, and nothing ever reaches another.

use aiproxy_config::snapshot::{Channel, Credential, Scope, Status};

use crate::health::{ChannelHealth, Claim, Gate, Mark, Reason};
use crate::record::Place;
use crate::route::{Candidate, Target, real_model};
use crate::serving::Serving;
use crate::share::{Share, by_weight, rendezvous};

/// Most attempts of one call.
const ATTEMPTS_LIMIT: usize = 10;

/// A call's candidates, and what was tried of them.
pub(crate) struct Plan<'call> {
    serving: &'call Serving,
    model: Option<&'call str>,
    model_hash: u64,
    candidates: Vec<Candidate<'call>>,
    share: Share,
    /// The conversation, if one of the candidates keeps them together.
    conversation: Option<u64>,
    /// The channel being tried, as an index into `candidates`.
    current: Option<usize>,
    /// Channels that have nothing left.
    done: Vec<usize>,
    /// Credentials tried, and those whose own limits are reached.
    tried: Vec<Place>,
    /// Endpoints that could not be reached: channel and endpoint.
    unreachable: Vec<(usize, usize)>,
    attempts: usize,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Next<'call> {
    /// Try this.
    Try(Target<'call>, Claim),
    /// Nothing is left that may be used now.
    Nothing(Wait),
}

/// When something that is being left alone may be used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wait {
    /// The earliest moment, in milliseconds since the gateway's start, and why not before; `None` if nothing is being
    /// left alone.
    pub(crate) until: Option<(u64, Reason)>,
}

impl<'call> Plan<'call> {
    /// A plan for `candidates` (never empty, all of them able to serve the call).
    pub(crate) fn new(
        serving: &'call Serving,
        candidates: Vec<Candidate<'call>>,
        model: Option<&'call str>,
        failover: bool,
        conversation: Option<u64>,
        share: Share,
    ) -> Self {
        let conversation = conversation.filter(|_| candidates.iter().any(|candidate| candidate.channel.affinity));
        let mut plan = Self {
            serving,
            model,
            model_hash: model.map_or(0, |model| aiproxy_llm::peek::stable_hash(&[model.as_bytes()])),
            candidates,
            share,
            conversation,
            current: None,
            done: Vec::new(),
            tried: Vec::new(),
            unreachable: Vec::new(),
            attempts: 0,
        };
        if !failover && plan.candidates.len() > 1 {
            let chosen = plan.choose_channel(|_| true).and_then(|index| plan.candidates.get(index).copied());
            plan.candidates = chosen.into_iter().collect();
        }
        plan
    }

    /// A plan with one credential of one channel: the call refers to something that was made there and that nobody else
    /// knows.
    pub(crate) fn pinned(
        serving: &'call Serving,
        candidate: Candidate<'call>,
        credential: usize,
        model: Option<&'call str>,
        share: Share,
    ) -> Self {
        let mut plan = Self::new(serving, vec![candidate], model, false, None, share);
        let others = (0..candidate.channel.credentials.len()).filter(|index| *index != credential);
        plan.tried = others.map(|credential| Place { channel: candidate.index, credential }).collect();
        plan
    }

    /// Whether something else could be tried if the current attempt (or, before it, the first one) fails. May say yes
    /// where health then says no.
    pub(crate) fn has_alternative(&self) -> bool {
        let left = |candidate: &Candidate<'_>| {
            let credentials = candidate.channel.credentials.iter().enumerate();
            let credentials = credentials.filter(|(index, credential)| self.may_use(candidate, *index, credential));
            credentials.count() + self.reachable(candidate).saturating_sub(1)
        };
        let all = self.candidates.iter().enumerate().filter(|(index, _)| !self.done.contains(index));
        let left: usize = all.map(|(_, candidate)| left(candidate)).sum();
        self.attempts < ATTEMPTS_LIMIT && left > usize::from(self.attempts == 0)
    }

    /// The next target. Its credential counts as tried from now on.
    pub(crate) fn next(&mut self, now_ms: u64) -> Next<'call> {
        if self.attempts >= ATTEMPTS_LIMIT {
            return Next::Nothing(Wait::default());
        }
        loop {
            let usable_now = |index: usize| self.is_usable(index, now_ms);
            let current = self.current.filter(|index| usable_now(*index));
            let Some(index) = current.or_else(|| self.choose_channel(usable_now)) else {
                return Next::Nothing(self.wait(now_ms));
            };
            self.current = Some(index);
            match self.take_within(index, now_ms) {
                Some((target, claim)) => {
                    self.attempts += 1;
                    self.share = Share::random();
                    return Next::Try(target, claim);
                }
                // Somebody else was faster with a trial; what it belongs to is open now.
                None => continue,
            }
        }
    }

    /// What `target` failed with. Where the place is to blame rather than the credential, that may be tried at another.
    pub(crate) fn failed(&mut self, target: &Target<'_>, mark: Mark) {
        let Some(candidate) = self.candidates.iter().find(|candidate| candidate.index == target.place.channel) else {
            return;
        };
        let blames_place = match mark {
            Mark::Unreachable => true,
            Mark::Failure { .. } => self.reachable(candidate) > 1,
            _ => false,
        };
        if blames_place {
            self.unreachable.push((target.place.channel, target.endpoint_index));
            self.tried.retain(|place| *place != target.place);
        }
    }

    /// A limit of the target's own is reached. That was no attempt.
    pub(crate) fn is_full(&mut self, claim: &Claim, scope: Scope) {
        self.attempts = self.attempts.saturating_sub(1);
        if scope == Scope::Channel {
            self.done.extend(self.candidates.iter().position(|candidate| candidate.index == claim.channel));
        }
    }

    fn health(&self, candidate: &Candidate<'_>) -> &'call ChannelHealth {
        &self.serving.health.channels[candidate.index]
    }

    fn may_use(&self, candidate: &Candidate<'_>, index: usize, credential: &Credential) -> bool {
        credential.status == Status::Active
            && !self.tried.contains(&Place { channel: candidate.index, credential: index })
    }

    fn reachable(&self, candidate: &Candidate<'_>) -> usize {
        (0..candidate.channel.endpoints.len()).filter(|endpoint| self.is_reachable(candidate, *endpoint)).count()
    }

    fn is_reachable(&self, candidate: &Candidate<'_>, endpoint: usize) -> bool {
        !self.unreachable.contains(&(candidate.index, endpoint))
    }

    /// Whether a channel has a credential and an endpoint that may be used now.
    fn is_usable(&self, index: usize, now_ms: u64) -> bool {
        let Some(candidate) = self.candidates.get(index) else { return false };
        if self.done.contains(&index) {
            return false;
        }
        let health = self.health(candidate);
        let channel = candidate.channel;
        is_passable(health.breaker.gate(now_ms))
            && (0..channel.endpoints.len()).any(|endpoint| self.endpoint_is_usable(candidate, health, endpoint, now_ms))
            && (channel.credentials.iter().enumerate())
                .any(|(index, credential)| self.credential_is_usable(candidate, health, index, credential, now_ms))
    }

    fn endpoint_is_usable(&self, candidate: &Candidate<'_>, health: &ChannelHealth, index: usize, now_ms: u64) -> bool {
        self.is_reachable(candidate, index) && is_passable(health.endpoints[index].gate(now_ms))
    }

    fn credential_is_usable(
        &self,
        candidate: &Candidate<'_>,
        health: &ChannelHealth,
        index: usize,
        credential: &Credential,
        now_ms: u64,
    ) -> bool {
        let state = &health.credentials[index];
        self.may_use(candidate, index, credential)
            && is_passable(state.breaker.gate(now_ms))
            && state.model(self.model_hash).is_none_or(|breaker| is_passable(breaker.gate(now_ms)))
    }

    /// The best of the channels that are `usable`: the lowest priority number, then weight.
    fn choose_channel(&self, usable: impl Fn(usize) -> bool) -> Option<usize> {
        if let [_] = &*self.candidates {
            return usable(0).then_some(0);
        }
        let all = || self.candidates.iter().enumerate().filter(|(index, _)| usable(*index));
        let first = all().map(|(_, candidate)| candidate.channel.priority).min()?;
        let tier = || all().filter(|(_, candidate)| candidate.channel.priority == first);
        let weights = tier().map(|(index, candidate)| (index, candidate.channel.weight));
        match self.conversation {
            Some(conversation) => rendezvous(
                conversation,
                tier().map(|(index, candidate)| {
                    (
                        index,
                        candidate.channel.weight,
                        aiproxy_llm::peek::stable_hash(&[candidate.channel.id.as_bytes()]),
                    )
                }),
            ),
            None => by_weight(weights, self.share.channel),
        }
    }

    /// A credential and an endpoint of one channel, with the trials on the way.
    fn take_within(&mut self, index: usize, now_ms: u64) -> Option<(Target<'call>, Claim)> {
        let candidate = *self.candidates.get(index)?;
        let channel: &'call Channel = candidate.channel;
        let health = self.health(&candidate);
        let credentials = || {
            let usable = |(index, credential): &(usize, &Credential)| {
                self.credential_is_usable(&candidate, health, *index, credential, now_ms)
            };
            channel.credentials.iter().enumerate().filter(usable)
        };
        let credential = match self.conversation.filter(|_| channel.affinity) {
            Some(conversation) => rendezvous(
                conversation,
                credentials().map(|(index, credential)| (index, credential.weight, credential.fingerprint)),
            ),
            None => {
                by_weight(credentials().map(|(index, credential)| (index, credential.weight)), self.share.credential)
            }
        }?;
        let endpoints = (channel.endpoints.iter().enumerate())
            .filter(|(index, _)| self.endpoint_is_usable(&candidate, health, *index, now_ms))
            .map(|(index, endpoint)| (index, endpoint.weight));
        let endpoint = by_weight(endpoints, self.share.endpoint)?;
        let claim = Claim::take(health, candidate.index, credential, endpoint, self.model_hash, now_ms)?;
        let place = Place { channel: candidate.index, credential };
        self.tried.push(place);
        let target = Target {
            channel,
            place,
            credential: &channel.credentials[credential],
            endpoint: &channel.endpoints[endpoint],
            endpoint_index: endpoint,
            real_model: self.model.and_then(|model| real_model(channel, model)),
        };
        Some((target, claim))
    }

    /// When the first of those being left alone may be used again, and why not before.
    fn wait(&self, now_ms: u64) -> Wait {
        let mut wait = Wait::default();
        for (index, candidate) in self.candidates.iter().enumerate() {
            if self.done.contains(&index) {
                continue;
            }
            let health = self.health(candidate);
            let endpoints = (0..candidate.channel.endpoints.len())
                .filter(|endpoint| self.is_reachable(candidate, *endpoint))
                .map(|endpoint| opens_at(health.endpoints[endpoint].gate(now_ms)));
            let Some(endpoint) = endpoints.min_by_key(|(until, _)| *until) else { continue };
            for (index, credential) in candidate.channel.credentials.iter().enumerate() {
                if !self.may_use(candidate, index, credential) {
                    continue;
                }
                let state = &health.credentials[index];
                let model = state.model(self.model_hash).map_or(Gate::Closed, |breaker| breaker.gate(now_ms));
                let gates = [health.breaker.gate(now_ms), state.breaker.gate(now_ms), model];
                let gates = gates.into_iter().map(opens_at).chain([endpoint]);
                let opens = gates.max_by_key(|(until, _)| *until).unwrap_or((0, Reason::Failures));
                if wait.until.is_none_or(|(earliest, _)| opens.0 < earliest) {
                    wait.until = Some(opens);
                }
            }
        }
        wait
    }
}

fn is_passable(gate: Gate) -> bool {
    !matches!(gate, Gate::Open(..))
}

fn opens_at(gate: Gate) -> (u64, Reason) {
    match gate {
        Gate::Closed | Gate::HalfOpen => (0, Reason::Failures),
        Gate::Open(until, reason) => (until, reason),
    }
}
