//! The journal: where a finished call is written before its last byte is sent on.
//!
//! Every worker appends to a segment of its own, so no worker waits for another. An append is one `write` into the
//! system's page cache: it outlives the process, and costs less than handing the record to another thread. Nothing is
//! ever rewritten; a segment that is full is followed by the next, and deleted once every sink has passed it.
//!
//! When the disk does not take it (full, read-only, broken) segments are kept in memory up to a bound, where sinks read
//! them like any other, and put on disk when it takes them again.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aiproxy_core::time::{self, Instant};

use crate::entry::{Bodies, Entry};
use crate::frame::{self, Kind};

mod extent;
mod keeper;
mod numbers;

pub use extent::Extent;
pub use keeper::Keeper;

/// How long after a failure the disk is tried again.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Memory that a shard keeps for its frames.
const LARGEST_KEPT: usize = 64 << 10;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where. Made if it is missing.
    pub directory: PathBuf,
    /// How many threads append without waiting for each other.
    pub shards: usize,
    /// A longer segment is followed by the next, in bytes.
    pub segment_bytes: u64,
    /// Most bytes kept in memory while the disk takes nothing.
    pub memory_bytes: usize,
    /// How often what was written is forced to the disk, so that it outlives a power failure. `None`: when the system
    /// likes to, usually within 30 s.
    pub fsync: Option<Duration>,
}

/// The journal of this process. Other processes may append to the same directory while one takes over from another.
pub struct Journal {
    options: Options,
    shards: Box<[Mutex<Shard>]>,
    /// Highest number that is known to be in use.
    last_number: AtomicU64,
    /// Segments this process appends to, and all it ever made.
    own: Mutex<Own>,
    memory: Mutex<BTreeMap<u64, Arc<MemorySegment>>>,
    memory_bytes: AtomicUsize,
    /// Bytes appended since the start: tells a reader that there is something new.
    appended: AtomicU64,
    /// Records among them.
    records: AtomicU64,
    lost: AtomicU64,
    /// Why the disk takes nothing, while it does not.
    trouble: Mutex<Option<String>>,
    has_trouble: AtomicBool,
}

#[derive(Default)]
struct Own {
    growing: BTreeSet<u64>,
    made: BTreeSet<u64>,
}

/// A segment in memory.
pub(crate) struct MemorySegment(Mutex<Vec<u8>>);

impl MemorySegment {
    /// Its bytes from `offset` on, at most `most`.
    pub(crate) fn read(&self, offset: u64, most: usize) -> Vec<u8> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        bytes[start..bytes.len().min(start.saturating_add(most))].to_vec()
    }

    fn length(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

/// What one thread appends to.
#[derive(Default)]
struct Shard {
    writer: Writer,
    /// The frame being made.
    buffer: Vec<u8>,
    /// The disk is left alone until then.
    disk_pause: Option<Instant>,
}

#[derive(Default)]
enum Writer {
    #[default]
    None,
    File {
        number: u64,
        file: Arc<File>,
        length: u64,
    },
    Memory {
        number: u64,
        segment: Arc<MemorySegment>,
    },
}

thread_local! {
    /// Which shard this thread appends to, plus one.
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

impl Journal {
    /// Opens the journal in a directory. Segments that are there stay for the sinks; nothing is read. A directory that
    /// cannot be written is no error: what is appended stays in memory, loudly.
    #[must_use]
    pub fn open(options: Options) -> Arc<Self> {
        let made = fs::create_dir_all(&options.directory);
        let last_number = segments_on_disk(&options.directory).unwrap_or_default().last().copied().unwrap_or(0);
        let shards = (0..options.shards.max(1)).map(|_| Mutex::default()).collect();
        let journal = Arc::new(Self {
            options,
            shards,
            last_number: AtomicU64::new(last_number),
            own: Mutex::default(),
            memory: Mutex::default(),
            memory_bytes: AtomicUsize::new(0),
            appended: AtomicU64::new(0),
            records: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            trouble: Mutex::default(),
            has_trouble: AtomicBool::new(false),
        });
        if let Err(error) = made {
            journal.disk_fails(&error);
        }
        journal
    }

    /// Appends the record of a finished call. False if it is lost: the disk takes nothing and the memory is full.
    pub fn append_record(&self, entry: &Entry<'_>) -> bool {
        let taken = self.append(Kind::Record, |bytes| entry.encode(bytes));
        if taken {
            self.records.fetch_add(1, Ordering::Release);
        }
        taken
    }

    /// Appends the bodies of a call.
    pub fn append_bodies(&self, bodies: &Bodies<'_>) -> bool {
        self.append(Kind::Bodies, |bytes| bodies.encode(bytes))
    }

    fn append(&self, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut shard = self.shard();
        let shard = &mut *shard;
        shard.buffer.clear();
        frame::append(&mut shard.buffer, kind, write);
        let length = shard.buffer.len() as u64;
        let taken = self.write(shard);
        // Bodies are large and rare.
        if shard.buffer.capacity() > LARGEST_KEPT {
            shard.buffer = Vec::new();
        }
        if taken {
            self.appended.fetch_add(length, Ordering::Release);
        } else if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!("the disk takes nothing and the journal's memory is full: records are lost");
        }
        taken
    }

    fn shard(&self) -> MutexGuard<'_, Shard> {
        let index = SHARD.with(|shard| match shard.get() {
            0 => {
                shard.set(NEXT_SHARD.fetch_add(1, Ordering::Relaxed) + 1);
                shard.get() - 1
            }
            index => index - 1,
        });
        self.shards[index % self.shards.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, shard: &mut Shard) -> bool {
        self.prepare(shard);
        let Shard { writer, buffer, disk_pause } = shard;
        if let Writer::File { number, file, length } = writer {
            match (&**file).write_all(buffer) {
                Ok(()) => {
                    *length += buffer.len() as u64;
                    return true;
                }
                Err(error) => {
                    // Part of the frame may have been written. If it cannot be taken back it stays as a torn end.
                    file.set_len(*length).ok();
                    self.own().growing.remove(number);
                    *writer = Writer::None;
                    *disk_pause = Some(time::now() + DISK_PAUSE);
                    self.disk_fails(&error);
                }
            }
        }
        if self.memory_bytes.load(Ordering::Relaxed) + buffer.len() > self.options.memory_bytes {
            return false;
        }
        let segment = match writer {
            Writer::Memory { segment, .. } => segment,
            _ => {
                let (number, segment) = self.new_memory_segment();
                *writer = Writer::Memory { number, segment: segment.clone() };
                &segment.clone()
            }
        };
        segment.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(buffer);
        self.memory_bytes.fetch_add(buffer.len(), Ordering::Relaxed);
        true
    }

    /// Sees to it that there is a file to append to, if the disk has one.
    fn prepare(&self, shard: &mut Shard) {
        match &shard.writer {
            Writer::File { length, .. } if *length < self.options.segment_bytes => return,
            _ if shard.disk_pause.is_some_and(|until| time::now() < until) => return,
            _ => {}
        }
        match self.new_file() {
            Ok((number, file)) => {
                self.close(&mut shard.writer);
                shard.disk_pause = None;
                shard.writer = Writer::File { number, file: Arc::new(file), length: 0 };
            }
            // A segment that is too long is better than none.
            Err(error) => {
                shard.disk_pause = Some(time::now() + DISK_PAUSE);
                self.disk_fails(&error);
            }
        }
    }

    fn close(&self, writer: &mut Writer) {
        match std::mem::take(writer) {
            Writer::None => {}
            Writer::File { number, file, .. } => {
                if self.options.fsync.is_some() {
                    file.sync_data().ok();
                }
                drop(file);
                self.own().growing.remove(&number);
            }
            Writer::Memory { number, .. } => drop(self.own().growing.remove(&number)),
        }
    }

    fn new_file(&self) -> io::Result<(u64, File)> {
        let alone = numbers::lock(&self.options.directory)?;
        let on_disk = segments_on_disk(&self.options.directory)?.last().copied().unwrap_or(0);
        let number = 1 + numbers::last(&alone).max(on_disk).max(self.last_number.load(Ordering::Acquire));
        let file = OpenOptions::new().create_new(true).append(true).open(self.path(number))?;
        // Held for as long as the file is open: tells readers in every process that more may come.
        file.try_lock().map_err(io::Error::from)?;
        numbers::write(&alone, number);
        self.last_number.fetch_max(number, Ordering::AcqRel);
        self.own().add(number);
        Ok((number, file))
    }

    fn new_memory_segment(&self) -> (u64, Arc<MemorySegment>) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.last_number.fetch_add(1, Ordering::AcqRel) + 1;
        let segment = Arc::new(MemorySegment(Mutex::default()));
        self.own().add(number);
        memory.insert(number, segment.clone());
        (number, segment)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk_fails(&self, error: &io::Error) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none() {
            let directory = self.options.directory.display();
            tracing::error!(%directory, %error, "the journal cannot be written; records wait in memory");
        }
        *trouble = Some(error.to_string());
        self.has_trouble.store(true, Ordering::Release);
    }

    fn disk_works(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.take().is_some() {
            tracing::info!("the journal is written to disk again");
        }
        self.has_trouble.store(false, Ordering::Release);
    }

    /// Where segment `number` is kept.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.options.directory.join(format!("{number:016}.{EXTENSION}"))
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }

    /// A name for this journal that stays the same: cursors that are kept elsewhere, in a database that several
    /// instances share, go by it. Without a directory it is a new one each time.
    #[must_use]
    pub fn instance(&self) -> String {
        let path = self.options.directory.join("instance");
        let known = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<uuid::Uuid>().ok());
        let instance = known.unwrap_or_else(|| {
            let new = uuid::Uuid::now_v7();
            if let Err(error) = fs::write(&path, format!("{new}\n")) {
                self.disk_fails(&error);
            }
            new
        });
        instance.to_string()
    }

    /// Bytes appended since the start.
    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Whether this process still appends to segment `number`.
    pub(crate) fn is_growing(&self, number: u64) -> bool {
        self.own().growing.contains(&number)
    }

    /// Whether this process made segment `number`.
    #[must_use]
    pub fn is_own(&self, number: u64) -> bool {
        self.own().made.contains(&number)
    }

    /// Segment `number`, if it is in memory.
    pub(crate) fn in_memory(&self, number: u64) -> Option<Arc<MemorySegment>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// All segments there are, on disk and in memory.
    pub(crate) fn segments(&self) -> BTreeSet<u64> {
        // Memory first: a segment that moves to disk meanwhile is then seen in one of the two.
        let mut numbers: BTreeSet<u64> =
            self.memory.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        numbers.extend(segments_on_disk(&self.options.directory).unwrap_or_default());
        numbers
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> State {
        let memory_bytes = self.memory_bytes.load(Ordering::Relaxed);
        State {
            trouble: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            memory_bytes,
            is_full: self.is_full(),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }

    /// Whether there is no place for another record, on disk or in memory. Cheap.
    #[must_use]
    pub fn is_full(&self) -> bool {
        // Room for a few records more, so that calls that run can still end.
        const SPARE: usize = 256 << 10;
        self.has_trouble.load(Ordering::Acquire)
            && self.memory_bytes.load(Ordering::Relaxed) + SPARE.min(self.options.memory_bytes / 4)
                > self.options.memory_bytes
    }
}

impl Own {
    fn add(&mut self, number: u64) {
        self.growing.insert(number);
        self.made.insert(number);
    }
}

/// How a journal is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Why the disk takes nothing, while it does not.
    pub trouble: Option<String>,
    /// Bytes that are only in memory.
    pub memory_bytes: usize,
    /// No place is left for another record.
    pub is_full: bool,
    /// Records lost since the start.
    pub lost: u64,
}

const EXTENSION: &str = "journal";

/// Numbers of the segments in `directory`, in order.
fn segments_on_disk(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}
