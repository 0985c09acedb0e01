//! What is counted for one key, user, group, department, channel or credential.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiproxy_config::snapshot::{Quota, QuotaUnit, Scope};
use aiproxy_ledger::tally::{Amounts, Periods, Tally};

use super::estimate::{amounts, uses};
use super::told::{self, Told};
use super::{Over, When};
use crate::limits::Demand;

/// The counts of one entity, shared by all snapshots that know it.
#[derive(Debug, Default)]
pub(crate) struct Counter(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    used: Tally,
    /// The longest answer of late, in tokens: a little less after each shorter one.
    longest_answer: u64,
    /// Only of what has quotas, or had them.
    guard: Option<Box<Guard>>,
}

#[derive(Debug, Default)]
struct Guard {
    /// What running calls hold, in the periods they began in: where they will count.
    reserved: Tally,
    told: Told,
}

/// What one call holds of the quotas of several entities. Dropping it gives that back.
#[derive(Debug, Default)]
pub struct Reservations {
    held: Vec<Reservation>,
    warning: String,
}

/// What one call holds of the quotas of one entity.
#[derive(Debug)]
pub(super) struct Reservation {
    counter: Arc<Counter>,
    periods: Periods,
    amounts: Amounts,
}

impl Counter {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was used before this process began.
    pub(super) fn restore(&self, tally: &Tally) {
        self.counts().used.merge(tally);
    }

    pub(super) fn used(&self) -> Tally {
        self.counts().used
    }

    /// Reserves what a call may use, or says which hard quota is in the way. Of the soft ones, says which are used up.
    fn reserve(&self, quotas: &[Quota], demand: &Demand, when: &When<'_>) -> Result<Reserved, Over> {
        let mut counts = self.counts();
        let Counts { used, longest_answer, guard } = &mut *counts;
        let guard = guard.get_or_insert_default();
        let over = |quota: &Quota, used: i128, told: &mut Told| {
            let is_used_up = used >= quota.amount.into();
            let is_news = is_used_up && told.is_news(quota, when.periods.start(quota.per));
            Over { quota: *quota, used: u64::try_from(used.max(0)).unwrap_or(u64::MAX), is_used_up, is_news }
        };
        let mut is_guarded = false;
        for quota in quotas.iter().filter(|quota| !quota.soft && uses(demand, quota.unit)) {
            is_guarded = true;
            let used = used.used(quota.per, &when.periods).of(quota.unit);
            let reserved = guard.reserved.used(quota.per, &when.periods).of(quota.unit);
            if used + reserved >= quota.amount.into() {
                // Requests that run will count: nothing of them comes back.
                let used = if quota.unit == QuotaUnit::Requests { used + reserved } else { used };
                return Err(over(quota, used, &mut guard.told));
            }
        }
        let mut soft = Vec::new();
        for quota in quotas.iter().filter(|quota| quota.soft && uses(demand, quota.unit)) {
            let used = used.used(quota.per, &when.periods).of(quota.unit);
            if used >= quota.amount.into() {
                soft.push(over(quota, used, &mut guard.told));
            }
        }
        let amounts = is_guarded.then(|| amounts(demand, *longest_answer));
        if let Some(amounts) = amounts {
            guard.reserved.add(&when.periods, amounts);
        }
        Ok(Reserved { amounts, soft })
    }

    /// The first hard quota of tokens or money of which nothing is left.
    pub(crate) fn used_up(&self, quotas: &[Quota], when: &When<'_>) -> Option<Over> {
        let counts = self.counts();
        let is_spent = |quota: &&Quota| !quota.soft && quota.unit != QuotaUnit::Requests;
        quotas.iter().filter(is_spent).find_map(|quota| {
            let used = counts.used.used(quota.per, &when.periods).of(quota.unit);
            (used >= quota.amount.into()).then(|| {
                let used = u64::try_from(used.max(0)).unwrap_or(u64::MAX);
                Over { quota: *quota, used, is_used_up: true, is_news: false }
            })
        })
    }

    /// A call has ended: what it held goes, what it used is added. `answer` is how many tokens it got, if any.
    pub(super) fn settle(&self, held: Option<Reservation>, periods: &Periods, amounts: Amounts, answer: Option<u64>) {
        let mut counts = self.counts();
        if let Some(held) = &held {
            counts.give_back(held);
        }
        counts.used.add(periods, amounts);
        if let Some(answer) = answer {
            counts.longest_answer = answer.max(counts.longest_answer - counts.longest_answer / 16);
        }
    }

    fn give_back(&self, held: &Reservation) {
        self.counts().give_back(held);
    }

    /// What running calls hold, in all periods together.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> Amounts {
        let total = aiproxy_config::snapshot::QuotaPeriod::Total;
        let counts = self.counts();
        counts.guard.as_ref().map_or(Amounts::default(), |guard| guard.reserved.used(total, &Periods::default()))
    }
}

struct Reserved {
    /// Nothing where no hard quota has to know of it.
    amounts: Option<Amounts>,
    soft: Vec<Over>,
}

impl Reservations {
    /// Takes what `demand` may use from the quotas of one entity; the first hard one that is used up is the error. What
    /// was taken from others before stays until this is dropped.
    pub(crate) fn add(
        &mut self,
        counter: &Arc<Counter>,
        (scope, id, quotas): (Scope, &str, &[Quota]),
        demand: &Demand,
        when: &When<'_>,
    ) -> Result<(), Over> {
        let reserved = counter.reserve(quotas, demand, when).inspect_err(|over| told::event(scope, id, over, when))?;
        if let Some(amounts) = reserved.amounts {
            self.held.push(Reservation { counter: counter.clone(), periods: when.periods, amounts });
        }
        for over in &reserved.soft {
            told::event(scope, id, over, when);
            told::warn(&mut self.warning, scope, over);
        }
        Ok(())
    }

    /// Which soft quotas of the caller's are used up, as the value of `x-aiproxy-quota-warning`; `None` if none is, or if
    /// it was asked before.
    pub(crate) fn take_warning(&mut self) -> Option<Box<str>> {
        let warning = std::mem::take(&mut self.warning);
        (!warning.is_empty()).then(|| warning.into())
    }

    /// What is held of one entity: no longer held by this.
    pub(super) fn take(&mut self, counter: &Arc<Counter>) -> Option<Reservation> {
        let index = self.held.iter().position(|held| Arc::ptr_eq(&held.counter, counter))?;
        Some(self.held.swap_remove(index))
    }
}

impl Drop for Reservations {
    fn drop(&mut self) {
        for held in self.held.drain(..) {
            held.counter.give_back(&held);
        }
    }
}

impl Counts {
    fn give_back(&mut self, held: &Reservation) {
        if let Some(guard) = &mut self.guard {
            guard.reserved.take_back(&held.periods, held.amounts);
        }
    }
}
