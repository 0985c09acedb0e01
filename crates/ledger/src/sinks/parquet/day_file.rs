//! The records of one UTC day in one file, which is written under a temporary name.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;

use super::columns::Columns;
use crate::entry::Entry;

/// Most rows of a row group: what a reader has to hold, too.
const GROUP_ROWS: usize = 64 << 10;

/// A file that grows by row groups. Nothing is on disk before the first of them.
pub(super) struct DayFile {
    name: String,
    path: PathBuf,
    writer: Option<SerializedFileWriter<File>>,
    columns: Columns,
}

impl DayFile {
    /// The file of `day` in the batch `number`.
    pub(super) fn new(directory: &Path, day: &str, number: u64) -> Self {
        let name = format!("logs_{day}_{number:06}.parquet");
        let path = directory.join(temporary(&name));
        Self { name, path, writer: None, columns: Columns::new() }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.columns.push(entry);
        if self.columns.rows() < GROUP_ROWS { Ok(()) } else { self.flush() }
    }

    /// Bytes of the rows in memory.
    pub(super) fn waiting(&self) -> u64 {
        self.columns.size()
    }

    /// Bytes on the disk, roughly.
    pub(super) fn length(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.bytes_written() as u64)
    }

    /// Writes the rows in memory as a row group.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.columns.rows() == 0 {
            return Ok(());
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let file = File::create(&self.path)?;
                none.insert(SerializedFileWriter::new(file, self.columns.schema(), Arc::new(properties()))?)
            }
        };
        self.columns.write(writer)?;
        Ok(())
    }

    /// Completes the file and forces it to the disk. Returns the name it is to get.
    pub(super) fn finish(mut self) -> io::Result<String> {
        self.flush()?;
        if let Some(writer) = self.writer {
            writer.into_inner()?.sync_all()?;
        }
        Ok(self.name)
    }
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_created_by(concat!("AIProxy ", env!("CARGO_PKG_VERSION")).to_string())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Page)
        .build()
}

/// The name of the file `name` until it is finished.
pub(super) fn temporary(name: &str) -> String {
    format!(".{name}.tmp")
}

/// Whether a file of this name is one that was not finished.
pub(super) fn is_temporary(name: &str) -> bool {
    name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp")).is_some_and(|name| number(name).is_some())
}

/// The number of the batch in a file's name; `None` if it is not one of these files.
pub(super) fn number(name: &str) -> Option<u64> {
    let (day, number) = name.strip_prefix("logs_")?.strip_suffix(".parquet")?.split_once('_')?;
    let is_day = day.len() == 10 && day.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let is_number = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    if is_day && is_number { number.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_its_own_are_known() {
        let numbers = [
            ("logs_2026-11-21_000007.parquet", Some(7)),
            ("logs_2026-11-21_1234567.parquet", Some(1_234_567)),
            ("logs_2026-11-21_7.parquet", None),
            ("logs_2026-11-21_+00007.parquet", None),
            ("logs_2026-11-21.parquet", None),
            ("logs_today_000007.parquet", None),
            ("logs_2026-11-21_99999999999999999999999.parquet", None),
        ];
        for (name, expected) in numbers {
            assert_eq!(number(name), expected, "{name}");
            assert_eq!(is_temporary(&temporary(name)), expected.is_some(), "{name}");
            assert!(!is_temporary(name));
        }
    }
}
