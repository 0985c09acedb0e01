//! What the tests of sinks share: a directory that goes away, and batches.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::batch::Batch;
use crate::entry::{Bodies, Body, Entry};
use crate::position::Position;

/// A directory that is removed with everything in it.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(purpose: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("aiproxy-{purpose}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Names of everything in the directory `name`, sorted.
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        let Ok(listing) = fs::read_dir(self.path(name)) else { return Vec::new() };
        let mut names: Vec<_> = listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The id that ends in `number`.
pub(crate) fn id(number: u32) -> [u8; 16] {
    let mut id = [0; 16];
    id[12..].copy_from_slice(&number.to_be_bytes());
    id
}

pub(crate) fn entry(number: u32) -> Entry<'static> {
    Entry { id: id(number), path: "/v1/models", end: "complete", usage_source: "none", ..Entry::default() }
}

pub(crate) fn bodies(number: u32) -> Bodies<'static> {
    let request = Body { content_type: "text/plain", form: "text", content: "hello", bytes: 5, ..Body::default() };
    Bodies { id: id(number), request: Some(request), ..Bodies::default() }
}

/// A journal of frames, numbered from 0, that can be read again from any position.
pub(crate) struct Frames {
    batches: Batch,
}

impl Frames {
    /// The records `0..count`, as `record` makes them; every fifth is followed by its bodies where `with_bodies`.
    pub(crate) fn new(count: u32, with_bodies: bool, record: impl Fn(u32) -> Entry<'static>) -> Self {
        let mut batches = Batch::default();
        for number in 0..count {
            batches.push_record(&record(number));
            if with_bodies && number % 5 == 0 {
                batches.push_bodies(&bodies(number));
            }
        }
        Self { batches }
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Up to `count` frames after `position`, the start if there is none.
    pub(crate) fn after(&self, position: Option<&Position>, count: usize) -> Batch {
        let start = position.map_or(0, |position| {
            (0..self.len()).find(|end| self.batches.part(0..*end).position == *position).unwrap_or(self.len())
        });
        self.batches.part(start..(start + count).min(self.len()))
    }
}
