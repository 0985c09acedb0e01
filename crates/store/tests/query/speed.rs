//! How long questions take over ten million records of ninety days. Ignored: run it by hand, in a release build, with 8 GB
//! of disk free:
//! `cargo test --release -p aiproxy-store --test query speed -- --ignored --nocapture`.

use std::future::Future;

use aiproxy_core::time;
use aiproxy_store::bins::bin_value;
use aiproxy_store::query::{Cursor, Dimension, Filter, Grouping, Order, Periods, Query};
use aiproxy_store::{Granularity, Store};

use crate::calls::{ms, zone};
use crate::servers::TestDatabase;

const RECORDS: i64 = 10_000_000;
const START: &str = "2026-01-01T00:00:00Z";
const END: &str = "2026-04-01T00:00:00Z";

/// Most a page of the admin API may take.
const PAGE_MS: u128 = 2_000;

#[tokio::test]
#[ignore = "a measurement"]
async fn pages_of_ten_million_records() {
    let database = TestDatabase::sqlite().await;
    let store = Store::connect(&database.options()).await.unwrap();
    let start = time::now();
    fill(&database).await;
    println!("filled in {:.0} s", start.elapsed().as_secs_f64());
    let query = Query::new(store, zone("UTC"));
    let all = Filter::all(ms(START), ms(END));
    // Not at a full hour: with both edges.
    let ragged = Filter::all(ms("2026-01-01T00:17:11Z"), ms("2026-03-31T22:48:12Z"));
    let only = |dimension, value: &str| Filter { only: vec![(dimension, vec![value.to_owned()])], ..ragged.clone() };

    let mut slow = Vec::new();
    let found = timed(&mut slow, "summary", query.summary(&ragged, true)).await.unwrap();
    println!("{} calls", found.totals.calls);
    timed(&mut slow, "summary without percentiles", query.summary(&ragged, false)).await.unwrap();
    timed(&mut slow, "summary of one user", query.summary(&only(Dimension::User, "user-7"), true)).await.unwrap();
    for dimension in [Dimension::User, Dimension::Channel, Dimension::Model] {
        let by =
            Grouping { dimensions: vec![dimension], order: Order::Largest("cost"), limit: 100, failed_only: false };
        let name = format!("by {}", dimension.as_str());
        timed(&mut slow, &name, query.group_by(&ragged, &by, false)).await.unwrap();
        let name = format!("by {} with percentiles, which no page shows unasked", dimension.as_str());
        timed(&mut Vec::new(), &name, query.group_by(&ragged, &by, true)).await.unwrap();
    }
    for (granularity, zone_name) in [
        (Granularity::Hour, "UTC"),
        (Granularity::Day, "UTC"),
        (Granularity::Day, "Asia/Shanghai"),
        (Granularity::Month, "Asia/Shanghai"),
    ] {
        let periods = Periods { granularity, zone: zone(zone_name), grouping: None };
        let name = format!("series by {granularity:?} of {zone_name}");
        // Three million hours; a page shows those of three days.
        let is_page = granularity == Granularity::Month || (granularity, zone_name) == (Granularity::Day, "UTC");
        let slow = if is_page { &mut slow } else { &mut Vec::new() };
        timed(slow, &name, query.timeseries(&ragged, &periods, false)).await.unwrap();
    }
    let day = Filter::all(ms("2026-03-30T22:48:12Z"), ms("2026-03-31T22:48:12Z"));
    timed(&mut slow, "summary of the last 24 hours", query.summary(&day, true)).await.unwrap();

    let middle = Cursor::behind(aiproxy_store::id_floor(ms("2026-02-14T10:00:00Z") as u64));
    for (name, filter) in [
        ("all", all),
        ("one user", only(Dimension::User, "user-7")),
        ("half", only(Dimension::Channel, "channel-0")),
        ("rare", only(Dimension::ErrorCode, "rare")),
        ("old", only(Dimension::ErrorCode, "old")),
        ("none", only(Dimension::User, "nobody")),
        ("failed", only(Dimension::Status, "5xx")),
    ] {
        for (place, cursor) in [("first", None), ("middle", Some(middle))] {
            for newest_first in [true, false] {
                let name = format!("{place} page of {name}, {}", if newest_first { "newest" } else { "oldest" });
                let page = timed(&mut slow, &name, query.records(&filter, newest_first, cursor, 1000)).await.unwrap();
                assert!(page.records.len() == 1000 || page.next.is_none());
            }
        }
    }
    assert_eq!(slow, Vec::<String>::new(), "these took more than {PAGE_MS} ms");
}

async fn timed<T>(slow: &mut Vec<String>, name: &str, question: impl Future<Output = T>) -> T {
    let start = time::now();
    let answer = question.await;
    let ms = start.elapsed().as_millis();
    println!("{ms:>6} ms  {name}");
    if ms > PAGE_MS {
        slow.push(name.to_owned());
    }
    answer
}

/// Calls of 250 users, evenly spread over the time. Made in SQL: the same each time.
async fn fill(database: &TestDatabase) {
    let step = (ms(END) - ms(START)) / RECORDS;
    let start = ms(START);
    let durations: Vec<_> = (0..64_i16).map(|at| format!("({at}, {}, {})", bin_value(110 + at), 110 + at)).collect();
    let numbers = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {RECORDS}), \
         mixed AS (SELECT n, (n * 2654435761) % 4294967296 AS h, (n * 40503 + 977) % 65536 AS g, \
         {start} + n * {step} AS at FROM numbers)"
    );
    // Each user has a channel and two models; a tenth of calls fail; `old` is at the start only, `rare` once in 100,000.
    let series = "1 + (h / 7) % 250 * 120 + (h / 7) % 2 * 40 + ((h / 7) % 4 * 2 + (g / 17) % 2) * 5 \
                  + CASE WHEN n < 500 THEN 3 WHEN n % 100000 = 5 THEN 4 WHEN h % 20 = 0 THEN 1 WHEN h % 20 = 1 THEN 2 ELSE 0 END";
    let usage = "input, output, cached, cache_write, cache_write_long, reasoning, audio_input, audio_output, image_input, \
                 image_output, image, video, characters, searches, seconds_ms";
    let sums = "SUM(input), SUM(output), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0";
    database
        .run(&format!(
            "PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL; PRAGMA cache_size = -262144;
             CREATE TEMP TABLE durations (slot INTEGER PRIMARY KEY, us INTEGER, bin INTEGER);
             INSERT INTO durations VALUES {};
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < 30000)
             INSERT INTO series (id, digest, user_id, department, key_id, channel_id, credential_id, model, endpoint,
                 dialect, protocol, status, error_code)
             SELECT 1 + i, unhex(printf('%032x', i)), 'user-' || (i / 120), 'department-' || (i / 1200),
                 'key-' || (i / 120), 'channel-' || (i / 40 % 3), '1', 'model-' || (i / 5 % 8), '/v1/chat/completions',
                 'openai', 'sse', CASE i % 5 WHEN 0 THEN 200 WHEN 1 THEN 429 ELSE 502 END,
                 CASE i % 5 WHEN 0 THEN '' WHEN 1 THEN 'rate_limited' WHEN 2 THEN 'upstream_unreachable' WHEN 3 THEN 'old'
                 ELSE 'rare' END
             FROM n;
             {numbers}
             INSERT INTO records (id, series_id, started_at_ms, duration_us, first_byte_us, client_ip, method, path,
                 model_asked, model_served, attempt_ms, ended, request_bytes, response_bytes, input, output,
                 usage_source, cost, price_version, cache, counted)
             SELECT unhex(printf('%012x7%03x8%015x', at, g % 4096, n)), {series}, at, us, us / 4, '10.0.0.' || (g % 256),
                 'POST', '/v1/chat/completions', 'model', 'model', us / 1000, 'complete', g, h % 100000, g, h % 2000,
                 'provider', h % 10000, '2026-01', 'off', 1
             FROM mixed JOIN durations ON durations.slot = (h / 11) % 8 * 4 + g % 8;",
            durations.join(", ")
        ))
        .await;
    for (granularity, bucket) in [
        (0, "started_at_ms / 3600000 * 3600"),
        (1, "started_at_ms / 86400000 * 86400"),
        (2, "unixepoch(strftime('%Y-%m-01', started_at_ms / 1000, 'unixepoch'))"),
    ] {
        database
            .run(&format!(
                "PRAGMA synchronous = OFF; PRAGMA cache_size = -262144;
                 INSERT INTO rollups (granularity, bucket, series_id, calls, succeeded, counted, duration_us,
                     first_byte_us, first_byte_calls, request_bytes, response_bytes, cost, unpriced, estimated, {usage})
                 SELECT {granularity}, {bucket} AS b, series_id, COUNT(*), SUM((series_id - 1) % 5 = 0), COUNT(*),
                     SUM(duration_us), SUM(first_byte_us), COUNT(*), SUM(request_bytes), SUM(response_bytes), SUM(cost),
                     0, 0, {sums}
                 FROM records GROUP BY b, series_id;
                 CREATE TEMP TABLE durations (us INTEGER PRIMARY KEY, bin INTEGER);
                 INSERT INTO durations SELECT column2, column3 FROM (VALUES {});
                 INSERT INTO rollup_latency (granularity, bucket, series_id, kind, bin, calls)
                 SELECT {granularity}, {bucket} AS b, series_id, kind, bin - 16 * kind, COUNT(*)
                 FROM records JOIN durations ON durations.us = duration_us
                 JOIN (SELECT 0 AS kind UNION ALL SELECT 1) kinds GROUP BY b, series_id, kind, bin;",
                durations.join(", ")
            ))
            .await;
    }
    println!("{} rollups, {} bins", database.count("rollups").await, database.count("rollup_latency").await);
}
