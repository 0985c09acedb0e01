//! The journal's own consumer: counts what quotas are held against, and the live numbers of `/stats` and `/metrics`.
//!
//! What it has counted and how far it has read are one file in the journal's directory, written together every few
//! seconds; the journal keeps what came after it. So after any end of the process [`TallySink::restore`] reads the file
//! and then the rest of the journal, and has each call exactly once. Nothing here fails for want of a disk: the counts
//! are in memory, and the file is written later.
//!
//! While one process takes over from another both count, each for itself, and only the older one writes the file: it
//! holds a lock as long as it counts, and the newer one begins to write once it has that lock.

mod state;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aiproxy_core::time::{self, Instant};
use aiproxy_llm::prices::PriceTable;

use self::state::{Found, Lock, State, StateFile};
use crate::batch::{Batch, Item};
use crate::entry::Entry;
use crate::journal::Journal;
use crate::live::{LiveTotals, Totals};
use crate::position::Position;
use crate::reader::Reader;
use crate::sink::{Appetite, Sink, SinkError};
use crate::tally::{Calendar, TallyBook};

/// How often the file is written, at most.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// A large book takes long to write; the next time comes after this many times as long.
const SAVE_PAUSE_FACTOR: u32 = 20;
/// How often a failure to write that lasts is told again.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// How often a start begins anew because the process that hands over wrote its file meanwhile.
const TRIES: usize = 5;
/// Read at once at the start: fewer and larger pieces than later.
const APPETITE_AT_START: Appetite = Appetite { frames: 20_000, bytes: 8 << 20, linger_ms: 0, bodies: false };
/// As soon as they come: people look at these numbers.
const APPETITE: Appetite = Appetite { frames: 5_000, bytes: 4 << 20, linger_ms: 0, bodies: false };

/// The prices in force, asked once for each batch.
pub type Prices = Box<dyn Fn() -> Arc<PriceTable> + Send>;
/// Takes calls that another process finished.
pub type OnForeign = Box<dyn Fn(&Entry<'_>) + Send>;

/// Counts every call once.
pub struct TallySink {
    journal: Arc<Journal>,
    calendar: Arc<Calendar>,
    prices: Prices,
    on_foreign: Option<OnForeign>,
    book: TallyBook,
    totals: Arc<LiveTotals>,
    unpriced: Unpriced,
    /// How far it has counted.
    position: Position,
    /// How far the file has it.
    saved: Position,
    file: StateFile,
    lock: Option<Lock>,
    next_save: Instant,
    told: Option<Instant>,
}

/// What is known at the start.
pub struct Restored {
    /// To be fed from now on. It goes on where the restored numbers end.
    pub sink: TallySink,
    /// What each key, user and so on used up to now.
    pub book: TallyBook,
    /// The live numbers, which the sink goes on writing.
    pub totals: Arc<LiveTotals>,
    /// Why calls may be missing: the file was damaged, of a later version or not to be read, so that only what the
    /// journal still holds is counted; or the journal could not be read. `None` where the numbers are exact.
    pub flaw: Option<String>,
    /// Records that were read from the journal.
    pub records: u64,
}

/// Models that were told of because no price is known for them: once each, and no more than so many.
#[derive(Default)]
struct Unpriced(BTreeSet<(String, String)>);

impl Unpriced {
    const MOST: usize = 1_000;

    fn look_at(&mut self, entry: &Entry<'_>) {
        if !entry.is_unpriced() || self.0.len() >= Self::MOST {
            return;
        }
        let channel = entry.channel_id.unwrap_or_default();
        let model = entry.model_served.or(entry.model_asked).unwrap_or_default();
        if self.0.insert((channel.to_owned(), model.to_owned())) {
            tracing::warn!(
                channel.id = channel,
                model,
                "no price is known; such calls are recorded as unpriced. Set system.prices.models, then run 'aiproxy reprice'"
            );
        }
    }
}

impl TallySink {
    /// Reads the last file and the journal up to its present end. To be called before the gateway serves, for the live
    /// counters of quotas begin with what it finds. Takes a microsecond or two for each record that is not in the file.
    #[must_use]
    pub fn restore(journal: &Arc<Journal>, calendar: Arc<Calendar>, prices: Prices) -> Restored {
        let file = StateFile::new(journal.directory());
        let lock = file.lock().ok().flatten();
        let mut counted = Counted::up_to_now(file.read(), journal, &calendar, &prices());
        // A process that hands over to this one may write its file while this one reads, and the journal may then let
        // go of what was not read yet.
        for _ in 1..TRIES {
            if lock.is_some() || file.stamp() == counted.stamp {
                break;
            }
            counted = Counted::up_to_now(file.read(), journal, &calendar, &prices());
        }
        if let Some(why) = &counted.file_flaw {
            let path = file.path().display();
            tracing::error!(%path, why, "what was counted so far cannot be read; counted is what the journal holds");
            if lock.is_some() {
                file.set_aside();
            }
        }
        let Counted { book, totals, position, saved, file_flaw, journal_flaw, records, own, .. } = counted;
        let totals = Arc::new(LiveTotals::new(journal.clone(), totals, own));
        let mut sink = Self {
            journal: journal.clone(),
            calendar,
            prices,
            on_foreign: None,
            book: book.clone(),
            totals: totals.clone(),
            unpriced: Unpriced::default(),
            position,
            saved,
            file,
            lock,
            next_save: time::now(),
            told: None,
        };
        sink.save_if_due();
        Restored { sink, book, totals, flaw: file_flaw.or(journal_flaw), records }
    }

    /// From now on `on_foreign` is called for each entry that another process appended and that was not restored: one
    /// that hands over to this process and still finishes calls. Their use must reach the live counters of quotas.
    #[must_use]
    pub fn with_foreign(mut self, on_foreign: OnForeign) -> Self {
        self.on_foreign = Some(on_foreign);
        self
    }

    fn count(&mut self, batch: &Batch) {
        let prices = (self.prices)();
        let mut origin = Origin::new(&self.journal);
        let (mut own, mut foreign) = (0, 0);
        let counted = entries(batch).map(|(segment, entry)| {
            let count = if origin.is_own(segment) { &mut own } else { &mut foreign };
            *count += 1;
            self.book.add_entry(&entry, &self.calendar);
            self.unpriced.look_at(&entry);
            entry
        });
        self.totals.add(counted, &prices);
        if let Some(on_foreign) = self.on_foreign.as_ref().filter(|_| foreign > 0) {
            // Apart, for nobody knows what else it looks at. It is rare: only while one process takes over from another.
            let foreign = entries(batch).filter(|(segment, _)| !origin.is_own(*segment));
            foreign.for_each(|(_, entry)| on_foreign(&entry));
        }
        self.totals.counted(own);
        self.position.clone_from(&batch.position);
    }

    fn save_if_due(&mut self) {
        if time::now() >= self.next_save {
            // A failure is told there. Counting goes on; what is not in the file, the journal keeps.
            self.save(false).ok();
        }
    }

    /// Writes the file, if there is anything new and this process may.
    fn save(&mut self, durably: bool) -> Result<(), SinkError> {
        if self.position == self.saved {
            return Ok(());
        }
        let started = time::now();
        let written = self.write_file(durably);
        let finished = time::now();
        self.next_save = finished + SAVE_INTERVAL.max(finished.saturating_duration_since(started) * SAVE_PAUSE_FACTOR);
        match written {
            Ok(()) => {
                if self.told.take().is_some() {
                    tracing::info!("what is counted is written to disk again");
                }
                self.totals.set_problem(None);
                Ok(())
            }
            Err(error) => {
                if self.told.is_none_or(|told| finished.saturating_duration_since(told) >= TELL_AGAIN) {
                    self.told = Some(finished);
                    let path = self.file.path().display();
                    tracing::error!(%path, %error, "what is counted cannot be written to disk; the journal keeps it");
                }
                self.totals.set_problem(Some(error.to_string()));
                Err(SinkError::Unavailable(error.to_string()))
            }
        }
    }

    fn write_file(&mut self, durably: bool) -> std::io::Result<()> {
        if self.lock.is_none() {
            self.lock = self.file.lock()?;
        }
        if self.lock.is_some() {
            self.file.write(&self.position, &self.book, &self.totals.totals(), durably)?;
            self.saved.clone_from(&self.position);
        }
        Ok(())
    }
}

impl Sink for TallySink {
    fn name(&self) -> &str {
        "tally"
    }

    async fn resume(&mut self) -> Result<Option<Position>, SinkError> {
        Ok(Some(self.position.clone()))
    }

    /// Never fails: what is counted is counted, and must not come again.
    async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        self.count(batch);
        self.save_if_due();
        Ok(())
    }

    async fn idle(&mut self) -> Result<(), SinkError> {
        self.save_if_due();
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), SinkError> {
        self.save(true)
    }

    fn committed(&self) -> Option<&Position> {
        Some(&self.saved)
    }

    fn appetite(&self) -> Appetite {
        APPETITE
    }
}

/// The file and what followed it in the journal.
struct Counted {
    book: TallyBook,
    totals: Totals,
    position: Position,
    saved: Position,
    stamp: state::Stamp,
    file_flaw: Option<String>,
    journal_flaw: Option<String>,
    records: u64,
    /// Those of them that this process appended.
    own: u64,
}

impl Counted {
    fn up_to_now(found: Found, journal: &Arc<Journal>, calendar: &Calendar, prices: &PriceTable) -> Self {
        let Found { state, stamp, flaw: file_flaw } = found;
        let State { position: saved, mut book, mut totals } = state.unwrap_or_default();
        if totals.since_unix_ms == 0 {
            totals.since_unix_ms = time::unix_ms();
        }
        let (mut records, mut own) = (0, 0);
        let mut origin = Origin::new(journal);
        let mut reader = Reader::new(journal.clone(), saved.clone());
        let mut batch = Batch::at(saved.clone());
        let journal_flaw = loop {
            let filled = reader.fill(&mut batch, &APPETITE_AT_START);
            // After a failure too: what the reader has passed does not come again.
            for (segment, entry) in entries(&batch) {
                book.add_entry(&entry, calendar);
                totals.add(&entry, prices);
                records += 1;
                own += u64::from(origin.is_own(segment));
            }
            batch.clear();
            match filled {
                Ok(true) => break None,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "the journal cannot be read; calls that it holds are counted later");
                    break Some(format!("the journal cannot be read: {error}"));
                }
            }
        };
        let position = reader.position().clone();
        Self { book, totals, position, saved, stamp, file_flaw, journal_flaw, records, own }
    }
}

/// Whether a segment is of this process, asked once for entries that follow each other.
struct Origin<'journal> {
    journal: &'journal Journal,
    latest: Option<(u64, bool)>,
}

impl<'journal> Origin<'journal> {
    fn new(journal: &'journal Journal) -> Self {
        Self { journal, latest: None }
    }

    fn is_own(&mut self, segment: u64) -> bool {
        match self.latest {
            Some((latest, is_own)) if latest == segment => is_own,
            _ => {
                let is_own = self.journal.is_own(segment);
                self.latest = Some((segment, is_own));
                is_own
            }
        }
    }
}

fn entries(batch: &Batch) -> impl Iterator<Item = (u64, Entry<'_>)> {
    batch.items_with_segment().filter_map(|(segment, item)| match item {
        Item::Record(entry) => Some((segment, entry)),
        Item::Bodies(_) => None,
    })
}

#[cfg(test)]
mod tests;
