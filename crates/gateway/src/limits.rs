//! Limits of keys, users, groups, departments, channels and credentials: calls and tokens per minute, calls at once; and
//! how a call takes part of their quotas, which [`crate::quota`] counts.
//!
//! A call takes what it needs from all of its limits and quotas at once, or nothing. What it took is a [`Lease`];
//! dropping it gives the place of a running call back, however the call ended. Tokens are reserved from an estimate and
//! settled to the provider's numbers.
//!
//! [`LimitStore`] is where another implementation goes: one that shares its counts with other instances answers
//! [`Reserving::Waiting`]. The one here, [`ProcessLimits`], counts in this process and never waits.

mod counter;
mod process;
mod window;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aiproxy_config::snapshot::{Limited, QuotaPeriod, QuotaUnit, Scope};
use aiproxy_ledger::tally::Moment;

use crate::quota::{QuotaMap, Quotas, Reservations};

pub use process::ProcessLimits;

/// Keeps the counts behind all limits. One per process; it outlives every reload.
pub trait LimitStore: Send + Sync + 'static {
    /// The counters of everything that has limits, in that order. What was counted before under the same scope and id
    /// goes on being counted. `quotas` are the counters of the same snapshot's quotas.
    fn resolve(&self, limited: &[Limited], quotas: &Arc<QuotaMap>) -> Arc<dyn Limiters>;

    /// What was used of all quotas.
    fn quotas(&self) -> &Arc<Quotas>;
}

/// The counters that go with one snapshot.
pub trait Limiters: Send + Sync + 'static {
    /// Takes one call and the tokens of `demand` from each of `indices` (into `Snapshot::limited`): all of it or
    /// nothing. The first limit or quota that is exceeded is the error.
    fn reserve<'call>(&'call self, indices: &'call [u32], demand: Demand) -> Reserving<'call>;

    /// The first hard quota of tokens or money that is used up: reason enough to end a call that runs on and on. A quota
    /// of requests is none: the call was one of them.
    fn used_up(&self, indices: &[u32]) -> Option<Exceeded>;

    /// Whether any of `indices` has such a quota.
    fn has_quotas(&self, indices: &[u32]) -> bool;
}

/// What a call is expected to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// The most tokens the answer may have, as the caller says. As many as calls used of late are reserved for the
    /// answer, but no more than this.
    pub most_output_tokens: Option<u64>,
    /// Whether it uses tokens at all. A list of models does not.
    pub uses_tokens: bool,
    /// What the prompt and the call itself are expected to cost, in micro-units of the base currency; 0 if unknown.
    pub cost: i64,
    /// What a million tokens of the answer cost, in micro-units; 0 if unknown.
    pub output_cost: i64,
    /// When the call began, in milliseconds since 1970-01-01 UTC: in these hours, days and months it counts for quotas.
    /// `None` means now.
    pub started_unix_ms: Option<u64>,
}

impl Demand {
    /// Of a call that stays open. How much it will use nobody knows: of tokens and money it takes nothing, but none may be
    /// used up.
    pub(crate) fn of_session(started_unix_ms: u64) -> Self {
        let started_unix_ms = Some(started_unix_ms);
        Self { uses_tokens: true, most_output_tokens: Some(0), started_unix_ms, ..Self::default() }
    }
}

/// What a call used in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// The provider's numbers.
    Tokens {
        /// Of the prompt.
        input: u64,
        /// Of the answer.
        output: u64,
    },
    /// It may have used some, but nobody said how many: the estimate stands.
    Unknown,
    /// None: the upstream refused it.
    Nothing,
}

/// What one call holds of its limits. Dropping it ends the call; tokens not settled by then are given back.
pub trait Lease: Send + Sync {
    /// Replaces the estimate of limits by the truth. Quotas are settled by `QuotaMap::settle`.
    fn settle(&mut self, used: Used);
    /// Ends the call for its limits, as dropping does, but keeps what it holds of quotas: an attempt that failed may be the
    /// one that its record counts.
    fn end(&mut self);
    /// What it holds of quotas.
    fn reservations(&mut self) -> &mut Reservations;
    /// Gives everything back, as if the call had never come.
    fn refund(self: Box<Self>);
}

/// What a reservation gives.
pub type Reserved = Result<Box<dyn Lease>, Exceeded>;

/// The answer to a reservation, now or later.
pub enum Reserving<'call> {
    /// Known at once. Empty once it was taken.
    Ready(Option<Reserved>),
    /// A shared store is being asked.
    Waiting(Pin<Box<dyn Future<Output = Reserved> + Send + 'call>>),
}

impl Future for Reserving<'_> {
    type Output = Reserved;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ready(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            Self::Waiting(future) => future.as_mut().poll(context),
        }
    }
}

/// Which limit or quota does not let a call through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose limit it is.
    pub scope: Scope,
    /// Which of its limits.
    pub what: What,
    /// How much it allows.
    pub limit: u64,
    /// How much of it is left: nothing, or too little for the tokens of this call.
    pub remaining: u64,
    /// After this time a call like this one would pass, if no other came. `None` for calls at once: nobody knows. `None`
    /// as well for a quota that never begins anew.
    pub wait: Option<Duration>,
}

impl Exceeded {
    /// Which of several is over first: the one for which this is the least.
    pub(crate) fn delay(&self) -> Duration {
        let never = matches!(self.what, What::Quota { is_used_up: true, .. });
        self.wait.unwrap_or(if never { Duration::MAX } else { Duration::ZERO })
    }
}

/// The three limits, and quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// `requests_per_minute`.
    Requests,
    /// `tokens_per_minute`.
    Tokens,
    /// `concurrent`.
    Concurrent,
    /// One of `quotas`.
    Quota {
        /// What it counts.
        unit: QuotaUnit,
        /// Over which time.
        per: QuotaPeriod,
        /// When it begins anew; `None` for a total.
        resets: Option<Moment>,
        /// Whether it is used up. If not, running calls hold what is left, and may give some of it back.
        is_used_up: bool,
    },
}
