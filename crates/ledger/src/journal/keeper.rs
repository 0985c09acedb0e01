//! What is done for the journal beside the calls: segments that every sink has passed are deleted, those in memory are
//! put on disk once it takes them, and what was written is forced to disk where that is asked for.

use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Journal, Writer, segments_on_disk};

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The running thread.
pub struct Keeper {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts the thread. `done_below` tells the number below which every sink has everything; `None` while that is
    /// not known.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(
        journal: Arc<Journal>,
        done_below: impl Fn() -> Option<u64> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let interval =
            journal.options.fsync.map_or(INTERVAL, |fsync| fsync.min(INTERVAL)).max(Duration::from_millis(1));
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) {
                journal.tend(done_below());
            }
            journal.close_all();
            journal.tend(done_below());
        })?;
        Ok(Self { stop, thread })
    }

    /// Tends the journal a last time and ends.
    pub fn stop(self) {
        self.stop.try_send(()).ok();
        if self.thread.join().is_err() {
            tracing::error!("the journal's keeper ended with a panic");
        }
    }
}

impl Journal {
    /// One round.
    pub fn tend(&self, done_below: Option<u64>) {
        if self.has_trouble.load(Ordering::Acquire) {
            self.leave_memory();
        }
        self.spill();
        if let Some(floor) = done_below {
            self.delete_below(floor);
        }
        if self.options.fsync.is_some() {
            for file in self.growing_files() {
                if let Err(error) = file.sync_data() {
                    self.disk_fails(&error);
                }
            }
        }
    }

    /// Appends to no segment any longer; the next append begins a new one.
    pub(crate) fn close_all(&self) {
        for shard in &self.shards {
            self.close(&mut shard.lock().unwrap_or_else(PoisonError::into_inner).writer);
        }
    }

    /// Ends segments that grow in memory, if the disk would take a file.
    fn leave_memory(&self) {
        let probe = self.options.directory.join("probe");
        let works = fs::create_dir_all(&self.options.directory)
            .and_then(|()| File::create(&probe)?.write_all(&[0; 4096]))
            .is_ok();
        fs::remove_file(&probe).ok();
        if !works {
            return;
        }
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.disk_pause = None;
            if let Writer::Memory { .. } = shard.writer {
                self.close(&mut shard.writer);
            }
        }
        self.disk_works();
    }

    /// Puts segments that are in memory and no longer grow on disk, under their numbers.
    fn spill(&self) {
        let finished: Vec<_> = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            let own = self.own();
            memory
                .iter()
                .filter(|(number, _)| !own.growing.contains(number))
                .map(|(number, segment)| (*number, segment.clone()))
                .collect()
        };
        for (number, segment) in finished {
            let bytes = segment.read(0, usize::MAX);
            let temporary = self.options.directory.join("spill");
            let spilled = File::create(&temporary)
                .and_then(|mut file| file.write_all(&bytes))
                .and_then(|()| fs::rename(&temporary, self.path(number)));
            if let Err(error) = spilled {
                fs::remove_file(&temporary).ok();
                return self.disk_fails(&error);
            }
            self.forget_memory(number, bytes.len());
        }
    }

    /// Deletes segments with a number below `floor`, but the newest.
    pub fn delete_below(&self, floor: u64) {
        let passed: Vec<_> = {
            let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.range(..floor).map(|(number, segment)| (*number, segment.read(0, usize::MAX).len())).collect()
        };
        for (number, length) in passed {
            if !self.is_growing(number) {
                self.forget_memory(number, length);
            }
        }
        // The newest stays: its number tells what comes next, should the file with the numbers be lost.
        let on_disk = segments_on_disk(&self.options.directory).unwrap_or_default();
        for number in on_disk.iter().rev().skip(1).filter(|number| **number < floor) {
            if let Err(error) = fs::remove_file(self.path(*number)) {
                tracing::warn!(segment = number, %error, "a segment of the journal cannot be deleted");
            }
        }
    }

    fn forget_memory(&self, number: u64, length: usize) {
        if self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&number).is_some() {
            self.memory_bytes.fetch_sub(length, Ordering::Relaxed);
        }
    }

    fn growing_files(&self) -> Vec<Arc<File>> {
        let files =
            self.shards.iter().filter_map(|shard| match &shard.lock().unwrap_or_else(PoisonError::into_inner).writer {
                Writer::File { file, .. } => Some(file.clone()),
                _ => None,
            });
        files.collect()
    }
}
