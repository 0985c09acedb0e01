//! What one process leaves to the next.

use aiproxy_config::snapshot::{Log, QuotaPeriod, Scope, Snapshot};
use aiproxy_gateway::upstream::connect::NetworkDialer;
use aiproxy_ledger::tally::{Amounts, Periods};
use aiproxy_llm::usage::Usage;

use super::*;

/// A process that keeps its ledger in a data directory and feeds no sink but the tally.
struct Process {
    gateway: Arc<Gateway>,
    ledger: RunningLedger,
}

impl Process {
    fn open(data_dir: &Path) -> (Arc<Gateway>, Ledger) {
        let system = System {
            data_dir: data_dir.to_path_buf(),
            log: Log { console: false, file: None, webhooks: Vec::new(), parquet: None, database: false },
            ..System::default()
        };
        let snapshot = Snapshot { system, ..Snapshot::default() };
        let ledger = Ledger::open(&snapshot.system, &snapshot.prices, 1).unwrap();
        let gateway = Gateway::new(snapshot, Arc::new(NetworkDialer::default()), ledger.sink(), [0; 32]);
        gateway.quotas().restore(&ledger.book);
        (gateway, ledger)
    }

    fn start((gateway, ledger): (Arc<Gateway>, Ledger)) -> Self {
        let ledger = ledger.start(&gateway.snapshot().system, &gateway).unwrap();
        Self { gateway, ledger }
    }

    /// What a key used, as its quotas know.
    fn used(&self) -> Amounts {
        let tally = self.gateway.quotas().used(Scope::Key, "alice").unwrap_or_default();
        tally.used(QuotaPeriod::Total, &Periods::default())
    }
}

fn call(id: u8, tokens: u64) -> Entry<'static> {
    let usage = Some(Usage { input: Some(tokens), ..Usage::default() });
    Entry { id: [id; 16], key_id: Some("alice"), usage, cost: Some(7), counted: true, ..Entry::default() }
}

fn data_dir(purpose: &str) -> PathBuf {
    std::env::temp_dir().join(format!("aiproxy-{purpose}-{}", std::process::id()))
}

#[test]
fn what_open_calls_used_counts_once_in_the_quotas_of_the_processes_that_follow() {
    let data_dir = data_dir("open-calls-left");
    let process = Process::start(Process::open(&data_dir));
    let sink = process.gateway.sink();
    for tokens in [10, 20, 30] {
        sink.checkpoint(&call(1, tokens));
    }
    sink.checkpoint(&call(2, 400));
    sink.emit(&call(2, 500));
    sink.forget(&[2; 16]);
    assert!(sink.problems().is_empty(), "{:?}", sink.problems());
    // The first call never ends: it is lost with the process.
    process.ledger.stop();
    for _ in 0..2 {
        let process = Process::start(Process::open(&data_dir));
        assert_eq!(process.used(), Amounts { requests: 2, tokens: 530, cost: 14 });
        process.ledger.stop();
    }
    std::fs::remove_dir_all(data_dir).unwrap();
}

#[test]
fn what_a_predecessor_leaves_later_counts_once_in_the_quotas_of_this_process() {
    let data_dir = data_dir("open-calls-later");
    let process = Process::start(Process::open(&data_dir));
    process.gateway.sink().checkpoint(&call(1, 30));
    process.ledger.stop();
    // As if it still lived: the lock that says so is held.
    let instances = std::fs::read_dir(data_dir.join("open-calls")).unwrap().map(|entry| entry.unwrap().path());
    let instance = instances.into_iter().find(|path| path.is_dir()).unwrap();
    let lock = std::fs::File::open(instance.join("lock")).unwrap();
    lock.lock().unwrap();
    let successor = Process::open(&data_dir);
    drop(lock);
    let successor = Process::start(successor);
    let deadline = time::now() + Duration::from_secs(30);
    let once = Amounts { requests: 1, tokens: 30, cost: 7 };
    while successor.used() != once {
        assert!(time::now() < deadline, "{:?}", successor.used());
        std::thread::yield_now();
    }
    let gateway = successor.gateway.clone();
    successor.ledger.stop();
    let used = gateway.quotas().used(Scope::Key, "alice").unwrap();
    assert_eq!(used.used(QuotaPeriod::Total, &Periods::default()), once, "the tally does not tell of it again");
    let next = Process::start(Process::open(&data_dir));
    assert_eq!(next.used(), once);
    next.ledger.stop();
    std::fs::remove_dir_all(data_dir).unwrap();
}
