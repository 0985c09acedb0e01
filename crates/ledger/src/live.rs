//! Numbers that are there at once: all calls since the first start ever, for `/stats`, and those of this process as
//! families of series, for `/metrics`.
//!
//! The tally sink alone writes them, a batch of entries at a time; whoever reads them sees whole batches. Nothing here
//! grows without a bound, whatever names callers send: see [`totals::NAMES_LIMIT`] and [`family`].

pub mod calls;
pub mod family;
pub mod latency;
pub mod totals;
mod words;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aiproxy_core::time::Instant;
use aiproxy_llm::prices::PriceTable;
use tokio::sync::watch;

pub use calls::CallSeries;
pub use family::Family;
pub use latency::{Buckets, Latency};
pub use totals::{Counts, Named, Totals, UsageTotals};

use crate::entry::Entry;
use crate::journal::Journal;

/// What is known of all calls, now. Shared by the tally sink, which writes it, and everybody who reads it.
pub struct LiveTotals {
    journal: Arc<Journal>,
    numbers: Mutex<Numbers>,
    /// How many of the records that this process appended are in the numbers.
    counted: watch::Sender<u64>,
    /// Why they cannot be kept beyond the end of this process, while they cannot.
    problem: Mutex<Option<String>>,
}

#[derive(Default)]
struct Numbers {
    totals: Totals,
    calls: CallSeries,
}

impl LiveTotals {
    /// Begins with `totals`, in which `own` records of this process are.
    pub(crate) fn new(journal: Arc<Journal>, totals: Totals, own: u64) -> Self {
        let numbers = Mutex::new(Numbers { totals, calls: CallSeries::default() });
        Self { journal, numbers, counted: watch::Sender::new(own), problem: Mutex::default() }
    }

    /// All calls since the first start ever.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.numbers().totals.clone()
    }

    /// The calls whose records were read since this process started, as series for metrics. Those that a process which
    /// hands over to this one finishes are among them: nobody asks that one any longer.
    #[must_use]
    pub fn calls(&self) -> CallSeries {
        self.numbers().calls.clone()
    }

    /// Waits until every call that this process finished before now is counted. False if that took until `deadline`.
    /// Otherwise numbers are up to about 100 ms behind.
    pub async fn wait_caught_up(&self, deadline: Instant) -> bool {
        let finished = self.journal.records();
        let mut counted = self.counted.subscribe();
        let caught_up = counted.wait_for(|counted| *counted >= finished);
        matches!(tokio::time::timeout_at(deadline, caught_up).await, Ok(Ok(_)))
    }

    /// Why the totals cannot be written to disk, while they cannot. Nothing is lost by that as long as this process
    /// runs, and nothing after it either: the journal keeps what is not in the last file.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Counts `entries` with prices from `prices`, all of them at once for those who read.
    pub(crate) fn add<'entry>(&self, entries: impl Iterator<Item = Entry<'entry>>, prices: &PriceTable) {
        let mut numbers = self.numbers();
        let Numbers { totals, calls } = &mut *numbers;
        for entry in entries {
            totals.add(&entry, prices);
            calls.add(&entry, prices);
        }
    }

    /// `own` more records of this process are counted.
    pub(crate) fn counted(&self, own: u64) {
        self.counted.send_modify(|counted| *counted += own);
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a call ended well: its status says so, and nothing but its caller broke it off. A handshake of a WebSocket
/// (101) did. The same rule as in the rollups of the database.
#[must_use]
pub fn succeeded(entry: &Entry<'_>) -> bool {
    entry.status < 400 && matches!(entry.end, "complete" | "client_closed")
}

/// The name of the model of a call where names are kept: the one that served it; one that was only asked for if
/// `is_known` or if it has a price. Callers may ask for anything, and should not fill tables by that.
fn model<'entry>(
    entry: &Entry<'entry>,
    prices: &PriceTable,
    is_known: impl FnOnce(&str) -> bool,
) -> Option<Model<'entry>> {
    if let Some(served) = entry.model_served.filter(|_| succeeded(entry)) {
        return Some(Model::Named(served));
    }
    let name = entry.model_served.or(entry.model_asked)?;
    let is_priced = || {
        // A pattern fits endless names; only a name that is written out counts.
        prices.find(entry.channel_id.unwrap_or_default(), "", name).is_some_and(|row| *row.model == *name)
    };
    Some(if is_known(name) || is_priced() { Model::Named(name) } else { Model::Other })
}

enum Model<'entry> {
    Named(&'entry str),
    Other,
}

#[cfg(test)]
mod tests;
