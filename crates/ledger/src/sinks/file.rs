//! Records and bodies as JSON lines in a file that is rotated by size; rotated ones may be compressed.
//!
//! Each line stands there exactly once. The cursor says which file was current after the last batch, and how long it
//! was. What lies beyond that was written by a process that was killed before it could remember it: the journal gives
//! those records again, and those whose lines are whole are passed over by their ids. A last line that is torn is cut
//! off; that is safe, as a cursor is only written behind whole lines, so its record comes again.
//!
//! Where the cursor's file is not to be found (it was compressed, truncated, moved away) or there is no cursor, all files
//! there are count as what lies beyond. Looking up too many ids costs memory, but never a record.

mod compression;
mod lines;
mod rotating;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use self::compression::Compression;
use self::lines::{Line, Lines};
use self::rotating::{RotatingFile, numbered};
use crate::batch::{Batch, Item};
use crate::cursor_file::{Cursor, CursorFile};
use crate::position::Position;
use crate::sink::{Sink, SinkError};

/// Lines gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;
/// Most lines that are looked up, some 40 MB; the newest. Only a lost cursor and many large files need more.
const MOST_KNOWN: usize = 1_000_000;
/// After so many batches and idle seconds without a known line, those that are left are not given any more: at most one
/// batch is not remembered, and more than a thousand batches do not wait in a journal.
const UNMET_ENOUGH: u32 = 1_000;

/// Which file, and how much of it is kept.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// The current file; older ones get `.1`, `.2`, … appended, and `.gz` if they are compressed.
    pub path: PathBuf,
    /// A larger file is rotated.
    pub max_bytes: u64,
    /// Rotated files kept; with 0 a full file is deleted.
    pub keep: usize,
    /// Whether rotated files are compressed by gzip.
    pub compress: bool,
    /// Directory of the cursors.
    pub cursor_directory: PathBuf,
}

/// Writes each record as a line of a file.
pub struct FileSink {
    options: FileOptions,
    cursor: CursorFile,
    /// `None` before the start and after a failure.
    file: Option<RotatingFile>,
    /// Lines that are in the file although the journal gives them again.
    known: HashSet<Line>,
    /// Where the lines end that the journal does not give again; `None` if that is not known of any.
    end: Option<End>,
    /// Batches and idle seconds since a known line came.
    unmet: u32,
    compression: Compression,
    lines: Vec<u8>,
}

/// A place in one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    /// Which file: a checksum of how it begins. Its first line has an id, so no other begins like that; a name changes,
    /// and the number of an inode is soon used again.
    head: u32,
    length: u64,
}

impl FileSink {
    /// A sink that writes as `options` say. Nothing is opened yet.
    #[must_use]
    pub fn new(options: FileOptions) -> Self {
        let cursor = CursorFile::new(&options.cursor_directory, "file");
        let compression = Compression::new(&options);
        let known = HashSet::new();
        Self { options, cursor, file: None, known, end: None, unmet: 0, compression, lines: Vec::new() }
    }

    /// Opens the file where the cursor says, mends its end, and learns what stands beyond.
    fn recover(&mut self) -> io::Result<Option<Position>> {
        (self.known, self.unmet) = (HashSet::new(), 0);
        self.compression.start_anew();
        let cursor = self.cursor.read::<Option<End>>()?.unwrap_or_default();
        self.end = cursor.state;
        for (path, from) in beyond(&self.options, self.end) {
            let is_current = path == self.options.path;
            if let Err(error) = self.learn(&path, from, is_current) {
                if is_current {
                    return Err(error);
                }
                tracing::warn!(path = %path.display(), %error, "a rotated file cannot be read for what it holds");
            }
        }
        self.file = Some(RotatingFile::open(&self.options)?);
        Ok(cursor.position)
    }

    /// Notes the whole lines of the file at `path` from byte `from` on, and cuts off a torn last one where `mend`.
    fn learn(&mut self, path: &Path, from: u64, mend: bool) -> io::Result<()> {
        let mut file = File::open(path)?;
        let compressed = path.extension().is_some_and(|extension| extension == "gz");
        file.seek(SeekFrom::Start(from))?;
        let mut lines = Lines::default();
        let mut note = |line| {
            if self.known.len() < MOST_KNOWN {
                self.known.insert(line);
            }
        };
        if compressed {
            read_all(&mut MultiGzDecoder::new(file), |bytes| lines.feed(bytes, &mut note))?;
            return Ok(());
        }
        read_all(&mut file, |bytes| lines.feed(bytes, &mut note))?;
        if mend && lines.is_torn() {
            let mut file = OpenOptions::new().read(true).write(true).open(path)?;
            let end = from + lines.whole();
            file.seek(SeekFrom::Start(end))?;
            // Only its line break is missing if somebody has edited the file.
            if serde_json::from_reader::<_, IgnoredAny>(io::BufReader::new(&file)).is_ok() {
                file.seek(SeekFrom::End(0))?;
                file.write_all(b"\n")?;
                lines.feed(b"\n", &mut note);
            } else {
                tracing::info!(path = %path.display(), "a torn last line is cut off; its record comes again");
                file.set_len(end)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, batch: &Batch) -> io::Result<()> {
        if self.file.is_none() {
            self.recover()?;
        }
        let Self { file: Some(file), known, unmet, end, lines, .. } = self else { return Ok(()) };
        file.follow(&self.options)?;
        *unmet = unmet.saturating_add(1);
        lines.clear();
        for item in batch.items() {
            let line = match &item {
                Item::Record(entry) => Line::Record(entry.id),
                Item::Bodies(bodies) => Line::Bodies(bodies.id),
            };
            if !known.is_empty() && known.remove(&line) {
                *unmet = 0;
                continue;
            }
            match item {
                Item::Record(entry) => entry.write_json(lines),
                Item::Bodies(bodies) => bodies.write_json(lines),
            }
            if lines.len() >= WRITE_BYTES {
                file.append(lines)?;
                lines.clear();
                // One call with huge bodies should not be remembered by its memory.
                lines.shrink_to(2 * WRITE_BYTES);
            }
        }
        file.append(lines)?;
        if *unmet >= UNMET_ENOUGH {
            *known = HashSet::new();
        }
        if known.is_empty() {
            *end = file.end()?;
        }
        // While something is known the end stays where it is: what lies beyond it must be looked up after another crash.
        self.cursor.write(&Cursor { position: Some(batch.position.clone()), state: *end })
    }

    fn unavailable(&self, error: &io::Error) -> SinkError {
        SinkError::Unavailable(format!("{}: {error}", self.options.path.display()))
    }

    fn compress(&mut self) {
        let rotations = self.file.as_ref().map_or(0, RotatingFile::rotations);
        self.compression.go_on(rotations);
    }
}

impl Sink for FileSink {
    fn name(&self) -> &str {
        "file"
    }

    async fn resume(&mut self) -> Result<Option<Position>, SinkError> {
        self.recover().map_err(|error| self.unavailable(&error))
    }

    async fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        if let Err(error) = self.take(batch) {
            // Some lines may be there already: they are looked up before it is tried again.
            self.file = None;
            return Err(self.unavailable(&error));
        }
        self.compress();
        Ok(())
    }

    async fn idle(&mut self) -> Result<(), SinkError> {
        if self.file.is_some() {
            self.compress();
            // What follows from it the next batch will see.
            self.unmet = self.unmet.saturating_add(1);
        }
        Ok(())
    }
}

/// Where lines may stand beyond `end`: files, newest first, and from which byte on. All of them if it is not found.
fn beyond(options: &FileOptions, end: Option<End>) -> Vec<(PathBuf, u64)> {
    let rotated = (1..=options.keep).map(|number| numbered(&options.path, number));
    let rotated = rotated.flat_map(|path| [path.clone(), compression::compressed(&path)]);
    let mut files = Vec::new();
    for path in std::iter::once(options.path.clone()).chain(rotated) {
        // A pipe would never end.
        let Some(metadata) = fs::metadata(&path).ok().filter(fs::Metadata::is_file) else { continue };
        let last = end.filter(|end| end.length <= metadata.len() && is_in(&path, *end).unwrap_or(false));
        files.push((path, last.map_or(0, |end| end.length)));
        if last.is_some() {
            break;
        }
    }
    files
}

/// Whether the file at `path` is the one that `end` is in.
fn is_in(path: &Path, end: End) -> io::Result<bool> {
    Ok(rotating::head(&File::open(path)?, end.length)? == Some(end.head))
}

fn read_all(reader: &mut impl Read, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => each(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
