//! Each call is counted once, whatever ends the process; and one process hands over to another.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aiproxy_config::snapshot::{QuotaPeriod, Scope};
use aiproxy_llm::usage::Usage;
use jiff::tz::TimeZone;
use tokio::sync::watch;

use super::*;
use crate::journal::Options;
use crate::runner::{Order, Runner};
use crate::sinks::testing::Directory;

/// 2026-11-20 08:00 UTC.
const NOW_MS: u64 = 1_795_161_600_000;

fn journal(directory: &Directory) -> Arc<Journal> {
    Journal::open(Options {
        directory: directory.path("journal"),
        shards: 1,
        segment_bytes: 2_000,
        memory_bytes: 1 << 20,
        fsync: None,
    })
}

fn restore(journal: &Arc<Journal>) -> Restored {
    TallySink::restore(journal, Arc::new(Calendar::new(TimeZone::UTC)), Box::new(PriceTable::shipped))
}

fn call(user: &'static str) -> Entry<'static> {
    Entry {
        user_id: Some(user),
        channel_id: Some("main"),
        credential_id: Some("one"),
        protocol: "http",
        status: 200,
        end: "complete",
        started_unix_ms: NOW_MS,
        usage: Some(Usage { input: Some(2), output: Some(1), ..Usage::default() }),
        cost: Some(5),
        counted: true,
        ..Entry::default()
    }
}

fn append(journal: &Journal, count: usize) {
    for _ in 0..count {
        assert!(journal.append_record(&call("zhang")));
    }
}

/// Feeds the sink all there is, as its runner does.
async fn feed(sink: &mut TallySink) {
    let mut reader = Reader::new(sink.journal.clone(), sink.resume().await.unwrap().unwrap());
    let mut batch = Batch::at(reader.position().clone());
    while !(reader.fill(&mut batch, &APPETITE).unwrap() && batch.is_empty()) {
        sink.write(&batch).await.unwrap();
        batch.clear();
    }
}

/// As if so much time had gone by that the file is due.
async fn idle_when_due(sink: &mut TallySink) {
    sink.next_save = time::now();
    sink.idle().await.unwrap();
}

/// Requests, tokens and cost of the user, then what the live numbers say of the same.
fn counts(book: &TallyBook, totals: &LiveTotals) -> [u64; 5] {
    let periods = Calendar::new(TimeZone::UTC).periods(NOW_MS);
    let used = book.get(Scope::User, "zhang").map(|tally| tally.used(QuotaPeriod::Day, &periods)).unwrap_or_default();
    let all = totals.totals().all;
    [used.requests, used.tokens, used.cost as u64, all.calls, all.cost as u64]
}

fn counts_of(calls: usize) -> [u64; 5] {
    [1, 3, 5, 1, 5].map(|each| each * calls as u64)
}

#[tokio::test]
async fn a_clean_stop_and_a_kill_both_leave_every_call_counted_once() {
    let directory = Directory::new("tally");
    let first = journal(&directory);
    let Restored { mut sink, totals, flaw, records, .. } = restore(&first);
    assert_eq!((flaw, records, totals.totals().all.calls), (None, 0, 0));
    let since = totals.totals().since_unix_ms;
    append(&first, 30);
    feed(&mut sink).await;
    sink.finish().await.unwrap();
    append(&first, 12);
    feed(&mut sink).await;
    assert_eq!(counts(&sink.book, &totals), counts_of(42));
    assert!(first.backlog(sink.committed().unwrap()) > 0, "the file does not have the last twelve");
    drop((sink, first));

    let second = journal(&directory);
    let restored = restore(&second);
    assert_eq!((restored.flaw, restored.records), (None, 12));
    assert_eq!(counts(&restored.book, &restored.totals), counts_of(42));
    assert_eq!(restored.totals.totals().since_unix_ms, since, "since the first start ever");
    assert_eq!(restored.totals.calls().calls.len(), 0, "series begin with the process");
    drop((restored.sink, second));

    let third = journal(&directory);
    let restored = restore(&third);
    assert_eq!(restored.records, 0, "written right after it was restored");
    assert_eq!(counts(&restored.book, &restored.totals), counts_of(42));
}

#[tokio::test]
async fn whatever_happens_in_whatever_order_the_sum_is_exact() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let directory = Directory::new("tally");
        let mut log = journal(&directory);
        let mut restored = restore(&log);
        let mut appended = 0;
        for _ in 0..60 {
            match random.u8(..8) {
                0..3 => {
                    let count = random.usize(..20);
                    append(&log, count);
                    appended += count;
                }
                3..5 => feed(&mut restored.sink).await,
                5 => idle_when_due(&mut restored.sink).await,
                // The journal lets go of what the sink says it has.
                6 => log.tend(restored.sink.committed().map(|position| position.floor)),
                _ => {
                    if random.bool() {
                        restored.sink.finish().await.unwrap();
                    }
                    drop((restored, log));
                    log = journal(&directory);
                    restored = restore(&log);
                    assert_eq!(restored.flaw, None);
                    assert_eq!(counts(&restored.book, &restored.totals), counts_of(appended), "seed {seed}");
                }
            }
        }
        feed(&mut restored.sink).await;
        assert_eq!(counts(&restored.sink.book, &restored.totals), counts_of(appended), "seed {seed}");
    }
}

#[tokio::test]
async fn the_file_is_written_every_five_seconds_at_most_and_only_if_there_is_news() {
    let directory = Directory::new("tally");
    let journal = journal(&directory);
    let mut sink = restore(&journal).sink;
    assert_eq!(directory.names("journal"), ["tally.lock"], "nothing to write yet");
    append(&journal, 1);
    let before = time::now();
    feed(&mut sink).await;
    let first = sink.file.stamp();
    assert!(first.is_some() && sink.next_save >= before + SAVE_INTERVAL);

    sink.next_save = time::now() + Duration::from_secs(3600);
    append(&journal, 1);
    feed(&mut sink).await;
    sink.idle().await.unwrap();
    assert_eq!(sink.file.stamp(), first, "not due");
    idle_when_due(&mut sink).await;
    assert_ne!(sink.file.stamp(), first);

    std::fs::remove_file(sink.file.path()).unwrap();
    idle_when_due(&mut sink).await;
    sink.finish().await.unwrap();
    assert_eq!(sink.file.stamp(), None, "no news, no file");
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_what_the_journal_holds_is_counted() {
    let directory = Directory::new("tally");
    let first = journal(&directory);
    let mut sink = restore(&first).sink;
    append(&first, 50);
    feed(&mut sink).await;
    sink.finish().await.unwrap();
    first.tend(sink.committed().map(|position| position.floor));
    append(&first, 3);
    let kept = first.extent().disk.len();
    drop((sink, first));
    std::fs::write(directory.path("journal/tally.state"), "not what was written").unwrap();

    let second = journal(&directory);
    let restored = restore(&second);
    assert!(restored.flaw.is_some_and(|flaw| flaw.contains("damaged")));
    assert!(kept <= 3 && (3..50).contains(&restored.records), "{kept} segments, {} records", restored.records);
    assert_eq!(counts(&restored.book, &restored.totals), counts_of(restored.records as usize));
    assert_eq!(directory.read("journal/tally.state.unusable"), "not what was written");
    assert!(restored.sink.file.read().state.is_some(), "a good one is in its place");
}

#[tokio::test]
async fn calls_that_another_process_still_finishes_are_told_and_only_one_of_both_writes_the_file() {
    let directory = Directory::new("tally");
    let old = journal(&directory);
    let mut old_sink = restore(&old).sink;
    append(&old, 10);
    feed(&mut old_sink).await;

    let new = journal(&directory);
    let restored = restore(&new);
    assert_eq!((restored.records, restored.flaw), (0, None));
    assert_eq!(counts(&restored.book, &restored.totals), counts_of(10));
    let told = Arc::new(Mutex::new(Vec::new()));
    let totals = restored.totals;
    let (list, looked_at) = (told.clone(), totals.clone());
    let mut new_sink = restored.sink.with_foreign(Box::new(move |entry| {
        assert!(looked_at.totals().all.calls > 10, "it may look at the numbers");
        list.lock().unwrap().push(entry.user_id.map(str::to_string));
    }));
    assert!(old.append_record(&call("li")));
    append(&new, 7);
    assert!(old.append_record(&call("wang")));
    new_sink.next_save = time::now();
    feed(&mut new_sink).await;
    assert_eq!(*told.lock().unwrap(), [Some("li".to_string()), Some("wang".to_string())]);
    assert_eq!((totals.totals().all.calls, totals.calls().calls.sorted()[0].1), (19, &9));
    let committed = new_sink.committed().unwrap().clone();
    idle_when_due(&mut new_sink).await;
    assert_eq!(new_sink.committed(), Some(&committed), "the old one has the lock");

    feed(&mut old_sink).await;
    old_sink.finish().await.unwrap();
    assert_eq!(old_sink.file.read().state.unwrap().totals.all.calls, 19);
    drop((old_sink, old));
    idle_when_due(&mut new_sink).await;
    assert_ne!(new_sink.committed(), Some(&committed));
    assert_eq!(new_sink.file.read().state.unwrap().book, new_sink.book);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_stops_no_counting() {
    let directory = Directory::new("tally");
    std::fs::write(directory.path("journal"), "a file where the directory should be").unwrap();
    let journal = journal(&directory);
    let Restored { mut sink, totals, .. } = restore(&journal);
    append(&journal, 5);
    feed(&mut sink).await;
    assert_eq!(counts(&sink.book, &totals), counts_of(5));
    assert_eq!(sink.committed(), Some(&Position::default()), "the journal keeps all of it");
    assert!(totals.problem().is_some());
    assert!(matches!(sink.finish().await, Err(SinkError::Unavailable(_))));

    std::fs::remove_file(directory.path("journal")).unwrap();
    std::fs::create_dir(directory.path("journal")).unwrap();
    idle_when_due(&mut sink).await;
    assert_eq!((totals.problem(), sink.committed()), (None, Some(&sink.position)));
}

#[test]
fn whoever_waits_sees_the_call_that_just_ended() {
    let directory = Directory::new("tally");
    let journal = journal(&directory);
    let Restored { sink, totals, .. } = restore(&journal);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let wait = |ms| runtime.block_on(async { totals.wait_caught_up(time::now() + Duration::from_millis(ms)).await });
    assert!(wait(0), "nothing to wait for");
    append(&journal, 1);
    assert!(!wait(1), "nobody reads yet");
    let (orders, listening) = watch::channel(Order::Run);
    let runner = Runner::start(journal.clone(), sink, listening).unwrap();
    for calls in 2..10 {
        append(&journal, 1);
        assert!(wait(30_000));
        assert_eq!(totals.totals().all.calls, calls);
    }
    orders.send(Order::Leave).unwrap();
    runner.join();
}

#[test]
fn readers_see_whole_batches() {
    let directory = Directory::new("tally");
    let journal = journal(&directory);
    let Restored { mut sink, totals, .. } = restore(&journal);
    let mut batch = Batch::default();
    (0..100).for_each(|_| batch.push_record(&call("zhang")));
    let reads = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                sink.count(&batch);
            }
            reads.fetch_max(1, Ordering::Relaxed);
        });
        while reads.load(Ordering::Relaxed) == 0 {
            let totals = totals.totals();
            assert_eq!(totals.all.calls % 100, 0);
            assert_eq!(totals.channels.get("main").map_or(0, |counts| counts.calls), totals.all.calls);
        }
    });
    assert_eq!(totals.totals().all.calls, 5_000);
}

/// `cargo test --release -p aiproxy-ledger -- --ignored a_gigabyte --nocapture`
#[test]
#[ignore = "a measurement: needs a release build and a gigabyte of disk"]
fn a_gigabyte_of_journal_is_counted_in_five_seconds() {
    let directory = Directory::new("tally");
    let options = |directory: &Directory| Options {
        directory: directory.path("journal"),
        shards: 1,
        segment_bytes: 64 << 20,
        memory_bytes: 1 << 20,
        fsync: None,
    };
    let log = Journal::open(options(&directory));
    let (names, models) = (names("user", 2_000), names("model", 40));
    let mut records = 0;
    while log.extent().disk.values().sum::<u64>() < 1 << 30 {
        for number in records..records + 10_000 {
            let entry = typical(&names[number % names.len()], &models[number % models.len()], number as u64);
            assert!(log.append_record(&entry));
        }
        records += 10_000;
    }
    drop(log);
    let log = Journal::open(options(&directory));
    let started = (time::now(), cpu_time());
    let restored = restore(&log);
    let (took, cpu) = (started.0.elapsed(), cpu_time() - started.1);
    assert_eq!(restored.records as usize, records);
    let each = cpu.as_nanos() / records as u128;
    println!("{records} records of {} bytes in {took:?}, {cpu:?} of a core: {each} ns each", (1 << 30) / records);

    let mut sink = restored.sink;
    let mut batch = Batch::default();
    (0..5_000).for_each(|number| {
        batch.push_record(&typical(&names[number % names.len()], &models[number % models.len()], number as u64));
    });
    let per_entry = |what: &str, mut work: Box<dyn FnMut() + '_>| {
        let started = cpu_time();
        (0..100).for_each(|_| work());
        println!("{what}: {} ns each", (cpu_time() - started).as_nanos() / 500_000);
    };
    per_entry("decoded", Box::new(|| assert_eq!(batch.entries().count(), 5_000)));
    let calendar = Calendar::new(TimeZone::UTC);
    let (mut book, mut totals, prices) = (TallyBook::default(), Totals::default(), PriceTable::shipped());
    per_entry("decoded, in the book", Box::new(|| batch.entries().for_each(|entry| book.add_entry(&entry, &calendar))));
    per_entry("decoded, in the totals", Box::new(|| batch.entries().for_each(|entry| totals.add(&entry, &prices))));
    let started = cpu_time();
    (0..100).for_each(|_| sink.count(&batch));
    println!("counted with its series: {} ns each", (cpu_time() - started).as_nanos() / 500_000);
    assert!(cpu < Duration::from_secs(5), "{cpu:?}");
}

/// What this thread used of a core, whatever else the machine does.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn names(kind: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{kind}-{number:04}")).collect()
}

fn typical<'name>(user: &'name str, model: &'name str, number: u64) -> Entry<'name> {
    let attempt = crate::entry::EntryAttempt {
        channel_id: "openai",
        credential_id: "key-1",
        status: Some(200),
        ms: 800,
        ..Default::default()
    };
    Entry {
        id: [7; 16],
        started_unix_ms: NOW_MS + number,
        duration_us: 1_000_000 + number,
        first_byte_us: Some(300_000 + number),
        user_id: Some(user),
        department: Some("research"),
        groups: vec!["everyone", "research"],
        key_id: Some(user),
        client_ip: "192.0.2.17",
        method: "POST",
        path: "/v1/chat/completions",
        endpoint: "/v1/chat/completions",
        dialect: "openai",
        protocol: "sse",
        channel_id: Some("openai"),
        credential_id: Some("key-1"),
        model_asked: Some(model),
        model_served: Some(model),
        attempts: vec![attempt],
        upstream_request_id: Some("req_0123456789abcdef0123456789abcdef"),
        usage_source: "provider",
        price_version: Some("2026-11-20"),
        cache: "off",
        request_bytes: 2_000,
        response_bytes: 9_000,
        ..call("")
    }
}
