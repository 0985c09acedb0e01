//! Records as Parquet files, for whoever asks questions of many at once: `logs_2026-11-21_000001.parquet`, one for each
//! UTC day and batch. The number is in the name because a file that is finished is never touched again: a day has as
//! many files as it takes, also after a restart.
//!
//! Readers see finished files only. A file is written as `.logs_….parquet.tmp`, a name that neither `*.parquet` nor a
//! reader of whole directories picks up, and renamed. Records are gathered until a file is large enough or the first of
//! them has waited long enough. Then, in this order:
//!
//! 1. all files of the batch get their footers and are forced to the disk, under their temporary names;
//! 2. the cursor is replaced by one that holds the position behind the batch *and the names of its files*;
//! 3. the files are renamed.
//!
//! The second step decides. A process that ends before it leaves temporary files, which the next start deletes: the
//! journal gives their records again. One that ends after it leaves files that the next start renames, whichever of
//! them are left; so each record is in exactly one file, and none that was seen is ever taken back.

mod columns;
mod day_file;
mod destination;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use aiproxy_core::time::{self, Instant};
use serde::{Deserialize, Serialize};

use self::day_file::DayFile;
pub use self::destination::Destination;
use crate::batch::Batch;
use crate::cursor_file::{Cursor, CursorFile, sync_directory_of};
use crate::json;
use crate::position::Position;
use crate::sink::{Appetite, Sink, SinkError};

/// Days written at once. More only come from clocks that were wrong; then files are finished earlier.
const MOST_DAYS: usize = 8;
/// Rows of all days in memory, before compression.
const ROW_BYTES: u64 = 32 << 20;
const DAY_MS: u64 = 86_400_000;

/// Where files are written, and when they are finished.
#[derive(Clone, Debug)]
pub struct ParquetOptions {
    /// Where files are written; relative paths are those of the process.
    pub directory: PathBuf,
    /// When one file is this large all are finished. May be exceeded by what one batch adds.
    pub max_bytes: u64,
    /// How long the first record may wait in an unfinished file.
    pub interval: Duration,
    /// Where finished files go.
    pub destination: Destination,
    /// Directory of the cursors.
    pub cursor_directory: PathBuf,
}

/// Writes records to Parquet files.
pub struct ParquetSink {
    options: ParquetOptions,
    cursor: CursorFile,
    /// What the cursor says.
    committed: Position,
    /// Number of the last batch whose files are finished.
    number: u64,
    /// `None` before the start and after a failure: what it held is given again.
    gathering: Option<Gathering>,
}

/// The batch whose files are not finished yet.
#[derive(Default)]
struct Gathering {
    days: BTreeMap<u64, DayFile>,
    /// Behind what it holds.
    position: Option<Position>,
    since: Option<Instant>,
}

/// What the cursor holds beside the position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Finished {
    /// Number of the last batch.
    batch: u64,
    /// Names of its files.
    files: Vec<String>,
}

impl ParquetSink {
    /// A sink that writes as `options` say. Nothing is opened yet.
    #[must_use]
    pub fn new(options: ParquetOptions) -> Self {
        let cursor = CursorFile::new(&options.cursor_directory, "parquet");
        Self { options, cursor, committed: Position::default(), number: 0, gathering: None }
    }

    async fn recover(&mut self) -> io::Result<Option<Position>> {
        self.gathering = None;
        let directory = &self.options.directory;
        fs::create_dir_all(directory)?;
        let cursor = match self.cursor.read::<Finished>()? {
            Some(cursor) => cursor,
            None => {
                // Files that are there stay as they are. The number is remembered before the first file: after a crash
                // it must not be taken from files that are not.
                let batch = names(&self.options)?.iter().filter_map(|name| day_file::number(name)).max().unwrap_or(0);
                let cursor = Cursor { position: None, state: Finished { batch, files: Vec::new() } };
                self.cursor.write_durably(&cursor)?;
                cursor
            }
        };
        self.options.destination.publish(directory, &cursor.state.files).await?;
        for name in names(&self.options)?.iter().filter(|name| day_file::is_temporary(name)) {
            fs::remove_file(directory.join(name))?;
        }
        self.number = cursor.state.batch;
        self.committed = cursor.position.clone().unwrap_or_default();
        self.gathering = Some(Gathering::default());
        Ok(cursor.position)
    }

    async fn take(&mut self, batch: &Batch) -> io::Result<()> {
        let mut left = vec![Cow::Borrowed(batch)];
        while let Some(batch) = left.pop() {
            let Some(gathering) = &mut self.gathering else { return Err(io::Error::other("it was not resumed")) };
            let days: BTreeSet<u64> = batch.entries().map(|entry| entry.started_unix_ms / DAY_MS).collect();
            if gathering.days.keys().copied().chain(days).collect::<BTreeSet<_>>().len() <= MOST_DAYS {
                gathering.take(&batch, &self.options, self.number + 1)?;
            } else if gathering.days.is_empty() {
                // More days than files, in this batch alone.
                let middle = batch.len() / 2;
                left.push(Cow::Owned(batch.part(middle..batch.len())));
                left.push(Cow::Owned(batch.part(0..middle)));
            } else {
                self.commit().await?;
                left.push(batch);
            }
        }
        Ok(())
    }

    /// Finishes what is due by size or time.
    async fn commit_if_due(&mut self) -> io::Result<()> {
        let is_due = self.gathering.as_ref().is_some_and(|gathering| {
            gathering.since.is_some_and(|since| since.elapsed() >= self.options.interval)
                || gathering.days.values().any(|file| file.length() >= self.options.max_bytes)
        });
        if is_due { self.commit().await } else { Ok(()) }
    }

    /// The three steps. After an error the gathering is gone, and the cursor says what that means.
    async fn commit(&mut self) -> io::Result<()> {
        let Some(gathering) = self.gathering.take() else { return Ok(()) };
        if let Some(position) = gathering.position {
            let files = gathering.days.into_values().map(DayFile::finish).collect::<io::Result<Vec<_>>>()?;
            let batch = if files.is_empty() { self.number } else { self.number + 1 };
            sync_directory_of(&self.options.directory.join("any"))?;
            let cursor = Cursor { position: Some(position.clone()), state: Finished { batch, files } };
            self.cursor.write_durably(&cursor)?;
            (self.committed, self.number) = (position, batch);
            self.options.destination.publish(&self.options.directory, &cursor.state.files).await?;
        }
        self.gathering = Some(Gathering::default());
        Ok(())
    }

    fn answer<T>(&mut self, result: io::Result<T>) -> Result<T, SinkError> {
        result.map_err(|error| {
            // Its files hold what is now given again; they are deleted when it is resumed.
            self.gathering = None;
            SinkError::Unavailable(format!("{}: {error}", self.options.directory.display()))
        })
    }
}

impl Gathering {
    fn take(&mut self, batch: &Batch, options: &ParquetOptions, number: u64) -> io::Result<()> {
        self.since.get_or_insert_with(time::now);
        let most_waiting = options.max_bytes.clamp(1, ROW_BYTES);
        for entry in batch.entries() {
            let day = entry.started_unix_ms / DAY_MS;
            let file = self.days.entry(day).or_insert_with(|| {
                let mut text = Vec::new();
                json::date(&mut text, entry.started_unix_ms);
                DayFile::new(&options.directory, &String::from_utf8_lossy(&text), number)
            });
            file.push(&entry)?;
            while self.days.values().map(DayFile::waiting).sum::<u64>() >= most_waiting {
                let fullest = self.days.values_mut().max_by_key(|file| file.waiting());
                fullest.map_or(Ok(()), DayFile::flush)?;
            }
        }
        self.position = Some(batch.position.clone());
        Ok(())
    }
}

impl Sink for ParquetSink {
    fn name(&self) -> &str {
        "parquet"
    }

    async fn resume(&mut self) -> Result<Option<Position>, SinkError> {
        let position = self.recover().await;
        self.answer(position)
    }

    async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let taken = self.take(batch).await;
        self.answer(taken)?;
        let finished = self.commit_if_due().await;
        self.answer(finished)
    }

    async fn idle(&mut self) -> Result<(), SinkError> {
        let finished = self.commit_if_due().await;
        self.answer(finished)
    }

    async fn finish(&mut self) -> Result<(), SinkError> {
        let finished = self.commit().await;
        self.answer(finished)
    }

    fn committed(&self) -> Option<&Position> {
        Some(&self.committed)
    }

    fn appetite(&self) -> Appetite {
        Appetite { bodies: false, linger_ms: 1_000, ..Appetite::default() }
    }
}

/// Names of everything in the directory.
fn names(options: &ParquetOptions) -> io::Result<Vec<String>> {
    fs::read_dir(&options.directory)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()
}
