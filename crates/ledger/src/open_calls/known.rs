//! Which of some calls the journal has: asked before what was left of them is recorded, for a process may die after the
//! record was appended and before the file was removed.
//!
//! Only the ends of the segments are read. The record in question is among the last that its process wrote, or that a
//! recovery wrote right before it was cut off.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use super::waiting::Id;
use crate::frame::{self, Kind, Next};
use crate::journal::Journal;

/// How much of the end of each segment is read: some 30,000 records.
const TAIL: u64 = 16 << 20;
/// A segment to which nothing was appended since so long before the file was written has no record of its call. The
/// clock may have been set back meanwhile, if not by more.
const SLACK: Duration = Duration::from_secs(600);

/// Those of `wanted` whose record stands in the journal, in a segment that was appended to since about `since`.
pub(super) fn in_journal(journal: &Journal, wanted: &HashSet<Id>, since: SystemTime) -> io::Result<HashSet<Id>> {
    let mut found = HashSet::new();
    // A time that cannot be is none: everything is read.
    let since = since.checked_sub(SLACK).unwrap_or(SystemTime::UNIX_EPOCH);
    for number in journal.segments() {
        // What is in memory this process appended, and knows.
        let file = match File::open(journal.path(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let metadata = file.metadata()?;
        if metadata.modified()? >= since {
            look_through(&tail(&file, metadata.len())?, wanted, &mut found);
        }
    }
    Ok(found)
}

fn tail(file: &File, length: u64) -> io::Result<Vec<u8>> {
    let start = length.saturating_sub(TAIL);
    let mut bytes = vec![0; (length - start) as usize];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], start + read as u64) {
            Ok(0) => break,
            Ok(length) => read += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

/// Looks for records in `bytes`, which may begin and end in the middle of one.
fn look_through(bytes: &[u8], wanted: &HashSet<Id>, found: &mut HashSet<Id>) {
    let mut rest = bytes;
    loop {
        let passed = match frame::next(rest) {
            Next::Frame { kind, payload, length } => {
                // An entry begins with its id, and fixed bytes are written as they are.
                if kind == Kind::Record
                    && let Some(id) = payload.first_chunk()
                    && wanted.contains(id)
                {
                    found.insert(*id);
                }
                length
            }
            Next::Unfinished | Next::Damaged => match frame::resynchronise(rest) {
                Some(passed) => passed,
                None => return,
            },
        };
        rest = &rest[passed..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Entry;
    use crate::journal::Options;
    use crate::sinks::testing::{Directory, bodies, entry, id};

    #[test]
    fn an_entry_begins_with_its_id() {
        let mut bytes = Vec::new();
        let id = std::array::from_fn(|index| 0xf8 + index as u8 % 8);
        Entry { id, ..entry(1) }.encode(&mut bytes);
        assert_eq!(bytes.first_chunk(), Some(&id));
    }

    #[test]
    fn records_are_found_in_every_segment_and_bodies_are_none() {
        let directory = Directory::new("known");
        let journal = Journal::open(Options {
            directory: directory.path("journal"),
            shards: 1,
            segment_bytes: 200,
            memory_bytes: 1 << 20,
            fsync: None,
        });
        for number in 0..20 {
            assert!(journal.append_record(&entry(number)));
        }
        assert!(journal.append_bodies(&bodies(30)));
        assert!(journal.segments().len() > 3);
        let wanted: HashSet<Id> = [id(0), id(13), id(19), id(20), id(30)].into();
        let found = in_journal(&journal, &wanted, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(found, [id(0), id(13), id(19)].into());
        let later = std::fs::metadata(journal.path(1)).unwrap().modified().unwrap() + 3 * SLACK;
        assert_eq!(in_journal(&journal, &wanted, later).unwrap(), [].into(), "nothing was appended since");
    }

    #[test]
    fn what_is_found_does_not_depend_on_where_the_end_begins_or_is_torn() {
        let mut bytes = Vec::new();
        for number in 0..4 {
            frame::append(&mut bytes, Kind::Record, |bytes| entry(number).encode(bytes));
        }
        let frame_length = bytes.len() / 4;
        let wanted: HashSet<Id> = (0..4).map(id).collect();
        for start in 0..=bytes.len() {
            let mut found = HashSet::new();
            look_through(&bytes[start..], &wanted, &mut found);
            assert_eq!(found, (start.div_ceil(frame_length) as u32..4).map(id).collect(), "from {start} on");
            found.clear();
            look_through(&bytes[..start], &wanted, &mut found);
            assert_eq!(found, (0..(start / frame_length) as u32).map(id).collect(), "up to {start}");
        }
    }

    #[test]
    fn damaged_bytes_are_passed_over() {
        let mut bytes = Vec::new();
        for number in 0..3 {
            frame::append(&mut bytes, Kind::Record, |bytes| entry(number).encode(bytes));
        }
        let wanted: HashSet<Id> = (0..3).map(id).collect();
        let third = bytes.len() / 3;
        for at in third..2 * third {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            let mut found = HashSet::new();
            look_through(&changed, &wanted, &mut found);
            assert_eq!(found, [id(0), id(2)].into(), "changed at {at}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let mut found = HashSet::new();
            look_through(&bytes, &[[0; 16]].into(), &mut found);
            proptest::prop_assert!(found.is_empty() || bytes.len() > frame::HEAD);
        }
    }
}
