//! Directories of open calls: the one of this process, and the right to take over that of another.
//!
//! ```text
//! open-calls/lock                 held for a moment, while a directory is made or taken over
//! open-calls/<instance>/lock      held by its process as long as that lives
//! open-calls/<instance>/<id>.call one frame, as in the journal: the record as the call stands
//! open-calls/<id>.call.broken     set aside, for a person to look at
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::waiting::Id;
use crate::cursor_file::sync_directory_of;
use crate::frame::{self, Kind, Next};

const EXTENSION: &str = "call";
/// A file that is being written. There is one writer for each directory.
const TEMPORARY: &str = "writing";
const LOCK: &str = "lock";
/// A longer file is not ours: what a record holds of a caller's text is cut long before.
const LONGEST: u64 = 4 << 20;

/// The directory that all instances have theirs in.
#[derive(Clone, Debug)]
pub(super) struct Root(PathBuf);

/// A directory that this process has to itself. Dropping it lets others take over what is in it.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// The directory of another process.
pub(super) enum Foreign {
    /// That process lives.
    Alive,
    /// It is gone.
    Left(Folder),
}

/// Why a file is none that was written whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

impl Root {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The right to make a directory or to take one over; `None` while another process has it, never for long.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        try_lock(&self.0.join(LOCK))
    }

    /// Makes the directory of this process; `None` while another process looks at what there is.
    pub(super) fn make_own(&self) -> io::Result<Option<Folder>> {
        fs::create_dir_all(&self.0)?;
        let Some(_alone) = self.lock()? else { return Ok(None) };
        let path = self.0.join(uuid::Uuid::now_v7().to_string());
        fs::create_dir(&path)?;
        let Some(lock) = try_lock(&path.join(LOCK))? else { return Ok(None) };
        Ok(Some(Folder { path, _lock: lock }))
    }

    /// Names of the directories of all instances but `own`, in the order they were made. Nothing is there before the
    /// first instance.
    pub(super) fn foreign(&self, own: Option<&Folder>) -> io::Result<Vec<PathBuf>> {
        let listing = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing?,
        };
        let mut found = Vec::new();
        for entry in listing {
            let entry = entry?;
            let is_instance = entry.file_name().to_str().is_some_and(|name| name.parse::<uuid::Uuid>().is_ok());
            if is_instance && own.is_none_or(|own| own.path != entry.path()) && entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Takes over the directory `path`, if its process is gone. To be called with [`Self::lock`] held.
    pub(super) fn take_over(&self, path: PathBuf) -> io::Result<Foreign> {
        Ok(match try_lock(&path.join(LOCK))? {
            Some(lock) => Foreign::Left(Folder { path, _lock: lock }),
            None => Foreign::Alive,
        })
    }

    /// Keeps a file of `folder` that cannot be read as a record where nothing looks at it again.
    pub(super) fn set_aside(&self, folder: &Folder, name: &str) -> io::Result<PathBuf> {
        let aside = self.0.join(format!("{name}.broken"));
        fs::rename(folder.path.join(name), &aside)?;
        Ok(aside)
    }
}

impl Folder {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file of a call with one that holds `payload`. Outlives the process; `durably` also a loss of power,
    /// once [`Self::sync`] is through.
    pub(super) fn write(&self, id: &Id, payload: &[u8], durably: bool) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(frame::HEAD + 1 + payload.len());
        frame::append(&mut bytes, Kind::Record, |bytes| bytes.extend_from_slice(payload));
        let temporary = self.path.join(TEMPORARY);
        let replace = || {
            let mut file = File::create(&temporary)?;
            file.write_all(&bytes)?;
            if durably {
                file.sync_data()?;
            }
            drop(file);
            fs::rename(&temporary, self.path.join(name_of(id)))
        };
        replace().inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    /// Makes the names of the files outlive a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync_directory_of(&self.path.join(LOCK))
    }

    /// Removes the file of a call; one that is not there is removed.
    pub(super) fn remove(&self, id: &Id) -> io::Result<()> {
        gone(fs::remove_file(self.path.join(name_of(id))))
    }

    /// Names of the files of calls.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // Names that are no text are none of ours.
            let name = entry?.file_name().into_string().ok();
            names.extend(name.filter(|name| Path::new(name).extension().is_some_and(|found| found == EXTENSION)));
        }
        names.sort();
        Ok(names)
    }

    /// What the file `name` begins with, as much as a file of ours may hold and one byte more.
    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path.join(name))?.take(LONGEST + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// When the file `name` was written.
    pub(super) fn modified(&self, name: &str) -> io::Result<SystemTime> {
        fs::metadata(self.path.join(name))?.modified()
    }

    /// Removes the directory, if no call is left in it.
    pub(super) fn finish(self) -> io::Result<()> {
        gone(fs::remove_file(self.path.join(TEMPORARY)))?;
        if !self.names()?.is_empty() {
            return Ok(());
        }
        gone(fs::remove_file(self.path.join(LOCK)))?;
        gone(fs::remove_dir(&self.path))
    }
}

/// The record that a file holds, as the journal has it.
pub(super) fn payload_of(bytes: &[u8]) -> Result<&[u8], Broken> {
    match frame::next(bytes) {
        Next::Frame { kind: Kind::Record, payload, length } if length == bytes.len() => Ok(payload),
        Next::Frame { kind: Kind::Record, .. } => Err(Broken("something follows the record")),
        Next::Frame { .. } => Err(Broken("it is no record; a later version of the gateway may have written it")),
        Next::Unfinished => Err(Broken("it is torn")),
        Next::Damaged => Err(Broken("it is damaged")),
    }
}

/// The name of the file of a call.
pub(super) fn name_of(id: &Id) -> String {
    format!("{}.{EXTENSION}", uuid::Uuid::from_bytes(*id).hyphenated())
}

/// Whose file `name` is.
pub(super) fn id_in(name: &str) -> Option<Id> {
    let id = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse::<uuid::Uuid>().ok()?.into_bytes();
    // Another way of writing the same id would be a second file of it.
    (name_of(&id) == name).then_some(id)
}

fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::testing::{Directory, id};

    #[test]
    fn what_was_written_last_is_read_and_nothing_else_stays() {
        let directory = Directory::new("open-calls");
        let root = Root::new(directory.path("open-calls"));
        let folder = root.make_own().unwrap().unwrap();
        for payload in [&b"one"[..], b"a longer one", b"two"] {
            folder.write(&id(7), payload, false).unwrap();
        }
        folder.write(&id(8), b"", true).unwrap();
        folder.sync().unwrap();
        assert_eq!(folder.names().unwrap(), [name_of(&id(7)), name_of(&id(8))]);
        assert_eq!(payload_of(&folder.read(&name_of(&id(7))).unwrap()), Ok(&b"two"[..]));
        folder.remove(&id(7)).unwrap();
        folder.remove(&id(7)).unwrap();
        assert_eq!(folder.names().unwrap(), [name_of(&id(8))]);
        assert!(!folder.path().join(TEMPORARY).exists());
        folder.remove(&id(8)).unwrap();
        folder.finish().unwrap();
        assert_eq!(directory.names("open-calls"), [LOCK]);
    }

    #[test]
    fn a_directory_with_calls_in_it_stays() {
        let directory = Directory::new("open-calls");
        let root = Root::new(directory.path("open-calls"));
        let folder = root.make_own().unwrap().unwrap();
        folder.write(&id(7), b"one", false).unwrap();
        let path = folder.path().to_path_buf();
        folder.finish().unwrap();
        assert_eq!(root.foreign(None).unwrap(), [path]);
    }

    #[test]
    fn one_that_cannot_be_written_leaves_the_older_one() {
        let directory = Directory::new("open-calls");
        let root = Root::new(directory.path("open-calls"));
        let folder = root.make_own().unwrap().unwrap();
        folder.write(&id(7), b"one", false).unwrap();
        fs::create_dir(folder.path().join(TEMPORARY)).unwrap();
        assert!(folder.write(&id(7), b"two", false).is_err());
        assert_eq!(payload_of(&folder.read(&name_of(&id(7))).unwrap()), Ok(&b"one"[..]));
    }

    #[test]
    fn only_a_directory_whose_process_is_gone_is_taken_over() {
        let directory = Directory::new("open-calls");
        let root = Root::new(directory.path("open-calls"));
        assert_eq!(root.foreign(None).unwrap(), Vec::<PathBuf>::new());
        let folder = root.make_own().unwrap().unwrap();
        fs::create_dir(root.path().join("something else")).unwrap();
        fs::write(root.path().join(uuid::Uuid::nil().to_string()), "a file").unwrap();
        assert_eq!(root.foreign(Some(&folder)).unwrap(), Vec::<PathBuf>::new());
        let path = folder.path().to_path_buf();
        assert_eq!(root.foreign(None).unwrap(), std::slice::from_ref(&path));
        assert!(matches!(root.take_over(path.clone()).unwrap(), Foreign::Alive));
        drop(folder);
        let taken = root.take_over(path.clone()).unwrap();
        assert!(matches!(&taken, Foreign::Left(folder) if folder.path() == path));
        assert!(matches!(root.take_over(path).unwrap(), Foreign::Alive), "only one takes it over");
    }

    #[test]
    fn none_is_made_while_another_process_looks() {
        let directory = Directory::new("open-calls");
        let root = Root::new(directory.path("open-calls"));
        let first = root.make_own().unwrap();
        let alone = root.lock().unwrap();
        assert!(first.is_some() && alone.is_some());
        assert!(root.make_own().unwrap().is_none() && root.lock().unwrap().is_none());
        drop(alone);
        assert!(root.make_own().unwrap().is_some());
    }

    #[test]
    fn a_file_that_is_cut_changed_or_longer_is_no_record() {
        let mut whole = Vec::new();
        frame::append(&mut whole, Kind::Record, |bytes| bytes.extend_from_slice(b"payload"));
        assert_eq!(payload_of(&whole), Ok(&b"payload"[..]));
        for cut in 0..whole.len() {
            assert_eq!(payload_of(&whole[..cut]), Err(Broken("it is torn")), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(payload_of(&changed).is_err(), "changed at {at}");
        }
        whole.push(0);
        assert_eq!(payload_of(&whole), Err(Broken("something follows the record")));
    }

    #[test]
    fn names_tell_ids_in_one_way_only() {
        assert_eq!(id_in(&name_of(&id(7))), Some(id(7)));
        let others = ["", ".call", "call", "x.call", "00000000000000000000000000000007.call"];
        assert_eq!(others.map(id_in), [None; 5]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_record_or_broken(bytes: Vec<u8>, name: String) {
            proptest::prop_assert!(payload_of(&bytes).is_err() || bytes.len() > frame::HEAD);
            proptest::prop_assert!(id_in(&name).is_none_or(|id| name_of(&id) == name));
        }
    }
}
