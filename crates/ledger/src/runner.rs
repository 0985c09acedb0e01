//! Feeding one sink: read, write, remember, again. A thread for each, so that one that hangs holds up nobody.
//!
//! What a sink cannot take now is tried again with growing pauses, for as long as it takes; the journal keeps it
//! meanwhile. What a sink refuses is looked for by halving the batch, set aside in a file, and the rest goes on.

use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use aiproxy_core::time::{self, Instant};
use tokio::sync::watch;

use crate::batch::{Batch, Item};
use crate::journal::Journal;
use crate::position::Position;
use crate::reader::Reader;
use crate::sink::{Sink, SinkError};

/// How often the journal is asked for something new.
const POLL: Duration = Duration::from_millis(50);
/// How often an idle sink may do what it does by the clock.
const IDLE: Duration = Duration::from_secs(1);
/// First and longest pause after a failure.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often a failure that lasts is told again.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What runners are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Another process still feeds the sinks: wait.
    Wait,
    /// Go on.
    Run,
    /// Write what the journal holds, but no longer than until then; then end.
    Finish(Instant),
    /// End now. The journal keeps the rest.
    Leave,
}

/// How a sink is doing. Shared with whoever wants to know.
#[derive(Debug, Default)]
pub struct SinkStatus {
    name: String,
    frames: AtomicU64,
    failures: AtomicU64,
    rejected: AtomicU64,
    /// How far it has come, and what is in its way.
    progress: Mutex<Progress>,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    committed: Option<Position>,
    problem: Option<String>,
    failing_since: Option<Instant>,
}

impl SinkStatus {
    /// Name of the sink.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Frames written since the start.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Failed writes since the start.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Records refused and set aside since the start.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Why it takes nothing now, and for how long.
    #[must_use]
    pub fn problem(&self) -> Option<(String, Duration)> {
        let progress = self.progress();
        let since = progress.failing_since?;
        Some((progress.problem.clone().unwrap_or_default(), time::now().saturating_duration_since(since)))
    }

    /// How far it has come; `None` while it has not said so.
    #[must_use]
    pub fn committed(&self) -> Option<Position> {
        self.progress().committed.clone()
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn works(&self) {
        let mut progress = self.progress();
        progress.problem = None;
        if progress.failing_since.take().is_some() {
            tracing::info!(sink = self.name, "the sink takes records again");
        }
    }

    fn fails(&self, problem: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut progress = self.progress();
        progress.problem = Some(problem.to_string());
        progress.failing_since.get_or_insert_with(time::now);
    }
}

/// A sink that is being fed.
pub struct Runner {
    status: Arc<SinkStatus>,
    thread: JoinHandle<()>,
}

impl Runner {
    /// Starts a thread that feeds `sink`.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start<S: Sink>(journal: Arc<Journal>, sink: S, orders: watch::Receiver<Order>) -> std::io::Result<Self> {
        let status = Arc::new(SinkStatus { name: sink.name().to_string(), ..SinkStatus::default() });
        let feeding = Feeding { journal, sink, status: status.clone(), orders, pause: Pause::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let name: String = format!("sink {}", status.name).chars().take(15).collect();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            runtime.block_on(feeding.run());
            // A task of a library that hangs must not hold up the end.
            runtime.shutdown_background();
        })?;
        Ok(Self { status, thread })
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> &Arc<SinkStatus> {
        &self.status
    }

    /// Waits for its end.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!(sink = self.status.name, "the sink's thread ended with a panic");
        }
    }
}

struct Feeding<S> {
    journal: Arc<Journal>,
    sink: S,
    status: Arc<SinkStatus>,
    orders: watch::Receiver<Order>,
    pause: Pause,
}

/// Why feeding stops.
enum Stop {
    /// It is time to end.
    End,
    /// The sink failed: it must be asked again how far it has come.
    Failed,
}

/// When a sink is called without a batch.
#[derive(Clone, Copy)]
enum Occasion {
    Idle,
    Finish,
}

impl<S: Sink> Feeding<S> {
    async fn run(mut self) {
        while self.order() == Order::Wait {
            if self.rest(IDLE).await.is_err() {
                return;
            }
        }
        while let Err(Stop::Failed) = self.feed().await {}
    }

    /// Feeds from where the sink is until something stops it.
    async fn feed(&mut self) -> Result<(), Stop> {
        let position = self.resume().await?.unwrap_or_default();
        // A sink may be ahead of what it remembers; the journal must keep the rest.
        let committed = self.sink.committed().unwrap_or(&position).clone();
        self.status.progress().committed = Some(committed);
        let mut reader = Reader::new(self.journal.clone(), position);
        self.read_on(&mut reader).await
    }

    /// Asks the sink how far it has come.
    async fn resume(&mut self) -> Result<Option<Position>, Stop> {
        let resumed = tokio::select! {
            resumed = self.sink.resume() => resumed,
            () = expired(&mut self.orders) => return Err(Stop::End),
        };
        match resumed {
            Ok(position) => Ok(position),
            Err(error) => Err(self.failed(&error).await),
        }
    }

    /// Tells of a failure and waits a while.
    async fn failed(&mut self, error: &SinkError) -> Stop {
        self.pause.tell(&self.status, error);
        let pause = self.pause.next();
        match self.rest(pause).await {
            Ok(()) => Stop::Failed,
            Err(stop) => stop,
        }
    }

    fn works(&mut self) {
        self.pause = Pause::new();
        self.status.works();
    }

    /// Reads and writes, without end.
    async fn read_on(&mut self, reader: &mut Reader) -> Result<(), Stop> {
        let appetite = self.sink.appetite();
        let mut idle_since = time::now();
        let mut batch = Batch::at(reader.position().clone());
        let mut lingers_until = None;
        loop {
            let caught_up = match reader.fill(&mut batch, &appetite) {
                Ok(caught_up) => caught_up,
                Err(error) => {
                    self.status.fails(&format!("the journal cannot be read: {error}"));
                    tracing::error!(sink = self.status.name, %error, "the journal cannot be read");
                    self.rest(LONGEST_PAUSE).await?;
                    false
                }
            };
            let is_ending = matches!(self.order(), Order::Finish(_));
            if caught_up && !batch.is_empty() && !is_ending {
                let linger = Duration::from_millis(appetite.linger_ms);
                let until = *lingers_until.get_or_insert_with(|| time::now() + linger);
                let left = until.saturating_duration_since(time::now());
                if !left.is_zero() {
                    self.rest(left.min(POLL)).await?;
                    continue;
                }
            }
            lingers_until = None;
            if !batch.is_empty() {
                self.write(&batch).await?;
                batch.clear();
                continue;
            }
            if caught_up && is_ending {
                self.call(Occasion::Finish).await?;
                return Err(Stop::End);
            }
            if time::now().saturating_duration_since(idle_since) >= IDLE {
                idle_since = time::now();
                self.call(Occasion::Idle).await?;
            }
            self.rest(POLL).await?;
        }
    }

    /// Something the sink does without a batch.
    async fn call(&mut self, occasion: Occasion) -> Result<(), Stop> {
        let Self { sink, orders, .. } = self;
        let called = async {
            match occasion {
                Occasion::Idle => sink.idle().await,
                Occasion::Finish => sink.finish().await,
            }
        };
        let result = tokio::select! {
            result = called => result,
            () = expired(orders) => return Err(Stop::End),
        };
        if let Err(error) = result {
            return Err(self.failed(&error).await);
        }
        let committed = self.sink.committed().cloned();
        if committed.is_some() {
            self.status.progress().committed = committed;
        }
        Ok(())
    }

    /// Writes all of `batch`, but for what the sink refuses.
    async fn write(&mut self, batch: &Batch) -> Result<(), Stop> {
        // What is still to be written, the next part last.
        let mut parts: Vec<Range<usize>> = Vec::new();
        parts.push(0..batch.len());
        while let Some(range) = parts.pop() {
            let part;
            let piece = if range == (0..batch.len()) {
                batch
            } else {
                part = batch.part(range.clone());
                &part
            };
            let written = tokio::select! {
                written = self.sink.write(piece) => written,
                () = expired(&mut self.orders) => return Err(Stop::End),
            };
            match written {
                Ok(()) => {
                    self.works();
                    self.status.frames.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    let committed = self.sink.committed().unwrap_or(&piece.position).clone();
                    self.status.progress().committed = Some(committed);
                }
                Err(SinkError::Rejected(why)) if range.len() == 1 => self.set_aside(piece, &why),
                Err(SinkError::Rejected(_)) if range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    parts.push(middle..range.end);
                    parts.push(range.start..middle);
                }
                Err(error) => return Err(self.failed(&error).await),
            }
        }
        Ok(())
    }

    /// Keeps what a sink refuses where a person can look at it.
    fn set_aside(&self, piece: &Batch, why: &str) {
        self.status.rejected.fetch_add(1, Ordering::Relaxed);
        let path = self.rejected_path();
        let mut lines = Vec::new();
        for item in piece.items() {
            match item {
                Item::Record(entry) => entry.write_json(&mut lines),
                Item::Bodies(bodies) => bodies.write_json(&mut lines),
            }
        }
        let kept = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| OpenOptions::new().create(true).append(true).open(&path)?.write_all(&lines));
        let path = path.display();
        match kept {
            Ok(()) => tracing::error!(sink = self.status.name, why, %path, "a record was refused and is set aside"),
            Err(error) => {
                tracing::error!(sink = self.status.name, why, %error, "a record was refused, and cannot be set aside")
            }
        }
    }

    fn rejected_path(&self) -> PathBuf {
        self.journal.directory().join("rejected").join(format!("{}.jsonl", self.status.name))
    }

    fn order(&self) -> Order {
        *self.orders.borrow()
    }

    /// Waits, unless it is time to end.
    async fn rest(&mut self, pause: Duration) -> Result<(), Stop> {
        let before = self.order();
        if let Order::Finish(until) = before
            && time::now() >= until
        {
            return Err(Stop::End);
        }
        let changed = async {
            while *self.orders.borrow_and_update() == before {
                if self.orders.changed().await.is_err() {
                    return;
                }
            }
        };
        let pause = match before {
            Order::Finish(until) => pause.min(until.saturating_duration_since(time::now())),
            _ => pause,
        };
        // Any news ends the pause: a sink that was down gets a last chance before the end.
        drop(tokio::time::timeout(pause, changed).await);
        if self.order() == Order::Leave { Err(Stop::End) } else { Ok(()) }
    }
}

/// Resolves when there is no time left.
async fn expired(orders: &mut watch::Receiver<Order>) {
    loop {
        let order = *orders.borrow_and_update();
        let changed = orders.changed();
        match order {
            Order::Leave => return,
            Order::Finish(until) => {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => return,
                    changed = changed => if changed.is_err() { return },
                }
            }
            Order::Wait | Order::Run => {
                if changed.await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Pauses between tries, each twice as long as the one before, and when to speak of it.
struct Pause {
    next: Duration,
    told: Option<Instant>,
}

impl Pause {
    fn new() -> Self {
        Self { next: PAUSE, told: None }
    }

    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        // Several instances that lost the same database should not all come back at once.
        pause.mul_f64(0.75 + 0.5 * fastrand::f64())
    }

    fn tell(&mut self, status: &SinkStatus, error: &SinkError) {
        status.fails(&error.to_string());
        let now = time::now();
        if self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_AGAIN) {
            self.told = Some(now);
            tracing::error!(sink = status.name, %error, "the sink takes nothing; its records wait in the journal");
        }
    }
}
