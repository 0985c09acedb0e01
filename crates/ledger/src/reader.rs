//! Reading the journal behind those who append to it.
//!
//! A reader has a position of its own. It reads what is whole; what is torn at the end of a segment that still grows it
//! leaves for later, and at the end of one that nobody appends to any longer it passes over: that call's last byte was
//! never sent. Damaged bytes in the middle are passed over too, up to the next whole frame, loudly.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use aiproxy_core::time::{self, Instant};

use crate::batch::Batch;
use crate::frame::{self, Kind, Next};
use crate::journal::{Journal, MemorySegment};
use crate::position::Position;
use crate::sink::Appetite;

/// Read at once.
const CHUNK: usize = 1 << 20;
/// How often the directory is looked at for segments of another process.
const LISTING_INTERVAL: Duration = Duration::from_secs(1);

/// Reads the journal from a position on.
pub struct Reader {
    journal: Arc<Journal>,
    position: Position,
    open: BTreeMap<u64, File>,
    chunk: Vec<u8>,
    /// What was appended here when everything was read for the last time, and when.
    caught_up: Option<(u64, Instant)>,
}

impl Reader {
    /// Reads on at `position`.
    #[must_use]
    pub fn new(journal: Arc<Journal>, position: Position) -> Self {
        Self { journal, position, open: BTreeMap::new(), chunk: Vec::new(), caught_up: None }
    }

    /// How far it has come.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Reads what follows into `batch`, as far as `appetite` goes. True if there was nothing more to read.
    ///
    /// # Errors
    /// The journal's directory or a segment cannot be read.
    pub fn fill(&mut self, batch: &mut Batch, appetite: &Appetite) -> io::Result<bool> {
        let appended = self.journal.appended();
        if let Some((known, at)) = self.caught_up
            && known == appended
            && time::now().saturating_duration_since(at) < LISTING_INTERVAL
        {
            return Ok(true);
        }
        let segments = self.journal.segments();
        let mut lowest_open = segments.last().map_or(self.position.floor, |last| last + 1);
        let mut caught_up = true;
        for number in segments.range(self.position.floor..).copied() {
            let has_room = batch.len() < appetite.frames && (batch.is_empty() || batch.size() < appetite.bytes);
            if !has_room {
                caught_up = false;
                lowest_open = lowest_open.min(number);
                break;
            }
            match self.read_segment(number, batch, appetite)? {
                Progress::Done => {}
                Progress::CaughtUp => lowest_open = lowest_open.min(number),
                Progress::Full => {
                    caught_up = false;
                    lowest_open = lowest_open.min(number);
                }
            }
        }
        self.open.retain(|number, _| *number >= lowest_open);
        self.position.floor = lowest_open.max(self.position.floor);
        let floor = self.position.floor;
        self.position.offsets.retain(|number, _| *number >= floor);
        batch.position.clone_from(&self.position);
        self.caught_up = caught_up.then(|| (appended, time::now()));
        Ok(caught_up)
    }

    fn read_segment(&mut self, number: u64, batch: &mut Batch, appetite: &Appetite) -> io::Result<Progress> {
        let Some(source) = self.source(number)? else { return Ok(Progress::Done) };
        // Asked before reading: what is appended between the two is then read the next time.
        let is_finished = self.is_finished(number, &source)?;
        let mut chunk_size = CHUNK;
        loop {
            let offset = self.position.offsets.get(&number).copied().unwrap_or(0);
            source.read(offset, chunk_size, &mut self.chunk)?;
            let is_all = self.chunk.len() < chunk_size;
            let mut done = 0;
            let mut damaged = false;
            while batch.len() < appetite.frames && (batch.is_empty() || batch.size() < appetite.bytes) {
                match frame::next(&self.chunk[done..]) {
                    Next::Frame { kind, payload, length } => {
                        done += length;
                        if kind == Kind::Record || (kind == Kind::Bodies && appetite.bodies) {
                            batch.push(kind, payload, number, offset + done as u64);
                        }
                    }
                    Next::Unfinished => break,
                    Next::Damaged => {
                        damaged = true;
                        break;
                    }
                }
            }
            let mut end = offset + done as u64;
            if damaged {
                match frame::resynchronise(&self.chunk[done..]) {
                    Some(bytes) => {
                        tracing::error!(
                            segment = number,
                            at = end,
                            bytes,
                            "damaged bytes in the journal are passed over"
                        );
                        end += bytes as u64;
                    }
                    None if !is_all && chunk_size < 2 * frame::LONGEST => {
                        chunk_size *= 2;
                        continue;
                    }
                    None if is_finished => {
                        let bytes = self.chunk.len() - done;
                        tracing::error!(segment = number, at = end, bytes, "the end of a journal segment is damaged");
                        return Ok(self.pass(number, end + bytes as u64));
                    }
                    // It is still being written.
                    None => return Ok(self.stay(number, end)),
                }
                self.stay(number, end);
                continue;
            }
            self.stay(number, end);
            let is_full = batch.len() >= appetite.frames || (!batch.is_empty() && batch.size() >= appetite.bytes);
            if is_full {
                return Ok(Progress::Full);
            }
            if !is_all {
                // A frame that is larger than a chunk needs a larger chunk.
                chunk_size = if done == 0 { (chunk_size * 2).min(2 * frame::LONGEST) } else { CHUNK };
                continue;
            }
            if !is_finished {
                return Ok(Progress::CaughtUp);
            }
            let torn = self.chunk.len() - done;
            if torn > 0 {
                tracing::warn!(segment = number, bytes = torn, "a torn end of the journal is passed over");
            }
            return Ok(self.pass(number, end + torn as u64));
        }
    }

    fn stay(&mut self, number: u64, offset: u64) -> Progress {
        self.position.offsets.insert(number, offset);
        Progress::CaughtUp
    }

    /// All of the segment is read, and nothing will come.
    fn pass(&mut self, number: u64, end: u64) -> Progress {
        self.position.offsets.insert(number, end);
        self.open.remove(&number);
        Progress::Done
    }

    fn source(&mut self, number: u64) -> io::Result<Option<Source>> {
        if let Some(segment) = self.journal.in_memory(number) {
            return Ok(Some(Source::Memory(segment)));
        }
        if !self.open.contains_key(&number) {
            match File::open(self.journal.path(number)) {
                Ok(file) => drop(self.open.insert(number, file)),
                // Deleted since it was listed: every sink has it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        self.open.get(&number).map(|file| file.try_clone().map(Source::File)).transpose()
    }

    fn is_finished(&self, number: u64, source: &Source) -> io::Result<bool> {
        if self.journal.is_growing(number) {
            return Ok(false);
        }
        match source {
            Source::Memory(_) => Ok(true),
            // Whoever appends to it holds a lock on it; a process that is gone holds none.
            Source::File(_) => match File::open(self.journal.path(number)) {
                Ok(file) => Ok(file.try_lock_shared().is_ok()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
                Err(error) => Err(error),
            },
        }
    }
}

enum Progress {
    /// Nothing more will come of this segment.
    Done,
    /// Nothing more is there now.
    CaughtUp,
    /// The batch has enough.
    Full,
}

enum Source {
    File(File),
    Memory(Arc<MemorySegment>),
}

impl Source {
    /// Reads up to `most` bytes from `offset` on, fewer only at the end.
    fn read(&self, offset: u64, most: usize, chunk: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Memory(segment) => *chunk = segment.read(offset, most),
            Self::File(file) => {
                let there = file.metadata()?.len().saturating_sub(offset);
                let most = most.min(usize::try_from(there).unwrap_or(usize::MAX));
                chunk.resize(most, 0);
                let mut read = 0;
                while read < most {
                    match file.read_at(&mut chunk[read..], offset + read as u64) {
                        Ok(0) => break,
                        Ok(length) => read += length,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                chunk.truncate(read);
            }
        }
        Ok(())
    }
}
