//! A file that is renamed to `.1` when it is full; `.1` becomes `.2`, and so on.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::compression::compressed;
use super::{End, FileOptions};
use crate::cursor_file::with_suffix;

/// How much of a file tells which it is. The head of a record is longer.
const HEAD: u64 = 64;

/// Which file it is, whatever its name, while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The current file, open for appending.
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    identity: Identity,
    /// A pipe or a terminal is neither rotated nor mended.
    is_regular: bool,
    length: u64,
    max_bytes: u64,
    keep: usize,
    rotations: u64,
}

impl RotatingFile {
    /// Opens the current file of `options`, or makes it.
    pub(super) fn open(options: &FileOptions) -> io::Result<Self> {
        if let Some(parent) = options.path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = append_to(&options.path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            path: options.path.clone(),
            file,
            identity: Identity::of(&metadata),
            is_regular: metadata.is_file(),
            length: metadata.len(),
            max_bytes: options.max_bytes,
            keep: options.keep,
            rotations: 0,
        })
    }

    /// Where it ends now; `None` if nothing is in it by which it could be found again.
    pub(super) fn end(&self) -> io::Result<Option<End>> {
        if !self.is_regular {
            return Ok(None);
        }
        Ok(head(&self.file, self.length)?.map(|head| End { head, length: self.length }))
    }

    /// How often it was rotated since it was opened.
    pub(super) fn rotations(&self) -> u64 {
        self.rotations
    }

    /// Opens the file anew if somebody else has removed or replaced it, and notices if it was made shorter.
    pub(super) fn follow(&mut self, options: &FileOptions) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(metadata) if Identity::of(&metadata) == self.identity => self.length = metadata.len(),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => *self = Self { rotations: self.rotations + 1, ..Self::open(options)? },
        }
        Ok(())
    }

    /// Appends whole lines. After an error some of them may be there, each of those whole.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            let room = usize::try_from(self.max_bytes.saturating_sub(self.length)).unwrap_or(usize::MAX);
            let fitting = if self.is_regular { fitting_lines(rest, room) } else { rest.len() };
            if fitting == 0 && self.length > 0 {
                self.rotate()?;
                continue;
            }
            // A line larger than a whole file is written all the same.
            let (part, after) = rest.split_at(if fitting == 0 { first_line(rest) } else { fitting });
            if let Err(error) = self.file.write_all(part) {
                // What it begins with may be there, as on a full disk. A reader should not find half a line, and the
                // start mends it if this fails, too.
                self.file.set_len(self.length).ok();
                return Err(error);
            }
            self.length += part.len() as u64;
            rest = after;
        }
        Ok(())
    }

    /// Whatever stops this in the middle leaves a number that no file has, which the next rotation fills.
    fn rotate(&mut self) -> io::Result<()> {
        let exists = |number: usize| forms(&self.path, number).iter().any(|path| path.exists());
        let remove = |number: usize| {
            forms(&self.path, number).iter().try_for_each(|path| match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            })
        };
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
        } else {
            let free = (1..self.keep).find(|number| !exists(*number)).unwrap_or(self.keep);
            // Beyond `keep` lies what was kept before the setting was changed.
            for number in (self.keep..).take_while(|number| *number == free || exists(*number)) {
                remove(number)?;
            }
            for number in (1..free).rev() {
                for (from, to) in forms(&self.path, number).into_iter().zip(forms(&self.path, number + 1)) {
                    if from.exists() {
                        fs::rename(from, to)?;
                    }
                }
            }
            fs::rename(&self.path, numbered(&self.path, 1))?;
        }
        self.file = append_to(&self.path)?;
        let metadata = self.file.metadata()?;
        (self.identity, self.length) = (Identity::of(&metadata), metadata.len());
        self.rotations += 1;
        Ok(())
    }
}

/// A checksum of how `file` begins, as long as it was `length`.
pub(super) fn head(file: &File, length: u64) -> io::Result<Option<u32>> {
    let mut bytes = [0; HEAD as usize];
    let bytes = &mut bytes[..length.min(HEAD) as usize];
    file.read_exact_at(bytes, 0)?;
    Ok((!bytes.is_empty()).then(|| crc32fast::hash(bytes)))
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).read(true).open(path)
}

/// Name of a rotated file.
pub(super) fn numbered(path: &Path, number: usize) -> PathBuf {
    with_suffix(path, &format!(".{number}"))
}

/// A rotated file as it was written, and compressed. Both are there for a moment while it is compressed.
fn forms(path: &Path, number: usize) -> [PathBuf; 2] {
    let plain = numbered(path, number);
    [compressed(&plain), plain]
}

/// Length of the whole lines at the beginning of `lines` that fit into `room` bytes.
fn fitting_lines(lines: &[u8], room: usize) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    memchr::memrchr(b'\n', &lines[..room]).map_or(0, |end| end + 1)
}

fn first_line(lines: &[u8]) -> usize {
    memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::testing::Directory;

    fn open(directory: &Directory, keep: usize) -> RotatingFile {
        let path = directory.path("log/records.jsonl");
        let cursor_directory = directory.path("cursors");
        RotatingFile::open(&FileOptions { path, max_bytes: 10, keep, compress: false, cursor_directory }).unwrap()
    }

    #[test]
    fn a_full_file_is_numbered_and_only_so_many_are_kept() {
        let directory = Directory::new("rotate");
        let mut file = open(&directory, 2);
        file.append(b"first\nsecond\nthird\n").unwrap();
        file.append(b"fourth\n").unwrap();
        assert_eq!(directory.read("log/records.jsonl"), "fourth\n");
        assert_eq!(directory.read("log/records.jsonl.1"), "third\n");
        assert_eq!(directory.read("log/records.jsonl.2"), "second\n");
        assert_eq!(directory.names("log").len(), 3);
        assert_eq!((file.end().unwrap().unwrap().length, file.rotations()), (7, 3));
    }

    #[test]
    fn a_line_larger_than_a_file_stands_alone() {
        let directory = Directory::new("rotate");
        open(&directory, 9).append(b"a\na line that is too large\nb\n").unwrap();
        assert_eq!(directory.read("log/records.jsonl.2"), "a\n");
        assert_eq!(directory.read("log/records.jsonl.1"), "a line that is too large\n");
        assert_eq!(directory.read("log/records.jsonl"), "b\n");
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_to_be_kept() {
        let directory = Directory::new("rotate");
        open(&directory, 0).append(b"first\nsecond\n").unwrap();
        assert_eq!(directory.names("log"), ["records.jsonl"]);
        assert_eq!(directory.read("log/records.jsonl"), "second\n");
    }

    #[test]
    fn a_missing_number_is_filled_and_compressed_files_move_along() {
        let directory = Directory::new("rotate");
        open(&directory, 5).append(b"current\n").unwrap();
        fs::write(directory.path("log/records.jsonl.1.gz"), "one").unwrap();
        fs::write(directory.path("log/records.jsonl.3"), "three").unwrap();
        open(&directory, 5).append(b"next-one\n").unwrap();
        assert_eq!(directory.read("log/records.jsonl.1"), "current\n");
        assert_eq!(directory.read("log/records.jsonl.2.gz"), "one");
        assert_eq!(directory.read("log/records.jsonl.3"), "three");
        assert_eq!(directory.names("log").len(), 4);
    }

    #[test]
    fn what_a_larger_setting_kept_goes() {
        let directory = Directory::new("rotate");
        open(&directory, 2).append(b"current\n").unwrap();
        for number in 1..=4 {
            fs::write(directory.path(&format!("log/records.jsonl.{number}.gz")), number.to_string()).unwrap();
        }
        open(&directory, 2).append(b"next-one\n").unwrap();
        assert_eq!(directory.names("log"), ["records.jsonl", "records.jsonl.1", "records.jsonl.2.gz"]);
        assert_eq!(directory.read("log/records.jsonl.2.gz"), "1");
    }
}
