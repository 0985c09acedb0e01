use std::collections::BTreeMap;
use std::fs::File;

use aiproxy_llm::usage::Usage;
use parquet::basic::{Compression, LogicalType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use proptest::prelude::*;

use super::*;
use crate::entry::{Entry, EntryAttempt};
use crate::sinks::testing::{Directory, Frames, entry};

/// 2026-11-21 in UTC, shortly before midnight.
const EVENING: u64 = 1_795_305_599_000;
const CURSOR: &str = "cursors/parquet.json";

fn options(directory: &Directory) -> ParquetOptions {
    ParquetOptions {
        directory: directory.path("parquet"),
        max_bytes: 1 << 20,
        interval: Duration::from_secs(600),
        destination: Destination::Directory,
        cursor_directory: directory.path("cursors"),
    }
}

fn on_day(number: u32) -> Entry<'static> {
    Entry { started_unix_ms: EVENING + u64::from(number % 3) * DAY_MS, ..entry(number) }
}

fn reader(directory: &Directory, name: &str) -> SerializedFileReader<File> {
    SerializedFileReader::new(File::open(directory.path("parquet").join(name)).unwrap()).unwrap()
}

fn rows(directory: &Directory, name: &str) -> Vec<BTreeMap<String, Field>> {
    let reader = reader(directory, name);
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| row.unwrap().into_columns().into_iter().collect()).collect()
}

/// Names of the finished files.
fn finished(directory: &Directory) -> Vec<String> {
    directory.names("parquet").into_iter().filter(|name| !name.starts_with('.')).collect()
}

fn expect_each_once(directory: &Directory, frames: &Frames) {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for name in finished(directory) {
        for row in rows(directory, &name) {
            let Field::Str(id) = &row["id"] else { panic!("{row:?}") };
            *times.entry(id.clone()).or_default() += 1;
        }
    }
    assert_eq!(times.len(), frames.len());
    let wrong: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(directory.names("parquet"), finished(directory));
}

async fn write_all(sink: &mut ParquetSink, frames: &Frames, at_once: usize) {
    let mut position = sink.resume().await.unwrap();
    loop {
        let batch = frames.after(position.as_ref(), at_once);
        if batch.is_empty() {
            return sink.finish().await.unwrap();
        }
        sink.write(&batch).await.unwrap();
        position = Some(batch.position);
    }
}

#[tokio::test]
async fn a_record_reads_back_with_its_types() {
    let directory = Directory::new("parquet");
    let usage =
        Usage { input: Some(10), cached: Some(0), output: Some(u64::MAX), seconds_ms: Some(1_500), ..Usage::default() };
    let record = move |number: u32| match number {
        0 => Entry {
            started_unix_ms: EVENING,
            duration_us: 12_034,
            first_byte_us: Some(7_000),
            user_id: Some("张三"),
            groups: vec!["one", "two"],
            attempts: vec![EntryAttempt {
                channel_id: "a",
                credential_id: "b",
                cost: Some(2),
                ..EntryAttempt::default()
            }],
            status: 200,
            usage: Some(usage),
            cost: Some(-5),
            price_version: Some("2026-11-01"),
            counted: true,
            ..entry(0)
        },
        number => Entry { started_unix_ms: EVENING, department: Some(""), ..entry(number) },
    };
    write_all(&mut ParquetSink::new(options(&directory)), &Frames::new(2, true, record), 9).await;
    assert_eq!(finished(&directory), ["logs_2026-11-21_000001.parquet"]);
    let rows = rows(&directory, "logs_2026-11-21_000001.parquet");
    let text = |text: &str| Field::Str(text.to_string());
    let expected = [
        ("id", text(&entry(0).id_text())),
        ("started_at", Field::TimestampMillis(EVENING as i64)),
        ("duration_ms", Field::Double(12.034)),
        ("first_byte_ms", Field::Double(7.0)),
        ("user_id", text("张三")),
        ("groups", text(r#"["one","two"]"#)),
        ("attempts", text(r#"[{"channel_id":"a","credential_id":"b","status":null,"ms":0,"cost":2}]"#)),
        ("status", Field::Long(200)),
        ("usage_input", Field::Long(10)),
        ("usage_cached", Field::Long(0)),
        ("usage_output", Field::Long(i64::MAX)),
        ("usage_reasoning", Field::Null),
        ("usage_seconds", Field::Double(1.5)),
        ("cost", Field::Long(-5)),
        ("price_version", text("2026-11-01")),
        ("counted", Field::Bool(true)),
    ];
    for (name, value) in expected {
        assert_eq!(rows[0][name], value, "{name}");
    }
    let nothing = ["first_byte_ms", "user_id", "department", "usage_input", "usage_seconds", "cost", "price_version"];
    for name in nothing {
        assert_eq!(rows[1][name], Field::Null, "{name}");
    }
    assert_eq!((&rows[1]["groups"], &rows[1]["counted"]), (&text("[]"), &Field::Bool(false)));
}

#[tokio::test]
async fn the_columns_are_those_of_the_json_record() {
    let directory = Directory::new("parquet");
    let mut line = Vec::new();
    let usage = Usage { seconds_ms: Some(1), ..Usage::default() };
    Entry { groups: vec!["a"], usage_flaw: Some("b"), usage: Some(usage), ..entry(0) }.write_json(&mut line);
    let record: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&line).unwrap();
    let mut expected: Vec<String> = Vec::new();
    for name in record.keys() {
        if name == "usage" {
            expected.extend(usage.fields().map(|(name, _)| format!("usage_{name}")));
            expected.push("usage_seconds".to_string());
        } else {
            expected.push(name.clone());
        }
    }
    // Later columns went to the end of the record, too; only this one found its place in the middle.
    let counted = expected.iter().position(|name| name == "counted").unwrap();
    assert_eq!(counted, expected.len() - 1);
    write_all(&mut ParquetSink::new(options(&directory)), &Frames::new(1, false, on_day), 1).await;
    let reader = reader(&directory, &finished(&directory)[0]);
    let columns = reader.metadata().file_metadata().schema_descr().columns().to_vec();
    assert_eq!(columns.iter().map(|column| column.name().to_string()).collect::<Vec<_>>(), expected);
    let started = columns.iter().find(|column| column.name() == "started_at").unwrap();
    assert!(matches!(started.logical_type_ref(), Some(LogicalType::Timestamp { .. })));
    let first = reader.metadata().row_group(0).column(0);
    assert!(matches!(first.compression(), Compression::ZSTD(_)));
    assert!(first.statistics().is_some_and(|statistics| statistics.min_bytes_opt().is_some()));
}

#[tokio::test]
async fn each_day_has_a_file_of_its_own() {
    let directory = Directory::new("parquet");
    let frames = Frames::new(10, false, on_day);
    let mut sink = ParquetSink::new(options(&directory));
    write_all(&mut sink, &frames, 4).await;
    let days = ["21", "22", "23"].map(|day| format!("logs_2026-11-{day}_000001.parquet"));
    assert_eq!(finished(&directory), days);
    expect_each_once(&directory, &frames);
    assert_eq!(sink.committed(), Some(&frames.after(None, 10).position));
}

#[tokio::test]
async fn files_appear_when_they_are_large_enough_and_not_before() {
    let directory = Directory::new("parquet");
    let frames = Frames::new(500, false, on_day);
    let mut sink = ParquetSink::new(ParquetOptions { max_bytes: 9_000, ..options(&directory) });
    let mut position = sink.resume().await.unwrap();
    let (mut seen, mut behind) = (BTreeMap::new(), 0);
    for _ in 0..25 {
        let batch = frames.after(position.as_ref(), 20);
        sink.write(&batch).await.unwrap();
        position = Some(batch.position);
        // Whatever is there now is whole, and what was there before is unchanged.
        let row_count = |name: &String| reader(&directory, name).metadata().file_metadata().num_rows();
        let now: BTreeMap<_, _> =
            finished(&directory).into_iter().map(|name| (name.clone(), row_count(&name))).collect();
        assert!(seen.iter().all(|(name, rows)| now.get(name) == Some(rows)));
        seen = now;
        behind += usize::from(sink.committed() != position.as_ref());
    }
    assert!(seen.len() >= 6 && behind >= 6, "{behind} {seen:?}");
    sink.finish().await.unwrap();
    assert_eq!(sink.committed(), position.as_ref());
    expect_each_once(&directory, &frames);
}

#[tokio::test]
async fn records_do_not_wait_longer_than_the_interval() {
    let directory = Directory::new("parquet");
    let frames = Frames::new(4, false, on_day);
    let mut sink = ParquetSink::new(options(&directory));
    assert_eq!(sink.resume().await, Ok(None));
    sink.idle().await.unwrap();
    sink.write(&frames.after(None, 1)).await.unwrap();
    sink.idle().await.unwrap();
    assert_eq!((finished(&directory), sink.committed()), (Vec::new(), Some(&Position::default())));
    sink.options.interval = Duration::ZERO;
    sink.idle().await.unwrap();
    assert_eq!(finished(&directory), ["logs_2026-11-21_000001.parquet"]);
    sink.write(&frames.after(sink.committed(), 1)).await.unwrap();
    assert_eq!(finished(&directory)[1], "logs_2026-11-22_000002.parquet");
    // Nothing new, no new file.
    sink.idle().await.unwrap();
    sink.finish().await.unwrap();
    assert_eq!(finished(&directory).len(), 2);
}

#[tokio::test]
async fn clocks_that_are_wrong_do_not_open_a_file_for_each_day() {
    let directory = Directory::new("parquet");
    let frames = Frames::new(60, false, |number| {
        let started = if number == 59 { u64::MAX } else { u64::from(number * 7 % 31) * DAY_MS };
        Entry { started_unix_ms: started, ..entry(number) }
    });
    write_all(&mut ParquetSink::new(options(&directory)), &frames, 60).await;
    expect_each_once(&directory, &frames);
    assert!(finished(&directory).last().unwrap().starts_with("logs_9999-12-31_"));
}

#[tokio::test]
async fn many_rows_become_several_row_groups() {
    let directory = Directory::new("parquet");
    let frames = Frames::new(300, false, |number| Entry { started_unix_ms: EVENING, ..entry(number) });
    let mut sink = ParquetSink::new(options(&directory));
    assert_eq!(sink.resume().await, Ok(None));
    sink.options.max_bytes = 20_000;
    sink.write(&frames.after(None, 300)).await.unwrap();
    sink.finish().await.unwrap();
    assert!(reader(&directory, &finished(&directory)[0]).num_row_groups() > 1);
    expect_each_once(&directory, &frames);
}

#[tokio::test]
async fn numbers_go_on_behind_files_that_nobody_remembers() {
    let directory = Directory::new("parquet");
    fs::create_dir(directory.path("parquet")).unwrap();
    fs::write(directory.path("parquet/logs_2026-11-20_000041.parquet"), "old").unwrap();
    fs::write(directory.path("parquet/.logs_2026-11-20_000042.parquet.tmp"), "torn").unwrap();
    fs::write(directory.path("parquet/.something-else.tmp"), "foreign").unwrap();
    write_all(&mut ParquetSink::new(options(&directory)), &Frames::new(1, false, on_day), 1).await;
    assert_eq!(
        directory.names("parquet"),
        [".something-else.tmp", "logs_2026-11-20_000041.parquet", "logs_2026-11-21_000042.parquet"]
    );
    assert_eq!(directory.read("parquet/logs_2026-11-20_000041.parquet"), "old");
}

#[tokio::test]
async fn a_file_that_was_taken_away_does_not_come_back() {
    let directory = Directory::new("parquet");
    let frames = Frames::new(2, false, on_day);
    let mut sink = ParquetSink::new(options(&directory));
    write_all(&mut sink, &frames, 2).await;
    fs::remove_file(directory.path("parquet/logs_2026-11-21_000001.parquet")).unwrap();
    write_all(&mut ParquetSink::new(options(&directory)), &frames, 2).await;
    assert_eq!(finished(&directory), ["logs_2026-11-22_000001.parquet"]);
}

#[tokio::test]
async fn after_a_failure_it_asks_for_what_it_had_gathered() {
    let directory = Directory::new("parquet");
    let frames = Frames::new(9, false, on_day);
    let mut sink = ParquetSink::new(options(&directory));
    assert_eq!(sink.resume().await, Ok(None));
    let first = frames.after(None, 3);
    sink.write(&first).await.unwrap();
    sink.finish().await.unwrap();
    let second = frames.after(Some(&first.position), 3);
    sink.write(&second).await.unwrap();
    fs::create_dir(directory.path("cursors/parquet.json.tmp")).unwrap();
    sink.options.interval = Duration::ZERO;
    assert!(matches!(sink.idle().await, Err(SinkError::Unavailable(_))));
    let third = frames.after(Some(&second.position), 3);
    assert!(
        matches!(sink.write(&third).await, Err(SinkError::Unavailable(why)) if why.ends_with("it was not resumed"))
    );
    assert_eq!(sink.resume().await, Ok(Some(first.position)));
    assert_eq!(finished(&directory), directory.names("parquet"));
    fs::remove_dir(directory.path("cursors/parquet.json.tmp")).unwrap();
    write_all(&mut sink, &frames, 4).await;
    expect_each_once(&directory, &frames);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_waited_for() {
    let directory = Directory::new("parquet");
    fs::write(directory.path("parquet"), "no directory").unwrap();
    let mut sink = ParquetSink::new(options(&directory));
    assert!(matches!(sink.resume().await, Err(SinkError::Unavailable(_))));
    fs::remove_file(directory.path("parquet")).unwrap();
    let frames = Frames::new(5, false, on_day);
    write_all(&mut sink, &frames, 2).await;
    expect_each_once(&directory, &frames);
}

/// What happens after a batch.
#[derive(Clone, Debug)]
enum Event {
    GoOn,
    Finish,
    /// The process ends without a word.
    Restart,
    /// It ends after the footers and before the cursor; the last bytes of the files may be missing.
    KillBeforeCursor {
        cut: u64,
    },
    /// It ends after the cursor, when only some files were renamed.
    KillBetweenRenames {
        renamed: usize,
    },
    /// A write to the disk fails.
    Fail,
}

fn events() -> impl Strategy<Value = Vec<(usize, Event)>> {
    let event = prop_oneof![
        Just(Event::GoOn),
        Just(Event::Finish),
        Just(Event::Restart),
        (0u64..5_000).prop_map(|cut| Event::KillBeforeCursor { cut }),
        (0usize..4).prop_map(|renamed| Event::KillBetweenRenames { renamed }),
        Just(Event::Fail),
    ];
    prop::collection::vec((1usize..40, event), 1..10)
}

async fn run(events: Vec<(usize, Event)>, max_bytes: u64) {
    let directory = Directory::new("parquet");
    let frames = Frames::new(120, false, on_day);
    let options = ParquetOptions { max_bytes, ..options(&directory) };
    let mut sink = ParquetSink::new(options.clone());
    let mut position = sink.resume().await.unwrap();
    for (count, event) in events {
        let batch = frames.after(position.as_ref(), count);
        sink.write(&batch).await.unwrap();
        position = Some(batch.position);
        let (cursor, files) = (fs::read(directory.path(CURSOR)).unwrap(), finished(&directory));
        let unfinish = |renamed: usize| {
            let new = finished(&directory).into_iter().filter(|name| !files.contains(name));
            let hidden: Vec<_> = new.skip(renamed).collect();
            let path = |name: &str| directory.path("parquet").join(name);
            hidden.iter().for_each(|name| fs::rename(path(name), path(&day_file::temporary(name))).unwrap());
            hidden.iter().map(|name| path(&day_file::temporary(name))).collect::<Vec<_>>()
        };
        match event {
            Event::GoOn => continue,
            Event::Finish => {
                sink.finish().await.unwrap();
                continue;
            }
            Event::Restart => {}
            Event::KillBeforeCursor { cut } => {
                sink.finish().await.unwrap();
                fs::write(directory.path(CURSOR), cursor).unwrap();
                for path in unfinish(0) {
                    let file = File::options().write(true).open(path).unwrap();
                    file.set_len(file.metadata().unwrap().len().saturating_sub(cut)).unwrap();
                }
            }
            Event::KillBetweenRenames { renamed } => {
                sink.finish().await.unwrap();
                unfinish(renamed);
            }
            Event::Fail => {
                fs::create_dir(directory.path("cursors/parquet.json.tmp")).unwrap();
                // Nothing fails where nothing was gathered.
                let failed = sink.finish().await.is_err();
                fs::remove_dir(directory.path("cursors/parquet.json.tmp")).unwrap();
                if failed {
                    position = sink.resume().await.unwrap();
                }
                continue;
            }
        }
        sink = ParquetSink::new(options.clone());
        position = sink.resume().await.unwrap();
    }
    write_all(&mut sink, &frames, 50).await;
    expect_each_once(&directory, &frames);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_ends_the_process_each_record_is_in_one_file(events in events(), max_bytes in 5_000u64..60_000) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(events, max_bytes));
    }
}
