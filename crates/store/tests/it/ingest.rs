//! Batches: all of one or nothing, and each record once.

use aiproxy_ledger::{Batch, Bodies, Body, Entry, Position, Sink, SinkError};
use aiproxy_llm::usage::Usage;

use crate::in_every_database;
use crate::sample::{INSTANCE, batch, batch_after, plain, random, sink, unconnected};
use crate::servers::TestDatabase;

in_every_database! {
    a_batch_and_its_cursor_are_there_together,
    a_batch_that_is_written_again_adds_nothing,
    a_batch_of_which_half_is_known_adds_the_other_half,
    sums_equal_the_rows_they_are_made_of,
    a_poisoned_record_is_rejected_with_all_of_its_batch,
    what_no_database_likes_is_made_harmless,
    bodies_are_kept_as_json,
    two_instances_write_to_the_same_sums,
    a_record_reads_well_at_a_prompt,
}

async fn a_batch_and_its_cursor_are_there_together(database: TestDatabase) {
    let mut sink = unconnected(&database, INSTANCE);
    assert_eq!(sink.resume().await, Ok(None));
    let batch = batch(&random(1, 300));
    sink.write(&batch).await.unwrap();
    assert_eq!(database.count("records").await, 300);
    assert_eq!(unconnected(&database, INSTANCE).resume().await, Ok(Some(batch.position)));
    assert_eq!(unconnected(&database, "another").resume().await, Ok(None));
}

async fn a_batch_that_is_written_again_adds_nothing(database: TestDatabase) {
    let batch = batch(&random(2, 200));
    sink(&database).await.write(&batch).await.unwrap();
    let before = sums(&database).await;
    let mut again = sink(&database).await;
    again.write(&batch).await.unwrap();
    again.write(&batch).await.unwrap();
    assert_eq!(sums(&database).await, before);
    assert_eq!(database.count("records").await, 200);
}

async fn a_batch_of_which_half_is_known_adds_the_other_half(database: TestDatabase) {
    let mut entries = random(3, 200);
    let mut sink = sink(&database).await;
    sink.write(&batch(&entries[50..150])).await.unwrap();
    // And one that is in the batch twice.
    entries.push(entries[199].clone());
    let all = batch(&entries);
    sink.write(&all).await.unwrap();
    assert_eq!(database.count("records").await, 200);
    assert_eq!(database.number("SUM(calls)", "FROM rollups WHERE granularity = 1").await, 200);
    assert_eq!(sink.resume().await, Ok(Some(all.position)));
}

/// Each sum of a rollup, and what of a record it is the sum of.
const SUMS: [(&str, &str); 26] = [
    ("calls", "1"),
    ("succeeded", "CASE WHEN status < 400 AND ended IN ('complete', 'client_closed') THEN 1 ELSE 0 END"),
    ("counted", "counted"),
    ("duration_us", "duration_us"),
    ("first_byte_us", "COALESCE(first_byte_us, 0)"),
    ("first_byte_calls", "CASE WHEN first_byte_us IS NULL THEN 0 ELSE 1 END"),
    ("request_bytes", "request_bytes"),
    ("response_bytes", "response_bytes"),
    ("cost", "COALESCE(cost, 0)"),
    ("unpriced", "CASE WHEN price_version = 'unpriced' THEN 1 ELSE 0 END"),
    ("estimated", "CASE WHEN usage_source = 'estimated' THEN 1 ELSE 0 END"),
    ("input", "COALESCE(input, 0)"),
    ("output", "COALESCE(output, 0)"),
    ("cached", "COALESCE(cached, 0)"),
    ("cache_write", "COALESCE(cache_write, 0)"),
    ("cache_write_long", "COALESCE(cache_write_long, 0)"),
    ("reasoning", "COALESCE(reasoning, 0)"),
    ("audio_input", "COALESCE(audio_input, 0)"),
    ("audio_output", "COALESCE(audio_output, 0)"),
    ("image_input", "COALESCE(image_input, 0)"),
    ("image_output", "COALESCE(image_output, 0)"),
    ("image", "COALESCE(image, 0)"),
    ("video", "COALESCE(video, 0)"),
    ("characters", "COALESCE(characters, 0)"),
    ("searches", "COALESCE(searches, 0)"),
    ("seconds_ms", "COALESCE(seconds_ms, 0)"),
];

/// All sums of all granularities.
async fn sums(database: &TestDatabase) -> Vec<i64> {
    let mut sums = Vec::new();
    for granularity in 0..3 {
        for (column, _) in SUMS {
            let rest = format!("FROM rollups WHERE granularity = {granularity}");
            sums.push(database.number(&format!("COALESCE(SUM({column}), 0)"), &rest).await);
        }
    }
    sums.push(database.number("COALESCE(SUM(calls), 0)", "FROM rollup_latency").await);
    sums
}

async fn sums_equal_the_rows_they_are_made_of(database: TestDatabase) {
    let mut sink = sink(&database).await;
    let entries = random(4, 1000);
    let mut position = Position::default();
    for part in entries.chunks(170) {
        let batch = batch_after(&position, part);
        sink.write(&batch).await.unwrap();
        position = batch.position;
    }
    // Sessions are in the sums, but how long they lasted is no response time.
    let timed = entries.iter().filter(|entry| !entry.is_session());
    let answered = timed.clone().filter(|entry| entry.first_byte_us.is_some()).count() as i64;
    let timed = timed.count() as i64;
    // 2026-03-01 in Berlin begins an hour before that of UTC.
    let buckets = [
        "started_at_ms / 1000 - (started_at_ms / 1000) % 3600",
        "started_at_ms / 1000 - (started_at_ms / 1000 + 3600) % 86400",
        "1772319600 + 0 * started_at_ms",
    ];
    let floor = |text: &str| match database.kind {
        aiproxy_config::snapshot::DatabaseKind::Mysql => text.replace(" / ", " DIV "),
        _ => text.to_owned(),
    };
    for (granularity, bucket) in buckets.into_iter().enumerate() {
        let bucket = floor(bucket);
        for (column, of_record) in SUMS {
            let differing = format!(
                "FROM (SELECT series_id, {bucket} AS bucket, SUM({of_record}) AS total \
                 FROM records JOIN series ON series.id = series_id GROUP BY series_id, {bucket}) AS made \
                 LEFT JOIN rollups ON rollups.granularity = {granularity} AND rollups.bucket = made.bucket \
                 AND rollups.series_id = made.series_id WHERE rollups.{column} IS NULL OR rollups.{column} <> total"
            );
            assert_eq!(database.number("COUNT(*)", &differing).await, 0, "{granularity} {column}");
        }
        let rest = format!("FROM rollups WHERE granularity = {granularity}");
        assert_eq!(database.number("SUM(calls)", &rest).await, 1000);
        for (kind, calls) in [(0, timed), (1, answered)] {
            let rest = format!("FROM rollup_latency WHERE granularity = {granularity} AND kind = {kind}");
            assert_eq!(database.number("SUM(calls)", &rest).await, calls);
        }
    }
}

/// A rule that no record from this path passes.
async fn poison(database: &TestDatabase) {
    database
        .run(match database.kind {
            aiproxy_config::snapshot::DatabaseKind::Sqlite => {
                "CREATE TRIGGER poison BEFORE INSERT ON records WHEN NEW.path = '/poison' \
                 BEGIN SELECT RAISE(ABORT, 'poison'); END"
            }
            _ => "ALTER TABLE records ADD CONSTRAINT poison CHECK (path <> '/poison')",
        })
        .await;
}

async fn a_poisoned_record_is_rejected_with_all_of_its_batch(database: TestDatabase) {
    let mut sink = sink(&database).await;
    poison(&database).await;
    let entries = [plain(1), Entry { path: "/poison", ..plain(2) }, plain(3)];
    let outcome = sink.write(&batch(&entries)).await;
    assert!(matches!(outcome, Err(SinkError::Rejected(_))), "{outcome:?}");
    assert_eq!(database.count("records").await + database.count("rollups").await + database.count("cursors").await, 0);
    // The others are written without connecting again.
    sink.write(&batch(&[plain(1), plain(3)])).await.unwrap();
    assert_eq!(database.count("records").await, 2);
    assert_eq!(database.number("SUM(calls)", "FROM rollups WHERE granularity = 2").await, 2);
}

async fn what_no_database_likes_is_made_harmless(database: TestDatabase) {
    let long = "长".repeat(5000);
    let usage = Usage { input: Some(u64::MAX), seconds_ms: Some(u64::MAX), ..Usage::default() };
    let huge = Entry {
        duration_us: u64::MAX,
        first_byte_us: Some(u64::MAX),
        request_bytes: u64::MAX,
        response_bytes: u64::MAX,
        usage: Some(usage),
        cost: Some(i64::MAX),
        ..plain(1)
    };
    let odd = Entry {
        path: &long,
        user_id: Some("a\0b"),
        department: Some("'; DROP TABLE records; --"),
        model_asked: Some(&long),
        model_served: Some(&long),
        error_code: Some("🎈"),
        client_ip: "",
        ..plain(2)
    };
    let empty = Entry { id: [0; 16], ..Entry::default() };
    let last = Entry { id: [0xff; 16], started_unix_ms: u64::MAX, status: u16::MAX, cost: Some(i64::MIN), ..plain(3) };
    let mut sink = sink(&database).await;
    sink.write(&batch(&[huge.clone(), odd, empty, last])).await.unwrap();
    let more: Vec<Entry<'_>> = (10..30).map(|number| Entry { id: plain(number).id, ..huge.clone() }).collect();
    sink.write(&batch(&more)).await.unwrap();
    assert_eq!(database.count("records").await, 24);
    assert_eq!(database.number("MAX(duration_us)", "FROM records").await, 1 << 46);
    assert_eq!(database.number("MAX(duration_us)", "FROM rollups").await, 21 << 46);
    assert_eq!(database.texts("SELECT user_id FROM series WHERE error_code = '🎈'").await, ["ab"]);
}

async fn bodies_are_kept_as_json(database: TestDatabase) {
    let text = |content: &'static str| Body { content_type: "text/plain", form: "text", content, ..Body::default() };
    let bodies = |id, request| Bodies { id, started_unix_ms: 5, request: Some(request), response: None };
    let mut batch = Batch::default();
    batch.push_bodies(&bodies([1; 16], text("hello\0 \"world\"")));
    batch.push_record(&plain(1));
    batch.push_bodies(&bodies([2; 16], text("")));
    let mut sink = sink(&database).await;
    sink.write(&batch).await.unwrap();
    sink.write(&batch).await.unwrap();
    let json = r#"{"content_type":"text/plain","form":"text","bytes":0,"content":"hello\u0000 \"world\""}"#;
    let empty = r#"{"content_type":"text/plain","form":"text","bytes":0,"content":""}"#;
    assert_eq!(database.texts("SELECT request FROM bodies ORDER BY id").await, [json, empty]);
    assert_eq!(database.number("COUNT(*)", "FROM bodies WHERE response IS NULL").await, 2);
}

async fn two_instances_write_to_the_same_sums(database: TestDatabase) {
    let write = async |instance: &'static str, seed: u64| {
        let mut sink = unconnected(&database, instance);
        for part in 0..5 {
            let batch = batch(&random(seed + part, 100));
            // Where the two meet, one may be told to try again.
            let mut tries = 0;
            while sink.resume().await.is_err() || sink.write(&batch).await.is_err() {
                tries += 1;
                assert!(tries < 20, "{instance} does not get on");
            }
        }
    };
    tokio::join!(write("one", 100), write("two", 200));
    assert_eq!(database.count("records").await, 1000);
    assert_eq!(database.number("SUM(calls)", "FROM rollups WHERE granularity = 0").await, 1000);
    assert_eq!(database.count("cursors").await, 2);
    assert_eq!(database.number("COUNT(*) - COUNT(DISTINCT digest)", "FROM series").await, 0);
}

async fn a_record_reads_well_at_a_prompt(database: TestDatabase) {
    sink(&database).await.write(&batch(&[plain(7)])).await.unwrap();
    let line = database.texts("SELECT id FROM record_lines WHERE started_at = '2026-03-01T00:00:00.007Z'").await;
    assert_eq!(line, ["019ca6b1-dc07-7000-8000-000000000007"]);
    let rest = "FROM record_lines WHERE user_id = 'zhang' AND duration_ms > 812 AND duration_ms < 813 AND input = 11";
    assert_eq!(database.number("COUNT(*)", rest).await, 1);
}

#[tokio::test]
async fn a_transaction_that_postgres_ended_is_written_exactly_once() {
    let database = TestDatabase::postgres().await;
    let mut sink = sink(&database).await;
    // The server ends the connection in the middle of the batch, after the records and before the cursor.
    database
        .run(
            // A sequence remembers, although the transaction is taken back.
            "CREATE SEQUENCE kills; \
             CREATE FUNCTION kill_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF nextval('kills') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; \
                 RETURN NEW; END $$; \
             CREATE TRIGGER kill_once BEFORE INSERT ON cursors FOR EACH ROW EXECUTE FUNCTION kill_once()",
        )
        .await;
    let batch = batch(&random(5, 100));
    let outcome = sink.write(&batch).await;
    assert!(matches!(outcome, Err(SinkError::Unavailable(_))), "{outcome:?}");
    assert_eq!(database.count("records").await, 0);
    assert_eq!(sink.resume().await, Ok(None));
    sink.write(&batch).await.unwrap();
    assert_eq!(database.count("records").await, 100);
    assert_eq!(database.number("SUM(calls)", "FROM rollups WHERE granularity = 0").await, 100);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_left_at_once() {
    let database = TestDatabase::sqlite().await;
    let mut sink = sink(&database).await;
    sink.write(&batch(&[plain(1)])).await.unwrap();
    std::fs::rename(&database.name, format!("{}.old", database.name)).unwrap();
    let outcome = sink.write(&batch(&[plain(2)])).await;
    assert!(matches!(&outcome, Err(SinkError::Unavailable(why)) if why.contains("replaced")), "{outcome:?}");
    assert_eq!(sink.resume().await, Ok(None));
    sink.write(&batch(&[plain(2)])).await.unwrap();
    assert_eq!(database.count("records").await, 1);
}

#[tokio::test]
async fn a_body_that_mariadb_would_hang_up_on_is_rejected() {
    let database = TestDatabase::mariadb().await;
    let mut sink = sink(&database).await;
    // Its max_allowed_packet is 16 MiB.
    let content = "a".repeat(17 << 20);
    let body = Body { content: &content, ..Body::default() };
    let mut large = Batch::default();
    large.push_bodies(&Bodies { id: [1; 16], request: Some(body), ..Bodies::default() });
    let outcome = sink.write(&large).await;
    assert!(matches!(&outcome, Err(SinkError::Rejected(why)) if why.contains("max_allowed_packet")), "{outcome:?}");
    let fitting = Body { content: &content[..12 << 20], ..Body::default() };
    let mut fits = Batch::default();
    fits.push_bodies(&Bodies { id: [1; 16], request: Some(fitting), ..Bodies::default() });
    sink.write(&fits).await.unwrap();
    assert_eq!(database.count("bodies").await, 1);
}
