//! How much the journal holds: for metrics, and to tell how far behind a sink is.

use std::collections::BTreeMap;
use std::fs;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Journal, segments_on_disk};
use crate::position::Position;

/// The segments there are at one moment, and how long each is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of each segment on disk, by its number.
    pub disk: BTreeMap<u64, u64>,
    /// Bytes of each segment that is only in memory.
    pub memory: BTreeMap<u64, u64>,
}

impl Extent {
    /// Bytes that follow `position`. What a sink passes over (bodies it does not want, a torn end) counts until it is
    /// passed.
    #[must_use]
    pub fn beyond(&self, position: &Position) -> u64 {
        let left = |(number, length): (&u64, &u64)| Some(length.saturating_sub(position.offset(*number)?));
        let on_disk = self.disk.iter().filter(|(number, _)| !self.memory.contains_key(number));
        on_disk.chain(&self.memory).filter_map(left).fold(0, u64::saturating_add)
    }
}

impl Journal {
    /// The segments there are. Lists a directory and asks for the length of each file in it: for now and then.
    #[must_use]
    pub fn extent(&self) -> Extent {
        // Memory first: a segment that moves to disk meanwhile is then seen in one of the two.
        let memory: Vec<_> = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.iter().map(|(number, segment)| (*number, segment.clone())).collect()
        };
        let memory = memory.into_iter().map(|(number, segment)| (number, segment.length())).collect();
        let numbers = segments_on_disk(&self.options.directory).unwrap_or_default();
        // One that is deleted meanwhile is done.
        let disk = numbers.into_iter().filter_map(|number| Some((number, fs::metadata(self.path(number)).ok()?.len())));
        Extent { disk: disk.collect(), memory }
    }

    /// Bytes that follow `position`: how far behind a sink is that has come so far.
    #[must_use]
    pub fn backlog(&self, position: &Position) -> u64 {
        self.extent().beyond(position)
    }

    /// Records appended by this process since it started.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;
    use crate::journal::Options;
    use crate::sinks::testing::Directory;

    fn options(directory: &Directory) -> Options {
        Options {
            directory: directory.path("journal"),
            shards: 1,
            segment_bytes: 100,
            memory_bytes: 1 << 20,
            fsync: None,
        }
    }

    #[test]
    fn the_backlog_is_what_lies_behind_a_position() {
        let directory = Directory::new("extent");
        let journal = Journal::open(options(&directory));
        assert_eq!((journal.backlog(&Position::default()), journal.extent()), (0, Extent::default()));
        for _ in 0..10 {
            assert!(journal.append_record(&Entry { path: "/v1/chat/completions", ..Entry::default() }));
        }
        let extent = journal.extent();
        assert!(extent.disk.len() > 2 && extent.memory.is_empty(), "{extent:?}");
        let all: u64 = extent.disk.values().sum();
        assert_eq!((journal.backlog(&Position::default()), journal.records()), (all, 10));
        let [(first, length), (second, _)] = [0, 1].map(|index| extent.disk.iter().nth(index).unwrap());
        let position = Position { floor: *second, offsets: [(*second, 40)].into() };
        assert_eq!(journal.backlog(&position), all - length - 40);
        let beyond_all =
            Position { floor: *first, offsets: extent.disk.keys().map(|number| (*number, 1 << 40)).collect() };
        assert_eq!(journal.backlog(&beyond_all), 0, "a position behind the end is no debt");
    }

    #[test]
    fn segments_in_memory_count_too() {
        let directory = Directory::new("extent");
        std::fs::write(directory.path("journal"), "a file where the directory should be").unwrap();
        let journal = Journal::open(options(&directory));
        assert!(journal.append_record(&Entry::default()));
        let extent = journal.extent();
        assert!(extent.disk.is_empty());
        assert_eq!(journal.backlog(&Position::default()), extent.memory.values().sum::<u64>());
        assert!(journal.backlog(&Position::default()) > 0);
    }
}
