//! Which numbers of segments were given away. Several processes may ask at once, so the file is locked; and it
//! remembers, so that a number never comes back after its segment was deleted: a sink would take it for done.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Locks the numbers of `directory` until the file is dropped.
pub(super) fn lock(directory: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(directory.join("numbers"))?;
    file.lock()?;
    Ok(file)
}

/// The highest number given away; 0 if none was.
pub(super) fn last(file: &File) -> u64 {
    let mut digits = [0; 20];
    let length = file.read_at(&mut digits, 0).unwrap_or(0);
    std::str::from_utf8(&digits[..length]).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Remembers `number`. On a full disk this may fail; then the segments themselves tell.
pub(super) fn write(file: &File, number: u64) {
    file.write_all_at(format!("{number:<20}").as_bytes(), 0).ok();
}
