//! Quotas: how much may be used in an hour, a day, a month or ever.
//!
//! Every entity that is used is counted, whether it has quotas or not: what a reload adds finds the true count. The
//! counts live as long as the process, and begin with what the ledger knows of earlier ones ([`Quotas::restore`]).
//!
//! ```text
//! before   a call reserves one request, the tokens it may use and what they cost, or is refused
//! running  what was used and what is reserved count together
//! after    under one lock, the reservation goes and the truth is added: as the ledger's entry says, to the unit
//! ```
//!
//! A quota lets a call begin while less than its amount is used and reserved. For requests that is exact, however many
//! come at once. Of tokens and cost more can be used than the amount: by one call whole, the last that found room, and
//! by what the calls running then used beyond their reservations. What has no price costs nothing here.

mod counter;
mod estimate;
mod map;
mod told;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiproxy_config::snapshot::{Quota, QuotaPeriod, Scope, Snapshot};
use aiproxy_ledger::tally::{Amounts, Calendar, Charge, Entities, LastUsed, Moment, Periods, Tally, TallyBook};

pub(crate) use counter::Counter;
pub use counter::Reservations;
pub use map::QuotaMap;
pub(crate) use told::say_amount;

use crate::record::Record;
use map::Finished;

/// Counts what everything used. One per process; it outlives every reload.
#[derive(Debug, Default)]
pub struct Quotas(Mutex<Entities<Shared>>);

#[derive(Debug, Default)]
struct Shared(Arc<Counter>);

impl LastUsed for Shared {
    /// What a snapshot or a running call counts with stays.
    fn last_used(&self) -> Option<i64> {
        if Arc::strong_count(&self.0) > 1 { None } else { self.0.used().last_used() }
    }
}

impl Quotas {
    /// Adds what the ledger counted before this process began. To be called once, when all of it is known.
    pub fn restore(&self, book: &TallyBook) {
        for (scope, id, tally) in book.iter() {
            self.counter(scope, id).restore(tally);
        }
    }

    /// What one entity used so far, if it is known; a credential is called `channel/credential`.
    pub fn used(&self, scope: Scope, id: &str) -> Option<Tally> {
        self.entities().get(scope, id).map(|counter| counter.0.used())
    }

    /// The counters that go with a snapshot. Its time zone decides where periods begin: where it is another one than
    /// before, hours, days and months begin anew.
    pub fn resolve(self: &Arc<Self>, snapshot: &Snapshot) -> QuotaMap {
        QuotaMap::new(self.clone(), snapshot)
    }

    /// The counter of one entity, new if it was never used.
    pub(crate) fn counter(&self, scope: Scope, id: &str) -> Arc<Counter> {
        self.entities().entry(scope, id, Shared::default).0.clone()
    }

    fn entities(&self) -> MutexGuard<'_, Entities<Shared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what a running call used since it was last asked, so that a quota that is used up ends it.
pub(crate) fn charge(record: &mut Record) {
    let serving = record.snapshot.clone();
    let tokens = record.usage.map_or(0, |usage| usage.total_tokens());
    let so_far = Amounts { requests: 0, tokens, cost: record.cost.unwrap_or(0) };
    let more = so_far.beyond(record.charged);
    if let Some(key) = &record.key {
        serving.quotas.charge(&serving, record.started_unix_ms, key, record.place, more);
    }
    record.charged.tokens = record.charged.tokens.saturating_add(more.tokens);
    record.charged.cost = record.charged.cost.saturating_add(more.cost);
}

/// Counts the call of a record that is being closed, and gives back all that it still holds. To be called once, when
/// what was used and what that cost is known.
pub(crate) fn settle(record: &mut Record, is_counted: bool) {
    let serving = record.snapshot.clone();
    let mut leases = std::mem::take(&mut record.leases);
    let attempts = record.attempts.iter().map(|attempt| {
        let tokens = attempt.usage.map_or(0, |usage| usage.total_tokens());
        (attempt.place, Amounts { requests: 0, tokens, cost: attempt.cost.unwrap_or(0) })
    });
    let tokens = record.usage.map_or(0, |usage| usage.total_tokens());
    // What was charged while it ran is counted already.
    let tokens = tokens.saturating_sub(record.charged.tokens);
    let cost = record.cost.map(|cost| cost.saturating_sub(record.charged.cost).max(0));
    let finished = Finished {
        started_unix_ms: record.started_unix_ms,
        key: record.key.as_ref(),
        place: record.place,
        charge: Charge { counted: is_counted, tokens, cost },
        answer: record.usage.and_then(|usage| usage.output),
        attempts,
    };
    serving.quotas.settle(&serving, finished, &mut leases);
}

/// A quota that is in the way of a call, or reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) quota: Quota,
    /// What was used of it; never less than 0. Of requests, with those that are running.
    pub(crate) used: u64,
    /// Whether it is used up. If not, running calls hold what is left, and may give some of it back.
    pub(crate) is_used_up: bool,
    /// Whether this was not said before in this period.
    is_news: bool,
}

/// When a call began: where it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct When<'call> {
    calendar: &'call Calendar,
    unix_ms: u64,
    periods: Periods,
}

impl<'call> When<'call> {
    /// A moment in milliseconds since 1970-01-01 UTC.
    pub(crate) fn new(calendar: &'call Calendar, unix_ms: u64) -> Self {
        Self { calendar, unix_ms, periods: calendar.periods(unix_ms) }
    }

    /// When a quota begins anew; never, for a total.
    pub(crate) fn resets(&self, per: QuotaPeriod) -> Option<Moment> {
        self.calendar.end(per, self.unix_ms)
    }
}
