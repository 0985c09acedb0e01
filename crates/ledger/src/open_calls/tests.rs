//! What a process that dies leaves, and what the next one makes of it.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;

use aiproxy_llm::usage::Usage;

use super::folder::{Folder, Root, name_of};
use super::recovery::Left;
use super::*;
use crate::batch::Batch;
use crate::journal::{Journal, Options};
use crate::position::Position;
use crate::reader::Reader;
use crate::sink::Appetite;
use crate::sinks::testing::{Directory, entry, id};

/// A data directory.
struct Data(Directory);

impl Data {
    fn new() -> Self {
        Self(Directory::new("open-calls"))
    }

    fn open_calls(&self) -> PathBuf {
        self.0.path("open-calls")
    }

    fn journal(&self) -> Arc<Journal> {
        Journal::open(Options {
            directory: self.0.path("journal"),
            shards: 1,
            segment_bytes: 1 << 20,
            memory_bytes: 1 << 20,
            fsync: None,
        })
    }

    /// A process that starts.
    fn recovery(&self) -> Recovery {
        Recovery::new(self.open_calls(), self.journal())
    }

    /// The directory of a process that lives until this is dropped, with calls that are open.
    fn process(&self, calls: impl IntoIterator<Item = u32>) -> Folder {
        let folder = Root::new(self.open_calls()).make_own().unwrap().unwrap();
        for number in calls {
            folder.write(&id(number), &payload(number), false).unwrap();
        }
        folder
    }

    fn keeper(&self, open_calls: &OpenCalls, recovery: Recovery) -> Keeper {
        Keeper::start(open_calls, recovery, false, Box::new(|_| {})).unwrap()
    }

    /// What the thread of a process does, to be driven by hand. Dropped as it is, the process was killed.
    fn keeping(&self, journal: Arc<Journal>) -> (OpenCalls, Keeping) {
        let open_calls = OpenCalls::default();
        let recovery = Recovery::new(self.open_calls(), journal);
        let keeping = Keeping::new(open_calls.0.clone(), recovery, false, Box::new(|_| {}));
        (open_calls, keeping)
    }

    fn folder(&self, keeping: &Keeping) -> PathBuf {
        keeping.folder.as_ref().unwrap().path().to_path_buf()
    }

    fn has_file(&self, keeping: &Keeping, number: u32) -> bool {
        self.folder(keeping).join(name_of(&id(number))).exists()
    }

    /// Last four bytes of the id, tokens and end of each record in the journal, in order.
    fn records(&self) -> Vec<(u32, u64, String)> {
        let journal = self.journal();
        let mut reader = Reader::new(journal, Position::default());
        let mut batch = Batch::default();
        let appetite = Appetite { frames: usize::MAX, bytes: usize::MAX, ..Appetite::default() };
        assert!(reader.fill(&mut batch, &appetite).unwrap());
        let mut records: Vec<_> = batch
            .entries()
            .map(|entry| {
                let number = u32::from_be_bytes(*entry.id.last_chunk().unwrap());
                (number, entry.usage.map_or(0, |usage| usage.total_tokens()), entry.end.to_string())
            })
            .collect();
        records.sort();
        records
    }

    /// Names of what is in the directory of open calls, with a star for each instance.
    fn names(&self) -> Vec<String> {
        let instance = |name: String| if name.parse::<uuid::Uuid>().is_ok() { "*".to_string() } else { name };
        self.0.names("open-calls").into_iter().map(instance).collect()
    }
}

fn used(number: u32, tokens: u64) -> Entry<'static> {
    let usage = Usage { input: Some(tokens), ..Usage::default() };
    Entry { usage: Some(usage), end: "client_closed", counted: true, protocol: "websocket", ..entry(number) }
}

fn payload(number: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    used(number, number.into()).encode(&mut payload);
    payload
}

fn recovered(numbers: impl IntoIterator<Item = u32>) -> Vec<(u32, u64, String)> {
    numbers.into_iter().map(|number| (number, number.into(), "shutdown".to_string())).collect()
}

fn soon() -> Instant {
    time::now() + Duration::from_secs(30)
}

#[test]
fn what_a_process_leaves_is_recorded_once_as_it_stood_last() {
    let data = Data::new();
    let open_calls = OpenCalls::default();
    let keeper = data.keeper(&open_calls, data.recovery());
    for tokens in [1, 5, 3] {
        open_calls.checkpoint(&used(1, tokens));
    }
    open_calls.checkpoint(&used(2, 2));
    open_calls.checkpoint(&used(4, 4));
    open_calls.forget(&id(2));
    keeper.stop(soon());
    assert_eq!((open_calls.trouble(), open_calls.left_out()), (None, 0));
    assert_eq!(data.names(), ["*", "lock"]);
    let mut next = data.recovery();
    assert_eq!(next.run(), 2);
    let expected = [(1, 3, "shutdown".to_string()), (4, 4, "shutdown".to_string())];
    assert_eq!(data.records(), expected);
    assert_eq!((data.names(), next.left()), (vec!["lock".to_string()], Left::Nothing));
    assert_eq!((next.run(), data.recovery().run()), (0, 0));
    assert_eq!(data.records(), expected);
}

#[test]
fn a_process_whose_calls_all_ended_leaves_nothing() {
    let data = Data::new();
    let open_calls = OpenCalls::default();
    let keeper = data.keeper(&open_calls, data.recovery());
    assert_eq!(data.names(), ["*", "lock"], "other processes see from its start that it lives");
    open_calls.checkpoint(&used(1, 1));
    open_calls.forget(&id(1));
    keeper.stop(soon());
    assert_eq!(data.names(), ["lock"]);
    assert_eq!((data.recovery().run(), data.records()), (0, Vec::new()));
}

#[test]
fn a_start_without_predecessors_touches_nothing() {
    let data = Data::new();
    assert_eq!(data.recovery().run(), 0);
    assert_eq!(data.names(), Vec::<String>::new());
}

#[test]
fn what_was_open_before_the_keeper_started_is_kept_too() {
    let data = Data::new();
    let open_calls = OpenCalls::default();
    open_calls.checkpoint(&used(1, 1));
    data.keeper(&open_calls, data.recovery()).stop(soon());
    assert_eq!((data.recovery().run(), data.records()), (1, recovered([1])));
}

#[test]
fn the_calls_of_a_process_that_lives_are_left_alone_until_it_is_gone() {
    let data = Data::new();
    let (alive, dead) = (data.process([1, 2]), data.process([3]));
    drop(dead);
    let mut next = data.recovery();
    assert_eq!((next.run(), next.left()), (1, Left::Alive));
    assert_eq!((next.run(), data.records()), (0, recovered([3])));
    alive.remove(&id(1)).unwrap();
    drop(alive);
    let mut told = Vec::new();
    assert_eq!(next.look(None, &mut |entry| told.push((entry.id, entry.end.to_string()))), 1);
    assert_eq!(told, [(id(2), "shutdown".to_string())], "the counters of this process hear of it");
    assert_eq!((next.left(), data.records()), (Left::Nothing, recovered([2, 3])));
}

#[test]
fn the_keeper_records_what_a_predecessor_leaves_later_and_then_looks_no_more() {
    let data = Data::new();
    let predecessor = data.process([7]);
    let mut recovery = data.recovery();
    recovery.run();
    let open_calls = OpenCalls::default();
    let (tell, told) = mpsc::sync_channel(4);
    let on_recovered = move |entry: &Entry<'_>| tell.send(entry.id).unwrap();
    let keeper = Keeper::start(&open_calls, recovery, true, Box::new(on_recovered)).unwrap();
    open_calls.checkpoint(&used(8, 8));
    drop(predecessor);
    assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(id(7)));
    keeper.stop(soon());
    assert_eq!(data.records(), recovered([7]));
    assert_eq!(data.names(), ["*", "lock"], "its own call stays for the next");
    assert_eq!((data.recovery().run(), data.records()), (1, recovered([7, 8])));
}

#[test]
fn two_that_recover_at_once_record_each_call_once() {
    let data = Data::new();
    drop(data.process(0..200));
    let records: u64 = std::thread::scope(|scope| {
        let racing = [0; 4].map(|_| scope.spawn(|| data.recovery().run()));
        racing.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((records, data.records()), (200, recovered(0..200)));
}

#[test]
fn a_call_whose_record_is_in_the_journal_is_not_recorded_again() {
    let data = Data::new();
    // Killed after the record was appended and before the file was removed.
    assert!(data.journal().append_record(&Entry { end: "complete", ..used(1, 9) }));
    drop(data.process([1, 2]));
    assert_eq!(data.recovery().run(), 1);
    assert_eq!(data.records(), [(1, 9, "complete".to_string()), (2, 2, "shutdown".to_string())]);
    assert_eq!(data.names(), ["lock"]);
}

#[test]
fn files_that_are_no_records_are_set_aside_and_the_others_are_recorded() {
    let data = Data::new();
    let process = data.process(1..=6);
    let path = |number| process.path().join(name_of(&id(number)));
    let whole = fs::read(path(1)).unwrap();
    fs::write(path(1), &whole[..whole.len() - 1]).unwrap();
    fs::write(path(2), "").unwrap();
    let mut garbled = whole.clone();
    garbled[20] ^= 1;
    fs::write(path(3), garbled).unwrap();
    fs::copy(path(6), path(4)).unwrap();
    let mut other = Vec::new();
    crate::frame::append(&mut other, crate::frame::Kind::Record, |bytes| bytes.extend_from_slice(b"not a record"));
    fs::write(path(5), other).unwrap();
    fs::write(process.path().join("x.call"), &whole).unwrap();
    // The end of a process in the middle of a write.
    fs::write(process.path().join("writing"), &whole[..9]).unwrap();
    drop(process);
    let mut next = data.recovery();
    assert_eq!((next.run(), next.left()), (1, Left::Nothing));
    assert_eq!(data.records(), recovered([6]));
    let mut names: Vec<_> = (1..=5).map(|number| format!("{}.broken", name_of(&id(number)))).collect();
    names.extend(["lock".to_string(), "x.call.broken".to_string()]);
    assert_eq!(data.names(), names);
    assert_eq!((next.run(), data.recovery().run()), (0, 0));
}

#[test]
fn a_file_stays_until_its_record_is_on_disk() {
    let data = Data::new();
    drop(data.process([1]));
    // The disk takes no segment, and the journal keeps the record in memory.
    fs::write(data.0.path("journal"), "a file where the directory should be").unwrap();
    let journal = data.journal();
    let mut next = Recovery::new(data.open_calls(), journal.clone());
    assert_eq!((next.run(), next.left()), (1, Left::Trouble));
    assert_eq!((next.run(), next.left()), (0, Left::Trouble), "it is appended once");
    assert_eq!(journal.records(), 1);
    assert_eq!(data.names(), ["*", "lock"]);
    fs::remove_file(data.0.path("journal")).unwrap();
    journal.tend(None);
    assert_eq!((next.run(), next.left()), (0, Left::Nothing));
    assert_eq!((data.names(), data.records()), (vec!["lock".to_string()], recovered([1])));
}

#[test]
fn so_does_the_file_of_a_call_whose_record_was_emitted() {
    let data = Data::new();
    fs::write(data.0.path("journal"), "a file where the directory should be").unwrap();
    let journal = data.journal();
    let (open_calls, mut keeping) = data.keeping(journal.clone());
    open_calls.checkpoint(&used(1, 1));
    assert!(keeping.round().is_some());
    assert!(journal.append_record(&used(1, 1)));
    open_calls.forget(&id(1));
    assert!(keeping.round().is_some(), "it is put off");
    assert!(data.has_file(&keeping, 1) && !open_calls.0.state().waiting.is_idle());
    fs::remove_file(data.0.path("journal")).unwrap();
    journal.tend(None);
    assert!(keeping.round().is_some());
    assert!(!data.has_file(&keeping, 1) && keeping.round().is_none());
}

#[test]
fn a_journal_that_takes_nothing_leaves_everything_for_later() {
    let data = Data::new();
    drop(data.process([1]));
    fs::write(data.0.path("journal"), "a file where the directory should be").unwrap();
    let directory = data.0.path("journal");
    let journal = Journal::open(Options { directory, shards: 1, segment_bytes: 1 << 20, memory_bytes: 0, fsync: None });
    let mut next = Recovery::new(data.open_calls(), journal);
    assert_eq!((next.run(), next.left()), (0, Left::Trouble));
    fs::remove_file(data.0.path("journal")).unwrap();
    assert_eq!((data.recovery().run(), data.records()), (1, recovered([1])));
}

#[test]
fn a_directory_with_something_else_in_it_stays_and_is_looked_at_once() {
    let data = Data::new();
    let process = data.process([1]);
    fs::write(process.path().join("something else"), "").unwrap();
    drop(process);
    let mut next = data.recovery();
    assert_eq!((next.run(), next.left()), (1, Left::Nothing));
    assert_eq!((next.run(), next.left()), (0, Left::Nothing));
    assert_eq!((data.recovery().run(), data.records()), (0, recovered([1])));
}

#[test]
fn a_disk_that_takes_nothing_is_told_of_and_written_once_it_works() {
    let data = Data::new();
    fs::write(data.open_calls(), "a file where the directory should be").unwrap();
    let mut recovery = data.recovery();
    assert_eq!((recovery.run(), recovery.left()), (0, Left::Trouble));
    let (open_calls, mut keeping) = data.keeping(data.journal());
    assert!(open_calls.trouble().is_some(), "it has no directory");
    open_calls.checkpoint(&used(1, 1));
    open_calls.checkpoint(&used(2, 2));
    assert!(keeping.round().is_some());
    assert!(open_calls.trouble().is_some());
    open_calls.forget(&id(1));
    fs::remove_file(data.open_calls()).unwrap();
    assert!(keeping.round().is_some());
    assert_eq!((open_calls.trouble(), keeping.round()), (None, None));
    drop(keeping);
    assert_eq!((recovery.run(), recovery.left(), data.records()), (1, Left::Nothing, recovered([2])));
}

#[test]
fn a_disk_that_takes_no_files_still_removes_them() {
    let data = Data::new();
    let (open_calls, mut keeping) = data.keeping(data.journal());
    open_calls.checkpoint(&used(1, 1));
    assert!(keeping.round().is_some());
    let folder = data.folder(&keeping);
    fs::create_dir(folder.join("writing")).unwrap();
    open_calls.checkpoint(&used(2, 2));
    open_calls.checkpoint(&used(3, 3));
    open_calls.forget(&id(1));
    assert!(keeping.round().is_some());
    assert!(open_calls.trouble().is_some() && !data.has_file(&keeping, 1));
    fs::remove_dir(folder.join("writing")).unwrap();
    assert!(keeping.round().is_some());
    assert_eq!((open_calls.trouble(), keeping.round()), (None, None));
    assert!(data.has_file(&keeping, 2) && data.has_file(&keeping, 3));
}

#[test]
fn a_directory_that_somebody_removes_is_made_again() {
    let data = Data::new();
    let (open_calls, mut keeping) = data.keeping(data.journal());
    fs::remove_dir_all(data.open_calls()).unwrap();
    open_calls.checkpoint(&used(1, 1));
    assert!(keeping.round().is_some());
    assert!(open_calls.trouble().is_some() && !open_calls.0.state().waiting.is_idle());
    assert!(keeping.round().is_some());
    assert_eq!((open_calls.trouble(), keeping.round()), (None, None));
    drop(keeping);
    assert_eq!((data.recovery().run(), data.records()), (1, recovered([1])));
}
