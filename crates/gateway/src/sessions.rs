//! Everything that stays open for long, a socket or a WebRTC call, and whether it still may.
//!
//! A call that takes a second is checked when it begins. One that talks for an hour must end when its key is disabled,
//! its quota is used up or the gateway is told to stop. So each of them registers here, and each worker looks through
//! its own twice a second ([`Sessions::look`]). Looking costs next to nothing while the config stays the same and no
//! quota is involved. How a session ends is its own affair; here it is only told why.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aiproxy_config::snapshot::{KeyDigest, ProxyKey, Status};
use aiproxy_core::time;

use crate::permit::Caller;
use crate::refusal::Refusal;
use crate::serving::Serving;
use crate::state::{Gateway, Worker};

/// How often open sessions are looked through.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Why a session must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It may not go on.
    Revoked(Refusal),
    /// The gateway is told to stop: it may finish what it is doing.
    Draining,
}

/// What a session is, as far as its right to go on matters.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// The key it was opened with.
    pub(crate) key: KeyDigest,
    /// Where it was opened from.
    pub(crate) client_ip: IpAddr,
    /// Id of the channel.
    pub(crate) channel: Box<str>,
    /// Id of the credential.
    pub(crate) credential: Box<str>,
}

/// The open sessions of one worker.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    sessions: HashMap<u64, Watched>,
}

#[derive(Debug)]
struct Watched {
    subject: Subject,
    signal: Arc<Signal>,
    /// What was found when the config was looked at last.
    standing: Option<Standing>,
    is_told_to_drain: bool,
}

/// What a session depends on besides the config itself.
#[derive(Debug)]
struct Standing {
    /// The config it was found in; only compared, never followed. As long as it is held, no later one has its address.
    serving: Weak<Serving>,
    expires_at_ms: Option<u64>,
    /// What limits it; empty where that has no quotas.
    limited: Vec<u32>,
}

#[derive(Debug, Default)]
struct Signal(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    ending: Option<Ending>,
    waker: Option<Waker>,
}

/// A session's side: dropped when it ends.
pub(crate) struct Watch {
    worker: Arc<Worker>,
    number: u64,
    signal: Arc<Signal>,
}

impl Watch {
    /// Registers a session with its worker.
    pub(crate) fn begin(worker: &Arc<Worker>, subject: Subject) -> Self {
        let signal = Arc::new(Signal::default());
        let mut open = worker.sessions.open();
        let number = open.next;
        open.next += 1;
        let watched = Watched { subject, signal: signal.clone(), standing: None, is_told_to_drain: false };
        open.sessions.insert(number, watched);
        drop(open);
        Self { worker: worker.clone(), number, signal }
    }

    /// Ready with the reason, once there is one. May be ready a second time: draining first, revoked later.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Ending> {
        let mut told = self.signal.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ending) = told.ending.take() {
            return Poll::Ready(ending);
        }
        if !told.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            told.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.worker.sessions.open().sessions.remove(&self.number);
    }
}

impl Signal {
    fn tell(&self, ending: Ending) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.ending = Some(ending);
        if let Some(waker) = told.waker.take() {
            waker.wake();
        }
    }
}

impl Sessions {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at every open session once, and tells those that must end.
    pub(crate) fn look(&self, gateway: &Gateway) {
        let mut open = self.open();
        if open.sessions.is_empty() {
            return;
        }
        let serving = gateway.snapshot();
        let now_ms = time::unix_ms();
        let is_draining = gateway.is_draining();
        for watched in open.sessions.values_mut() {
            if let Err(refusal) = watched.check(&serving, now_ms) {
                watched.signal.tell(Ending::Revoked(refusal));
            } else if is_draining && !std::mem::replace(&mut watched.is_told_to_drain, true) {
                watched.signal.tell(Ending::Draining);
            }
        }
    }
}

/// Looks at the sessions of `worker` for as long as it runs.
pub(crate) async fn look_after(worker: &Worker) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        worker.sessions.look(&worker.gateway);
    }
}

impl Watched {
    fn check(&mut self, serving: &Arc<Serving>, now_ms: u64) -> Result<(), Refusal> {
        let is_current = |standing: &Standing| std::ptr::eq(standing.serving.as_ptr(), Arc::as_ptr(serving));
        if !self.standing.as_ref().is_some_and(is_current) {
            let key = standing_key(serving, &self.subject, now_ms)?;
            let mut limited = Caller::of(serving, key).limited();
            limited.extend(limits_of_place(serving, &self.subject));
            if !serving.limits.has_quotas(&limited) {
                limited = Vec::new();
            }
            self.standing =
                Some(Standing { serving: Arc::downgrade(serving), expires_at_ms: key.expires_at_ms, limited });
        }
        let Some(standing) = &self.standing else { return Ok(()) };
        if standing.expires_at_ms.is_some_and(|expiry| now_ms >= expiry) {
            return standing_key(serving, &self.subject, now_ms).map(|_| ());
        }
        if standing.limited.is_empty() {
            return Ok(());
        }
        serving.limits.used_up(&standing.limited).map_or(Ok(()), |exceeded| Err(Refusal::limited(&exceeded)))
    }
}

/// The key of `subject`, if a call of it would still be let through to the same account.
fn standing_key<'snapshot>(
    serving: &'snapshot Serving,
    subject: &Subject,
    now_ms: u64,
) -> Result<&'snapshot Arc<ProxyKey>, Refusal> {
    let key = serving.keys.get(&subject.key).ok_or_else(Refusal::invalid_credential)?;
    let caller = Caller::of(serving, key);
    caller.check(subject.client_ip, now_ms)?;
    let index = serving.channel_by_id.get(&subject.channel).ok_or_else(Refusal::no_channel)?;
    let channel = serving.channels.get(*index).ok_or_else(Refusal::no_channel)?;
    let credential = channel.credentials.iter().find(|credential| credential.id == subject.credential);
    let is_there =
        channel.status == Status::Active && credential.is_some_and(|credential| credential.status == Status::Active);
    if !is_there {
        return Err(Refusal::no_channel());
    }
    if !key.channels.as_deref().unwrap_or(&caller.user.channels).contains(index) {
        let message = "This proxy key may not use this channel any more.";
        return Err(Refusal::forbidden("channel_not_allowed", message));
    }
    Ok(key)
}

fn limits_of_place(serving: &Serving, subject: &Subject) -> impl Iterator<Item = u32> {
    let channel = serving.channel_by_id.get(&subject.channel).and_then(|index| serving.channels.get(*index));
    let of_channel = channel.and_then(|channel| channel.limited);
    let credential = channel.and_then(|channel| channel.credentials.iter().find(|one| one.id == subject.credential));
    of_channel.into_iter().chain(credential.and_then(|credential| credential.limited))
}
