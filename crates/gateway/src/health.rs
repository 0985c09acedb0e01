//! Which channels, credentials and endpoints are fit to be used. Learned from calls; asked by planning.
//!
//! A credential has a breaker for itself and one for each model it was refused for: a provider that is out of capacity
//! for one model serves the others. The state belongs to the process: a reload hands it on to the channels, credentials
//! and endpoints that are still the same. A credential whose key was exchanged starts anew.

mod breaker;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aiproxy_config::snapshot::{Channel, Health, Snapshot};

pub(crate) use breaker::{Breaker, Gate, LONGEST_HINT, Reason, Trial};

/// First and longest pause of a credential that the provider refuses (401), or for a model (403).
const REJECTED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));
/// First and longest pause of a credential whose money or allowance is used up.
const EXHAUSTED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));
/// First pause after a 429 that names none; the longest is `health.max_cooldown`.
const RATE_LIMITED: Duration = Duration::from_secs(1);
/// Models a credential remembers refusals for.
const MODELS_LIMIT: usize = 64;

/// What a call taught about its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It works: it served the call, or refused it for a reason that lies in the call.
    Healthy,
    /// Nothing.
    Unknown,
    /// It failed: counts towards the breakers of credential and channel. A hint opens the credential's at once.
    Failure {
        /// How long the upstream asked to be left alone.
        hint: Option<Duration>,
    },
    /// It could not be reached at this endpoint.
    Unreachable,
    /// Calls for this model come too fast.
    RateLimited {
        /// How long the upstream asked to be left alone.
        hint: Option<Duration>,
    },
    /// Money or an allowance is used up.
    Exhausted {
        /// How long the upstream asked to be left alone.
        hint: Option<Duration>,
    },
    /// The credential is not accepted.
    Rejected,
    /// The credential may not use this model.
    NotPermitted,
}

/// The state of every channel of a snapshot, by index.
#[derive(Debug, Default)]
pub(crate) struct HealthMap {
    pub(crate) channels: Box<[Arc<ChannelHealth>]>,
}

/// The state of one channel.
#[derive(Debug, Default)]
pub(crate) struct ChannelHealth {
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) credentials: Box<[Arc<CredentialHealth>]>,
    pub(crate) endpoints: Box<[Arc<Breaker>]>,
    /// Keys of `endpoints`.
    pool_keys: Box<[u64]>,
    /// Ids and fingerprints of `credentials`.
    identities: Box<[(Box<str>, u64)]>,
}

/// The state of one credential.
#[derive(Debug, Default)]
pub(crate) struct CredentialHealth {
    pub(crate) breaker: Breaker,
    /// Breakers by the hash of the model's name, for models it was refused for.
    models: Mutex<Vec<(u64, Arc<Breaker>)>>,
    models_count: AtomicUsize,
}

impl HealthMap {
    /// The state for `snapshot`: what `before` knew of the same things, and nothing of new ones.
    pub(crate) fn carry_over(snapshot: &Snapshot, before: Option<(&Snapshot, &Self)>) -> Self {
        let known: HashMap<&str, &Arc<ChannelHealth>> = before
            .map(|(snapshot, map)| snapshot.channels.iter().map(|channel| &*channel.id).zip(&map.channels).collect())
            .unwrap_or_default();
        let channels = snapshot.channels.iter().map(|channel| {
            let known = known.get(&*channel.id).copied().filter(|_| channel.health.is_some());
            Arc::new(ChannelHealth::carry_over(channel, known.map(|known| &**known)))
        });
        Self { channels: channels.collect() }
    }
}

impl ChannelHealth {
    fn carry_over(channel: &Channel, before: Option<&Self>) -> Self {
        let identities: Box<[_]> =
            channel.credentials.iter().map(|credential| (credential.id.clone(), credential.fingerprint)).collect();
        let pool_keys: Box<[_]> = channel.endpoints.iter().map(|endpoint| endpoint.pool_key).collect();
        let credential = |identity| {
            let before = before?;
            let index = before.identities.iter().position(|known| known == identity)?;
            before.credentials.get(index).cloned()
        };
        let endpoint = |pool_key| {
            let before = before?;
            let index = before.pool_keys.iter().position(|known| known == pool_key)?;
            before.endpoints.get(index).cloned()
        };
        let same_place = before.is_some_and(|before| before.pool_keys == pool_keys);
        Self {
            breaker: before.filter(|_| same_place).map(|before| before.breaker.clone()).unwrap_or_default(),
            credentials: identities.iter().map(|identity| credential(identity).unwrap_or_default()).collect(),
            endpoints: pool_keys.iter().map(|pool_key| endpoint(pool_key).unwrap_or_default()).collect(),
            pool_keys,
            identities,
        }
    }
}

impl CredentialHealth {
    /// The breaker for a model this credential was refused for, if it was.
    pub(crate) fn model(&self, model: u64) -> Option<Arc<Breaker>> {
        if self.models_count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.iter().find(|(known, _)| *known == model).map(|(_, breaker)| breaker.clone())
    }

    /// How many models this credential is not asked for now.
    pub(crate) fn paused_models(&self, now_ms: u64) -> usize {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.iter().filter(|(_, breaker)| matches!(breaker.gate(now_ms), Gate::Open(..))).count()
    }

    fn model_or_new(&self, model: u64) -> Arc<Breaker> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, breaker)) = models.iter().find(|(known, _)| *known == model) {
            return breaker.clone();
        }
        if models.len() >= MODELS_LIMIT {
            models.remove(0);
        }
        let breaker = Arc::<Breaker>::default();
        models.push((model, breaker.clone()));
        self.models_count.store(models.len(), Ordering::Release);
        breaker
    }

    fn forget_model(&self, model: u64) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|(known, _)| *known != model);
        self.models_count.store(models.len(), Ordering::Release);
    }
}

/// A pause that began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    /// How long it is.
    pub(crate) length: Duration,
    /// Why it is.
    pub(crate) reason: Reason,
    /// What is paused: `credential`, `model` (for this credential), `endpoint` or `channel`.
    pub(crate) part: &'static str,
}

/// What one attempt uses, and the trials it took of half-open breakers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// Index of the channel.
    pub(crate) channel: usize,
    /// Index of the credential within the channel.
    pub(crate) credential: usize,
    /// Index of the endpoint within the channel.
    pub(crate) endpoint: usize,
    /// Hash of the model's name; 0 where there is none.
    pub(crate) model: u64,
    channel_trial: Option<Trial>,
    credential_trial: Option<Trial>,
    endpoint_trial: Option<Trial>,
    model_trial: Option<Trial>,
}

impl Claim {
    /// Takes the trials of whatever is half-open on the way. `None` if another call was faster with one of them, or if
    /// something is open.
    pub(crate) fn take(
        health: &ChannelHealth,
        channel: usize,
        credential: usize,
        endpoint: usize,
        model: u64,
        now_ms: u64,
    ) -> Option<Self> {
        let mut claim = Self {
            channel,
            credential,
            endpoint,
            model,
            channel_trial: None,
            credential_trial: None,
            endpoint_trial: None,
            model_trial: None,
        };
        let state = &health.credentials[credential];
        let taken = pass(&health.breaker, &mut claim.channel_trial, now_ms)
            && pass(&health.endpoints[endpoint], &mut claim.endpoint_trial, now_ms)
            && pass(&state.breaker, &mut claim.credential_trial, now_ms)
            && state.model(model).is_none_or(|breaker| pass(&breaker, &mut claim.model_trial, now_ms));
        if !taken {
            claim.give_back(health, now_ms);
        }
        taken.then_some(claim)
    }

    /// The attempt said nothing about the upstream.
    pub(crate) fn give_back(self, health: &ChannelHealth, now_ms: u64) {
        let credential = &health.credentials[self.credential];
        let give_back = |breaker: &Breaker, trial: Option<Trial>| {
            if let Some(trial) = trial {
                breaker.give_back(trial, now_ms);
            }
        };
        give_back(&health.breaker, self.channel_trial);
        give_back(&health.endpoints[self.endpoint], self.endpoint_trial);
        give_back(&credential.breaker, self.credential_trial);
        if let Some(breaker) = credential.model(self.model) {
            give_back(&breaker, self.model_trial);
        }
    }

    /// The upstream has answered: whatever was half-open is closed. The trials are used up by this.
    pub(crate) fn answered(&mut self, health: &ChannelHealth) {
        let credential = &health.credentials[self.credential];
        let close =
            |breaker: &Breaker, trial: &mut Option<Trial>| trial.take().is_some_and(|trial| breaker.close(trial));
        close(&health.breaker, &mut self.channel_trial);
        close(&health.endpoints[self.endpoint], &mut self.endpoint_trial);
        close(&credential.breaker, &mut self.credential_trial);
        if let Some(trial) = self.model_trial.take() {
            let breaker = credential.model(self.model);
            if breaker.is_some_and(|breaker| breaker.close(trial)) {
                credential.forget_model(self.model);
            }
        }
    }

    /// Tells the breakers what the attempt taught. Returns a pause that began with it, and why.
    pub(crate) fn report(
        mut self,
        health: &ChannelHealth,
        settings: &Health,
        mark: Mark,
        now_ms: u64,
    ) -> Option<Pause> {
        let failures = |part| move |length| Pause { length, reason: Reason::Failures, part };
        let credential = &health.credentials[self.credential];
        match mark {
            Mark::Unknown => {
                self.give_back(health, now_ms);
                None
            }
            Mark::Healthy => {
                self.answered(health);
                credential.breaker.succeeded(now_ms, settings);
                let endpoint = &health.endpoints[self.endpoint];
                if health.endpoints.len() > 1 || endpoint.is_troubled() {
                    endpoint.succeeded(now_ms, settings);
                }
                // With one credential, that one's breaker is the channel's.
                if health.credentials.len() > 1 || health.breaker.is_troubled() {
                    health.breaker.succeeded(now_ms, settings);
                }
                None
            }
            Mark::Failure { hint } => {
                // Where a channel has several endpoints, one of them is more likely to be ill than the credential.
                let own = match &*health.endpoints {
                    [_] => credential
                        .breaker
                        .failed(now_ms, settings, self.credential_trial.take(), hint)
                        .map(failures("credential")),
                    all => all[self.endpoint]
                        .failed(now_ms, settings, self.endpoint_trial.take(), hint)
                        .map(failures("endpoint")),
                };
                // One that works speaks for its channel.
                let is_down = match &*health.endpoints {
                    [_] => health.credentials.iter().all(|credential| credential.breaker.is_troubled()),
                    all => all.iter().all(|endpoint| endpoint.is_troubled()),
                };
                let trial = self.channel_trial;
                let channel = is_down.then(|| health.breaker.failed(now_ms, settings, trial, None)).flatten();
                self.give_back(health, now_ms);
                own.or(channel.map(failures("channel")))
            }
            Mark::Unreachable => {
                let endpoint = &health.endpoints[self.endpoint];
                let pause = endpoint.failed(now_ms, settings, self.endpoint_trial.take(), None);
                self.give_back(health, now_ms);
                pause.map(failures("endpoint"))
            }
            Mark::RateLimited { hint } => {
                let breaker = credential.model_or_new(self.model);
                let lengths = (RATE_LIMITED.min(settings.max_cooldown), settings.max_cooldown);
                let length = self.pause(health, &breaker, lengths, hint, Reason::RateLimited, now_ms);
                length.map(|length| Pause { length, reason: Reason::RateLimited, part: "model" })
            }
            // Without a model it was the path that was refused, which says little about other calls.
            Mark::NotPermitted if self.model == 0 => {
                self.answered(health);
                None
            }
            Mark::NotPermitted => {
                let breaker = credential.model_or_new(self.model);
                let length = self.pause(health, &breaker, REJECTED, None, Reason::Rejected, now_ms);
                length.map(|length| Pause { length, reason: Reason::Rejected, part: "model" })
            }
            Mark::Exhausted { hint } => {
                let length = self.pause(health, &credential.breaker, EXHAUSTED, hint, Reason::Exhausted, now_ms);
                length.map(|length| Pause { length, reason: Reason::Exhausted, part: "credential" })
            }
            Mark::Rejected => {
                let length = self.pause(health, &credential.breaker, REJECTED, None, Reason::Rejected, now_ms);
                length.map(|length| Pause { length, reason: Reason::Rejected, part: "credential" })
            }
        }
    }

    fn pause(
        self,
        health: &ChannelHealth,
        breaker: &Breaker,
        (first, longest): (Duration, Duration),
        hint: Option<Duration>,
        reason: Reason,
        now_ms: u64,
    ) -> Option<Duration> {
        // The upstream is there and speaks. What is refused here does not become well by that, nor do its pauses
        // become short again.
        let mut reached = Self { credential_trial: None, model_trial: None, ..self };
        reached.answered(health);
        Self { channel_trial: None, endpoint_trial: None, ..self }.give_back(health, now_ms);
        breaker.pause(now_ms, first, longest, hint, reason)
    }
}

/// Whether a call may pass a breaker, taking its trial where it is half-open.
fn pass(breaker: &Breaker, trial: &mut Option<Trial>, now_ms: u64) -> bool {
    match breaker.gate(now_ms) {
        Gate::Closed => true,
        Gate::Open(..) => false,
        Gate::HalfOpen => {
            *trial = breaker.take_trial(now_ms);
            trial.is_some()
        }
    }
}
