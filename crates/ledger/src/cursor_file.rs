//! Where a sink without a database remembers how far it has come: `cursors/<sink>.json`, written beside and renamed, so
//! that a process that is killed leaves the old cursor or the new one.
//!
//! A damaged one (a loss of power, a person) is reported, kept as `<sink>.json.damaged`, and counts as none. The sink
//! is then given everything that the journal still holds: nothing is lost, and what comes twice carries its id. A file
//! that cannot be read is something else: it may hold a good cursor, so the sink waits until it can.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::position::Position;

/// A larger file is no cursor.
const LONGEST: u64 = 16 << 20;

/// How far a sink has come, and what else it must know to go on from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor<S> {
    /// How far it has come; `None` before it took anything.
    pub position: Option<Position>,
    /// What the sink keeps with it.
    pub state: S,
}

/// The file that holds a sink's cursor.
#[derive(Clone, Debug)]
pub struct CursorFile {
    path: PathBuf,
    temporary: PathBuf,
}

impl CursorFile {
    /// The file of the sink `name` in `directory`. Nothing is read or written yet.
    #[must_use]
    pub fn new(directory: &Path, name: &str) -> Self {
        Self { path: directory.join(format!("{name}.json")), temporary: directory.join(format!("{name}.json.tmp")) }
    }

    /// What was written last; `None` if nothing was, or if it is damaged.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read<S: DeserializeOwned>(&self) -> io::Result<Option<Cursor<S>>> {
        let mut text = Vec::new();
        match File::open(&self.path) {
            Ok(file) => file.take(LONGEST).read_to_end(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice(&text) {
            Ok(cursor) => Ok(Some(cursor)),
            Err(error) => {
                let path = self.path.display();
                tracing::error!(%path, %error, "a sink's cursor is damaged; it is given again what the journal holds");
                fs::rename(&self.path, with_suffix(&self.path, ".damaged"))?;
                Ok(None)
            }
        }
    }

    /// Replaces what was written before. Survives the end of the process, not always a loss of power.
    ///
    /// # Errors
    /// The disk does not take it; then the old cursor is still there.
    pub fn write<S: Serialize>(&self, cursor: &Cursor<S>) -> io::Result<()> {
        self.replace(cursor, false)
    }

    /// The same, and survives a loss of power.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_durably<S: Serialize>(&self, cursor: &Cursor<S>) -> io::Result<()> {
        self.replace(cursor, true)
    }

    fn replace<S: Serialize>(&self, cursor: &Cursor<S>, durably: bool) -> io::Result<()> {
        let text = serde_json::to_vec(cursor)?;
        let mut file = match File::create(&self.temporary) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.temporary.parent().map_or(Ok(()), fs::create_dir_all)?;
                File::create(&self.temporary)?
            }
            file => file?,
        };
        file.write_all(&text)?;
        if durably {
            file.sync_all()?;
        }
        fs::rename(&self.temporary, &self.path)?;
        if durably {
            sync_directory_of(&self.path)?;
        }
        Ok(())
    }
}

/// `path` with `suffix` after its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}

/// Makes renames in the directory of `path` survive a loss of power.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::testing::Directory;

    fn cursor(state: &str) -> Cursor<String> {
        Cursor { position: Some(Position { floor: 2, offsets: [(2, 7), (3, 1)].into() }), state: state.to_string() }
    }

    #[test]
    fn what_was_written_last_is_read() {
        let directory = Directory::new("cursor");
        let file = CursorFile::new(&directory.path("cursors"), "console");
        assert_eq!(file.read::<String>().unwrap(), None);
        file.write(&cursor("one")).unwrap();
        file.write_durably(&cursor("two")).unwrap();
        assert_eq!(file.read().unwrap(), Some(cursor("two")));
        assert_eq!(
            directory.read("cursors/console.json"),
            r#"{"position":{"floor":2,"offsets":{"2":7,"3":1}},"state":"two"}"#
        );
        assert_eq!(directory.names("cursors"), ["console.json"]);
    }

    #[test]
    fn a_damaged_one_is_kept_aside_and_counts_as_none() {
        let directory = Directory::new("cursor");
        let file = CursorFile::new(directory.root(), "console");
        file.write(&cursor("whole")).unwrap();
        let whole = directory.read("console.json");
        for cut in 0..whole.len() {
            fs::write(directory.path("console.json"), &whole[..cut]).unwrap();
            assert_eq!(file.read::<String>().unwrap(), None);
            assert_eq!(directory.names(""), ["console.json.damaged"]);
        }
        file.write(&cursor("again")).unwrap();
        assert_eq!(file.read().unwrap(), Some(cursor("again")));
    }

    #[test]
    fn one_that_cannot_be_read_or_written_is_an_error() {
        let directory = Directory::new("cursor");
        let file = CursorFile::new(directory.root(), "console");
        fs::create_dir(directory.path("console.json")).unwrap();
        assert!(file.read::<String>().is_err());
        assert!(file.write(&cursor("new")).is_err());
    }
}
