//! Recording what other processes left: their open calls, as they were last known.
//!
//! A call is recorded as any other is, by appending it to the journal; from there it reaches every sink and the tally.
//! Its file goes once the record is on disk. A process that dies between the two leaves the file of a recorded call, so
//! the end of the journal is looked through first (see `known.rs`).

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::folder::{Broken, Folder, Foreign, Root, id_in, name_of, payload_of};
use super::known;
use super::waiting::Id;
use crate::entry::Entry;
use crate::journal::Journal;

/// How such a call ended, as its record names it: whoever served it stopped.
const END: &str = "shutdown";

/// Looks for what other processes left.
pub struct Recovery {
    pub(super) root: Root,
    pub(super) journal: Arc<Journal>,
    /// Calls that the journal has, whose files could not be removed yet.
    settled: HashSet<Id>,
    /// Directories without a call that cannot be removed: left to a person, and to the next start.
    emptied: HashSet<PathBuf>,
    left: Left,
    is_told: bool,
}

/// What is left to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    /// Nothing.
    #[default]
    Nothing,
    /// What another process that lives has open, or what it is looking at.
    Alive,
    /// What the disk does not give, or the journal does not take.
    Trouble,
}

/// What the recovery of one directory needs to hear of each record.
type OnRecord<'call> = &'call mut dyn FnMut(&Entry<'_>);

impl Recovery {
    /// Open calls are kept in `directory`, those of each process in a directory of its own. Nothing is read yet.
    #[must_use]
    pub fn new(directory: PathBuf, journal: Arc<Journal>) -> Self {
        Self {
            root: Root::new(directory),
            journal,
            settled: HashSet::new(),
            emptied: HashSet::new(),
            left: Left::Nothing,
            is_told: false,
        }
    }

    /// Records what is left of the calls of every process that is gone; how many. To be called before the journal is
    /// counted: then what it appends is counted there. What cannot be recorded now, and what belongs to a process that
    /// lives, is looked at again by the [`super::Keeper`].
    pub fn run(&mut self) -> u64 {
        self.look(None, &mut |_| {})
    }

    /// The same, besides the directory `own`; each record is told to `on_record` after it was appended.
    pub(super) fn look(&mut self, own: Option<&Folder>, on_record: OnRecord<'_>) -> u64 {
        let mut records = 0;
        let looked = self.look_at_all(own, &mut |entry| {
            records += 1;
            on_record(entry);
        });
        match looked {
            Ok(left) => {
                self.left = left;
                if left != Left::Trouble && std::mem::take(&mut self.is_told) {
                    tracing::info!("what earlier processes left of open calls can be recorded again");
                }
            }
            Err(error) => {
                self.left = Left::Trouble;
                if !std::mem::replace(&mut self.is_told, true) {
                    let directory = self.root.path().display();
                    tracing::error!(%directory, %error, "open calls of an earlier process cannot be recorded yet");
                }
            }
        }
        if records > 0 {
            tracing::info!(records, "calls that a process left open when it ended are recorded as they stood");
        }
        records
    }

    /// What was left when it was looked last.
    pub(super) fn left(&self) -> Left {
        self.left
    }

    fn look_at_all(&mut self, own: Option<&Folder>, on_record: OnRecord<'_>) -> io::Result<Left> {
        let mut paths = self.root.foreign(own)?;
        paths.retain(|path| !self.emptied.contains(path));
        if paths.is_empty() {
            return Ok(Left::Nothing);
        }
        let Some(_alone) = self.root.lock()? else { return Ok(Left::Alive) };
        let mut left = Left::Nothing;
        let mut problem = None;
        for path in paths {
            let recovered = match self.root.take_over(path.clone()) {
                Ok(Foreign::Alive) => Ok(Left::Alive),
                Ok(Foreign::Left(folder)) => self.recover(folder, &mut *on_record),
                // It ended in good order meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => Ok(Left::Nothing),
                Err(error) => Err(error),
            };
            match recovered {
                Ok(of_this) => left = left.max(of_this),
                Err(error) => problem = Some(error),
            }
        }
        problem.map_or(Ok(left), Err)
    }

    /// Records everything in `folder` and removes it. One file that cannot be read does not keep the others waiting.
    fn recover(&mut self, folder: Folder, on_record: OnRecord<'_>) -> io::Result<Left> {
        let mut problem = None;
        let mut ids = Vec::new();
        for name in folder.names()? {
            match id_in(&name) {
                Some(id) => ids.push(id),
                None => problem = self.set_aside(&folder, &name, Broken("its name is no id")).err().or(problem),
            }
        }
        self.find_settled(&folder, &ids)?;
        let mut left = Left::Nothing;
        for id in ids {
            match self.settle(&folder, &id, &mut *on_record) {
                Ok(of_this) => left = left.max(of_this),
                Err(error) => problem = Some(error),
            }
        }
        if let Some(error) = problem {
            return Err(error);
        }
        if left == Left::Nothing {
            let path = folder.path().to_path_buf();
            if let Err(error) = folder.finish() {
                tracing::warn!(path = %path.display(), %error, "a directory that holds no open call any longer stays");
                self.emptied.insert(path);
            }
        }
        Ok(left)
    }

    /// Finds out which calls the journal has already.
    fn find_settled(&mut self, folder: &Folder, ids: &[Id]) -> io::Result<()> {
        let wanted: HashSet<Id> = ids.iter().filter(|id| !self.settled.contains(*id)).copied().collect();
        let modified: io::Result<Vec<_>> = wanted.iter().map(|id| folder.modified(&name_of(id))).collect();
        if let Some(oldest) = modified?.into_iter().min() {
            if self.journal.is_full() {
                return Err(io::Error::other("the journal takes nothing"));
            }
            self.settled.extend(known::in_journal(&self.journal, &wanted, oldest)?);
        }
        Ok(())
    }

    /// Records one call, unless the journal has it, and removes its file.
    fn settle(&mut self, folder: &Folder, id: &Id, on_record: OnRecord<'_>) -> io::Result<Left> {
        if !self.settled.contains(id) {
            let name = name_of(id);
            let bytes = folder.read(&name)?;
            let mut entry = match entry_in(&bytes, id) {
                Ok(entry) => entry,
                Err(broken) => return self.set_aside(folder, &name, broken),
            };
            entry.end = END;
            if !self.journal.append_record(&entry) {
                return Err(io::Error::other("the journal takes nothing"));
            }
            self.settled.insert(*id);
            on_record(&entry);
        }
        if !is_all_on_disk(&self.journal) {
            return Ok(Left::Trouble);
        }
        folder.remove(id)?;
        self.settled.remove(id);
        Ok(Left::Nothing)
    }

    fn set_aside(&self, folder: &Folder, name: &str, Broken(why): Broken) -> io::Result<Left> {
        let aside = self.root.set_aside(folder, name)?;
        let path = aside.display();
        tracing::error!(%path, why, "what was kept of an open call cannot be read; it is set aside, and not recorded");
        Ok(Left::Nothing)
    }
}

/// The record that `bytes` hold, which is that of the call `id`.
fn entry_in<'bytes>(bytes: &'bytes [u8], id: &Id) -> Result<Entry<'bytes>, Broken> {
    let entry = Entry::decode(payload_of(bytes)?)
        .map_err(|_| Broken("it is no record of this version of the gateway; another one may have written it"))?;
    if entry.id == *id { Ok(entry) } else { Err(Broken("it is the record of another call")) }
}

/// Whether a record that was appended outlives this process. If not, its file must stay.
pub(super) fn is_all_on_disk(journal: &Journal) -> bool {
    let state = journal.state();
    state.trouble.is_none() && state.memory_bytes == 0
}
