//! Records made up from a seed.

use aiproxy_core::id::RecordId;
use aiproxy_ledger::{Batch, Entry, EntryAttempt, Position, Sink};
use aiproxy_llm::usage::Usage;
use aiproxy_store::{Limits, SqlSink};
use fastrand::Rng;
use jiff::tz::TimeZone;

use crate::servers::TestDatabase;

/// 2026-03-01T00:00:00Z.
pub(crate) const START: u64 = 1_772_323_200_000;

/// The instance that tests write as.
pub(crate) const INSTANCE: &str = "0195-test-instance";

/// A sink of [`INSTANCE`] with a connection.
pub(crate) async fn sink(database: &TestDatabase) -> SqlSink {
    let mut sink = unconnected(database, INSTANCE);
    sink.resume().await.unwrap();
    sink
}

pub(crate) fn unconnected(database: &TestDatabase, instance: &str) -> SqlSink {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    SqlSink::new(&database.options(), instance, zone, Limits::default()).unwrap()
}

/// A batch of these entries after `before`.
pub(crate) fn batch_after(before: &Position, entries: &[Entry<'_>]) -> Batch {
    let mut batch = Batch::at(before.clone());
    for entry in entries {
        batch.push_record(entry);
    }
    batch
}

pub(crate) fn batch(entries: &[Entry<'_>]) -> Batch {
    batch_after(&Position::default(), entries)
}

/// A plain call that went well.
pub(crate) fn plain(number: u64) -> Entry<'static> {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    let started_unix_ms = START + number;
    Entry {
        id: id(started_unix_ms, random),
        started_unix_ms,
        duration_us: 812_345,
        first_byte_us: Some(120_000),
        user_id: Some("zhang"),
        department: Some("技术部"),
        key_id: Some("zhang-1"),
        client_ip: "192.0.2.7",
        method: "POST",
        path: "/v1/chat/completions",
        endpoint: "/v1/chat/completions",
        dialect: "openai",
        protocol: "http",
        channel_id: Some("openai"),
        credential_id: Some("1"),
        model_asked: Some("gpt-4o"),
        model_served: Some("gpt-4o"),
        attempts: vec![EntryAttempt {
            channel_id: "openai",
            credential_id: "1",
            status: Some(200),
            ms: 118,
            ..EntryAttempt::default()
        }],
        status: 200,
        end: "complete",
        request_bytes: 300,
        response_bytes: 900,
        usage: Some(Usage { input: Some(11), output: Some(22), cached: Some(0), ..Usage::default() }),
        usage_source: "provider",
        cost: Some(1_234),
        price_version: Some("2026-01"),
        cache: "off",
        counted: true,
        ..Entry::default()
    }
}

/// Entries with a bit of everything, over two days.
pub(crate) fn random(seed: u64, count: usize) -> Vec<Entry<'static>> {
    let mut rng = Rng::with_seed(seed);
    (0..count).map(|_| one(&mut rng)).collect()
}

fn one(rng: &mut Rng) -> Entry<'static> {
    let started_unix_ms = START + rng.u64(0..2 * 86_400_000);
    let mut bytes = [0; 10];
    rng.fill(&mut bytes);
    let mut entry = plain(0);
    entry.id = id(started_unix_ms, bytes);
    entry.started_unix_ms = started_unix_ms;
    entry.duration_us = rng.u64(1..100_000_000);
    entry.first_byte_us = rng.bool().then(|| rng.u64(0..1_000_000));
    entry.protocol = *pick(rng, &["http", "sse", "websocket", "webrtc"]);
    entry.user_id = *pick(rng, &[Some("zhang"), Some("李四"), None]);
    entry.groups = pick(rng, &[vec![], vec!["one", "二"]]).clone();
    entry.channel_id = *pick(rng, &[Some("openai"), Some("aliyun")]);
    entry.model_served = *pick(rng, &[Some("gpt-4o"), Some("qwen-max"), None]);
    entry.status = *pick(rng, &[200, 200, 200, 201, 404, 429, 500]);
    entry.error_code = *pick(rng, &[None, Some("rate_limited")]);
    entry.end = *pick(rng, &["complete", "client_closed", "upstream_error", "timeout", "shutdown"]);
    entry.request_bytes = rng.u64(0..1 << 30);
    entry.response_bytes = rng.u64(0..1 << 40);
    entry.usage_source = *pick(rng, &["provider", "estimated", "none"]);
    entry.cost = *pick(rng, &[None, Some(0), Some(77), Some(-5), Some(1 << 40)]);
    entry.price_version = *pick(rng, &[None, Some("2026-01"), Some("unpriced")]);
    entry.counted = rng.bool();
    let mut number = |most| rng.bool().then(|| rng.u64(0..most));
    entry.usage = Some(Usage {
        input: number(1 << 40),
        output: number(1 << 20),
        cached: number(10),
        cache_write: number(10),
        cache_write_long: number(10),
        reasoning: number(10),
        audio_input: number(10),
        audio_output: number(10),
        image_input: number(10),
        image_output: number(10),
        image: number(10),
        video: number(10),
        characters: number(1000),
        searches: number(10),
        seconds_ms: number(1 << 30),
    });
    if rng.bool() {
        let failed = EntryAttempt { channel_id: "aliyun", ms: 5, why: Some("connect"), ..EntryAttempt::default() };
        entry.attempts.insert(0, failed);
    }
    entry
}

fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}

fn id(unix_ms: u64, random: [u8; 10]) -> [u8; 16] {
    RecordId::new(unix_ms, random).to_string().parse::<uuid::Uuid>().unwrap().into_bytes()
}
