//! Wiring of the ledger: the journal, the sinks that the config names, and their end.
//!
//! ```text
//! open      the journal; the calls that a process left open when it died; then what was counted before this start,
//!           with those                                                  before anything is served
//! start     a thread for each sink
//!           what was captured is made readable, how open calls stand is kept, each on a thread of its own
//! leave     a successor feeds the sinks from now on; this process only appends
//! stop      calls that ended are no longer kept as open
//!           every sink gets a last while to write what is left; the journal keeps the rest
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use aiproxy_config::snapshot::{System, Webhook};
use aiproxy_core::time;
use aiproxy_gateway::state::{Gateway, RecordSink, SinkProblem};
use aiproxy_ledger::Entry;
use aiproxy_ledger::capture::{BodyKeeper, BodyQueue, Captured};
use aiproxy_ledger::journal::{Journal, Keeper, Options};
use aiproxy_ledger::live::LiveTotals;
use aiproxy_ledger::open_calls::{self, OpenCalls, Recovery};
use aiproxy_ledger::runner::{Order, Runner, SinkStatus};
use aiproxy_ledger::sink::Sink;
use aiproxy_ledger::sinks::console::ConsoleSink;
use aiproxy_ledger::sinks::file::{FileOptions, FileSink};
use aiproxy_ledger::sinks::parquet::{Destination, ParquetOptions, ParquetSink};
use aiproxy_ledger::sinks::tally::{Restored, TallySink};
use aiproxy_ledger::sinks::webhook::{WebhookOptions, WebhookSink};
use aiproxy_ledger::tally::{Calendar, TallyBook};
use aiproxy_llm::prices::PriceTable;
use aiproxy_store::SqlSink;
use anyhow::Context;
use tokio::sync::watch;

mod shipping;

use shipping::Shipping;

/// How long sinks may write at the end. What they do not get done the journal keeps for the next start.
const LAST_WRITES: Duration = Duration::from_secs(5);
/// A sink that takes nothing for so long is told of on `/ready`.
const PATIENCE: Duration = Duration::from_secs(10);

/// The open ledger, before it feeds anything.
pub(crate) struct Ledger {
    journal: Arc<Journal>,
    directory: PathBuf,
    bodies: BodyQueue,
    body_keeper: BodyKeeper,
    open_calls: OpenCalls,
    recovery: Recovery,
    tally: TallySink,
    totals: Arc<LiveTotals>,
    /// What was used up to now.
    pub(crate) book: TallyBook,
    /// Whose prices are in force, once it runs.
    gateway: Arc<OnceLock<Weak<Gateway>>>,
    statuses: Arc<Statuses>,
}

/// What is known of the sinks: filled in as they start.
#[derive(Default)]
pub(crate) struct Statuses(OnceLock<Vec<Arc<SinkStatus>>>);

impl Statuses {
    /// One for each sink; empty before they run.
    pub(crate) fn all(&self) -> &[Arc<SinkStatus>] {
        self.0.get().map_or(&[], Vec::as_slice)
    }
}

/// What is known of the ledger at any time.
pub(crate) struct Sources {
    /// Where records wait.
    pub(crate) journal: Arc<Journal>,
    /// The live numbers.
    pub(crate) totals: Arc<LiveTotals>,
    /// How the sinks are doing.
    pub(crate) statuses: Arc<Statuses>,
}

impl Ledger {
    /// Opens the journal and reads what was counted before.
    ///
    /// # Errors
    /// The system has no thread.
    pub(crate) fn open(system: &System, prices: &Arc<PriceTable>, workers: usize) -> anyhow::Result<Self> {
        let settings = &system.journal;
        let directory = system.data_dir.join("journal");
        let journal = Journal::open(Options {
            directory: directory.clone(),
            shards: workers.clamp(1, 64),
            segment_bytes: settings.segment_bytes,
            memory_bytes: usize::try_from(settings.memory_bytes).unwrap_or(usize::MAX),
            fsync: settings.fsync,
        });
        // Before the journal is counted: what is recorded here is then counted with it, once.
        let mut recovery = Recovery::new(system.data_dir.join("open-calls"), journal.clone());
        recovery.run();
        let calendar = Arc::new(Calendar::new(system.timezone.clone()));
        let gateway = Arc::<OnceLock<Weak<Gateway>>>::default();
        let (running, first) = (gateway.clone(), prices.clone());
        let in_force = move || match running.get().and_then(Weak::upgrade) {
            Some(gateway) => gateway.snapshot().prices.clone(),
            None => first.clone(),
        };
        let restored = TallySink::restore(&journal, calendar.clone(), Box::new(in_force));
        let Restored { sink, book, totals, records, .. } = restored;
        if records > 0 {
            tracing::info!(records, "records of before this start were counted again");
        }
        let (bodies, body_keeper) =
            BodyKeeper::start(journal.clone(), &system.redact).context("no thread for captured bodies")?;
        Ok(Self {
            journal,
            directory,
            bodies,
            body_keeper,
            open_calls: OpenCalls::default(),
            recovery,
            tally: sink,
            totals,
            book,
            gateway,
            statuses: Arc::default(),
        })
    }

    /// Where the gateway puts finished calls.
    pub(crate) fn sink(&self) -> Arc<JournalSink> {
        let (journal, statuses) = (self.journal.clone(), self.statuses.clone());
        let open_calls = self.open_calls.clone();
        Arc::new(JournalSink { journal, bodies: self.bodies.clone(), open_calls, statuses })
    }

    /// Where bodies wait to be made readable; told when the patterns to redact change.
    pub(crate) fn bodies(&self) -> BodyQueue {
        self.bodies.clone()
    }

    /// What the control plane reads.
    pub(crate) fn sources(&self) -> Sources {
        Sources { journal: self.journal.clone(), totals: self.totals.clone(), statuses: self.statuses.clone() }
    }

    /// Starts feeding every sink.
    pub(crate) fn start(self, system: &System, gateway: &Arc<Gateway>) -> anyhow::Result<RunningLedger> {
        let Self { journal, directory, tally, statuses, body_keeper, open_calls, recovery, .. } = self;
        // Told once: a ledger starts once.
        self.gateway.set(Arc::downgrade(gateway)).ok();
        let (orders, order) = watch::channel(Order::Wait);
        let (counting, count) = watch::channel(Order::Run);
        let counted = gateway.clone();
        let tally = tally.with_foreign(Box::new(move |entry| counted.count_foreign(entry)));
        // It counts from the first moment, even while another process still feeds the sinks.
        let mut runners = vec![start(&journal, tally, &count)?];
        let cursors = directory.join("cursors");
        let log = &system.log;
        if log.console {
            runners.push(start(&journal, ConsoleSink::stderr(&cursors), &order)?);
        }
        if let Some(file) = &log.file {
            let options = FileOptions {
                path: system.data_dir.join(&file.path),
                max_bytes: file.max_bytes,
                keep: file.keep,
                compress: file.compress,
                cursor_directory: cursors.clone(),
            };
            runners.push(start(&journal, FileSink::new(options), &order)?);
        }
        for webhook in &log.webhooks {
            runners.push(start(&journal, WebhookSink::new(webhook_options(webhook, &cursors)), &order)?);
        }
        if let Some(parquet) = &log.parquet {
            let options = ParquetOptions {
                directory: system.data_dir.join(&parquet.directory),
                max_bytes: parquet.max_bytes,
                interval: parquet.interval,
                destination: Destination::Directory,
                cursor_directory: cursors.clone(),
            };
            runners.push(start(&journal, ParquetSink::new(options), &order)?);
        }
        if log.database {
            let options = aiproxy_store::Options::configured(&system.database, &system.data_dir);
            let instance = journal.instance();
            let sink = SqlSink::new(&options, &instance, system.timezone.clone(), aiproxy_store::Limits::default())
                .context("system.database")?;
            runners.push(start(&journal, sink, &order)?);
        }
        statuses.0.set(runners.iter().map(|runner| runner.status().clone()).collect()).ok();
        let durably = system.journal.fsync.is_some();
        // What is recorded from now on stands in a segment of this process: nobody else tells the quotas of it.
        let recovered = gateway.clone();
        let on_recovered = Box::new(move |entry: &Entry<'_>| recovered.count_foreign(entry));
        let open_calls = open_calls::Keeper::start(&open_calls, recovery, durably, on_recovered)
            .context("no thread for open calls")?;
        let shipping = Shipping::start(&directory, orders.clone())?;
        let (known, leaving) = (statuses.clone(), order);
        let keeper = Keeper::start(journal.clone(), move || {
            // After a successor took over it is the one that knows what every sink has.
            let feeds = matches!(*leaving.borrow(), Order::Run | Order::Finish(_));
            let floors = known.all().iter().map(|status| status.committed().map(|position| position.floor));
            if feeds { floors.min().flatten() } else { None }
        })?;
        Ok(RunningLedger { orders, counting, runners, keeper, body_keeper, open_calls, shipping: Some(shipping) })
    }
}

fn start<S: Sink>(journal: &Arc<Journal>, sink: S, order: &watch::Receiver<Order>) -> anyhow::Result<Runner> {
    Runner::start(journal.clone(), sink, order.clone()).context("no thread for a sink")
}

fn webhook_options(webhook: &Webhook, cursors: &Path) -> WebhookOptions {
    WebhookOptions {
        name: webhook.name.to_string(),
        url: webhook.url.clone(),
        secret: webhook.secret.clone(),
        batch: webhook.batch,
        interval: webhook.interval,
        timeout: webhook.timeout,
        bodies: webhook.bodies,
        cursor_directory: cursors.to_path_buf(),
    }
}

/// A ledger that feeds its sinks.
pub(crate) struct RunningLedger {
    orders: watch::Sender<Order>,
    counting: watch::Sender<Order>,
    runners: Vec<Runner>,
    keeper: Keeper,
    body_keeper: BodyKeeper,
    open_calls: open_calls::Keeper,
    shipping: Option<Shipping>,
}

impl RunningLedger {
    /// A successor runs: it feeds the sinks from now on. This process still counts and appends.
    pub(crate) fn leave(&mut self) {
        self.orders.send_replace(Order::Leave);
        // The first counts on; the others end before the successor may begin.
        for runner in self.runners.drain(1..) {
            runner.join();
        }
        self.shipping = None;
    }

    /// Ends, after the last call was closed.
    pub(crate) fn stop(self) {
        let until = time::now() + LAST_WRITES;
        self.body_keeper.stop(until);
        // Every call has its record now.
        self.open_calls.stop(until);
        let end = Order::Finish(time::now() + LAST_WRITES);
        self.orders.send_if_modified(|order| {
            let feeds = *order == Order::Run;
            *order = if feeds { end } else { Order::Leave };
            true
        });
        self.counting.send_replace(end);
        for runner in self.runners {
            runner.join();
        }
        self.keeper.stop();
    }
}

/// The journal as the gateway sees it.
pub(crate) struct JournalSink {
    journal: Arc<Journal>,
    bodies: BodyQueue,
    open_calls: OpenCalls,
    statuses: Arc<Statuses>,
}

impl RecordSink for JournalSink {
    fn emit(&self, entry: &Entry<'_>) {
        // What cannot be kept is counted and told there.
        self.journal.append_record(entry);
    }

    fn checkpoint(&self, entry: &Entry<'_>) {
        self.open_calls.checkpoint(entry);
    }

    fn forget(&self, id: &[u8; 16]) {
        self.open_calls.forget(id);
    }

    fn keep_bodies(&self, captured: Captured) {
        self.bodies.offer(captured);
    }

    fn has_room(&self) -> bool {
        !self.journal.is_full()
    }

    fn problems(&self) -> Vec<SinkProblem> {
        let state = self.journal.state();
        let mut problems = Vec::new();
        let mut tell = |what: &str, detail: String| problems.push(SinkProblem { what: what.into(), detail });
        if let Some(trouble) = state.trouble {
            tell("journal", format!("The journal cannot be written ({trouble}); records wait in memory."));
        }
        if state.lost > 0 {
            tell("records lost", format!("{} records were lost: disk and memory were full.", state.lost));
        }
        if self.bodies.lost() > 0 {
            tell("bodies lost", format!("The bodies of {} calls were not stored: too many came.", self.bodies.lost()));
        }
        if let Some(trouble) = self.open_calls.trouble() {
            let what = "How open calls stand cannot be written";
            tell("open calls", format!("{what} ({trouble}); should this process be killed, their use is lost."));
        }
        for status in self.statuses.all() {
            if let Some((problem, since)) = status.problem().filter(|(_, since)| *since >= PATIENCE) {
                let (name, seconds) = (status.name(), since.as_secs());
                let what = format!("sink {name}");
                tell(&what, format!("The sink '{name}' takes nothing since {seconds} s: {problem}"));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests;
