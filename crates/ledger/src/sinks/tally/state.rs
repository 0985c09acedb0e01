//! The file with what was counted: `tally.state`, written beside and renamed, so that a process that is killed leaves
//! the old one or the new one.
//!
//! ```text
//! marker   8 bytes
//! version  u32 LE   of what follows the head
//! check    u32 LE   CRC-32 (IEEE 802.3) of what follows the head
//! length   u64 LE   of what follows the head
//! position, book, totals: postcard
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::cursor_file::sync_directory_of;
use crate::live::Totals;
use crate::position::Position;
use crate::tally::TallyBook;

const MARKER: [u8; 8] = *b"AITALLY\n";
/// Changes with every change of what the file holds; see [`read_state`] for how older ones are read.
const VERSION: u32 = 1;
const HEAD: usize = 24;
/// A longer file is not ours: a full book has some hundred megabytes.
const LONGEST: u64 = 1 << 30;

/// What a file begins with, which tells one from the next. `None` if there is no file.
pub(super) type Stamp = Option<[u8; HEAD]>;

/// What the file holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct State {
    pub(super) position: Position,
    pub(super) book: TallyBook,
    pub(super) totals: Totals,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// `None` if there is no file, or if it cannot be used.
    pub(super) state: Option<State>,
    pub(super) stamp: Stamp,
    /// Why it cannot be used.
    pub(super) flaw: Option<String>,
}

/// Held by the process that writes the file.
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

/// The file in a directory.
pub(super) struct StateFile {
    path: PathBuf,
    temporary: PathBuf,
    lock: PathBuf,
}

impl StateFile {
    pub(super) fn new(directory: &Path) -> Self {
        let path = |name| directory.join(name);
        Self { path: path("tally.state"), temporary: path("tally.state.tmp"), lock: path("tally.lock") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The right to write the file; `None` while another process has it.
    pub(super) fn lock(&self) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What the file holds.
    pub(super) fn read(&self) -> Found {
        let bytes = match self.bytes() {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Found::default(),
            Err(error) => return Found { flaw: Some(error.to_string()), ..Found::default() },
        };
        let stamp = bytes.first_chunk().copied();
        match read_state(&bytes) {
            Ok(state) => Found { state: Some(state), stamp, flaw: None },
            Err(flaw) => Found { state: None, stamp, flaw: Some(flaw) },
        }
    }

    fn bytes(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// What the file begins with now.
    pub(super) fn stamp(&self) -> Stamp {
        let mut head = [0; HEAD];
        File::open(&self.path).ok()?.read_exact(&mut head).ok()?;
        Some(head)
    }

    /// Replaces the file. `durably` also outlives a loss of power; otherwise a loss of power may damage it.
    pub(super) fn write(
        &self,
        position: &Position,
        book: &TallyBook,
        totals: &Totals,
        durably: bool,
    ) -> io::Result<()> {
        let mut bytes = vec![0; HEAD];
        postcard::to_io(&(position, book, totals), &mut bytes).map_err(io::Error::other)?;
        let (head, content) = bytes.split_at_mut(HEAD);
        head[..8].copy_from_slice(&MARKER);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        head[12..16].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
        head[16..].copy_from_slice(&(content.len() as u64).to_le_bytes());
        let mut file = File::create(&self.temporary)?;
        file.write_all(&bytes)?;
        if durably {
            file.sync_all()?;
        }
        fs::rename(&self.temporary, &self.path)?;
        if durably {
            sync_directory_of(&self.path)?;
        }
        Ok(())
    }

    /// Keeps a file that cannot be used where a person, or a later version, can look at it.
    pub(super) fn set_aside(&self) {
        let aside = self.path.with_extension("state.unusable");
        if let Err(error) = fs::rename(&self.path, aside) {
            tracing::error!(path = %self.path.display(), %error, "the file cannot be set aside");
        }
    }
}

/// Reads what a file holds, or says why not.
fn read_state(bytes: &[u8]) -> Result<State, String> {
    let Some((head, content)) = bytes.split_at_checked(HEAD).filter(|(head, _)| head.starts_with(&MARKER)) else {
        return Err("it is no such file, or its beginning is damaged".into());
    };
    let number = |at: usize| head[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let (version, check) = (number(8), number(12));
    let length = u64::from(number(16)) | u64::from(number(20)) << 32;
    if version != VERSION {
        return Err(format!("a later version of the gateway wrote it: {version}, this one knows {VERSION}"));
    }
    if length != content.len() as u64 || check != crc32fast::hash(content) {
        return Err("it is damaged".into());
    }
    let (position, book, totals) = postcard::from_bytes(content).map_err(|error| format!("it is damaged: {error}"))?;
    Ok(State { position, book, totals })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::testing::Directory;

    fn written(file: &StateFile) -> State {
        let state = State {
            position: Position { floor: 2, offsets: [(2, 7)].into() },
            totals: Totals { since_unix_ms: 5, ..Totals::default() },
            ..State::default()
        };
        file.write(&state.position, &state.book, &state.totals, true).unwrap();
        state
    }

    #[test]
    fn what_was_written_is_read_and_its_stamp_tells_it_from_the_next() {
        let directory = Directory::new("tally");
        let file = StateFile::new(directory.root());
        let nothing = file.read();
        assert!(nothing.state.is_none() && nothing.stamp.is_none() && nothing.flaw.is_none());
        let state = written(&file);
        let found = file.read();
        assert_eq!((found.state, found.stamp), (Some(state), file.stamp()));
        file.write(&Position::default(), &TallyBook::default(), &Totals::default(), false).unwrap();
        assert_ne!(file.stamp(), found.stamp);
        assert_eq!(directory.names(""), ["tally.state"]);
    }

    #[test]
    fn one_that_is_cut_changed_or_of_a_later_version_is_said_to_be_so() {
        let directory = Directory::new("tally");
        let file = StateFile::new(directory.root());
        written(&file);
        let whole = fs::read(directory.path("tally.state")).unwrap();
        for cut in 0..whole.len() {
            assert!(read_state(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read_state(&changed).is_err(), "changed at {at}");
        }
        let mut later = whole;
        later[8..12].copy_from_slice(&7_u32.to_le_bytes());
        assert!(read_state(&later).unwrap_err().contains("later version of the gateway wrote it: 7"));
    }

    #[test]
    fn only_one_has_the_lock_at_a_time() {
        let directory = Directory::new("tally");
        let file = StateFile::new(directory.root());
        let lock = file.lock().unwrap();
        assert!(lock.is_some() && file.lock().unwrap().is_none());
        drop(lock);
        assert!(file.lock().unwrap().is_some());
        assert!(StateFile::new(&directory.path("missing")).lock().is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_state_or_a_flaw(content: Vec<u8>, has_head: bool) {
            let mut bytes = Vec::new();
            if has_head {
                bytes.extend_from_slice(&MARKER);
                bytes.extend_from_slice(&VERSION.to_le_bytes());
                bytes.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
                bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
            }
            bytes.extend_from_slice(&content);
            drop(read_state(&bytes));
        }
    }
}
