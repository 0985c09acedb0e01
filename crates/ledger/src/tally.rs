//! How much was used, by whom, in which hour, day and month: what quotas are held against.
//!
//! Pure. The gateway counts in memory as calls end and a journal consumer counts the same from entries; both use
//! [`divide`] and [`Tally`], so both come to the same numbers. What has no price counts as a call and as tokens, but
//! costs nothing until it is priced again.

mod book;
mod calendar;
mod charge;
mod entities;

use aiproxy_config::snapshot::{QuotaPeriod, QuotaUnit};
use serde::{Deserialize, Serialize};

pub use book::TallyBook;
pub use calendar::{Calendar, Moment, Periods};
pub use charge::{Charge, divide};
pub use entities::{ENTITIES_LIMIT, Entities, LastUsed};

/// What was used. Numbers stop at their ends, they never wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Calls.
    pub requests: u64,
    /// Tokens, input and output together.
    pub tokens: u64,
    /// Money, in millionths of the base currency.
    pub cost: i64,
}

impl Amounts {
    /// What this is more than `earlier`; nothing where it is less.
    #[must_use]
    pub fn beyond(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            tokens: self.tokens.saturating_sub(earlier.tokens),
            cost: self.cost.saturating_sub(earlier.cost).max(0),
        }
    }

    /// Whether there is nothing to count.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            tokens: self.tokens.saturating_add(other.tokens),
            cost: self.cost.saturating_add(other.cost),
        }
    }

    /// This without the other.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            tokens: self.tokens.saturating_sub(other.tokens),
            cost: self.cost.saturating_sub(other.cost),
        }
    }

    /// One of the three, in a type that has room for sums of them.
    #[must_use]
    pub fn of(&self, unit: QuotaUnit) -> i128 {
        match unit {
            QuotaUnit::Requests => self.requests.into(),
            QuotaUnit::Tokens => self.tokens.into(),
            QuotaUnit::Cost => self.cost.into(),
        }
    }
}

/// What one entity used: in two hours, days and months, and ever.
///
/// Two of each, because calls that began before midnight end after it, and because clocks are set back by an hour: such
/// calls count where they began. The two are the latest that were ever counted in. What began before both counts in the
/// total only; so after a clock that ran ahead over two boundaries was set right, the periods before them are not
/// counted any more. In which order calls are added makes no difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    total: Amounts,
    hours: Latest,
    days: Latest,
    months: Latest,
}

impl Tally {
    /// Adds what a call used that began in these periods.
    pub fn add(&mut self, periods: &Periods, amounts: Amounts) {
        self.total = self.total.plus(amounts);
        self.hours.add(periods.hour, amounts);
        self.days.add(periods.day, amounts);
        self.months.add(periods.month, amounts);
    }

    /// Takes back what was added with the same periods. Where they were given up meanwhile, it is gone already.
    pub fn take_back(&mut self, periods: &Periods, amounts: Amounts) {
        self.total = self.total.minus(amounts);
        self.hours.take_back(periods.hour, amounts);
        self.days.take_back(periods.day, amounts);
        self.months.take_back(periods.month, amounts);
    }

    /// What was used in one of `periods`.
    #[must_use]
    pub fn used(&self, per: QuotaPeriod, periods: &Periods) -> Amounts {
        match per {
            QuotaPeriod::Hour => self.hours.of(periods.hour),
            QuotaPeriod::Day => self.days.of(periods.day),
            QuotaPeriod::Month => self.months.of(periods.month),
            QuotaPeriod::Total => self.total,
        }
    }

    /// Adds all that another tally has of the same entity.
    pub fn merge(&mut self, other: &Self) {
        self.total = self.total.plus(other.total);
        self.hours.merge(&other.hours);
        self.days.merge(&other.days);
        self.months.merge(&other.months);
    }
}

impl LastUsed for Tally {
    /// When the latest hour began that it was used in.
    fn last_used(&self) -> Option<i64> {
        Some(self.hours.0[0].start)
    }
}

/// The two latest periods of one length, the later one first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Latest([Slot; 2]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    /// When the period began, in seconds since 1970-01-01 UTC.
    start: i64,
    amounts: Amounts,
}

impl Default for Slot {
    /// A period before all others.
    fn default() -> Self {
        Self { start: i64::MIN, amounts: Amounts::default() }
    }
}

impl Latest {
    fn add(&mut self, start: i64, amounts: Amounts) {
        let [newer, older] = &mut self.0;
        if start > newer.start {
            *older = *newer;
            *newer = Slot { start, amounts };
        } else if start == newer.start {
            newer.amounts = newer.amounts.plus(amounts);
        } else if start > older.start {
            *older = Slot { start, amounts };
        } else if start == older.start {
            older.amounts = older.amounts.plus(amounts);
        }
    }

    fn take_back(&mut self, start: i64, amounts: Amounts) {
        if let Some(slot) = self.0.iter_mut().find(|slot| slot.start == start) {
            slot.amounts = slot.amounts.minus(amounts);
        }
    }

    fn of(&self, start: i64) -> Amounts {
        self.0.iter().find(|slot| slot.start == start).map_or(Amounts::default(), |slot| slot.amounts)
    }

    fn merge(&mut self, other: &Self) {
        for slot in other.0.iter().filter(|slot| slot.start != Slot::default().start) {
            self.add(slot.start, slot.amounts);
        }
    }
}

#[cfg(test)]
mod tests;
