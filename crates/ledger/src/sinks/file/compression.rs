//! Compressing rotated files, a little at a time: the sink writes between the steps, and a stop waits for one at most.
//!
//! It is written beside, and takes the place of the plain file by a rename: whatever ends the process leaves the plain
//! file, the whole compressed one, or for a moment both.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;

use super::FileOptions;
use super::rotating::{Identity, numbered};
use crate::cursor_file::with_suffix;

/// Compressed in one step.
const STEP: u64 = 4 << 20;

/// Compresses every rotated file there is.
pub(super) struct Compression {
    path: PathBuf,
    keep: usize,
    enabled: bool,
    running: Option<Running>,
    /// The number of rotations at which there was nothing to do, or which were not worth another try.
    done_at: Option<u64>,
}

struct Running {
    plain: File,
    identity: Identity,
    encoder: GzEncoder<File>,
}

impl Compression {
    pub(super) fn new(options: &FileOptions) -> Self {
        let (path, keep, enabled) = (options.path.clone(), options.keep, options.compress);
        Self { path, keep, enabled, running: None, done_at: None }
    }

    /// Forgets what was begun.
    pub(super) fn start_anew(&mut self) {
        self.running = None;
        self.done_at = None;
        fs::remove_file(self.temporary()).ok();
    }

    /// One step, if there is something to compress. `rotations` tells that there may be something new.
    pub(super) fn go_on(&mut self, rotations: u64) {
        if !self.enabled || self.done_at == Some(rotations) {
            return;
        }
        match self.step() {
            Ok(true) => {}
            Ok(false) => self.done_at = Some(rotations),
            Err(error) => {
                // The plain file is still there. The disk may be full: it is left alone until the next rotation.
                tracing::warn!(path = %self.path.display(), %error, "a rotated file cannot be compressed");
                self.start_anew();
                self.done_at = Some(rotations);
            }
        }
    }

    /// False if there is nothing to do.
    fn step(&mut self) -> io::Result<bool> {
        if self.running.is_none() {
            self.running = self.next()?;
        }
        let Some(running) = &mut self.running else { return Ok(false) };
        if io::copy(&mut (&running.plain).take(STEP), &mut running.encoder)? < STEP
            && let Some(running) = self.running.take()
        {
            self.complete(running)?;
        }
        Ok(true)
    }

    /// The oldest file that is not compressed.
    fn next(&self) -> io::Result<Option<Running>> {
        let Some(path) = (1..=self.keep).rev().map(|number| numbered(&self.path, number)).find(|path| path.is_file())
        else {
            return Ok(None);
        };
        let plain = File::open(path)?;
        let identity = Identity::of(&plain.metadata()?);
        let encoder = GzEncoder::new(File::create(self.temporary())?, flate2::Compression::default());
        Ok(Some(Running { plain, identity, encoder }))
    }

    fn complete(&self, running: Running) -> io::Result<()> {
        let file = running.encoder.finish()?;
        // Before the plain file goes, this one must be able to survive a loss of power.
        file.sync_all()?;
        // It may have been rotated on meanwhile, or be gone.
        let is_it =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|metadata| Identity::of(&metadata) == running.identity);
        match (1..=self.keep).map(|number| numbered(&self.path, number)).find(is_it) {
            Some(plain) => {
                fs::set_permissions(self.temporary(), running.plain.metadata()?.permissions())?;
                fs::rename(self.temporary(), compressed(&plain))?;
                fs::remove_file(plain)
            }
            None => fs::remove_file(self.temporary()),
        }
    }

    fn temporary(&self) -> PathBuf {
        with_suffix(&self.path, ".gz.tmp")
    }
}

/// Name of a rotated file once it is compressed.
pub(super) fn compressed(path: &Path) -> PathBuf {
    with_suffix(path, ".gz")
}
