use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::sinks::testing::{Directory, Frames, entry, id};

const CURSOR: &str = "cursors/file.json";

fn options(directory: &Directory) -> FileOptions {
    FileOptions {
        path: directory.path("log/records.jsonl"),
        max_bytes: 8_000,
        keep: 50,
        compress: false,
        cursor_directory: directory.path("cursors"),
    }
}

/// Everything in all files, oldest first.
fn text(directory: &Directory) -> String {
    let mut names = directory.names("log");
    names.sort_by_key(|name| std::cmp::Reverse(name.split('.').nth(2).map_or(0, |number| number.parse().unwrap())));
    let mut text = String::new();
    for name in names {
        let file = File::open(directory.path("log").join(&name)).unwrap();
        if name.ends_with(".gz") {
            MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        } else {
            { file }.read_to_string(&mut text).unwrap();
        }
    }
    text
}

/// How often each line is there. Fails if one is not JSON.
fn counted(text: &str) -> BTreeMap<(bool, String), usize> {
    let mut counted = BTreeMap::new();
    for line in text.split_inclusive('\n') {
        assert!(line.ends_with('\n'), "torn: {line}");
        let value: Value = serde_json::from_str(line).unwrap();
        let key = (value.get("type").is_some(), value["id"].as_str().unwrap().to_string());
        *counted.entry(key).or_default() += 1;
    }
    counted
}

fn expect_each_once(directory: &Directory, frames: &Frames) {
    let counted = counted(&text(directory));
    assert_eq!(counted.len(), frames.len());
    let wrong: Vec<_> = counted.iter().filter(|(_, times)| **times != 1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

async fn write_all(sink: &mut FileSink, frames: &Frames, at_once: usize) {
    let mut position = sink.resume().await.unwrap();
    loop {
        let batch = frames.after(position.as_ref(), at_once);
        if batch.is_empty() {
            return;
        }
        sink.write(&batch).await.unwrap();
        position = Some(batch.position);
    }
}

#[tokio::test]
async fn lines_go_to_the_file_in_order_and_are_not_written_twice() {
    let directory = Directory::new("file");
    let frames = Frames::new(20, true, entry);
    write_all(&mut FileSink::new(options(&directory)), &frames, 7).await;
    write_all(&mut FileSink::new(options(&directory)), &frames, 7).await;
    expect_each_once(&directory, &frames);
    let mut expected = Vec::new();
    for item in frames.after(None, frames.len()).items() {
        match item {
            Item::Record(entry) => entry.write_json(&mut expected),
            Item::Bodies(bodies) => bodies.write_json(&mut expected),
        }
    }
    assert_eq!(text(&directory), String::from_utf8(expected).unwrap());
    assert!(directory.names("log").contains(&"records.jsonl.1".to_string()));
}

#[tokio::test]
async fn what_was_written_but_not_remembered_is_not_written_again() {
    for (count, at_once) in [(5, 5), (60, 60)] {
        let directory = Directory::new("file");
        let frames = Frames::new(count, true, entry);
        write_all(&mut FileSink::new(options(&directory)), &frames, at_once).await;
        fs::remove_file(directory.path(CURSOR)).unwrap();
        write_all(&mut FileSink::new(options(&directory)), &frames, 9).await;
        expect_each_once(&directory, &frames);
    }
}

#[tokio::test]
async fn a_second_kill_before_all_of_it_came_again_changes_nothing() {
    let directory = Directory::new("file");
    let frames = Frames::new(9, true, entry);
    write_all(&mut FileSink::new(options(&directory)), &frames, 20).await;
    fs::remove_file(directory.path(CURSOR)).unwrap();
    let mut sink = FileSink::new(options(&directory));
    sink.write(&frames.after(None, 1)).await.unwrap();
    write_all(&mut FileSink::new(options(&directory)), &frames, 20).await;
    expect_each_once(&directory, &frames);
}

#[tokio::test]
async fn lines_that_the_journal_no_longer_has_are_not_looked_up_for_ever() {
    let directory = Directory::new("file");
    write_all(&mut FileSink::new(options(&directory)), &Frames::new(3, false, entry), 3).await;
    fs::remove_file(directory.path(CURSOR)).unwrap();
    let mut sink = FileSink::new(options(&directory));
    assert_eq!(sink.resume().await, Ok(None));
    for _ in 0..UNMET_ENOUGH {
        sink.idle().await.unwrap();
    }
    assert_eq!(sink.known.len(), 3);
    let new = Frames::new(1, false, |_| entry(7));
    sink.write(&new.after(None, 1)).await.unwrap();
    assert!(sink.known.is_empty());
    let cursor: Cursor<Option<End>> = serde_json::from_str(&directory.read(CURSOR)).unwrap();
    let length = fs::metadata(directory.path("log/records.jsonl")).unwrap().len();
    assert_eq!(cursor.state.map(|end| end.length), Some(length));
}

#[tokio::test]
async fn a_file_that_begins_otherwise_is_another_one() {
    let directory = Directory::new("file");
    let frames = Frames::new(9, false, entry);
    let deleting = FileOptions { keep: 0, max_bytes: 3_000, ..options(&directory) };
    let mut sink = FileSink::new(deleting.clone());
    sink.write(&frames.after(None, 1)).await.unwrap();
    let (cursor, position) = (directory.read(CURSOR), sink.resume().await.unwrap());
    // The file of the cursor is deleted in this batch; the next one often gets the same inode.
    sink.write(&frames.after(position.as_ref(), 8)).await.unwrap();
    let before = directory.read("log/records.jsonl");
    fs::write(directory.path(CURSOR), cursor).unwrap();
    let mut sink = FileSink::new(deleting);
    assert_eq!(sink.resume().await.unwrap(), position);
    assert_eq!(sink.known.len(), before.lines().count());
}

#[tokio::test]
async fn a_torn_last_line_is_written_anew() {
    let mut line = Vec::new();
    entry(1).write_json(&mut line);
    let frames = Frames::new(3, false, entry);
    for torn in (1..line.len()).step_by(23).chain([line.len() - 2, line.len() - 1]) {
        let directory = Directory::new("file");
        let mut sink = FileSink::new(options(&directory));
        sink.write(&frames.after(None, 1)).await.unwrap();
        drop(sink);
        let current = directory.path("log/records.jsonl");
        OpenOptions::new().append(true).open(&current).unwrap().write_all(&line[..torn]).unwrap();
        write_all(&mut FileSink::new(options(&directory)), &frames, 5).await;
        expect_each_once(&directory, &frames);
    }
}

#[tokio::test]
async fn a_file_that_somebody_moves_away_is_made_anew() {
    let directory = Directory::new("file");
    let frames = Frames::new(4, false, entry);
    let mut sink = FileSink::new(options(&directory));
    sink.write(&frames.after(None, 2)).await.unwrap();
    let position = sink.resume().await.unwrap();
    fs::rename(directory.path("log"), directory.path("away")).unwrap();
    sink.write(&frames.after(position.as_ref(), 2)).await.unwrap();
    assert_eq!(directory.read("log/records.jsonl").lines().count(), 2);
    assert_eq!(directory.read("away/records.jsonl").lines().count(), 2);
}

#[tokio::test]
async fn a_file_that_somebody_empties_is_written_on_from_its_start() {
    let directory = Directory::new("file");
    let frames = Frames::new(6, false, entry);
    let mut sink = FileSink::new(options(&directory));
    sink.write(&frames.after(None, 4)).await.unwrap();
    let mut position = sink.resume().await.unwrap();
    fs::write(directory.path("log/records.jsonl"), "").unwrap();
    let batch = frames.after(position.as_ref(), 1);
    sink.write(&batch).await.unwrap();
    assert_eq!(directory.read("log/records.jsonl").lines().count(), 1);
    position = FileSink::new(options(&directory)).resume().await.unwrap();
    assert_eq!(position, Some(batch.position));
}

#[tokio::test]
async fn a_disk_that_takes_only_a_part_leaves_no_half_line() {
    // The only way to a full disk without being root: the last write goes to a file that is full by nature.
    let directory = Directory::new("file");
    let frames = Frames::new(2, false, entry);
    let full = FileOptions { path: "/dev/full".into(), ..options(&directory) };
    let mut sink = FileSink::new(full);
    let error = sink.write(&frames.after(None, 2)).await.unwrap_err();
    assert!(matches!(&error, SinkError::Unavailable(why) if why.starts_with("/dev/full: No space left")), "{error}");
    assert_eq!(sink.resume().await, Ok(None));
}

#[tokio::test]
async fn a_batch_that_failed_half_way_is_completed() {
    let directory = Directory::new("file");
    let frames = Frames::new(40, true, entry);
    let mut sink = FileSink::new(options(&directory));
    sink.write(&frames.after(None, 3)).await.unwrap();
    // The lines are written, and rotated, and then the cursor cannot be.
    fs::create_dir(directory.path("cursors/file.json.tmp")).unwrap();
    let rest = frames.after(sink.resume().await.unwrap().as_ref(), 99);
    for _ in 0..2 {
        assert!(matches!(sink.write(&rest).await, Err(SinkError::Unavailable(_))));
    }
    fs::remove_dir(directory.path("cursors/file.json.tmp")).unwrap();
    sink.write(&rest).await.unwrap();
    expect_each_once(&directory, &frames);
}

#[tokio::test]
async fn a_line_without_its_break_is_completed_if_it_is_whole() {
    let directory = Directory::new("file");
    let frames = Frames::new(2, false, entry);
    write_all(&mut FileSink::new(options(&directory)), &frames, 1).await;
    let text = directory.read("log/records.jsonl");
    fs::remove_file(directory.path(CURSOR)).unwrap();
    fs::write(directory.path("log/records.jsonl"), text.trim_end()).unwrap();
    write_all(&mut FileSink::new(options(&directory)), &frames, 1).await;
    assert_eq!(directory.read("log/records.jsonl"), text);
}

#[tokio::test]
async fn rotated_files_are_compressed_and_keep_their_rights() {
    let directory = Directory::new("file");
    let frames = Frames::new(60, true, entry);
    let compressing = FileOptions { compress: true, ..options(&directory) };
    let mut sink = FileSink::new(compressing.clone());
    sink.write(&frames.after(None, 5)).await.unwrap();
    fs::set_permissions(directory.path("log/records.jsonl"), fs::Permissions::from_mode(0o600)).unwrap();
    write_all(&mut sink, &frames, 30).await;
    for _ in 0..50 {
        sink.idle().await.unwrap();
    }
    expect_each_once(&directory, &frames);
    let names = directory.names("log");
    assert!(names.len() > 3 && names[1..].iter().all(|name| name.ends_with(".gz")), "{names:?}");
    let oldest = fs::metadata(directory.path("log").join(format!("records.jsonl.{}.gz", names.len() - 1))).unwrap();
    assert_eq!(oldest.permissions().mode() & 0o777, 0o600);
    // Without a cursor the compressed files are looked up, too.
    fs::remove_file(directory.path(CURSOR)).unwrap();
    write_all(&mut FileSink::new(compressing), &frames, 30).await;
    expect_each_once(&directory, &frames);
}

#[tokio::test]
async fn a_rotated_file_that_is_damaged_holds_up_nothing() {
    let directory = Directory::new("file");
    fs::create_dir(directory.path("log")).unwrap();
    fs::write(directory.path("log/records.jsonl.1.gz"), "no gzip").unwrap();
    let mut sink = FileSink::new(options(&directory));
    assert_eq!(sink.resume().await, Ok(None));
    sink.write(&Frames::new(1, false, entry).after(None, 1)).await.unwrap();
    assert!(directory.read("log/records.jsonl").contains(&entry(0).id_text()));
    assert_eq!(entry(0).id, id(0));
}

/// What happens after a batch.
#[derive(Clone, Debug)]
enum Event {
    GoOn,
    Idle(usize),
    Restart,
    /// Killed before the cursor was written, so many bytes of the current file earlier.
    Kill(u64),
    /// Killed in the middle of a rotation: all numbers from this one on have moved, the others have not. The current file
    /// counts as 0.
    KillInRotation(usize),
    /// The cursor is lost.
    LoseCursor,
}

fn events() -> impl Strategy<Value = Vec<(usize, Event)>> {
    let event = prop_oneof![
        Just(Event::GoOn),
        (0usize..9).prop_map(Event::Idle),
        Just(Event::Restart),
        (0u64..6_000).prop_map(Event::Kill),
        (0usize..4).prop_map(Event::KillInRotation),
        Just(Event::LoseCursor),
    ];
    prop::collection::vec((1usize..40, event), 1..12)
}

async fn run(events: Vec<(usize, Event)>, compress: bool) {
    let directory = Directory::new("file");
    let frames = Frames::new(150, true, entry);
    let options = FileOptions { compress, ..options(&directory) };
    let mut sink = FileSink::new(options.clone());
    let mut position = sink.resume().await.unwrap();
    let current = directory.path("log/records.jsonl");
    for (count, event) in events {
        let before = fs::read(directory.path(CURSOR)).ok();
        let end_before = sink.file.as_ref().and_then(|file| file.end().unwrap());
        let batch = frames.after(position.as_ref(), count);
        sink.write(&batch).await.unwrap();
        position = Some(batch.position);
        match event {
            Event::GoOn => continue,
            Event::Idle(times) => {
                for _ in 0..times {
                    sink.idle().await.unwrap();
                }
                continue;
            }
            Event::Restart => {}
            Event::Kill(bytes) => {
                match &before {
                    Some(cursor) => fs::write(directory.path(CURSOR), cursor).unwrap(),
                    None => fs::remove_file(directory.path(CURSOR)).unwrap(),
                }
                // What was written before this batch cannot be missing.
                let kept = end_before.filter(|end| is_in(&current, *end).unwrap_or(false)).map_or(0, |end| end.length);
                let file = OpenOptions::new().write(true).open(&current).unwrap();
                let length = file.metadata().unwrap().len();
                file.set_len(length.saturating_sub(bytes).max(kept)).unwrap();
            }
            Event::KillInRotation(from) => {
                for number in (from..40).rev() {
                    for form in ["", ".gz"] {
                        let rotated = |number: usize| PathBuf::from(format!("{}.{number}{form}", current.display()));
                        let name = if number == 0 { current.clone() } else { rotated(number) };
                        if name.exists() && (number > 0 || form.is_empty()) {
                            fs::rename(name, rotated(number + 1)).unwrap();
                        }
                    }
                }
            }
            Event::LoseCursor => fs::remove_file(directory.path(CURSOR)).unwrap(),
        }
        sink = FileSink::new(options.clone());
        position = sink.resume().await.unwrap();
    }
    write_all(&mut sink, &frames, 50).await;
    expect_each_once(&directory, &frames);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_ends_the_process_each_line_is_there_once(events in events(), compress: bool) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(events, compress));
    }
}
