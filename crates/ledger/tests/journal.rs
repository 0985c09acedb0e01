//! The journal and its readers: what was appended is read once, whatever happened to the process or the disk.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aiproxy_ledger::journal::{Journal, Options};
use aiproxy_ledger::reader::Reader;
use aiproxy_ledger::sink::Appetite;
use aiproxy_ledger::{Batch, Entry, Position};

/// A directory that is gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("aiproxy-journal-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700)).ok();
        fs::remove_dir_all(&self.0).ok();
    }
}

fn options(directory: &Path) -> Options {
    Options {
        directory: directory.join("journal"),
        shards: 2,
        segment_bytes: 64 << 20,
        memory_bytes: 1 << 20,
        fsync: None,
    }
}

fn append(journal: &Journal, id: u64) {
    assert!(journal.append_record(&entry(id)));
}

fn entry(id: u64) -> Entry<'static> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    Entry { id: bytes, user_id: Some("user"), ..Entry::default() }
}

fn id(entry: &Entry<'_>) -> u64 {
    u64::from_be_bytes(*entry.id.first_chunk().unwrap())
}

/// Everything that can be read from `position` on, and where that ends.
fn read(journal: &Arc<Journal>, position: &Position) -> (Vec<u64>, Position) {
    read_with(journal, position, &Appetite::default())
}

fn read_with(journal: &Arc<Journal>, position: &Position, appetite: &Appetite) -> (Vec<u64>, Position) {
    let mut reader = Reader::new(journal.clone(), position.clone());
    let mut ids = Vec::new();
    loop {
        let mut batch = Batch::at(reader.position().clone());
        let caught_up = reader.fill(&mut batch, appetite).unwrap();
        ids.extend(batch.entries().map(|entry| id(&entry)));
        assert_eq!(batch.position, *reader.position());
        if caught_up && batch.is_empty() {
            return (ids, reader.position().clone());
        }
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|name| name == "journal")).collect();
    paths.sort();
    paths
}

#[test]
fn what_is_appended_is_read_once_and_in_order() {
    let scratch = Scratch::new();
    let journal = Journal::open(options(&scratch.0));
    (0..100).for_each(|id| append(&journal, id));
    let (ids, position) = read(&journal, &Position::default());
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    assert!(read(&journal, &position).0.is_empty());
    append(&journal, 100);
    assert_eq!(read(&journal, &position).0, [100]);
}

#[test]
fn a_killed_process_leaves_everything_but_a_torn_end() {
    let scratch = Scratch::new();
    let first = Journal::open(options(&scratch.0));
    (0..10).for_each(|id| append(&first, id));
    let (_, position) = read(&first, &Position::default());
    (10..20).for_each(|id| append(&first, id));
    // The process is gone: its locks are too, and the last frame is cut.
    drop(first);
    let path = segments(&scratch.0).pop().unwrap();
    let length = fs::metadata(&path).unwrap().len();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 3).unwrap();

    let second = Journal::open(options(&scratch.0));
    append(&second, 99);
    let (ids, end) = read(&second, &position);
    assert_eq!(ids, (10..19).chain([99]).collect::<Vec<_>>());
    assert_eq!(end.floor, 2, "the torn segment is done with");
}

#[test]
fn the_end_of_a_segment_that_still_grows_is_waited_for() {
    let scratch = Scratch::new();
    let journal = Journal::open(options(&scratch.0));
    append(&journal, 1);
    let path = segments(&scratch.0).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let (ids, position) = read(&journal, &Position::default());
    assert_eq!(ids, [1]);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&whole[..7]).unwrap();
    assert!(read(&journal, &position).0.is_empty());
    file.write_all(&whole[7..]).unwrap();
    assert_eq!(read(&journal, &position).0, [1]);
}

#[test]
fn damaged_bytes_cost_only_what_they_hit() {
    let scratch = Scratch::new();
    let journal = Journal::open(options(&scratch.0));
    let mut ends = Vec::new();
    for id in 0..10 {
        append(&journal, id);
        ends.push(fs::metadata(segments(&scratch.0).pop().unwrap()).unwrap().len());
    }
    drop(journal);
    let path = segments(&scratch.0).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    for at in ends[2]..ends[2] + 20 {
        bytes[at as usize] = 0;
    }
    fs::write(&path, &bytes).unwrap();
    let journal = Journal::open(options(&scratch.0));
    assert_eq!(read(&journal, &Position::default()).0, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    bytes.extend([0; 4096]);
    fs::write(&path, &bytes).unwrap();
    let (ids, end) = read(&journal, &Position::default());
    assert_eq!((ids.len(), end.floor), (9, 2), "zeros at the end, as a power failure leaves them");
}

#[test]
fn full_segments_are_followed_and_deleted_once_passed() {
    let scratch = Scratch::new();
    let journal = Journal::open(Options { segment_bytes: 200, ..options(&scratch.0) });
    (0..50).for_each(|id| append(&journal, id));
    assert!(segments(&scratch.0).len() > 5);
    let small = Appetite { frames: 3, ..Appetite::default() };
    let (ids, position) = read_with(&journal, &Position::default(), &small);
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
    journal.delete_below(position.floor);
    assert_eq!(segments(&scratch.0).len(), 1);
    drop(journal);
    fs::remove_file(segments(&scratch.0).pop().unwrap()).unwrap();

    let journal = Journal::open(options(&scratch.0));
    append(&journal, 50);
    assert_eq!(read(&journal, &position).0, [50], "a number never comes back");
}

#[test]
fn two_processes_append_side_by_side() {
    let scratch = Scratch::new();
    let (one, two) = (Journal::open(options(&scratch.0)), Journal::open(options(&scratch.0)));
    append(&one, 1);
    append(&two, 2);
    let (ids, position) = read(&two, &Position::default());
    assert_eq!(ids, [1, 2]);
    assert_eq!(position.floor, 1, "the other one may append more");
    append(&one, 3);
    assert_eq!(read(&two, &position).0, [3]);
    drop(one);
    assert_eq!(read(&two, &position).1.floor, 2);
    assert!(two.is_own(2) && !two.is_own(1));
}

#[test]
fn threads_do_not_mix_their_frames() {
    let scratch = Scratch::new();
    let journal = Journal::open(options(&scratch.0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let journal = &journal;
            scope.spawn(move || (0..1000).for_each(|id| append(journal, thread * 1000 + id)));
        }
    });
    let (mut ids, _) = read(&journal, &Position::default());
    ids.sort_unstable();
    assert_eq!(ids, (0..4000).collect::<Vec<_>>());
}

#[test]
fn without_a_directory_records_wait_in_memory_and_come_to_disk_later() {
    let scratch = Scratch::new();
    let in_the_way = scratch.0.join("journal");
    fs::write(&in_the_way, "a file").unwrap();
    let journal = Journal::open(options(&scratch.0));
    (0..10).for_each(|id| append(&journal, id));
    assert!(journal.state().trouble.is_some());
    let (ids, position) = read(&journal, &Position::default());
    assert_eq!(ids, (0..10).collect::<Vec<_>>(), "sinks have them all the same");

    fs::remove_file(&in_the_way).unwrap();
    fs::create_dir(&in_the_way).unwrap();
    journal.tend(None);
    journal.tend(None);
    let state = journal.state();
    assert_eq!((state.trouble, state.memory_bytes), (None, 0));
    append(&journal, 10);
    assert_eq!(read(&journal, &position).0, [10]);
    drop(journal);
    let again = Journal::open(options(&scratch.0));
    assert_eq!(read(&again, &Position::default()).0, (0..11).collect::<Vec<_>>());
}

#[test]
fn when_the_memory_is_full_too_records_are_lost_and_counted() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("journal"), "a file").unwrap();
    let journal = Journal::open(Options { memory_bytes: 1000, ..options(&scratch.0) });
    let taken = (0..100).filter(|id| journal.append_record(&entry(*id))).count() as u64;
    assert!((5..50).contains(&taken), "{taken} fit");
    let state = journal.state();
    assert!(state.is_full && state.memory_bytes <= 1000);
    assert_eq!(state.lost, 100 - taken);
    assert_eq!(read(&journal, &Position::default()).0, (0..taken).collect::<Vec<_>>());
}

/// Seeded: appends, kills, reads and deletions in any order; each sink sees each entry once.
#[test]
fn whatever_happens_each_entry_is_read_once() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let scratch = Scratch::new();
        let options = Options { segment_bytes: random.u64(50..2000), ..options(&scratch.0) };
        let mut journal = Journal::open(options.clone());
        let mut sinks: BTreeMap<u8, (Position, Vec<u64>)> = (0..3).map(|name| (name, Default::default())).collect();
        let mut next = 0;
        for _ in 0..200 {
            match random.u8(..10) {
                0..5 => {
                    append(&journal, next);
                    next += 1;
                }
                5..8 => {
                    let (position, ids) = sinks.get_mut(&random.u8(..3)).unwrap();
                    let appetite = Appetite { frames: random.usize(1..20), ..Appetite::default() };
                    let mut reader = Reader::new(journal.clone(), position.clone());
                    let mut batch = Batch::at(position.clone());
                    reader.fill(&mut batch, &appetite).unwrap();
                    ids.extend(batch.entries().map(|entry| id(&entry)));
                    *position = batch.position;
                }
                8 => journal.tend(sinks.values().map(|(position, _)| position.floor).min()),
                _ => {
                    drop(journal);
                    journal = Journal::open(options.clone());
                }
            }
        }
        for (position, mut ids) in sinks.into_values() {
            ids.extend(read(&journal, &position).0);
            ids.sort_unstable();
            assert_eq!(ids, (0..next).collect::<Vec<_>>(), "seed {seed}");
        }
    }
}
