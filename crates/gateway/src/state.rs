//! What all workers share: the current snapshot, counters, whether the gateway is draining, where records go.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use aiproxy_config::snapshot::{KeyDigest, Snapshot};
use aiproxy_core::tasks::Tasks;
use aiproxy_core::time::{self, Instant};
use aiproxy_ledger::Entry;
use aiproxy_ledger::capture::Captured;
use arc_swap::{ArcSwap, ArcSwapOption};

use crate::admission::Admission;
use crate::calls::Calls;
use crate::capture::CaptureBudget;
use crate::drain::Drains;
use crate::limits::{LimitStore, ProcessLimits};
use crate::model_list::ModelLists;
use crate::quota::Quotas;
use crate::retry_budget::RetryBudget;
use crate::server::local::AdminPaths;
use crate::serving::Serving;
use crate::sessions::Sessions;
use crate::share::Sequence;
use crate::upstream::connect::Dial;
use crate::upstream::pool::{Pool, PoolLimits};
use crate::works::Works;

/// Takes finished records. Must not wait: it runs on the data path.
pub trait RecordSink: Send + Sync + 'static {
    /// Takes one record; called exactly once per call, before its last byte is sent on. When it returns the record is
    /// kept.
    fn emit(&self, entry: &Entry<'_>);

    /// Keeps how a call that is still open stands, so that its use is not lost with the process; a later one of the same
    /// id takes its place. Whoever starts after this process died records it, with the end `shutdown` whatever
    /// `entry.end` says and its cost as it stands here. To be called when the use has changed, once a second at most, and
    /// never after [`Self::forget`]. By default it is dropped.
    fn checkpoint(&self, entry: &Entry<'_>) {
        let _entry = entry;
    }

    /// Drops what [`Self::checkpoint`] keeps of a call: its record was emitted. Nothing happens where nothing is kept.
    fn forget(&self, id: &[u8; 16]) {
        let _id = id;
    }

    /// Takes the bodies of a call whose record was taken before, where they are captured. By default they are dropped.
    fn keep_bodies(&self, captured: Captured) {
        drop(captured);
    }

    /// Whether another record can be kept. If not, calls are refused where the config says so.
    fn has_room(&self) -> bool {
        true
    }

    /// What is wrong with keeping records and writing them on; empty if nothing is.
    fn problems(&self) -> Vec<SinkProblem> {
        Vec::new()
    }
}

/// Something that is wrong with keeping records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkProblem {
    /// In a word or two, for anybody: `journal`, `sink database`.
    pub what: String,
    /// In a sentence, for administrators.
    pub detail: String,
}

/// State of the process that every worker sees.
pub struct Gateway {
    serving: ArcSwap<Serving>,
    limits: Box<dyn LimitStore>,
    /// What is decided before any key is looked at.
    pub(crate) admission: Admission,
    /// How many calls may be sent a second time.
    pub(crate) retry_budget: RetryBudget,
    /// Which credential made what later calls refer to.
    pub(crate) works: Works,
    /// What providers said they have.
    pub(crate) model_lists: ModelLists,
    /// Calls by WebRTC, and the secrets that begin them.
    pub(crate) calls: Calls,
    /// Calls that are read on although their client left.
    pub(crate) drains: Drains,
    /// Memory of the calls whose bodies are captured.
    pub(crate) capture_budget: Arc<CaptureBudget>,
    config_problem: ArcSwapOption<String>,
    sink: Arc<dyn RecordSink>,
    dialer: Arc<dyn Dial>,
    admin_token: KeyDigest,
    admin_paths: OnceLock<Arc<dyn AdminPaths>>,
    started: Instant,
    reloads: AtomicUsize,
    /// On the wall clock; 0 before the first.
    last_reload_unix_ms: AtomicU64,
    workers: Mutex<Vec<Weak<Worker>>>,
    calls_in_flight: AtomicUsize,
    connections: AtomicUsize,
    /// Sockets that are open, and how many were opened so far.
    open_sockets: AtomicUsize,
    sockets_opened: AtomicU64,
    open_webrtc_calls: AtomicUsize,
    draining: AtomicBool,
    cutting_off: AtomicBool,
}

impl Gateway {
    /// A gateway that serves `snapshot`.
    pub fn new(
        snapshot: Snapshot,
        dialer: Arc<dyn Dial>,
        sink: Arc<dyn RecordSink>,
        admin_token: KeyDigest,
    ) -> Arc<Self> {
        let limits: Box<dyn LimitStore> = Box::new(ProcessLimits::default());
        Arc::new(Self {
            serving: ArcSwap::from_pointee(Serving::new(snapshot, None, &*limits)),
            limits,
            admission: Admission::new(),
            retry_budget: RetryBudget::default(),
            works: Works::default(),
            model_lists: ModelLists::default(),
            calls: Calls::default(),
            drains: Drains::default(),
            capture_budget: Arc::default(),
            config_problem: ArcSwapOption::empty(),
            sink,
            dialer,
            admin_token,
            admin_paths: OnceLock::new(),
            started: time::now(),
            reloads: AtomicUsize::new(0),
            last_reload_unix_ms: AtomicU64::new(0),
            workers: Mutex::default(),
            calls_in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            open_sockets: AtomicUsize::new(0),
            sockets_opened: AtomicU64::new(0),
            open_webrtc_calls: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            cutting_off: AtomicBool::new(false),
        })
    }

    /// The snapshot a new call uses until its end, and the state that goes with it.
    pub fn snapshot(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// Makes `snapshot` the one that new calls use. Running calls keep theirs; what was learned of channels and counted
    /// of limits goes on. Returns what was in force before: whoever drops the last reference to it frees all of it, and
    /// that should not be a call.
    pub fn swap(&self, snapshot: Snapshot) -> Arc<Serving> {
        let before = self.snapshot();
        self.serving.store(Arc::new(Serving::new(snapshot, Some(&before), &*self.limits)));
        self.config_problem.store(None);
        self.reloads.fetch_add(1, Ordering::Relaxed);
        self.last_reload_unix_ms.store(time::unix_ms(), Ordering::Relaxed);
        before
    }

    /// Notes that the files on disk are broken and the last good snapshot stays in force.
    pub fn config_is_broken(&self, summary: String) {
        self.config_problem.store(Some(Arc::new(summary)));
    }

    /// What is wrong with the files on disk, if anything.
    pub fn config_problem(&self) -> Option<Arc<String>> {
        self.config_problem.load_full()
    }

    /// How often the config was replaced since the start.
    pub fn reloads(&self) -> usize {
        self.reloads.load(Ordering::Relaxed)
    }

    /// When it was replaced last, in milliseconds since 1970-01-01 UTC.
    pub(crate) fn last_reload_unix_ms(&self) -> Option<u64> {
        Some(self.last_reload_unix_ms.load(Ordering::Relaxed)).filter(|moment| *moment > 0)
    }

    /// The workers that run.
    pub(crate) fn workers(&self) -> Vec<Arc<Worker>> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().filter_map(Weak::upgrade).collect()
    }

    /// When the gateway started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Milliseconds from then to now.
    pub(crate) fn now_ms(&self) -> u64 {
        self.ms_of(time::now())
    }

    /// Milliseconds from then to `moment`.
    pub(crate) fn ms_of(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.started).as_millis() as u64
    }

    /// Whether `digest` is that of the admin token. Digests are compared, so the time tells nothing about the token.
    pub fn is_admin(&self, digest: &KeyDigest) -> bool {
        *digest == self.admin_token
    }

    /// What was used of all quotas.
    pub fn quotas(&self) -> &Quotas {
        self.limits.quotas()
    }

    /// Counts a call that another process finished, while it hands over to this one.
    pub fn count_foreign(&self, entry: &Entry<'_>) {
        self.snapshot().quotas.add_entry(entry);
    }

    /// Who answers administrators; told once, before the first request.
    pub fn set_admin_paths(&self, paths: Arc<dyn AdminPaths>) {
        // A second one is a mistake of the wiring, and the first stays.
        self.admin_paths.set(paths).ok();
    }

    /// Who answers administrators.
    pub fn admin_paths(&self) -> Option<Arc<dyn AdminPaths>> {
        self.admin_paths.get().cloned()
    }

    /// Opens streams to upstreams.
    pub fn dialer(&self) -> &dyn Dial {
        &*self.dialer
    }

    /// From now on `/ready` says no and connections end after their current call.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the gateway is draining.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// From now on calls that end are ended by us.
    pub fn cut_off(&self) {
        self.cutting_off.store(true, Ordering::Release);
    }

    /// Whether running calls are being cut.
    pub fn is_cutting_off(&self) -> bool {
        self.cutting_off.load(Ordering::Acquire)
    }

    /// Counts a client connection until the result is dropped; with it the number open now.
    pub(crate) fn count_connection(self: &Arc<Self>) -> (Counted, usize) {
        (Counted::new(self, |gateway| &gateway.connections), self.connections())
    }

    /// Open client connections.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// WebSocket connections that are open.
    pub fn open_sockets(&self) -> usize {
        self.open_sockets.load(Ordering::Acquire)
    }

    /// WebSocket handshakes that succeeded since the start.
    pub fn sockets_opened(&self) -> u64 {
        self.sockets_opened.load(Ordering::Relaxed)
    }

    /// WebRTC calls that run.
    pub fn open_webrtc_calls(&self) -> usize {
        self.open_webrtc_calls.load(Ordering::Acquire)
    }

    /// Counts a socket until the result is dropped.
    pub(crate) fn count_socket(self: &Arc<Self>) -> Counted {
        self.sockets_opened.fetch_add(1, Ordering::Relaxed);
        Counted::new(self, |gateway| &gateway.open_sockets)
    }

    /// Counts a WebRTC call until the result is dropped.
    pub(crate) fn count_webrtc_call(self: &Arc<Self>) -> Counted {
        Counted::new(self, |gateway| &gateway.open_webrtc_calls)
    }

    /// Calls that have begun and not ended.
    pub fn calls_in_flight(&self) -> usize {
        self.calls_in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn call_opened(&self) {
        self.calls_in_flight.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn call_closed(&self, entry: &Entry<'_>) {
        self.sink.emit(entry);
        self.calls_in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a call out of which no record is kept.
    pub(crate) fn call_left_out(&self) {
        self.calls_in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Calls whose bodies should have been captured and were not, for want of memory.
    pub fn captures_dropped(&self) -> u64 {
        self.capture_budget.dropped()
    }

    /// Where finished records go.
    pub fn sink(&self) -> &dyn RecordSink {
        &*self.sink
    }
}

/// Something open that is counted as long as it lives.
pub(crate) struct Counted {
    gateway: Arc<Gateway>,
    count: fn(&Gateway) -> &AtomicUsize,
}

impl Counted {
    fn new(gateway: &Arc<Gateway>, count: fn(&Gateway) -> &AtomicUsize) -> Self {
        count(gateway).fetch_add(1, Ordering::AcqRel);
        Self { gateway: gateway.clone(), count }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.count)(&self.gateway).fetch_sub(1, Ordering::AcqRel);
    }
}

/// What one worker (one core) has of its own besides the shared state.
pub struct Worker {
    /// The shared state.
    pub gateway: Arc<Gateway>,
    /// Idle upstream connections of this core.
    pub pool: Pool,
    /// Shares calls among channels, credentials and endpoints.
    pub(crate) sequence: Sequence,
    /// Sockets and WebRTC calls that are open.
    pub(crate) sessions: Sessions,
    /// Connections, and calls that outlive theirs.
    pub tasks: Tasks,
}

impl Worker {
    /// A worker with an empty pool.
    pub fn new(gateway: Arc<Gateway>) -> Arc<Self> {
        let worker = Arc::new(Self {
            gateway,
            pool: Pool::new(PoolLimits::default()),
            sequence: Sequence::new(),
            sessions: Sessions::default(),
            tasks: Tasks::new(),
        });
        let mut workers = worker.gateway.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|known| known.strong_count() > 0);
        workers.push(Arc::downgrade(&worker));
        drop(workers);
        worker
    }
}
