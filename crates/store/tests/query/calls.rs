//! Made-up calls, a ledger filled with them, and what they add up to by hand.

use aiproxy_core::id::RecordId;
use aiproxy_ledger::{Batch, Bodies, Entry, EntryAttempt, Sink as _};
use aiproxy_llm::usage::Usage;
use aiproxy_store::query::{Dimension, Filter, Query, Totals};
use aiproxy_store::{Limits, SqlSink, Store};
use fastrand::Rng;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::servers::TestDatabase;

/// Names that would matter if they were ever taken for SQL, or for anything but names.
pub(crate) const USERS: [&str; 5] = ["alice", "张三", "' OR 1=1 --", "100%_\\", "\"; DROP TABLE records; --"];
const MODELS: [&str; 4] = ["gpt-4o", "qwen-max", "claude-sonnet-4", ""];
const STATUSES: [(u16, &str, Option<&str>); 7] = [
    (200, "complete", None),
    (200, "client_closed", None),
    (200, "upstream_error", None),
    (101, "complete", None),
    (429, "complete", Some("rate_limited")),
    (504, "timeout", Some("upstream_timeout")),
    (499, "client_closed", None),
];

pub(crate) fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

pub(crate) fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

/// `count` calls between two moments, in no order.
pub(crate) fn calls(seed: u64, count: usize, start_ms: i64, end_ms: i64) -> Vec<Entry<'static>> {
    let mut random = Rng::with_seed(seed);
    (0..count).map(|_| call(&mut random, start_ms, end_ms)).collect()
}

fn call(random: &mut Rng, start_ms: i64, end_ms: i64) -> Entry<'static> {
    let started = match random.u8(..8) {
        // On the edge, and a millisecond beside it.
        0 => start_ms + (random.i64(0..end_ms - start_ms) / 3_600_000 * 3_600_000),
        1 => (start_ms + (random.i64(0..end_ms - start_ms) / 3_600_000 * 3_600_000) - 1).max(start_ms),
        _ => random.i64(start_ms..end_ms),
    };
    let (status, end, error_code) = STATUSES[if random.bool() { 0 } else { random.usize(..STATUSES.len()) }];
    let model = Some(MODELS[random.usize(..MODELS.len())]).filter(|model| !model.is_empty());
    let some = |random: &mut Rng, most: u64| if random.bool() { Some(random.u64(..most)) } else { None };
    let usage = Usage {
        input: some(random, 100_000),
        output: some(random, 10_000),
        cached: some(random, 1000),
        cache_write: some(random, 1000),
        reasoning: some(random, 100),
        image: some(random, 3),
        seconds_ms: some(random, 90_000),
        searches: some(random, 2),
        ..Usage::default()
    };
    let usage = (!usage.is_empty() && status < 400).then_some(usage);
    let cost = usage.and_then(|_| some(random, 5_000_000)).map(|cost| cost as i64 - 100);
    let channel = ["openai", "aliyun"][random.usize(..2)];
    let attempt =
        EntryAttempt { channel_id: channel, credential_id: "1", status: Some(status), ms: 7, ..<_>::default() };
    let failed = EntryAttempt {
        channel_id: "other \"channel\"",
        credential_id: "2",
        why: Some("connect"),
        usage,
        cost,
        ..attempt.clone()
    };
    Entry {
        id: id(started, random),
        started_unix_ms: started as u64,
        duration_us: 1 << random.u32(..26) | u64::from(random.u16(..)),
        first_byte_us: some(random, 3_000_000),
        user_id: Some(USERS[random.usize(..USERS.len())]).filter(|_| status != 429),
        department: Some("技术部"),
        groups: if random.bool() { vec!["one", "two"] } else { Vec::new() },
        key_id: Some(["k1", "k2"][random.usize(..2)]),
        relay_token_id: None,
        client_ip: "127.0.0.1",
        method: "POST",
        path: "/v1/chat/completions",
        endpoint: ["/v1/chat/completions", "/v1/embeddings"][random.usize(..2)],
        dialect: "openai",
        protocol: ["http", "http", "sse", "sse", "websocket", "webrtc"][random.usize(..6)],
        channel_id: Some(channel),
        credential_id: Some("1"),
        model_asked: model,
        model_served: model.filter(|_| status == 200),
        attempts: if random.bool() { vec![attempt] } else { vec![failed, attempt] },
        status,
        error_code,
        upstream_request_id: Some("req_1").filter(|_| random.bool()),
        end,
        request_bytes: random.u64(..1 << 20),
        response_bytes: random.u64(..1 << 20),
        usage,
        usage_source: if usage.is_none() { "none" } else { ["provider", "estimated"][random.usize(..2)] },
        usage_flaw: None,
        cost,
        price_version: usage.map(|_| if cost.is_some() { "2026-01" } else { "unpriced" }),
        cache: "off",
        counted: status != 429,
    }
}

fn id(started_ms: i64, random: &mut Rng) -> [u8; 16] {
    let id = RecordId::new(started_ms as u64, std::array::from_fn(|_| random.u8(..)));
    id.to_string().parse::<uuid::Uuid>().unwrap().into_bytes()
}

/// A ledger with these calls in it, whose hours, days and months are those of `zone_name`.
pub(crate) async fn ledger(database: &TestDatabase, zone_name: &str, entries: &[Entry<'_>]) -> Query {
    write(database, zone_name, entries, &[]).await;
    Query::new(Store::connect(&database.options()).await.unwrap(), zone(zone_name))
}

/// Adds calls and bodies to a ledger.
pub(crate) async fn write(database: &TestDatabase, zone_name: &str, entries: &[Entry<'_>], bodies: &[Bodies<'_>]) {
    let mut sink = SqlSink::new(&database.options(), "test", zone(zone_name), Limits::default()).unwrap();
    let position = sink.resume().await.unwrap().unwrap_or_default();
    let mut batch = Batch::at(position);
    for entry in entries {
        batch.push_record(entry);
    }
    for bodies in bodies {
        batch.push_bodies(bodies);
    }
    sink.write(&batch).await.unwrap();
}

/// What an entry is grouped by.
pub(crate) fn value(entry: &Entry<'_>, dimension: Dimension) -> String {
    let text = match dimension {
        Dimension::User => entry.user_id,
        Dimension::Department => entry.department,
        Dimension::Key => entry.key_id,
        Dimension::Channel => entry.channel_id,
        Dimension::Credential => entry.credential_id,
        Dimension::Model => entry.model_served.or(entry.model_asked.filter(|_| entry.counted)),
        Dimension::Endpoint => Some(entry.endpoint),
        Dimension::Dialect => Some(entry.dialect),
        Dimension::Protocol => Some(entry.protocol),
        Dimension::Status => return entry.status.to_string(),
        Dimension::ErrorCode => entry.error_code,
    };
    text.unwrap_or_default().to_owned()
}

/// Whether a filter takes an entry.
pub(crate) fn matches(filter: &Filter, entry: &Entry<'_>) -> bool {
    let started = entry.started_unix_ms as i64;
    (filter.start_ms..filter.end_ms).contains(&started)
        && filter.only.iter().all(|(dimension, values)| {
            let own = value(entry, *dimension);
            let class = format!("{}xx", entry.status / 100);
            values.iter().any(|value| *value == own || (*dimension == Dimension::Status && *value == class))
        })
}

/// What entries add up to.
pub(crate) fn sum<'a>(entries: impl Iterator<Item = &'a Entry<'a>>) -> Totals {
    let mut totals = Totals::default();
    for entry in entries {
        let usage = entry.usage.unwrap_or_default();
        let number = |number: Option<u64>| number.unwrap_or(0) as i64;
        totals.add(&Totals {
            calls: 1,
            succeeded: (entry.status < 400 && matches!(entry.end, "complete" | "client_closed")).into(),
            counted: entry.counted.into(),
            duration_calls: (!entry.is_session()).into(),
            duration_us: if entry.is_session() { 0 } else { entry.duration_us as i64 },
            first_byte_us: number(entry.first_byte_us.filter(|_| !entry.is_session())),
            first_byte_calls: (entry.first_byte_us.is_some() && !entry.is_session()).into(),
            request_bytes: entry.request_bytes as i64,
            response_bytes: entry.response_bytes as i64,
            input: number(usage.input),
            output: number(usage.output),
            cached: number(usage.cached),
            cache_write: number(usage.cache_write),
            cache_write_long: number(usage.cache_write_long),
            reasoning: number(usage.reasoning),
            audio_input: number(usage.audio_input),
            audio_output: number(usage.audio_output),
            image_input: number(usage.image_input),
            image_output: number(usage.image_output),
            image: number(usage.image),
            video: number(usage.video),
            characters: number(usage.characters),
            searches: number(usage.searches),
            seconds_ms: number(usage.seconds_ms),
            cost: entry.cost.unwrap_or(0),
            unpriced: (entry.price_version == Some("unpriced")).into(),
            estimated: (entry.usage_source == "estimated").into(),
        });
    }
    totals
}

/// A range and a filter within those of `calls`.
pub(crate) fn question(random: &mut Rng, start_ms: i64, end_ms: i64) -> Filter {
    let mut moment = || match random.u8(..4) {
        0 => random.i64(start_ms..end_ms) / 3_600_000 * 3_600_000,
        1 => random.i64(start_ms..end_ms) / 86_400_000 * 86_400_000,
        _ => random.i64(start_ms - 3_600_000..end_ms + 3_600_000),
    };
    let (one, other) = (moment(), moment());
    let length = if random.u8(..4) == 0 { random.i64(0..5_400_000) } else { (one - other).abs() };
    let mut filter = Filter::all(one.min(other), one.min(other) + length);
    let candidates = [
        (Dimension::User, vec![USERS[random.usize(..USERS.len())], "nobody"]),
        (Dimension::Model, vec!["qwen-max", ""]),
        (Dimension::Status, vec!["5xx", "429"]),
        (Dimension::ErrorCode, vec![""]),
        (Dimension::Channel, vec!["openai"]),
    ];
    for (dimension, values) in candidates {
        if random.u8(..4) == 0 {
            filter.only.push((dimension, values.into_iter().map(str::to_owned).collect()));
        }
    }
    filter
}
