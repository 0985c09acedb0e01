//! Where finished records are written: friendly lines on a terminal, JSON lines elsewhere, a rotating file.
//!
//! Workers append to a buffer and go on; one thread writes. Nothing here waits on a disk on the path of a call. When
//! the disk stands still, the buffer grows to its bound and then further records are counted as lost, loudly.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use aiproxy_config::snapshot::{Log, LogFile};
use aiproxy_gateway::record::Record;
use aiproxy_gateway::state::RecordSink;

use crate::record_line;

/// How long a record may lie in the buffer.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// With this much waiting it is written at once, while it is still in the processor's cache.
const FLUSH_BYTES: usize = 256 << 10;
/// Most bytes waiting; some 60,000 records.
const BUFFER_LIMIT: usize = 32 << 20;

/// The buffer between the workers and the writing thread.
#[derive(Default)]
struct Waiting {
    json: Vec<u8>,
    friendly: String,
    /// Whether the writer was told that there is enough to write.
    full: bool,
    stopping: bool,
}

/// The sink that workers see.
pub(crate) struct RecordLog {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    friendly: bool,
    json: bool,
    lost: AtomicU64,
}

/// The running writer; stopping it writes what is left.
pub(crate) struct RecordWriter {
    log: Arc<RecordLog>,
    thread: JoinHandle<()>,
}

/// Opens the outputs of `settings` and starts the writer. Relative file paths are below `data_dir`.
pub(crate) fn start(settings: &Log, data_dir: &Path) -> io::Result<(Arc<RecordLog>, RecordWriter)> {
    let friendly = settings.console && io::stderr().is_terminal();
    let file = settings.file.as_ref().map(|file| RotatingFile::open(file, data_dir)).transpose()?;
    let outputs = Outputs { console: settings.console && !friendly, file };
    let log = Arc::new(RecordLog {
        waiting: Mutex::default(),
        wake: Condvar::new(),
        friendly,
        json: outputs.console || outputs.file.is_some(),
        lost: AtomicU64::new(0),
    });
    let writing = log.clone();
    let thread =
        std::thread::Builder::new().name("records".into()).spawn(move || writing.write_until_stopped(outputs))?;
    Ok((log.clone(), RecordWriter { log, thread }))
}

impl RecordSink for RecordLog {
    fn emit(&self, record: &Record) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.json.len() + waiting.friendly.len() > BUFFER_LIMIT {
            drop(waiting);
            if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::error!("records cannot be written as fast as they come; some are lost");
            }
            return;
        }
        if self.json {
            record.write_json(&mut waiting.json);
        }
        if self.friendly {
            record_line::write(record, &mut waiting.friendly);
        }
        if waiting.json.len() >= FLUSH_BYTES && !waiting.full {
            waiting.full = true;
            drop(waiting);
            self.wake.notify_one();
        }
    }
}

impl RecordLog {
    fn write_until_stopped(&self, mut outputs: Outputs) {
        let (mut json, mut friendly) = (Vec::new(), String::new());
        loop {
            let stopping = {
                let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let (mut waiting, _) = self
                    .wake
                    .wait_timeout_while(waiting, FLUSH_INTERVAL, |waiting| !waiting.stopping && !waiting.full)
                    .unwrap_or_else(PoisonError::into_inner);
                std::mem::swap(&mut waiting.json, &mut json);
                std::mem::swap(&mut waiting.friendly, &mut friendly);
                waiting.full = false;
                waiting.stopping
            };
            outputs.write(&json, &friendly);
            json.clear();
            friendly.clear();
            if stopping {
                return;
            }
        }
    }
}

impl RecordWriter {
    /// Writes what waits and ends.
    pub(crate) fn stop(self) {
        self.log.waiting.lock().unwrap_or_else(PoisonError::into_inner).stopping = true;
        self.log.wake.notify_all();
        if self.thread.join().is_err() {
            tracing::error!("the record writer ended with a panic");
        }
        let lost = self.log.lost.load(Ordering::Relaxed);
        if lost > 0 {
            tracing::error!(lost, "records were lost");
        }
    }
}

struct Outputs {
    console: bool,
    file: Option<RotatingFile>,
}

impl Outputs {
    fn write(&mut self, json: &[u8], friendly: &str) {
        let mut stderr = io::stderr().lock();
        if !friendly.is_empty() {
            // A closed terminal must not end the gateway.
            stderr.write_all(friendly.as_bytes()).ok();
        }
        if self.console {
            stderr.write_all(json).ok();
        }
        drop(stderr);
        if let Some(file) = &mut self.file
            && let Err(error) = file.write(json)
        {
            tracing::error!(path = %file.path.display(), %error, "records cannot be written");
        }
    }
}

/// A file that is renamed to `.1` when it is full; `.1` becomes `.2`, and so on.
struct RotatingFile {
    path: PathBuf,
    file: File,
    length: u64,
    max_bytes: u64,
    keep: usize,
}

impl RotatingFile {
    fn open(settings: &LogFile, data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(&settings.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let (file, length) = append_to(&path)?;
        Ok(Self { path, file, length, max_bytes: settings.max_bytes, keep: settings.keep })
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let room = usize::try_from(self.max_bytes.saturating_sub(self.length)).unwrap_or(usize::MAX);
            let fitting = fitting_lines(rest, room);
            if fitting == 0 && self.length > 0 {
                self.rotate()?;
                continue;
            }
            // A line larger than a whole file is written all the same.
            let (part, after) = rest.split_at(if fitting == 0 { first_line(rest) } else { fitting });
            self.file.write_all(part)?;
            self.length += part.len() as u64;
            rest = after;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
        } else {
            for number in (1..self.keep).rev() {
                if numbered(number).exists() {
                    fs::rename(numbered(number), numbered(number + 1))?;
                }
            }
            fs::rename(&self.path, numbered(1))?;
        }
        (self.file, self.length) = append_to(&self.path)?;
        Ok(())
    }
}

/// Length of the whole lines at the beginning of `lines` that fit into `room` bytes.
fn fitting_lines(lines: &[u8], room: usize) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    lines[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

fn first_line(lines: &[u8]) -> usize {
    lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1)
}

fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_numbered_and_only_so_many_are_kept() {
        let directory = std::env::temp_dir().join(format!("aiproxy-rotate-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let settings = LogFile { path: "log/records.jsonl".into(), max_bytes: 10, keep: 2 };
        let mut file = RotatingFile::open(&settings, &directory).unwrap();
        file.write(b"first\nsecond\nthird\n").unwrap();
        file.write(b"fourth\n").unwrap();
        let read = |name: &str| fs::read_to_string(directory.join("log").join(name)).unwrap_or_default();
        assert_eq!(read("records.jsonl"), "fourth\n");
        assert_eq!((read("records.jsonl.1").as_str(), read("records.jsonl.2").as_str()), ("third\n", "second\n"));
        assert!(!directory.join("log/records.jsonl.3").exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
