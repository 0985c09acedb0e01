//! Feeding sinks: every entry reaches a sink once, whatever the sink does.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aiproxy_core::time;
use aiproxy_ledger::journal::{Journal, Options};
use aiproxy_ledger::runner::{Order, Runner};
use aiproxy_ledger::sink::Appetite;
use aiproxy_ledger::{Batch, Entry, Position, Sink, SinkError};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a scripted sink does with the next batch.
#[derive(Clone, Copy)]
enum Does {
    Take,
    Fail,
    Hang,
}

/// Takes batches as its script says, then all of them. It refuses users called `poison`.
struct Scripted {
    script: VecDeque<Does>,
    kept: Arc<Mutex<Kept>>,
    tell: Sender<usize>,
    frames: usize,
}

/// What outlives the sink, as a database would.
#[derive(Default)]
struct Kept {
    ids: Vec<u64>,
    position: Option<Position>,
    finished: bool,
}

impl Sink for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn resume(&mut self) -> Result<Option<Position>, SinkError> {
        Ok(self.kept.lock().unwrap().position.clone())
    }

    async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        match self.script.pop_front().unwrap_or(Does::Take) {
            Does::Take => {}
            Does::Fail => return Err(SinkError::Unavailable("as the script says".into())),
            Does::Hang => std::future::pending().await,
        }
        if batch.entries().any(|entry| entry.user_id == Some("poison")) {
            return Err(SinkError::Rejected("poison".into()));
        }
        let mut kept = self.kept.lock().unwrap();
        kept.ids.extend(batch.entries().map(|entry| id(&entry)));
        kept.position = Some(batch.position.clone());
        self.tell.send(kept.ids.len()).ok();
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), SinkError> {
        self.kept.lock().unwrap().finished = true;
        Ok(())
    }

    fn appetite(&self) -> Appetite {
        Appetite { frames: self.frames, linger_ms: 1, ..Appetite::default() }
    }
}

struct Fixture {
    directory: PathBuf,
    journal: Arc<Journal>,
    kept: Arc<Mutex<Kept>>,
    told: Receiver<usize>,
    orders: watch::Sender<Order>,
    runner: Option<Runner>,
}

impl Fixture {
    fn new(script: &[Does], frames: usize) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("aiproxy-runner-{}-{number}", std::process::id()));
        let journal = Journal::open(Options {
            directory: directory.clone(),
            shards: 1,
            segment_bytes: 1 << 20,
            memory_bytes: 1 << 20,
            fsync: None,
        });
        let kept = Arc::<Mutex<Kept>>::default();
        let (orders, _) = watch::channel(Order::Run);
        let (tell, told) = channel();
        let sink = Scripted { script: script.iter().copied().collect(), kept: kept.clone(), tell, frames };
        let runner = Runner::start(journal.clone(), sink, orders.subscribe()).unwrap();
        Self { directory, journal, kept, told, orders, runner: Some(runner) }
    }

    fn append(&self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            self.append_of(id, "user");
        }
    }

    fn append_of(&self, id: u64, user: &str) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&id.to_be_bytes());
        assert!(self.journal.append_record(&Entry { id: bytes, user_id: Some(user), ..Entry::default() }));
    }

    fn wait_for(&self, count: usize) {
        while self.told.recv_timeout(PATIENCE).unwrap() < count {}
    }

    fn end(&mut self, order: Order) {
        self.orders.send(order).unwrap();
        self.runner.take().unwrap().join();
    }

    fn ids(&self) -> Vec<u64> {
        self.kept.lock().unwrap().ids.clone()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

fn id(entry: &Entry<'_>) -> u64 {
    u64::from_be_bytes(*entry.id.first_chunk().unwrap())
}

#[test]
fn a_sink_that_fails_gets_the_same_again() {
    let mut fixture = Fixture::new(&[Does::Fail, Does::Take, Does::Fail], 10);
    fixture.append(0..25);
    fixture.wait_for(25);
    let status = fixture.runner.as_ref().unwrap().status().clone();
    fixture.end(Order::Finish(time::now() + PATIENCE));
    assert_eq!(fixture.ids(), (0..25).collect::<Vec<_>>());
    assert_eq!((status.failures(), status.frames(), status.problem()), (2, 25, None));
    assert!(fixture.kept.lock().unwrap().finished);
}

#[test]
fn a_refused_record_is_set_aside_and_the_rest_goes_on() {
    let mut fixture = Fixture::new(&[], 100);
    fixture.append(0..7);
    fixture.append_of(7, "poison");
    fixture.append(8..20);
    fixture.append_of(20, "poison");
    fixture.append(21..23);
    fixture.wait_for(21);
    let status = fixture.runner.as_ref().unwrap().status().clone();
    fixture.end(Order::Finish(time::now() + PATIENCE));
    assert_eq!(fixture.ids(), (0..23).filter(|id| *id != 7 && *id != 20).collect::<Vec<_>>());
    assert_eq!(status.rejected(), 2);
    let aside = std::fs::read_to_string(fixture.directory.join("rejected/scripted.jsonl")).unwrap();
    assert_eq!(aside.lines().count(), 2);
    assert!(aside.lines().all(|line| line.contains("\"poison\"")), "{aside}");
}

#[test]
fn what_is_in_the_journal_is_written_before_the_end() {
    let mut fixture = Fixture::new(&[], 3);
    fixture.append(0..100);
    fixture.end(Order::Finish(time::now() + PATIENCE));
    assert_eq!(fixture.ids(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_sink_that_hangs_does_not_hold_up_the_end() {
    let mut fixture = Fixture::new(&[Does::Hang], 10);
    fixture.append(0..5);
    fixture.end(Order::Finish(time::now() + Duration::from_millis(300)));
    assert_eq!(fixture.ids(), [0_u64; 0]);
}

#[test]
fn a_sink_that_is_down_does_not_hold_up_the_end() {
    let mut fixture = Fixture::new(&[Does::Fail; 1000], 10);
    fixture.append(0..5);
    fixture.end(Order::Finish(time::now() + Duration::from_millis(300)));
    assert_eq!(fixture.ids(), [0_u64; 0]);
    let mut leaving = Fixture::new(&[Does::Fail; 1000], 10);
    leaving.append(0..5);
    leaving.end(Order::Leave);
}
