//! How fast records get into each database. Ignored: run it by hand, in a release build:
//! `cargo test --release -p aiproxy-store --test it speed -- --ignored --nocapture --test-threads 1`.

use aiproxy_core::time;
use aiproxy_ledger::{Batch, Entry, Position, Sink};
use aiproxy_llm::usage::Usage;
use fastrand::Rng;

use crate::sample::{plain, sink};
use crate::servers::TestDatabase;

/// Records of one measurement, and of one batch.
const RECORDS: usize = 100_000;
const BATCH: usize = 5_000;

#[tokio::test]
#[ignore = "a measurement"]
async fn ingest_sqlite() {
    for users in [3, 200] {
        ingest(TestDatabase::sqlite().await, users).await;
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn ingest_postgres() {
    for users in [3, 200] {
        ingest(TestDatabase::postgres().await, users).await;
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn ingest_mariadb() {
    for users in [3, 200] {
        ingest(TestDatabase::mariadb().await, users).await;
    }
}

async fn ingest(database: TestDatabase, users: usize) {
    let mut sink = sink(&database).await;
    let users: Vec<String> = (0..users).map(|number| format!("user-{number}")).collect();
    let mut rng = Rng::with_seed(9);
    let mut position = Position::default();
    let mut batches = Vec::new();
    for first in (0..RECORDS).step_by(BATCH) {
        let mut batch = Batch::at(position.clone());
        for number in first..first + BATCH {
            batch.push_record(&call(&mut rng, &users, number));
        }
        position = batch.position.clone();
        batches.push(batch);
    }
    let (cpu, start) = (cpu_us(), time::now());
    for batch in &batches {
        sink.write(batch).await.unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = (cpu_us() - cpu) as f64;
    let rate = RECORDS as f64 / seconds;
    let rows = database.count("rollup_latency").await;
    println!(
        "{:?}, {} users: {rate:.0} records/s, {:.1} µs of this process's CPU per record, {rows} bins, {} rollups",
        database.kind,
        users.len(),
        cpu / RECORDS as f64,
        database.count("rollups").await,
    );
    assert_eq!(database.count("records").await, RECORDS as i64);
}

/// One of the users with one of 5 models; a call every 5 ms.
fn call<'a>(rng: &mut Rng, users: &'a [String], number: usize) -> Entry<'a> {
    let mut entry: Entry<'a> = plain(number as u64 * 5);
    entry.user_id = Some(&users[rng.usize(..users.len())]);
    entry.model_served = Some(["gpt-4o", "gpt-4o-mini", "qwen-max", "claude", "gemini"][rng.usize(..5)]);
    entry.status = if rng.u32(..50) == 0 { 429 } else { 200 };
    entry.duration_us = (300_000.0 * (rng.f64() * 3.0).exp()) as u64;
    entry.first_byte_us = Some(entry.duration_us / 4);
    entry.usage = Some(Usage { input: Some(rng.u64(10..9000)), output: Some(rng.u64(1..2000)), ..Usage::default() });
    entry
}

/// CPU time of this process so far, in microseconds.
fn cpu_us() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10_000
}
